package cli

import (
	"strings"

	"github.com/urfave/cli/v2"

	"broker/internal/fault"
	"broker/internal/wire"
)

func (p *program) unpublishCommand() *cli.Command {
	return &cli.Command{
		Name:  "unpublish",
		Usage: "remove published sessions from the AWS credentials file",
		UsageText: "broker unpublish\n" +
			"broker unpublish prod",
		ArgsUsage:    "[PROFILE…]",
		BashComplete: p.completePublished,
		Action:       p.unpublish,
	}
}

func (p *program) unpublish(c *cli.Context) error {
	names := []string{""} // all
	if c.Args().Present() {
		var err error
		if names, err = p.findAll(c.Args().Slice()); err != nil {
			return err
		}
	}
	for _, name := range names {
		// This starts a daemon if none is running, because it removes what an earlier daemon left.
		resp, err := p.do(c.Context, wire.Request{Verb: wire.Unpublish, Profile: name})
		if err != nil {
			return err
		}
		p.warn(resp.Warnings)
		switch {
		case name != "":
			p.say("%s: no longer published", fault.Line(name))
		case resp.Count == 0 && len(resp.Lines) == 0:
			p.say("nothing was published")
		case resp.Count == 0: // they were to come back after a login or an unlock
			p.say("%s: no longer published", fault.Line(strings.Join(resp.Lines, ", ")))
		default:
			p.say("removed %s; they stay valid in AWS until they expire", plural(resp.Count, "session"))
		}
	}
	return nil
}
