// Package record owns the files in which Broker keeps what it has to remember, and the directories that they are in.
// A directory is opened once and checked on its descriptor: it is ours, no symbolic link, and closed to others. All
// else happens relative to that descriptor. A file must be regular, ours, closed to others and have one name; it is
// opened without waiting, and replaced as a whole. The package refuses everything else, says whose it is and which
// command mends it, and knows nothing of what is in the files.
package record

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"broker/internal/fault"
	"broker/internal/system"
)

// What others may not do with a file or directory, as bits of a mode.
const (
	Guarded fs.FileMode = 0o022 // others may read it
	Private fs.FileMode = 0o077
)

// The errors that callers tell apart. Each comes in a fault of the kind failed, which names the path and the owner,
// and whose hint mends it.
var (
	// ErrRefused: a file or directory is not what it has to be.
	ErrRefused = errors.New("it is not as Broker keeps its files")
	// ErrDirectory is wrapped beside ErrRefused if that is the directory.
	ErrDirectory = errors.New("it is not as Broker keeps its directories")
)

// refuse makes the error about a file or directory.
func refuse(why error, path string, hint fault.Hint, format string, args ...any) error {
	return &fault.Error{Kind: fault.Failed, Message: path + " " + fmt.Sprintf(format, args...), Hint: hint, Err: why}
}

var errDirectory = errors.Join(ErrRefused, ErrDirectory)

// Dir is an open directory that was checked. Close it after use.
type Dir struct {
	path string
	root *os.Root
	file *os.File
}

// Open opens a directory. A missing one is fs.ErrNotExist.
func Open(path string, deny fs.FileMode) (*Dir, error) {
	// The dot keeps a fifo from being waited for.
	root, err := os.OpenRoot(path + string(filepath.Separator) + ".")
	return check(path, deny, root, err, func() (fs.FileInfo, error) { return os.Lstat(path) })
}

// Make opens a directory, and makes it and those above it where they are missing, with mode 0700 whatever the umask.
func Make(path string, deny fs.FileMode) (*Dir, error) {
	d, err := Open(path, deny)
	if !errors.Is(err, fs.ErrNotExist) {
		return d, err
	}
	if err := system.MakeDirs(filepath.Dir(path)); err != nil {
		return nil, NameOwner(path, err)
	}
	switch err := system.MakePrivate(path); {
	case err == nil:
		// For the umask. If it was swapped just now for a link, something of ours becomes private; nothing worse.
		if err := os.Chmod(path, 0o700); err != nil {
			return nil, err
		}
	case !errors.Is(err, fs.ErrExist):
		return nil, NameOwner(path, err)
	}
	return Open(path, deny)
}

// Sub opens a directory in this one, as Open does.
func (d *Dir) Sub(name string) (*Dir, error) {
	root, err := d.root.OpenRoot(name + string(filepath.Separator) + ".")
	return check(d.at(name), Private, root, err, func() (fs.FileInfo, error) { return d.root.Lstat(name) })
}

// MakeSub is Sub, and makes the directory if it is missing. The umask must leave us our own permissions.
func (d *Dir) MakeSub(name string) (*Dir, error) {
	if err := d.root.Mkdir(name, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return d.Sub(name)
}

// NewSub makes a directory with a name of its own: prefix and a number.
func (d *Dir) NewSub(prefix string) (name string, sub *Dir, err error) {
	for range tries {
		name = prefix + strconv.FormatUint(rand.Uint64(), 10)
		if err = d.root.Mkdir(name, 0o700); err == nil {
			sub, err = d.Sub(name)
			return name, sub, err
		}
		if !errors.Is(err, fs.ErrExist) {
			break
		}
	}
	return "", nil, err
}

// check looks at a directory that was opened, or was not for err. Lstat is of the name by which it was opened.
func check(path string, deny fs.FileMode, root *os.Root, err error, lstat func() (fs.FileInfo, error)) (*Dir, error) {
	d := &Dir{path: path, root: root}
	if err == nil {
		if d.file, err = root.Open("."); err == nil {
			err = d.check(deny, lstat)
		}
		if err != nil {
			_ = d.Close()
		}
	}
	switch {
	case err == nil:
		return d, nil
	case errors.Is(err, ErrRefused):
		return nil, err
	}
	var at *fs.PathError
	if errors.As(err, &at) {
		at.Path = path // without the dot of Open
	}
	info, lerr := lstat()
	switch {
	case lerr != nil:
		return nil, NameOwner(path, err)
	case info.Mode()&fs.ModeSymlink != 0:
		return nil, refuse(errDirectory, path, removal(path, info), "is a symbolic link, and has to be a directory")
	case !info.IsDir():
		return nil, refuse(errDirectory, path, removal(path, info), "is not a directory")
	}
	return nil, NameOwner(path, err)
}

func (d *Dir) check(deny fs.FileMode, lstat func() (fs.FileInfo, error)) error {
	opened, err := d.file.Stat()
	if err != nil {
		return err
	}
	found, err := lstat()
	if err != nil {
		return err
	}
	if found.Mode()&fs.ModeSymlink != 0 || !os.SameFile(opened, found) {
		return refuse(errDirectory, d.path, removal(d.path, found), "is a symbolic link, and has to be a directory")
	}
	access, err := system.AccessOf(d.file)
	switch {
	case err != nil:
		return err
	case !access.Ours:
		return foreign(d.path, access)
	case access.Perm&deny != 0:
		return refuse(errDirectory, d.path, Mend(d.path, system.CloseToOthers(fault.Word(d.path), "700")),
			"may be %s by others (mode %04o)", howOpen(access.Perm), access.Perm)
	}
	return nil
}

func howOpen(perm fs.FileMode) string {
	if perm&Guarded != 0 {
		return "written"
	}
	return "read"
}

// removal is the command that removes what is in the place of a directory or file.
func removal(path string, info fs.FileInfo) fault.Hint {
	if info != nil && info.IsDir() {
		return Mend(path, fault.Hintf("rm -r %s", path))
	}
	return Mend(path, fault.Hintf("rm %s", path))
}

// isUsual is system.Usual, but for tests.
var isUsual = system.Usual

// Mend is the hint to change or remove what is at a path, if the path is usual. If not, a repository may have chosen it
// by a variable, and the hint is to look at it.
func Mend(path string, hint fault.Hint) fault.Hint {
	if isUsual(path) {
		return hint
	}
	return fault.Hintf("ls -ld %s", path)
}

// Unwritten is the hint about something that could not be written in a directory: the one of err if that is ErrRefused,
// else by the cause.
func Unwritten(dir string, err error) fault.Hint {
	switch {
	case errors.Is(err, ErrRefused):
		return fault.Of(err).Hint
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fault.Hintf("df -h %s", dir)
	case errors.Is(err, fs.ErrPermission) && !errors.Is(err, syscall.EPERM):
		return Mend(dir, fault.Hintf("chmod u+rwx %s", dir))
	}
	return fault.Hintf("ls -ld %s", dir)
}

// foreign is the error about a directory of another user.
func foreign(path string, access system.Access) error {
	hint := fault.Hintf("ls -ld %s", path)
	switch uid, isUID := strings.CutPrefix(access.Owner, "uid "); {
	case isUID && os.Geteuid() == 0:
		hint = fault.Hintf("sudo -u %s broker status", "#"+uid) // under sudo that is whose HOME it is
	case system.UsualForRoot(path):
		hint = system.GiveBack(fault.Word(path))
	}
	return refuse(errDirectory, path, hint, "belongs to another user (%s)", access.Owner)
}

// NameOwner makes of a missing permission the error that names whose directory is in the way: that of path, or of the
// nearest one above that is there, if that is usual. Another error is returned as it is.
func NameOwner(path string, err error) error {
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	for p := path; ; p = filepath.Dir(p) {
		info, lerr := os.Lstat(p)
		if lerr != nil && p != filepath.Dir(p) {
			continue
		}
		if lerr != nil || p != path && !system.UsualForRoot(p) {
			break
		}
		if access, ok := system.AccessOfInfo(info); ok && !access.Ours {
			return foreign(p, access)
		}
		break
	}
	return err
}

// at is the path of a file of the directory, for people.
func (d *Dir) at(name string) string { return filepath.Join(d.path, name) }

// Close closes the directory. What was opened in it stays open.
func (d *Dir) Close() error {
	if d.file == nil {
		return d.root.Close()
	}
	return errors.Join(d.file.Close(), d.root.Close())
}

// File is the open directory itself, until Close.
func (d *Dir) File() *os.File { return d.file }

// tries is how often something is looked at again that changes meanwhile.
const tries = 20

// changed makes OpenFile and Read look again: the file may have become another one since a moment ago.
type changed struct{ cause error } // may be nil

func (changed) Error() string { return "it keeps changing" }

// again calls f until it has not met a change of the file.
func (d *Dir) again(name string, f func() error) error {
	var met changed
	for i := range tries {
		err := f()
		if !errors.As(err, &met) {
			return err
		}
		time.Sleep(time.Duration(i) * time.Millisecond)
	}
	if met.cause != nil {
		return met.cause
	}
	return refuse(ErrRefused, d.at(name), fault.Hintf("ls -l %s", d.at(name)), "keeps changing")
}

// OpenFile opens a file without waiting for anybody. With os.O_CREATE in flag a missing one is made, mode 0600
// whatever the umask; else it is fs.ErrNotExist. Opened for writing, a file becomes 0600 if others could read it.
func (d *Dir) OpenFile(name string, flag int, deny fs.FileMode) (f *os.File, err error) {
	err = d.again(name, func() error { f, err = d.open(name, flag, deny); return err })
	return f, err
}

func (d *Dir) open(name string, flag int, deny fs.FileMode) (*os.File, error) {
	// A link in the directory would be followed, and something that is no file could not be opened.
	found, err := d.root.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist) && flag&os.O_CREATE != 0:
		return d.create(name, flag)
	case err != nil:
		return nil, err
	case flag&os.O_EXCL != 0:
		return nil, &fs.PathError{Op: "create", Path: d.at(name), Err: fs.ErrExist}
	case !found.Mode().IsRegular():
		return nil, d.irregular(name, found)
	}
	f, err := d.root.OpenFile(name, flag&^os.O_CREATE|system.NoFollow|system.NonBlock, 0)
	switch {
	case errors.Is(err, fs.ErrPermission):
		if access, ok := system.AccessOfInfo(found); ok && !access.Ours {
			return nil, d.another(name, access)
		}
		return nil, err
	case err != nil: // of what stands there now, perhaps
		return nil, changed{err}
	}
	if err := d.checkFile(f, name, flag, deny, found); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

func (d *Dir) checkFile(f *os.File, name string, flag int, deny fs.FileMode, found fs.FileInfo) error {
	opened, err := f.Stat()
	if err != nil {
		return err
	}
	if !opened.Mode().IsRegular() || !os.SameFile(opened, found) {
		return changed{}
	}
	path := d.at(name)
	access, err := system.AccessOf(f)
	switch {
	case err != nil:
		return err
	case !access.Ours:
		return d.another(name, access)
	case access.Links > 1:
		return refuse(ErrRefused, path, fault.Hintf("ls -li %s", path),
			"has %d names (hard links), and may have one", access.Links)
	case access.Perm&deny != 0:
		return refuse(ErrRefused, path, Mend(path, system.CloseToOthers(fault.Word(path), "600")),
			"may be %s by others (mode %04o)", howOpen(access.Perm), access.Perm)
	}
	if flag&(os.O_WRONLY|os.O_RDWR) != 0 && access.Perm&Private != 0 {
		return f.Chmod(0o600)
	}
	return nil
}

// create makes a file that is not there.
func (d *Dir) create(name string, flag int) (*os.File, error) {
	f, err := d.root.OpenFile(name, flag|os.O_EXCL|system.NoFollow|system.NonBlock, 0o600)
	if errors.Is(err, fs.ErrExist) && flag&os.O_EXCL == 0 {
		return nil, changed{}
	}
	if err != nil {
		return nil, err
	}
	if err := f.Chmod(0o600); err != nil { // for the umask
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// irregular is the error about something that is no file.
func (d *Dir) irregular(name string, info fs.FileInfo) error {
	kind := "a special file"
	switch mode := info.Mode(); {
	case mode.IsDir():
		kind = "a directory"
	case mode&fs.ModeSymlink != 0:
		kind = "a symbolic link"
	case mode&fs.ModeNamedPipe != 0:
		kind = "a fifo"
	case mode&fs.ModeSocket != 0:
		kind = "a socket"
	}
	return refuse(ErrRefused, d.at(name), removal(d.at(name), info), "is %s, and has to be a file", kind)
}

// another is the error about a file of another user in a directory of ours.
func (d *Dir) another(name string, access system.Access) error {
	return refuse(ErrRefused, d.at(name), removal(d.at(name), nil), "belongs to another user (%s)", access.Owner)
}

// Read returns the bytes of a file of at most limit bytes, as they were at one moment. A missing one is
// fs.ErrNotExist.
func (d *Dir) Read(name string, limit int64, deny fs.FileMode) (text []byte, err error) {
	err = d.again(name, func() error { text, err = d.read(name, limit, deny); return err })
	return text, err
}

func (d *Dir) read(name string, limit int64, deny fs.FileMode) ([]byte, error) {
	f, err := d.open(name, os.O_RDONLY, deny)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	before, err := f.Stat()
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(text)) > limit {
		return nil, refuse(ErrRefused, d.at(name), removal(d.at(name), before), "is larger than %d bytes", limit)
	}
	after, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if after.Size() != int64(len(text)) || !after.ModTime().Equal(before.ModTime()) {
		return nil, changed{}
	}
	return text, nil
}

// Replace makes a file hold data, mode 0600: readers see the old bytes or the new ones, and so does who comes after a
// crash. What is no regular file is not replaced. A crash may leave a draft, which Sweep removes.
func (d *Dir) Replace(name string, data []byte) (err error) {
	if found, err := d.root.Lstat(name); err == nil && !found.Mode().IsRegular() {
		return d.irregular(name, found)
	}
	draft, as, err := d.draft(name)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = d.root.Remove(as)
		}
		_ = draft.Close()
	}()
	if _, err = draft.Write(data); err != nil {
		return err
	}
	if err = draft.Sync(); err != nil {
		return err
	}
	if err = d.root.Rename(as, name); err != nil {
		return err
	}
	return system.SyncNames(d.file)
}

// Rename gives a file another name, and replaces what has it.
func (d *Dir) Rename(from, to string) error { return d.root.Rename(from, to) }

// Remove removes a file or an empty directory. A missing one is no error.
func (d *Dir) Remove(name string) error {
	if err := d.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// RemoveTree removes a directory with all that is in it. A link in it is removed, not followed.
func (d *Dir) RemoveTree(name string) error { return d.root.RemoveAll(name) }

// SetAside gives a damaged file, or whatever has its name, another name, which it returns, so that a person can look
// at it. With keep a regular file has both names, until it is replaced: a crash before that does not look like a first
// start.
func (d *Dir) SetAside(name string, keep bool) (aside string, err error) {
	aside = fmt.Sprintf("%s.damaged-%s-%d", name, time.Now().UTC().Format("20060102T150405.000"), os.Getpid())
	found, err := d.root.Lstat(name)
	if err == nil && keep && found.Mode().IsRegular() && d.root.Link(name, aside) == nil {
		return aside, nil
	}
	return aside, d.root.Rename(name, aside)
}

// Names lists the directory.
func (d *Dir) Names() ([]string, error) {
	f, err := d.root.Open(".")
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return f.Readdirnames(-1)
}

// Lock opens a lock file and takes its lock as soon as it is free. The error is system.ErrLocked if ctx ends before.
// Closing the file gives the lock back, and so does the end of the process.
func (d *Dir) Lock(ctx context.Context, name string) (*os.File, error) {
	f, err := d.OpenFile(name, os.O_RDWR|os.O_CREATE, Guarded)
	if err != nil {
		return nil, err
	}
	if err := system.LockUntil(ctx, f); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("lock %s: %w", d.at(name), err)
	}
	return f, nil
}
