package client

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"broker/internal/dial"
	"broker/internal/environ"
	"broker/internal/fault"
	"broker/internal/record"
	"broker/internal/system"
)

// ErrNone means that no daemon is running and that NoStart keeps the client from starting one.
var ErrNone = errors.New("no daemon is running")

// startWait is how long the start of a daemon may take, including the wait for a start by another client. Tests use
// a longer time.
var startWait = 10 * time.Second

// dial connects, and starts the daemon if there is none.
func (c *Client) dial(ctx context.Context) (*dial.Conn, error) {
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

// start starts the daemon. If several clients find no daemon, one of them starts it and the others wait. If that
// start fails, the waiting clients return the same error and do not try themselves. A later client tries again,
// because the cause may be fixed by then.
func (c *Client) start(ctx context.Context) (*dial.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, startWait)
	defer cancel()
	if _, err := environ.CheckOwners(); err != nil {
		return nil, err
	}
	lock, err := c.openStartLock()
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
	defer func() { _ = lock.Close() }()
	before, _ := lock.Stat()
	for system.TryLock(lock) != nil {
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return nil, fault.New(fault.Unreachable, "cannot start the daemon: another process is still starting it").
				WithHint("broker daemon")
		}
		if conn, err := dial.Dial(ctx, c.Paths.Socket); err == nil {
			return conn, nil
		}
	}
	if conn, err := dial.Dial(ctx, c.Paths.Socket); err == nil {
		return conn, nil
	}
	if failed := failedSince(lock, before); failed != nil {
		return nil, notStarted(failed)
	}
	var failed *fault.Error
	for range launches {
		if err := c.launch(ctx); err != nil {
			failed = fault.Of(err)
			break
		}
		conn, err := c.await(ctx)
		if err == nil {
			_ = lock.Truncate(0)
			return conn, nil
		}
		failed = fault.New(fault.Unreachable, "%w", err)
	}
	_ = lock.Truncate(0)
	_, _ = lock.WriteAt([]byte(failed.Report("brokerd")), 0)
	return nil, notStarted(failed)
}

// notStarted returns the error for a daemon that failed to start for this reason.
func notStarted(why *fault.Error) error {
	f := fault.New(fault.Unreachable, "cannot start the daemon: %s", why)
	if f.Hint = why.Hint; f.Hint == "" || f.Hint == "broker status" { // status needs a daemon
		f.Hint = "broker daemon"
	}
	return f
}

// NameHome returns the hint for a HOME that is not set or not an absolute path. The shell expands ~ with HOME, so
// the hint has no ~.
func NameHome() fault.Hint {
	return fault.Hintf("export HOME=%s", cmp.Or(system.KnownHome(), "/YOUR/HOME"))
}

// otherDirectory returns the hint for a socket directory that cannot be created.
func otherDirectory() fault.Hint {
	for _, name := range []string{"BROKER_SOCKET", "BROKER_RUNTIME_DIR", "BROKER_STATE_DIR"} {
		if os.Getenv(name) != "" {
			return fault.Hintf("unset %s", name)
		}
	}
	return fault.Hintf("export BROKER_STATE_DIR=/a/directory/that/can/be/written")
}

// openStartLock opens the lock file of the client that starts the daemon, and creates the file and its directories.
func (c *Client) openStartLock() (*os.File, error) {
	d, err := record.Make(filepath.Dir(c.Paths.Socket), record.Private)
	if err != nil {
		return nil, err
	}
	defer func() { _ = d.Close() }()
	return d.OpenFile("start.lock", os.O_RDWR|os.O_CREATE, record.Guarded)
}

// Hold keeps clients from starting a daemon until release is called. A client that finds no daemon waits for the
// release as long as it would wait for a start.
func (c *Client) Hold(ctx context.Context) (release func(), err error) {
	lock, err := c.openStartLock()
	if err != nil {
		return nil, err
	}
	if err := system.LockUntil(ctx, lock); err != nil {
		_ = lock.Close()
		return nil, err
	}
	return func() { _ = lock.Close() }, nil
}

// await dials until a daemon listens. The daemon was just started, so this works at once, with two exceptions: the
// daemon was killed, or an older daemon holds the lock. If the older daemon's socket was removed, it binds the
// socket again within a second.
func (c *Client) await(ctx context.Context) (*dial.Conn, error) {
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

// maxReport is an upper bound for the size of an error report of brokerd, in bytes.
const maxReport = 4 << 10

// failedSince returns the error of a start that failed after the given state of the lock file, or nil. Times of files
// are too coarse to be compared with a clock.
func failedSince(lock *os.File, before fs.FileInfo) *fault.Error {
	now, err := lock.Stat()
	if err != nil || before == nil || now.Size() == before.Size() && now.ModTime().Equal(before.ModTime()) {
		return nil
	}
	b := make([]byte, maxReport)
	n, _ := lock.ReadAt(b, 0)
	if n == 0 {
		return nil
	}
	return fault.ParseReport(fault.Unreachable, "brokerd", string(b[:n]), "")
}

// launch starts a daemon and returns once it listens.
func (c *Client) launch(ctx context.Context, flags ...string) error {
	env := environ.Build(os.Environ(), c.Paths, false)
	program, err := DaemonProgram(env)
	if err != nil {
		return err
	}
	how := Background
	if c.Ends {
		how = ReadyOnStdout
	}
	return Launch(ctx, program, env, append([]string{how}, flags...)...)
}

// Replace starts a daemon that replaces the running one, and returns once the new daemon listens.
func (c *Client) Replace(ctx context.Context) error { return c.launch(ctx, ReplaceRunning) }
