//go:build unix

// Package socket owns where client and daemon meet: a unix socket in a
// directory that is ours alone, a lock that decides who listens on it, and the identity of
// whoever is at the other end. It refuses directories of others and peers of another
// uid, and knows nothing of what is said.
package socket

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// The ways to fail that callers tell apart.
var (
	ErrTaken     = errors.New("another daemon listens on this socket")
	ErrNobody    = errors.New("no daemon listens on this socket")
	ErrStranger  = errors.New("the other end of the socket belongs to another user")
	ErrDirectory = errors.New("the socket's directory is not private")
)

// Peer is who connected, as the kernel said at that moment.
type Peer struct {
	UID int
	PID int
}

// OpenDir opens the directory of a socket and makes it where it is missing. It
// must be a directory, not a link to one, owned by us, with mode 0700: whoever can
// write to it could put his own socket there.
func OpenDir(dir string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return nil, err
	}
	created := false
	if err := os.Mkdir(dir, 0o700); err == nil {
		created = true
	} else if !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	fd, err := openDir(dir)
	if created && errors.Is(err, fs.ErrPermission) {
		// The umask took away that we may read it. Were it swapped just now
		// for a link, something of ours would become private; nothing worse.
		_ = os.Chmod(dir, 0o700)
		fd, err = openDir(dir)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", dir, ErrDirectory, err)
	}
	f := os.NewFile(uintptr(fd), dir)
	if created {
		// Whatever else the umask took away.
		if err := f.Chmod(0o700); err != nil {
			_ = f.Close()
			return nil, err
		}
	}
	var st syscall.Stat_t
	if err := syscall.Fstat(fd, &st); err != nil {
		_ = f.Close()
		return nil, err
	}
	if int(st.Uid) != os.Getuid() || st.Mode&0o077 != 0 {
		_ = f.Close()
		return nil, fmt.Errorf("%s: %w: owner %d, mode %#o; it must be yours with mode 0700", dir, ErrDirectory, st.Uid, st.Mode&0o777)
	}
	return f, nil
}

func openDir(dir string) (int, error) {
	return syscall.Open(dir, syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NOFOLLOW|syscall.O_CLOEXEC, 0)
}

// Listener accepts connections of our own uid.
type Listener struct {
	path string

	mu      sync.Mutex // guards the rest
	place              // Restore replaces it
	stopped bool
}

// A place is where a Listener can be found.
type place struct {
	dir   *os.File
	lock  *os.File
	unix  *net.UnixListener
	bound fs.FileInfo // the socket file as we made it
}

// Listen takes the lock of the socket at path and binds it. While another
// process holds the lock the error is ErrTaken. A socket file that a crash left behind is
// removed, which is safe because the lock is held. The lock file stays for ever: to
// remove it would let two processes hold locks on two files of one name.
func Listen(path string) (*Listener, error) {
	p, err := take(path)
	if err != nil {
		return nil, err
	}
	return &Listener{path: path, place: p}, nil
}

// take makes the place of the socket at path.
func take(path string) (p place, err error) {
	if p.dir, err = OpenDir(filepath.Dir(path)); err != nil {
		return place{}, err
	}
	if p.lock, err = takeLock(p.dir, path); err != nil {
		_ = p.dir.Close()
		return place{}, err
	}
	if p.unix, p.bound, err = bind(p.dir, path); err != nil {
		_ = p.lock.Close()
		_ = p.dir.Close()
		return place{}, err
	}
	return p, nil
}

func takeLock(dir *os.File, path string) (*os.File, error) {
	name := inDir(dir, filepath.Base(path)+".lock")
	fd, err := syscall.Open(name, syscall.O_RDWR|syscall.O_CREAT|syscall.O_NOFOLLOW|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open %s.lock: %w", path, err)
	}
	lock := os.NewFile(uintptr(fd), name)
	err = syscall.Flock(fd, syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil {
		// Whatever the umask took away: the next one must be able to open it.
		err = lock.Chmod(0o600)
	}
	if err != nil {
		_ = lock.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, ErrTaken
		}
		return nil, fmt.Errorf("lock %s.lock: %w", path, err)
	}
	return lock, nil
}

// bind makes the socket. It is for who holds the lock.
func bind(dir *os.File, path string) (*net.UnixListener, fs.FileInfo, error) {
	name := inDir(dir, filepath.Base(path))
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("remove the old socket: %w", err)
	}
	unix, err := net.ListenUnix("unix", &net.UnixAddr{Name: name, Net: "unix"})
	if err != nil {
		return nil, nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	// Removed by Stop alone, which holds the lock; not by whoever comes later.
	unix.SetUnlinkOnClose(false)
	err = os.Chmod(name, 0o600)
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
func (l *Listener) Accept() (net.Conn, Peer, error) {
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
			return nil, Peer{}, err
		}
		peer, err := peerOf(conn)
		if err == nil && peer.UID == os.Getuid() {
			return conn, peer, nil
		}
		_ = conn.Close()
	}
}

// Restore binds the socket anew where the file or its directory was removed or
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
	old := l.place
	if lockInPlace {
		unix, bound, err := bind(l.dir, l.path)
		if err != nil {
			return err
		}
		l.unix, l.bound = unix, bound
		return old.unix.Close()
	}
	p, err := take(l.path)
	if err != nil {
		return err
	}
	l.place = p
	return errors.Join(old.unix.Close(), old.lock.Close(), old.dir.Close())
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
	if l.socketInPlaceLocked() {
		_ = os.Remove(l.path)
	}
}

// Close gives up the socket and the lock.
func (l *Listener) Close() error {
	l.Stop()
	l.mu.Lock()
	defer l.mu.Unlock()
	return errors.Join(l.lock.Close(), l.dir.Close())
}

// backlogWait is how long a client knocks again where the daemon's queue is
// full; the kernel says EAGAIN at once instead of waiting.
const backlogWait = 2 * time.Second

// Dial connects to the daemon at path and makes sure that it is ours. With
// no daemon there the error is ErrNobody.
func Dial(ctx context.Context, path string) (net.Conn, error) {
	name, done, err := short(path)
	if err != nil {
		return nil, err
	}
	defer done()
	give := time.Now().Add(backlogWait)
	for {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "unix", name)
		switch {
		case err == nil:
			peer, err := peerOf(conn.(*net.UnixConn))
			if err != nil {
				_ = conn.Close()
				return nil, err
			}
			if peer.UID != os.Getuid() {
				_ = conn.Close()
				return nil, fmt.Errorf("%s: %w (uid %d)", path, ErrStranger, peer.UID)
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

// maxPath is the longest path that fits into a socket address, sun_path of
// unix(7) on the smallest of our systems less the final NUL.
const maxPath = 103

// short returns a name for path that fits into a socket address.
func short(path string) (name string, done func(), err error) {
	if strings.ContainsRune(path, 0) {
		return "", nil, fmt.Errorf("the socket's path holds a NUL byte")
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
	return inDir(dir, filepath.Base(path)), func() { _ = dir.Close() }, nil
}
