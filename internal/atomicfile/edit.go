package atomicfile

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"broker/internal/system"
)

// ErrBusy means that another program kept writing to the file, or held the lock of its directory. Nothing was
// changed. Edit wraps it.
var ErrBusy = errors.New("another program keeps writing to it")

// ErrReadOnly means that the file has no write permission for its owner. A rename would work all the same, but the
// mode says that the owner does not want it. Edit wraps it.
var ErrReadOnly = errors.New("it is read-only")

// tries is how often an edit starts over because another program wrote the file.
const tries = 40

// Edit replaces the content of the file at path by the result of edit, and loses nothing that the user or another
// program writes at the same time:
//
//   - Edits by this package, in all processes, take turns. An edit holds the lock of a file in the
//     directory, which other users cannot open. If something else has the name of that file, which another
//     user can have put there, the edit goes on without a turn.
//   - On Linux the new file and the old one are exchanged, and then the old one is checked. If its
//     bytes are not the ones that edit was given, or a program has it open for writing, the files are
//     exchanged back and Edit starts over with the current content. If the file system cannot exchange
//     files, Edit compares the bytes right before the rename, which leaves a race of microseconds.
//   - Readers see the old bytes or the new ones, after a crash too.
//
// So Edit may call edit more than once, and edit must have no effect but its result. If it changes nothing,
// nothing is written. A missing file counts as empty; it is created with perm, and its directory with 0700. An
// existing file keeps its mode and owner. A symlink is followed. If edit returns no bytes, the file is removed,
// unless a symlink leads to it. If backup is not empty, the old bytes are kept beside the file; see Backups.
//
// A crash may leave a temporary file beside the target. The next Edit removes it if it contains only bytes that
// Edit itself wrote or replaced; otherwise it renames the file to NAME.broker-saved-… so that the user can look at
// it.
//
// Errors of edit are returned unchanged; all others wrap ErrBusy, ErrReadOnly or an error of the system.
func Edit(path string, perm fs.FileMode, backup *Backup, edit func(src []byte) ([]byte, error)) error {
	target, err := follow(path)
	if err != nil {
		return err
	}
	dir := filepath.Dir(target)
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		// An edit that leaves nothing to write creates no directory either.
		if dst, err := edit(nil); err != nil || len(dst) == 0 {
			return err
		}
		if err := system.MakeDirs(dir); err != nil {
			return err
		}
	}
	turn, err := takeTurn(dir, turnWait)
	if err != nil {
		return err
	}
	defer turn.end()
	e := &editing{target: target, perm: perm, backup: backup, dir: dir, linked: isLink(path)}
	if turn != nil {
		if err := e.tidy(); err != nil {
			return err
		}
	}
	for i := range tries {
		done, err := e.once(edit)
		if done || err != nil {
			return e.settle(done, err)
		}
		time.Sleep(time.Duration(i+1) * time.Millisecond)
	}
	return e.settle(false, fmt.Errorf("%s was not changed: %w", target, ErrBusy))
}

// Tidy removes what an interrupted Edit of the file at path left, as the next Edit would. It does nothing while an
// Edit is in progress in that directory, because that Edit has already tidied. A missing file or directory is not
// an error.
func Tidy(path string) error {
	if path == "" || path == os.DevNull {
		return nil
	}
	target, err := follow(path)
	if err != nil {
		return nil // the next edit reports why
	}
	dir := filepath.Dir(target)
	if !left(target, dir) {
		return nil
	}
	switch turn, err := takeTurn(dir, 0); {
	case errors.Is(err, ErrBusy), err == nil && turn == nil:
		return nil
	case err != nil:
		return err
	default:
		defer turn.end()
	}
	return (&editing{target: target, dir: dir}).tidy()
}

// left reports whether a leftover of an edit lies beside a file. A directory that cannot be read counts as having
// none.
func left(target, dir string) bool {
	names, _ := os.ReadDir(dir)
	return slices.ContainsFunc(names, func(n fs.DirEntry) bool {
		return strings.HasPrefix(n.Name(), "."+filepath.Base(target)+".broker-")
	})
}

// turnWait is how long an edit waits for its turn.
const turnWait = 20 * time.Second

// lockName is the name of the file in a directory whose lock is held while files in that directory are edited.
const lockName = ".broker.lock"

// turn is the open lock file of a directory. Its lock is held.
type turn struct{ *os.File }

// takeTurn creates and locks the lock file of a directory. It waits for its turn for as long as wait; the error is
// then ErrBusy. Without a turn and an error there is no turn to take: this user may not write in the directory, or
// what has the name of the lock file is not one that only this user can lock.
func takeTurn(dir string, wait time.Duration) (*turn, error) {
	info, err := os.Stat(dir)
	if err != nil {
		return nil, err
	}
	for begin := time.Now(); ; time.Sleep(2 * time.Millisecond) {
		held, err := openLock(filepath.Join(dir, lockName), info)
		if held == nil {
			return nil, err
		}
		err = system.TryLock(held)
		t := &turn{held}
		if err == nil && t.current() {
			return t, nil
		}
		_ = held.Close()
		if err != nil && !errors.Is(err, system.ErrLocked) {
			return nil, fmt.Errorf("lock %s: %w", held.Name(), err)
		}
		if time.Since(begin) >= wait {
			return nil, fmt.Errorf("nothing in %s was changed: %w (%s is locked)", dir, ErrBusy, held.Name())
		}
	}
}

// openLock opens the lock file of a directory, or creates it. In a directory where other users can create files, they
// can put anything in its place. Without a file and an error, there is no lock that only this user can hold.
func openLock(path string, dir fs.FileInfo) (*os.File, error) {
	const flags = os.O_RDWR | noFollow
	for {
		f, err := os.OpenFile(path, flags|os.O_CREATE|os.O_EXCL, 0o600)
		if err == nil {
			_ = f.Chmod(0o600) // whatever the umask
			keepOwner(f, dir)  // root edits a file of its user
			return f, nil
		}
		if errors.Is(err, fs.ErrExist) {
			if f, err = os.OpenFile(path, flags, 0); errors.Is(err, fs.ErrNotExist) {
				continue // an edit that ended has removed it
			}
		}
		found, missing := os.Lstat(path)
		switch {
		case err == nil && isPrivate(f, dir):
			return f, nil
		case err == nil:
			_ = f.Close()
			return nil, nil
		case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS), // as above
			errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT), // a file can still be removed
			missing == nil && !found.Mode().IsRegular():
			return nil, nil
		default:
			return nil, err
		}
	}
}

// isPrivate reports whether only this user can open a lock file, or for root also the owner of the directory.
func isPrivate(f *os.File, dir fs.FileInfo) bool {
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return false
	}
	access, known := system.AccessOfInfo(info)
	return !known || access.Perm&0o077 == 0 && (access.Ours || access.Owner == ownerOf(dir))
}

func ownerOf(info fs.FileInfo) string {
	access, _ := system.AccessOfInfo(info)
	return access.Owner
}

// current reports whether the lock file is still the one in the directory: an edit that ends removes it.
func (t *turn) current() bool {
	mine, err := t.Stat()
	if err != nil {
		return false
	}
	now, err := os.Lstat(t.Name())
	return err == nil && os.SameFile(mine, now)
}

// end removes the lock file, where an open file can be removed, and releases the lock.
func (t *turn) end() {
	if t == nil {
		return
	}
	_ = os.Remove(t.Name())
	_ = t.Close()
}

// Check reports beforehand whether Edit would refuse the file: for its mode, its type or its directory. It is for
// callers that write either all of several files or none.
func Check(path string) error {
	target, err := follow(path)
	if err != nil {
		return err
	}
	info, err := os.Stat(target)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is not a regular file", target)
	default:
		if err := writable(target, info); err != nil {
			return err
		}
	}
	dir := filepath.Dir(target)
	err = mayWrite(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return &fs.PathError{Op: "write in", Path: dir, Err: err}
	}
	return nil
}

func writable(target string, info fs.FileInfo) error {
	if perm := info.Mode().Perm(); perm&0o200 == 0 {
		return fmt.Errorf("%s was not changed: %w (mode %04o)", target, ErrReadOnly, perm)
	}
	return nil
}

// follow returns the file that a path leads to, which may not exist yet.
func follow(path string) (string, error) {
	target, err := filepath.EvalSymlinks(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return target, err
	}
	// A dangling link is not replaced: the user meant a file elsewhere. The file may have been created just now.
	if isLink(path) {
		return "", fmt.Errorf("%s is a symbolic link to a file that does not exist", path)
	}
	// The directory may be a link; the lock must be on the real one.
	if dir, err := filepath.EvalSymlinks(filepath.Dir(path)); err == nil {
		return filepath.Join(dir, filepath.Base(path)), nil
	}
	return path, nil
}

// editing is one call of Edit.
type editing struct {
	target string
	perm   fs.FileMode
	backup *Backup
	dir    string // its lock is held
	linked bool   // a symlink leads to it
	// late holds what other programs appended to our draft while it was in the place of their file. It must be
	// appended to the current content. Until that is done, the drafts that hold it are kept.
	late []byte
	kept []string
	// draft was in the place of real for a moment, then real was put back. A program that read draft in that
	// moment may write it back later, with its own change.
	draft, real []byte
}

// settle removes the kept drafts if done, because nothing in them is needed any more; otherwise it saves them for
// the user.
func (e *editing) settle(done bool, err error) error {
	for _, name := range e.kept {
		more := os.Remove
		if !done {
			more = e.save
		}
		if e := more(name); e != nil {
			err = errors.Join(err, e)
		}
	}
	return err
}

// once reads, edits and replaces the file. It returns false if another program wrote the file meanwhile; the file
// then keeps what that program wrote.
func (e *editing) once(edit func([]byte) ([]byte, error)) (done bool, err error) {
	src, info, err := read(e.target)
	if err != nil {
		return false, err
	}
	base := src
	if e.draft != nil && !bytes.HasPrefix(src, e.real) && bytes.HasPrefix(src, e.draft) {
		base = slices.Concat(e.real, src[len(e.draft):])
	}
	dst, err := edit(slices.Concat(base, e.late))
	if err != nil {
		return false, err
	}
	if bytes.Equal(src, dst) {
		return true, nil
	}
	perm := e.perm
	if info != nil {
		perm = info.Mode().Perm()
		if err := writable(e.target, info); err != nil {
			return false, err
		}
		if e.backup != nil && (e.backup.Wanted == nil || e.backup.Wanted(src, dst)) {
			if err := e.backup.keep(src); err != nil {
				return false, fmt.Errorf("no backup was written, so nothing was changed: %w", err)
			}
		}
		if len(dst) == 0 && !e.linked {
			done, err := e.remove(src)
			if done {
				err = errors.Join(err, system.SyncDir(e.dir))
			}
			return done, err
		}
	}
	draft, err := e.write(src, dst, perm, info)
	if err != nil {
		return false, err
	}
	if info == nil {
		done, err = e.create(draft)
	} else {
		done, err = e.replace(draft, info, src, dst)
	}
	if done {
		err = system.SyncDir(e.dir)
	}
	return done, err
}

// read returns the bytes of a regular file and does not block on a fifo. A missing file has no bytes and no info.
func read(path string) ([]byte, fs.FileInfo, error) {
	f, info, err := system.OpenRegular(path, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = f.Close() }()
	src, err := io.ReadAll(f)
	return src, info, err
}

// prefix returns how the names of temporary files begin. A draft may be incomplete and can be discarded. The name
// of a swap contains the digests of the bytes that were written to it and of the bytes that it replaces. If it has
// any other content, another program wrote that.
func (e *editing) prefix(kind string) string {
	return "." + filepath.Base(e.target) + ".broker-" + kind + "-"
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return fmt.Sprintf("%x", sum[:16])
}

// write creates the new file beside the target, complete and synced.
func (e *editing) write(src, dst []byte, perm fs.FileMode, like fs.FileInfo) (name string, err error) {
	tmp, err := os.CreateTemp(e.dir, e.prefix("draft")+"*")
	if err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			_ = tmp.Close()
			_ = os.Remove(tmp.Name())
		}
	}()
	if like != nil {
		keepOwner(tmp, like)
	}
	if err = tmp.Chmod(perm); err != nil {
		return "", err
	}
	if _, err = tmp.Write(dst); err != nil {
		return "", err
	}
	if err = tmp.Sync(); err != nil {
		return "", err
	}
	if err = tmp.Close(); err != nil {
		return "", err
	}
	name = filepath.Join(e.dir, e.prefix("swap")+digest(src)+"-"+digest(dst))
	return name, os.Rename(tmp.Name(), name)
}

// isLink reports whether a path is a symlink.
func isLink(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.Mode()&fs.ModeSymlink != 0
}

// remove removes a file that should contain the bytes src. It checks the file afterwards, as replace does.
func (e *editing) remove(src []byte) (bool, error) {
	out := filepath.Join(e.dir, e.prefix("swap")+digest(src)+"-"+digest(nil))
	switch err := os.Rename(e.target, out); {
	case errors.Is(err, fs.ErrNotExist): // the target was removed
		return false, nil
	case err != nil:
		return false, err
	case untouched(out, src):
		return true, os.Remove(out)
	}
	// Another program wrote the file after we read it. Put it back.
	if err := os.Link(out, e.target); err != nil {
		return false, errors.Join(err, e.save(out))
	}
	return false, os.Remove(out)
}

// create puts the draft at the target, where no file is.
func (e *editing) create(draft string) (bool, error) {
	err := os.Link(draft, e.target) // unlike a rename, a link never replaces a file
	_ = os.Remove(draft)
	if errors.Is(err, fs.ErrExist) {
		return false, nil
	}
	return err == nil, err
}

// replace puts the draft in the place of a file that should still contain the bytes src.
func (e *editing) replace(draft string, info fs.FileInfo, src, dst []byte) (bool, error) {
	if !untouched(e.target, src) {
		return false, os.Remove(draft)
	}
	if now, err := os.Stat(e.target); err != nil || !os.SameFile(info, now) {
		return false, os.Remove(draft)
	}
	err := exchange(draft, e.target)
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		// The time since the comparison is the only race left.
		return true, os.Rename(draft, e.target)
	case errors.Is(err, fs.ErrNotExist): // the target was removed
		return false, os.Remove(draft)
	case err != nil:
		return false, errors.Join(err, os.Remove(draft))
	}
	// If the file was changed, put it back at once: the fewer programs read ours, the better.
	out, err := os.Stat(draft)
	if err == nil && os.SameFile(info, out) && untouched(draft, src) {
		return true, os.Remove(draft)
	}
	// Another program wrote the file after we read it. Put it back.
	if err := exchange(draft, e.target); err != nil {
		return false, errors.Join(err, e.save(draft))
	}
	if real, _ := quiet(e.target); real != nil {
		e.draft, e.real = dst, real
	}
	if untouched(draft, dst) {
		return false, os.Remove(draft)
	}
	// Another program also wrote to our draft while it was in place.
	return false, e.rescue(draft, dst)
}

// rescue handles what other programs wrote to our draft while it was in the place of their file. The file is now
// called draft.
func (e *editing) rescue(draft string, dst []byte) error {
	got, writing := quiet(draft)
	for i := 0; writing && i < tries; i++ {
		time.Sleep(time.Millisecond)
		got, writing = quiet(draft)
	}
	if writing || got == nil {
		return e.save(draft)
	}
	if !bytes.HasPrefix(got, dst) {
		// It is not our draft plus appended bytes, so it is newer than the file that was put back.
		if err := exchange(draft, e.target); err != nil {
			return errors.Join(err, e.save(draft))
		}
		older, writing := quiet(draft)
		if !writing && older != nil && bytes.HasPrefix(got, older) {
			return os.Remove(draft)
		}
		return e.save(draft)
	}
	// Use a new name, because the next draft could get the old one.
	name, err := os.CreateTemp(e.dir, e.prefix("swap")+"late-*")
	if err != nil {
		return errors.Join(err, e.save(draft))
	}
	_ = name.Close()
	e.late = append(e.late, got[len(dst):]...)
	e.kept = append(e.kept, name.Name())
	return os.Rename(draft, name.Name())
}

// save gives a file that another program wrote a name that the user can see.
func (e *editing) save(name string) error {
	saved, err := os.MkdirTemp(e.dir, filepath.Base(e.target)+".broker-saved-*")
	if err == nil {
		saved = filepath.Join(saved, filepath.Base(e.target))
		err = os.Rename(name, saved)
	}
	if err != nil {
		saved = name
	}
	return fmt.Errorf("%s: two programs wrote to it at the same time; one of the versions is saved in %s", e.target, saved)
}

// untouched reports whether a file has these bytes and no program has it open for writing.
func untouched(path string, want []byte) bool {
	got, writing := quiet(path)
	return !writing && got != nil && bytes.Equal(got, want)
}

// quiet returns the bytes of a file, or nil if it cannot be read, and whether a program has it open for writing.
func quiet(path string) (got []byte, writing bool) {
	f, _, err := system.OpenRegular(path, 0)
	if err != nil {
		return nil, false
	}
	defer func() { _ = f.Close() }()
	release, free := lease(f)
	if !free {
		return nil, true
	}
	got, err = io.ReadAll(f)
	if !release() {
		return nil, true
	}
	if err != nil {
		return nil, false
	}
	return got, false
}

// tidy removes the leftovers of earlier edits of this file that were killed. What belongs to neither this user nor the
// owner of the file is no leftover.
func (e *editing) tidy() error {
	names, err := os.ReadDir(e.dir)
	if err != nil {
		return err
	}
	target, _ := os.Stat(e.target)
	for _, n := range names {
		path := filepath.Join(e.dir, n.Name())
		draft := strings.HasPrefix(n.Name(), e.prefix("draft")) ||
			strings.HasPrefix(n.Name(), "."+filepath.Base(e.target)+BackupSuffix+".") &&
				strings.Contains(n.Name(), ".broker-draft-")
		digests, swap := strings.CutPrefix(n.Name(), e.prefix("swap"))
		if !draft && !swap || !isLeftover(path, target) {
			continue
		}
		if draft {
			if err := os.Remove(path); err != nil {
				return err
			}
			continue
		}
		got, _, err := read(path)
		if err != nil {
			return err
		}
		if src, dst, _ := strings.Cut(digests, "-"); digest(got) == src || digest(got) == dst {
			err = os.Remove(path)
		} else {
			err = e.save(path)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// isLeftover reports whether a path may be a file that an edit left. target is the file of the edit, or nil.
func isLeftover(path string, target fs.FileInfo) bool {
	info, err := os.Lstat(path)
	if err != nil || !info.Mode().IsRegular() {
		return false
	}
	access, known := system.AccessOfInfo(info)
	return !known || access.Ours || target != nil && access.Owner == ownerOf(target)
}
