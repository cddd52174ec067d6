package cli

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"broker/internal/client"
	"broker/internal/dial"
	"broker/internal/environ"
	"broker/internal/fault"
	"broker/internal/lockfile"
	"broker/internal/profiles"
	"broker/internal/secret"
	"broker/internal/version"
	"broker/internal/wire"
)

func (p *program) statusCommand() *cli.Command {
	return &cli.Command{
		Name:  "status",
		Usage: "show the daemon, the keyring and the sessions",
		UsageText: "broker status\n" +
			"broker status --watch\n" +
			"broker status --json",
		Flags: []cli.Flag{
			jsonFlag(),
			&cli.BoolFlag{Name: "short", Usage: "print one line for a shell prompt: the profile and the time left"},
			&cli.BoolFlag{Name: "watch", Usage: "refresh every two seconds until Ctrl-C"},
		},
		Action: func(c *cli.Context) error {
			if c.Bool("short") {
				if c.Bool("json") || c.Bool("watch") {
					return fault.New(fault.Usage, "--short takes no other option").WithHint("broker status --short")
				}
				if line := p.client.PromptLine(c.Context); line != "" {
					p.say("%s", line)
				}
				return nil
			}
			if !c.Bool("watch") {
				return p.status(c.Context, c.Bool("json"))
			}
			return p.watch(c.Context, c.Bool("json"))
		},
	}
}

// watchEvery is the refresh interval of status --watch.
const watchEvery = 2 * time.Second

// watch prints the status until ctx ends, also while no daemon runs. On a terminal each status replaces the one
// before, cut to the height of the screen. Elsewhere the statuses follow each other.
func (p *program) watch(ctx context.Context, asJSON bool) error {
	drawn := 0
	for {
		var page bytes.Buffer
		onScreen := !asJSON && obeys(p.stdout)
		if onScreen {
			text, stderr := p.text, p.stderr
			p.text, p.stderr = fault.Writer(&page), fault.Writer(&page)
			if err := p.status(ctx, false); err != nil && ctx.Err() == nil {
				p.fail(err)
			}
			p.text, p.stderr = text, stderr
			drawn = p.redraw(page.String(), drawn)
		} else if err := p.status(ctx, asJSON); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(watchEvery):
		}
	}
}

// redraw replaces the lines that were drawn before with a page, and returns how many lines it drew. It leaves the
// last line of the screen to the cursor.
func (p *program) redraw(page string, drawn int) int {
	var lines []string
	for line := range strings.Lines(page) {
		lines = append(lines, cut(strings.TrimSuffix(line, "\n"), columns(p.stdout))...)
	}
	if high := screenRows(p.stdout) - 1; high > 0 && len(lines) > high {
		lines = append(lines[:high-1:high-1], fmt.Sprintf("… %d more lines", len(lines)-high+1))
	}
	text := "\r"
	if drawn > 0 {
		text = fmt.Sprintf("\x1b[%dA\r", drawn)
	}
	for _, line := range lines {
		text += line + "\x1b[K\n"
	}
	_, _ = io.WriteString(p.stdout, text+"\x1b[J")
	return len(lines)
}

// status prints the status of the daemon. It starts none, because looking at the status is not a use of a profile.
func (p *program) status(ctx context.Context, asJSON bool) error {
	status, err := p.client.Status(ctx)
	var warnings []string
	if set, err := new(profiles.Store).Load(p.files()); err == nil { // otherwise the daemon reports the error
		warnings = lines(helperTrouble(set.Linked()))
	}
	warnings = append(warnings, p.otherDaemon(ctx)...)
	status.Warnings = append(status.Warnings, warnings...)
	if errors.Is(err, client.ErrNone) {
		// Files of another user would look like a lock, and no daemon could start.
		if _, err := environ.CheckOwners(); err != nil {
			return err
		}
		if err := lockfile.Trouble(lockfile.Find(p.paths.State).File); err != nil {
			warnings = append([]string{err.Error()}, warnings...)
		}
		locked := p.lockWritten()
		if asJSON {
			return p.printJSON(struct {
				Running  bool     `json:"running"`
				Locked   bool     `json:"locked"`
				Warnings []string `json:"warnings,omitempty"`
			}{false, locked != nil, warnings})
		}
		p.say("daemon    not running; it starts on demand")
		if locked != nil {
			p.say("locked    yes; %s", fault.Of(locked).Hint)
		}
		p.warn(warnings)
		return nil
	}
	if err != nil {
		return err
	}
	if asJSON {
		return p.printJSON(struct {
			Running bool `json:"running"`
			wire.Status
			Program string `json:"program_version"` // version of this program; "version" is that of the daemon
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
		p.say("waiting   %s for a code of %s, for %s; %s", plural(w.Requests, "request"), fault.Line(w.Device),
			fault.Line(w.Source), fault.Hintf("broker login %s", w.Source))
	}
	for _, r := range status.Rotations {
		state := r.State
		if r.Running {
			state = "the key is being replaced now"
		}
		if r.Error != "" {
			state += "; " + r.Error
		}
		if hint := r.Hint.Shown(); hint != "" {
			state += "; " + hint
		}
		p.say("rotation  %s: %s", fault.Line(r.Source), fault.Line(state))
	}
	p.sayAllowed(status.Allowed)
	if err := p.printSessions(status.Sessions); err != nil {
		return err
	}
	if err := p.printPublished(status.Published); err != nil {
		return err
	}
	if err := p.printCommands(status.Commands); err != nil {
		return err
	}
	if len(status.Doors) > 0 {
		p.say("")
		if err := p.printDoors(status.Doors); err != nil {
			return err
		}
	}
	p.warn(status.Warnings)
	return nil
}

// otherDaemon returns a warning if processes with another XDG_RUNTIME_DIR have a daemon of their own.
func (p *program) otherDaemon(ctx context.Context) []string {
	if p.paths.Other == "" {
		return nil
	}
	socket := filepath.Join(p.paths.Other, filepath.Base(p.paths.Socket))
	conn, err := dial.Dial(ctx, socket)
	if err != nil {
		return nil
	}
	_ = conn.Close()
	return []string{fmt.Sprintf("another daemon of the same registry listens on %s, for processes with another "+
		"XDG_RUNTIME_DIR; stop it: %s", socket, fault.Hintf("BROKER_SOCKET=%s broker daemon --stop", socket))}
}

// saySetup prints the paths and routes that the daemon uses.
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

// printSessions prints the sessions that the daemon holds.
func (p *program) printSessions(list []wire.Session) error {
	if len(list) == 0 {
		return nil
	}
	t := p.table("PROFILE", "SOURCE", "SESSION", "KEY", "LEFT")
	var notes []string
	for _, s := range list {
		what, lasts := sessionName(s), left(s.Expires)
		switch {
		case s.Login && s.LoginEnds != nil && s.Renews != nil:
			lasts = left(s.LoginEnds)
		case s.Login && s.Renews != nil: // the end of its token is of no interest
			lasts = "renewed"
		}
		if s.ReadOnly {
			what += ", read-only"
		}
		if s.Device != "" {
			what += ", " + shortARN(s.Device)
		}
		if s.Endpoint != "" {
			what += ", from " + s.Endpoint
		}
		t.row(s.Profile, s.Source, what, secret.Tail(s.AccessKeyID), lasts)
		if s.Error != "" {
			notes = append(notes, under(s.Profile, s.Error))
		}
	}
	return p.nextTable(t, notes)
}

// sessionName says what a session is.
func sessionName(s wire.Session) string {
	switch {
	case s.Role != "":
		return shortARN(s.Role)
	case s.Login:
		return "login"
	case s.Kind == string(profiles.OtherProgram):
		return "session of a program"
	case s.Device == "":
		return "session"
	}
	return "MFA session"
}

// shortARN returns the short form of an ARN: the account and name of a role, or the name of an MFA device.
func shortARN(arn string) string {
	f := strings.SplitN(arn, ":", 6)
	if len(f) < 6 {
		return arn
	}
	kind, name, _ := strings.Cut(f[5], "/")
	switch kind {
	case "mfa":
		return "device " + name
	case "role":
		return f[4] + ":" + name[strings.LastIndexByte(name, '/')+1:]
	}
	return arn
}

// left returns how long a session lasts.
func left(expires *time.Time) string {
	if expires == nil {
		return ""
	}
	return profiles.FormatDuration(time.Until(*expires))
}

// nextTable prints a table below earlier output.
func (p *program) nextTable(t *table, notes []string) error {
	p.say("")
	return p.printTable(t, notes)
}

// printCommands prints the programs that have files or an endpoint of their own.
func (p *program) printCommands(list []wire.Command) error {
	if len(list) == 0 {
		return nil
	}
	t := p.table("COMMAND", "PID", "PROFILE", "MODE", "SINCE")
	for _, c := range list {
		since := ""
		if !c.Since.IsZero() {
			since = c.Since.Local().Format(time.DateTime)
		}
		var names []string
		for _, name := range c.Profiles {
			names = append(names, shortARN(name))
		}
		t.row(c.Program, strconv.Itoa(c.PID), strings.Join(names, ", "), c.Mode, since)
	}
	return p.nextTable(t, nil)
}

// printPublished prints the profiles that have a session in a shared credentials file.
func (p *program) printPublished(list []wire.Published) error {
	if len(list) == 0 {
		return nil
	}
	t := p.table("PUBLISHED", "FILE", "KEY", "LEFT", "UNTIL")
	var notes []string
	for _, e := range list {
		lasts, until := "not there", "always"
		if e.Expires != nil {
			lasts = left(e.Expires)
		}
		if e.Until != nil {
			until = e.Until.Local().Format(time.DateTime)
		}
		t.row(e.Profile, e.File, secret.Tail(e.AccessKeyID), lasts, until)
		if e.Error != "" {
			notes = append(notes, under(e.Profile, e.Error))
		}
	}
	return p.nextTable(t, notes)
}
