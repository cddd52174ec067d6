# Show the profile of the shell's AWS session, and the time left, in the prompt: eval "$(broker completion --prompt bash)" in ~/.bashrc.
broker_prompt() {
	local last=$? # keep the exit status for the prompt
	[[ -z ${BROKER_PROFILE-} ]] || printf '(%s) ' "$(credproc --prompt 2>/dev/null)"
	return $last
}
[[ ${PS1-} == *broker_prompt* ]] || PS1='$(broker_prompt)'"${PS1-}"
