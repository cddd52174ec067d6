package atomicfile

import (
	"errors"
	"io/fs"
	"os"
)

// noFollow is no flag on Windows, where only an administrator can create a symlink.
const noFollow = 0

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
