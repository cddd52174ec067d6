package cli

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// reorder moves the flags of a command before its names, up to "--", because
// urfave/cli v2 stops reading flags at the first name and would take
// `broker login prod --code 123456` for three names. It returns the arguments with a
// "--" between flags and names, and how many names stood before the user's own "--".
func reorder(app *cli.App, args []string) (ordered []string, names int) {
	commands, flags := app.Commands, app.Flags
	var path []string
	for len(args) > 0 {
		i := slices.IndexFunc(commands, func(c *cli.Command) bool { return c.HasName(args[0]) })
		if i < 0 {
			break
		}
		path = append(path, args[0])
		commands, flags = commands[i].Subcommands, commands[i].Flags
		args = args[1:]
	}
	if len(path) == 0 || len(args) > 0 && args[len(args)-1] == "--generate-bash-completion" {
		return append(path, args...), len(args)
	}
	var before, after, rest []string
	for i := 0; i < len(args); i++ {
		arg := args[i]
		if arg == "--" {
			rest = args[i+1:]
			break
		}
		if len(arg) < 2 || arg[0] != '-' {
			after = append(after, arg)
			continue
		}
		before = append(before, arg)
		if takesValue(flags, arg) && i+1 < len(args) {
			i++
			before = append(before, args[i])
		}
	}
	if len(commands) > 0 {
		// Of a group without a command (`broker profiles --help`): nothing to reorder.
		return append(path, args...), len(args)
	}
	ordered = append(path, before...)
	ordered = append(ordered, "--")
	ordered = append(ordered, after...)
	return append(ordered, rest...), len(after)
}

// takesValue reports whether the next argument belongs to this flag.
func takesValue(flags []cli.Flag, arg string) bool {
	name := strings.TrimLeft(arg, "-")
	if strings.Contains(name, "=") {
		return false
	}
	for _, f := range flags {
		if doc, ok := f.(cli.DocGenerationFlag); ok && slices.Contains(f.Names(), name) {
			return doc.TakesValue()
		}
	}
	return false
}
