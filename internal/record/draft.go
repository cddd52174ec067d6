package record

import (
	"errors"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"

	"broker/internal/system"
)

// A draft of NAME is called .NAME.broker-draft-… . Its writer holds its lock until the draft is renamed. So a
// draft that is not locked was left behind.
const draftMark = ".broker-draft-"

func isDraft(name string) bool { return name[0] == '.' && strings.Contains(name, draftMark) }

// draft creates the file that Replace writes.
func (d *Dir) draft(name string) (f *os.File, as string, err error) {
	err = d.again(name, func() error {
		as = "." + name + draftMark + strconv.FormatUint(rand.Uint64(), 36)
		if f, err = d.create(as, os.O_WRONLY|os.O_CREATE|os.O_EXCL); err != nil {
			return err
		}
		if d.holds(f, as) {
			return nil
		}
		_ = f.Close() // a concurrent Sweep has it, and removes it
		return changed{}
	})
	return f, as, err
}

// holds takes the lock of a draft. It returns false if another process has the lock, or the draft no longer has
// its name. On a file system without locks, no draft is ever locked.
func (d *Dir) holds(f *os.File, name string) bool {
	if err := system.TryLock(f); errors.Is(err, system.ErrLocked) {
		return false
	}
	opened, err := f.Stat()
	if err != nil {
		return false
	}
	found, err := d.root.Lstat(name)
	return err == nil && os.SameFile(opened, found)
}

// Sweep removes drafts that are not locked: those of processes that were killed.
func (d *Dir) Sweep() error {
	names, err := d.Names()
	for _, name := range names {
		if !isDraft(name) {
			continue
		}
		f, oerr := d.open(name, os.O_RDWR, Guarded)
		if oerr != nil {
			continue // it is gone, or not a draft of ours
		}
		if d.holds(f, name) {
			err = errors.Join(err, d.Remove(name))
		}
		_ = f.Close()
	}
	return err
}
