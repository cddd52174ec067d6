package cli

import (
	_ "embed"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"broker/internal/fault"
	"broker/internal/profiles"
)

// The scripts ask broker itself with --generate-bash-completion, the way of
// urfave/cli, so that they need no change when commands do.
var (
	//go:embed completion/broker.bash
	bashScript string
	//go:embed completion/broker.zsh
	zshScript string
	//go:embed completion/broker.fish
	fishScript string
	//go:embed completion/broker.ps1
	powershellScript string
)

func (p *program) completionCommand() *cli.Command {
	scripts := map[string]string{"bash": bashScript, "zsh": zshScript, "fish": fishScript, "powershell": powershellScript}
	return &cli.Command{
		Name:      "completion",
		Usage:     "print the completion script for a shell",
		ArgsUsage: "bash|zsh|fish|powershell",
		BashComplete: func(*cli.Context) {
			for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
				p.say("%s", shell)
			}
		},
		Action: func(c *cli.Context) error {
			shell, err := one(c, "shell")
			if err != nil {
				return err
			}
			script, ok := scripts[shell]
			if !ok {
				return fault.New(fault.Usage, "there is no completion for %q", shell).WithHint("broker completion bash")
			}
			_, err = p.stdout.Write([]byte(script))
			return err
		},
	}
}

// completeProfiles prints the names and aliases that a command takes first,
// or its flags where one is begun.
func (p *program) completeProfiles(c *cli.Context) {
	if n := len(os.Args) - 2; n > 0 && strings.HasPrefix(os.Args[n], "-") {
		cli.DefaultCompleteWithFlags(c.Command)(c)
		return
	}
	if c.NArg() > 0 {
		return
	}
	p.sayNames()
}

// completeManyProfiles is the same for a command that takes any number of names.
func (p *program) completeManyProfiles(c *cli.Context) {
	if n := len(os.Args) - 2; n > 0 && strings.HasPrefix(os.Args[n], "-") {
		cli.DefaultCompleteWithFlags(c.Command)(c)
		return
	}
	p.sayNames()
}

// sayNames prints the names that can be typed.
func (p *program) sayNames() {
	set, err := new(profiles.Store).Load(p.files())
	if err != nil {
		return
	}
	for _, s := range set.List() {
		if s.Kind == profiles.KindOther {
			continue
		}
		for _, name := range append([]string{s.Name}, s.Aliases...) {
			// A name that a shell would split cannot be completed safely.
			if !strings.ContainsFunc(name, func(r rune) bool { return strings.ContainsRune(" \t\"'\\$`;&|<>(){}*?[]!#~:", r) }) {
				p.say("%s", name)
			}
		}
	}
}
