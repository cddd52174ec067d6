//go:build unix

package dial

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"broker/internal/peer"
	"broker/internal/system"
)

// Door connects to the socket name of the door in a directory. The listener must have our own uid, as for Dial. In a
// container or over ssh it may have another one: then the directory must be the listener's or ours, and nobody else may
// be able to put a socket, or another directory, in its place. If nobody listens, the error is ErrNobody.
func Door(ctx context.Context, dir, name string) (*Conn, error) {
	return reach(ctx, filepath.Join(dir, name), "BROKER_DOOR", func(listener int) error {
		view := view{ours: os.Getuid(), partial: partialView()}
		if view.isOurs(listener) {
			return nil
		}
		if err := view.trusts(dir, listener); err != nil {
			return fmt.Errorf("the door %s is not trusted: %w", dir, err)
		}
		return nil
	})
}

// unmapped is the uid by which a user namespace shows all users of the machine that it does not know:
// user_namespaces(7). It is also the usual uid of the user nobody.
const unmapped = 65534

// A view is how a process sees users.
type view struct {
	ours    int  // uid of this process
	partial bool // this process is in a user namespace that does not know all users
}

// isOurs reports whether a uid can only be our own.
func (v view) isOurs(uid int) bool { return uid == v.ours && !(v.partial && uid == unmapped) }

// isGood reports whether a directory or link on the way to a door may belong to a uid: to root, which may be unknown
// here, or to us.
func (v view) isGood(uid int) bool { return uid == 0 || uid == v.ours || v.partial && uid == unmapped }

// trusts returns an error unless only root, the listener and we decide what is at dir.
func (v view) trusts(dir string, listener int) error {
	door, err := os.Stat(dir)
	if err != nil {
		return err
	}
	found := false
	err = system.Walk(dir, func(at string, info, above fs.FileInfo) error {
		owner, known := ownerOf(info)
		if !known {
			return errors.New("the owner of " + at + " is unknown")
		}
		if last := os.SameFile(info, door); last {
			found = true
			if owner != listener && owner != v.ours {
				return fmt.Errorf("%w: uid %d listens in a directory of uid %d", peer.ErrStranger, listener, owner)
			}
			if info.Mode().Perm()&0o022 != 0 {
				return fmt.Errorf("others can write to it (mode %04o)", info.Mode().Perm())
			}
		} else if !v.isGood(owner) {
			return fmt.Errorf("%s belongs to another user (uid %d)", at, owner)
		}
		// Where others can create names, only what is surely ours or root's is not theirs.
		switch {
		case above == nil || !system.WritableByOthers(filepath.Dir(at), above):
		case above.Mode()&fs.ModeSticky == 0:
			return fmt.Errorf("others can write to %s (mode %04o)", filepath.Dir(at), above.Mode().Perm())
		case owner != 0 && !v.isOurs(owner):
			return fmt.Errorf("everybody can create such a directory in %s; move the door elsewhere", filepath.Dir(at))
		}
		return nil
	})
	if err == nil && !found {
		err = errors.New("it was replaced meanwhile")
	}
	return err
}

func ownerOf(info fs.FileInfo) (uid int, known bool) {
	st, known := info.Sys().(*syscall.Stat_t)
	if !known {
		return 0, false
	}
	return int(st.Uid), true
}
