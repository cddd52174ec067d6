package cli

import (
	"context"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"broker/internal/fault"
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
			&cli.BoolFlag{Name: "watch", Usage: "show it anew every two seconds, until Ctrl-C"},
		},
		Action: func(c *cli.Context) error {
			if err := none(c); err != nil {
				return err
			}
			if c.Bool("short") {
				return p.statusShort(c)
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
	status, err := p.allStatus(ctx)
	if fault.Is(err, fault.Unreachable) {
		if asJSON {
			if jerr := p.printJSON(map[string]any{"running": false}); jerr != nil {
				return jerr
			}
		} else {
			p.say("daemon    not running; it is started when it is needed")
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
	p.say("daemon    running since %s, pid %d, version %s", status.Started.Local().Format(time.DateTime), status.PID, status.Version)
	if status.Version != version.String() {
		p.sayVersions(status.Version)
	}
	keyring := status.Keyring
	if keyring == "" {
		keyring = "none chosen yet"
	}
	p.say("keyring   %s", keyring)
	locked := "no"
	if status.Locked {
		locked = "yes; broker unlock"
	}
	p.say("locked    %s", locked)
	p.say("requests  %d answered, %d refused", status.Answered, status.Refused)
	for _, w := range status.Waiting {
		p.say("waiting   %d requests for a code of %s, for %s; broker login %s", w.Requests, fault.Line(w.Device), fault.Line(w.Source), fault.Word(w.Source))
	}
	if len(status.Sessions) > 0 {
		p.say("")
		w := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
		_, _ = fmt.Fprintln(w, "SOURCE\tSESSION\tKEY\tLEFT\tLAST ERROR")
		for _, s := range status.Sessions {
			what, left := "MFA session", "-"
			if s.Role != "" {
				what = s.Role
			}
			if s.Expires != nil {
				left = time.Until(*s.Expires).Round(time.Second).String()
			}
			_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", dash(s.Source), dash(what), dash(secret.Tail(s.AccessKeyID)), left, fault.Line(s.Error))
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	if err := p.printPublished(status.Published); err != nil {
		return err
	}
	p.warn(status.Warnings)
	return nil
}

// printPublished shows which profiles have a session in a shared credentials file.
func (p *program) printPublished(list []wire.Published) error {
	if len(list) == 0 {
		return nil
	}
	p.say("")
	w := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "PUBLISHED\tFILE\tKEY\tLEFT\tUNTIL\tLAST ERROR")
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

// promptPatience is how long a prompt waits for a daemon that does not answer.
const promptPatience = 100 * time.Millisecond

// statusShort says for a prompt whose session this shell has and how long it lasts; in any other shell, of which sources
// the daemon holds one. Where there is nothing to say it says nothing: a prompt is no place for failures.
func (p *program) statusShort(c *cli.Context) error {
	if c.Bool("json") || c.Bool("watch") {
		return fault.New(fault.Usage, "--short goes alone").WithHint("broker status --short")
	}
	if profile := os.Getenv("BROKER_PROFILE"); profile != "" {
		end, err := time.Parse(time.RFC3339, os.Getenv("BROKER_EXPIRATION"))
		if err != nil {
			p.say("%s", fault.Line(profile))
			return nil
		}
		p.say("%s %s", fault.Line(profile), timeLeft(time.Until(end)))
		return nil
	}
	ctx, cancel := context.WithTimeout(c.Context, promptPatience)
	defer cancel()
	status, err := p.allStatus(ctx)
	if err != nil {
		return nil
	}
	if status.Locked {
		p.say("locked")
		return nil
	}
	var words []string
	for _, s := range status.Sessions {
		if s.Role == "" && s.Expires != nil {
			words = append(words, fault.Line(s.Source)+" "+timeLeft(time.Until(*s.Expires)))
		}
	}
	if len(words) > 0 {
		p.say("%s", strings.Join(words, ", "))
	}
	return nil
}

// timeLeft is a short word for a time: 11h, 47m, 30s or expired.
func timeLeft(d time.Duration) string {
	switch {
	case d <= 0:
		return "expired"
	case d < time.Minute:
		return fmt.Sprintf("%ds", max(d/time.Second, 1))
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	}
	return fmt.Sprintf("%dh", d/time.Hour)
}

// allStatus asks for as many pages as there are.
func (p *program) allStatus(ctx context.Context) (wire.Status, error) {
	quiet := p.client
	quiet.NoStart, quiet.Wait = true, statusWait
	var all wire.Status
	for {
		resp, err := quiet.Do(ctx, wire.Request{Verb: wire.State, Offset: len(all.Sessions)})
		if err != nil {
			return wire.Status{}, err
		}
		if resp.Status == nil {
			return wire.Status{}, fault.New(fault.Unreachable, "the daemon's answer holds no status")
		}
		sessions := append(all.Sessions, resp.Status.Sessions...)
		all = *resp.Status
		all.Sessions = sessions
		if len(resp.Status.Sessions) == 0 || len(sessions) >= all.Total {
			return all, nil
		}
	}
}
