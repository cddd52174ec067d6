# A prompt that shows whose AWS session a shell of broker has, and how long it lasts: eval "$(broker completion --prompt zsh)" in ~/.zshrc.
broker_prompt() {
	local said
	[[ -n ${BROKER_PROFILE-} ]] || return 0
	said="$(credproc --prompt 2>/dev/null)"
	# A per cent sign would mean something in a prompt.
	print -rn -- "(${said//\%/%%}) "
}
setopt PROMPT_SUBST
[[ ${PROMPT-} == *broker_prompt* ]] || PROMPT='$(broker_prompt)'"${PROMPT-}"
