# A replacement for awsume that runs Broker, for fish: broker completion --shim awsume --shell fish | source
function awsume
    set -l profile default
    set -l region
    set -l show
    while set -q argv[1]
        switch $argv[1]
            case -u --unset
                broker export --unset --format fish | source
                set -e AWSUME_PROFILE
                return 0
            case -s --show-commands
                set show yes
            case --region
                set region $argv[2]
                set -e argv[1]
            case -l --list-profiles
                broker profiles list
                return
            case -v --version
                broker version
                return
            case -a --auto-refresh -r --refresh # Broker renews sessions by itself
            case -k --kill-refresher
                return 0
            case '-*'
                printf 'awsume: broker does not support %s; see broker export --help\n' $argv[1] >&2
                return 2
            case '*'
                set profile $argv[1]
        end
        set -e argv[1]
    end
    set -l text (broker export --format fish -- $profile)
    or return
    if set -q show[1]
        printf '%s\n' $text
        return
    end
    printf '%s\n' $text | source
    set -gx AWSUME_PROFILE $BROKER_PROFILE
    if set -q region[1]
        set -gx AWS_REGION $region
        set -gx AWS_DEFAULT_REGION $region
    end
end
