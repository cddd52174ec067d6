// Package dial owns a client's way to the daemon: the directory of the socket,
// which has to be ours alone, a connection, and the proof that who listens there is of our own uid. It
// refuses directories of others and strangers. But for Windows it does without net and the poller of
// the runtime, which would be a third of credproc's life.
package dial

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"broker/internal/system"
)

// The ways to fail that callers tell apart.
var (
	ErrNobody    = errors.New("no daemon listens on this socket")
	ErrStranger  = errors.New("the other end of the socket belongs to another user")
	ErrDirectory = errors.New("the socket's directory is not private")
	// ErrNoSockets comes on Windows alone.
	ErrNoSockets = errors.New("this Windows has no unix sockets: Windows 10 version 1803 or later is needed")
)

// wsaNoSupport is WSAEAFNOSUPPORT, which no other system has.
const wsaNoSupport = syscall.Errno(10047)

// WhyNot is an error of making a socket, in words that can be understood.
func WhyNot(err error) error {
	if errors.Is(err, wsaNoSupport) {
		return ErrNoSockets
	}
	return err
}

// Peer is who is at the other end, as the kernel said when the connection was made. On Windows, where
// users have no numbers, the UID is that of os.Getuid, -1, for our own processes; PeerOf fails for others.
type Peer struct {
	UID int
	PID int
}

// OpenDir opens the directory of a socket and makes it where it is missing. It
// must be a directory, not a link to one, owned by us, with mode 0700: whoever can
// write to it could put his own socket there. On Windows the access list is looked at instead of the mode.
func OpenDir(dir string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return nil, err
	}
	created := false
	if err := system.MakePrivate(dir); err == nil {
		created = true
	} else if !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	f, err := openDir(dir)
	if created && errors.Is(err, fs.ErrPermission) {
		// The umask took away that we may read it. Were it swapped just now
		// for a link, something of ours would become private; nothing worse.
		_ = os.Chmod(dir, 0o700)
		f, err = openDir(dir)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", dir, ErrDirectory, err)
	}
	if created {
		// Whatever else the umask took away.
		if err := makePrivate(f); err != nil {
			_ = f.Close()
			return nil, err
		}
	}
	if err := private(f); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("%s: %w: %w", dir, ErrDirectory, err)
	}
	return f, nil
}

// MaxFiles is how many open files may come with one line; see ReadFiles.
const MaxFiles = 64
