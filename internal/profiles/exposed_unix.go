//go:build unix

package profiles

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"broker/internal/fault"
	"broker/internal/system"
)

// exposed says who besides us and root could change the content of a path: through the file itself, through a
// directory on the way, or through a symbolic link in a directory that all may write to. It is nil if nobody could, and
// for a file that is not there. What an access control list adds is seen on Linux alone.
func exposed(path string) *exposure {
	var found *exposure
	err := system.Walk(path, func(at string, info, dir fs.FileInfo) error {
		// In a directory such as /tmp others cannot replace what is ours, but may have put there what is theirs.
		if owner := ownerOf(info); dir != nil && dir.Mode()&fs.ModeSticky != 0 && !isOurUID(owner) &&
			system.WritableByOthers(filepath.Dir(at), dir) {
			found = &exposure{at, fmt.Sprintf("belongs to another user (uid %d)", owner)}
		} else if info.Mode()&fs.ModeSymlink == 0 {
			found = exposes(at, info)
		}
		if found != nil {
			return fs.SkipAll
		}
		return nil
	})
	if err != nil && !errors.Is(err, fs.SkipAll) {
		return nil
	}
	return found
}

// exposes says why others may change a file, or replace what lies in a directory.
func exposes(path string, info fs.FileInfo) *exposure {
	if owner := ownerOf(info); !isOurUID(owner) {
		return &exposure{path, fmt.Sprintf("belongs to another user (uid %d)", owner)}
	}
	if sticky := info.IsDir() && info.Mode()&fs.ModeSticky != 0; !sticky && system.WritableByOthers(path, info) {
		return &exposure{path, fmt.Sprintf("may be written by others (mode %04o)", info.Mode().Perm())}
	}
	return nil
}

// hint is the command that ends the exposure. It is empty where that takes another user, and for a path that a
// repository may have chosen.
func (e *exposure) hint() fault.Hint {
	usual := system.Usual(e.path) || system.UsualForRoot(e.path) || e.path == system.KnownHome()
	if usual && strings.HasPrefix(e.why, "may be written") {
		return fault.Hintf("chmod go-w %s", e.path)
	}
	return ""
}

func isOurUID(uid int) bool { return uid == 0 || uid == os.Geteuid() }

func ownerOf(info fs.FileInfo) int {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(st.Uid)
	}
	return -1
}
