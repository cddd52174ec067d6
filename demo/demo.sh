#!/bin/sh
# The whole way of a credential, in a home that is thrown away: a simulated AWS
# with five accounts, a key in a file keyring, five named profiles. Everything shown
# is checked; the exit code is 0 only if all of it is true. Called by `make demo`;
# with KEEP=1 it ends in a shell to play in.
set -eu

bin=$(cd "$(dirname "$0")/../bin" && pwd)
home=$(mktemp -d /tmp/broker-demo.XXXXXX) # short: macOS limits the path of a socket
sim=
finish() {
	code=$?
	trap - EXIT INT TERM
	broker daemon --stop >/dev/null 2>&1 || true
	if [ -n "$sim" ]; then
		kill "$sim" 2>/dev/null || true
		wait "$sim" 2>/dev/null || true
	fi
	rm -rf "$home"
	[ "$code" = 0 ] || echo "demo: failed" >&2
	exit "$code"
}

# A fresh home: nothing of the user's own set-up takes part.
for name in $(env | sed -En 's/^((AWS|XDG|BROKER)_[A-Za-z_]*)=.*/\1/p'); do
	unset "$name"
done
export HOME="$home" PATH="$bin:$PATH"
if command -v cygpath >/dev/null; then # the shell of Git for Windows
	home=$(cygpath -m "$home") bin=$(cygpath -m "$bin")
	export HOME="$home" USERPROFILE="$home" LOCALAPPDATA="$home" BROKER_CONFIG="$home/.config/broker/config"
fi
# Not before this, so that finish does not stop the daemon of the user.
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
export BROKER_KEYRING_PASSPHRASE_FILE="$home/passphrase"
(umask 077 && echo "only for this demo" >"$home/passphrase")

show() { printf '\n\033[1m$ %s\033[0m\n' "$*"; }
run() { show "$@"; "$@"; }
need() { # need TEXT IN-TEXT: the demo is only as true as what it shows
	case $2 in *"$1"*) ;; *) echo "demo: expected $1, got: $2" >&2; exit 1 ;; esac
}

echo "A simulated AWS: accounts security, dev, stage, prod, mgmt; user paul with an MFA device."
stssim --org demo --listen 127.0.0.1:0 --ready-file "$home/sts" >/dev/null &
sim=$!
i=0
until [ -s "$home/sts" ]; do
	i=$((i + 1))
	[ "$i" -lt 100 ] || { echo "demo: the simulator does not start" >&2; exit 1; }
	sleep 0.1
done
sts=$(cat "$home/sts")

mkdir -p "$home/.config/broker" "$home/.aws"
{
	printf '[settings]\nkeyring_backend = file\nsts_endpoint = %s\n\n[alias]\nprod = product_prod_paul\n' "$sts"
	for account in dev:222233334444 stage:333344445555 prod:444455556666 mgmt:555566667777; do
		printf '\n[profile product_%s_paul]\nrole_arn = arn:aws:iam::%s:role/allow-admin-from-security-account\nsource_profile = security\nregion = eu-west-1\n' \
			"${account%:*}" "${account#*:}"
	done
} >"$home/.config/broker/config"
for profile in security product_dev_paul product_stage_paul product_prod_paul product_mgmt_paul; do
	printf '[profile %s]\nregion = eu-west-1\ncredential_process = "%s/credproc" %s\n\n' "$profile" "$bin" "$profile"
done >"$home/.aws/config"
chmod 600 "$home/.config/broker/config" "$home/.aws/config"

serial=arn:aws:iam::111122223333:mfa/paul
stssim --org demo --print-csv paul >"$home/accessKeys.csv"
run broker add security --csv "$home/accessKeys.csv" --mfa-serial "$serial"
rm "$home/accessKeys.csv"
show "broker mfa set security --seed-stdin < seed"
stssim --org demo --print-seed "$serial" | broker mfa set security --seed-stdin
run broker profiles list

# A session is shown by its key id and its end: this is a terminal, and someone may look on.
for profile in product_dev_paul product_prod_paul; do
	show "credproc $profile"
	document=$(credproc "$profile")
	need '"Version":1' "$document"
	need '"SessionToken":"' "$document"
	echo "$document" | sed -E 's/"(SecretAccessKey|SessionToken)":"[^"]*"/"\1":"…"/g'
done

show "broker exec prod -- env"
environment=$(broker exec prod -- env)
need AWS_SESSION_TOKEN= "$environment"
need BROKER_PROFILE=product_prod_paul "$environment"
echo "$environment" | grep -E '^(AWS|BROKER)_' | grep -v PASSPHRASE | sed -E 's/^(AWS_SECRET_ACCESS_KEY|AWS_SESSION_TOKEN)=.*/\1=…/'

if command -v aws >/dev/null; then
	show "aws sts get-caller-identity --profile product_prod_paul"
	identity=$(aws sts get-caller-identity --profile product_prod_paul --endpoint-url "$sts" --output json)
	need arn:aws:sts::444455556666:assumed-role/allow-admin-from-security-account/ "$identity"
	echo "$identity"
else
	printf '\nThe AWS CLI is not installed: its part is left out.\n'
fi

run broker status

counts=$(stssim --print-counts "$sts")
printf '\nSTS calls made for all of this:\n%s\n' "$counts"
need "GetSessionToken 1
" "$counts
"
need "AssumeRole 2
" "$counts
"

if [ "${KEEP:-}" = 1 ]; then
	printf '\nA shell to play in; leave it with `exit`. Try: broker explain prod\n'
	AWS_ENDPOINT_URL="$sts" "${SHELL:-/bin/sh}" || true
fi
printf '\nEverything worked as shown.\n'
