//go:build unix

package dial

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"broker/internal/peer"
)

// Conn is a connection to the daemon. Its calls block; Abort ends those of other goroutines.
type Conn struct {
	fd       int
	deadline time.Time // or zero
	mu       sync.Mutex
	closed   bool
}

// backlogWait is how long a client retries while the daemon's queue is full: the kernel returns EAGAIN at once
// instead of waiting.
const backlogWait = 2 * time.Second

// Dial connects to the daemon at path and checks that its uid is ours. If no daemon listens, the error is
// ErrNobody.
func Dial(ctx context.Context, path string) (*Conn, error) {
	return reach(ctx, path, "BROKER_SOCKET", func(listener int) error {
		if listener != os.Getuid() {
			return fmt.Errorf("%s: %w (uid %d)", path, peer.ErrStranger, listener)
		}
		return nil
	})
}

// reach connects to the socket at path, which the variable chooses. trusts returns an error if the uid of the listener
// may not answer.
func reach(ctx context.Context, path, variable string, trusts func(listener int) error) (*Conn, error) {
	name, done, err := short(path, variable)
	if err != nil {
		return nil, err
	}
	defer done()
	for give := time.Now().Add(backlogWait); ; {
		conn, err := connect(name)
		switch {
		case err == nil:
			who, err := conn.Peer()
			if err == nil {
				err = trusts(who.UID)
			}
			if err != nil {
				_ = conn.Close()
				return nil, err
			}
			return conn, nil
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOTSOCK):
			return nil, fmt.Errorf("%s: %w", path, ErrNobody)
		case errors.Is(err, syscall.EAGAIN) && time.Now().Before(give) && ctx.Err() == nil:
			time.Sleep(5 * time.Millisecond)
		default:
			return nil, fmt.Errorf("connect to %s: %w", path, err)
		}
	}
}

// connect makes one attempt. The socket must be non-blocking, because only then a full queue gives EAGAIN.
func connect(name string) (*Conn, error) {
	syscall.ForkLock.RLock()
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fd)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, err
	}
	c := &Conn{fd: fd}
	if err := syscall.SetNonblock(fd, true); err != nil {
		_ = c.Close()
		return nil, err
	}
	if err := again(func() error { return syscall.Connect(fd, &syscall.SockaddrUnix{Name: name}) }); err != nil {
		_ = c.Close()
		return nil, err
	}
	if err := syscall.SetNonblock(fd, false); err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

// again repeats a system call that a signal interrupted.
func again(call func() error) error {
	for {
		if err := call(); !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

// SetDeadline ends all following calls at t, with os.ErrDeadlineExceeded. It must not be called during a call. It needs
// no timer: a timer would start the runtime's poller, with a thread of its own.
func (c *Conn) SetDeadline(t time.Time) { c.deadline = t }

// call makes a system call with the time that is left. timeout is SO_RCVTIMEO or SO_SNDTIMEO.
func (c *Conn) call(timeout int, call func() error) error {
	err := again(func() error {
		if !c.deadline.IsZero() {
			left := time.Until(c.deadline)
			if left <= 0 {
				return os.ErrDeadlineExceeded
			}
			tv := syscall.NsecToTimeval(int64(max(left, time.Microsecond)))
			if err := syscall.SetsockoptTimeval(c.fd, syscall.SOL_SOCKET, timeout, &tv); err != nil {
				return err
			}
		}
		return call()
	})
	if errors.Is(err, syscall.EAGAIN) {
		return os.ErrDeadlineExceeded
	}
	return err
}

// Read implements io.Reader.
func (c *Conn) Read(b []byte) (n int, err error) {
	err = c.call(syscall.SO_RCVTIMEO, func() error { n, err = syscall.Read(c.fd, b); return err })
	switch {
	case err != nil:
		return 0, err
	case n == 0 && len(b) > 0:
		return 0, io.EOF
	}
	return n, nil
}

// Write implements io.Writer. The runtime ignores SIGPIPE, except for descriptors 1 and 2.
func (c *Conn) Write(b []byte) (int, error) {
	for sent := 0; sent < len(b); {
		var n int
		err := c.call(syscall.SO_SNDTIMEO, func() (err error) { n, err = syscall.Write(c.fd, b[sent:]); return err })
		if err != nil {
			return sent, err
		}
		sent += n
	}
	return len(b), nil
}

// Abort ends reads, also in other goroutines. It does not affect data that was read, nor writes.
func (c *Conn) Abort() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		_ = syscall.Shutdown(c.fd, syscall.SHUT_RD)
	}
}

// Close closes the connection. No Read or Write may be running.
func (c *Conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return os.ErrClosed
	}
	c.closed = true
	return syscall.Close(c.fd)
}

// maxPath is the longest path that fits into a socket address: sun_path of unix(7) on the smallest of our systems,
// without the final NUL.
const maxPath = 103

// short returns a name for path that fits into a socket address. The error names the variable that chooses the path.
func short(path, variable string) (name string, done func(), err error) {
	if strings.ContainsRune(path, 0) {
		return "", nil, fmt.Errorf("the path of the socket contains a NUL byte")
	}
	if len(path) <= maxPath {
		return path, func() {}, nil
	}
	fd, err := syscall.Open(filepath.Dir(path), syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil, fmt.Errorf("%s: %w", path, ErrNobody)
	}
	if err != nil {
		return "", nil, fmt.Errorf("open the directory of %s: %w", path, err)
	}
	dir := os.NewFile(uintptr(fd), filepath.Dir(path))
	if name = InDir(dir, filepath.Base(path)); len(name) > maxPath { // without /proc there is no short name
		_ = dir.Close()
		return "", nil, fmt.Errorf("the path of the socket is longer than %d bytes: set %s to a shorter one",
			maxPath, variable)
	}
	return name, func() { _ = dir.Close() }, nil
}

// Peer returns the process that listens at the other end.
func (c *Conn) Peer() (peer.Peer, error) { return peer.UnixFD(c.fd) }
