# Granted's assume by way of broker, for bash and zsh: eval "$(broker completion --shim assume)"
unalias assume 2>/dev/null || true
function assume {
	local profile='' region='' service='' console='' text=''
	while [ $# -gt 0 ]; do
		case "$1" in
		-un | --unset)
			text=$(broker export --unset) || return
			eval "$text"
			return ;;
		-c | --console) console=yes ;;
		-r | --region)
			region=${2-}
			[ $# -gt 1 ] && shift ;;
		-s | --service)
			console=yes service=${2-}
			[ $# -gt 1 ] && shift ;;
		-t | --terminal) console='' ;;
		--exec)
			shift
			if [ "${1-}" = -- ]; then shift; fi
			env -u BROKER_PROFILE broker exec "$profile" -- "$@"
			return ;;
		-*)
			printf 'assume: broker has nothing for %s; see broker export --help\n' "$1" >&2
			return 2 ;;
		*) profile=$1 ;;
		esac
		shift
	done
	if [ -n "$console" ]; then
		broker console ${profile:+"$profile"} ${service:+--service "$service"}
		return
	fi
	text=$(broker export ${profile:+"$profile"}) || return
	eval "$text"
	if [ -n "$region" ]; then
		export AWS_REGION="$region" AWS_DEFAULT_REGION="$region"
	fi
}
