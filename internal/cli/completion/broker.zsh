#compdef broker credproc
# zsh completion for broker: save it as _broker in a directory of $fpath, or source it.
_broker() {
	local current="${words[CURRENT]}"
	local -a before opts shown
	before=("${(@)words[2,CURRENT-1]}")
	if [[ ${words[1]:t} == credproc ]]; then # which takes one profile
		before=(explain)
	fi
	if (( ${before[(I)--]} )); then
		_normal
		return
	fi
	if [[ $current == -* ]]; then
		before+=("$current")
	fi
	opts=("${(@f)$(broker "${before[@]}" --generate-bash-completion 2>/dev/null)}")
	if [[ -n "${opts[1]}" ]]; then
		# Show the help after each word.
		shown=("${(@)opts/$'\t'/  -- }")
		opts=("${(@)opts%%$'\t'*}")
		compadd -l -d shown -a opts
	else
		_files
	fi
}
if [[ "${funcstack[1]}" == _broker ]]; then
	_broker "$@"
else
	compdef _broker broker credproc
fi
