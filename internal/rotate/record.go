package rotate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"time"

	"broker/internal/fault"
	"broker/internal/record"
	"broker/internal/secret"
	"broker/internal/system"
)

// rotation is what the record holds of a rotation.
type rotation struct {
	Source   string    `json:"source"`
	Registry string    `json:"registry"` // that has the source
	Old      string    `json:"old"`      // id of the key that is replaced
	Began    time.Time `json:"began"`
	Grace    int64     `json:"grace_seconds"` // from the deactivation to the deletion of the old key
	// Asked and AskedUntil are, by AWS's clock, the time in which a call to create a key had its effect, if it had one
	// at all. Asked is zero before the first call.
	Asked      time.Time `json:"asked,omitzero"`
	AskedUntil time.Time `json:"asked_until,omitzero"`
	Seen       time.Time `json:"seen,omitzero"`      // the last use of the old key that a person confirmed
	DeleteAt   time.Time `json:"delete_at,omitzero"` // the old key is deactivated, and deleted then
	Undo       bool      `json:"undo,omitempty"`

	stored bool // it is in the record
}

// again returns the command that continues after a question.
func (rot *rotation) again() fault.Hint {
	if rot.stored {
		return fault.Hintf("broker rotate %s --resume --yes", rot.Source)
	}
	return fault.Hintf("broker rotate %s --yes", rot.Source)
}

// state returns where the rotation is.
func (rot *rotation) state() string {
	switch {
	case !rot.DeleteAt.IsZero():
		return fmt.Sprintf("the old key %s is deactivated, and will be deleted at %s; until then, %s takes it back",
			secret.Tail(rot.Old), stamp(rot.DeleteAt), fault.Hintf("broker rotate %s --undo", rot.Source))
	case rot.Undo:
		return fmt.Sprintf("the return to key %s has stopped; continue: %s", secret.Tail(rot.Old),
			fault.Hintf("broker rotate %s --resume", rot.Source))
	}
	return fmt.Sprintf("the rotation of key %s has stopped; continue: %s", secret.Tail(rot.Old),
		fault.Hintf("broker rotate %s --resume", rot.Source))
}

func (rot *rotation) check() error {
	if rot.Source == "" || rot.Registry == "" || rot.Old == "" || rot.Grace < 0 {
		return errors.New("a rotation has no source, no registry or no key")
	}
	return nil
}

// recordFile is the contents of the record.
type recordFile struct {
	Version   int        `json:"version"` // 1
	Rotations []rotation `json:"rotations"`
}

const (
	recordName = "rotations.json"
	maxRecord  = 1 << 20 // bytes
	lockName   = "rotations.lock"
	// lockWait is longer than the time in which a child that another goroutine starts still has the lock.
	lockWait = time.Second
)

// records is the file of all rotations, and the registry whose rotations it reads.
type records struct {
	dir, registry string
	files         files
}

// files reads, writes and locks the file; tests replace it.
type files interface {
	lock(path string) (unlock func(), err error)
	read(path string) ([]byte, error)
	replace(path string, data []byte) error
	remove(path string) error
}

// disk is the file of the state directory.
type disk struct{}

func (disk) lock(path string) (func(), error) {
	ctx, cancel := context.WithTimeout(context.Background(), lockWait)
	defer cancel()
	f, err := record.Lock(ctx, path)
	if err != nil {
		return nil, err
	}
	return func() { _ = f.Close() }, nil
}

func (disk) read(path string) ([]byte, error)       { return record.Read(path, maxRecord, record.Private) }
func (disk) replace(path string, data []byte) error { return record.Replace(path, data) }
func (disk) remove(path string) error               { return record.Remove(path) }

var errNone = errors.New("no rotation")

func (r records) path() string { return filepath.Join(r.dir, recordName) }

// lock keeps every other daemon with the same state directory from rotating. The end of the process ends the lock too.
func (r records) lock() (unlock func(), err error) {
	unlock, err = r.files.lock(filepath.Join(r.dir, lockName))
	if errors.Is(err, system.ErrLocked) {
		return nil, fault.New(fault.Failed, "another daemon with the state directory %s rotates a key; "+
			"try again when that has ended", r.dir).WithHint("broker status")
	}
	if err != nil {
		return nil, fault.New(fault.Failed, "the record of rotations cannot be locked: %w", err).
			WithHint("%s", record.Unwritten(r.dir, err))
	}
	return unlock, nil
}

// all reads the record. A missing one is empty.
func (r records) all() (f recordFile, err error) {
	text, err := r.files.read(r.path())
	if errors.Is(err, fs.ErrNotExist) {
		return recordFile{Version: 1}, nil
	}
	if err == nil {
		if err = record.Decode(text, 1, &f, nil); err == nil {
			for i := range f.Rotations {
				err = errors.Join(err, f.Rotations[i].check())
			}
		}
		if err != nil {
			err = fmt.Errorf("%s is damaged: %w", r.path(), err)
		}
	}
	if err != nil {
		hint := fault.Hintf("ls -l %s", r.path())
		if errors.Is(err, record.ErrRefused) {
			hint = fault.Of(err).Hint
		}
		return recordFile{}, fault.New(fault.Failed, "the record of rotations cannot be read: %w", err).WithHint("%s", hint)
	}
	return f, nil
}

// list returns the rotations of the registry.
func (r records) list() ([]rotation, error) {
	f, err := r.all()
	if err != nil {
		return nil, err
	}
	mine := slices.DeleteFunc(f.Rotations, func(rot rotation) bool { return rot.Registry != r.registry })
	for i := range mine {
		mine[i].stored = true
	}
	return mine, nil
}

// get returns the rotation of a source, or errNone.
func (r records) get(source string) (rotation, error) {
	list, err := r.list()
	if err != nil {
		return rotation{}, err
	}
	for _, rot := range list {
		if rot.Source == source {
			return rot, nil
		}
	}
	return rotation{}, errNone
}

// put writes a rotation.
func (r records) put(rot *rotation) error {
	rot.Registry = r.registry
	if err := r.edit(rot.Source, rot); err != nil {
		return err
	}
	rot.stored = true
	return nil
}

// remove removes the rotation of a source.
func (r records) remove(source string) error { return r.edit(source, nil) }

func (r records) edit(source string, with *rotation) error {
	f, err := r.all()
	if err != nil {
		return err
	}
	f.Rotations = slices.DeleteFunc(f.Rotations, func(rot rotation) bool {
		return rot.Source == source && rot.Registry == r.registry
	})
	if with != nil {
		f.Rotations = append(f.Rotations, *with)
	}
	if len(f.Rotations) == 0 {
		err = r.files.remove(r.path())
	} else if text, jsonErr := json.Marshal(f); jsonErr != nil {
		err = jsonErr
	} else {
		err = r.files.replace(r.path(), text)
	}
	if err != nil {
		return fault.New(fault.Failed, "the record of rotations cannot be written: %w", err).
			WithHint("%s", record.Unwritten(r.dir, err))
	}
	return nil
}
