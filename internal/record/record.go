// Package record reads and writes the files in which Broker keeps its state, and their directories. A directory is
// opened once and checked on its descriptor: it must be ours, not a symbolic link, and closed to others.
// Everything else happens relative to that descriptor. A file must be regular, ours, closed to others and have one
// name. It is opened without blocking, and replaced as a whole. The package refuses everything else. Its errors
// name the owner and the command that fixes the problem. It does not know the contents of the files.
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

// Permissions that others must not have, as mode bits.
const (
	Guarded fs.FileMode = 0o022 // others may read
	Private fs.FileMode = 0o077
)

// Errors that callers distinguish. Each comes in a fault of the kind Failed that names the path and the owner,
// with a hint that fixes the problem.
var (
	// ErrRefused means that a file or directory is not as it must be.
	ErrRefused = errors.New("the file is not as Broker keeps its files")
	// ErrDirectory is wrapped in addition to ErrRefused if the problem is the directory.
	ErrDirectory = errors.New("the directory is not as Broker keeps its directories")
)

// refuse returns the error for a file or directory.
func refuse(why error, path string, hint fault.Hint, format string, args ...any) error {
	return &fault.Error{Kind: fault.Failed, Message: path + " " + fmt.Sprintf(format, args...), Hint: hint, Err: why}
}

var errDirectory = errors.Join(ErrRefused, ErrDirectory)

// Dir is an open, checked directory. Close it after use.
type Dir struct {
	path string
	root *os.Root
	file *os.File
}

// Open opens a directory. If it is missing, the error is fs.ErrNotExist.
func Open(path string, deny fs.FileMode) (*Dir, error) {
	// The dot prevents blocking on a FIFO.
	root, err := os.OpenRoot(path + string(filepath.Separator) + ".")
	return check(path, deny, root, err, func() (fs.FileInfo, error) { return os.Lstat(path) })
}

// Make opens a directory. It creates missing directories on the path, with mode 0700 whatever the umask.
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
		// Override the umask. If the directory was swapped for a link just now, at worst something of ours becomes
		// private.
		if err := os.Chmod(path, 0o700); err != nil {
			return nil, err
		}
	case !errors.Is(err, fs.ErrExist):
		return nil, NameOwner(path, err)
	}
	return Open(path, deny)
}

// Sub opens a directory in this one that is closed to others, like Open.
func (d *Dir) Sub(name string) (*Dir, error) { return d.SubWith(name, Private) }

// SubWith opens a directory in this one, like Open.
func (d *Dir) SubWith(name string, deny fs.FileMode) (*Dir, error) {
	root, err := d.root.OpenRoot(name + string(filepath.Separator) + ".")
	return check(d.at(name), deny, root, err, func() (fs.FileInfo, error) { return d.root.Lstat(name) })
}

// AddSub creates a directory in this one. If the name is taken, the error is fs.ErrExist.
func (d *Dir) AddSub(name string) (*Dir, error) {
	if err := d.root.Mkdir(name, 0o700); err != nil {
		return nil, err
	}
	return d.Sub(name)
}

// MakeSub is like Sub, and creates the directory if it is missing. The umask must not remove our own permissions.
func (d *Dir) MakeSub(name string) (*Dir, error) {
	if err := d.root.Mkdir(name, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return d.Sub(name)
}

// NewSub creates a directory with a unique name: prefix and a number.
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

// check checks a directory that was opened, or explains why opening it failed with err. lstat returns the info of
// the name by which it was opened.
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
	if at, ok := errors.AsType[*fs.PathError](err); ok {
		at.Path = path // without the dot that Open appends
	}
	info, lerr := lstat()
	switch {
	case lerr != nil:
		return nil, NameOwner(path, err)
	case info.Mode()&fs.ModeSymlink != 0:
		return nil, refuse(errDirectory, path, removal(path, info), "is a symbolic link and must be a directory")
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
		return refuse(errDirectory, d.path, removal(d.path, found), "is a symbolic link and must be a directory")
	}
	access, err := system.AccessOf(d.file)
	switch {
	case err != nil:
		return err
	case !access.Ours:
		return foreign(d.path, access)
	case access.Perm&deny != 0:
		return refuse(errDirectory, d.path, Mend(d.path, system.CloseToOthers(fault.Word(d.path), "700")),
			"can be %s by others (mode %04o)", howOpen(access.Perm), access.Perm)
	}
	return nil
}

func howOpen(perm fs.FileMode) string {
	if perm&Guarded != 0 {
		return "written"
	}
	return "read"
}

// removal returns the command that removes what is in the place of a directory or file.
func removal(path string, info fs.FileInfo) fault.Hint {
	if info != nil && info.IsDir() {
		return Mend(path, fault.Hintf("rm -r %s", path))
	}
	return Mend(path, fault.Hintf("rm %s", path))
}

// isUsual is system.Usual; tests replace it.
var isUsual = system.Usual

// Mend returns the hint to change or remove what is at a path, if the path is usual. Otherwise a repository may
// have chosen the path by a variable, and the hint is to look at it.
func Mend(path string, hint fault.Hint) fault.Hint {
	if isUsual(path) {
		return hint
	}
	return fault.Hintf("ls -ld %s", path)
}

// Unwritten returns the hint for a failed write in a directory. If err is ErrRefused, it is the hint of err;
// otherwise it depends on the cause.
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

// Unreadable returns the hint for a file of ours that may not be read: to change the file, or the directory on its
// path that may not be searched.
func Unreadable(path string) fault.Hint {
	for p := path; ; p = filepath.Dir(p) {
		info, err := os.Lstat(p)
		if err != nil && p != filepath.Dir(p) {
			continue
		}
		access, ok := system.Access{}, false
		if err == nil {
			access, ok = system.AccessOfInfo(info)
		}
		switch {
		case !ok || !access.Ours || info.Mode()&fs.ModeSymlink != 0:
			return fault.Hintf("ls -ld %s", p)
		case info.IsDir():
			return Mend(p, fault.Hintf("chmod u+rwx %s", p))
		}
		return Mend(p, fault.Hintf("chmod u+rw %s", p))
	}
}

// foreign returns the error for a directory of another user.
func foreign(path string, access system.Access) error {
	hint := fault.Hintf("ls -ld %s", path)
	switch uid, isUID := strings.CutPrefix(access.Owner, "uid "); {
	case isUID && os.Geteuid() == 0:
		hint = fault.Hintf("sudo -u %s broker status", "#"+uid) // under sudo, HOME is usually that user's
	case system.UsualForRoot(path):
		hint = system.GiveBack(fault.Word(path))
	}
	return refuse(errDirectory, path, hint, "belongs to another user (%s)", access.Owner)
}

// NameOwner replaces a permission error by one that names the owner of the directory that causes it: path itself,
// or its nearest existing parent, if that is usual. It returns any other error unchanged.
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

// at returns the path of a file of the directory, for messages.
func (d *Dir) at(name string) string { return filepath.Join(d.path, name) }

// named puts the path of a file into the error of a call for it. os.Root knows only the name of the file, and the
// name of the directory with the dot that Open appends.
func (d *Dir) named(name string, err error) error {
	if at, ok := errors.AsType[*fs.PathError](err); ok {
		at.Path = d.at(name)
		switch at.Op {
		case "openat", "lstatat", "statat":
			at.Op = strings.TrimSuffix(at.Op, "at")
		}
	}
	return err
}

// Close closes the directory. Files that were opened in it stay open.
func (d *Dir) Close() error {
	if d.file == nil {
		return d.root.Close()
	}
	return errors.Join(d.file.Close(), d.root.Close())
}

// File returns the open directory itself. It is valid until Close.
func (d *Dir) File() *os.File { return d.file }

// tries is how often a check is repeated if the file changes meanwhile.
const tries = 20

// changed makes OpenFile and Read retry, because the file was replaced or modified meanwhile.
type changed struct{ cause error } // may be nil

func (changed) Error() string { return "it keeps changing" }

// again calls f until it returns another error than changed, or none.
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

// OpenFile opens a file without blocking. If flag has os.O_CREATE, it creates a missing file with mode 0600,
// whatever the umask; otherwise the error is fs.ErrNotExist. If it opens a file for writing that others could
// read, it sets the mode to 0600.
func (d *Dir) OpenFile(name string, flag int, deny fs.FileMode) (f *os.File, err error) {
	err = d.again(name, func() error { f, err = d.open(name, flag, deny); return err })
	return f, d.named(name, err)
}

func (d *Dir) open(name string, flag int, deny fs.FileMode) (*os.File, error) {
	// Check first: OpenFile would follow a link within the directory, and cannot open everything that is not a
	// file.
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
	case err != nil: // the file may have been replaced just now
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
			"has %d names (hard links) and must have one", access.Links)
	case access.Perm&deny != 0:
		return refuse(ErrRefused, path, Mend(path, system.CloseToOthers(fault.Word(path), "600")),
			"can be %s by others (mode %04o)", howOpen(access.Perm), access.Perm)
	}
	if flag&(os.O_WRONLY|os.O_RDWR) != 0 && access.Perm&Private != 0 {
		return f.Chmod(0o600)
	}
	return nil
}

// create creates a file that does not exist.
func (d *Dir) create(name string, flag int) (*os.File, error) {
	f, err := d.root.OpenFile(name, flag|os.O_EXCL|system.NoFollow|system.NonBlock, 0o600)
	if errors.Is(err, fs.ErrExist) && flag&os.O_EXCL == 0 {
		return nil, changed{}
	}
	if err != nil {
		return nil, err
	}
	if err := f.Chmod(0o600); err != nil { // override the umask
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// irregular returns the error for something that is not a regular file.
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
	return refuse(ErrRefused, d.at(name), removal(d.at(name), info), "is %s and must be a file", kind)
}

// another returns the error for a file of another user in a directory of ours.
func (d *Dir) another(name string, access system.Access) error {
	return refuse(ErrRefused, d.at(name), removal(d.at(name), nil), "belongs to another user (%s)", access.Owner)
}

// Read returns the contents of a file of at most limit bytes, as of one moment. If the file is missing, the error
// is fs.ErrNotExist.
func (d *Dir) Read(name string, limit int64, deny fs.FileMode) (text []byte, err error) {
	err = d.again(name, func() error { text, err = d.read(name, limit, deny); return err })
	return text, d.named(name, err)
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

// Replace replaces the contents of a file by data, with mode 0600. Readers see either the old or the new contents,
// also after a crash. It does not replace anything that is not a regular file. A crash may leave a draft, which
// Sweep removes.
func (d *Dir) Replace(name string, data []byte) error { return d.ReplaceWith(name, data, 0o600) }

// ReplaceWith is Replace with another mode, whatever the umask.
func (d *Dir) ReplaceWith(name string, data []byte, mode fs.FileMode) (err error) {
	if found, err := d.root.Lstat(name); err == nil && !found.Mode().IsRegular() {
		return d.irregular(name, found)
	}
	draft, as, err := d.draft(name)
	if err != nil {
		return d.named(name, err)
	}
	defer func() {
		if err != nil {
			_ = d.root.Remove(as)
			err = d.named(name, err)
		}
		_ = draft.Close()
	}()
	if _, err = draft.Write(data); err != nil {
		return err
	}
	if mode != 0o600 {
		if err = draft.Chmod(mode); err != nil {
			return err
		}
	}
	if err = draft.Sync(); err != nil {
		return err
	}
	if err = d.root.Rename(as, name); err != nil {
		return err
	}
	return system.SyncNames(d.file)
}

// Rename renames a file, and replaces the target if it exists.
func (d *Dir) Rename(from, to string) error { return d.root.Rename(from, to) }

// Remove removes a file or an empty directory. A missing one is not an error.
func (d *Dir) Remove(name string) error {
	if err := d.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// RemoveTree removes a directory with its contents. It does not follow links.
func (d *Dir) RemoveTree(name string) error { return d.root.RemoveAll(name) }

// SetAside renames a damaged file (or whatever has its name), so that a person can look at it, and returns the new
// name. With keep, a regular file has both names until it is replaced, so that a crash before that does not look
// like a first start.
func (d *Dir) SetAside(name string, keep bool) (aside string, err error) {
	aside = fmt.Sprintf("%s.damaged-%s-%d", name, time.Now().UTC().Format("20060102T150405.000"), os.Getpid())
	found, err := d.root.Lstat(name)
	if err == nil && keep && found.Mode().IsRegular() && d.root.Link(name, aside) == nil {
		return aside, nil
	}
	return aside, d.root.Rename(name, aside)
}

// Lstat returns the info of an entry. It does not follow a link.
func (d *Dir) Lstat(name string) (fs.FileInfo, error) { return d.root.Lstat(name) }

// Chmod sets the mode of an entry. It does not leave the directory: others may have put a link there.
func (d *Dir) Chmod(name string, mode fs.FileMode) error { return d.root.Chmod(name, mode) }

// Names lists the directory.
func (d *Dir) Names() ([]string, error) {
	f, err := d.root.Open(".")
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return f.Readdirnames(-1)
}

// Lock opens a lock file and waits for its lock. If ctx ends first, the error is system.ErrLocked. Closing the
// file releases the lock, and so does the end of the process.
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
