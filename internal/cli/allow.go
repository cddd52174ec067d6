package cli

import (
	"cmp"
	"time"

	"github.com/urfave/cli/v2"

	"broker/internal/fault"
	"broker/internal/profiles"
	"broker/internal/wire"
)

func (p *program) allowCommand() *cli.Command {
	return &cli.Command{
		Name:  "allow",
		Usage: "confirm sessions of a guarded profile beforehand",
		UsageText: "broker allow prod --for 1h --reason \"deploy of 4.2\"\n" +
			"broker allow prod --for 15m --reason nightly --everywhere",
		ArgsUsage: "PROFILE",
		Description: "For scripts, and for programs without a terminal or window. Until the time is over, Broker does not ask\n" +
			"before it hands out sessions of the profile, also for the commands of guard_commands. It holds for the programs\n" +
			"of this terminal; without a terminal, for those that the calling script starts. The audit log has the reason.\n" +
			"`broker deny`, `broker lock` and a restart of the daemon end it.",
		Flags:        allowFlags(time.Hour),
		BashComplete: p.completeProfiles,
		Action:       func(c *cli.Context) error { return p.allow(c, false) },
	}
}

func (p *program) elevateCommand() *cli.Command {
	return &cli.Command{
		Name:      "elevate",
		Usage:     "get the full role of a read-only profile for a while",
		UsageText: "broker elevate prod --for 15m --reason INC-123",
		ArgsUsage: "PROFILE",
		Description: "A profile with `read_only = true` has its role with AWS's policy ReadOnlyAccess. Until the time is over,\n" +
			"the programs of this terminal get new sessions without that policy, which end about then. Running programs\n" +
			"get them when they ask for a session again. The audit log has the reason.",
		Flags:        allowFlags(15 * time.Minute),
		BashComplete: p.completeProfiles,
		Action:       func(c *cli.Context) error { return p.allow(c, true) },
	}
}

func allowFlags(long time.Duration) []cli.Flag {
	return []cli.Flag{
		spanFlag("for", "how long, such as `15m`", long),
		&cli.StringFlag{Name: "reason", Usage: "why, for the audit log, such as `INC-123`"},
		&cli.BoolFlag{Name: "everywhere", Usage: "for all programs of this user, not only those of this terminal"},
	}
}

func (p *program) allow(c *cli.Context, elevate bool) error {
	name, err := p.oneProfile(c)
	if err != nil {
		return err
	}
	long, reason := spanOf(c, "for"), c.String("reason")
	again := fault.Hintf("%s %s", typed(c), name)
	if c.IsSet("for") && long > 0 {
		again += fault.Hintf(" --for %s", profiles.FormatDuration(min(long, wire.MaxAllowFor)))
	}
	if c.Bool("everywhere") {
		again += " --everywhere"
	}
	again += fault.Hintf(" --reason %s", cmp.Or(reason, "WHY"))
	switch {
	case long <= 0 || long > wire.MaxAllowFor:
		return fault.New(fault.Usage, "--for must be longer than 0 and at most %s",
			profiles.FormatDuration(wire.MaxAllowFor)).WithHint("%s", again)
	case reason == "":
		return fault.New(fault.Usage, "--reason is missing").WithHint("%s", again)
	}
	resp, err := p.do(c.Context, wire.Request{Verb: wire.Allow, Profile: name, For: long,
		Reason: reason, Everywhere: c.Bool("everywhere"), Elevate: elevate})
	if err != nil {
		return err
	}
	if resp.Status == nil || len(resp.Status.Allowed) == 0 {
		return fault.New(fault.Unreachable, "the daemon's answer does not say what is allowed")
	}
	p.sayAllowed(resp.Status.Allowed)
	return nil
}

// sayAllowed prints one line for each allowance.
func (p *program) sayAllowed(list []wire.Allowed) {
	for _, a := range list {
		what := "allowed "
		if a.Elevated {
			what = "elevated"
		}
		reason := fault.Line(a.Reason)
		if a.Answer {
			reason = "confirmed, because " + reason
		}
		p.say("%s  %s %s until %s: %s", what, fault.Line(a.Profile), fault.Line(a.Where),
			clock(a.Until, time.Now(), time.TimeOnly), reason)
	}
}

func (p *program) denyCommand() *cli.Command {
	return &cli.Command{
		Name:  "deny",
		Usage: "end what allow, elevate or your answer allowed",
		UsageText: "broker deny prod\n" +
			"broker deny prod --everywhere",
		ArgsUsage: "PROFILE",
		Description: "Broker asks again before it hands out the next session. Sessions that programs have already stay valid in\n" +
			"AWS until they expire.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "everywhere", Usage: "also what was allowed in other terminals"},
		},
		BashComplete: p.completeProfiles,
		Action: func(c *cli.Context) error {
			name, err := p.oneProfile(c)
			if err != nil {
				return err
			}
			resp, err := p.do(c.Context, wire.Request{Verb: wire.Deny, Profile: name, Everywhere: c.Bool("everywhere")})
			if err != nil {
				return err
			}
			if resp.Count == 0 {
				where := " here; for other terminals, use --everywhere"
				if c.Bool("everywhere") {
					where = ""
				}
				p.say("%s: nothing was allowed%s", fault.Line(name), where)
				return nil
			}
			p.say("%s: no longer allowed", fault.Line(name))
			return nil
		},
	}
}

// oneProfile returns the exact name of the one profile that a person typed.
func (p *program) oneProfile(c *cli.Context) (string, error) {
	word, err := one(c, "profile")
	if err != nil {
		return "", err
	}
	names, err := p.findAll([]string{word})
	if err != nil {
		return "", err
	}
	return names[0], nil
}
