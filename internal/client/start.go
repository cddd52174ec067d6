package client

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"broker/internal/dial"
	"broker/internal/environ"
	"broker/internal/fault"
	"broker/internal/record"
	"broker/internal/system"
)

// ErrNone is wrapped by the failure of a client with NoStart that finds no daemon.
var ErrNone = errors.New("no daemon is running")

// startWait bounds the start of a daemon, waiting for somebody else's start included. The tests have it longer.
var startWait = 10 * time.Second

// dial connects, and starts the daemon if there is none.
func (c Client) dial(ctx context.Context) (*dial.Conn, error) {
	conn, err := dial.Dial(ctx, c.Paths.Socket)
	switch {
	case err == nil:
		return conn, nil
	case !errors.Is(err, dial.ErrNobody):
		if _, err := environ.CheckOwners(); err != nil {
			return nil, err
		}
		err = record.NameOwner(filepath.Dir(c.Paths.Socket), err)
		f := fault.New(fault.Unreachable, "cannot reach the daemon: %w", err)
		if errors.Is(err, record.ErrRefused) {
			f.Hint = fault.Of(err).Hint
		}
		return nil, f
	case c.NoStart:
		return nil, fault.New(fault.Unreachable, "%w", ErrNone).WithHint("broker daemon")
	}
	return c.start(ctx)
}

// start lets one of all the clients that find no daemon start it; the others
// wait for that. If that start fails, they fail with the same words instead of trying one after the other. Who asks after
// that tries again: what was wrong may be mended.
func (c Client) start(ctx context.Context) (*dial.Conn, error) {
	asked := time.Now()
	ctx, cancel := context.WithTimeout(ctx, startWait)
	defer cancel()
	if _, err := environ.CheckOwners(); err != nil {
		return nil, err
	}
	turn, err := c.openTurn()
	if err != nil {
		f := fault.New(fault.Unreachable, "cannot start the daemon: %w", err)
		switch {
		case errors.Is(err, record.ErrRefused):
			f.Hint = fault.Of(err).Hint
		case errors.Is(err, syscall.EROFS) || errors.Is(err, syscall.EACCES):
			f = f.WithHint("%s", otherDirectory())
		default:
			f = f.WithHint("%s", record.Unwritten(filepath.Dir(c.Paths.Socket), err))
		}
		return nil, f
	}
	defer func() { _ = turn.Close() }()
	for system.TryLock(turn) != nil {
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return nil, fault.New(fault.Unreachable, "cannot start the daemon: another start is still under way").
				WithHint("broker daemon")
		}
		if conn, err := dial.Dial(ctx, c.Paths.Socket); err == nil {
			return conn, nil
		}
	}
	if conn, err := dial.Dial(ctx, c.Paths.Socket); err == nil {
		return conn, nil
	}
	failed := failedSince(turn, asked)
	if failed != nil {
		return nil, notStarted(failed)
	}
	for range launches {
		if failed = c.launch(ctx); failed != nil {
			break
		}
		conn, err := c.await(ctx)
		if err == nil {
			_ = turn.Truncate(0)
			return conn, nil
		}
		failed = fault.New(fault.Unreachable, "%w", err)
	}
	_ = turn.Truncate(0)
	_, _ = turn.WriteAt([]byte(failed.Report("brokerd")), 0)
	return nil, notStarted(failed)
}

// notStarted is the error of a client whose daemon did not start for this reason.
func notStarted(why *fault.Error) error {
	f := fault.New(fault.Unreachable, "cannot start the daemon: %s", why)
	if f.Hint = why.Hint; f.Hint == "" || f.Hint == "broker status" { // which asks the daemon
		f.Hint = "broker daemon"
	}
	return f
}

// NameHome is the hint for a HOME that is missing or no absolute path: a shell makes of ~ what HOME says.
func NameHome() fault.Hint {
	return fault.Hintf("export HOME=%s", cmp.Or(system.KnownHome(), "/YOUR/HOME"))
}

// otherDirectory is the hint for a directory of the socket that cannot be made.
func otherDirectory() fault.Hint {
	for _, name := range []string{"BROKER_SOCKET", "BROKER_RUNTIME_DIR", "BROKER_STATE_DIR"} {
		if os.Getenv(name) != "" {
			return fault.Hintf("unset %s", name)
		}
	}
	return fault.Hintf("export BROKER_STATE_DIR=/a/directory/that/can/be/written")
}

// openTurn opens the file whose lock says who starts a daemon, and makes it and the directories above it.
func (c Client) openTurn() (*os.File, error) {
	d, err := record.Make(filepath.Dir(c.Paths.Socket), record.Private)
	if err != nil {
		return nil, err
	}
	defer func() { _ = d.Close() }()
	return d.OpenFile("start.lock", os.O_RDWR|os.O_CREATE, record.Guarded)
}

// Hold keeps clients from starting a daemon until release is called. Those that find
// none wait for that, for as long as they would for a start.
func (c Client) Hold(ctx context.Context) (release func(), err error) {
	turn, err := c.openTurn()
	if err != nil {
		return nil, err
	}
	if err := system.LockUntil(ctx, turn); err != nil {
		_ = turn.Close()
		return nil, err
	}
	return func() { _ = turn.Close() }, nil
}

// launches is how often a daemon is started that is gone before it can be reached.
const launches = 3

// await dials until somebody listens. A daemon was started, so that is at once, unless it was killed meanwhile, or an
// older daemon holds the lock: if its socket was removed, it binds the socket again within a second.
func (c Client) await(ctx context.Context) (*dial.Conn, error) {
	for limit := time.Now().Add(1500 * time.Millisecond); ; {
		conn, err := dial.Dial(ctx, c.Paths.Socket)
		if !errors.Is(err, dial.ErrNobody) || time.Now().After(limit) {
			return conn, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// maxReport is more than a report of brokerd has, in bytes.
const maxReport = 4 << 10

// failedSince returns why a start failed that ended after that moment, or nil.
func failedSince(turn *os.File, moment time.Time) *fault.Error {
	info, err := turn.Stat()
	// One from the future is of a clock that was set back since.
	if err != nil || info.ModTime().Before(moment) || info.ModTime().After(time.Now()) {
		return nil
	}
	b := make([]byte, maxReport)
	n, _ := turn.ReadAt(b, 0)
	if n == 0 {
		return nil
	}
	return fault.ParseReport(fault.Unreachable, "brokerd", string(b[:n]), "")
}

// launch runs `brokerd --background`, which ends when the daemon listens. It returns what went wrong, or nil.
func (c Client) launch(ctx context.Context, flags ...string) *fault.Error {
	env := environ.Build(os.Environ(), c.Paths, false)
	program, err := DaemonProgram(env)
	if err != nil {
		return fault.Of(err)
	}
	cmd := exec.CommandContext(ctx, program, append([]string{"--background"}, flags...)...)
	cmd.Env = env
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	cmd.WaitDelay = time.Second
	cmd.SysProcAttr = system.Session()
	if err := cmd.Run(); err != nil {
		return fault.ParseReport(fault.Failed, "brokerd", stderr.String(), err.Error())
	}
	return nil
}

// Replace starts a daemon that takes over from the one that runs, and returns when it listens.
func (c Client) Replace(ctx context.Context) error {
	if f := c.launch(ctx, "--replace"); f != nil {
		return f
	}
	return nil
}

// isOneInstall refuses a brokerd that another user has put beside this program: in a directory such as /tmp anybody can
// make files, and links to files of ours.
func isOneInstall(self, brokerd string) error {
	mine, err := system.AccessOfPath(selfFile)
	if err != nil {
		mine, err = system.AccessOfPath(self)
	}
	if err != nil {
		return fault.New(fault.Failed, "%w", err)
	}
	check := func(path string, its system.Access) error {
		if its.Ours || its.Owner == mine.Owner {
			return nil
		}
		return fault.New(fault.Failed, "%s is not started: %s belongs to another user (%s) than this program (%s)",
			brokerd, path, its.Owner, mine.Owner).WithHint("ls -l %s", filepath.Dir(brokerd))
	}
	err = system.Walk(brokerd, func(at string, info, dir fs.FileInfo) error {
		anybody := info.Mode()&fs.ModeSymlink != 0 || dir != nil && dir.Mode()&fs.ModeSticky != 0
		if its, ok := system.AccessOfInfo(info); ok && anybody && its.Owner != "uid 0" {
			return check(at, its)
		}
		return nil
	})
	if err != nil {
		return err
	}
	its, err := system.AccessOfPath(brokerd)
	if err != nil {
		return fault.New(fault.Failed, "%w", err)
	}
	return check("it", its)
}

// selfFile is the file of the running program on Linux, also if another one has its name by now.
const selfFile = "/proc/self/exe"

// DaemonProgram finds brokerd beside this program, else on the PATH of an environment that environ built. A PATH of the
// shell does not count, since the daemon serves other shells too. Links to this program are followed: Homebrew and Nix
// link to theirs.
func DaemonProgram(env []string) (string, error) {
	dir := ""
	if self, err := os.Executable(); err == nil {
		if real, err := filepath.EvalSymlinks(self); err == nil {
			self = real
		}
		dir = filepath.Dir(self)
		beside := filepath.Join(dir, "brokerd"+system.Exe)
		if info, err := os.Stat(beside); err == nil && info.Mode().IsRegular() {
			return beside, isOneInstall(self, beside)
		}
	}
	for _, kv := range env {
		if path, ok := strings.CutPrefix(kv, "PATH="); ok {
			if program := environ.Find("brokerd", path); program != "" {
				return program, nil
			}
		}
	}
	return "", fault.New(fault.Failed, "brokerd, the program of the daemon, is neither in %s nor on the PATH of the daemon; "+
		"install broker, brokerd and credproc of one version side by side", dir).
		WithHint("command -v broker brokerd credproc")
}
