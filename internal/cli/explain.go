package cli

import (
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"broker/internal/fault"
)

func (p *program) explainCommand() *cli.Command {
	return &cli.Command{
		Name:         "explain",
		Usage:        "show step by step what a profile would do; makes no call",
		ArgsUsage:    "PROFILE",
		Flags:        []cli.Flag{jsonFlag()},
		BashComplete: p.completeProfiles,
		Action: func(c *cli.Context) error {
			typed, err := one(c, "profile")
			if err != nil {
				return err
			}
			plan, err := p.describe(typed)
			if err != nil {
				return err
			}
			if c.Bool("json") {
				return p.printJSON(plan)
			}
			p.explain(plan)
			return nil
		},
	}
}

func (p *program) explain(plan planJSON) {
	p.say("%s", fault.Line(plan.Profile))
	for i, s := range plan.Steps {
		p.say("%d. %s for %s, for %v", i+1, s.Operation, fault.Line(s.For), time.Duration(s.Seconds)*time.Second)
		detail := func(what, value string) {
			if value != "" {
				p.say("   %-12s %s", what, fault.Line(value))
			}
		}
		detail("role", s.RoleARN)
		detail("session name", s.SessionName)
		detail("external id", s.ExternalID)
		detail("endpoint", s.Endpoint)
		detail("signed with", map[bool]string{true: "the long-lived key, by the vault process", false: fmt.Sprintf("the session of step %d", i)}[i == 0])
		detail("mfa device", s.MFASerial)
		switch s.Code {
		case "seed":
			detail("code", "made from the stored seed; nobody is asked")
		case "program":
			detail("code", "printed by the source's mfa_process, unless the session is still open")
		case "person":
			detail("code", "a person has to give one, unless the session is still open")
		}
		detail("from", s.Origin)
	}
	p.say("values")
	for _, v := range plan.Values {
		p.say("   %s: %s = %s", fault.Line(v.Origin), v.Key, fault.Line(v.Value))
	}
	for _, n := range plan.Notes {
		p.say("note: %s", fault.Line(n))
	}
}
