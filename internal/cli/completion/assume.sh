# A replacement for Granted's assume that runs Broker, for bash and zsh: eval "$(broker completion --shim assume)"
unalias assume 2>/dev/null || true
function assume {
	local profile='' region='' service='' destination='' url='' console='' terminal='' command='' text=''
	while [ $# -gt 0 ]; do
		case "$1" in
		-un | --unset)
			text=$(broker export --unset) || return
			eval "$text"
			return ;;
		-c | --console) console=yes ;;
		-t | --terminal) terminal=yes ;;
		-u | --url) console=yes url=yes ;;
		-x | --export-all-env-vars) ;; # variables are always exported
		-r | --region)
			region=${2-}
			[ $# -gt 1 ] && shift ;;
		-s | --service)
			console=yes service=${2-}
			[ $# -gt 1 ] && shift ;;
		-cd | --console-destination)
			console=yes destination=${2-}
			[ $# -gt 1 ] && shift ;;
		--exec)
			if [ "${2-}" = -- ]; then
				shift 2
				env -u BROKER_PROFILE broker exec ${profile:+"$profile"} -- "$@"
				return
			fi
			command=${2-}
			[ $# -gt 1 ] && shift ;;
		-*)
			printf 'assume: broker does not support %s; see broker export --help\n' "$1" >&2
			return 2 ;;
		*) profile=$1 ;;
		esac
		shift
	done
	if [ -n "$command" ]; then
		env -u BROKER_PROFILE broker exec ${profile:+"$profile"} -- sh -c "$command"
		return
	fi
	if [ -n "$console" ]; then
		broker console ${profile:+"$profile"} ${service:+--service "$service"} ${destination:+--destination "$destination"} ${url:+--print} || return
		[ -n "$terminal" ] || return 0
	fi
	text=$(broker export ${profile:+"$profile"}) || return
	eval "$text"
	if [ -n "$region" ]; then
		export AWS_REGION="$region" AWS_DEFAULT_REGION="$region"
	fi
}
