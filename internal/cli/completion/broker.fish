# fish completion for broker: save it in ~/.config/fish/completions/broker.fish.
function __broker_complete
    set -l words (commandline -opc)
    set -e words[1]
    set -l current (commandline -ct)
    if contains -- -- $words
        return
    end
    if string match -q -- '-*' $current
        set -a words $current
    end
    set -l found (broker $words --generate-bash-completion 2>/dev/null)
    if set -q found[1]
        printf '%s\n' $found
    else
        __fish_complete_path $current
    end
end
complete -c broker -f -a '(__broker_complete)'
complete -c credproc -f -a '(broker explain --generate-bash-completion 2>/dev/null)'
