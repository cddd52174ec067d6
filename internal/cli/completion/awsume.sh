# awsume by way of broker, for bash and zsh: eval "$(broker completion --shim awsume)"
unalias awsume 2>/dev/null || true
function awsume {
	local profile=default region='' show='' text=''
	while [ $# -gt 0 ]; do
		case "$1" in
		-u | --unset)
			text=$(broker export --unset) || return
			eval "$text"
			unset AWSUME_PROFILE
			return ;;
		-s | --show-commands) show=yes ;;
		--region)
			region=${2-}
			[ $# -gt 1 ] && shift ;;
		-l | --list-profiles)
			broker profiles list
			return ;;
		-v | --version)
			broker version
			return ;;
		-a | --auto-refresh | -r | --refresh) ;; # Broker renews by itself
		-k | --kill-refresher) return 0 ;;
		-*)
			printf 'awsume: broker has nothing for %s; see broker export --help\n' "$1" >&2
			return 2 ;;
		*) profile=$1 ;;
		esac
		shift
	done
	text=$(broker export -- "$profile") || return
	if [ -n "$show" ]; then
		printf '%s\n' "$text"
		return
	fi
	eval "$text"
	export AWSUME_PROFILE="$BROKER_PROFILE"
	if [ -n "$region" ]; then
		export AWS_REGION="$region" AWS_DEFAULT_REGION="$region"
	fi
}
