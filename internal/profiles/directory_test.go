//go:build unix

package profiles

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"broker/internal/fault"
)

// writeDirectory writes the file .broker of a directory.
func writeDirectory(t *testing.T, dir, text string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, DirectoryFile), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestReadDirectory(t *testing.T) {
	for name, c := range map[string]struct {
		text               string
		profiles, accounts []string
		refused            string // a part of the error; FILE stands for the path
	}{
		"profiles": {"profiles = dev, stage\n", []string{"dev", "stage"}, nil, ""},
		"all": {"# ours\nProfiles: dev ; the default\naccounts = 111122223333,444455556666\n", []string{"dev"},
			[]string{"111122223333", "444455556666"}, ""},
		"no final newline":     {"profiles = dev", []string{"dev"}, nil, ""},
		"line ends of Windows": {"profiles = dev\r\naccounts = 111122223333\r\n", []string{"dev"}, []string{"111122223333"}, ""},
		"several lines":        {"profiles = dev,\n  stage\n", []string{"dev", "stage"}, nil, ""},

		"empty":           {"", nil, nil, "FILE:1: the key profiles is missing"},
		"only accounts":   {"accounts = 111122223333\n", nil, nil, "FILE:1: the key profiles is missing"},
		"unknown key":     {"profiles = dev\n\nprofile = x\n", nil, nil, `FILE:3: unknown key "profile"`},
		"twice":           {"profiles = dev\nprofiles = stage\n", nil, nil, "FILE:2: this line sets a key a second time"},
		"a section":       {"profiles = dev\n[default]\n", nil, nil, "FILE:2: this line begins a section"},
		"no key":          {"\ndev\n", nil, nil, `FILE:2: this line is not "key = value"`},
		"no value":        {"profiles =\n", nil, nil, "FILE:1: a profile's name cannot be empty"},
		"a list of lines": {"profiles =\n  dev\n", nil, nil, `FILE:2: this line is not "key = value"`},
		"a comma more":    {"profiles = dev,\n", nil, nil, "FILE:1: a profile's name cannot be empty"},
		"a long name":     {"profiles = " + strings.Repeat("x", 300), nil, nil, "FILE:1: a profile's name has at most 256 bytes"},
		"a control":       {"profiles = dev\x1b[2J\n", nil, nil, `FILE:1: a profile's name cannot contain '\x1b'`},
		"no account":      {"profiles = dev\naccounts = 1234\n", nil, nil, `FILE:2: "1234" is not the id of an account`},
		"no UTF-8":        {"profiles = dev\n#\xff\n", nil, nil, "FILE:2: this line is not valid UTF-8"},
		"a NUL":           {"profiles = dev\x00\n", nil, nil, "FILE:1: this line contains a NUL byte"},
		"too large":       {"profiles = dev\n" + strings.Repeat("#", maxDirectoryFile), nil, nil, "FILE has more than 16 KiB"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			writeDirectory(t, dir, c.text)
			d, err := ReadDirectory(dir)
			if c.refused != "" {
				want := strings.Replace(c.refused, "FILE", filepath.Join(dir, DirectoryFile), 1)
				if !fault.Is(err, fault.Config) || !strings.Contains(err.Error(), fault.Line(want)) || fault.Of(err).Hint == "" {
					t.Fatalf("got %v, want %s", err, want)
				}
				return
			}
			if err != nil || d.Path != dir || !slices.Equal(d.Profiles, c.profiles) || !slices.Equal(d.Accounts, c.accounts) {
				t.Fatalf("%+v, %v", d, err)
			}
		})
	}
}

// TestReadDirectoryRefusesFiles: only a regular file counts that nobody else can change.
func TestReadDirectoryRefusesFiles(t *testing.T) {
	for name, c := range map[string]struct {
		make func(file string) error
		want string
	}{
		"a link": {func(file string) error {
			if err := os.WriteFile(file+"x", []byte("profiles = dev\n"), 0o600); err != nil {
				return err
			}
			return os.Symlink(file+"x", file)
		}, "is a symbolic link"},
		"a fifo":      {func(file string) error { return syscall.Mkfifo(file, 0o600) }, "is not a file but a fifo"},
		"a directory": {func(file string) error { return os.Mkdir(file, 0o700) }, "is not a file but a directory"},
		"writable by others": {func(file string) error {
			if err := os.WriteFile(file, []byte("profiles = dev\n"), 0o600); err != nil {
				return err
			}
			return os.Chmod(file, 0o666)
		}, "can be written by others (mode 0666)"},
		"of another user": {func(file string) error {
			if os.Geteuid() != 0 {
				t.Skip("only root can give a file away")
			}
			if err := os.WriteFile(file, []byte("profiles = dev\n"), 0o644); err != nil {
				return err
			}
			return os.Chown(file, 65534, 65534)
		}, "belongs to another user (uid 65534)"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			file := filepath.Join(dir, DirectoryFile)
			if err := c.make(file); err != nil {
				t.Fatal(err)
			}
			_, err := ReadDirectory(dir)
			if !fault.Is(err, fault.Config) || !strings.HasPrefix(err.Error(), file+" "+c.want) || fault.Of(err).Hint == "" {
				t.Errorf("%v", err)
			}
		})
	}
	if _, err := ReadDirectory(t.TempDir()); !fault.Is(err, fault.NotFound) {
		t.Errorf("no file: %v", err)
	}
}

// setWith loads a registry with the profiles dev, stage and prod, the alias d = dev, and these directories.
func setWith(t *testing.T, trusted ...string) *Set {
	t.Helper()
	src := []byte("[source security]\naccess_key_id = AKIADEMOPAULFAKE2222\n[alias]\nd = dev\n")
	for _, name := range []string{"dev", "stage", "prod"} {
		src = append(src, "[profile "+name+"]\nsource_profile = security\nrole_arn = arn:aws:iam::111122223333:role/x\n"...)
	}
	for _, dir := range trusted {
		d, err := ReadDirectory(dir)
		if err != nil {
			t.Fatal(err)
		}
		if src, err = SetSection(src, SectionDirectory, dir, d.TrustKeys()); err != nil {
			t.Fatal(err)
		}
	}
	registry := filepath.Join(t.TempDir(), "registry")
	if err := os.WriteFile(registry, src, 0o600); err != nil {
		t.Fatal(err)
	}
	set, err := new(Store).Load(Files{Registry: registry})
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func directoriesOf(t *testing.T, set *Set) *Directories {
	t.Helper()
	chain, err := set.Resolve("prod")
	if err != nil {
		t.Fatal(err)
	}
	return chain.Directories
}

// TestOutside: a session belongs to the deepest trusted directory by its profile or its account.
func TestOutside(t *testing.T) {
	root := filepath.Join(t.TempDir(), "a b\\c [x] \"q\"") // the path survives the registry
	writeDirectory(t, root, "profiles = d, stage\naccounts = 444455556666\n")
	writeDirectory(t, root+"/deep/er", "profiles = prod\n")
	writeDirectory(t, root+"/not/trusted", "profiles = prod\n")
	all := directoriesOf(t, setWith(t, root, root+"/deep/er"))
	not := func(dir string) string { return "it does not belong to " + dir + " (.broker)" }
	for _, c := range []struct{ dir, profile, account, want string }{
		{root, "dev", "111122223333", ""}, // by its alias
		{root, "stage", "111122223333", ""},
		{root, "other", "444455556666", ""},
		{root, "", "444455556666", ""},
		{root, "prod", "111122223333", not(root)},
		{root, "", "", not(root)},
		{root + "/sub/dir", "prod", "111122223333", not(root)},
		{root + "/deep", "prod", "111122223333", not(root)},
		{root + "/deep/er", "prod", "111122223333", ""},
		{root + "/deep/er/x", "dev", "444455556666", not(root + "/deep/er")},
		{root + "/not/trusted", "prod", "111122223333", not(root)},
		{root + "x", "prod", "111122223333", ""},
		{filepath.Dir(root), "prod", "111122223333", ""},
		{"/", "prod", "111122223333", ""},
		{"", "prod", "111122223333", ""},
		{"(unreachable)" + root, "prod", "111122223333", ""},
	} {
		if why := all.Outside(c.dir, c.profile, c.account); why != c.want {
			t.Errorf("%s, %q, %q: %q, want %q", c.dir, c.profile, c.account, why, c.want)
		}
	}
	if n := len(setWith(t, root).TrustedDirectories()); n != 1 {
		t.Errorf("%d directories", n)
	}
}

// TestOutsideOfAnUnlinkedProfile: AWS tools assume the role of an unlinked profile themselves, so they ask for its
// source, which does not belong to the directory. The reason says so.
func TestOutsideOfAnUnlinkedProfile(t *testing.T) {
	dir := t.TempDir()
	writeDirectory(t, dir, "profiles = other, t1\n")
	const role = "role_arn = " + account + "a\nsource_profile = security\n"
	not := "it does not belong to " + dir + " (.broker)"
	unlinked := not + "; t1, which does, is not linked, so AWS tools ask for security: broker profiles link t1"
	for _, c := range []struct{ config, registry, profile, want string }{
		{"[profile t1]\n" + role, "", "security", unlinked},
		{"[profile t1]\n" + role, "", "t1", ""},
		{"[profile t1]\n" + role, "", "prod", not},
		{"[profile t1]\n" + role, "", "", not},
		{"[profile t1]\ncredential_process = /bin/credproc t1\n", "[profile t1]\n" + role, "security", not},
		{"[profile t1]\nrole_arn = " + account + "a\nsource_profile = nosuch\n", "", "security", not},
	} {
		d, err := ReadDirectory(dir)
		if err != nil {
			t.Fatal(err)
		}
		set := load(t, c.config, "", sourceSection+c.registry+"[directory \""+dir+"\"]\nsha256 = "+d.SHA256+"\n")
		if why := set.directories.Outside(dir, c.profile, "111122223333"); why != c.want {
			t.Errorf("%q of %q: %q, want %q", c.profile, c.config, why, c.want)
		}
	}
}

// TestOutsideWhenTheFileChanges: whatever happens to the file, a session leaves without a prompt only if the file is
// as it was trusted, or gone.
func TestOutsideWhenTheFileChanges(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, DirectoryFile)
	const text = "profiles = dev\n"
	writeDirectory(t, dir, text)
	all := directoriesOf(t, setWith(t, dir))
	trust := "; to end that: broker profiles trust " + dir + " --directory"
	for _, c := range []struct {
		name   string
		change func() error
		want   string
	}{
		{"as it was", func() error { return nil }, ""},
		{"same size", func() error { return os.WriteFile(file, []byte("profiles = xxx\n"), 0o600) },
			file + " changed since you trusted it" + trust},
		{"back", func() error { return os.WriteFile(file, []byte(text), 0o600) }, ""},
		{"broken", func() error { return os.WriteFile(file, []byte("x\n"), 0o600) },
			file + `:1: this line is not "key = value"; to end that: vi +1 ` + file},
		{"gone", func() error { return os.Remove(file) }, ""},
		{"a directory", func() error { return os.Mkdir(file, 0o700) },
			file + " is not a file but a directory; to end that: ls -ld " + file},
		{"back again", func() error {
			if err := os.Remove(file); err != nil {
				return err
			}
			return os.WriteFile(file, []byte(text), 0o600)
		}, ""},
		{"writable", func() error { return os.Chmod(file, 0o602) },
			file + " can be written by others (mode 0602); to end that: chmod go-w " + file},
	} {
		if err := c.change(); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if why := all.Outside(dir+"/sub", "dev", "111122223333"); why != c.want {
				t.Errorf("%s: %q, want %q", c.name, why, c.want)
			}
		}
	}
}

// TestDirectoryIsReadOnce: an unchanged file is not read again, once a change would give it another stamp.
func TestDirectoryIsReadOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	writeDirectory(t, dir, "profiles = dev\n")
	all := directoriesOf(t, setWith(t, dir))
	at := all.trusted[dir]
	for at.last.Load() == nil { // until the file is old enough
		if why := all.Outside(dir, "dev", ""); why != "" {
			t.Fatal(why)
		}
		time.Sleep(50 * time.Millisecond)
	}
	at.last.Load().dir.Profiles = []string{"prod"} // what nobody can read in the file
	if why := all.Outside(dir, "prod", ""); why != "" {
		t.Errorf("the file was read again: %s", why)
	}
	writeDirectory(t, dir, "profiles = stage\n")
	if why := all.Outside(dir, "prod", ""); why == "" {
		t.Error("the change was not seen")
	}
}

// TestNoDirectories: without a section [directory PATH], a session costs nothing more.
func TestNoDirectories(t *testing.T) {
	all := directoriesOf(t, setWith(t))
	if all != nil {
		t.Fatalf("%+v", all)
	}
	if n := testing.AllocsPerRun(100, func() { all.Outside("/x", "dev", "") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestRegistryRefusesDirectories: the registry takes only paths that a process can work in.
func TestRegistryRefusesDirectories(t *testing.T) {
	for _, path := range []string{"", "repo", "/repo/", "/a/../b", "/a\x1b", "/" + strings.Repeat("x", maxPath)} {
		if _, err := SetSection(nil, SectionDirectory, path, []KeyValue{{keyTrustSum, "x"}}); !fault.Is(err, fault.Usage) {
			t.Errorf("%.40q can be written: %v", path, err)
		}
		registry := filepath.Join(t.TempDir(), "registry")
		if err := os.WriteFile(registry, []byte("[directory "+path+"]\nsha256 = x\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := new(Store).Load(Files{Registry: registry}); !fault.Is(err, fault.Config) {
			t.Errorf("[directory %.40q]: %v", path, err)
		}
	}
}

// TestDirectoryProfile: the nearest file decides, and only if it is trusted as it is.
func TestDirectoryProfile(t *testing.T) {
	dir := t.TempDir()
	writeDirectory(t, dir, "profiles = d, stage\n")
	writeDirectory(t, dir+"/other", "profiles = prod\n")
	writeDirectory(t, dir+"/unknown", "profiles = nothing\n")
	set := setWith(t, dir, dir+"/unknown")
	for path, want := range map[string]string{
		dir: "dev", dir + "/sub/dir": "dev", filepath.Dir(dir): "",
		dir + "/other":   dir + "/other/.broker takes effect only once you trust it",
		dir + "/unknown": dir + `/unknown/.broker names "nothing", which is neither a profile nor an alias`,
	} {
		got, err := set.DirectoryProfile(path)
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
	writeDirectory(t, dir, "profiles = prod\n")
	if _, err := set.DirectoryProfile(dir); !fault.Is(err, fault.NotConfirmed) ||
		fault.Of(err).Hint.Shown() != "broker profiles trust "+dir+" --directory" {
		t.Errorf("%v", err)
	}
}
