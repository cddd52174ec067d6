package cli

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"broker/internal/atomicfile"
	"broker/internal/fault"
)

// editRegistry changes the registry: read, edit, replace, while no other
// command of ours does the same. An edit that changes nothing writes nothing.
func (p *program) editRegistry(edit func(src []byte) ([]byte, error)) error {
	path := p.paths.Registry
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fault.New(fault.Failed, "make the directory of the registry: %w", err)
	}
	held, err := os.Open(dir)
	if err != nil {
		return fault.New(fault.Failed, "open the directory of the registry: %w", err)
	}
	defer func() { _ = held.Close() }()
	if err := syscall.Flock(int(held.Fd()), syscall.LOCK_EX); err != nil {
		return fault.New(fault.Failed, "lock %s: %w", dir, err)
	}
	src, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fault.New(fault.Config, "read the registry: %w", err)
	}
	dst, err := edit(src)
	if err != nil {
		return err
	}
	if bytes.Equal(src, dst) {
		return nil
	}
	if err := atomicfile.Write(path, dst, 0o600); err != nil {
		return fault.New(fault.Failed, "write the registry: %w", err)
	}
	return nil
}
