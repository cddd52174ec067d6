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

// Activated returns the socket that a service manager passed to this very
// process, sd_listen_fds(3), or nil. The variables that tell of it are removed, and the
// descriptor is closed on exec: no child takes itself for the daemon.
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
		return nil, fmt.Errorf("the service manager says that it passed %q sockets", n)
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
	return nil, fmt.Errorf("the service manager passed %d sockets, want one: look for a second ListenStream= in the socket unit", count)
}

// makeWayTimeout is how long a daemon may take to end that has to make way: it drains.
const makeWayTimeout = 8 * time.Second

// Adopt serves the socket at path that a service manager listens on already and
// keeps when we end. It must be what it is said to be: a listening stream socket bound to
// this path, in a directory of ours alone. A daemon that was started before the service
// manager came has to make way: a client that connects now gets this daemon.
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

// Inherit serves the socket at path that another daemon hands over, with its
// lock, which was held without a break.
func Inherit(path string, lock, file *os.File) (*Listener, error) {
	defer func() { _ = file.Close() }()
	dir, err := record.Make(filepath.Dir(path), record.Private)
	if err != nil {
		_ = lock.Close()
		return nil, err
	}
	l := &Listener{path: path, place: place{dir: dir, lock: lock}}
	// It is held by the open file, whose duplicate we have; on any other file this takes it, or fails.
	err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil && !l.lockInPlaceLocked() {
		err = errors.New("the lock that was handed over is not the one of this socket")
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

// adopt makes an open socket the one that is served.
func (l *Listener) adopt(file *os.File) error {
	info, err := os.Lstat(l.path)
	if errors.Is(err, fs.ErrNotExist) {
		// Removed behind the back of who made it: nobody could find it.
		l.unix, l.bound, err = bind(l.dir, l.path)
		l.kept = false
		return err
	}
	if err != nil {
		return err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if info.Mode().Type() != fs.ModeSocket || !ok || int(stat.Uid) != os.Getuid() || info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("%s is not a socket of yours with mode 0600 but %v", l.path, info.Mode())
	}
	// Again, so that clients are told our pid, and with a queue of the usual length.
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

// backlog is what is asked for; the kernel cuts it to net.core.somaxconn.
const backlog = 4096

// listens makes sure that a file is a unix stream socket that listens.
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

// boundTo makes sure that a socket is bound to this path.
func boundTo(file *os.File, path string) error {
	name, err := syscall.Getsockname(int(file.Fd()))
	if err != nil {
		return err
	}
	unix, ok := name.(*syscall.SockaddrUnix)
	if !ok || !filepath.IsAbs(unix.Name) {
		return fmt.Errorf("it is bound to no file; want %s", path)
	}
	if filepath.Clean(unix.Name) == filepath.Clean(path) {
		return nil
	}
	// A directory above may be a link: /run and /var/run.
	theirs, err1 := filepath.EvalSymlinks(filepath.Dir(unix.Name))
	ours, err2 := filepath.EvalSymlinks(filepath.Dir(path))
	if err1 != nil || err2 != nil || filepath.Join(theirs, filepath.Base(unix.Name)) != filepath.Join(ours, filepath.Base(path)) {
		return fmt.Errorf("it is bound to %s; want %s", unix.Name, path)
	}
	return nil
}

// claimLock takes the lock; who holds it is told to end, and waited for.
func claimLock(ctx context.Context, dir *record.Dir, path string) (*os.File, error) {
	ctx, cancel := context.WithTimeout(ctx, makeWayTimeout)
	defer cancel()
	told, seen := 0, 0
	for {
		lock, err := takeLock(dir, path)
		if !errors.Is(err, ErrTaken) {
			return lock, err
		}
		// Read twice: who has just taken the lock has not signed it yet.
		pid := holder(dir, path)
		if pid > 0 && pid == seen && pid != told && pid != os.Getpid() {
			if err := syscall.Kill(pid, syscall.SIGTERM); err == nil {
				told = pid
			}
		}
		seen = pid
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("the daemon that was here before does not end (pid %d): %w", pid, ErrTaken)
		case <-time.After(30 * time.Millisecond):
		}
	}
}

// holder is who signed the lock file; 0 if nobody did.
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

// Hold stops accepting, and leaves who comes now in the queue of the socket: for who Gives it away.
func (l *Listener) Hold() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopped || !l.lockInPlaceLocked() || !l.socketInPlaceLocked() {
		return errors.New("the socket is not in its place")
	}
	held, err := l.unix.File()
	if err != nil {
		return err
	}
	l.held, l.stopped, l.kept = held, true, true
	return l.unix.Close()
}

// Give returns what the next daemon needs to Inherit, after Hold: the lock and the
// socket. They stay ours to close, which Close does; what is in place stays there.
func (l *Listener) Give() (lock, file *os.File) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lock, l.held
}
