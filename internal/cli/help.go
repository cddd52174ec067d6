package cli

import (
	"cmp"
	"slices"
	"strings"

	"github.com/rivo/uniseg"
	"github.com/urfave/cli/v2"

	"broker/internal/fault"
	"broker/internal/profiles"
)

// labelColumns is the widest label (a name or flag) whose help is on the same line.
const labelColumns = 22

// help prints the help of a command, or of the program if c is nil.
func (p *program) help(app *cli.App, path []string, c *cli.Command) {
	width := columns(p.stdout)
	if width == 0 || width > proseColumns {
		width = proseColumns
	}
	var b strings.Builder
	line := func(text string) { b.WriteString(flow(text, width) + "\n") }
	name := strings.Join(append([]string{"broker"}, path...), " ")
	commands, examples := app.Commands, app.UsageText
	if c == nil {
		line("Broker " + app.Usage + ".")
		line("\nUsage:  broker COMMAND [ARGUMENTS]")
	} else {
		commands, examples = c.Subcommands, c.UsageText
		line(name + ": " + c.Usage)
		usage := name
		switch {
		case len(commands) > 0 && takesNames(c):
			usage += " [OPTIONS] " + c.ArgsUsage + "\n        " + name + " COMMAND [ARGUMENTS]"
		case len(commands) > 0 && acts(c):
			usage += " [OPTIONS]\n        " + name + " COMMAND [ARGUMENTS]"
		case len(commands) > 0:
			usage += " COMMAND [ARGUMENTS]"
		default:
			usage += " [OPTIONS]"
		}
		if c.ArgsUsage != "" && len(commands) == 0 {
			usage += " " + c.ArgsUsage
		}
		line("\nUsage:  " + usage)
		if c.Description != "" {
			line("")
			line(strings.Join(fold(strings.Join(strings.Fields(c.Description), " "), width), "\n"))
		}
	}
	var list [][2]string
	for _, sub := range commands {
		list = append(list, [2]string{strings.Join(sub.Names(), ", "), sub.Usage})
	}
	gap := labels(list)
	for at, sub := range commands {
		if at == 0 || sub.Category != commands[at-1].Category {
			line("\n" + cmp.Or(sub.Category, "Commands") + ":")
		}
		b.WriteString(entries(list[at:at+1], gap, width))
	}
	list = nil
	if c == nil {
		list = append(list, [2]string{"--version, -v", "print the version"})
	} else {
		for _, f := range c.VisibleFlags() {
			list = append(list, [2]string{flagLabel(f), flagUsage(f)})
		}
	}
	list = append(list, [2]string{"--help, -h", "show this help"})
	line("\nOptions:")
	b.WriteString(entries(list, labels(list), width))
	line("\nExamples:")
	for example := range strings.Lines(examples) {
		b.WriteString("  " + strings.TrimSpace(example) + "\n") // not wrapped, so that it can be copied
	}
	if c == nil || len(c.Subcommands) > 0 {
		line("\nRun `" + name + " COMMAND --help` for the help of a command.")
	}
	p.raw(strings.TrimSuffix(b.String(), "\n"))
}

// labels returns the column where the help of a list starts.
func labels(list [][2]string) (gap int) {
	for _, e := range list {
		if wide := uniseg.StringWidth(e[0]); wide <= labelColumns {
			gap = max(gap, wide+4)
		}
	}
	return gap
}

// entries formats labels with their help. The help starts at column gap, on the next line if the label is too wide.
func entries(list [][2]string, gap, width int) string {
	if width < 2*gap {
		gap = 4
	}
	var b strings.Builder
	for _, e := range list {
		head, indent := flow("  "+e[0], width), strings.Repeat(" ", gap)
		if room := gap - uniseg.StringWidth(head); room < 2 {
			head += "\n" + indent
		} else {
			head += indent[:room]
		}
		b.WriteString(head + strings.Join(fold(e[1], width-gap), "\n"+indent) + "\n")
	}
	return b.String()
}

// flagLabel returns a flag as it is typed.
func flagLabel(f cli.Flag) string {
	var names []string
	for _, name := range f.Names() {
		names = append(names, dashed(name))
	}
	label := strings.Join(names, ", ")
	if doc, ok := f.(cli.DocGenerationFlag); ok && doc.TakesValue() {
		_, value, _ := strings.Cut(doc.GetUsage(), "`")
		value, _, _ = strings.Cut(value, "`")
		if _, is := f.(*cli.DurationFlag); is {
			value = "DURATION"
		}
		if value == "" {
			value = strings.ToUpper(f.Names()[0])
		}
		label += " " + value
	}
	return label
}

// flagUsage returns the help of a flag, with its default.
func flagUsage(f cli.Flag) string {
	doc, ok := f.(cli.DocGenerationFlag)
	if !ok {
		return ""
	}
	usage := strings.ReplaceAll(doc.GetUsage(), "`", "")
	if value := doc.GetDefaultText(); doc.TakesValue() && value != "" && value != `""` && value != "0s" {
		usage += " (default: " + strings.Trim(value, `"`) + ")"
	}
	return usage
}

// dashed returns the name of a flag with its dashes.
func dashed(name string) string {
	if len(name) == 1 {
		return "-" + name
	}
	return "--" + name
}

// noCommand returns the error for a word that is not one of the commands.
func noCommand(path []string, commands []*cli.Command, word string) error {
	group := strings.Join(path, " ")
	err := fault.New(fault.Usage, "there is no command %q", strings.TrimSpace(group+" "+word))
	meant := meantBy(word, commands)
	switch {
	case len(meant) > 0:
		return fault.New(fault.Usage, "%w; did you mean %s?", err, strings.Join(meant, " or ")).
			WithHint("broker %s", append(slices.Clone(path), strings.Fields(meant[0])...))
	case group != "":
		return err.WithHint("broker %s --help", path)
	}
	return err.WithHint("broker help")
}

// meantBy returns what a word that is not one of the commands may mean: a command that does what the word does in
// another tool, else the commands of groups with this name, else the most similar command. A command that begins
// with another letter is not similar, so that "update" does not lead to "rotate".
func meantBy(word string, commands []*cli.Command) []string {
	// Words of other tools, and of Broker's own docs, with what does the same in Broker.
	same := map[string]string{
		"assume": "exec", "audit": "log", "clear": "logout", "configure": "setup", "delete": "remove", "ecr": "docker",
		"env": "export", "init": "setup", "revoke": "deny", "rm": "remove", "run": "exec", "sessions": "status",
		"start": "daemon", "whoami": "status",
	}
	var within, names []string
	for _, c := range commands {
		if c.HasName(same[word]) {
			return []string{c.Name}
		}
		for _, sub := range c.Subcommands {
			if sub.HasName(word) {
				within = append(within, c.Name+" "+sub.Name)
			}
		}
		for _, name := range c.Names() {
			if word != "" && name[0] == word[0] {
				names = append(names, name)
			}
		}
	}
	if len(within) > 0 {
		return within
	}
	return profiles.Nearest(word, slices.Values(names), 1)
}

func (p *program) helpCommand() *cli.Command {
	return &cli.Command{
		Name:         "help",
		Usage:        "show the help of a command",
		ArgsUsage:    "[COMMAND]",
		UsageText:    "broker help exec\nbroker help profiles link",
		BashComplete: p.completeCommand,
		Action: func(c *cli.Context) error {
			app := p.app(c.Args().Slice()...)
			at := locate(app, c.Args().Slice())
			if len(at.rest) > 0 {
				return noCommand(at.path, at.commands, at.rest[0])
			}
			p.help(app, at.path, at.command)
			return nil
		},
	}
}
