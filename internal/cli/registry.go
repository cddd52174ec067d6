package cli

import (
	"bytes"
	"errors"
	"os"
	"strings"

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

// editFile changes a file of the user without losing what other programs write at the same time, and records that in
// the audit log. It may call edit more than once.
func (p *program) editFile(path string, backup *atomicfile.Backup, edit func(src []byte) ([]byte, error)) error {
	var refused error
	changed := false
	err := atomicfile.Edit(path, 0o600, backup, func(src []byte) ([]byte, error) {
		var dst []byte
		dst, refused = edit(src)
		changed = !bytes.Equal(src, dst)
		return dst, refused
	})
	switch {
	case refused != nil:
		return err
	case err != nil:
		return writeFault(path, err)
	case changed:
		p.recordEdit(path)
	}
	return nil
}

// recordEdit writes to the audit log which command changed which file; the command line of this process says more.
func (p *program) recordEdit(path string) {
	p.record(audit.Event{Event: "edited", Reason: strings.Join(locate(p.commands, p.typed).path, " "), Message: path})
}

// record writes a line to the audit log, as the daemon does.
func (p *program) record(event audit.Event) {
	dir, err := record.Make(p.paths.State, record.Guarded)
	if err != nil {
		p.caution("the audit log does not have this event (" + event.Event + "): " + err.Error())
		return
	}
	_ = dir.Close()
	log := audit.New(p.paths.Audit(), func(err error) { p.caution(err.Error()) })
	log.Journal = audit.JournalSocket
	self, err := peer.Find(os.Getpid())
	if err != nil {
		self = peer.Process{PID: os.Getpid()}
	}
	event.UID, event.PID, event.Caller = os.Getuid(), self.PID, audit.CallerOf(self)
	_ = log.Record(event)
	_ = log.Close()
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
