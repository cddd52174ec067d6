# A replacement for Granted's assume that runs Broker, for fish: broker completion --shim assume --shell fish | source
function assume
    set -l profile
    set -l region
    set -l options
    set -l console
    set -l terminal
    set -l command
    while set -q argv[1]
        switch $argv[1]
            case -un --unset
                broker export --unset --format fish | source
                return 0
            case -c --console
                set console yes
            case -t --terminal
                set terminal yes
            case -u --url
                set console yes
                set -a options --print
            case -x --export-all-env-vars # variables are always exported
            case -r --region
                set region $argv[2]
                set -e argv[1]
            case -s --service
                set console yes
                set -a options --service $argv[2]
                set -e argv[1]
            case -cd --console-destination
                set console yes
                set -a options --destination $argv[2]
                set -e argv[1]
            case --exec
                if test "$argv[2]" = --
                    env -u BROKER_PROFILE broker exec $profile -- $argv[3..-1]
                    return
                end
                set command $argv[2]
                set -e argv[1]
            case '-*'
                printf 'assume: broker does not support %s; see broker export --help\n' $argv[1] >&2
                return 2
            case '*'
                set profile $argv[1]
        end
        set -e argv[1]
    end
    if set -q command[1]
        env -u BROKER_PROFILE broker exec $profile -- sh -c $command
        return
    end
    if set -q console[1]
        broker console $profile $options
        or return
        set -q terminal[1]
        or return 0
    end
    set -l text (broker export --format fish $profile)
    or return
    printf '%s\n' $text | source
    if set -q region[1]
        set -gx AWS_REGION $region
        set -gx AWS_DEFAULT_REGION $region
    end
end
