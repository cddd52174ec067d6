package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"broker/internal/audit"
	"broker/internal/fault"
	"broker/internal/peer"
	"broker/internal/profiles"
)

// clockSlack is how far the clock may have been set back between two lines.
const clockSlack = 24 * time.Hour

// logLines is how many lines `broker log` shows by default.
const logLines = 50

func (p *program) logCommand() *cli.Command {
	return &cli.Command{
		Name:  "log",
		Usage: "show who got which session, and what was refused",
		UsageText: "broker log\n" +
			"broker log --since 2h --profile prod\n" +
			"broker log --follow\n" +
			"broker log who ASIAIOSFODNN7EXAMPLE",
		Description: "Reads the audit log, newest last, without the daemon. It shows the last lines, or with --since all lines\n" +
			"since then. Times of the table and of --since are local; with --json they are UTC.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "since", Usage: "show all lines since `TIME`, such as " + sinceForms},
			&cli.IntFlag{Name: "lines", Aliases: []string{"n"}, Usage: "show the last `N` lines; 0 shows all", Value: logLines},
			&cli.StringFlag{Name: "profile", Usage: "show only lines about this profile or source, `NAME`"},
			&cli.StringFlag{Name: "program", Usage: "show only what a program `NAME`, or what it started, asked for"},
			&cli.BoolFlag{Name: "follow", Aliases: []string{"f"}, Usage: "show new lines until Ctrl-C"},
			&cli.BoolFlag{Name: "json", Usage: "print the lines as they are in the log"},
		},
		Action:      p.log,
		Subcommands: []*cli.Command{p.logWhoCommand(), p.logVerifyCommand()},
	}
}

// logLine is one line of the log. The event is empty if the line is not valid.
type logLine struct {
	audit.Event
	text []byte
}

// logFilter says which lines to show.
type logFilter struct {
	since            time.Time
	profile, program string
}

func (f logFilter) match(l logLine) bool {
	return !l.Time.Before(f.since) &&
		(f.profile == "" || l.Profile == f.profile || l.Source == f.profile) &&
		(f.program == "" || slices.Contains(programsOf(l.Event), f.program))
}

func parseLine(text []byte) logLine {
	l := logLine{text: text}
	if err := json.Unmarshal(text, &l.Event); err != nil {
		l.Event = audit.Event{Message: "not a line of the audit log; broker log verify"}
	}
	return l
}

func (p *program) log(c *cli.Context) error {
	most := c.Int("lines")
	if most < 0 {
		return fault.New(fault.Usage, "--lines needs a number of lines").WithHint("broker log --lines %d", logLines)
	}
	if c.IsSet("since") && !c.IsSet("lines") {
		most = 0
	}
	filter, err := p.logFilter(c)
	if err != nil {
		return err
	}
	r, err := p.openLog()
	if err != nil {
		return err
	}
	defer r.Close()
	list := filter.last(r, most)
	if len(list) == 0 && !r.Empty() {
		p.warn(filter.unknown(r))
	}
	show := p.logPrinter(c.Bool("json"))
	if len(list) > 0 || c.Bool("follow") {
		if err := show(list); err != nil {
			return err
		}
	} else if !c.Bool("json") {
		p.say("no lines")
	}
	if !c.Bool("follow") {
		return nil
	}
	p.interrupts.catch()
	err = r.Follow(c.Context, func(line audit.Line) error {
		if l := parseLine(line.Text); filter.match(l) {
			return show([]logLine{l})
		}
		return nil
	})
	if err != nil {
		return fault.New(fault.Failed, "read the audit log: %w", err)
	}
	return context.Cause(c.Context)
}

// logFilter reads the filter from the flags.
func (p *program) logFilter(c *cli.Context) (f logFilter, err error) {
	f = logFilter{program: c.String("program"), profile: c.String("profile")}
	if c.IsSet("since") {
		if f.since, err = parseSince(c.String("since"), time.Now()); err != nil {
			return f, err
		}
	}
	if f.profile != "" { // a part of a name is enough, if the profile still exists
		if set, err := p.set(); err == nil {
			if name, err := set.Find(f.profile); err == nil {
				f.profile = name
			}
		}
	}
	return f, nil
}

// last returns the last lines that match, or all if most is 0, the oldest first.
func (f logFilter) last(r *audit.Reader, most int) (list []logLine) {
	for line := range r.Backward() {
		l := parseLine(line.Text)
		if !l.Time.IsZero() && l.Time.Before(f.since.Add(-clockSlack)) || most > 0 && len(list) == most {
			break
		}
		if f.match(l) {
			list = append(list, l)
		}
	}
	slices.Reverse(list)
	return list
}

// unknown returns a warning for each name of the filter that no line has, whenever it was written.
func (f logFilter) unknown(r *audit.Reader) (warnings []string) {
	about, programs := map[string]bool{}, map[string]bool{}
	for line := range r.Backward() {
		l := parseLine(line.Text)
		about[l.Profile], about[l.Source] = true, true
		for _, name := range programsOf(l.Event) {
			programs[name] = true
		}
	}
	say := func(name, what string, known map[string]bool) {
		if name == "" || known[name] {
			return
		}
		delete(known, "")
		text := fmt.Sprintf("the log has no %s %q", what, name)
		if near := profiles.Nearest(name, maps.Keys(known), 1); len(near) > 0 {
			text += "; did you mean " + near[0] + "?"
		}
		warnings = append(warnings, text)
	}
	say(f.profile, "profile or source", about)
	say(f.program, "program", programs)
	return warnings
}

// openLog opens the audit log.
func (p *program) openLog() (*audit.Reader, error) {
	r, err := audit.OpenReader(p.paths.Audit())
	if err != nil {
		return nil, fault.New(fault.Failed, "read the audit log: %w", err).WithHint("%s", fault.Of(err).Hint)
	}
	return r, nil
}

// sinceForms are the forms of --since.
const sinceForms = `30m, 2h, 1d, 2026-11-28, "2026-11-28 09:00" or 2026-11-28T09:00:00Z`

// sinceLayouts are the layouts of times without a zone.
var sinceLayouts = []string{time.DateOnly, "2006-01-02 15:04", time.DateTime, "2006-01-02T15:04", "2006-01-02T15:04:05"}

// parseSince parses a duration before now, or a time. A time without a zone is local.
func parseSince(text string, now time.Time) (time.Time, error) {
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return at, nil
	}
	for _, layout := range sinceLayouts {
		if at, err := time.ParseInLocation(layout, text, now.Location()); err == nil {
			return at, nil
		}
	}
	ago, err := profiles.ParseDuration(text)
	if err != nil {
		return time.Time{}, fault.New(fault.Usage, "--since %q is not a time such as %s", text, sinceForms).
			WithHint("broker log --since 2h")
	}
	return now.Add(-ago), nil
}

// logPrinter returns a function that prints lines: as they are, or as rows of one table.
func (p *program) logPrinter(asJSON bool) func([]logLine) error {
	if asJSON {
		return func(list []logLine) error {
			for _, l := range list {
				p.raw(string(fault.JSON(l.text)))
			}
			return nil
		}
	}
	t := p.table("TIME", "EVENT", "PROFILE", "PROGRAM", "PID", "WHERE", "REASON")
	return func(list []logLine) error {
		for _, l := range list {
			pid := ""
			if l.PID != 0 {
				pid = strconv.Itoa(l.PID)
			}
			t.row(localTime(l.Time), l.Event.Event, cmp.Or(l.Profile, l.Source), programOf(l.Event), pid, whereOf(l.Event),
				reasonOf(l.Event))
		}
		err := t.print()
		t.rows = [][]string{{}} // the header was printed
		return err
	}
}

func localTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format(time.DateTime)
}

// whereOf returns the terminal and the directory of the process that asked.
func whereOf(e audit.Event) string {
	if e.Caller == nil {
		return ""
	}
	dir := e.Directory
	if home, err := os.UserHomeDir(); err == nil && home != "/" {
		if rest, is := strings.CutPrefix(dir, home); is && (rest == "" || rest[0] == filepath.Separator) {
			dir = "~" + rest
		}
	}
	return strings.TrimSpace(strings.TrimPrefix(e.Terminal, "/dev/") + " " + dir)
}

// reasonOf returns why something was done or refused, or how a session was handed out. If that was over a door, or the
// door was opened or closed, the name of the door comes first.
func reasonOf(e audit.Event) string {
	var parts []string
	how := deliveries[e.Delivery]
	if e.Door != "" {
		how = "door " + e.Door
	}
	if e.Missed > 0 {
		parts = append(parts, plural(e.Missed, "line")+" could not be written")
	}
	for _, text := range []string{e.Reason, e.Message} {
		if text != "" {
			parts = append(parts, text)
		}
	}
	switch {
	case len(parts) == 0 && how != "":
		if e.Rights != "" {
			how += ", " + string(e.Rights)
		}
		parts = []string{how}
	case e.Door != "":
		parts = slices.Insert(parts, 0, how)
	}
	if e.Agent != "" {
		parts = append(parts, "coding agent "+e.Agent)
	}
	return strings.Join(parts, ": ")
}

// deliveries says for people how a session reached its user.
var deliveries = map[audit.Delivery]string{
	audit.Reply: "as a reply", audit.Endpoint: "by an endpoint", audit.PrivateFile: "in a private file",
	audit.Published: "in the credentials file", audit.Console: "for the console",
	audit.Door: "over a door", audit.Token: "for a token",
}

// programOf returns the tool that asked, as people know it: the program behind credproc and a shell that started it,
// or the command of `broker exec`.
func programOf(e audit.Event) string {
	if e.Caller == nil {
		if e.PID == 0 {
			return ""
		}
		return "brokerd"
	}
	list := append([]audit.Process{{Executable: e.Executable, Arguments: e.Arguments}}, e.Parents...)
	for i, is := range list {
		name := toolOf(is)
		if helper := name == "credproc" || peer.Helper(is.Arguments); helper && i+1 < len(list) {
			continue
		}
		return name
	}
	return ""
}

func toolOf(is audit.Process) string {
	if name := peer.ToolOf(is.Arguments); name != "" {
		return name
	}
	return filepath.Base(is.Executable)
}

// programsOf returns all names of the process that asked and of its parents.
func programsOf(e audit.Event) []string {
	names := []string{programOf(e)}
	if e.Caller == nil {
		return names
	}
	for _, is := range append([]audit.Process{{Executable: e.Executable, Arguments: e.Arguments}}, e.Parents...) {
		names = append(names, toolOf(is), filepath.Base(is.Executable))
		if len(is.Arguments) > 0 {
			names = append(names, filepath.Base(is.Arguments[0]))
		}
	}
	return names
}

func (p *program) logVerifyCommand() *cli.Command {
	return &cli.Command{
		Name:      "verify",
		Usage:     "check that no line of the log was changed or removed",
		UsageText: "broker log verify",
		Description: "Compares each line with the next one, the last one with the head that the daemon keeps, and both with what\n" +
			"journald knows. Prints a line for each finding, and ends with exit code 1 if there is one.",
		Action: p.logVerify,
	}
}

// verify checks the lines of the log, and compares them with what journald knows.
func (p *program) verify(ctx context.Context, r *audit.Reader) audit.Report {
	rep := r.Verify()
	heads, err := audit.JournalHeads(ctx, r.Path())
	switch {
	case errors.Is(err, audit.ErrNoJournal):
	case err != nil:
		p.warn([]string{"journald is not compared: " + err.Error()})
	default:
		rep.Compare(heads)
	}
	return rep
}

func (p *program) logVerify(c *cli.Context) error {
	r, err := p.openLog()
	if err != nil {
		return err
	}
	defer r.Close()
	rep := p.verify(c.Context, r)
	for _, f := range rep.Findings {
		p.raw(f.String())
	}
	if len(rep.Findings) > 0 {
		return exitError(1)
	}
	if r.Empty() {
		p.say("there is no audit log yet: %s", r.Path())
		return nil
	}
	text := fmt.Sprintf("%s in %s: each line follows the one before it, and the last one is the head",
		plural(rep.Lines, "line"), plural(rep.Files, "file"))
	if rep.Known > 0 {
		text += fmt.Sprintf("; journald knows %s of them", plural(rep.Known, "head"))
	}
	if rep.Missing > 0 {
		text += fmt.Sprintf("; the first one is of %s, after %s that rotation or another program removed",
			localTime(rep.First), plural(int(rep.Missing), "line"))
	}
	if rep.Unchained > 0 {
		text += fmt.Sprintf("; the first %s of an older version cannot be checked", plural(rep.Unchained, "line"))
	}
	p.say("%s", text)
	return nil
}
