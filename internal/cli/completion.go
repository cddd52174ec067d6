package cli

import (
	_ "embed"
	"flag"
	"maps"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"broker/internal/fault"
	"broker/internal/foreign"
	"broker/internal/partition"
	"broker/internal/profiles"
	"broker/internal/vault"
)

// The scripts run broker with --generate-bash-completion, the flag of urfave/cli, so they stay the same when
// commands change.
var (
	//go:embed completion/broker.bash
	bashScript string
	//go:embed completion/broker.zsh
	zshScript string
	//go:embed completion/broker.fish
	fishScript string
	//go:embed completion/broker.ps1
	powershellScript string

	// The shell prompts, which print the output of `credproc --prompt`.
	//go:embed completion/prompt.bash
	bashPrompt string
	//go:embed completion/prompt.zsh
	zshPrompt string
	//go:embed completion/prompt.fish
	fishPrompt string
	//go:embed completion/prompt.ps1
	powershellPrompt string

	// The commands of other tools, as shell functions that run broker.
	//go:embed completion/awsume.sh
	awsumeShim string
	//go:embed completion/awsume.fish
	awsumeFishShim string
	//go:embed completion/assume.sh
	assumeShim string
	//go:embed completion/assume.fish
	assumeFishShim string
)

// shims are the shell functions by name and shell.
var shims = map[string]map[string]string{
	"awsume": {"bash": awsumeShim, "zsh": awsumeShim, "fish": awsumeFishShim},
	"assume": {"bash": assumeShim, "zsh": assumeShim, "fish": assumeFishShim},
}

func (p *program) completionCommand() *cli.Command {
	scripts := map[string]string{"bash": bashScript, "zsh": zshScript, "fish": fishScript, "powershell": powershellScript}
	prompts := map[string]string{"bash": bashPrompt, "zsh": zshPrompt, "fish": fishPrompt, "powershell": powershellPrompt}
	return &cli.Command{
		Name:  "completion",
		Usage: "print a completion script for a shell",
		UsageText: "source <(broker completion bash)\n" +
			"broker completion zsh > ~/.zfunc/_broker\n" +
			"source <(broker completion --prompt bash)",
		ArgsUsage: "bash|zsh|fish|powershell",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "prompt", Usage: "print a prompt for `SHELL` that shows the profile of its session: bash, zsh, fish or powershell"},
			&cli.StringFlag{Name: "shim", Usage: "print a shell function `COMMAND` that asks Broker: awsume or assume"},
			&cli.StringFlag{Name: "shell", Value: "bash", Usage: "with --shim: the `SHELL` of the function: bash, zsh or fish"},
		},
		BashComplete: p.completeFrom(shellNames),
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
			shell, err := one(c, "shell (bash, zsh, fish or powershell)")
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

// completionFlag asks broker for the words that can come next. The arguments before it are the command line so far,
// with the last word only if it begins with "-". Each line of the answer is a word, and optionally a tab and its
// help.
const completionFlag = "--generate-bash-completion"

// completion answers a shell: the values of an option, the options of a command, the commands of a group, or the
// names that a command takes. If it prints nothing, the shell completes file names.
func (p *program) completion(words []string) {
	at, last := read(p.commands, words), ""
	if len(words) > 0 {
		last = words[len(words)-1]
	}
	switch c := at.command; {
	case strings.HasPrefix(last, "-") && takesValue(at.flags, last):
		p.completeValues(c, strings.TrimLeft(last, "-"))
	case strings.HasPrefix(last, "-"):
		for _, f := range at.flags {
			for _, name := range f.Names() {
				p.complete(dashed(name), flagUsage(f))
			}
		}
		p.complete("--help", "show this help")
	case len(at.commands) > 0:
		for _, sub := range at.commands {
			p.complete(sub.Name, sub.Usage)
		}
		if takesNames(c) && c.BashComplete != nil {
			c.BashComplete(cli.NewContext(p.commands, flag.NewFlagSet(c.Name, flag.ContinueOnError), nil))
		}
	case c.BashComplete != nil:
		names := flag.NewFlagSet(c.Name, flag.ContinueOnError)
		_ = names.Parse(append([]string{"--"}, at.words...)) // cannot fail after "--"
		ctx := cli.NewContext(p.commands, names, nil)
		ctx.Command = c
		c.BashComplete(ctx)
	}
}

// completeValues prints the possible values of an option.
func (p *program) completeValues(c *cli.Command, option string) {
	values := map[string][]string{
		"mode": slices.Sorted(maps.Keys(modes)), "format": exportFormats, "prompt": shellNames, "shell": shellNames[:3],
		"shim": slices.Sorted(maps.Keys(shims)), "to": vault.Backends(),
	}[option]
	switch {
	case option == "only", option == "door":
		p.completeNames(true)
	case option == "source":
		p.completeSources(nil)
	case option == "from-profile", option == "from-org":
		p.completeNames(false)
	case option == "from-sso":
		p.completePortals()
	case option == "from" && c.Name == "import":
		values = strings.Split(foreign.Names(), ", ")
	case option == "format" && c.Name != "export":
		values = policyFormats
	case option == "partition":
		values = partition.IDs()
	case option == "from":
		values = vault.Backends()
	}
	for _, value := range values {
		p.complete(value, "")
	}
}

// shellNames are the shells for which Broker has scripts.
var shellNames = []string{"bash", "zsh", "fish", "powershell"}

// completeFrom completes the first argument with one of these values.
func (p *program) completeFrom(values []string) cli.BashCompleteFunc {
	return func(c *cli.Context) {
		for _, value := range values {
			if c.NArg() == 0 {
				p.complete(value, "")
			}
		}
	}
}

// completeProfiles prints the profiles and aliases for the first argument of a command.
func (p *program) completeProfiles(c *cli.Context) {
	if c.NArg() == 0 {
		p.completeNames(true)
	}
}

// completeManyProfiles is completeProfiles for a command that takes any number of names.
func (p *program) completeManyProfiles(*cli.Context) { p.completeNames(true) }

// completePublished prints the profiles whose sessions the running daemon publishes.
func (p *program) completePublished(c *cli.Context) {
	status, err := p.client.Status(c.Context)
	for _, e := range status.Published {
		if err == nil && !slices.Contains(c.Args().Slice(), e.Profile) {
			p.complete(e.Profile, "")
		}
	}
}

// completeSetting prints the settings, and after a setting its values if it has fixed ones.
func (p *program) completeSetting(c *cli.Context) {
	p.completeFrom(profiles.SettingKeys())(c)
	if c.NArg() == 1 && c.Args().First() != "" {
		for _, value := range profiles.SettingWords(c.Args().First()) {
			p.complete(value, "")
		}
	}
}

// completeCommand prints the commands that help can explain.
func (p *program) completeCommand(c *cli.Context) {
	at := locate(p.app(c.Args().Slice()...), c.Args().Slice())
	for _, sub := range at.commands {
		if len(at.rest) == 0 {
			p.complete(sub.Name, sub.Usage)
		}
	}
}

// completeSources prints the sources for the first argument of a command.
func (p *program) completeSources(c *cli.Context) {
	if c != nil && c.NArg() > 0 {
		return
	}
	if set, err := new(profiles.Store).Load(p.files()); err == nil {
		for _, source := range set.Sources() {
			p.complete(source.Name, "")
		}
	}
}

// completeLoginSources prints the sources for the first argument of a command, also those with a login on a page.
func (p *program) completeLoginSources(c *cli.Context) {
	p.completeSources(c)
	if c.NArg() == 0 {
		p.completePages()
	}
}

// completeLogins prints the profiles and the sources with a login on a page.
func (p *program) completeLogins(*cli.Context) {
	p.completeNames(true)
	p.completePages()
}

// completePages prints the sources to which people log in on a page, unless they have the name of a profile.
func (p *program) completePages() {
	set, err := new(profiles.Store).Load(p.files())
	if err != nil {
		return
	}
	for _, source := range set.LoginSources() {
		if _, err := set.Resolve(source.Name); err != nil {
			p.complete(source.Name, "")
		}
	}
}

// completePortals prints the sessions of IAM Identity Center.
func (p *program) completePortals() {
	set, err := new(profiles.Store).Load(p.files())
	if err != nil {
		return
	}
	for _, source := range set.LoginSources() {
		if source.Kind == profiles.Portal {
			p.complete(source.Name, source.StartURL)
		}
	}
}

// completeAlias prints the existing aliases for the first argument, and the profiles for the second one.
func (p *program) completeAlias(c *cli.Context) {
	switch c.NArg() {
	case 0:
		if set, err := new(profiles.Store).Load(p.files()); err == nil {
			for _, a := range set.Aliases() {
				p.complete(a.Name, a.Target)
			}
		}
	case 1:
		p.completeNames(false)
	}
}

// completeNames prints the profiles and sources that Broker serves.
func (p *program) completeNames(withAliases bool) {
	set, err := new(profiles.Store).Load(p.files())
	if err != nil {
		return
	}
	for _, s := range set.List() {
		if s.Kind == profiles.KindOther {
			continue
		}
		what := s.AccountID + " " + roleOf(s)
		if s.Kind == profiles.KindSource {
			what = "source"
		}
		p.complete(s.Name, what)
		if withAliases {
			for _, short := range s.Aliases {
				p.complete(short, s.Name)
			}
		}
	}
}

// complete prints a word and its help. It leaves out words that a shell would split or change, or that a terminal
// would not show, because they cannot be completed safely.
func (p *program) complete(word, what string) {
	if strings.ContainsFunc(word, func(r rune) bool {
		return !fault.Printable(r) || strings.ContainsRune(" \"'\\$`;&|<>(){}*?[]!#~:=%^", r)
	}) {
		return
	}
	if what = strings.TrimSpace(fault.Line(what)); what != "" {
		word += "\t" + what
	}
	p.raw(word)
}
