package atomicfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// openLock opens the file to lock while files in a directory are edited: a file in the directory, because a
// directory has no bytes to lock. That file is never removed, so that all processes lock the same one.
func openLock(dir string) (*os.File, error) {
	return os.OpenFile(filepath.Join(dir, ".broker.lock"), os.O_RDWR|os.O_CREATE, 0o600)
}

// mayWrite returns why files in a directory cannot be replaced. Only an attempt shows what an access list allows.
func mayWrite(dir string) error {
	probe, err := os.CreateTemp(dir, ".broker-*.tmp")
	if err != nil {
		return errors.Unwrap(err) // the caller names the directory
	}
	_ = probe.Close()
	return os.Remove(probe.Name())
}

// keepOwner does nothing: the creator of a file owns it, and its directory says who else may use it.
func keepOwner(*os.File, fs.FileInfo) {}
