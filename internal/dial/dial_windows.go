package dial

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"broker/internal/peer"
	"broker/internal/system"
)

func openDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(dir, os.O_RDONLY|system.NoFollow, 0)
	if err != nil {
		return nil, err
	}
	// Go does not report an opened link or junction as a directory.
	if info, err := f.Stat(); err != nil || !info.IsDir() {
		_ = f.Close()
		return nil, errors.Join(err, errors.New("it is not a directory"))
	}
	return f, nil
}

func private(dir *os.File) error {
	access, err := system.AccessOf(dir)
	switch {
	case err != nil:
		return err
	case !access.Ours:
		return errors.New("it belongs to another user; remove it, and Broker creates it again")
	case access.Perm&0o077 != 0:
		return errors.New("its access list admits other users; remove it, and Broker creates it again")
	}
	return nil
}

// maxPath is the longest path that fits into a socket address (UNIX_PATH_MAX less the final NUL).
const maxPath = 107

// Conn is a connection to the daemon. Its calls block; Abort ends those of other goroutines. Here it uses package
// net: reads with a deadline need what only net has. Avoiding net saves time on Linux, but on Windows the start of
// a process takes ten times as long anyway.
type Conn struct{ unix *net.UnixConn }

// Dial connects to the daemon at path and checks that it is ours. If no daemon listens, the error is ErrNobody.
func Dial(ctx context.Context, path string) (*Conn, error) {
	if len(path) > maxPath {
		return nil, fmt.Errorf("the path of the socket is longer than %d bytes: set BROKER_SOCKET to a shorter one", maxPath)
	}
	// The directory is the first protection here: a user who can write to it could put another socket there.
	dir, err := openDir(filepath.Dir(path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", path, ErrNobody)
	}
	if err == nil {
		err = private(dir)
		_ = dir.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("the directory of the socket, %s, is not private: %w", filepath.Dir(path), err)
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	switch {
	case errors.Is(err, wsaNoSupport):
		return nil, ErrNoSockets
	case errors.Is(err, wsaRefused), errors.Is(err, fs.ErrNotExist), errors.Is(err, wsaInvalid):
		return nil, fmt.Errorf("%s: %w", path, ErrNobody)
	case err != nil:
		return nil, fmt.Errorf("connect to %s: %w", path, err)
	}
	c := &Conn{conn.(*net.UnixConn)}
	if _, err := c.Peer(); err != nil {
		_ = c.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// Winsock errors for which Go has no names.
const (
	wsaInvalid = syscall.Errno(10022) // WSAEINVAL, for a file that is not a socket
	wsaRefused = syscall.Errno(10061) // WSAECONNREFUSED
)

// Peer returns the process that listens at the other end.
func (c *Conn) Peer() (peer.Peer, error) { return peer.Unix(c.unix) }

// Read implements io.Reader.
func (c *Conn) Read(b []byte) (int, error) { return c.unix.Read(b) }

// Write implements io.Writer.
func (c *Conn) Write(b []byte) (int, error) { return c.unix.Write(b) }

// SetDeadline ends all following calls at t, with os.ErrDeadlineExceeded. It must not be called during a call.
func (c *Conn) SetDeadline(t time.Time) { _ = c.unix.SetDeadline(t) }

// Abort ends reads, also in other goroutines. It does not affect data that was read, nor writes.
func (c *Conn) Abort() { _ = c.unix.SetReadDeadline(time.Unix(1, 0)) }

// Close ends the connection.
func (c *Conn) Close() error { return c.unix.Close() }
