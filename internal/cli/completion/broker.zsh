#compdef broker
# zsh completion for broker: put it as _broker into a directory of $fpath, or source it.
_broker() {
	local current="${words[CURRENT]}"
	local -a before opts
	before=("${(@)words[2,CURRENT-1]}")
	if (( ${before[(I)--]} )); then
		_normal
		return
	fi
	if [[ $current == -* ]]; then
		before+=("$current")
	fi
	opts=("${(@f)$(broker "${before[@]}" --generate-bash-completion 2>/dev/null)}")
	if [[ -n "${opts[1]}" ]]; then
		compadd -a opts
	else
		_files
	fi
}
if [[ "${funcstack[1]}" == _broker ]]; then
	_broker "$@"
else
	compdef _broker broker
fi
