package brokerd

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"broker/internal/fault"
	"broker/internal/paths"
	"broker/internal/profiles"
	"broker/internal/service"
	"broker/internal/socket"
	"broker/internal/testproc"
	"broker/internal/version"
	"broker/internal/wire"
)

func TestMain(m *testing.M) { os.Exit(testproc.Run(m)) }

// TestArguments: unknown arguments do not start a daemon.
func TestArguments(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	for _, test := range []struct {
		args           []string
		code           int
		stdout, stderr string
	}{
		{[]string{"--help"}, 0, usage + "\n", ""},
		{[]string{"--replace", "-h"}, 0, usage + "\n", ""},
		{[]string{"--version"}, 0, "brokerd " + version.String() + "\n", ""},
		{[]string{"daemon"}, 2, "", "brokerd: brokerd does not know \"daemon\"\nhint: brokerd --help\n"},
		{[]string{"--background", "x\x1b[2J"}, 2, "", "brokerd: brokerd does not know \"x\\x1b[2J\"\nhint: brokerd --help\n"},
		{[]string{"vault", "x"}, 2, "", "brokerd: brokerd does not know \"vault\"\nhint: brokerd --help\n"},
	} {
		var stdout, stderr bytes.Buffer
		code := Main(append([]string{"brokerd"}, test.args...), nil, &stdout, &stderr)
		if code != test.code || stdout.String() != test.stdout || stderr.String() != test.stderr {
			t.Errorf("%q: %d\n%s%s", test.args, code, stdout.String(), stderr.String())
		}
	}
}

// TestStartedBy: a variable that a shell can set does not make a daemon look started by a service manager.
func TestStartedBy(t *testing.T) {
	pid := strconv.Itoa(os.Getpid())
	for _, test := range []struct {
		activated, onDemand bool
		systemd, launchd    string
		want                string
	}{
		{true, false, pid, "", wire.ByActivity},
		{false, true, pid, "", wire.OnDemand},
		{false, false, pid, "", wire.ByService},
		{false, false, pid + "0", "", wire.ByPerson},
		{false, false, "", service.Label, wire.ByPerson}, // our parent is not launchd
		{false, false, "", "", wire.ByPerson},
	} {
		t.Setenv("SYSTEMD_EXEC_PID", test.systemd)
		t.Setenv("XPC_SERVICE_NAME", test.launchd)
		if got := startedBy(test.activated, test.onDemand); got != test.want {
			t.Errorf("%+v: %s", test, got)
		}
	}
}

// TestFollow: settings override the unit; once they are empty, the unit applies again.
func TestFollow(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("PATH", os.Getenv("PATH"))
	t.Setenv("GNUPGHOME", "/unit")
	t.Setenv("PASSWORD_STORE_DIR", "")
	apply := follow()
	for _, test := range []struct{ gnupg, store, wantGnuPG, wantStore string }{
		{"", "", "/unit", ""},
		{"/settings", "/store", "/settings", "/store"},
		{"/settings", "", "/settings", ""},
		{"", "", "/unit", ""},
	} {
		apply(profiles.Settings{GnuPGHome: test.gnupg, PasswordStoreDir: test.store})
		store, set := os.LookupEnv("PASSWORD_STORE_DIR")
		if got := os.Getenv("GNUPGHOME"); got != test.wantGnuPG || store != test.wantStore || set != (store != "") {
			t.Errorf("%+v: GNUPGHOME=%s PASSWORD_STORE_DIR=%s (%v)", test, got, store, set)
		}
	}
	bin := filepath.Join(home, "bin")
	if err := os.Mkdir(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	apply(profiles.Settings{Path: []string{bin}})
	if path := os.Getenv("PATH"); !strings.Contains(path, bin) {
		t.Errorf("PATH=%s", path)
	}
}

// TestLockPlaces: if the home directory is not writable, the daemon uses the lock file in its state directory. A
// lock in the home directory still counts.
func TestLockPlaces(t *testing.T) {
	home, state := t.TempDir(), t.TempDir()
	t.Setenv("HOME", home)
	p := &program{paths: paths.Paths{State: state}}
	if got := p.lockPlaces(); got.File != paths.LockFileIn(paths.StateBelow(home)) ||
		got.Moved != paths.LockFileIn(state) {
		t.Errorf("a writable home: %+v", got)
	}
	blocked := t.TempDir() // where a file is, no directory can be created, not even by root
	if err := os.WriteFile(filepath.Join(blocked, ".local"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("HOME", blocked)
	if got := p.lockPlaces(); got.File != paths.LockFileIn(state) || got.Moved != "" {
		t.Errorf("a home that is not writable: %+v", got)
	}
}

// TestDaemonError: a second daemon is not a failure, and each failure has a kind.
func TestDaemonError(t *testing.T) {
	var stdout bytes.Buffer
	p := &program{stdout: &stdout}
	err := daemonError(p, fmt.Errorf("bind: %w", socket.ErrTaken))
	if said := stdout.String(); err != nil || said != "a daemon is running already\n" {
		t.Errorf("taken: %v, %q", err, said)
	}
	if err := daemonError(p, nil); err != nil {
		t.Error(err)
	}
	if err := daemonError(p, errors.New("no")); !fault.Is(err, fault.Failed) {
		t.Errorf("%v", err)
	}
	if err := daemonError(p, fault.New(fault.Unreachable, "no")); !fault.Is(err, fault.Unreachable) {
		t.Errorf("%v", err)
	}
}
