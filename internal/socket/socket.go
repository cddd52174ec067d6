// Package socket listens for clients. It binds a unix socket, takes the lock that decides which process owns it,
// and checks the uid of every peer, there and over loopback. It refuses peers of another uid. It does not know the
// protocol.
package socket

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"broker/internal/dial"
	"broker/internal/peer"
	"broker/internal/record"
	"broker/internal/system"
)

// ErrTaken means that another process has the socket.
var ErrTaken = errors.New("another daemon listens on this socket")

// Listener accepts connections of our own uid.
type Listener struct {
	path string

	mu      sync.Mutex // guards the rest
	place              // Restore replaces it
	stopped bool
	knocked int // how often Restore found our socket out of place and left it
}

// place is the set of files by which a Listener is found.
type place struct {
	dir   *record.Dir
	lock  *os.File
	unix  *net.UnixListener
	bound fs.FileInfo // the socket file as we created it
	kept  bool        // the file stays when we end: it is a service manager's, or handed over
	held  *os.File    // the socket itself, after Hold
}

// Listen takes the lock of the socket at path and binds it. The error is ErrTaken while another process holds the
// lock. Listen removes a socket file that a crash left, which is safe because it holds the lock. The lock file is
// never removed: otherwise two processes could hold locks on two files of the same name.
func Listen(path string) (*Listener, error) {
	p, err := take(path, false)
	if err != nil {
		return nil, err
	}
	return &Listener{path: path, place: p}, nil
}

// take creates the place of the socket at path. ours says that this process itself listens there.
func take(path string, ours bool) (p place, err error) {
	if p.dir, err = record.Make(filepath.Dir(path), record.Private); err != nil {
		return place{}, err
	}
	if p.lock, err = takeLock(p.dir, path); err != nil {
		_ = p.dir.Close()
		return place{}, err
	}
	if !ours && occupied(path) {
		err = ErrTaken
	} else {
		p.unix, p.bound, err = Bind(p.dir, path, 0o600)
	}
	if err != nil {
		_ = p.lock.Close()
		_ = p.dir.Close()
		return place{}, err
	}
	return p, nil
}

func takeLock(dir *record.Dir, path string) (*os.File, error) {
	lock, err := dir.OpenFile(filepath.Base(path)+".lock", os.O_RDWR|os.O_CREATE, record.Guarded)
	if err != nil {
		return nil, fmt.Errorf("open the lock of the socket: %w", err)
	}
	if err = system.TryLock(lock); err == nil {
		if err = isLock(lock); err == nil {
			signLock(lock)
			return lock, nil
		}
	}
	_ = lock.Close()
	if errors.Is(err, system.ErrLocked) {
		return nil, ErrTaken
	}
	return nil, fmt.Errorf("lock %s.lock: %w", path, err)
}

// Bind listens at path, which is in dir, and gives the socket this mode. It replaces a socket that is there, so the
// caller knows that nobody listens on it. Closing the listener does not remove the file.
func Bind(dir *record.Dir, path string, mode fs.FileMode) (*net.UnixListener, fs.FileInfo, error) {
	name := dial.InDir(dir.File(), filepath.Base(path))
	// A variable may name any path as the socket.
	switch info, err := os.Lstat(name); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, nil, err
	case info.Mode().Type() != fs.ModeSocket:
		return nil, nil, fmt.Errorf("%s is not a socket and was not changed", path)
	default:
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, nil, fmt.Errorf("remove the old socket: %w", err)
		}
	}
	unix, err := net.ListenUnix("unix", &net.UnixAddr{Name: name, Net: "unix"})
	if err != nil {
		return nil, nil, fmt.Errorf("listen on %s: %w", path, dial.WhyNot(err))
	}
	unix.SetUnlinkOnClose(false)
	if runtime.GOOS != "windows" { // on Windows, the directory's access list applies
		err = dir.Chmod(filepath.Base(path), mode)
	}
	if err == nil {
		var bound fs.FileInfo
		if bound, err = os.Lstat(name); err == nil {
			return unix, bound, nil
		}
	}
	_ = unix.Close()
	return nil, nil, err
}

// Accept waits for the next connection of our uid. It closes connections of other users, including root, without
// reading or writing a byte.
func (l *Listener) Accept() (net.Conn, peer.Peer, error) {
	for {
		l.mu.Lock()
		unix := l.unix
		l.mu.Unlock()
		conn, err := unix.AcceptUnix()
		if err != nil {
			l.mu.Lock()
			restored := l.unix != unix
			l.mu.Unlock()
			if restored {
				continue
			}
			return nil, peer.Peer{}, err
		}
		who, err := peer.Unix(conn)
		if err == nil && who.UID == os.Getuid() {
			return conn, who, nil
		}
		_ = conn.Close()
	}
}

// Restore binds the socket again if its file or directory was removed or replaced, and does nothing otherwise. Call it
// each second. It leaves what it finds for the first time: a service manager removes our socket, creates its own, and
// listens on it only after that. If another daemon has the place now, the error is ErrTaken, and this daemon must end.
// After any other error, Accept goes on waiting, and Restore can be retried.
func (l *Listener) Restore() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	lockInPlace := l.lockInPlaceLocked()
	if l.stopped {
		return nil
	}
	if lockInPlace && l.socketInPlaceLocked() {
		l.knocked = 0
		return nil
	}
	if lockInPlace {
		limit := 1
		if occupied(l.path) {
			limit = knocks
		}
		if l.knocked < limit {
			l.knocked++
			return nil
		}
	}
	l.knocked = 0
	old := l.place
	if lockInPlace {
		unix, bound, err := Bind(l.dir, l.path, 0o600)
		if err != nil {
			return err
		}
		l.unix, l.bound, l.kept = unix, bound, false
		return old.unix.Close()
	}
	p, err := take(l.path, l.socketInPlaceLocked())
	if err != nil {
		return err
	}
	l.place = p
	return errors.Join(old.unix.Close(), old.lock.Close(), old.dir.Close())
}

// isLock refuses a file with contents that signLock does not write: a variable may choose its name.
func isLock(lock *os.File) error {
	text := make([]byte, 64)
	n, err := lock.ReadAt(text, 0)
	if err == nil || strings.Trim(string(text[:n]), "0123456789\n") != "" {
		return errors.New("it is not a lock file of Broker and was not changed")
	}
	return nil
}

// signLock writes our pid into the lock file.
func signLock(lock *os.File) {
	_ = lock.Truncate(0)
	_, _ = lock.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
}

// knocks is how often Restore leaves another socket alone on which a process of our uid listens. On a busy machine, a
// service manager takes many seconds to start a daemon.
const knocks = 30

// occupied reports whether a process of our uid listens at path. If we hold the lock, this is not a daemon but a
// service manager. It starts a daemon for this connection, and that daemon tells us to end (Adopt).
func occupied(path string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	conn, err := dial.Dial(ctx, path)
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}

func (l *Listener) lockInPlaceLocked() bool {
	held, err := l.lock.Stat()
	if err != nil {
		return false
	}
	found, err := os.Lstat(l.path + ".lock")
	return err == nil && os.SameFile(held, found)
}

func (l *Listener) socketInPlaceLocked() bool {
	found, err := os.Lstat(l.path)
	// Inode numbers are reused soon; creation times are not.
	return err == nil && os.SameFile(l.bound, found) && l.bound.ModTime().Equal(found.ModTime())
}

// Stop stops accepting: new clients find no daemon. The lock stays held until Close.
func (l *Listener) Stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stopped = true
	_ = l.unix.Close()
	if !l.kept && l.socketInPlaceLocked() {
		_ = os.Remove(l.path)
	}
}

// Close gives up the socket and the lock.
func (l *Listener) Close() error {
	l.Stop()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held != nil {
		_ = l.held.Close()
	} else {
		_ = l.lock.Truncate(0) // nobody holds it now
	}
	return errors.Join(l.lock.Close(), l.dir.Close())
}
