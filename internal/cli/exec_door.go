package cli

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"broker/internal/client"
	"broker/internal/fault"
	"broker/internal/wire"
)

// execDoorFlags are the flags of exec and shell that give the command a door.
func execDoorFlags() []cli.Flag {
	return slices.Concat([]cli.Flag{
		&cli.StringFlag{Name: "only", Usage: "give the command a door for `PROFILES`, such as dev,stage, and nothing else"},
		&cli.StringFlag{Name: "door", Usage: "give containers of the command a door for `PROFILES`"},
	}, doorFlags())
}

// doorOption returns "only" or "door" if that option was given, or "".
func doorOption(c *cli.Context) (string, error) {
	switch {
	case c.NumFlags() == 0: // IsSet searches all flags
		return "", nil
	case c.IsSet("only") && c.IsSet("door"):
		return "", fault.New(fault.Usage, "use either --only or --door").WithHint("%s --help", typed(c))
	case c.IsSet("only"):
		return "only", nil
	case c.IsSet("door"):
		return "door", nil
	}
	for _, f := range doorFlags() {
		if name := f.Names()[0]; c.IsSet(name) {
			return "", fault.New(fault.Usage, "--%s needs --only or --door", name).WithHint("%s --help", typed(c))
		}
	}
	return "", nil
}

// withDoor is the part of exec and shell that concerns doors: it gives the command a door if an option says so, and
// refuses files or an endpoint for the command in a shell with a door. Unless it is done, the command gets a session.
func (p *program) withDoor(c *cli.Context, named, command []string) (done bool, err error) {
	option, err := doorOption(c)
	switch {
	case err != nil:
		return true, err
	case option != "":
		return true, p.startWithDoor(c, option, named, command)
	case p.paths.Door != "" && (len(named) > 1 || c.String("mode") != "env"):
		return true, p.notThroughDoor()
	}
	return false, nil
}

// startWithDoor replaces this process with a command whose door hands out the sessions of the profiles that the option
// names. The door ends with the command.
func (p *program) startWithDoor(c *cli.Context, option string, named, command []string) error {
	if p.paths.Door != "" {
		return p.notThroughDoor()
	}
	list := strings.Split(c.String(option), ",")
	for i := range list {
		list[i] = strings.TrimSpace(list[i])
	}
	again := againWithDoor(c, option, command)
	if err := checkWithDoor(c, option, list, named, command, again); err != nil {
		return err
	}
	terms, err := doorTerms(c)
	if err != nil {
		return err
	}
	terms.Container = option == "door"
	add, err := readAdditions(c)
	if err != nil {
		return err
	}
	if outer, ends := p.outerProfile(); outer != "" {
		return alreadyInside(outer, ends, again(list))
	}
	names, err := p.exactList(list, again)
	if err != nil {
		return err
	}
	program, err := lookPath(command[0])
	if err != nil {
		return err
	}
	door, err := p.openDoor(c.Context, names, terms, 0)
	if err != nil {
		return err
	}
	env := add.to(doorEnv(os.Environ(), door), os.Environ())
	env = withVariables(env, []variable{{"BROKER_DOOR", door.Dir}})
	if c.Command.Name == "shell" {
		_, _ = p.stderr.Write([]byte(fault.Line(strings.Join(door.Profiles, ", ")) + doorLimits(", ", door) +
			"; exit leaves it\n"))
	}
	if hasTerminal() {
		if err := startAttendant(door.Name); err != nil {
			p.warn([]string{"prompts for the door cannot appear on this terminal: " + err.Error()})
		}
	}
	return p.become(program, command, env)
}

// againWithDoor returns a function that returns the command that was typed, for other profiles.
func againWithDoor(c *cli.Context, option string, command []string) func(names []string) fault.Hint {
	rest := doorFlagsTyped(c)
	if c.Command.Name == "exec" {
		if len(command) == 0 {
			rest += " -- COMMAND"
		} else {
			rest += fault.Hintf(" -- %s", command)
		}
	}
	return func(names []string) fault.Hint { // two formats: a hint must show that a name is not an option
		if option == "door" {
			return fault.Hintf("%s --door %s%s", typed(c), strings.Join(names, ","), rest)
		}
		return fault.Hintf("%s --only %s%s", typed(c), strings.Join(names, ","), rest)
	}
}

// checkWithDoor refuses what cannot be typed together with the option that gives a command a door for list.
func checkWithDoor(
	c *cli.Context, option string, list, named, command []string, again func(names []string) fault.Hint,
) error {
	usage := func(names []string, format string, args ...any) error {
		return fault.New(fault.Usage, format, args...).WithHint("%s", again(names))
	}
	if slices.Contains(list, "") {
		return fault.New(fault.Usage, "--%s has an empty name", option).WithHint("%s --help", typed(c))
	}
	if len(named) > 0 {
		all := slices.Clone(list)
		for _, name := range named {
			if !slices.Contains(all, name) {
				all = append(all, name)
			}
		}
		return usage(all, "with --%s, %s takes no profile; name all profiles in the option",
			option, c.Command.Name)
	}
	with := []string{option, "read-only", "max-ttl", "region", "no-region", "env-file"}
	for _, f := range execFlags() {
		if name := f.Names()[0]; c.IsSet(name) && !slices.Contains(with, name) {
			return usage(list, "--%s has no effect with --%s, which hands out sessions when they are asked for", name, option)
		}
	}
	if len(command) == 0 {
		return usage(list, "exec needs a command; broker shell starts your shell")
	}
	return nil
}

// doorEnv returns the environment of a command with a door. If containers use the door, the command itself is a tool of
// the person and gets no AWS files.
func doorEnv(environ []string, d wire.Door) []string {
	if d.Container {
		return childEnv(environ, []variable{{"BROKER_PROFILE", strings.Join(d.Profiles, ",")}})
	}
	return fileEnv(environ, wire.Files{Profile: d.Profiles[0], Region: d.Region,
		Credentials: filepath.Join(d.Dir, "credentials"), Config: filepath.Join(d.Dir, "config")}, d.Profiles)
}

// notThroughDoor returns the error for the command that was typed, which needs more than a door.
func (p *program) notThroughDoor() error {
	at := locate(p.commands, p.typed)
	hint := fault.Hintf("broker %s", at.path)
	if len(at.rest) > 0 {
		hint += " " + fault.Hintf("%s", at.rest) // options as well as names, in their order
	}
	return client.NotThroughDoor(hint)
}

// throughDoor are the commands that work in a shell with a door. All others are refused there, before they do anything.
var throughDoor = []string{
	"exec", "shell", "export",
	"list", "profiles list", "profiles show", "version", "help", "completion",
}
