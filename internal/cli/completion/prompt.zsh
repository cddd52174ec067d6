# Show the profile of the shell's AWS session, and the time left, in the prompt: eval "$(broker completion --prompt zsh)" in ~/.zshrc.
broker_prompt() {
	local said
	[[ -n ${BROKER_PROFILE-} ]] || return 0
	said="$(credproc --prompt 2>/dev/null)"
	# Escape percent signs, which are special in a prompt.
	print -rn -- "(${said//\%/%%}) "
}
setopt PROMPT_SUBST
[[ ${PROMPT-} == *broker_prompt* ]] || PROMPT='$(broker_prompt)'"${PROMPT-}"
