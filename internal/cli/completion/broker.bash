# bash completion for broker: source it, or save it in bash-completion's directory.
_broker() {
	local current="${COMP_WORDS[COMP_CWORD]}" words=("${COMP_WORDS[@]:1:COMP_CWORD-1}") word
	# After "--" comes a command of the user.
	for word in "${words[@]}"; do
		if [[ $word == -- ]]; then
			COMPREPLY=($(compgen -c -f -- "$current"))
			return
		fi
	done
	if [[ $current == -* ]]; then
		words+=("$current")
	fi
	COMPREPLY=($(compgen -W "$(broker "${words[@]}" --generate-bash-completion 2>/dev/null | cut -f 1)" -- "$current"))
}
complete -o bashdefault -o default -F _broker broker
_credproc() { # takes one profile
	COMPREPLY=($(compgen -W "$(broker explain --generate-bash-completion 2>/dev/null | cut -f 1)" -- "${COMP_WORDS[COMP_CWORD]}"))
}
complete -F _credproc credproc
