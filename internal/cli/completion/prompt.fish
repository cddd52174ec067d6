# Show the profile of the shell's AWS session, and the time left, in the prompt: broker completion --prompt fish | source
# in ~/.config/fish/config.fish.
function broker_prompt
    if set -q BROKER_PROFILE
        printf '(%s) ' (credproc --prompt 2>/dev/null)
    end
end
function __broker_status
    return $argv[1]
end
if not functions -q __broker_before_prompt
    functions -c fish_prompt __broker_before_prompt
    function fish_prompt
        # Keep the exit status of the last command for the prompt.
        set -l last $status
        broker_prompt
        __broker_status $last
        __broker_before_prompt
    end
end
