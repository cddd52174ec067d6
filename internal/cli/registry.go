package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"broker/internal/atomicfile"
	"broker/internal/audit"
	"broker/internal/fault"
	"broker/internal/peer"
	"broker/internal/profiles"
	"broker/internal/record"
)

// editRegistry changes the registry. It fails if later commands would refuse the registry. An edit that changes
// nothing writes nothing.
func (p *program) editRegistry(edit func(src []byte) ([]byte, error)) error {
	if err := profiles.CheckRegistry(p.paths.Registry); err != nil {
		return err
	}
	return p.editFile(p.paths.Registry, nil, edit)
}

// editFile changes a file of the user without losing what other programs write at the same time. It writes the line of
// the audit log first, so a write that then fails has a line too. It may call edit more than once.
func (p *program) editFile(path string, backup *atomicfile.Backup, edit func(src []byte) ([]byte, error)) error {
	var refused error
	recorded := false
	err := atomicfile.Edit(path, 0o600, backup, func(src []byte) ([]byte, error) {
		var dst []byte
		dst, refused = edit(src)
		if refused == nil && !recorded && !bytes.Equal(src, dst) {
			if refused = p.recordEdit(path); refused != nil {
				return src, refused
			}
			recorded = true
		}
		return dst, refused
	})
	if refused != nil {
		return err
	}
	return writeFault(path, err)
}

// recordEdit writes to the audit log which command changes which file; the command line of this process says more.
func (p *program) recordEdit(path string) error {
	err := p.record(audit.Event{Event: "edited", Reason: strings.Join(locate(p.commands, p.typed).path, " "), Message: path})
	if err != nil {
		return fault.New(fault.Failed, "%s is not changed: %w", path, err).WithHint("broker doctor")
	}
	return nil
}

// record writes a line to the audit log, as the daemon does. If that fails, it prints why. It returns an error only if
// audit = required is set: what the line says must not happen then.
func (p *program) record(event audit.Event) error {
	err := p.write(event)
	if err == nil {
		return nil
	}
	if !p.auditOptional && p.auditRequired() {
		return fault.New(fault.Failed, "audit = required, and %w", err).WithHint("broker doctor")
	}
	p.caution(err.Error() + "; it does not have this event (" + event.Event + ")")
	return nil
}

// write writes a line to the audit log.
func (p *program) write(event audit.Event) error {
	dir, err := record.Make(p.paths.State, record.Guarded)
	if err != nil {
		return fmt.Errorf("the audit log cannot be written: %w", err)
	}
	_ = dir.Close()
	log := audit.New(p.paths.Audit(), func(error) {})
	defer func() { _ = log.Close() }()
	log.Journal = audit.JournalSocket
	self, err := peer.Find(os.Getpid())
	if err != nil {
		self = peer.Process{PID: os.Getpid()}
	}
	event.UID, event.PID, event.Caller = os.Getuid(), self.PID, audit.CallerOf(self)
	return log.Record(event)
}

// auditRequired reports whether audit = required is set, or the settings cannot be read.
func (p *program) auditRequired() bool {
	set, err := new(profiles.Store).Load(p.files())
	if err != nil {
		return true
	}
	settings, err := set.Settings()
	return err != nil || settings.AuditRequired
}

// writeFault returns the error of a file that was not written.
func writeFault(path string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, atomicfile.ErrReadOnly):
		return fault.New(fault.Failed, "%w", err).WithHint("%s", record.Mend(path, fault.Hintf("chmod u+w %s", path)))
	}
	f := fault.New(fault.Failed, "write %s: %w", path, err)
	if at, ok := errors.AsType[*fs.PathError](err); ok && at.Path == path {
		f = fault.New(fault.Failed, "%w", err) // it names the file
	}
	if _, ok := errors.AsType[syscall.Errno](err); ok {
		f = f.WithHint("%s", record.Unwritten(writtenIn(path, err), err))
	}
	return f
}

// writtenIn returns the directory in which the write of a file failed. It is another one if the file is a link.
func writtenIn(path string, err error) string {
	switch at, ok := errors.AsType[*fs.PathError](err); {
	case !ok || !filepath.IsAbs(at.Path):
		return filepath.Dir(path)
	case at.Op == "write in":
		return at.Path
	default:
		return filepath.Dir(at.Path)
	}
}
