# Granted's assume by way of broker, for fish: broker completion --shim assume --shell fish | source
function assume
    set -l profile
    set -l region
    set -l service
    set -l console
    while set -q argv[1]
        switch $argv[1]
            case -un --unset
                broker export --unset --format fish | source
                return 0
            case -c --console
                set console yes
            case -r --region
                set region $argv[2]
                set -e argv[1]
            case -s --service
                set console yes
                set service --service $argv[2]
                set -e argv[1]
            case -t --terminal
                set -e console[1]
            case --exec
                set -e argv[1]
                if test "$argv[1]" = --
                    set -e argv[1]
                end
                env -u BROKER_PROFILE broker exec $profile -- $argv
                return
            case '-*'
                printf 'assume: broker has nothing for %s; see broker export --help\n' $argv[1] >&2
                return 2
            case '*'
                set profile $argv[1]
        end
        set -e argv[1]
    end
    if set -q console[1]
        broker console $profile $service
        return
    end
    set -l text (broker export --format fish $profile)
    or return
    printf '%s\n' $text | source
    if set -q region[1]
        set -gx AWS_REGION $region
        set -gx AWS_DEFAULT_REGION $region
    end
end
