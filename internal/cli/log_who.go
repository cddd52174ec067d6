package cli

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"broker/internal/audit"
	"broker/internal/fault"
	"broker/internal/lazyregexp"
)

func (p *program) logWhoCommand() *cli.Command {
	return &cli.Command{
		Name:  "who",
		Usage: "show which process got the session with an access key id",
		UsageText: "broker log who ASIAIOSFODNN7EXAMPLE\n" +
			"broker log who < cloudtrail-event.json",
		ArgsUsage: "[KEYID|-]",
		Description: "Without an access key id, or with -, it reads one from stdin, or the events that CloudTrail recorded: one\n" +
			"event, a file of a trail (also .json.gz), or the output of `aws cloudtrail lookup-events`. It leaves out\n" +
			"requests after the time of the event. Times are local; with --json they are UTC.",
		Flags:  []cli.Flag{&cli.BoolFlag{Name: "json", Usage: "print the lines as they are in the log"}},
		Action: p.logWho,
	}
}

// keyIDPattern matches an access key id: https://docs.aws.amazon.com/IAM/latest/APIReference/API_AccessKey.html
var keyIDPattern = lazyregexp.New(`^[A-Z0-9]{16,128}$`)

// plainPattern matches words that a command line shows without quotes.
var plainPattern = lazyregexp.New(`^[A-Za-z0-9_@%+=:,./-]+$`)

// mostEvents is how much of stdin is read, in bytes, after it was unpacked. A file of a trail has a few megabytes.
const mostEvents = 64 << 20

// eventSlack is how far the clocks of this machine and of AWS may differ.
const eventSlack = time.Minute

// usedKey is an access key id, and the time of the last event that it signed; the time is zero if it is unknown.
type usedKey struct {
	id string
	at time.Time
}

func (p *program) logWho(c *cli.Context) error {
	keys, err := p.whoKeys(c)
	if err != nil {
		return err
	}
	r, err := p.openLog()
	if err != nil {
		return err
	}
	defer r.Close()
	found := map[string][]logLine{}
	var ids []string
	for _, k := range keys {
		ids = append(ids, k.id)
	}
	var oldest time.Time
	for line := range r.Backward() {
		l := parseLine(line.Text)
		if !l.Time.IsZero() {
			oldest = l.Time
		}
		if l.KeyID != "" && slices.Contains(ids, l.KeyID) && (l.Delivery != "" || l.Event.Event == "used") {
			found[l.KeyID] = append(found[l.KeyID], l)
		}
	}
	first := true
	for _, k := range keys {
		slices.Reverse(found[k.id])
		for _, l := range p.before(k, found[k.id]) {
			if c.Bool("json") {
				p.raw(string(fault.JSON(l.text)))
				continue
			}
			if !first {
				p.say("")
			}
			first = false
			if err := p.sayWho(l.Event); err != nil {
				return err
			}
		}
	}
	if len(found) > 0 {
		for _, id := range ids {
			if found[id] == nil {
				p.warn([]string{"the log has no session with the access key id " + id})
			}
		}
		return nil
	}
	since := "the log is empty"
	if !oldest.IsZero() {
		since = "the log begins at " + localTime(oldest)
	}
	return fault.New(fault.NotFound, "the log has no session with the access key id %s; %s",
		fault.Line(strings.Join(ids, ", ")), since).WithHint("broker log --lines 0")
}

// before returns the lines of a key that were written before its last event, and says how many it left out. If there
// are none, it returns all: a clock may be wrong.
func (p *program) before(k usedKey, list []logLine) []logLine {
	n := len(list)
	if !k.at.IsZero() {
		for n > 0 && list[n-1].Time.After(k.at.Add(eventSlack)) {
			n--
		}
	}
	switch later := plural(len(list)-n, "request"); {
	case n == len(list):
		return list
	case n == 0:
		p.warn([]string{fmt.Sprintf("the log has only requests for %s after its event of %s: a clock is wrong, or lines "+
			"are missing; broker log verify", k.id, localTime(k.at))})
		return list
	default:
		p.warn([]string{fmt.Sprintf("%s for %s after its event of %s left out: %s", later, k.id, localTime(k.at),
			fault.Hintf("broker log who %s", k.id))})
	}
	return list[:n]
}

// whoKeys returns the access key ids that a person typed, or that stdin has, each once.
func (p *program) whoKeys(c *cli.Context) ([]usedKey, error) {
	typed := c.Args().First()
	if typed == "" && isTerminal(p.stdin) || c.Args().Len() > 1 {
		typed, err := one(c, "access key id")
		return []usedKey{{id: typed}}, err
	}
	if typed != "" && typed != "-" {
		if !keyIDPattern.MatchString(typed) {
			return nil, fault.New(fault.Usage, "%q is not an access key id", typed).WithHint("broker log who --help")
		}
		return []usedKey{{id: typed}}, nil
	}
	text, err := readEvents(p.stdin)
	if err != nil {
		return nil, fault.New(fault.Failed, "read stdin: %w", err)
	}
	if id := strings.TrimSpace(string(text)); keyIDPattern.MatchString(id) {
		return []usedKey{{id: id}}, nil
	}
	keys, err := eventKeys(text)
	if err != nil {
		return nil, fault.New(fault.Usage, "stdin has neither an access key id nor events of CloudTrail: %w", err).
			WithHint("broker log who --help")
	}
	return keys, nil
}

// readEvents reads a text, and unpacks it if it is gzip, as the files of a trail in S3 are.
func readEvents(stdin io.Reader) ([]byte, error) {
	in := bufio.NewReader(stdin)
	var text io.Reader = in
	if magic, _ := in.Peek(2); string(magic) == "\x1f\x8b" {
		unpacked, err := gzip.NewReader(in)
		if err != nil {
			return nil, err
		}
		text = unpacked
	}
	return io.ReadAll(io.LimitReader(text, mostEvents))
}

// eventKeys returns the access key ids that signed the calls of CloudTrail events, each once. The text has one or more
// JSON documents, each with events in any depth.
func eventKeys(text []byte) (keys []usedKey, err error) {
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case []any:
			for _, e := range v {
				walk(e)
			}
		case map[string]any:
			if who, is := v["userIdentity"].(map[string]any); is {
				id, _ := who["accessKeyId"].(string)
				if !keyIDPattern.MatchString(id) {
					return
				}
				i := slices.IndexFunc(keys, func(k usedKey) bool { return k.id == id })
				if i < 0 {
					i, keys = len(keys), append(keys, usedKey{id: id})
				}
				said, _ := v["eventTime"].(string)
				if at, err := time.Parse(time.RFC3339, said); err == nil && at.After(keys[i].at) {
					keys[i].at = at
				}
				return
			}
			// lookup-events has each event as a text.
			if event, is := v["CloudTrailEvent"].(string); is {
				var inner any
				if json.Unmarshal([]byte(event), &inner) == nil {
					walk(inner)
				}
				return
			}
			for _, name := range []string{"Records", "Events", "detail"} { // detail: an event of EventBridge
				walk(v[name])
			}
		}
	}
	for d := json.NewDecoder(bytes.NewReader(text)); ; {
		var v any
		if err := d.Decode(&v); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("it is not JSON: %w", err)
		}
		walk(v)
	}
	if len(keys) == 0 {
		return nil, errors.New("no userIdentity has an accessKeyId")
	}
	return keys, nil
}

// sayWho prints one line of the log as a block.
func (p *program) sayWho(e audit.Event) error {
	p.say("%s  %s %s to %s %s", localTime(e.Time), fault.Line(e.KeyID), fault.Line(e.Event), dash(programOf(e)),
		deliveries[e.Delivery])
	w := p.table()
	row := func(title, text string) {
		if text != "" {
			w.row("  "+title, text)
		}
	}
	row("profile", e.Profile)
	row("account", e.Account)
	row("role", e.Role)
	row("rights", string(e.Rights))
	row("agent", e.Agent)
	row("session", e.SessionName)
	row("door", e.Door)
	if e.Expires != nil {
		row("expires", localTime(*e.Expires))
	}
	if e.Caller == nil {
		row("process", process(audit.Process{PID: e.PID}))
	} else {
		row("process", process(audit.Process{PID: e.PID, Executable: e.Executable, Arguments: e.Arguments}))
		row("directory", e.Directory)
		row("terminal", e.Terminal)
		for i, parent := range e.Parents {
			title := ""
			if i == 0 {
				title = "parents"
			}
			row(title, process(parent))
		}
	}
	if err := w.print(); err != nil {
		return err
	}
	switch e.Delivery {
	case audit.Published:
		p.say("  any process of this user that could read the shared credentials file may have used it")
	case audit.PrivateFile:
		p.say("  any process that could read the private file, such as one that the command started, may have used it")
	case audit.Door:
		p.say("  any process that could use the door, also on another host or in a container, may have used it")
	case audit.Endpoint:
		p.say("  any process that the command started may have used it")
	}
	return nil
}

// process returns a process as one line, with its command line, or else its program.
func process(is audit.Process) string {
	words := make([]string, len(is.Arguments))
	for i, arg := range is.Arguments {
		words[i] = arg
		if !plainPattern.MatchString(arg) {
			words[i] = string(fault.Word(arg))
		}
	}
	text := strings.Join(words, " ")
	if text == "" {
		text = is.Executable
	}
	if is.PID == 0 {
		return text
	}
	return strconv.Itoa(is.PID) + "  " + text
}
