package cli

import (
	"cmp"
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"broker/internal/client"
	"broker/internal/fault"
	"broker/internal/profiles"
	"broker/internal/wire"
)

func (p *program) forwardCommand() *cli.Command {
	return &cli.Command{
		Name:  "forward",
		Usage: "open a door for named profiles, for ssh -R",
		UsageText: "broker forward dev --for 8h\n" +
			"broker forward dev stage --for 2h --max-ttl 15m\n" +
			"broker forward list\n" +
			"broker forward close dev",
		ArgsUsage: "PROFILE…",
		Description: "A door is a socket that hands out the sessions of these profiles, and nothing else: no other " +
			"profile, no\nlogin, no settings. Prints the lines that carry it to a far host, where credproc alone is needed. " +
			"It closes after\n" +
			"the time of --for, and hands out nothing while Broker is locked or the source is logged out. A session that was\n" +
			"handed out lasts until it ends: see --max-ttl.",
		Flags: slices.Concat([]cli.Flag{
			spanFlag("for", "close the door after this time, such as `8h`", 0),
			&cli.StringFlag{Name: "name", Usage: "call the door `NAME` (default: the names of the profiles)"},
		}, doorFlags()),
		BashComplete: p.completeManyProfiles,
		Action:       p.forward,
		Subcommands: []*cli.Command{
			{
				Name:      "list",
				Usage:     "list the doors that are open",
				UsageText: "broker forward list\nbroker forward list --json",
				Flags:     []cli.Flag{jsonFlag()},
				Action:    p.forwardList,
			},
			{
				Name:         "close",
				Usage:        "close a door",
				UsageText:    "broker forward close dev\nbroker forward close --all",
				ArgsUsage:    "[NAME…]",
				Flags:        []cli.Flag{&cli.BoolFlag{Name: "all", Usage: "close all doors that forward opened"}},
				Description:  "Sessions that were handed out stay valid in AWS until they expire.",
				BashComplete: p.completeDoors,
				Action:       p.forwardClose,
			},
		},
	}
}

// doorFlags are the flags that narrow what a door hands out.
func doorFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "read-only", Usage: "limit the sessions of the door with AWS's policy ReadOnlyAccess"},
		spanFlag("max-ttl", "limit each session of the door to this time, at least `15m`", 0),
	}
}

// doorFlagsTyped returns doorFlags as they were typed, each with a blank before it. A hint without them would suggest a
// door that hands out more.
func doorFlagsTyped(c *cli.Context) fault.Hint {
	list := fault.Hint("")
	if c.Bool("read-only") {
		list += " --read-only"
	}
	if c.IsSet("max-ttl") {
		list += fault.Hintf(" --max-ttl %s", profiles.FormatDuration(spanOf(c, "max-ttl")))
	}
	return list
}

// doorTerms reads doorFlags.
func doorTerms(c *cli.Context) (*wire.DoorTerms, error) {
	if c.IsSet("max-ttl") && spanOf(c, "max-ttl") < wire.MinRole {
		return nil, fault.New(fault.Usage, "--max-ttl is shorter than 15m, the least that AWS gives").
			WithHint("%s --help", typed(c))
	}
	return &wire.DoorTerms{ReadOnly: c.Bool("read-only"), MaxTTL: int(spanOf(c, "max-ttl") / time.Second)}, nil
}

func (p *program) forward(c *cli.Context) error {
	if !c.Args().Present() {
		return fault.New(fault.Usage, "forward needs a profile").WithHint("broker forward PROFILE --for 8h")
	}
	again := func(names []string) fault.Hint {
		long := "8h"
		if d := min(spanOf(c, "for"), wire.MaxDoorFor); d > 0 {
			long = profiles.FormatDuration(d)
		}
		rest := doorFlagsTyped(c)
		if c.IsSet("name") {
			rest = fault.Hintf(" --name %s", c.String("name")) + rest
		}
		return fault.Hintf("broker forward %s --for %s%s", names, long, rest)
	}
	names, err := p.exactList(c.Args().Slice(), again) // first, because the name may be a misspelled list or close
	if err != nil {
		return err
	}
	if spanOf(c, "for") <= 0 {
		why := "--for is missing: say how long the door stays open"
		if c.IsSet("for") {
			why = "--for must be longer than 0: it says how long the door stays open"
		}
		return fault.New(fault.Usage, "%s", why).WithHint("%s", again(c.Args().Slice()))
	}
	if spanOf(c, "for") > wire.MaxDoorFor {
		return fault.New(fault.Usage, "a door can be open for at most %s", profiles.FormatDuration(wire.MaxDoorFor)).
			WithHint("%s", again(c.Args().Slice()))
	}
	terms, err := doorTerms(c)
	if err != nil {
		return err
	}
	// An empty name would mean a door of this process.
	terms.Name = cmp.Or(c.String("name"), doorName(names), "door")
	door, err := p.openDoor(c.Context, names, terms, spanOf(c, "for"))
	if err != nil {
		return err
	}
	p.sayForward(door)
	return nil
}

// openDoor opens a door for profiles by their exact names.
func (p *program) openDoor(
	ctx context.Context,
	names []string,
	terms *wire.DoorTerms,
	long time.Duration,
) (wire.Door, error) {
	resp, err := p.ask(ctx, wire.Request{Verb: wire.OpenDoor, Profile: names[0], Also: names[1:], Door: terms, For: long})
	if err != nil {
		return wire.Door{}, err
	}
	if resp.Door == nil || resp.Door.Dir == "" {
		return wire.Door{}, fault.New(fault.Unreachable, "the daemon's answer does not say where the door is")
	}
	p.warn(resp.Warnings)
	return *resp.Door, nil
}

// exactList returns the exact names of profiles. It refuses an empty name, and a profile that is named twice. again
// returns the same command with other names, for a hint. It may be nil.
func (p *program) exactList(list []string, again func([]string) fault.Hint) ([]string, error) {
	set, err := p.set()
	if err != nil {
		return nil, err
	}
	var names, once []string
	twice := ""
	for _, typed := range list {
		if typed == "" {
			return nil, fault.New(fault.Usage, "the name of a profile is empty")
		}
		name, err := set.Find(typed)
		if err != nil {
			return nil, err
		}
		if slices.Contains(names, name) {
			twice = name
			continue
		}
		names, once = append(names, name), append(once, typed)
	}
	if twice != "" {
		f := fault.New(fault.Usage, "%s is named twice; name each profile once", twice)
		if again == nil {
			return nil, f.WithHint("broker profiles show %s", twice)
		}
		return nil, f.WithHint("%s", again(once))
	}
	return names, nil
}

// maxDoorName limits the names that doorName makes. The path of a socket has little room.
const maxDoorName = 32

// doorName makes the name of a door from the names of its profiles.
func doorName(names []string) string {
	safe := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '_', r == '-':
			return r
		case r == '.' || r == '/' || r == '@' || r == ' ' || r == '+':
			return '-'
		}
		return '_'
	}, strings.Join(names, "+"))
	return strings.Trim(safe[:min(len(safe), maxDoorName)], "-_")
}

// sayForward prints a door and the lines that carry it to a far host.
func (p *program) sayForward(d wire.Door) {
	p.say("%s: open until %s, for %s%s", fault.Line(d.Name), doorUntil(d), fault.Line(strings.Join(d.Profiles, ", ")),
		doorLimits(", ", d))
	socket := filepath.Join(d.Dir, wire.DoorSocket)
	p.say("")
	p.say("Prepare the far host once. It needs credproc, and no other program of Broker:")
	p.raw("  ssh HOST mkdir -p -m 700 .broker")
	p.say("Carry the door there:")
	carried := fault.Hintf("%s", "/home/%r/.broker/socket:"+forSSH(socket))
	p.raw("  ssh -o ExitOnForwardFailure=yes -R " + string(carried) + " HOST")
	p.say("Use it there:")
	p.raw("  export BROKER_DOOR=~/.broker")
	p.raw("  credproc " + string(fault.Word(d.Profiles[0])))
	p.say("")
	p.say("ssh replaces %%r by your user name there. If your home directory is not below /home, write its path. " +
		"If ssh says " +
		"that forwarding failed, the socket of an earlier connection is in the way. Remove it, or set " +
		"StreamLocalBindUnlink to yes in the sshd_config of HOST:")
	p.raw("  ssh HOST rm -f .broker/socket")
}

// forSSH escapes a path for ssh -R, which reads a colon as the end of the path and expands "%".
func forSSH(path string) string {
	return strings.NewReplacer(`\`, `\\`, ":", `\:`, "%", "%%").Replace(path)
}

// doorUntil says when a door ends, for people.
func doorUntil(d wire.Door) string {
	if d.Until == nil {
		return "the program ends"
	}
	return d.Until.Local().Format(time.DateTime)
}

// doorLimits says how a door narrows its sessions, with between in front. It is empty if the door does not.
func doorLimits(between string, d wire.Door) string {
	var words []string
	if d.ReadOnly {
		words = append(words, "read-only")
	}
	if d.MaxTTL > 0 {
		words = append(words, "at most "+profiles.FormatDuration(time.Duration(d.MaxTTL)*time.Second)+" each")
	}
	if words == nil {
		return ""
	}
	return between + strings.Join(words, ", ")
}

func (p *program) forwardList(c *cli.Context) error {
	doors, err := p.doors(c.Context)
	switch {
	case err != nil:
		return err
	case c.Bool("json"):
		return p.printJSON(append([]wire.Door{}, doors...))
	case len(doors) == 0:
		p.say("no door is open")
		return nil
	}
	return p.printDoors(doors)
}

// doors returns the doors that the running daemon has open. Without a daemon there are none.
func (p *program) doors(ctx context.Context) ([]wire.Door, error) {
	status, err := p.client.Status(ctx)
	if errors.Is(err, client.ErrNone) {
		return nil, nil
	}
	return status.Doors, err
}

// printDoors prints a table of doors.
func (p *program) printDoors(doors []wire.Door) error {
	t := p.table("DOOR", "PROFILES", "FOR", "UNTIL", "SESSIONS")
	var notes []string
	for _, d := range doors {
		who := "other hosts"
		if d.PID != 0 {
			who = cmp.Or(d.Program, "a program") + ", pid " + strconv.Itoa(d.PID)
		}
		if d.Container {
			who += ", containers"
		}
		t.row(d.Name, strings.Join(d.Profiles, ", ")+doorLimits("; ", d), who, doorUntil(d), strconv.FormatInt(d.Given, 10))
		if d.Error != "" {
			notes = append(notes, under(d.Name, d.Error))
		}
	}
	return p.printTable(t, notes)
}

func (p *program) forwardClose(c *cli.Context) error {
	names := c.Args().Slice()
	switch {
	case c.Bool("all") && len(names) > 0:
		return fault.New(fault.Usage, "with --all, forward close takes no name").WithHint("broker forward close --all")
	case c.Bool("all"):
		// This starts a daemon if none is running, because it takes over the doors of an earlier daemon.
		if _, err := p.do(c.Context, wire.Request{Verb: wire.Ping}); err != nil {
			return err
		}
		doors, err := p.doors(c.Context)
		if err != nil {
			return err
		}
		for _, d := range doors {
			if d.PID == 0 {
				names = append(names, d.Name)
			}
		}
		if len(names) == 0 {
			p.say("no door is open")
			return nil
		}
	case len(names) == 0:
		return fault.New(fault.Usage, "forward close needs the name of a door").WithHint("broker forward list")
	}
	var failed []error
	for _, name := range names {
		if _, err := p.do(c.Context, wire.Request{Verb: wire.CloseDoor, Profile: name}); err != nil {
			failed = append(failed, err)
			continue
		}
		p.say("%s: closed; its sessions stay valid in AWS until they expire", fault.Line(name))
	}
	return p.first(failed)
}

// completeDoors prints the doors that forward opened.
func (p *program) completeDoors(c *cli.Context) {
	doors, _ := p.doors(c.Context)
	for _, d := range doors {
		if d.PID == 0 && !slices.Contains(c.Args().Slice(), d.Name) {
			p.complete(d.Name, strings.Join(d.Profiles, ", "))
		}
	}
}
