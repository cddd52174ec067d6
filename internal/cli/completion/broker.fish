# fish completion for broker: put it into ~/.config/fish/completions/broker.fish.
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
    broker $words --generate-bash-completion 2>/dev/null
end
complete -c broker -f -a '(__broker_complete)'
