package atomicfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// openLock opens what is locked while files of a directory are edited: a file in it, since a directory has
// no bytes that could be locked. It stays, so that all have the same.
func openLock(dir string) (*os.File, error) {
	return os.OpenFile(filepath.Join(dir, ".broker.lock"), os.O_RDWR|os.O_CREATE, 0o600)
}

// mayWrite says why files in a directory cannot be replaced. What an access list allows is known by trying alone.
func mayWrite(dir string) error {
	probe, err := os.CreateTemp(dir, ".broker-*.tmp")
	if err != nil {
		return errors.Unwrap(err) // the caller names the directory
	}
	_ = probe.Close()
	return os.Remove(probe.Name())
}

// keepOwner has nothing to do: who makes a file owns it, and its directory says who else may use it.
func keepOwner(*os.File, fs.FileInfo) {}
