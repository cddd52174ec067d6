package cli

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// A place is the command that the first words of a command line name.
type place struct {
	path     []string       // the names of the commands; aliases are resolved
	command  *cli.Command   // the last command of path; nil for the program itself
	commands []*cli.Command // the commands below it
	flags    []cli.Flag
	rest     []string // the remaining words
}

// locate follows the command names in args.
func locate(app *cli.App, args []string) place {
	at := place{commands: app.Commands, flags: app.Flags, rest: args}
	for len(at.rest) > 0 {
		i := slices.IndexFunc(at.commands, func(c *cli.Command) bool { return c.HasName(at.rest[0]) })
		if i < 0 {
			break
		}
		at.command = at.commands[i]
		at.path = append(at.path, at.command.Name)
		at.commands, at.flags, at.rest = at.command.Subcommands, at.command.Flags, at.rest[1:]
	}
	return at
}

// An invocation is a command line as Broker reads it.
type invocation struct {
	place
	help, version bool
	// unknown is the first flag that the command does not have, and bare the last one if its value is missing.
	unknown, bare string
	// ordered is the command line with the flags before the names and a "--" between them. urfave/cli v2 stops
	// reading flags at the first name, so it would read `broker login prod --code 123456` as three names.
	ordered []string
	// words are the names before "--", or before the command that exec runs.
	words []string
}

// read reads a command line. Flags may be anywhere before "--". For exec, the command begins after the first "--",
// or else after the first name (or, with --only or --door, after the options), and is not parsed.
func read(app *cli.App, args []string) invocation {
	in := invocation{place: locate(app, args)}
	runs := in.command != nil && in.command.Name == "exec"
	var before, after, rest []string
	names := 1 // before a command without "--"
	for i := 0; i < len(in.rest); i++ {
		arg := in.rest[i]
		if arg == "--" {
			rest = in.rest[i+1:]
			break
		}
		if len(arg) < 2 || arg[0] != '-' {
			if runs && len(after) == names && !slices.Contains(in.rest[i:len(in.rest)-1], "--") {
				rest = in.rest[i:]
				break
			}
			after = append(after, arg)
			continue
		}
		in.help = in.help || arg == "-h" || arg == "--help" || arg == "-help"
		in.version = in.version || in.command == nil && (arg == "-v" || arg == "--version" || arg == "-version")
		before = append(before, arg)
		if flag, _, _ := strings.Cut(strings.TrimLeft(arg, "-"), "="); flag == "only" || flag == "door" {
			names = 0 // the profiles are the value of the option
		}
		known, valued := flagOf(in.flags, arg)
		switch {
		case !known && in.unknown == "" && !in.help:
			in.unknown = arg
		case valued && (i+1 == len(in.rest) || in.rest[i+1] == "--"):
			in.bare = arg
		case valued:
			i++
			before = append(before, in.rest[i])
		}
	}
	in.words = after
	in.ordered = slices.Concat(in.path, before, []string{"--"}, after, rest)
	return in
}

// takesValue reports whether the next argument is the value of this flag.
func takesValue(flags []cli.Flag, arg string) bool {
	_, valued := flagOf(flags, arg)
	return valued
}

// flagOf reports whether a command has this flag, and whether the next argument is its value.
func flagOf(flags []cli.Flag, arg string) (known, valued bool) {
	name, _, assigned := strings.Cut(strings.TrimLeft(arg, "-"), "=")
	for _, f := range flags {
		if doc, ok := f.(cli.DocGenerationFlag); ok && slices.Contains(f.Names(), name) {
			return true, doc.TakesValue() && !assigned
		}
	}
	return false, false
}
