//go:build unix

package audit

import (
	"bufio"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"unicode/utf8"

	"broker/internal/fault"
)

func lines(t *testing.T, path string) []Event {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var list []Event
	for s := bufio.NewScanner(f); s.Scan(); {
		var e Event
		if err := json.Unmarshal(s.Bytes(), &e); err != nil {
			t.Fatalf("line %d is not JSON: %v", len(list)+1, err)
		}
		list = append(list, e)
	}
	return list
}

func TestOneLineEach(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	l := New(path, func(err error) { t.Error(err) })
	hostile := "a\n{\"event\":\"given\"}\x1b[2J\x00"
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				l.Record(Event{Event: "refused", Profile: hostile, Kind: fault.Denied})
			}
		})
	}
	wg.Wait()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	got := lines(t, path)
	if len(got) != 400 {
		t.Fatalf("%d lines, want 400", len(got))
	}
	for _, e := range got {
		if e.Event != "refused" || e.Profile != fault.Line(hostile) || e.Time.IsZero() {
			t.Fatalf("forged or cut: %+v", e)
		}
	}
	raw, _ := os.ReadFile(path)
	if strings.ContainsAny(string(raw), "\x1b\x00") {
		t.Error("the log contains raw control characters")
	}
	if info, _ := os.Stat(path); info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode().Perm())
	}
}

// TestTextsAreEscaped: no text of an event can control a terminal that shows the log or its decoded lines.
func TestTextsAreEscaped(t *testing.T) {
	const hostile = "a\u009b2J\u202eb\u200b\U000e0041\x7f\xff\nc"
	path := filepath.Join(t.TempDir(), "audit.log")
	l := New(path, func(err error) { t.Error(err) })
	e := Event{Event: "given"}
	fields := 0
	for _, field := range reflect.ValueOf(&e).Elem().Fields() {
		if field.Kind() == reflect.String && field.String() == "" {
			field.SetString(hostile)
			fields++
		}
	}
	if fields < 9 {
		t.Fatalf("only %d texts: the test proves nothing", fields)
	}
	if err := l.Record(e); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	unprintable := func(r rune) bool { return !fault.Printable(r) || r == utf8.RuneError }
	if line := strings.TrimSuffix(string(text), "\n"); strings.ContainsFunc(line, unprintable) {
		t.Errorf("in the log: %q", line)
	}
	got := reflect.ValueOf(lines(t, path)[0])
	for f, field := range got.Fields() {
		if field.Kind() == reflect.String && strings.ContainsFunc(field.String(), unprintable) {
			t.Errorf("%s is %q", f.Name, field.String())
		}
	}
}

func TestGapIsLogged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	warned := 0
	l := New(path, func(error) { warned++ })
	if err := l.Record(Event{Event: "given", Profile: "before"}); err != nil || l.Failing() != nil {
		t.Fatal(err, l.Failing())
	}
	working := l.file
	// /dev/full fails every write with "no space left on device".
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip("no /dev/full on this system")
	}
	l.file = full
	for range 3 {
		if err := l.Record(Event{Event: "given"}); !errors.Is(err, syscall.ENOSPC) || !errors.Is(l.Failing(), syscall.ENOSPC) {
			t.Errorf("a full disk: %v, %v", err, l.Failing())
		}
	}
	l.file = working
	if err := l.Record(Event{Event: "given", Profile: "after"}); err != nil || l.Failing() != nil {
		t.Error(err, l.Failing())
	}
	got := lines(t, path)
	if warned != 1 || len(got) != 3 || got[1].Event != "gap" || got[1].Missed != 3 || got[2].Profile != "after" {
		t.Errorf("warned %d times, log %+v", warned, got)
	}
}

// TestLogIsLookedAt: each line goes to the file at the log's path, and the first line after a change of that file
// reports it. A log that was set aside is not a gap.
func TestLogIsLookedAt(t *testing.T) {
	for name, c := range map[string]struct {
		damage func(path string) error
		gap    string
	}{
		"nothing":   {func(string) error { return nil }, ""},
		"removed":   {os.Remove, "was removed"},
		"truncated": {func(path string) error { return os.Truncate(path, 0) }, "was truncated"},
		"replaced": {func(path string) error {
			return errors.Join(os.Rename(path, path+".x"), os.WriteFile(path, nil, 0o600))
		}, "was replaced"},
		"set aside": {func(path string) error {
			return errors.Join(os.Rename(path, path+".1"), os.WriteFile(path, nil, 0o600))
		}, ""},
	} {
		path := filepath.Join(t.TempDir(), "audit.log")
		l := New(path, func(err error) { t.Error(err) })
		err := errors.Join(l.Record(Event{Event: "given"}), c.damage(path), l.Record(Event{Event: "given", Profile: "after"}))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		got := lines(t, path)
		if len(got) == 0 || got[len(got)-1].Profile != "after" {
			t.Errorf("%s: the line is not there: %+v", name, got)
		}
		gap := slices.IndexFunc(got, func(e Event) bool { return e.Event == "gap" })
		if (gap >= 0) != (c.gap != "") || gap >= 0 && (gap != 0 || !strings.Contains(got[0].Message, c.gap)) {
			t.Errorf("%s: %+v", name, got)
		}
		_ = l.Close()
	}
}

// BenchmarkRecord writes one line, including the check of the file before it.
func BenchmarkRecord(b *testing.B) {
	l := New(filepath.Join(b.TempDir(), "audit.log"), func(err error) { b.Error(err) })
	for b.Loop() {
		_ = l.Record(Event{Event: "given", Profile: "x"})
	}
}

// TestTurnsOver: a full log is set aside, and only the newest files are kept.
func TestTurnsOver(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	l := New(path, func(err error) { t.Error(err) })
	l.most = 1 // each line fills a file
	for i := range keep + 3 {
		l.Record(Event{Event: "given", PID: i})
	}
	files, _ := filepath.Glob(path + "*")
	if len(files) != keep+1 {
		t.Errorf("%d files, want %d: %v", len(files), keep+1, files)
	}
	if got := lines(t, path); len(got) != 1 || got[0].PID != keep+2 {
		t.Errorf("the newest line is not in the newest file: %+v", got)
	}
}

func TestRefusesLinksAndPipes(t *testing.T) {
	dir := t.TempDir()
	if err := errors.Join(os.Symlink(filepath.Join(dir, "elsewhere"), filepath.Join(dir, "link")),
		syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"link", ".", "fifo", "missing/audit.log"} {
		warned := 0
		l := New(filepath.Join(dir, name), func(error) { warned++ })
		for range 2 {
			if l.Record(Event{Event: "given"}) == nil {
				t.Errorf("wrote to %s", name)
			}
		}
		if err := l.Close(); err != nil || warned != 1 {
			t.Errorf("%s: warned %d times, %v", name, warned, err)
		}
	}
}

// TestRecent: each name once, the latest first, also from a log that was set aside; invalid lines are skipped.
func TestRecent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	if got := Recent(path); len(got) != 0 {
		t.Errorf("no log: %v", got)
	}
	write := func(path string, lines ...string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	given := func(name string) string { return `{"event":"given","profile":"` + name + `"}` }
	write(path+".1", given("older"), given("prod"))
	write(path, given("prod"), given("dev"), `{"event":"refused","profile":"stage"}`, `{"event":"given","profile":`, given("prod"), `half a li`)
	if got := Recent(path); !slices.Equal(got, []string{"prod", "dev", "older"}) {
		t.Error(got)
	}
	// It reads only the end of a long log.
	write(path, given("gone"), strings.Repeat(given("many")+"\n", recentTail/20), given("last"))
	if got := Recent(path); !slices.Equal(got, []string{"last", "many"}) {
		t.Error(got)
	}
}
