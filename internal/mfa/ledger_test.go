//go:build unix

package mfa

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"broker/internal/secret"
	"broker/internal/testproc"
)

// TestMain also lets the test binary play the process that claims a code and is killed.
func TestMain(m *testing.M) {
	if len(os.Args) == 5 && os.Args[1] == "claim" {
		os.Exit(claimProcess(os.Args[2], os.Args[3], os.Args[4]))
	}
	os.Exit(testproc.Run(m))
}

// claimProcess claims a code and prints the result, at the point where a vault would send the code.
func claimProcess(dir, serial, code string) int {
	err := Ledger{Dir: dir}.Claim(serial, secret.New(code), time.Now())
	var spent *SpentError
	switch {
	case errors.As(err, &spent):
		fmt.Println("spent")
	case err != nil:
		fmt.Println("error:", err)
	default:
		fmt.Println("sent")
		time.Sleep(time.Hour) // is killed between claim and use
	}
	return 0
}

const serial = "arn:aws:iam::111122223333:mfa/paul"

func code(s string) secret.String { return secret.New(s) }

// base is the start of a period.
var base = time.Unix(1_700_000_010, 0)

func TestClaim(t *testing.T) {
	l := Ledger{Dir: filepath.Join(t.TempDir(), "state")}
	claim := func(serial, c string, at time.Time) *SpentError {
		t.Helper()
		err := l.Claim(serial, code(c), at)
		var spent *SpentError
		if err != nil && !errors.As(err, &spent) {
			t.Fatal(err)
		}
		return spent
	}
	if s := claim(serial, "123456", base.Add(5*time.Second)); s != nil {
		t.Fatalf("first use: %v", s)
	}
	if s := claim(serial, "123456", base.Add(7*time.Second)); s == nil || !s.Next.Equal(base.Add(30*time.Second)) ||
		s.Damaged != "" {
		t.Fatalf("second use: %+v", s)
	}
	if s := claim(serial, "123456", base.Add(65*time.Second)); s == nil || !s.Next.Equal(base.Add(90*time.Second)) {
		t.Fatalf("use two steps later: %+v", s)
	}
	if s := claim(serial, "654321", base.Add(7*time.Second)); s != nil {
		t.Errorf("another code: %v", s)
	}
	for _, other := range []string{"other", "../../x", "a\nb", serial + "1"} {
		if s := claim(other, "123456", base); s != nil {
			t.Errorf("another device %q: %v", other, s)
		}
	}
	// After the clock was set back, the same codes come again.
	if s := claim(serial, "123456", base.Add(-time.Hour)); s == nil {
		t.Error("the code was used twice after the clock was set back")
	}
	if s := claim(serial, "123456", base.Add(5*time.Second+keep)); s != nil {
		t.Errorf("much later, by chance the same: %v", s)
	}
	if err := l.Claim(serial, secret.String{}, base); err == nil {
		t.Error("no code was claimed")
	}

	// Old entries are removed, modes are strict, and the file reveals nothing.
	for i := range 50 {
		claim(serial, fmt.Sprintf("87%04d", i), base.Add(time.Hour+time.Duration(i)*30*time.Second))
	}
	data, err := os.ReadFile(filepath.Join(l.Dir, ledgerFile))
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(data, []byte("hash")); n > 11 {
		t.Errorf("%d entries are kept", n)
	}
	for _, leak := range []string{"123456", "870049", "111122223333", "paul"} {
		if bytes.Contains(data, []byte(leak)) {
			t.Errorf("the file holds %q", leak)
		}
	}
	for name, want := range map[string]os.FileMode{"": 0o700, ledgerFile: 0o600, ledgerLock: 0o600} {
		if info, err := os.Stat(filepath.Join(l.Dir, name)); err != nil || info.Mode().Perm() != want {
			t.Errorf("%q: %v, %v", name, info.Mode(), err)
		}
	}
}

func TestNextWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seed, err := ParseSeed(seedText)
		if err != nil {
			t.Fatal(err)
		}
		var waits []time.Time
		l := Ledger{Dir: t.TempDir(), Waiting: func(s *SpentError) { waits = append(waits, s.Next) }}
		for _, offset := range []time.Duration{0, 16 * time.Minute} {
			clock := func() time.Time { return time.Now().Add(offset) }
			used := map[string]bool{}
			start := clock()
			for i := range 4 {
				c, err := l.Next(t.Context(), serial, seed, clock)
				if err != nil {
					t.Fatal(err)
				}
				if want, step := seed.Code(clock()); c.Reveal() != want.Reveal() || step != stepOf(start)+int64(i) {
					t.Errorf("use %d is not the code of its time (step %d)", i, step)
				}
				if used[c.Reveal()] {
					t.Error("a code came twice")
				}
				used[c.Reveal()] = true
			}
			if took := clock().Sub(start); took > 90*time.Second || took <= 60*time.Second {
				t.Errorf("four codes took %s", took)
			}
		}
		if len(waits) != 6 {
			t.Errorf("%d waits were told, want 6", len(waits))
		}
	})
}

func TestNextWithinDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seed, _ := ParseSeed(seedText)
		l := Ledger{Dir: t.TempDir()}
		if _, err := l.Next(t.Context(), serial, seed, time.Now); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		_, err := l.Next(ctx, serial, seed, time.Now)
		var spent *SpentError
		if !errors.As(err, &spent) || !spent.Next.Equal(nextStep(start)) || time.Since(start) > 0 {
			t.Errorf("after %s: %v", time.Since(start), err)
		}

		gone, cancel := context.WithCancel(t.Context())
		go func() { time.Sleep(3 * time.Second); cancel() }()
		if _, err := l.Next(gone, serial, seed, time.Now); !errors.Is(err, context.Canceled) ||
			time.Since(start) != 3*time.Second {
			t.Errorf("after %s: %v", time.Since(start), err)
		}
	})
}

func TestDamagedLedger(t *testing.T) {
	good := `{"version":1,"salt":"AAAAAAAAAAAAAAAAAAAAAA==","claims":[]}`
	for name, spoil := range map[string]func(path string) error{
		"empty":     func(p string) error { return os.WriteFile(p, nil, 0o600) },
		"text":      func(p string) error { return os.WriteFile(p, []byte("hello"), 0o600) },
		"cut":       func(p string) error { return os.WriteFile(p, []byte(good[:30]), 0o600) },
		"more":      func(p string) error { return os.WriteFile(p, []byte(good+good), 0o600) },
		"version":   func(p string) error { return os.WriteFile(p, []byte(strings.Replace(good, "1", "2", 1)), 0o600) },
		"no salt":   func(p string) error { return os.WriteFile(p, []byte(`{"version":1,"claims":[]}`), 0o600) },
		"unknown":   func(p string) error { return os.WriteFile(p, []byte(strings.Replace(good, "{", `{"x":1,`, 1)), 0o600) },
		"huge":      func(p string) error { return os.Truncate(p, 2<<20) },
		"symlink":   func(p string) error { _ = os.Remove(p); return os.Symlink("/etc/passwd", p) },
		"dangling":  func(p string) error { _ = os.Remove(p); return os.Symlink("/nowhere", p) },
		"fifo":      func(p string) error { _ = os.Remove(p); return syscall.Mkfifo(p, 0o600) },
		"directory": func(p string) error { _ = os.Remove(p); return os.Mkdir(p, 0o700) },
		"hard link": func(p string) error { return os.Link(p, p+".other") },
		"0777":      func(p string) error { return os.Chmod(p, 0o777) },
		"another's": func(p string) error {
			if os.Geteuid() != 0 {
				return os.Chmod(p, 0o777) // only root can give it to another user
			}
			return os.Chown(p, 65534, 65534)
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := Ledger{Dir: t.TempDir()}
			if err := l.Claim(serial, code("123456"), base); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(l.Dir, ledgerFile)
			if err := spoil(path); err != nil {
				t.Fatal(err)
			}
			var spent *SpentError
			// No code of this period is accepted, used or not, also at the second attempt.
			for _, c := range []string{"123456", "654321"} {
				err := l.Claim(serial, code(c), base.Add(10*time.Second))
				if !errors.As(err, &spent) || spent.Damaged == "" || !spent.Next.Equal(base.Add(Period)) {
					t.Fatalf("%s: %v", c, err)
				}
			}
			if !strings.Contains(spent.Error(), "damaged") || !strings.Contains(spent.Error(), spent.Damaged) {
				t.Errorf("the error does not say so: %v", spent)
			}
			if _, err := os.Lstat(filepath.Join(l.Dir, spent.Damaged)); err != nil {
				t.Errorf("not set aside: %v", err)
			}
			if err := l.Claim(serial, code("654321"), base.Add(31*time.Second)); err != nil {
				t.Errorf("in the next step: %v", err)
			}
			if info, err := os.Lstat(path); err != nil || info.Mode() != 0o600 {
				t.Errorf("the new ledger: %v, %v", info, err)
			}
		})
	}
}

// TestBarrierOfAWrongClock: a damaged ledger that was replaced while the clock was a day ahead must not block
// logins for a day.
func TestBarrierOfAWrongClock(t *testing.T) {
	l := Ledger{Dir: t.TempDir()}
	if err := os.WriteFile(filepath.Join(l.Dir, ledgerFile), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := l.Claim(serial, code("123456"), base.Add(24*time.Hour)); err == nil {
		t.Fatal("no barrier: the test proves nothing")
	}
	if err := l.Claim(serial, code("123456"), base); err != nil {
		t.Error(err)
	}
}

// TestProcessesAtOnce: of 8 processes that claim the same code, one succeeds.
func TestProcessesAtOnce(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	const rounds = 10
	for round := range rounds {
		dir := t.TempDir()
		var (
			wg   sync.WaitGroup
			mu   sync.Mutex
			says = map[string]int{}
		)
		for range 8 {
			wg.Go(func() {
				line, stop := startClaim(t, exe, dir, "123456")
				mu.Lock()
				says[line]++
				mu.Unlock()
				stop()
			})
		}
		wg.Wait()
		if says["sent"] != 1 || says["spent"] != 7 {
			t.Fatalf("round %d: %v", round, says)
		}
	}
}

// startClaim starts a process that claims a code, and returns its one line; stop kills it.
func startClaim(t *testing.T, exe, dir, c string) (line string, stop func()) {
	cmd := exec.Command(exe, "claim", dir, serial, c)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Error(err)
		return "", func() {}
	}
	if err := cmd.Start(); err != nil {
		t.Error(err)
		return "", func() {}
	}
	line, _ = bufio.NewReader(out).ReadString('\n')
	return strings.TrimSpace(line), func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
}

// TestKilledBetweenClaimAndUse: after kill -9 during or right after a claim, the code is never accepted a second
// time.
func TestKilledBetweenClaimAndUse(t *testing.T) { testKilledClaims(t, 20, 15) }

func TestKilledBetweenClaimAndUseLong(t *testing.T) { testKilledClaims(t, 200, 60) }

func testKilledClaims(t *testing.T, rounds, cuts int) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	var whole time.Duration // from the start of a process to its claim, on this machine
	for round := range rounds {
		c := fmt.Sprintf("%06d", round)
		begin := time.Now()
		line, stop := startClaim(t, exe, dir, c)
		whole = time.Since(begin)
		stop()
		if line != "sent" {
			t.Fatalf("round %d: %q", round, line)
		}
		var spent *SpentError
		if err := (Ledger{Dir: dir}).Claim(serial, code(c), time.Now()); !errors.As(err, &spent) || spent.Damaged != "" {
			t.Fatalf("round %d: the code can be used again: %v", round, err)
		}
	}
	cut := 0
	for round := range cuts {
		c := fmt.Sprintf("9%05d", round)
		cmd := exec.Command(exe, "claim", dir, serial, c)
		var out bytes.Buffer
		cmd.Stdout = &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(whole * time.Duration(round) / time.Duration(cuts)) // any moment between start and claim
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		err := Ledger{Dir: dir}.Claim(serial, code(c), time.Now())
		var spent *SpentError
		switch sent := strings.Contains(out.String(), "sent"); {
		case err != nil && (!errors.As(err, &spent) || spent.Damaged != ""):
			t.Fatalf("round %d: the ledger was harmed: %v", round, err)
		case sent && err == nil:
			t.Fatalf("round %d: sent twice", round)
		case !sent:
			cut++
		}
	}
	if cut == 0 {
		t.Error("no process was killed before it was done: the test proves nothing")
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestUnwritable: a claim that cannot be written is an error, so the code is not sent.
func TestUnwritable(t *testing.T) {
	if err := (Ledger{Dir: "relative"}).Claim(serial, code("123456"), base); err == nil {
		t.Error("a relative directory was taken")
	}
	open := filepath.Join(t.TempDir(), "open")
	if err := os.Mkdir(open, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(open, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := (Ledger{Dir: open}).Claim(serial, code("123456"), base); err == nil || !strings.Contains(err.Error(), "written by others") {
		t.Errorf("a directory that is open to all: %v", err)
	}
	if os.Getuid() != 0 {
		t.Skip("NOT TESTED: needs root to mount a full file system and to become another user")
	}
	foreign := filepath.Join(t.TempDir(), "foreign")
	if err := os.Mkdir(foreign, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(foreign, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	if err := (Ledger{Dir: foreign}).Claim(serial, code("123456"), base); err == nil || !strings.Contains(err.Error(), "another user") {
		t.Errorf("a directory of another user: %v", err)
	}

	full := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=16k,mode=0700", "tmpfs", full).CombinedOutput(); err != nil {
		t.Skipf("NOT TESTED: cannot mount: %v %s", err, out)
	}
	t.Cleanup(func() { _ = exec.Command("umount", "-l", full).Run() })
	l := Ledger{Dir: full}
	if err := l.Claim(serial, code("123456"), base); err != nil {
		t.Fatal(err)
	}
	_ = os.WriteFile(filepath.Join(full, "filler"), make([]byte, 32<<10), 0o600)
	var spent *SpentError
	if err := l.Claim(serial, code("654321"), base); err == nil || errors.As(err, &spent) || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("no space: %v", err)
	}
	if err := l.Claim(serial, code("123456"), base); !errors.As(err, &spent) {
		t.Errorf("what was claimed before is lost: %v", err)
	}
	_ = os.Remove(filepath.Join(full, "filler"))
	if err := l.Claim(serial, code("654321"), base); err != nil {
		t.Errorf("space again: %v", err)
	}
}

func TestLockHeld(t *testing.T) {
	l := Ledger{Dir: t.TempDir()}
	_, unlock, err := l.open()
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) { // the wait is virtual, the lock is real
		var spent *SpentError
		if err := l.Claim(serial, code("123456"), base); err == nil || errors.As(err, &spent) {
			t.Errorf("claimed past a lock: %v", err)
		}
	})
	unlock()
	if err := l.Claim(serial, code("123456"), base); err != nil {
		t.Error(err)
	}
}
