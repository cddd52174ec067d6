//go:build unix

package atomicfile

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// set returns an edit that ignores the old content.
func set(text string) func([]byte) ([]byte, error) {
	return func([]byte) ([]byte, error) { return []byte(text), nil }
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func content(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// alone fails the test if a directory contains anything but these names.
func alone(t *testing.T, dir string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if strings.Join(got, " ") != strings.Join(names, " ") {
		t.Errorf("in the directory: %v, want %v", got, names)
	}
}

func TestEdit(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o777))
	dir := filepath.Join(t.TempDir(), "a", "b")
	file := filepath.Join(dir, "config")

	if err := Edit(file, 0o600, nil, set("")); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Dir(dir)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("there was nothing to write, but a directory was created: %v", err)
	}
	if err := Edit(file, 0o600, &Backup{Path: file + ".backup"}, set("one\n")); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]fs.FileMode{dir: 0o700, file: 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
	alone(t, dir, "config") // there was no file to back up
	if err := os.Chmod(file, 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("config", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := Edit(link, 0o600, &Backup{Path: file + ".backup"}, func(src []byte) ([]byte,
		error) {
		return append(src, "two\n"...), nil
	}); err != nil {
		t.Fatal(err)
	}
	if content(t, file) != "one\ntwo\n" || content(t, file+".backup") != "one\n" {
		t.Errorf("%q, backup %q", content(t, file), content(t, file+".backup"))
	}
	if info, _ := os.Lstat(link); info.Mode()&fs.ModeSymlink == 0 {
		t.Error("the link was replaced")
	}
	for path, want := range map[string]fs.FileMode{file: 0o640, file + ".backup": 0o600} {
		if info, _ := os.Stat(path); info.Mode().Perm() != want {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
	}
	before, _ := os.Stat(file)
	if err := Edit(file, 0o600, &Backup{Path: file + ".backup"}, func(src []byte) ([]byte,
		error) {
		return bytes.Clone(src), nil
	}); err != nil {
		t.Fatal(err)
	}
	if after, _ := os.Stat(file); !os.SameFile(before, after) || content(t, file+".backup") != "one\n" {
		t.Error("an edit without changes wrote the file")
	}
	mine := errors.New("mine")
	if err := Edit(file, 0o600, nil, func([]byte) ([]byte, error) { return []byte("x"), mine }); err != mine {
		t.Error(err)
	}
	alone(t, dir, "config", "config.backup", "link")
}

func TestEditRefuses(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	_ = os.Symlink("nowhere", path("dangling"))
	_ = os.Symlink("loop", path("loop"))
	_ = os.WriteFile(path("readonly"), []byte("x"), 0o400)
	_ = os.Mkdir(path("dir"), 0o700)
	_ = syscall.Mkfifo(path("fifo"), 0o600)
	for _, name := range []string{"dangling", "loop", "dir", "fifo", "readonly/below"} {
		if err := Edit(path(name), 0o600, nil, set("new")); err == nil {
			t.Errorf("%s was edited", name)
		}
	}
	if err := Edit(path("readonly"), 0o600, nil, set("new")); !errors.Is(err, ErrReadOnly) {
		t.Error(err)
	}
	for name, ok := range map[string]bool{"dangling": false, "loop": false, "dir": false, "fifo": false, "readonly": false, "new": true, "new/dir/f": true} {
		if err := Check(path(name)); (err == nil) != ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := Edit(path("f"), 0o600, &Backup{Path: path("dir")}, set("new")); err != nil {
		t.Error(err)
	}
	if err := Edit(path("f"), 0o600, &Backup{Path: path("dir")}, set("newer")); err == nil || content(t, path("f")) != "new" {
		t.Error("edited without the requested backup:", err)
	}
	alone(t, dir, "dangling", "dir", "f", "fifo", "loop", "readonly")
}

func TestEditTakesTurns(t *testing.T) {
	file := filepath.Join(t.TempDir(), "f")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 10 {
				err := Edit(file, 0o600, nil, func(src []byte) ([]byte, error) { return append(src, 'x'), nil })
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if got := content(t, file); got != strings.Repeat("x", 80) {
		t.Errorf("%d of 80 edits are in the file", len(got))
	}
}

// TestEditBesideAHeldLock: an edit does not wait forever for its turn, and does not wait for a lock that another user
// can hold. What it leaves of its lock, killed or not, stops nobody.
func TestEditBesideAHeldLock(t *testing.T) {
	dir := t.TempDir()
	file, lock := filepath.Join(dir, "f"), filepath.Join(dir, lockName)
	held, err := takeTurn(dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		if err := Edit(file, 0o600, nil, set("new")); !errors.Is(err, ErrBusy) {
			t.Errorf("got %v", err)
		}
	})
	if err := Tidy(file); err != nil {
		t.Error("a held lock is no error of Tidy:", err)
	}
	alone(t, dir, lockName)
	if os.Getuid() == 0 {
		other := exec.Command("/bin/sh", "-c", `ls "${0%/*}" >/dev/null || exit 2; : <"$0"`, lock)
		other.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		if out, err := other.CombinedOutput(); err == nil || !strings.Contains(string(out), "denied") {
			t.Errorf("another user can open, and so lock, the file: %v, %s", err, out)
		}
	}
	held.end()
	alone(t, dir)

	// The other user can lock the directory, which is of no interest to an edit.
	open, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	if err := syscall.Flock(int(open.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	put(t, lock, "") // of a program that was killed
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		if err := Edit(file, 0o600, nil, set("old")); err != nil || content(t, file) != "old" || time.Since(begin) > 0 {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
	})
	alone(t, dir, "f")
}

// TestEditWithoutATurn: who may not write in the directory takes no turn. An edit that changes nothing succeeds there,
// as with a file that a package manager owns.
func TestEditWithoutATurn(t *testing.T) {
	if os.Getuid() == 0 {
		again := exec.Command("/proc/self/exe", "-test.run", "^"+t.Name()+"$", "-test.count=1")
		again.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		again.Env = []string{"TMPDIR=/tmp"}
		if out, err := again.CombinedOutput(); err != nil || !strings.Contains(string(out), "PASS") {
			t.Errorf("%v: %s", err, out)
		}
		return
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "f")
	put(t, file, "old")
	if err := os.Chmod(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.Chmod(dir, 0o700) }()
	if err := Edit(file, 0o600, nil, set("old")); err != nil {
		t.Error(err)
	}
	if err := Edit(file, 0o600, nil, set("new")); !errors.Is(err, fs.ErrPermission) || content(t, file) != "old" {
		t.Error(err)
	}
	alone(t, dir, "f")
}

// TestEditWhereOthersCreateFiles: where another user can create files, nothing that this user puts in the place of the
// lock or of a leftover stops an edit, and nothing but the lock is given away.
func TestEditWhereOthersCreateFiles(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to act as two users")
	}
	const victim, other = 65534, 65533
	own := func(t *testing.T, path string, uid int) {
		t.Helper()
		if err := os.Lchown(path, uid, uid); err != nil {
			t.Fatal(err)
		}
	}
	// held opens and locks a file of any user.
	held := func(t *testing.T, path string, flags int, mode fs.FileMode) {
		t.Helper()
		f, err := os.OpenFile(path, os.O_RDWR|flags, 0)
		if err == nil {
			err = errors.Join(f.Chmod(mode), syscall.Flock(int(f.Fd()), syscall.LOCK_EX))
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() })
	}
	type plant struct {
		name string
		at   func(t *testing.T, path string)
	}
	for what, plant := range map[string]plant{
		"a locked file":         {lockName, func(t *testing.T, path string) { held(t, path, os.O_CREATE, 0o666) }},
		"a locked private file": {lockName, func(t *testing.T, path string) { held(t, path, os.O_CREATE, 0o600) }},
		"a locked fifo": {lockName, func(t *testing.T, path string) {
			if err := syscall.Mkfifo(path, 0); err != nil {
				t.Fatal(err)
			}
			held(t, path, 0, 0o666)
		}},
		"a directory": {lockName, func(t *testing.T, path string) {
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
		}},
		"a link": {lockName, func(t *testing.T, path string) {
			if err := os.Symlink("elsewhere", path); err != nil {
				t.Fatal(err)
			}
		}},
		"a draft": {".f.broker-draft-1", func(t *testing.T, path string) { put(t, path, "") }},
		"a swap":  {".f.broker-swap-1-2", func(t *testing.T, path string) { put(t, path, "") }},
	} {
		for _, uid := range []int{victim, 0} {
			t.Run(fmt.Sprintf("%s, for uid %d", what, uid), func(t *testing.T) {
				dir, err := os.MkdirTemp("/tmp", "atomicfile-")
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = os.RemoveAll(dir) })
				if err := os.Chmod(dir, 0o777|fs.ModeSticky); err != nil {
					t.Fatal(err)
				}
				file, path := filepath.Join(dir, "f"), filepath.Join(dir, plant.name)
				put(t, file, "old")
				own(t, file, uid)
				plant.at(t, path)
				own(t, path, other)
				if out, err := editAs(t, uid, file); err != nil || content(t, file) != "new" {
					t.Errorf("the edit failed: %v: %s", err, out)
				}
				alone(t, dir, plant.name, "f") // what belongs to the other user stays
			})
		}
	}

	// Root edits a file of a user, who has put another name of a file of root's in the place of the lock.
	dir := t.TempDir()
	file, lock, roots := filepath.Join(dir, "f"), filepath.Join(dir, lockName), filepath.Join(t.TempDir(), "shadow")
	put(t, file, "old")
	put(t, roots, "a secret of root's")
	if err := os.Link(roots, lock); err != nil {
		t.Fatal(err)
	}
	own(t, dir, victim)
	own(t, file, victim)
	if err := Edit(file, 0o600, nil, set("new")); err != nil || content(t, file) != "new" {
		t.Error(err)
	}
	info, err := os.Stat(roots)
	if err != nil || info.Sys().(*syscall.Stat_t).Uid != 0 {
		t.Errorf("root's file belongs to the user now: %v, %+v", err, info)
	}
}

// editAs replaces the text of a file by "new" in a process of another user.
func editAs(t *testing.T, uid int, file string) ([]byte, error) {
	again := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run", "^TestEditForAnotherTest$", "-test.count=1")
	again.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
	again.Env = []string{"TMPDIR=/tmp", "ATOMICFILE_NEW=" + file}
	return again.CombinedOutput()
}

// TestEditForAnotherTest is the process of editAs.
func TestEditForAnotherTest(t *testing.T) {
	path := os.Getenv("ATOMICFILE_NEW")
	if path == "" {
		return
	}
	if err := Edit(path, 0o600, nil, set("new")); err != nil {
		t.Fatal(err)
	}
}

// TestEditLosesNothingOfOthers: another program writes the same file without a lock, in each of the ways in which
// editors and shells write files. Everything it wrote is in the file at the end.
func TestEditLosesNothingOfOthers(t *testing.T) {
	const lines, enough = 300, 5               // minimum lines, and continue until this many edits succeeded beside them
	inPlace := func(path, line string) error { // like: echo line >> file
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			return err
		}
		_, err = f.WriteString(line)
		return errors.Join(err, f.Close())
	}
	for name, add := range map[string]func(path, line string) error{
		"appended": inPlace,
		"appended slowly": func(path, line string) error {
			f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteString(line[:3])
			time.Sleep(500 * time.Microsecond)
			_, err2 := f.WriteString(line[3:])
			return errors.Join(err, err2, f.Close())
		},
		"renamed": func(path, line string) error {
			old, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if err := os.WriteFile(path+".theirs", append(old, line...), 0o600); err != nil {
				return err
			}
			return os.Rename(path+".theirs", path)
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			file := filepath.Join(dir, "f")
			if err := os.WriteFile(file, []byte("0\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			var wg sync.WaitGroup
			var over atomic.Bool
			var well, written atomic.Int32
			wg.Go(func() {
				defer over.Store(true)
				for i := 0; i < lines || well.Load() < enough && i < 100*lines; i++ {
					if err := add(file, fmt.Sprintf("line %d\n", i)); err != nil {
						t.Error(err)
						return
					}
					written.Add(1)
					time.Sleep(200 * time.Microsecond)
				}
			})
			edits, busy := 0, 0
			for !over.Load() {
				err := Edit(file, 0o600, nil, func(src []byte) ([]byte, error) {
					_, rest, _ := bytes.Cut(src, []byte("\n"))
					return append([]byte(fmt.Sprintf("%d\n", edits)), rest...), nil
				})
				switch {
				case errors.Is(err, ErrBusy):
					busy++
				case err != nil:
					t.Fatal(err)
				default:
					well.Add(1)
				}
				edits++
			}
			wg.Wait()
			got := strings.Split(content(t, file), "\n")[1:]
			for i := range int(written.Load()) {
				if len(got) <= i || got[i] != fmt.Sprintf("line %d", i) {
					t.Fatalf("line %d is lost or out of place, after %d edits (%d busy)", i, edits, busy)
				}
			}
			if well.Load() < enough {
				t.Errorf("only %d edits succeeded, %d did not: the test proves nothing", edits-busy, busy)
			}
			alone(t, dir, "f")
			t.Logf("%d edits, %d of them gave up", edits, busy)
		})
	}
}

func TestEditWaitsForAnOpenWriter(t *testing.T) {
	file := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(file, []byte("a\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := Edit(file, 0o600, nil, set("b\n")); !errors.Is(err, ErrBusy) {
		t.Errorf("edited a file that another program had open for writing: %v", err)
	}
	if _, err := f.WriteString("late\n"); err != nil || content(t, file) != "a\nlate\n" {
		t.Errorf("%v %q", err, content(t, file))
	}
	_ = f.Close()
	if err := Edit(file, 0o600, nil, set("b\n")); err != nil || content(t, file) != "b\n" {
		t.Error(err)
	}
}

// TestEditAfterACrash: the leftovers of a killed edit are removed, and what other programs wrote is kept.
func TestEditAfterACrash(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "f")
	put := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("f", "old")
	put(".f.broker-draft-123", "ne")
	put(".f.broker-swap-"+digest([]byte("older"))+"-"+digest([]byte("old")), "older")
	put(".f.broker-swap-"+digest([]byte("old"))+"-"+digest([]byte("new")), "new")
	put(".f2.broker-draft-1", "of another file")
	if err := Edit(file, 0o600, nil, set("new")); err != nil || content(t, file) != "new" {
		t.Fatal(err)
	}
	alone(t, dir, ".f2.broker-draft-1", "f")
	put(".f.broker-swap-"+digest([]byte("x"))+"-"+digest([]byte("y")), "precious")
	err := Edit(file, 0o600, nil, set("newer"))
	saved, _ := filepath.Glob(filepath.Join(dir, "f.broker-saved-*", "f"))
	if len(saved) != 1 || content(t, saved[0]) != "precious" {
		t.Errorf("what another program wrote is gone: %v, %v", saved, err)
	}
	if err := Edit(file, 0o600, nil, set("newer")); err != nil || content(t, file) != "newer" {
		t.Error(err)
	}
}

// TestEditKilled runs edits in a process that is killed at a random moment.
func TestEditKilled(t *testing.T) {
	if path := os.Getenv("ATOMICFILE_EDIT"); path != "" {
		for i := 0; ; i++ {
			if err := Edit(path, 0o600, &Backup{Path: path + ".backup"}, set(strings.Repeat(fmt.Sprint(i%10), 100_000))); err != nil {
				t.Fatal(err)
			}
		}
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "f")
	for i := range 25 {
		cmd := exec.Command(os.Args[0], "-test.run", "^TestEditKilled$")
		cmd.Env = append(os.Environ(), "ATOMICFILE_EDIT="+file)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(20+3*i) * time.Millisecond)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		got, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil || len(got) != 100_000 || strings.Trim(string(got), string(got[:1])) != "" {
			t.Fatalf("incomplete file: %d bytes, %v", len(got), err)
		}
	}
	if err := Edit(file, 0o600, nil, set("done")); err != nil {
		t.Fatal(err)
	}
	alone(t, dir, leftOf(t, dir)...)
}

// leftOf returns the files that may exist after a kill: the file, its backups and a draft of a backup. It fails
// the test for any other file.
func leftOf(t *testing.T, dir string) []string {
	names := []string{}
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if n := e.Name(); n == "f" || strings.HasPrefix(n, "f.backup") || strings.HasPrefix(n, ".f.backup.") {
			names = append(names, n)
		} else {
			t.Errorf("left behind: %s", n)
		}
	}
	return names
}

func TestEditWithoutSpace(t *testing.T) {
	if path := os.Getenv("ATOMICFILE_FULL"); path != "" {
		// A write beyond this size fails, as on a full disk.
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 10, Max: 10}); err != nil {
			t.Fatal(err)
		}
		err := Edit(path, 0o600, nil, set(strings.Repeat("x", 1000)))
		if !errors.Is(err, syscall.EFBIG) {
			os.Exit(3)
		}
		os.Exit(7)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "f")
	if err := os.WriteFile(file, []byte("the old one, of more than ten bytes"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run", "^TestEditWithoutSpace$")
	cmd.Env = append(os.Environ(), "ATOMICFILE_FULL="+file)
	if _ = cmd.Run(); cmd.ProcessState.ExitCode() != 7 {
		t.Errorf("exit code %d", cmd.ProcessState.ExitCode())
	}
	if got := content(t, file); got != "the old one, of more than ten bytes" {
		t.Errorf("the file is now %q", got)
	}
	alone(t, dir, "f")
}

// TestBackupsAreNumbered: the first backup and the latest ones are kept, and the same content is not kept twice.
func TestBackupsAreNumbered(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "config")
	backup := file + ".backup"
	put(t, file, "0")
	for i := range 8 {
		if err := Edit(file, 0o600, &Backup{Path: backup}, set(fmt.Sprint(i+1))); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for _, name := range Backups(backup) {
		got = append(got, strings.TrimPrefix(name, dir+"/")+" "+content(t, name))
	}
	want := []string{"config.backup 0", "config.backup.4 4", "config.backup.5 5", "config.backup.6 6", "config.backup.7 7"}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	put(t, file, "7")
	if err := Edit(file, 0o600, &Backup{Path: backup}, set("9")); err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(dir, "config.backup.08"), "not ours")
	if all := Backups(backup); len(all) != 5 || content(t, all[4]) != "7" {
		t.Errorf("%q", all)
	}
}

// TestForgetBackups: a backup that holds the text of the file again goes. The first one stays while there are others,
// and what is not a regular file is neither read nor removed.
func TestForgetBackups(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "config")
	path := file + ".backup"
	put(t, file, "a")
	edit := func(text string) string {
		b := Backup{Path: path}
		if err := Edit(file, 0o600, &b, set(text)); err != nil {
			t.Fatal(err)
		}
		return strings.TrimPrefix(b.Kept, path)
	}
	forget := func(text string, want ...string) {
		t.Helper()
		if !Backed(path, []byte(text)) {
			t.Errorf("no backup holds %q", text)
		}
		if err := Forget(path, []byte(text)); err != nil {
			t.Error(err)
		}
		left := []string{}
		for _, name := range Backups(path) {
			left = append(left, strings.TrimPrefix(name, path))
		}
		if !slices.Equal(left, want) {
			t.Errorf("%q are left, want %q", left, want)
		}
	}
	if first, second, again := edit("b"), edit("c"), edit("c"); first != "" || second != ".1" || again != "" {
		t.Errorf("backups were made at %q, %q and %q", first, second, again)
	}
	if Backed(path, []byte("x")) {
		t.Error("a backup holds a text that was never kept")
	}
	forget("a", "", ".1")
	forget("b", "")
	if latest := edit("d"); latest != ".1" { // the first backup still is the first
		t.Errorf("the backup is at %q", latest)
	}
	forget("c", "")
	forget("a")

	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/dev/zero", path+".1"); err != nil {
		t.Fatal(err)
	}
	if Backed(path, nil) {
		t.Error("a fifo holds a text")
	}
	if err := Forget(path, nil); err != nil || len(Backups(path)) != 2 {
		t.Errorf("%q, %v", Backups(path), err)
	}
}

// TestNothingLeftRemovesTheFile: an empty result removes the file, but not if a symlink leads to it or another
// program wrote it meanwhile.
func TestNothingLeftRemovesTheFile(t *testing.T) {
	dir := t.TempDir()
	file, link := filepath.Join(dir, "config"), filepath.Join(dir, "link")
	empty := func([]byte) ([]byte, error) { return nil, nil }
	put(t, file, "x")
	if err := os.Symlink("config", link); err != nil {
		t.Fatal(err)
	}
	if err := Edit(link, 0o600, nil, empty); err != nil || content(t, file) != "" {
		t.Error(err)
	}
	put(t, file, "x")
	if err := Edit(file, 0o600, nil, empty); err != nil {
		t.Error(err)
	}
	alone(t, dir, "link")

	if err := os.Remove(link); err != nil {
		t.Fatal(err)
	}
	put(t, file, "x")
	calls := 0
	err := Edit(file, 0o600, nil, func(src []byte) ([]byte, error) {
		if calls++; calls == 1 {
			put(t, file, "theirs")
			return nil, nil
		}
		return append(src, "+"...), nil
	})
	if err != nil || content(t, file) != "theirs+" {
		t.Errorf("%q, %v", content(t, file), err)
	}
	alone(t, dir, "config")
}
