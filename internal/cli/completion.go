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

	// The prompts of shells, with what `credproc --prompt` says.
	//go:embed completion/prompt.bash
	bashPrompt string
	//go:embed completion/prompt.zsh
	zshPrompt string
	//go:embed completion/prompt.fish
	fishPrompt string
	//go:embed completion/prompt.ps1
	powershellPrompt string

	// The commands of other tools, as functions that ask broker.
	//go:embed completion/awsume.sh
	awsumeShim string
	//go:embed completion/awsume.fish
	awsumeFishShim string
	//go:embed completion/assume.sh
	assumeShim string
	//go:embed completion/assume.fish
	assumeFishShim string
)

// shims are by name and shell.
var shims = map[string]map[string]string{
	"awsume": {"bash": awsumeShim, "zsh": awsumeShim, "fish": awsumeFishShim},
	"assume": {"bash": assumeShim, "zsh": assumeShim, "fish": assumeFishShim},
}

func (p *program) completionCommand() *cli.Command {
	scripts := map[string]string{"bash": bashScript, "zsh": zshScript, "fish": fishScript, "powershell": powershellScript}
	prompts := map[string]string{"bash": bashPrompt, "zsh": zshPrompt, "fish": fishPrompt, "powershell": powershellPrompt}
	return &cli.Command{
		Name:      "completion",
		Usage:     "print the completion script for a shell",
		ArgsUsage: "bash|zsh|fish|powershell",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "prompt", Usage: "print what shows in the prompt of a `SHELL` whose session it has: bash, zsh, fish or powershell"},
			&cli.StringFlag{Name: "shim", Usage: "print `COMMAND` instead, as a function that asks broker: awsume or assume"},
			&cli.StringFlag{Name: "shell", Value: "bash", Usage: "the `SHELL` that --shim is for: bash, zsh or fish"},
		},
		BashComplete: func(*cli.Context) {
			for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
				p.say("%s", shell)
			}
		},
		Action: func(c *cli.Context) error {
			switch {
			case c.IsSet("shim"):
				return p.shim(c)
			case c.IsSet("prompt"):
				if err := none(c); err != nil {
					return err
				}
				script, ok := prompts[c.String("prompt")]
				if !ok {
					return fault.New(fault.Usage, "there is no prompt for %q", c.String("prompt")).WithHint("broker completion --prompt bash")
				}
				_, err := p.stdout.Write([]byte(script))
				return err
			}
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

func (p *program) shim(c *cli.Context) error {
	if err := none(c); err != nil {
		return err
	}
	name, shell := c.String("shim"), c.String("shell")
	text, ok := shims[name][shell]
	switch {
	case shims[name] == nil:
		return fault.New(fault.Usage, "there is no shim %q, only awsume and assume", name).WithHint("broker completion --shim awsume")
	case !ok:
		return fault.New(fault.Usage, "there is no shim for %q, only for bash, zsh and fish", shell).WithHint("broker completion --shim %s", name)
	}
	_, err := p.stdout.Write([]byte(text))
	return err
}

// completeProfiles prints the names and aliases that a command takes first,
// or its flags where one is begun.
func (p *program) completeProfiles(c *cli.Context) {
	if p.completeFlags(c) || c.NArg() > 0 {
		return
	}
	p.completeNames(true)
}

// completeAlias prints the aliases there are, and behind one what it could stand for.
func (p *program) completeAlias(c *cli.Context) {
	if p.completeFlags(c) {
		return
	}
	switch c.NArg() {
	case 0:
		if set, err := new(profiles.Store).Load(p.files()); err == nil {
			for _, a := range set.Aliases() {
				p.complete(a.Name)
			}
		}
	case 1:
		p.completeNames(false)
	}
}

// completeSettings prints the keys of the settings.
func (p *program) completeSettings(c *cli.Context) {
	if p.completeFlags(c) || c.NArg() > 0 {
		return
	}
	for _, s := range profiles.SettingKeys() {
		p.complete(s)
	}
}

// completeFlags prints the flags of a command where one is begun.
func (p *program) completeFlags(c *cli.Context) bool {
	n := len(os.Args) - 2
	begun := n > 0 && strings.HasPrefix(os.Args[n], "-")
	if begun {
		cli.DefaultCompleteWithFlags(c.Command)(c)
	}
	return begun
}

// completeManyProfiles is completeProfiles for a command that takes any number of names.
func (p *program) completeManyProfiles(c *cli.Context) {
	if !p.completeFlags(c) {
		p.completeNames(true)
	}
}

// completeNames prints what the broker serves.
func (p *program) completeNames(withAliases bool) {
	set, err := new(profiles.Store).Load(p.files())
	if err != nil {
		return
	}
	for _, s := range set.List() {
		if s.Kind == profiles.KindOther {
			continue
		}
		p.complete(s.Name)
		if withAliases {
			for _, short := range s.Aliases {
				p.complete(short)
			}
		}
	}
}

// complete prints a name, unless a shell would split or change it, or a terminal not show it: that cannot be
// completed safely.
func (p *program) complete(name string) {
	if !strings.ContainsFunc(name, func(r rune) bool {
		return !fault.Printable(r) || strings.ContainsRune(" \"'\\$`;&|<>(){}*?[]!#~:=%^", r)
	}) {
		p.say("%s", name)
	}
}
