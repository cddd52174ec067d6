package cli

import (
	"errors"

	"broker/internal/atomicfile"
	"broker/internal/fault"
	"broker/internal/profiles"
	"broker/internal/record"
)

// editRegistry changes the registry. It fails if later commands would refuse the registry. An edit that changes
// nothing writes nothing.
func (p *program) editRegistry(edit func(src []byte) ([]byte, error)) error {
	if err := profiles.CheckRegistry(p.paths.Registry); err != nil {
		return err
	}
	return editFile(p.paths.Registry, nil, edit)
}

// editFile changes a file of the user without losing what other programs write at the same time. It may call edit
// more than once.
func editFile(path string, backup *atomicfile.Backup, edit func(src []byte) ([]byte, error)) error {
	var refused error
	err := atomicfile.Edit(path, 0o600, backup, func(src []byte) ([]byte, error) {
		var dst []byte
		dst, refused = edit(src)
		return dst, refused
	})
	if err == nil || refused != nil {
		return err
	}
	return writeFault(path, err)
}

// writeFault returns the error of a file that was not written.
func writeFault(path string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, atomicfile.ErrReadOnly):
		return fault.New(fault.Failed, "%w", err).WithHint("%s", record.Mend(path, fault.Hintf("chmod u+w %s", path)))
	}
	return fault.New(fault.Failed, "write %s: %w", path, err)
}
