//go:build unix

package socket

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"broker/internal/dial"
	"broker/internal/record"
)

// firstPassed is the first descriptor of sd_listen_fds(3).
const firstPassed = 3

// Activated returns the socket that a service manager passed to this process (see sd_listen_fds(3)), or nil. It
// removes the variables that announce the socket, and the descriptor is closed on exec, so that no child takes
// itself for the daemon.
func Activated() (*os.File, error) {
	pid, n := os.Getenv("LISTEN_PID"), os.Getenv("LISTEN_FDS")
	for _, name := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
		_ = os.Unsetenv(name)
	}
	if pid != strconv.Itoa(os.Getpid()) || n == "" {
		return nil, nil
	}
	count, err := strconv.Atoi(n)
	if err != nil || count < 0 || count > dial.MaxFiles {
		return nil, fmt.Errorf("LISTEN_FDS of the service manager is %q, not a number of sockets", n)
	}
	for fd := firstPassed; fd < firstPassed+count; fd++ {
		syscall.CloseOnExec(fd)
	}
	switch count {
	case 0:
		return nil, nil
	case 1:
		return os.NewFile(firstPassed, "activated"), nil
	}
	return nil, fmt.Errorf("the service manager passed %d sockets instead of one: look for a second ListenStream= in the socket unit", count)
}

// makeWayTimeout is how long Adopt waits for the previous daemon to drain and end.
const makeWayTimeout = 8 * time.Second

// Adopt serves the socket at path on which a service manager already listens. The socket stays when this daemon
// ends. It must be a listening stream socket that is bound to this path, in a directory that only we can write. A
// daemon that was started before the service manager must end: a client that connects now gets this daemon.
func Adopt(ctx context.Context, path string, file *os.File) (*Listener, error) {
	defer func() { _ = file.Close() }()
	err := listens(file)
	if err == nil {
		err = boundTo(file, path)
	}
	if err != nil {
		return nil, fmt.Errorf("the socket that the service manager passed: %w", err)
	}
	dir, err := record.Make(filepath.Dir(path), record.Private)
	if err != nil {
		return nil, err
	}
	lock, err := claimLock(ctx, dir, path)
	if err != nil {
		_ = dir.Close()
		return nil, err
	}
	l := &Listener{path: path, place: place{dir: dir, lock: lock, kept: true}}
	if err := l.adopt(file); err != nil {
		_ = lock.Close()
		_ = dir.Close()
		return nil, err
	}
	return l, nil
}

// Inherit serves the socket at path that another daemon hands over with its lock, which was held without a gap.
func Inherit(path string, lock, file *os.File) (*Listener, error) {
	defer func() { _ = file.Close() }()
	dir, err := record.Make(filepath.Dir(path), record.Private)
	if err != nil {
		_ = lock.Close()
		return nil, err
	}
	l := &Listener{path: path, place: place{dir: dir, lock: lock}}
	// The lock belongs to the open file, and we have a duplicate of it. For any other file, Flock takes the lock or
	// fails.
	err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil && !l.lockInPlaceLocked() {
		err = errors.New("the running daemon handed over another socket's lock")
	}
	if err == nil {
		err = listens(file)
	}
	if err == nil {
		err = l.adopt(file)
	}
	if err != nil {
		_ = lock.Close()
		_ = dir.Close()
		return nil, fmt.Errorf("take over %s: %w", path, err)
	}
	signLock(lock)
	return l, nil
}

// adopt serves an open socket.
func (l *Listener) adopt(file *os.File) error {
	info, err := os.Lstat(l.path)
	if errors.Is(err, fs.ErrNotExist) {
		// The socket file was removed, so no client could find it: bind it again.
		l.unix, l.bound, err = Bind(l.dir, l.path, 0o600)
		l.kept = false
		return err
	}
	if err != nil {
		return err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if info.Mode().Type() != fs.ModeSocket || !ok || int(stat.Uid) != os.Getuid() || info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("%s is not a socket of yours with mode 0600: it is %v", l.path, info.Mode())
	}
	// Listen again, so that clients see our pid, and with the usual length of the queue.
	if err := syscall.Listen(int(file.Fd()), backlog); err != nil {
		return fmt.Errorf("listen on %s: %w", l.path, err)
	}
	listener, err := net.FileListener(file)
	if err != nil {
		return err
	}
	unix, ok := listener.(*net.UnixListener)
	if !ok {
		_ = listener.Close()
		return errors.New("not a unix socket")
	}
	unix.SetUnlinkOnClose(false)
	l.unix, l.bound = unix, info
	return nil
}

// backlog is the requested queue length; the kernel limits it to net.core.somaxconn.
const backlog = 4096

// listens returns an error unless the file is a listening unix stream socket.
func listens(file *os.File) error {
	fd := int(file.Fd())
	name, err := syscall.Getsockname(fd)
	if err != nil {
		return fmt.Errorf("not a socket: %w", err)
	}
	if _, unix := name.(*syscall.SockaddrUnix); !unix {
		return errors.New("not a unix socket")
	}
	kind, err := syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_TYPE)
	if err != nil || kind != syscall.SOCK_STREAM {
		return errors.New("not a stream socket")
	}
	accepts, err := syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_ACCEPTCONN)
	if err != nil || accepts == 0 {
		return errors.New("it does not listen")
	}
	return nil
}

// boundTo returns an error unless a socket is bound to this path.
func boundTo(file *os.File, path string) error {
	name, err := syscall.Getsockname(int(file.Fd()))
	if err != nil {
		return err
	}
	unix, ok := name.(*syscall.SockaddrUnix)
	if !ok || !filepath.IsAbs(unix.Name) {
		return fmt.Errorf("it is not bound to a file; want %s", path)
	}
	if filepath.Clean(unix.Name) == filepath.Clean(path) {
		return nil
	}
	// A parent directory may be a link, such as /var/run for /run.
	theirs, err1 := filepath.EvalSymlinks(filepath.Dir(unix.Name))
	ours, err2 := filepath.EvalSymlinks(filepath.Dir(path))
	if err1 != nil || err2 != nil ||
		filepath.Join(theirs, filepath.Base(unix.Name)) != filepath.Join(ours, filepath.Base(path)) {
		return fmt.Errorf("it is bound to %s; want %s", unix.Name, path)
	}
	return nil
}

// claimLock takes the lock. It tells the daemon that holds the lock to end, and waits for it.
func claimLock(ctx context.Context, dir *record.Dir, path string) (*os.File, error) {
	ctx, cancel := context.WithTimeout(ctx, makeWayTimeout)
	defer cancel()
	told, seen := 0, 0
	for {
		lock, err := takeLock(dir, path)
		if !errors.Is(err, ErrTaken) {
			return lock, err
		}
		// Read the pid twice: a process that has just taken the lock has not written its pid yet.
		pid := holder(dir, path)
		if pid > 0 && pid == seen && pid != told && pid != os.Getpid() {
			if err := syscall.Kill(pid, syscall.SIGTERM); err == nil {
				told = pid
			}
		}
		seen = pid
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("the previous daemon does not end (pid %d): %w", pid, ErrTaken)
		case <-time.After(30 * time.Millisecond):
		}
	}
}

// holder returns the pid in the lock file, or 0 if there is none.
func holder(dir *record.Dir, path string) int {
	f, err := dir.OpenFile(filepath.Base(path)+".lock", os.O_RDONLY, record.Guarded)
	if err != nil {
		return 0
	}
	defer func() { _ = f.Close() }()
	b := make([]byte, 32)
	n, _ := f.ReadAt(b, 0)
	line, _, whole := bytes.Cut(b[:n], []byte("\n"))
	pid, err := strconv.Atoi(string(line))
	if err != nil || !whole || pid < 2 {
		return 0
	}
	return pid
}

// Hold stops accepting. New connections wait in the queue of the socket, for the process that gets it from Give.
func (l *Listener) Hold() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopped || !l.lockInPlaceLocked() || !l.socketInPlaceLocked() {
		return errors.New("the socket file or its lock was removed or replaced")
	}
	held, err := l.unix.File()
	if err != nil {
		return err
	}
	l.held, l.stopped, l.kept = held, true, true
	return l.unix.Close()
}

// Give returns what the next daemon needs to call Inherit: the lock and the socket. Call Hold first. Close closes
// them here; the files on disk stay.
func (l *Listener) Give() (lock, file *os.File) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lock, l.held
}
