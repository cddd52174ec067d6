//go:build unix

package record

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"broker/internal/fault"
	"broker/internal/system"
	"broker/internal/testproc"
)

// TestMain: the tests start no program that could prompt on a terminal.
func TestMain(m *testing.M) {
	isUsual = func(path string) bool { return !strings.Contains(path, "chosen") }
	os.Exit(testproc.Run(m))
}

const nobody = 65534

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("NOT PROVEN: needs root to give a file to another user")
		}
		t.Skip("SKIPPED, NOT PROVEN: needs root to give a file to another user")
	}
}

// within fails the test if f takes too long, such as by waiting for the writer of a FIFO.
func within(t *testing.T, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatal("the call hangs")
	}
}

const text = `{"version":1}`

func withMode(path string, mode fs.FileMode) error {
	return errors.Join(os.WriteFile(path, []byte(text), 0o600), os.Chmod(path, mode))
}

func dirWithMode(path string, mode fs.FileMode) error {
	return errors.Join(os.Mkdir(path, 0o700), os.Chmod(path, mode))
}

// TestMatrix: what is in the place of a file is read, opened and replaced, or it is refused with its path and a
// hint. The target of a link is never touched.
func TestMatrix(t *testing.T) {
	for _, c := range []struct {
		name  string
		plant func(path, other string) error
		read  string // why reading is refused; empty if it is read
		write string // why it is not replaced
		mend  string // start of the hint
	}{
		{"a file", func(path, _ string) error { return os.WriteFile(path, []byte(text), 0o600) }, "", "", ""},
		{"open to readers", func(path, _ string) error {
			return withMode(path, 0o644)
		}, "", "", ""},
		{"symlink", func(path, other string) error { return os.Symlink(other, path) },
			"is a symbolic link", "is a symbolic link", "rm "},
		{"symlink within", func(path, _ string) error {
			return errors.Join(os.WriteFile(path+".real", []byte(text), 0o600), os.Symlink(filepath.Base(path)+".real", path))
		}, "is a symbolic link", "is a symbolic link", "rm "},
		{"symlink to nothing", func(path, other string) error { return os.Symlink(other+".gone", path) },
			"is a symbolic link", "is a symbolic link", "rm "},
		{"hard link", func(path, other string) error { return os.Link(other, path) }, "has 2 names", "", "ls -li "},
		{"fifo", func(path, _ string) error { return syscall.Mkfifo(path, 0o600) }, "is a fifo", "is a fifo", "rm "},
		{"socket", func(path, _ string) error { return makeSocket(path) }, "is a socket", "is a socket", "rm "},
		{"directory", func(path, _ string) error { return os.Mkdir(path, 0o700) },
			"is a directory", "is a directory", "rm -r "},
		{"other owner", func(path, _ string) error {
			return errors.Join(os.WriteFile(path, []byte(text), 0o600), os.Chown(path, nobody, nobody))
		}, "belongs to another user (uid 65534)", "", "rm "},
		{"0777", func(path, _ string) error {
			return withMode(path, 0o777)
		}, "can be written by others (mode 0777)", "", "chmod 600 "},
		{"huge", func(path, _ string) error {
			return errors.Join(os.WriteFile(path, []byte(text), 0o600), os.Truncate(path, 1<<30))
		}, "is larger than 100 bytes", "", "rm "},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.name == "other owner" {
				needRoot(t)
			}
			dir, other := t.TempDir(), filepath.Join(t.TempDir(), "other")
			path := filepath.Join(dir, "f")
			must(t, errors.Join(os.Chmod(dir, 0o700), os.WriteFile(other, []byte(text), 0o600), c.plant(path, other)))
			refused := func(what string, err error, why string) {
				t.Helper()
				f := fault.Of(err)
				switch {
				case why == "" && err != nil:
					t.Errorf("%s: %v", what, err)
				case why != "" && (!errors.Is(err, ErrRefused) || errors.Is(err, ErrDirectory) || f.Kind != fault.Failed ||
					!strings.HasPrefix(f.Message, path+" "+why)):
					t.Errorf("%s: %v, want %q", what, err, why)
				case why != "" && !strings.HasPrefix(string(f.Hint), c.mend):
					t.Errorf("%s: hint %q, want %q", what, f.Hint, c.mend)
				}
			}
			within(t, func() {
				got, err := Read(path, 100, Guarded)
				refused("read", err, c.read)
				if c.read == "" && string(got) != text {
					t.Errorf("read %q", got)
				}
				if c.name != "huge" { // a log may be huge
					f, err := OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, Guarded)
					refused("append", err, c.read)
					if f != nil {
						if info, err := f.Stat(); err != nil || info.Mode() != 0o600 {
							t.Errorf("opened for writing it has mode %v, %v", info.Mode(), err)
						}
						_ = f.Close()
					}
				}
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
				defer cancel()
				refused("lock", func() error {
					f, err := Lock(ctx, path)
					if f != nil {
						_ = f.Close()
					}
					return err
				}(), map[bool]string{true: "", false: c.read}[c.name == "huge"])
				refused("replace", Replace(path, []byte("new")), c.write)
			})
			if b, err := os.ReadFile(other); err != nil || string(b) != text {
				t.Errorf("the target of the link is %q, %v", b, err)
			}
			if c.write == "" {
				if b, err := Read(path, 100, Private); err != nil || string(b) != "new" {
					t.Errorf("replaced: %q, %v", b, err)
				}
			}
			if names, _ := filepath.Glob(filepath.Join(dir, ".*")); len(names) > 0 {
				t.Errorf("left behind: %v", names)
			}
		})
	}
}

// makeSocket creates a socket whose path may be long.
func makeSocket(path string) error {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }()
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	defer func() { _ = syscall.Close(fd) }()
	name := path
	if _, err := os.Stat("/proc/self/fd"); err == nil {
		name = fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(path))
	}
	return syscall.Bind(fd, &syscall.SockaddrUnix{Name: name})
}

// TestDirectories: the same for the directory.
func TestDirectories(t *testing.T) {
	for _, c := range []struct {
		name  string
		plant func(dir, other string) error
		why   string
		hint  string
	}{
		{"missing", func(string, string) error { return nil }, "", ""},
		{"ours", func(dir, _ string) error { return os.Mkdir(dir, 0o700) }, "", ""},
		{"open to readers", func(dir, _ string) error { return dirWithMode(dir, 0o755) },
			"can be read by others (mode 0755)", "chmod 700 "},
		{"open to all", func(dir, _ string) error { return dirWithMode(dir, 0o777) },
			"can be written by others (mode 0777)", "chmod 700 "},
		{"symlink", func(dir, other string) error { return os.Symlink(other, dir) }, "is a symbolic link", "rm "},
		{"symlink within", func(dir, _ string) error {
			return errors.Join(os.Mkdir(dir+".real", 0o700), os.Symlink(filepath.Base(dir)+".real", dir))
		}, "is a symbolic link", "rm "},
		{"symlink to nothing", func(dir, other string) error { return os.Symlink(other+".gone", dir) },
			"is a symbolic link", "rm "},
		{"symlink to a file", func(dir, other string) error {
			return errors.Join(os.WriteFile(other+".file", nil, 0o600), os.Symlink(other+".file", dir))
		}, "is a symbolic link", "rm "},
		{"file", func(dir, _ string) error { return os.WriteFile(dir, nil, 0o600) }, "is not a directory", "rm "},
		{"fifo", func(dir, _ string) error { return syscall.Mkfifo(dir, 0o600) }, "is not a directory", "rm "},
		{"socket", func(dir, _ string) error { return makeSocket(dir) }, "is not a directory", "rm "},
		{"other owner", func(dir, _ string) error {
			return errors.Join(os.Mkdir(dir, 0o700), os.Chown(dir, nobody, nobody))
		},
			"belongs to another user (uid 65534)", "sudo -u '#65534' broker status"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.name == "other owner" {
				needRoot(t)
			}
			top, other := t.TempDir(), t.TempDir()
			must(t, os.Chmod(top, 0o700))
			for way, open := range map[string]func(dir string) (*Dir, error){
				"by its path": func(dir string) (*Dir, error) { return Make(dir, Private) },
				"below another": func(dir string) (*Dir, error) {
					d, err := Open(filepath.Dir(dir), Private)
					if err != nil {
						return nil, err
					}
					defer func() { _ = d.Close() }()
					return d.MakeSub(filepath.Base(dir))
				},
			} {
				dir := filepath.Join(top, strings.ReplaceAll(way, " ", "-"))
				must(t, c.plant(dir, other))
				within(t, func() {
					d, err := open(dir)
					if c.why == "" {
						must(t, err)
						must(t, d.Close())
						return
					}
					f := fault.Of(err)
					if d != nil || !errors.Is(err, ErrDirectory) || !errors.Is(err, ErrRefused) ||
						!strings.HasPrefix(f.Message, dir+" "+c.why) || !strings.HasPrefix(string(f.Hint), c.hint) {
						t.Errorf("%s: %v, hint %v", way, err, f)
					}
				})
			}
			if names, err := os.ReadDir(other); err != nil || len(names) > 0 {
				t.Errorf("something was created in the target of the link: %v, %v", names, err)
			}
		})
	}
	if _, err := Read(filepath.Join(t.TempDir(), "missing", "f"), 1, Guarded); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("in a directory that is missing: %v", err)
	}
	missing := filepath.Join(t.TempDir(), "missing")
	if err := errors.Join(Remove(filepath.Join(missing, "f")), Sweep(missing)); err != nil {
		t.Error(err)
	}
}

// TestSwappedWhileRead: a reader gets the complete contents of one file, however quickly others replace it, and
// nothing through a link that is there at times.
func TestSwappedWhileRead(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Chmod(dir, 0o700))
	path, secret := filepath.Join(dir, "f"), filepath.Join(t.TempDir(), "secret")
	old, fresh := bytes.Repeat([]byte("a"), 50_000), bytes.Repeat([]byte("b"), 60_000)
	must(t, errors.Join(os.WriteFile(secret, []byte("secret"), 0o600), Replace(path, old)))
	var writer sync.WaitGroup
	stop := make(chan struct{})
	writer.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			switch i % 3 {
			case 0:
				if err := Replace(path, fresh); err != nil && !errors.Is(err, ErrRefused) {
					t.Error(err)
				}
			case 1:
				_ = os.Symlink(secret, path+".link")
				_ = os.Rename(path+".link", path)
				_ = os.Remove(path)
			case 2:
				_ = os.WriteFile(path+".new", old, 0o600)
				_ = os.Rename(path+".new", path)
			}
		}
	})
	read := 0
	defer func() {
		close(stop)
		writer.Wait()
	}()
	for range 2000 {
		got, err := Read(path, 1<<20, Guarded)
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, ErrRefused):
		case err != nil || !bytes.Equal(got, old) && !bytes.Equal(got, fresh):
			t.Fatalf("%d bytes, %v", len(got), err)
		default:
			read++
		}
	}
	if read == 0 {
		t.Error("nothing was read: the test proves nothing")
	}
}

// TestDrafts: a process that is killed while it replaces a file leaves the old or the new contents, and at most
// one draft, which Sweep removes. A draft that is being written stays.
func TestDrafts(t *testing.T) {
	if path := os.Getenv("RECORD_WRITE"); path != "" {
		for i := 0; ; i++ {
			must(t, Replace(path, bytes.Repeat([]byte{'a' + byte(i%2)}, 100_000)))
		}
	}
	dir := t.TempDir()
	must(t, os.Chmod(dir, 0o700))
	path := filepath.Join(dir, "f")
	must(t, Replace(path, bytes.Repeat([]byte("a"), 100_000)))
	drafts := func() []string { names, _ := filepath.Glob(filepath.Join(dir, ".f.broker-draft-*")); return names }
	left := 0
	for i := 0; i < 200 && (i < 5 || left == 0); i++ {
		cmd := exec.Command(os.Args[0], "-test.run=^TestDrafts$")
		cmd.Env = append(os.Environ(), "RECORD_WRITE="+path)
		must(t, cmd.Start())
		for len(drafts()) == 0 {
			time.Sleep(50 * time.Microsecond)
		}
		must(t, Sweep(dir)) // beside a writer
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		got, err := Read(path, 1<<20, Private)
		if err != nil || len(got) != 100_000 || bytes.Count(got, got[:1]) != len(got) {
			t.Fatalf("half a file: %d bytes, %v", len(got), err)
		}
		left += len(drafts())
		must(t, Sweep(dir))
		if names := drafts(); len(names) > 0 {
			t.Fatalf("still there: %v", names)
		}
	}
	if left == 0 {
		t.Error("no draft was left by a process that was killed: the test proves nothing")
	}
	d, err := Open(dir, Private)
	must(t, err)
	defer func() { _ = d.Close() }()
	f, name, err := d.draft("f")
	must(t, err)
	must(t, Sweep(dir))
	if _, err := os.Lstat(filepath.Join(dir, name)); err != nil {
		t.Errorf("a draft that is being written was removed: %v", err)
	}
	must(t, f.Close())
	// A file with the name of a draft that is not a draft stays.
	must(t, os.Symlink(path, filepath.Join(dir, ".x.broker-draft-1")))
	must(t, Sweep(dir))
	if names, _ := filepath.Glob(filepath.Join(dir, ".*")); len(names) != 1 {
		t.Errorf("%v", names)
	}
}

// TestReplacers: many replace and sweep at once, and none fails.
func TestReplacers(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Chmod(dir, 0o700))
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 50 {
				if err := errors.Join(Replace(filepath.Join(dir, "f"), []byte(text)), Sweep(dir)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
}

// TestEdit: edits take turns, and none is lost.
func TestEdit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state", "f")
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			grow := func(src []byte) ([]byte, error) { return append(src, 'x'), nil }
			if err := Edit(t.Context(), path, 1000, grow); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if got, err := Read(path, 1000, Private); err != nil || string(got) != strings.Repeat("x", 20) {
		t.Errorf("%q, %v", got, err)
	}
	held, err := Lock(t.Context(), path+".lock")
	must(t, err)
	defer func() { _ = held.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	nothing := func([]byte) ([]byte, error) { return nil, nil }
	if err := Edit(ctx, path, 1000, nothing); !errors.Is(err, system.ErrLocked) {
		t.Errorf("with the lock held: %v", err)
	}
}

// TestUmask: created files have their mode, whatever the umask.
func TestUmask(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o777))
	top := t.TempDir()
	must(t, os.Chmod(top, 0o700))
	path := filepath.Join(top, "above", "dir", "f")
	d, err := Make(filepath.Dir(path), Private)
	must(t, err)
	must(t, errors.Join(d.Close(), Replace(path, nil)))
	for p, want := range map[string]fs.FileMode{
		path: 0o600, filepath.Dir(path): 0o700 | fs.ModeDir, filepath.Join(top, "above"): 0o700 | fs.ModeDir,
	} {
		if info, err := os.Stat(p); err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v", p, info, err)
		}
	}
}

// TestSetAside: a file that is set aside is not lost. With keep, a crash before its replacement does not look like
// a first start.
func TestSetAside(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Chmod(dir, 0o700))
	d, err := Open(dir, Private)
	must(t, err)
	defer func() { _ = d.Close() }()
	for _, keep := range []bool{true, false} {
		_ = os.Remove(filepath.Join(dir, "f"))
		must(t, os.WriteFile(filepath.Join(dir, "f"), []byte("x"), 0o600))
		aside, err := d.SetAside("f", keep)
		must(t, err)
		if b, err := os.ReadFile(filepath.Join(dir, aside)); err != nil || string(b) != "x" {
			t.Errorf("%q, %v", b, err)
		}
		if _, err := os.Lstat(filepath.Join(dir, "f")); (err == nil) != keep {
			t.Errorf("keep %v: %v", keep, err)
		}
	}
}

func TestDecode(t *testing.T) {
	for _, c := range []struct {
		text string
		ok   bool
		is   error
	}{
		{`{"version":1,"name":"x"}`, true, nil},
		{`{"name":"x"}`, false, ErrVersion},
		{`{"version":2,"name":"x","more":1}`, false, ErrVersion},
		{`{"version":"1"}`, false, ErrVersion},
		{`[]`, false, ErrVersion},
		{`{"version":1,"names":"x"}`, false, nil},
		{`{"version":1} {}`, false, nil},
		{`{"version":1}x`, false, nil},
		{`{"version":1`, false, nil},
		{``, false, nil},
		{`null`, false, ErrVersion},
	} {
		var into struct {
			Version int    `json:"version"`
			Name    string `json:"name"`
		}
		err := Decode([]byte(c.text), 1, &into, nil)
		if (err == nil) != c.ok || c.is != nil && !errors.Is(err, c.is) || c.is == nil && errors.Is(err, ErrVersion) {
			t.Errorf("%s: %v", c.text, err)
		}
	}
	var list []int
	for text, ok := range map[string]bool{`[1]`: true, `{"version":0}`: false, `{"version":2}`: false, `[1] 2`: false} {
		if err := Decode([]byte(text), 1, new(struct{}), &list); (err == nil) != ok {
			t.Errorf("without a version, %s: %v", text, err)
		}
	}
}

// TestHintsLookAtWhatOthersChose: a hint never removes or changes a path that is not usual.
func TestHintsLookAtWhatOthersChose(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "chosen")
	must(t, dirWithMode(dir, 0o777))
	must(t, os.WriteFile(dir+".file", nil, 0o600))
	must(t, os.Symlink(dir, dir+".link"))
	sub := dir + "-sub"
	must(t, os.Mkdir(sub, 0o700))
	must(t, os.Mkdir(filepath.Join(sub, "f"), 0o700))
	for path, use := range map[string]func() error{
		dir:                     func() error { _, err := Open(dir, Guarded); return err },
		dir + ".file":           func() error { _, err := Open(dir+".file", Guarded); return err },
		dir + ".link":           func() error { _, err := Open(dir+".link", Guarded); return err },
		filepath.Join(sub, "f"): func() error { _, err := Read(filepath.Join(sub, "f"), 1, Guarded); return err },
	} {
		if f := fault.Of(use()); f == nil || f.Hint != fault.Hintf("ls -ld %s", path) {
			t.Errorf("%s: %v, hint %q", path, f, f.Hint)
		}
	}
}

// TestErrorsNameTheFile: the error of a failed call has the complete path, once, and no name of a draft.
func TestErrorsNameTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gone")
	d, err := Make(path, Guarded)
	must(t, err)
	defer d.Close()
	must(t, os.Remove(path))
	_, read := d.Read("f", 1, Guarded)
	_, opened := d.OpenFile("f", os.O_RDWR|os.O_CREATE, Guarded)
	for _, err := range []error{read, opened, d.Replace("f", nil)} {
		if want := " " + filepath.Join(path, "f") + ": "; err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want …%s…", err, want)
		}
	}
}

// TestUnreadable: the hint changes the nearest thing on the path that exists, if that is usual.
func TestUnreadable(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "config")
	must(t, os.WriteFile(file, nil, 0))
	link := filepath.Join(dir, "link")
	must(t, os.Symlink(file, link))
	usual := isUsual
	defer func() { isUsual = usual }()
	isUsual = func(path string) bool { return path != dir }
	for path, want := range map[string]fault.Hint{
		file:                             fault.Hintf("chmod u+rw %s", file),
		link:                             fault.Hintf("ls -ld %s", link),
		filepath.Join(dir, "none"):       fault.Hintf("ls -ld %s", dir), // not usual
		filepath.Join(dir, "none", "at"): fault.Hintf("ls -ld %s", dir),
	} {
		if got := Unreadable(path); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
	isUsual = func(string) bool { return true }
	if got := Unreadable(filepath.Join(dir, "none")); got != fault.Hintf("chmod u+rwx %s", dir) {
		t.Errorf("a directory: %s", got)
	}
}
