# A prompt that shows whose AWS session a shell of broker has, and how long it lasts: eval "$(broker completion --prompt bash)" in ~/.bashrc.
broker_prompt() {
	local last=$? # what the prompt shows of it has to stay
	[[ -z ${BROKER_PROFILE-} ]] || printf '(%s) ' "$(credproc --prompt 2>/dev/null)"
	return $last
}
[[ ${PS1-} == *broker_prompt* ]] || PS1='$(broker_prompt)'"${PS1-}"
