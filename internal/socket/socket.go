// Package socket owns where Broker listens: a unix socket, a lock that decides who has it, and the check of everyone
// who connects to it, or over loopback. It refuses peers of another uid, and knows nothing of what is said.
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

// ErrTaken: another process has the socket.
var ErrTaken = errors.New("another daemon listens on this socket")

// Listener accepts connections of our own uid.
type Listener struct {
	path string

	mu      sync.Mutex // guards the rest
	place              // Restore replaces it
	stopped bool
	knocked int // how often another socket in our place was left there
}

// A place is where a Listener can be found.
type place struct {
	dir   *record.Dir
	lock  *os.File
	unix  *net.UnixListener
	bound fs.FileInfo // the socket file as we made it
	kept  bool        // it stays when we end: a service manager's, or handed over
	held  *os.File    // the socket itself, after Hold
}

// Listen takes the lock of the socket at path and binds it. While another
// process holds the lock the error is ErrTaken. A socket file that a crash left behind is
// removed, which is safe because the lock is held. The lock file stays for ever: to
// remove it would let two processes hold locks on two files of one name.
func Listen(path string) (*Listener, error) {
	p, err := take(path, false)
	if err != nil {
		return nil, err
	}
	return &Listener{path: path, place: p}, nil
}

// take makes the place of the socket at path; ours says that who listens there is ourselves.
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
		p.unix, p.bound, err = bind(p.dir, path)
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

// bind makes the socket. It is for who holds the lock.
func bind(dir *record.Dir, path string) (*net.UnixListener, fs.FileInfo, error) {
	name := dial.InDir(dir.File(), filepath.Base(path))
	// A variable can name any path as that of the socket.
	switch info, err := os.Lstat(name); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, nil, err
	case info.Mode().Type() != fs.ModeSocket:
		return nil, nil, fmt.Errorf("%s is not a socket, and was left as it is", path)
	default:
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, nil, fmt.Errorf("remove the old socket: %w", err)
		}
	}
	unix, err := net.ListenUnix("unix", &net.UnixAddr{Name: name, Net: "unix"})
	if err != nil {
		return nil, nil, fmt.Errorf("listen on %s: %w", path, dial.WhyNot(err))
	}
	// Only Stop removes it, while it holds the lock.
	unix.SetUnlinkOnClose(false)
	if runtime.GOOS != "windows" { // there it has the access list of the directory
		err = os.Chmod(name, 0o600)
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

// Accept waits for the next connection of our uid. Strangers, root among
// them, are closed without a byte being read or written.
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

// Restore binds the socket again if the file or its directory was removed or
// replaced behind our back, and does nothing where all is in place. The error is ErrTaken
// where another daemon has the place now: then this one has to go. After any other error
// Accept goes on waiting, and Restore can be tried again.
func (l *Listener) Restore() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	lockInPlace := l.lockInPlaceLocked()
	if l.stopped || lockInPlace && l.socketInPlaceLocked() {
		return nil
	}
	if lockInPlace && l.knocked < knocks && occupied(l.path) {
		l.knocked++
		return nil
	}
	l.knocked = 0
	old := l.place
	if lockInPlace {
		unix, bound, err := bind(l.dir, l.path)
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

// isLock refuses a file that holds something else than signLock writes: a variable can choose its name.
func isLock(lock *os.File) error {
	text := make([]byte, 64)
	n, err := lock.ReadAt(text, 0)
	if err == nil || strings.Trim(string(text[:n]), "0123456789\n") != "" {
		return errors.New("it is not a lock file of Broker, and was left as it is")
	}
	return nil
}

// signLock writes into the lock file who holds it.
func signLock(lock *os.File) {
	_ = lock.Truncate(0)
	_, _ = lock.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
}

// knocks is how often Restore leaves another socket alone at which somebody of ours listens. It is asked each second, and
// on a machine that has much else to do a service manager takes many of those to start a daemon.
const knocks = 30

// occupied reports whether somebody of our uid listens at path. Where we hold the
// lock that is no daemon but a service manager, which starts one for this very connection, and that one
// tells us to end (Adopt).
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
	// Inode numbers come again soon; the time of making does not.
	return err == nil && os.SameFile(l.bound, found) && l.bound.ModTime().Equal(found.ModTime())
}

// Stop ends accepting; those who come now find nobody. The lock stays held until Close.
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
		_ = l.lock.Truncate(0) // it is nobody's now
	}
	return errors.Join(l.lock.Close(), l.dir.Close())
}
