// Package atomicfile replaces a file safely: a reader sees the old bytes or the new ones, a crash leaves one of
// the two, and an edit loses nothing that other programs write meanwhile. It knows nothing about the content.
package atomicfile

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"broker/internal/system"
)

// Write replaces the file at path: temporary file in the same directory, sync, rename, sync of the directory. It
// follows a symlink, so a file that is kept in a dotfiles repository stays there. An existing file keeps its mode;
// a new file gets perm regardless of the umask. The directory must exist.
func Write(path string, data []byte, perm fs.FileMode) (err error) {
	target, err := follow(path)
	if err != nil {
		return err
	}
	if info, err := os.Stat(target); err == nil {
		if !info.Mode().IsRegular() {
			return fmt.Errorf("%s is not a regular file", target)
		}
		perm = info.Mode().Perm()
	}
	dir := filepath.Dir(target)
	tmp, err := os.CreateTemp(dir, "."+filepath.Base(target)+".broker-draft-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = tmp.Close()
			_ = os.Remove(tmp.Name())
		}
	}()
	if err = tmp.Chmod(perm); err != nil {
		return err
	}
	if _, err = tmp.Write(data); err != nil {
		return err
	}
	if err = tmp.Sync(); err != nil {
		return err
	}
	if err = tmp.Close(); err != nil {
		return err
	}
	if err = os.Rename(tmp.Name(), target); err != nil {
		return err
	}
	return system.SyncDir(dir)
}
