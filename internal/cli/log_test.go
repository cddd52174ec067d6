//go:build unix

package cli

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"broker/internal/audit"
)

const someKey = "ASIAIOSFODNN7EXAMPLE"

// awsProcess is an AWS CLI that started credproc.
func awsProcess() *audit.Caller {
	return &audit.Caller{Start: "boot/1", Executable: "credproc", Arguments: []string{"/usr/bin/credproc", "prod"},
		Directory: "/srv/infra", Terminal: "/dev/pts/7", Parents: []audit.Process{
			{PID: 20, Executable: "/usr/bin/python3.13", Arguments: []string{"/usr/bin/python3", "/usr/bin/aws", "s3", "ls"}},
			{PID: 10, Executable: "/usr/bin/bash", Arguments: []string{"-bash"}}}}
}

// logged runs broker in a home that has a log with these events.
func logged(t *testing.T, events []audit.Event, stdin string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	home := t.TempDir()
	state := filepath.Join(home, "state")
	if err := os.Mkdir(state, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("HOME", home)
	t.Setenv("BROKER_STATE_DIR", state)
	t.Setenv("BROKER_CONFIG", filepath.Join(home, "registry"))
	t.Setenv("PATH", home) // no journalctl
	log := audit.New(filepath.Join(state, "audit.log"), func(err error) { t.Error(err) })
	for _, e := range events {
		if err := log.Record(e); err != nil {
			t.Fatal(err)
		}
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	return again(stdin, args...)
}

// again runs broker in the same home.
func again(stdin string, args ...string) (stdout, stderr string, code int) {
	var out, problems bytes.Buffer
	code = newProgram(strings.NewReader(stdin), &out, &problems).main(append([]string{"broker"}, args...))
	return out.String(), problems.String(), code
}

func someEvents() []audit.Event {
	expires := time.Date(2099, 1, 2, 3, 4, 5, 0, time.UTC)
	return []audit.Event{
		{Event: "start", PID: 1},
		{Event: "given", Profile: "prod", Account: "444455556666", Role: "arn:aws:iam::444455556666:role/admin",
			SessionName: "paul@host", KeyID: someKey, Expires: &expires, Delivery: audit.Reply, PID: 30, Caller: awsProcess()},
		{Event: "refused", Profile: "dev", Kind: "denied", Message: "AWS denied the call", PID: 31, Caller: awsProcess()},
		{Event: "published", Profile: "prod", KeyID: "ASIAI44QH8DHBEXAMPLE", Delivery: audit.Published, PID: 1},
		{Event: "unpublished", Profile: "prod", KeyID: "ASIAI44QH8DHBEXAMPLE", PID: 1},
	}
}

// TestLogTable: one row for each line, the newest last, with the tool behind credproc and the reason.
func TestLogTable(t *testing.T) {
	for args, want := range map[string][]string{
		"log":                      {"start", "given prod aws 30 pts/7 /srv/infra as a reply", "refused dev aws 31 pts/7 /srv/infra AWS denied", "published", "unpublished"},
		"log --lines 2":            {"published prod brokerd 1 - in the credentials file", "unpublished prod brokerd 1 - -"},
		"log -n 2":                 {"published", "unpublished"},
		"log --lines 0":            {"start", "given", "refused", "published", "unpublished"},
		"log --profile dev":        {"refused"},
		"log --program aws":        {"given", "refused"},
		"log --program bash":       {"given", "refused"},
		"log --program credproc":   {"given", "refused"},
		"log --program python3.13": {"given", "refused"},
		"log --since 1h":           {"start", "given", "refused", "published", "unpublished"},
		"log --since 2199-01-01":   nil,
		"log --program terraform":  nil,
	} {
		out, problems, code := logged(t, someEvents(), "", strings.Fields(args)...)
		lines := strings.Split(strings.TrimSpace(out), "\n")
		if code != 0 || problems != "" && args != "log --program terraform" {
			t.Errorf("%s: %d, %s", args, code, problems)
		}
		if len(want) == 0 {
			if out != "no lines\n" {
				t.Errorf("%s: %s", args, out)
			}
			continue
		}
		if len(lines) != 1+len(want) || !strings.HasPrefix(lines[0], "TIME ") {
			t.Errorf("%s: %s", args, out)
			continue
		}
		for i, row := range lines[1:] {
			fields := strings.Fields(row)
			if got := strings.Join(fields[2:], " "); !strings.HasPrefix(got+" ", want[i]) {
				t.Errorf("%s: row %d is %q, want %q", args, i, got, want[i])
			}
		}
	}
}

// TestLogNamesTheDoor: each line about a door has its name.
func TestLogNamesTheDoor(t *testing.T) {
	events := []audit.Event{
		{Event: "door", Profile: "prod", Delivery: audit.Door, Door: "work", PID: 31, Caller: awsProcess()},
		{Event: "given", Profile: "prod", Delivery: audit.Door, Door: "work", Rights: audit.ReadOnly, PID: 31},
		{Event: "refused", Profile: "prod", Delivery: audit.Door, Door: "work", Message: "Broker is locked", PID: 31},
		{Event: "door_closed", Profile: "prod", Delivery: audit.Door, Door: "work", Reason: "closed", PID: 1},
	}
	out, problems, code := logged(t, events, "", "log")
	want := []string{" door work", " door work, read-only", " door work: Broker is locked", " door work: closed"}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if code != 0 || problems != "" || len(lines) != 1+len(want) {
		t.Fatalf("%d\n%s%s", code, out, problems)
	}
	for i, line := range lines[1:] {
		if !strings.HasSuffix(line, want[i]) {
			t.Errorf("%q does not end in %q", line, want[i])
		}
	}
}

// TestLogJSON: the lines are printed as they are.
func TestLogJSON(t *testing.T) {
	out, _, code := logged(t, someEvents(), "", "log", "--json", "--lines", "0")
	text, err := os.ReadFile(filepath.Join(os.Getenv("BROKER_STATE_DIR"), "audit.log"))
	if err != nil || code != 0 || out != string(text) {
		t.Errorf("%d, %v, %s", code, err, out)
	}
}

// TestLogWho: the id of a session leads to the process, with its command line and its parents.
func TestLogWho(t *testing.T) {
	event := `{"eventName":"ListBuckets","userIdentity":{"type":"AssumedRole","accessKeyId":"` + someKey + `"}}`
	for name, tt := range map[string]struct {
		args, stdin  string
		want, refuse string // on stdout, and on stderr
		code         int
	}{
		"typed":           {"log who " + someKey, "", "30  /usr/bin/credproc prod", "", 0},
		"its tool":        {"log who " + someKey, "", "given to aws as a reply", "", 0},
		"its parent":      {"log who " + someKey, "", "20  /usr/bin/python3 /usr/bin/aws s3 ls", "", 0},
		"its directory":   {"log who " + someKey, "", "/srv/infra", "", 0},
		"its account":     {"log who " + someKey, "", "444455556666", "", 0},
		"published":       {"log who ASIAI44QH8DHBEXAMPLE", "", "could read the shared credentials file may have used it", "", 0},
		"stdin":           {"log who", someKey + "\n", "credproc prod", "", 0},
		"dash":            {"log who -", someKey + "\n", "credproc prod", "", 0},
		"an event":        {"log who", event, "credproc prod", "", 0},
		"a trail":         {"log who", `{"Records":[` + event + `,{"userIdentity":{"type":"AWSService"}}]}`, "credproc prod", "", 0},
		"lookup-events":   {"log who", `{"Events":[{"EventId":"x","CloudTrailEvent":` + fmt.Sprintf("%q", event) + `}]}`, "credproc prod", "", 0},
		"two":             {"log who", event + event, "credproc prod", "", 0},
		"json":            {"log who --json " + someKey, "", `"session_name":"paul@host"`, "", 0},
		"unknown":         {"log who ASIAZZZZZZZZZZZZZZZZ", "", "", "the log begins at", 3},
		"no id":           {"log who x", "", "", "is not an access key id", 2},
		"nothing":         {"log who", "", "", "no userIdentity has an accessKeyId", 2},
		"no events":       {"log who", "{}", "", "no userIdentity has an accessKeyId", 2},
		"no JSON":         {"log who", "{", "", "it is not JSON", 2},
		"too many":        {"log who a b", "", "", "takes one access key id", 2},
		"hostile event":   {"log who", `{"userIdentity":{"accessKeyId":"\u001b[2J"}}`, "", "no userIdentity has an accessKeyId", 2},
		"known, not both": {"log who", event + strings.ReplaceAll(event, someKey, "ASIAZZZZZZZZZZZZZZZZ"), "credproc prod", "no session with the access key id ASIAZ", 0},
	} {
		out, problems, code := logged(t, someEvents(), tt.stdin, strings.Fields(tt.args)...)
		if code != tt.code || !strings.Contains(out, tt.want) || !strings.Contains(problems, tt.refuse) ||
			tt.refuse == "" && problems != "" || strings.Contains(out, "unpublished") {
			t.Errorf("%s: %d\n%s\n%s", name, code, out, problems)
		}
	}
}

// TestLogWhoAtATime: requests after the event cannot be the one. Without a request before it, all are shown: a clock
// may be wrong. A file of a trail is gzip.
func TestLogWhoAtATime(t *testing.T) {
	now := time.Now()
	event := func(at time.Time) string {
		return `{"eventTime":"` + at.UTC().Format(time.RFC3339) + `","userIdentity":{"accessKeyId":"` + someKey + `"}}`
	}
	logged(t, someEvents(), "", "log")
	path := filepath.Join(os.Getenv("BROKER_STATE_DIR"), "audit.log")
	later := now.Add(time.Hour).UTC().Format("2006-01-02T15:04:05.000Z")
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintf(f, `{"time":%q,"event":"given","profile":"later","key_id":%q,"delivery":"reply","pid":77}`+"\n",
		later, someKey); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	_, err = w.Write([]byte(`{"Records":[` + event(now) + `]}`))
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		stdin string
		want  []string // profiles
		says  string
	}{
		"now":                      {event(now), []string{"prod"}, "1 request for " + someKey + " after its event of "},
		"a file of a trail":        {packed.String(), []string{"prod"}, "1 request for " + someKey},
		"with clocks that differ":  {event(now.Add(-30 * time.Second)), []string{"prod"}, "1 request for "},
		"later":                    {event(now.Add(2 * time.Hour)), []string{"prod", "later"}, ""},
		"the last event counts":    {event(now.Add(2*time.Hour)) + event(now), []string{"prod", "later"}, ""},
		"before all":               {event(now.Add(-time.Hour)), []string{"prod", "later"}, "has only requests for "},
		"no time":                  {`{"userIdentity":{"accessKeyId":"` + someKey + `"}}`, []string{"prod", "later"}, ""},
		"a time that is no time":   {`{"eventTime":"x","userIdentity":{"accessKeyId":"` + someKey + `"}}`, []string{"prod", "later"}, ""},
		"a time that is no string": {`{"eventTime":7,"userIdentity":{"accessKeyId":"` + someKey + `"}}`, []string{"prod", "later"}, ""},
	} {
		out, problems, code := again(tt.stdin, "log", "who")
		var got []string
		for line := range strings.Lines(out) {
			if name, is := strings.CutPrefix(strings.TrimSpace(line), "profile "); is {
				got = append(got, strings.TrimSpace(name))
			}
		}
		if code != 0 || !slices.Equal(got, tt.want) || !strings.Contains(problems, tt.says) ||
			(tt.says == "") != (problems == "") {
			t.Errorf("%s: %d %q\n%s\n%s", name, code, got, out, problems)
		}
	}
	if _, problems, code := again("\x1f\x8bx", "log", "who"); code != 1 || !strings.HasPrefix(problems, "broker: read stdin: ") {
		t.Errorf("broken gzip: %d %s", code, problems)
	}
}

// TestLogVerify: exit code 0 with a summary, or 1 with a line for each finding.
func TestLogVerify(t *testing.T) {
	out, problems, code := logged(t, someEvents(), "", "log", "verify")
	if code != 0 || problems != "" || !strings.HasPrefix(out, "5 lines in 1 file: ") {
		t.Errorf("%d, %s, %s", code, out, problems)
	}
	path := filepath.Join(os.Getenv("BROKER_STATE_DIR"), "audit.log")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(text, []byte("\n"))
	last := strings.TrimSpace(string(lines[4]))
	// A journald that knows another last line, and this one.
	journal := func(heads ...string) {
		script := "#!/bin/sh\ncat <<'E'\n"
		for _, sum := range heads {
			script += fmt.Sprintf(`{"__REALTIME_TIMESTAMP":"1700000000000000","BROKER_AUDIT_LINES":"5",`+
				`"BROKER_AUDIT_HEAD":"%s"}`+"\n", sum)
		}
		if err := os.WriteFile(filepath.Join(os.Getenv("PATH"), "journalctl"), []byte(script+"E\n"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	path0 := os.Getenv("PATH")
	cat, err := findCat()
	if err := errors.Join(err, os.Symlink(cat, filepath.Join(path0, "cat"))); err != nil {
		t.Fatal(err)
	}
	journal(audit.SumOf([]byte(last)))
	if out, problems, code := again("", "log", "verify"); code != 0 || !strings.Contains(out, "journald knows 1 head of them") {
		t.Errorf("journald agrees: %d, %s, %s", code, out, problems)
	}
	journal(strings.Repeat("0", 64), audit.SumOf([]byte(last)))
	if out, _, code := again("", "log", "verify"); code != 1 || !strings.HasPrefix(out, "journald: the log does not have line 5 ") {
		t.Errorf("journald disagrees: %d, %s", code, out)
	}
	if err := os.Remove(filepath.Join(path0, "journalctl")); err != nil {
		t.Fatal(err)
	}
	changed := bytes.Replace(text, []byte("denied the"), []byte("allowed th"), 1)
	if err := os.WriteFile(path, changed, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, problems, code := again("", "log", "verify"); code != 1 || problems != "" ||
		out != "audit.log:4: it does not follow the line before it: a line was changed, added or removed\n" {
		t.Errorf("changed: %d, %s, %s", code, out, problems)
	}
}

func findCat() (string, error) {
	for _, path := range []string{"/bin/cat", "/usr/bin/cat"} {
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", errors.New("there is no cat")
}

// TestProgramOf: the tool as people know it.
func TestProgramOf(t *testing.T) {
	credproc := audit.Process{Executable: "credproc", Arguments: []string{"credproc", "prod"}}
	for want, list := range map[string][]audit.Process{
		"aws":      {credproc, {Arguments: []string{"/usr/bin/python3", "/usr/bin/aws"}}},
		"node":     {credproc, {Arguments: []string{"/bin/sh", "-c", "credproc prod"}}, {Arguments: []string{"node"}}},
		"deploy":   {credproc, {Arguments: []string{"bash", "/x/deploy"}}},
		"credproc": {credproc},
		"bash":     {{Arguments: []string{"-bash"}}},
		"tf":       {{Arguments: []string{"/usr/bin/broker", "exec", "prod", "--", "/opt/tf", "plan"}}},
		"broker":   {{Arguments: []string{"broker", "login"}}},
		"hidden":   {{Executable: "hidden"}},
	} {
		e := audit.Event{PID: 1, Caller: &audit.Caller{Executable: list[0].Executable, Arguments: list[0].Arguments,
			Parents: list[1:]}}
		if got := programOf(e); got != want {
			t.Errorf("%+v: %q, want %q", list, got, want)
		}
		if !slices.Contains(programsOf(e), want) {
			t.Errorf("%q is not found: %q", want, programsOf(e))
		}
	}
}

// TestLogOfAnUnknownName: a name that no line has is a warning, also where other limits leave no lines. A name that
// only other lines have gives no warning.
func TestLogOfAnUnknownName(t *testing.T) {
	for args, want := range map[string]string{
		"log --profile prud":                       `warning: the log has no profile or source "prud"; did you mean prod?`,
		"log --program teraform --profile nothing": "warning: the log has no profile or source \"nothing\"\nwarning: the log has no program \"teraform\"",
		"log --json --program awss":                `warning: the log has no program "awss"; did you mean aws?`,
		"log --profile prod --since 2199-01-01":    "",
		"log --profile dev --program brokerd":      "",
	} {
		out, problems, code := logged(t, someEvents(), "", strings.Fields(args)...)
		if strings.TrimSpace(problems) != want || code != 0 || strings.Contains(out, "TIME") {
			t.Errorf("%s: %d, %s\n%s", args, code, out, problems)
		}
	}
	if out, problems, _ := logged(t, nil, "", "log", "--profile", "prud"); out != "no lines\n" || problems != "" {
		t.Errorf("without a log: %s\n%s", out, problems)
	}
}

// TestParseSince: a duration needs a unit; a time without a zone is local. Each form that the help names works.
func TestParseSince(t *testing.T) {
	zone := time.FixedZone("", 3600)
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, zone)
	for text, want := range map[string]string{
		"2h":                        "2026-11-28T10:00:00+01:00",
		"1h30m":                     "2026-11-28T10:30:00+01:00",
		"0":                         "2026-11-28T12:00:00+01:00",
		"1d":                        "2026-11-27T12:00:00+01:00",
		"7d":                        "2026-11-21T12:00:00+01:00",
		"1d12h":                     "2026-11-27T00:00:00+01:00",
		"2026-11-27":                "2026-11-27T00:00:00+01:00",
		"2026-11-27 09:30":          "2026-11-27T09:30:00+01:00",
		"2026-11-27 09:30:15":       "2026-11-27T09:30:15+01:00",
		"2026-11-27T09:30:15Z":      "2026-11-27T09:30:15Z",
		"2026-11-27T09:30:15+02:00": "2026-11-27T09:30:15+02:00",
		"2026-11-27T09:30":          "2026-11-27T09:30:00+01:00",
		"2026-11-27T09:30:15":       "2026-11-27T09:30:15+01:00",
		"2":                         "", "yesterday": "", "-2h": "", "": "", "2026-13-01": "", "d": "", "-1d": "", "1.5d": "",
		"1d2": "", "1d1d": "", "99999999d": "",
	} {
		got, err := parseSince(text, now)
		if want == "" && err == nil || want != "" && (err != nil || got.Format(time.RFC3339) != want) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for form := range strings.SplitSeq(strings.ReplaceAll(sinceForms, " or ", ", "), ", ") {
		if _, err := parseSince(strings.Trim(form, `"`), now); err != nil {
			t.Errorf("%s, which the help names: %v", form, err)
		}
	}
}
