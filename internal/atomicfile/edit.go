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
	"time"

	"broker/internal/system"
)

// ErrBusy is wrapped by Edit's error when another program did not stop writing
// the file, or held the lock of its directory. Nothing was changed then.
var ErrBusy = errors.New("another program keeps writing it")

// ErrReadOnly is wrapped by Edit's error for a file without write permission
// for its owner. A rename would replace it all the same; the mode says that
// its owner does not want that.
var ErrReadOnly = errors.New("it is read-only")

// tries is how often an edit starts over because somebody else wrote the file.
const tries = 40

// Edit replaces the file at path by what edit makes of its bytes, so that
// nothing is lost that the user or another program writes at the same time:
//
//   - Edits by this package, in all processes, take turns (flock on the directory; on Windows
//     a lock file in it), unless another user holds that lock.
//   - On Linux the new file is exchanged with the old one, and then the old one is
//     looked at. If it is not what edit was given, or somebody has it open for
//     writing, they are exchanged back and it starts over with what is there
//     now. Where the file system cannot exchange, the bytes are compared right
//     before the rename, which leaves a moment of microseconds.
//   - Readers see the old bytes or the new ones, after a crash too.
//
// So edit may be called more than once and must have no effect but its result.
// If it changes nothing, nothing is written. A missing file is an empty one; it is made with
// perm, and its directory with 0700. An existing one keeps mode and owner. A symlink is
// followed. A file that edit leaves without a byte is removed, unless a symlink leads to it.
// If backup is not empty, the bytes before are kept beside the file; see Backups.
//
// What a crash may leave is a temporary file beside the target, which the next
// Edit removes if it holds nothing but what Edit itself wrote or replaced; otherwise
// it is renamed to NAME.broker-saved-…, for the user to look at.
//
// Errors of edit are returned as they are; the others wrap ErrBusy, ErrReadOnly or the
// error of the system.
func Edit(path string, perm fs.FileMode, backup string, edit func(src []byte) ([]byte, error)) error {
	target, err := follow(path)
	if err != nil {
		return err
	}
	dir := filepath.Dir(target)
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		// An edit that leaves nothing to write makes no directory either.
		if dst, err := edit(nil); err != nil || len(dst) == 0 {
			return err
		}
		if err := system.MakeDirs(dir); err != nil {
			return err
		}
	}
	held, err := openLock(dir)
	if err != nil {
		return err
	}
	defer func() { _ = held.Close() }()
	turn, err := takeTurn(held, dir)
	if err != nil {
		return err
	}
	e := &editing{target: target, perm: perm, backup: backup, dir: dir, linked: isLink(path)}
	if turn { // else what lies there may be of an edit under way
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

// Tidy removes what an Edit of the file at path left if it was cut short, as the next Edit would. While an Edit is
// under way in that directory it does nothing: that one has done so. A missing file or directory is no error.
func Tidy(path string) error {
	if path == "" || path == os.DevNull {
		return nil
	}
	target, err := follow(path)
	if err != nil {
		return nil // an edit says why
	}
	dir := filepath.Dir(target)
	if !left(target, dir) {
		return nil
	}
	held, err := openLock(dir)
	if err != nil {
		return err
	}
	defer func() { _ = held.Close() }()
	switch err := system.TryLock(held); {
	case errors.Is(err, system.ErrLocked):
		return nil
	case err != nil:
		return fmt.Errorf("lock %s: %w", dir, err)
	}
	return (&editing{target: target, dir: dir}).tidy()
}

// left reports whether something of an edit lies beside a file. A directory that cannot be read has nothing of ours.
func left(target, dir string) bool {
	names, _ := os.ReadDir(dir)
	return slices.ContainsFunc(names, func(n fs.DirEntry) bool {
		return strings.HasPrefix(n.Name(), "."+filepath.Base(target)+".broker-")
	})
}

// turnWait bounds how long an edit waits for its turn. Others can hold the lock of a directory that they may read.
// There an edit goes on without its turn after openWait: neither a person nor `broker lock` waits for another user.
const (
	turnWait = 20 * time.Second
	openWait = 2 * time.Second
)

// takeTurn waits for the lock of the directory. It reports whether it has it.
func takeTurn(held *os.File, dir string) (bool, error) {
	info, err := held.Stat()
	if err != nil {
		return false, err
	}
	open := info.Mode().Perm()&0o044 != 0
	for begin := time.Now(); ; time.Sleep(2 * time.Millisecond) {
		err := system.TryLock(held)
		waited := time.Since(begin)
		switch {
		case err == nil:
			return true, nil
		case !errors.Is(err, system.ErrLocked):
			return false, fmt.Errorf("lock %s: %w", dir, err)
		case open && waited > openWait:
			return false, nil
		case waited > turnWait:
			return false, fmt.Errorf("nothing in %s was changed: %w (a lock, for more than %v)", dir, ErrBusy, turnWait)
		}
	}
}

// Check says beforehand whether Edit would refuse the file: for the mode, for what
// it is, or for its directory. It is for callers that write all of several files or none.
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

// follow returns the file that a path stands for, which may not exist yet.
func follow(path string) (string, error) {
	target, err := filepath.EvalSymlinks(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return target, err
	}
	// A link to nowhere is not replaced: the user meant a file elsewhere. Somebody may just have made the file.
	if info, err := os.Lstat(path); err == nil && info.Mode()&fs.ModeSymlink != 0 {
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
	backup string
	dir    string // locked
	linked bool   // a symlink leads to it
	// late is what others appended to a draft of ours while it stood in the
	// place of their own file. It belongs behind what is there now; until it is
	// there, the drafts with it are kept.
	late []byte
	kept []string
	// draft stood for a moment in the place of real, which was put back. Who read
	// it then may write it, with his change, only now.
	draft, real []byte
}

// settle removes the drafts that were kept, once nothing in them is needed;
// else it shows them to the user.
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

// once reads, edits and replaces. It returns false if somebody else wrote the
// file meanwhile; then it stands as they left it.
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
		if e.backup != "" {
			if err := keep(e.backup, src); err != nil {
				return false, fmt.Errorf("no backup, so nothing was changed: %w", err)
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

// read returns the bytes of a regular file, without waiting on a fifo. A
// missing one has no bytes and no info.
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

// The names of temporary files. A draft may be half written and is worth
// nothing. A swap has in its name the digests of what it was written with and of what it
// is to replace: anything else that it holds was written by somebody else.
func (e *editing) prefix(kind string) string {
	return "." + filepath.Base(e.target) + ".broker-" + kind + "-"
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return fmt.Sprintf("%x", sum[:16])
}

// write makes the new file beside the target, whole and synced.
func (e *editing) write(src, dst []byte, perm fs.FileMode, like fs.FileInfo) (name string, err error) {
	dir := e.dir
	tmp, err := os.CreateTemp(dir, e.prefix("draft")+"*")
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
	name = filepath.Join(dir, e.prefix("swap")+digest(src)+"-"+digest(dst))
	return name, os.Rename(tmp.Name(), name)
}

// isLink reports whether a path is a symlink.
func isLink(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.Mode()&fs.ModeSymlink != 0
}

// remove takes away a file that should have the bytes src. It is looked at afterwards, as in replace.
func (e *editing) remove(src []byte) (bool, error) {
	out := filepath.Join(e.dir, e.prefix("swap")+digest(src)+"-"+digest(nil))
	switch err := os.Rename(e.target, out); {
	case errors.Is(err, fs.ErrNotExist): // the target went away
		return false, nil
	case err != nil:
		return false, err
	case untouched(out, src):
		return true, os.Remove(out)
	}
	// Somebody wrote it after we read it. It is theirs again.
	if err := os.Link(out, e.target); err != nil {
		return false, errors.Join(err, e.save(out))
	}
	return false, os.Remove(out)
}

// create puts the draft where no file is.
func (e *editing) create(draft string) (bool, error) {
	err := os.Link(draft, e.target) // unlike a rename, it never replaces
	_ = os.Remove(draft)
	if errors.Is(err, fs.ErrExist) {
		return false, nil
	}
	return err == nil, err
}

// replace puts the draft in the place of a file that should still have the bytes src.
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
		// The moment since the comparison is all that is left to chance.
		return true, os.Rename(draft, e.target)
	case errors.Is(err, fs.ErrNotExist): // the target went away
		return false, os.Remove(draft)
	case err != nil:
		return false, errors.Join(err, os.Remove(draft))
	}
	// Another file is put back at once: the less read ours the better.
	out, err := os.Stat(draft)
	if err == nil && os.SameFile(info, out) && untouched(draft, src) {
		return true, os.Remove(draft)
	}
	// Somebody wrote it after we read it. It is his again.
	if err := exchange(draft, e.target); err != nil {
		return false, errors.Join(err, e.save(draft))
	}
	if real, _ := quiet(e.target); real != nil {
		e.draft, e.real = dst, real
	}
	if untouched(draft, dst) {
		return false, os.Remove(draft)
	}
	// And somebody wrote what stood in its place for a moment.
	return false, e.rescue(draft, dst)
}

// rescue decides about what others wrote in the moment when a draft of ours
// stood in the place of their file, and what is now called draft.
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
		// It is not ours with something appended, so it is newer than what we put back.
		if err := exchange(draft, e.target); err != nil {
			return errors.Join(err, e.save(draft))
		}
		older, writing := quiet(draft)
		if !writing && older != nil && bytes.HasPrefix(got, older) {
			return os.Remove(draft)
		}
		return e.save(draft)
	}
	// Not under its old name, which the next draft could have.
	name, err := os.CreateTemp(e.dir, e.prefix("swap")+"late-*")
	if err != nil {
		return errors.Join(err, e.save(draft))
	}
	_ = name.Close()
	e.late = append(e.late, got[len(dst):]...)
	e.kept = append(e.kept, name.Name())
	return os.Rename(draft, name.Name())
}

// save gives a file that others wrote a name that the user sees.
func (e *editing) save(name string) error {
	saved, err := os.MkdirTemp(e.dir, filepath.Base(e.target)+".broker-saved-*")
	if err == nil {
		saved = filepath.Join(saved, filepath.Base(e.target))
		err = os.Rename(name, saved)
	}
	if err != nil {
		saved = name
	}
	return fmt.Errorf("%s: two programs wrote it at the same moment; what one of them wrote is in %s", e.target, saved)
}

// untouched reports whether a file has these bytes and nobody is about to
// write others into it.
func untouched(path string, want []byte) bool {
	got, writing := quiet(path)
	return !writing && got != nil && bytes.Equal(got, want)
}

// quiet returns the bytes of a file, nil if it cannot be read, and whether
// somebody has it open for writing.
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

// tidy removes what earlier edits of this file left when they were killed.
func (e *editing) tidy() error {
	names, err := os.ReadDir(e.dir)
	if err != nil {
		return err
	}
	for _, n := range names {
		path := filepath.Join(e.dir, n.Name())
		ours := strings.HasPrefix(n.Name(), e.prefix("draft")) ||
			strings.HasPrefix(n.Name(), "."+filepath.Base(e.target)+BackupSuffix+".") &&
				strings.Contains(n.Name(), ".broker-draft-")
		if ours && n.Type().IsRegular() {
			if err := os.Remove(path); err != nil {
				return err
			}
		}
		digests, ok := strings.CutPrefix(n.Name(), e.prefix("swap"))
		if !ok || !n.Type().IsRegular() {
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
