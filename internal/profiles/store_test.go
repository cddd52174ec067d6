//go:build unix

package profiles

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"broker/internal/fault"
)

// write makes a file that is old enough that Load does not wait for it.
func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func tempFiles(t *testing.T, config, credentials, registry string) Files {
	t.Helper()
	dir := t.TempDir()
	files := Files{Config: filepath.Join(dir, "config"), Credentials: filepath.Join(dir, "credentials"),
		Registry: filepath.Join(dir, "registry"), AWS: dir}
	for path, text := range map[string]string{files.Config: config, files.Credentials: credentials,
		files.Registry: registry} {
		if text != "" {
			write(t, path, text)
		}
	}
	return files
}

func mustLoad(t *testing.T, s *Store, files Files) *Set {
	t.Helper()
	set, err := s.Load(files)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func region(t *testing.T, set *Set, name string) string {
	t.Helper()
	for _, s := range set.List() {
		if s.Name == name {
			return s.Region
		}
	}
	return ""
}

func TestLoadNoticesChanges(t *testing.T) {
	var s Store
	files := tempFiles(t, "[profile a]\nregion = eu-west-1\n", "", "")
	first := mustLoad(t, &s, files)
	if again := mustLoad(t, &s, files); again != first {
		t.Error("the file was read again without a change")
	}
	steps := []struct {
		what string
		do   func() error
		want string
	}{
		{"written in place", func() error { return os.WriteFile(files.Config, []byte("[profile a]\nregion = eu-west-2\n"), 0o600) }, "eu-west-2"},
		{"same size, old time stamp", func() error {
			fi, err := os.Stat(files.Config)
			return errors.Join(err, os.WriteFile(files.Config, []byte("[profile a]\nregion = eu-west-3\n"), 0o600),
				os.Chtimes(files.Config, fi.ModTime(), fi.ModTime()))
		}, "eu-west-3"},
		{"renamed over", func() error {
			tmp := files.Config + ".tmp"
			return errors.Join(os.WriteFile(tmp, []byte("[profile a]\nregion = eu-west-4\n"), 0o600), os.Rename(tmp, files.Config))
		}, "eu-west-4"},
		{"removed", func() error { return os.Remove(files.Config) }, ""},
		{"back as a link", func() error {
			target := files.Config + ".real"
			return errors.Join(os.WriteFile(target, []byte("[profile a]\nregion = eu-west-5\n"), 0o600), os.Symlink(target, files.Config))
		}, "eu-west-5"},
		{"changed through the link", func() error {
			return os.WriteFile(files.Config+".real", []byte("[profile a]\nregion = eu-west-6\n"), 0o600)
		}, "eu-west-6"},
		{"replaced by a new file", func() error {
			return os.WriteFile(files.Credentials, []byte("[a]\nregion = eu-west-7\n"), 0o600)
		}, "eu-west-7"},
		{"time stamp in the future", func() error {
			future := time.Now().Add(1000 * time.Hour)
			return errors.Join(os.WriteFile(files.Credentials, []byte("[a]\nregion = eu-west-8\n"), 0o600), os.Chtimes(files.Credentials, future, future))
		}, "eu-west-8"},
	}
	for _, step := range steps {
		if err := step.do(); err != nil {
			t.Fatal(step.what, err)
		}
		set := mustLoad(t, &s, files)
		if got := region(t, set, "a"); got != step.want {
			t.Errorf("%s: region %q, want %q", step.what, got, step.want)
		}
		if len(set.Warnings()) > 0 {
			t.Errorf("%s: %v", step.what, set.Warnings())
		}
	}
}

func TestLoadServesTheLastGoodState(t *testing.T) {
	good := "[profile a]\nregion = eu-west-1\n"
	for _, tt := range []struct {
		what  string
		wreck func(path string) error
		want  string
	}{
		{"NUL", func(p string) error { return os.WriteFile(p, []byte("[profile a]\nregion = \x00\n"), 0o600) }, ":2: this line contains a NUL"},
		{"bad UTF-8", func(p string) error { return os.WriteFile(p, []byte("[profile a]\n\n# \xff\n"), 0o600) }, ":3: this line is not valid UTF-8"},
		{"a directory", func(p string) error { return errors.Join(os.Remove(p), os.Mkdir(p, 0o700)) }, "is not a file but a directory"},
		{"a fifo", func(p string) error { return errors.Join(os.Remove(p), syscall.Mkfifo(p, 0o600)) }, "is not a file but a fifo"},
		{"a loop", func(p string) error { return errors.Join(os.Remove(p), os.Symlink(p, p)) }, "too many levels of symbolic links"},
		{"too large", func(p string) error { return os.Truncate(p, maxFile+1) }, "at most 50 MB"},
	} {
		t.Run(tt.what, func(t *testing.T) {
			var s Store
			files := tempFiles(t, good, "", "")
			mustLoad(t, &s, files)
			if err := tt.wreck(files.Config); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				set := mustLoad(t, &s, files)
				if got := region(t, set, "a"); got != "eu-west-1" {
					t.Errorf("region %q", got)
				}
				if w := fmt.Sprint(set.Warnings()); !strings.Contains(w, tt.want) || !strings.Contains(w, files.Config) {
					t.Errorf("warnings %s, want %s", w, tt.want)
				}
			}
			// Without a last good state it is an error.
			if _, err := new(Store).Load(files); !fault.Is(err, fault.Config) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %s", err, tt.want)
			}
			// Once the file is repaired, it is used again.
			if err := errors.Join(os.RemoveAll(files.Config), os.WriteFile(files.Config, []byte(strings.Replace(good,
				"-1", "-2", 1)), 0o600)); err != nil {
				t.Fatal(err)
			}
			set := mustLoad(t, &s, files)
			if got := region(t, set, "a"); got != "eu-west-2" || len(set.Warnings()) > 0 {
				t.Errorf("region %q, warnings %v", got, set.Warnings())
			}
		})
	}
}

func TestLoadOfSpecialFiles(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{"/dev/zero", "/dev/tty", dir, "/proc/self/fd/0/x", dir + "/missing/../../x\x00"} {
		done := make(chan error, 1)
		go func() {
			_, err := new(Store).Load(Files{Config: path})
			done <- err
		}()
		select {
		case err := <-done:
			if err != nil && !fault.Is(err, fault.Config) {
				t.Errorf("%s: %v", path, err)
			}
		case <-time.After(time.Minute):
			t.Fatalf("%s: hangs", path)
		}
	}
	for _, files := range []Files{{}, {Config: os.DevNull, Credentials: os.DevNull, Registry: os.DevNull},
		{Config: dir + "/missing"}} {
		if set, err := new(Store).Load(files); err != nil || len(set.List()) != 0 {
			t.Errorf("%v: %v", files, err)
		}
	}
	if _, err := new(Store).Load(Files{Config: "config"}); !fault.Is(err, fault.Usage) {
		t.Errorf("relative path: %v", err)
	}
}

func TestLoadLooksAtModeAndOwner(t *testing.T) {
	text := "[profile a]\nregion = eu-west-1\n"
	for _, tt := range []struct {
		what           string
		config, regist os.FileMode
		owner          int
		warn, fail     string
	}{
		{"private", 0o600, 0o600, -1, "", ""},
		{"readable", 0o644, 0o644, -1, "", ""},
		{"config writable by our private group", 0o620, 0o600, -1, "", ""},
		{"config writable by all", 0o666, 0o600, -1, "config: counts as another user's file, since it can be written by " +
			"others (mode 0666)", ""},
		{"registry writable by our private group", 0o600, 0o660, -1, "", ""},
		{"registry writable by all", 0o600, 0o602, -1, "", "registry can be written by others (mode 0602)"},
		{"another's registry", 0o600, 0o600, 12345, "", "belongs to another user (uid 12345)"},
	} {
		t.Run(tt.what, func(t *testing.T) {
			files := tempFiles(t, text, "", text)
			if err := errors.Join(os.Chmod(files.Config, tt.config), os.Chmod(files.Registry, tt.regist)); err != nil {
				t.Fatal(err)
			}
			if tt.owner >= 0 {
				if os.Geteuid() != 0 {
					missing(t, "right to change the owner of files (root)")
				}
				if err := os.Chown(files.Registry, tt.owner, -1); err != nil {
					t.Fatal(err)
				}
			}
			set, err := new(Store).Load(files)
			if tt.fail != "" {
				if !fault.Is(err, fault.Config) || !strings.Contains(err.Error(), tt.fail) {
					t.Errorf("error %v, want %s", err, tt.fail)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if w := set.Warnings(); (tt.warn == "") != (len(w) == 0) || !strings.Contains(fmt.Sprint(w), tt.warn) {
				t.Errorf("warnings %v, want %s", w, tt.warn)
			}
		})
	}
}

// halves are two complete files. Half of one, or a mix of both, equals neither.
var halves = [2]string{manyRoles("eu-west-1", 40), manyRoles("us-east-1", 60)}

func manyRoles(region string, n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "[profile p%d]\nregion = %s\nrole_arn = arn:aws:iam::444455556666:role/x%d\nsource_profile = s\n\n", i, region, i)
	}
	return b.String()
}

// whole returns an error unless a set is one of the two halves.
func whole(set *Set) error {
	list := set.List()
	if len(list) != 40 && len(list) != 60 {
		return fmt.Errorf("%d profiles", len(list))
	}
	want := map[int]string{40: "eu-west-1", 60: "us-east-1"}[len(list)]
	for _, s := range list {
		if s.Region != want || s.Kind != KindRole {
			return fmt.Errorf("%d profiles, and %+v", len(list), s)
		}
	}
	return nil
}

func TestLoadNeverSeesHalfAFile(t *testing.T) { testHalfFiles(t, 500) }

func TestLoadNeverSeesHalfAFileLong(t *testing.T) { testHalfFiles(t, 10_000) }

// testHalfFiles reads a file this often while another goroutine writes it in place, in two halves, and by rename.
func testHalfFiles(t *testing.T, times int64) {
	t.Helper()
	inPlace := func(path, text string) error {
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
		if err != nil {
			return err
		}
		cut := len(text)/2 + 7
		_, err1 := f.WriteString(text[:cut])
		time.Sleep(time.Millisecond)
		_, err2 := f.WriteString(text[cut:])
		return errors.Join(err1, err2, f.Close())
	}
	byRename := func(path, text string) error {
		return errors.Join(os.WriteFile(path+".tmp", []byte(text), 0o600), os.Rename(path+".tmp", path))
	}
	byUnlink := func(path, text string) error {
		return errors.Join(os.Remove(path), os.WriteFile(path, []byte(text), 0o600))
	}
	for _, tt := range []struct {
		what  string
		write func(path, text string) error
		pause time.Duration
		// starved is how long a write must take before the reader may be misled: half of the time that the reader
		// waits, since time stamps of files lag behind.
		starved time.Duration
	}{
		{"in place, without a pause", inPlace, 0, quiet / 2},
		{"in place", inPlace, 120 * time.Millisecond, quiet / 2},
		{"by rename, without a pause", byRename, 0, math.MaxInt64},
		{"by rename", byRename, 70 * time.Millisecond, math.MaxInt64},
		{"by unlink", byUnlink, 70 * time.Millisecond, longQuiet / 2},
	} {
		t.Run(tt.what, func(t *testing.T) {
			t.Parallel()
			var s Store
			files := tempFiles(t, halves[0], "", "")
			mustLoad(t, &s, files)
			stop := make(chan struct{})
			var writer, readers sync.WaitGroup
			var slowest time.Duration // the slowest write
			writer.Go(func() {
				for i := 0; ; i++ {
					select {
					case <-stop:
						return
					case <-time.After(tt.pause):
					}
					began := time.Now()
					if err := tt.write(files.Config, halves[i%2]); err != nil {
						t.Error(err)
						return
					}
					slowest = max(slowest, time.Since(began))
				}
			})
			var reads atomic.Int64
			var wrong atomic.Pointer[error]
			seen := sync.Map{}
			for range 4 {
				readers.Go(func() {
					for reads.Add(1) <= times {
						set, err := s.Load(files)
						if err == nil {
							if _, known := seen.LoadOrStore(set, true); !known {
								err = whole(set)
							}
						}
						if err != nil {
							wrong.Store(&err)
							return
						}
						time.Sleep(100 * time.Microsecond)
					}
				})
			}
			readers.Wait()
			close(stop)
			writer.Wait()
			// If the machine delays the writer for long enough, half a file looks complete. A draft must not be
			// visible before its rename, however long that takes.
			switch err := wrong.Load(); {
			case err != nil && slowest > tt.starved:
				t.Logf("NOT PROVEN, the writer was starved for %v: %v", slowest, *err)
			case err != nil:
				t.Error(*err)
			}
			// Once nobody writes, the last content is used, without a warning.
			if err := tt.write(files.Config, halves[1]); err != nil {
				t.Fatal(err)
			}
			limit := time.Now().Add(time.Minute)
			for set := mustLoad(t, &s, files); ; set = mustLoad(t, &s, files) {
				err := whole(set)
				if err == nil && len(set.List()) == 60 && len(set.Warnings()) == 0 {
					break
				}
				if time.Now().After(limit) {
					t.Fatalf("%d profiles, %v, %v", len(set.List()), set.Warnings(), err)
				}
			}
		})
	}
}

// TestLoadSaysThatAFileIsBeingRewritten checks that Load does not use the content of a file that was never
// unchanged for long enough while a request may wait.
func TestLoadSaysThatAFileIsBeingRewritten(t *testing.T) {
	var s Store
	files := tempFiles(t, halves[0], "", "")
	mustLoad(t, &s, files)
	write(t, files.Config, halves[1])
	defer func(old time.Duration) { quiet = old }(quiet)
	quiet = time.Hour
	set := mustLoad(t, &s, files)
	if len(set.List()) != 40 || !strings.Contains(fmt.Sprint(set.Warnings()), "being rewritten") {
		t.Errorf("%d profiles, warnings %v", len(set.List()), set.Warnings())
	}
}

// TestWarmLoadDoesNotGrow checks that with a config of 10,000 profiles a warm request costs the same as with 10.
func TestWarmLoadDoesNotGrow(t *testing.T) {
	allocs := func(n int) float64 {
		config, registry := manyProfiles(n)
		files := tempFiles(t, config, "", registry)
		var s Store
		mustLoad(t, &s, files)
		return testing.AllocsPerRun(100, func() {
			if _, err := mustLoad(t, &s, files).Resolve("product7_prod_paul"); err != nil {
				t.Fatal(err)
			}
		})
	}
	if few, many := allocs(10), allocs(10_000); many > few {
		t.Errorf("%v allocations with 10 profiles, %v with 10,000", few, many)
	}
}

func TestStoreIsBounded(t *testing.T) {
	var s Store
	dir := t.TempDir()
	for i := range 10 * maxSlots {
		mustLoad(t, &s, Files{Config: filepath.Join(dir, fmt.Sprint(i))})
	}
	if len(s.slots) > maxSlots {
		t.Errorf("%d slots", len(s.slots))
	}
	last := Files{Config: filepath.Join(dir, fmt.Sprint(10*maxSlots-1))}
	if s.slots[last] == nil {
		t.Error("the slot used last was dropped")
	}
}

func TestNoSecretIsKept(t *testing.T) {
	const secret = "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY"
	files := tempFiles(t, "[profile b]\naws_access_key_id = AKIAIOSFODNN7EXAMPLE\nAWS_Secret_Access_Key = "+secret+"\n",
		"[a]\naws_access_key_id = AKIAIOSFODNN7EXAMPLE\naws_secret_access_key = "+secret+"\naws_session_token = "+secret+"\n", "")
	var s Store
	set := mustLoad(t, &s, files)
	for i := range set.states {
		for _, b := range set.states[i].table.blocks {
			if strings.Contains(fmt.Sprintf("%+v", b.settings), secret) {
				t.Errorf("cached in %v", b.origin)
			}
		}
	}
	for _, name := range []string{"a", "b"} {
		if _, err := set.Resolve(name); err == nil || strings.Contains(err.Error(), secret) {
			t.Error(err)
		}
	}
}

// TestLoadBrokenRegistry checks that a broken registry is an error, even for a Store that read it before, and that
// it is read again once it is repaired.
func TestLoadBrokenRegistry(t *testing.T) {
	good := "[profile a]\nregion = eu-west-1\n"
	var s Store
	files := tempFiles(t, "", "", good)
	mustLoad(t, &s, files)
	for _, broken := range []string{good + "garbage\n", good + "[profile b\n", good + "x = \x00\n"} {
		if err := os.WriteFile(files.Registry, []byte(broken), 0o600); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if _, err := s.Load(files); !fault.Is(err, fault.Config) || !strings.Contains(err.Error(), files.Registry+":3: ") {
				t.Errorf("%q: %v", broken, err)
			}
		}
	}
	if err := os.WriteFile(files.Registry, []byte(good), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := region(t, mustLoad(t, &s, files), "a"); got != "eu-west-1" {
		t.Errorf("region %q", got)
	}
}

// TestUnreadableFileHasAHint: a file that may not be read has a hint.
func TestUnreadableFileHasAHint(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may read each file")
	}
	path := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(path, nil, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadFile(path); fault.Of(err) == nil || fault.Of(err).Hint != fault.Hintf("ls -ld %s", path) {
		t.Errorf("%v, hint %q", err, fault.Of(err).Hint)
	}
}
