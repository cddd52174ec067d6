package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"broker/internal/client"
	"broker/internal/environ"
	"broker/internal/fault"
	"broker/internal/latch"
	"broker/internal/secret"
	"broker/internal/version"
	"broker/internal/wire"
)

func (p *program) statusCommand() *cli.Command {
	return &cli.Command{
		Name:  "status",
		Usage: "show the daemon, the keyring and the sessions with the time they have left",
		Flags: []cli.Flag{
			jsonFlag(),
			&cli.BoolFlag{Name: "short", Usage: "one line for a prompt: whose session this is, and how long it lasts"},
			&cli.BoolFlag{Name: "watch", Usage: "refresh every two seconds, until Ctrl-C"},
		},
		Action: func(c *cli.Context) error {
			if err := none(c); err != nil {
				return err
			}
			if c.Bool("short") {
				if c.Bool("json") || c.Bool("watch") {
					return fault.New(fault.Usage, "--short goes alone").WithHint("broker status --short")
				}
				if line := p.client.PromptLine(c.Context); line != "" {
					p.say("%s", line)
				}
				return nil
			}
			for {
				if c.Bool("watch") && !c.Bool("json") {
					// Home, and clear to the end: no flicker.
					_, _ = fmt.Fprint(p.stdout, "\x1b[H\x1b[J")
				}
				err := p.status(c.Context, c.Bool("json"))
				if !c.Bool("watch") {
					return err
				}
				select {
				case <-c.Context.Done():
					return nil
				case <-time.After(2 * time.Second):
				}
			}
		},
	}
}

// status prints what the daemon tells. It starts none: to look is not to use.
func (p *program) status(ctx context.Context, asJSON bool) error {
	status, err := p.client.Status(ctx)
	if errors.Is(err, client.ErrNone) {
		// Files of another user would be taken for a lock, and no daemon could start.
		if _, err := environ.CheckOwners(); err != nil {
			return err
		}
		if asJSON {
			if jerr := p.printJSON(map[string]any{"running": false, "locked": p.lockWritten() != nil}); jerr != nil {
				return jerr
			}
		} else {
			p.say("daemon    not running; it is started when it is needed")
			if err := p.lockWritten(); err != nil {
				p.say("locked    yes; %s", fault.Of(err).Hint)
			}
			if err := latch.Trouble(latch.Find(p.paths.State).File); err != nil {
				p.warn([]string{err.Error()})
			}
		}
	}
	if err != nil {
		return err
	}
	if asJSON {
		return p.printJSON(struct {
			Running bool `json:"running"`
			wire.Status
			Program string `json:"program_version"` // this program's; version is the daemon's
		}{true, status, version.String()})
	}
	p.say("daemon    running since %s, pid %d, version %s%s", status.Started.Local().Format(time.DateTime), status.PID,
		status.Version, how(status.StartedBy))
	if status.Version != version.String() {
		p.sayVersions(status.Version)
	}
	keyring := cmp.Or(status.Keyring, "none chosen yet")
	if status.KeyringUnknown {
		keyring = "unknown, since a file cannot be used: see the warning"
	}
	p.say("keyring   %s", keyring)
	locked := "no"
	if status.Locked {
		locked = "yes; broker unlock"
	}
	p.say("locked    %s", locked)
	p.say("requests  %d answered, %d refused", status.Answered, status.Refused)
	if status.Setup != nil {
		p.saySetup(*status.Setup)
	}
	for _, w := range status.Waiting {
		p.say("waiting   %d requests for a code of %s, for %s; %s", w.Requests, fault.Line(w.Device), fault.Line(w.Source),
			fault.Hintf("broker login %s", w.Source))
	}
	if err := p.printSessions(status.Sessions); err != nil {
		return err
	}
	if err := p.printPublished(status.Published); err != nil {
		return err
	}
	if err := p.printCommands(status.Commands); err != nil {
		return err
	}
	p.warn(status.Warnings)
	return nil
}

// saySetup shows what the daemon works with.
func (p *program) saySetup(s wire.Setup) {
	p.say("registry  %s", fault.Line(s.Registry))
	p.say("state     %s", fault.Line(s.StateDir))
	p.say("keys      %s (of the file keyring)", fault.Line(s.KeyringDir))
	p.say("socket    %s", fault.Line(s.Socket))
	proxy := "none"
	if s.HTTPSProxy != "" {
		proxy = s.HTTPSProxy
		if s.NoProxy != "" {
			proxy += ", but not for " + s.NoProxy
		}
	}
	p.say("proxy     %s", fault.Line(proxy))
	p.say("CAs       %s", fault.Line(cmp.Or(s.CABundle, "the system's")))
	if len(s.Path) > 0 {
		p.say("path      %s, beside the system's", fault.Line(strings.Join(s.Path, ", ")))
	}
	for _, line := range s.LeftOut {
		p.say("note      %s", fault.Line(line))
	}
}

// nextTable begins a table below what was printed before.
func (p *program) nextTable(header string) *tabwriter.Writer {
	p.say("")
	return p.table(header)
}

// printSessions shows which sessions the daemon holds.
func (p *program) printSessions(list []wire.Session) error {
	if len(list) == 0 {
		return nil
	}
	w := p.nextTable("SOURCE\tSESSION\tKEY\tLEFT\tLAST ERROR")
	for _, s := range list {
		what, left := "MFA session", "-"
		if s.Role != "" {
			what = s.Role
		}
		if s.Endpoint != "" {
			what += " of " + s.Endpoint
		}
		if s.Expires != nil {
			left = time.Until(*s.Expires).Round(time.Second).String()
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", dash(s.Source), dash(what), dash(secret.Tail(s.AccessKeyID)), left, fault.Line(s.Error))
	}
	return w.Flush()
}

// printCommands shows which programs have files or an endpoint of their own.
func (p *program) printCommands(list []wire.Command) error {
	if len(list) == 0 {
		return nil
	}
	w := p.nextTable("COMMAND\tPID\tPROFILE\tMODE\tSINCE")
	for _, c := range list {
		since := "-"
		if !c.Since.IsZero() {
			since = c.Since.Local().Format(time.DateTime)
		}
		_, _ = fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\n", dash(fault.Line(c.Program)), c.PID, dash(fault.Line(strings.Join(c.Profiles, ", "))), fault.Line(c.Mode), since)
	}
	return w.Flush()
}

// printPublished shows which profiles have a session in a shared credentials file.
func (p *program) printPublished(list []wire.Published) error {
	if len(list) == 0 {
		return nil
	}
	w := p.nextTable("PUBLISHED\tFILE\tKEY\tLEFT\tUNTIL\tLAST ERROR")
	for _, e := range list {
		left, until := "not there", "always"
		if e.Expires != nil {
			left = time.Until(*e.Expires).Round(time.Second).String()
		}
		if e.Until != nil {
			until = e.Until.Local().Format(time.DateTime)
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", fault.Line(e.Profile), fault.Line(e.File), dash(secret.Tail(e.AccessKeyID)), left, until, fault.Line(e.Error))
	}
	return w.Flush()
}
