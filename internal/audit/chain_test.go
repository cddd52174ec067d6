//go:build unix

package audit

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// logOf writes n lines, and begins a new file when one has most bytes.
func logOf(t *testing.T, path string, n int, most int64) {
	t.Helper()
	l := New(path, func(err error) { t.Error(err) })
	l.most = most
	for i := range n {
		if err := l.Record(Event{Event: "given", Profile: "prod", PID: i}); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// verify returns the findings of a log.
func verify(t *testing.T, path string) (findings []string, rep Report) {
	t.Helper()
	r, err := OpenReader(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	r.most = 0 // the files of tests are small
	rep = r.Verify()
	for _, f := range rep.Findings {
		findings = append(findings, f.String())
	}
	return findings, rep
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func write(t *testing.T, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// finds checks that there is one finding for each of the texts, in this order.
func finds(t *testing.T, name, path string, want ...string) {
	t.Helper()
	got, _ := verify(t, path)
	ok := len(got) == len(want)
	for i := range want {
		ok = ok && strings.Contains(got[i], want[i])
	}
	if !ok {
		t.Errorf("%s: found %q, want %q", name, got, want)
	}
}

// TestChain: each line names the hash of the line before it, over a restart and a rotation, and the head is the last
// one.
func TestChain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	for range 3 {
		logOf(t, path, 4, 540)
	}
	got, rep := verify(t, path)
	if len(got) > 0 || rep.Lines != 12 || rep.Files < 3 || rep.Unchained != 0 {
		t.Errorf("found %q in %+v", got, rep)
	}
	head, _ := os.Stat(filepath.Join(filepath.Dir(path), "audit.head"))
	if head == nil || head.Mode().Perm() != 0o600 || head.Size() != headSize {
		t.Errorf("the head is %+v", head)
	}
	if r, err := OpenReader(path); err != nil || r.head.Lines != 12 {
		t.Errorf("the head is %+v, %v", r.head, err)
	}
	logOf(t, path, 100, 540) // the oldest files are gone
	if got, rep := verify(t, path); len(got) > 0 || rep.Files != keep+1 || rep.Lines > 30 {
		t.Errorf("after the rotation: found %q in %+v", got, rep)
	}
}

// TestEveryByteCounts: a change of any byte of the log, of the file that was set aside or of the head is found.
func TestEveryByteCounts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	logOf(t, path, 4, 500)
	for _, name := range []string{path, path + ".1", headPath(path)} {
		text := read(t, name)
		for i := range text {
			for _, flip := range []byte{1, 0x20, 0x80} {
				changed := bytes.Clone(text)
				changed[i] ^= flip
				write(t, name, changed)
				if got, _ := verify(t, path); len(got) == 0 {
					t.Errorf("%s: byte %d ^ %#x is not found", name, i, flip)
				}
			}
		}
		write(t, name, text)
	}
	finds(t, "unchanged", path)
}

// TestEachCutIsFound: lines and files that are missing are found, and named.
func TestEachCutIsFound(t *testing.T) {
	cutLine := func(t *testing.T, path string, n int) {
		lines := bytes.SplitAfter(read(t, path), []byte("\n"))
		write(t, path, bytes.Join(append(lines[:n-1:n-1], lines[n:]...), nil))
	}
	remove := func(name string) func(*testing.T, string) {
		return func(t *testing.T, path string) {
			if err := os.Remove(filepath.Join(filepath.Dir(path), name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, c := range map[string]struct {
		damage func(t *testing.T, path string)
		want   []string
	}{
		"nothing": {func(*testing.T, string) {}, nil},
		"first line": {func(t *testing.T, path string) { cutLine(t, path+".2", 1) },
			[]string{"audit.log.2:1: 1 line before it is missing, and there is no audit.log.3"}},
		"two lines of the only file": {func(t *testing.T, path string) {
			remove("audit.log.1")(t, path)
			remove("audit.log.2")(t, path)
			cutLine(t, path, 1)
			cutLine(t, path, 1)
		}, []string{"audit.log:1: 8 lines before it are missing, and there is no audit.log.1"}},
		"second line": {func(t *testing.T, path string) { cutLine(t, path, 2) }, []string{"audit.log:2: it does not follow"}},
		"last line": {func(t *testing.T, path string) { cutLine(t, path, 3) },
			[]string{"audit.head: the log does not have line 9, the last one"}},
		"half of the last line": {func(t *testing.T, path string) { write(t, path, read(t, path)[:len(read(t, path))-20]) },
			[]string{"audit.log:3: this is not a line", "audit.head: the log does not have line 9"}},
		"the last line end": {func(t *testing.T, path string) { write(t, path, bytes.TrimSuffix(read(t, path), []byte("\n"))) },
			[]string{"audit.log:3: the line is cut"}},
		"a line twice": {func(t *testing.T, path string) {
			lines := bytes.SplitAfter(read(t, path), []byte("\n"))
			write(t, path, bytes.Join(append(lines[:2:2], lines[1:]...), nil))
		}, []string{"audit.log:3: it does not follow"}},
		"the log":         {remove("audit.log"), []string{"audit.log: the file is missing", "audit.head: the log does not have line 9"}},
		"a middle file":   {remove("audit.log.1"), []string{"audit.log.1: the file is missing", "audit.log:1: it does not follow"}},
		"the oldest file": {remove("audit.log.2"), []string{"audit.log.1:1: 3 lines before it are missing"}},
		"the head":        {remove("audit.head"), []string{"audit.head: the head of the log is missing"}},
		"all but the head": {func(t *testing.T, path string) {
			remove("audit.log")(t, path)
			remove("audit.log.1")(t, path)
			remove("audit.log.2")(t, path)
		}, []string{"audit.head: the log does not have line 9"}},
	} {
		path := filepath.Join(t.TempDir(), "audit.log")
		logOf(t, path, 9, 540)
		if n := bytes.Count(read(t, path), []byte("\n")); n != 3 {
			t.Fatalf("the log has %d lines: the test proves nothing", n)
		}
		c.damage(t, path)
		finds(t, name, path, c.want...)
	}
}

// TestOldestFileOfRotation: rotation removes the oldest file; a person who removes it is found.
func TestOldestFileOfRotation(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	logOf(t, path, 30, 540)
	finds(t, "rotated", path)
	if err := os.Remove(fmt.Sprintf("%s.%d", path, keep)); err != nil {
		t.Fatal(err)
	}
	finds(t, "removed", path, "lines before it are missing")
}

// TestLinesMissingAtTheStart: rotation removes lines at the start, so another program can do it too. Verify says how
// many are gone, and finds what rotation cannot have done.
func TestLinesMissingAtTheStart(t *testing.T) {
	const most = 1600
	// rotated returns a log in all files, and the lines of it.
	rotated := func(t *testing.T) (path string, lines [][]byte) {
		path = filepath.Join(t.TempDir(), "audit.log")
		logOf(t, path, 90, most)
		for i := keep; i >= 0; i-- {
			text := bytes.TrimSuffix(read(t, fileOf(path, i)), []byte("\n"))
			lines = append(lines, bytes.SplitAfter(text, []byte("\n"))...)
			lines[len(lines)-1] = append(bytes.Clone(lines[len(lines)-1]), '\n')
		}
		return path, lines
	}
	check := func(t *testing.T, path string) Report {
		r, err := OpenReader(path)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		r.most = most
		return r.Verify()
	}
	path, lines := rotated(t)
	rep := check(t, path)
	if len(rep.Findings) > 0 || rep.Missing != int64(90-len(lines)) || rep.Missing == 0 || rep.Lines != len(lines) ||
		rep.First.IsZero() {
		t.Errorf("rotated: %+v", rep)
	}
	first := rep.Missing

	// The first line of the oldest file cannot be told from rotation; the number of lines shows it.
	write(t, fileOf(path, keep), bytes.Join(lines[1:bytes.Count(read(t, fileOf(path, keep)), []byte("\n"))], nil))
	if rep := check(t, path); len(rep.Findings) > 0 || rep.Missing != first+1 {
		t.Errorf("one line removed: %+v", rep)
	}

	// What is left after many lines were removed does not fill the files.
	path, lines = rotated(t)
	left := lines[len(lines)-10:]
	for i := range keep + 1 {
		write(t, fileOf(path, keep-i), bytes.Join(left[2*i:2*i+2], nil))
	}
	if rep := check(t, path); len(rep.Findings) != keep || !strings.Contains(rep.Findings[0].What, "smaller than") ||
		rep.Missing != 80 {
		t.Errorf("spread over all files: %+v", rep)
	}

	// A log whose first lines are there has a head that counts them.
	for count, finding := range map[int64]string{
		4: "the head counts 4", 5: "", 6: "the head counts 6 lines, and the log has 5",
	} {
		for _, old := range []string{"", `{"event":"start"}` + "\n", strings.Repeat(`{"event":"start"}`+"\n", 2)} {
			path := filepath.Join(t.TempDir(), "audit.log")
			write(t, path, []byte(old))
			logOf(t, path, 5-strings.Count(old, "\n"), most)
			h := Head{count, SumOf(bytes.TrimSuffix(bytes.SplitAfter(read(t, path), []byte("\n"))[4], []byte("\n")))}
			write(t, headPath(path), []byte(h.text()))
			rep := check(t, path)
			if finding == "" && len(rep.Findings) > 0 ||
				finding != "" && (len(rep.Findings) != 1 || !strings.Contains(rep.Findings[0].What, finding)) {
				t.Errorf("head of %d after %q: %+v", count, old, rep)
			}
		}
	}

	// A first line that names an earlier one, and a head that counts none.
	path, lines = rotated(t)
	h := Head{int64(len(lines)), SumOf(bytes.TrimSuffix(lines[len(lines)-1], []byte("\n")))}
	write(t, headPath(path), []byte(h.text()))
	if rep := check(t, path); len(rep.Findings) != 1 || !strings.Contains(rep.Findings[0].What, "names a line before it") {
		t.Errorf("head without the lines that are gone: %+v", rep)
	}
}

// fileOf returns the path of the log, or of one that was set aside.
func fileOf(path string, number int) string {
	if number == 0 {
		return path
	}
	return fmt.Sprintf("%s.%d", path, number)
}

// TestDamageWhileNoDaemonRuns: the next daemon writes a gap, and the chain goes on from what is there.
func TestDamageWhileNoDaemonRuns(t *testing.T) {
	for name, c := range map[string]struct {
		damage func(path string, text []byte) error
		want   []string
	}{
		"nothing":      {func(string, []byte) error { return nil }, nil},
		"removed":      {func(path string, _ []byte) error { return os.Remove(path) }, []string{"gap: " + goneRemoved}},
		"emptied":      {func(path string, _ []byte) error { return os.Truncate(path, 0) }, []string{"gap: " + goneRemoved}},
		"head removed": {func(path string, _ []byte) error { return os.Remove(headPath(path)) }, []string{"gap: " + goneHead}},
		"head emptied": {func(path string, _ []byte) error { return os.Truncate(headPath(path), 0) }, []string{"gap: " + goneHead}},
		"last line cut": {func(path string, b []byte) error {
			return os.Truncate(path, int64(bytes.LastIndexByte(b[:len(b)-1], '\n')+1))
		}, []string{"gap: " + goneCut}},
		"cut in the line": {func(path string, b []byte) error { return os.Truncate(path, int64(len(b)-9)) }, []string{"audit.log:3: this is not a line", "gap: " + goneTorn}},
	} {
		path := filepath.Join(t.TempDir(), "audit.log")
		logOf(t, path, 3, maxSize)
		if err := c.damage(path, read(t, path)); err != nil {
			t.Fatal(err)
		}
		logOf(t, path, 2, maxSize)
		finds(t, name, path, c.want...)
	}
}

// TestKilledBetweenLineAndHead: a daemon that is killed after it wrote lines and before it wrote the head leaves a
// finding, which ends with the next line. It is not a gap.
func TestKilledBetweenLineAndHead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	logOf(t, path, 2, maxSize)
	before := read(t, headPath(path))
	logOf(t, path, 2, maxSize)
	write(t, headPath(path), before)
	finds(t, "killed", path, "audit.head: after the last line that the head knows, the log has 2 lines")
	logOf(t, path, 1, maxSize)
	finds(t, "the next daemon", path)
	r, err := OpenReader(path)
	if err != nil || r.head.Lines != 5 {
		t.Errorf("the head is %+v, %v", r.head, err)
	}
}

// TestLogOfAnOlderVersion: its lines are not chained, and that is no finding. The lines after it are.
func TestLogOfAnOlderVersion(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	write(t, path, []byte(`{"event":"start"}`+"\n"+`{"event":"given"}`+"\n"))
	finds(t, "alone", path)
	logOf(t, path, 2, maxSize)
	if got, rep := verify(t, path); len(got) > 0 || rep.Unchained != 2 || rep.Lines != 4 {
		t.Errorf("found %q in %+v", got, rep)
	}
	text := read(t, path)
	write(t, path, bytes.Replace(text, []byte(`"given"`), []byte(`"taken"`), 1))
	finds(t, "changed", path, "audit.log:3: it does not follow")
}

// TestTwoDaemonsAtATime: during a restart, two daemons write to the log, and the chain holds, also over rotations.
func TestTwoDaemonsAtATime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	var wg sync.WaitGroup
	for range 3 {
		l := New(path, func(err error) { t.Error(err) })
		l.most = 10 << 10
		defer func() { _ = l.Close() }()
		wg.Go(func() {
			for i := range 40 {
				_ = l.Record(Event{Event: "given", PID: i}, Event{Event: "given", PID: i})
			}
		})
	}
	wg.Wait()
	got, rep := verify(t, path)
	if len(got) > 0 || rep.Lines != 240 || rep.Files < 2 {
		t.Errorf("found %q in %d lines of %d files", got, rep.Lines, rep.Files)
	}
}

// TestStoppedWriter: a program that holds the lock of the head does not stop the daemon.
func TestStoppedWriter(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	logOf(t, path, 1, maxSize)
	f, err := os.Open(headPath(path))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	l := New(path, func(err error) { t.Error(err) })
	l.chain.patience = 10 * time.Millisecond
	record := func() {
		t.Helper()
		if err := l.Record(Event{Event: "given"}); err != nil {
			t.Fatal(err)
		}
	}
	record()
	l.chain.patience = time.Hour // and now it does not wait
	record()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_UN); err != nil {
		t.Fatal(err)
	}
	record()
	if l.chain.stuck {
		t.Error("it never waits again")
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	finds(t, "written", path)
}

// TestFullDisk: all lines of a decision are written, or none, and the chain holds.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "audit.log")
	l := New(path, func(error) {})
	if err := l.Record(Event{Event: "given"}); err != nil {
		t.Fatal(err)
	}
	working := l.file
	var err error
	if l.file, err = os.OpenFile("/dev/full", os.O_WRONLY, 0); err != nil {
		t.Skip("no /dev/full on this system")
	}
	if err := l.Record(Event{Event: "given"}, Event{Event: "given"}); !errors.Is(err, syscall.ENOSPC) {
		t.Error(err)
	}
	l.file = working
	finds(t, "nothing is written", path)
	if err := l.Record(Event{Event: "given"}); err != nil {
		t.Error(err)
	}
	finds(t, "gap", path, "audit.log:2: gap: 2 lines could not be written")
}

// TestFollow: each new line comes once, over a rotation and a removal.
func TestFollow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	logOf(t, path, 3, maxSize)
	r, err := OpenReader(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	enough := errors.New("enough")
	got := make(chan string, 100)
	done := make(chan error)
	go func() {
		done <- r.Follow(t.Context(), func(line Line) error {
			got <- string(line.Text)
			if strings.Contains(string(line.Text), `"pid":99`) {
				return enough
			}
			return nil
		})
	}()
	l := New(path, func(err error) { t.Error(err) })
	record := func(pid int) {
		t.Helper()
		if err := l.Record(Event{Event: "given", PID: pid}); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(want string) {
		t.Helper()
		if line := <-got; !strings.Contains(line, want) {
			t.Fatalf("got %s, want %s", line, want)
		}
	}
	record(10)
	record(11)
	expect(`"pid":10,`)
	expect(`"pid":11,`)
	record(12)
	l.most = 1 // set aside
	record(13)
	l.most = maxSize
	record(14)
	for _, want := range []string{`"pid":12,`, `"pid":13,`, `"pid":14,`} {
		expect(want)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	record(99)
	expect(`"gap"`)
	expect(`"pid":99,`)
	if err := <-done; !errors.Is(err, enough) {
		t.Error(err)
	}
}

// journal is a journald that keeps what it is sent.
func journal(t *testing.T) (socket string, conn *net.UnixConn) {
	t.Helper()
	dir, err := os.MkdirTemp("", "j-") // a short path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket = filepath.Join(dir, "s")
	conn, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return socket, conn
}

// received returns all datagrams that were sent so far.
func received(t *testing.T, conn *net.UnixConn) (list []string) {
	t.Helper()
	b := make([]byte, 4096)
	for {
		_ = conn.SetReadDeadline(time.Now().Add(10 * time.Millisecond)) // what was sent is there already
		n, err := conn.Read(b)
		if err != nil {
			return list
		}
		list = append(list, string(b[:n]))
	}
}

// TestJournalGetsTheHead: at the first line, at most once a minute, at a rotation, and at the end.
func TestJournalGetsTheHead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	socket, conn := journal(t)
	l := New(path, func(err error) { t.Error(err) })
	l.Journal = socket
	now := time.Now()
	l.now = func() time.Time { return now }
	step := func(name string, want int) {
		t.Helper()
		got := received(t, conn)
		if len(got) != want {
			t.Errorf("%s: got %d datagrams, want %d: %q", name, len(got), want, got)
		}
		if want > 0 && len(got) > 0 && !strings.Contains(got[0], fmt.Sprintf("\n%s=%s\n%s=%d\n%s=%s\n",
			journalLog, path, journalLines, l.chain.Lines, journalHead, l.chain.Sum)) {
			t.Errorf("%s: %q", name, got[0])
		}
	}
	line := func() {
		if err := l.Record(Event{Event: "given"}); err != nil {
			t.Error(err)
		}
	}
	line()
	step("the first line", 1)
	line()
	line()
	step("the same minute", 0)
	now = now.Add(journalInterval)
	line()
	step("a minute later", 1)
	l.most = 1
	line()
	step("a rotation", 1)
	l.most = maxSize
	line()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	step("the end", 1)
}

// TestJournalThatDoesNotRead: a journald that is missing or stuck neither stops nor fails a line.
func TestJournalThatDoesNotRead(t *testing.T) {
	socket, _ := journal(t)
	for _, at := range []string{socket, filepath.Join(t.TempDir(), "missing")} {
		l := New(filepath.Join(t.TempDir(), "audit.log"), func(err error) { t.Error(err) })
		l.Journal, l.most = at, 1 // each line is a rotation
		for range 100 {           // more than a socket holds
			if err := l.Record(Event{Event: "given"}); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestCompare: heads that the journal knows and the log does not have are found, but not those that rotation removed.
func TestCompare(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	logOf(t, path, 4, maxSize)
	var heads []JournalHead
	for i, line := range bytes.SplitAfter(read(t, path), []byte("\n"))[:4] {
		heads = append([]JournalHead{{Head{int64(i + 1), SumOf(bytes.TrimSpace(line))}, time.Now()}}, heads...)
	}
	_, rep := verify(t, path)
	rep.Compare(heads)
	if len(rep.Findings) > 0 || rep.Known != 4 {
		t.Errorf("unchanged: %+v", rep)
	}
	// All is written again, with a chain that fits.
	if err := errors.Join(os.Remove(path), os.Remove(headPath(path))); err != nil {
		t.Fatal(err)
	}
	l := New(path, func(err error) { t.Error(err) })
	l.now = func() time.Time { return time.Unix(0, 0) }
	for range 4 {
		l.Record(Event{Event: "given", Profile: "dev"})
	}
	_ = l.Close()
	_, rep = verify(t, path)
	if len(rep.Findings) > 0 {
		t.Errorf("the files alone: %+v", rep)
	}
	rep.Compare(heads)
	if len(rep.Findings) != 1 || !strings.Contains(rep.Findings[0].String(), "line 4") ||
		!strings.Contains(rep.Findings[0].String(), "3 others") {
		t.Errorf("rewritten: %+v", rep.Findings)
	}
	// Heads that are older than the log are skipped, but a raised count must not make all of them old.
	for name, c := range map[string]struct {
		newest []JournalHead
		want   string
	}{
		"rotated":     {[]JournalHead{{Head{10, "x"}, time.Now()}}, ""},
		"raised":      {nil, "no line of the log is known there"},
		"other count": {[]JournalHead{{Head{7, "x"}, time.Now()}}, "line 7 of "},
	} {
		rep := Report{sums: map[string]int{"x": 0}, Lines: 1, head: Head{10, "x"}}
		rep.Compare(append(c.newest, heads...))
		if c.want == "" && len(rep.Findings) > 0 ||
			c.want != "" && (len(rep.Findings) != 1 || !strings.Contains(rep.Findings[0].What, c.want)) {
			t.Errorf("%s: %+v", name, rep.Findings)
		}
	}
}
