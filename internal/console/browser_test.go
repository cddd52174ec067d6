package console

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

const address = "http://127.0.0.1:1/A"

// programs returns a PATH that has only these programs.
func programs(t *testing.T, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range names {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir)
	t.Setenv("BROWSER", "")
	return dir + "/"
}

func TestBrowserCommands(t *testing.T) {
	dir := programs(t, "firefox")
	for _, test := range []struct {
		words []string
		want  []string
	}{
		{[]string{"firefox"}, []string{dir + "firefox", address}},
		{[]string{dir + "firefox", "-P", "{profile}"}, []string{dir + "firefox", "-P", "product_prod_paul", address}},
		{[]string{"firefox", "--a={account}-{profile}", "{url}", "-x"}, []string{dir + "firefox", "--a=444455556666-product_prod_paul", address, "-x"}},
		{[]string{"firefox", "ext+container:name={profile}&url={url}"}, []string{dir + "firefox", "ext+container:name=product_prod_paul&url=" + address}},
		{[]string{"firefox", "$(touch x)", ";"}, []string{dir + "firefox", "$(touch x)", ";", address}},
	} {
		got, err := Browser{Words: test.words, Profile: "product_prod_paul", Account: "444455556666"}.Command(address)
		if err != nil || !slices.Equal(got, test.want) {
			t.Errorf("%q: %q, %v", test.words, got, err)
		}
	}
	for _, name := range []string{"", "-P", "--no-remote", ".", "../x", "a/b", `a\b`, "a&url=http://example.com", "a\nb", "a?b", "a#b", "a%20b", `a"b`} {
		if got, err := (Browser{Words: []string{"firefox", "--dir=/x/{profile}"}, Profile: name}).Command(address); err == nil {
			t.Errorf("the profile %q: %q", name, got)
		}
		if _, err := (Browser{Words: []string{"firefox"}, Profile: name}).Command(address); err != nil {
			t.Errorf("the profile %q, which is not in the command: %v", name, err)
		}
	}
	if _, err := (Browser{Words: []string{"firefox", "{account}"}, Profile: "a"}).Command(address); err == nil {
		t.Error("accepted a profile without an account")
	}
	if _, err := (Browser{Words: []string{"netscape"}, Profile: "a"}).Command(address); err == nil {
		t.Error("started a program that does not exist")
	}
}

func TestStandardBrowser(t *testing.T) {
	dir := programs(t, "w3m", "xdg-open", "open")
	if _, err := (Browser{Path: t.TempDir()}).Command(address); !errors.Is(err, ErrNoBrowser) {
		t.Errorf("a program that is only in the shell's PATH: %v", err)
	}
	t.Setenv("PATH", t.TempDir())
	got, err := Browser{Path: dir}.Command(address)
	if err != nil || len(got) != 2 || filepath.Dir(got[0])+"/" != dir || got[1] != address {
		t.Errorf("the desktop's opener: %q, %v", got, err)
	}
	if got, err := (Browser{Words: []string{"w3m"}, Path: dir}).Command(address); err != nil || got[0] != dir+"w3m" {
		t.Errorf("a name in the settings: %q, %v", got, err)
	}
}

// TestBrowserOfTheShell: BROWSER leads to a program of the system or of the user, never into the working
// directory.
func TestBrowserOfTheShell(t *testing.T) {
	evil := programs(t, "evil", "w3m", "open-to-all") // the PATH of the shell, which a repository may have set too
	t.Chdir(evil)
	dir := programs(t, "w3m")
	t.Setenv("PATH", evil+":.:"+dir)
	if err := os.Chmod(evil+"open-to-all", 0o777); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		variable string
		want     []string // of Command; nil for none
		warnings []string // parts of the warnings
	}{
		{"w3m", []string{dir + "w3m", address}, nil},
		{"netscape::w3m -v", []string{dir + "w3m", "-v", address}, nil},
		{"netscape %s:w3m -u=%s", []string{dir + "w3m", "-u=" + address}, nil},
		{evil + "w3m", []string{evil + "w3m", address}, nil},
		{"./evil", nil, []string{`"./evil" is not an absolute path`}},
		{"../x/../evil", nil, []string{"is not an absolute path"}},
		{"evil", nil, []string{"is not used: there is no such program in Broker's PATH; "}},
		{"./evil:evil:w3m", []string{dir + "w3m", address}, []string{`"./evil"`}},
		{evil + "open-to-all", nil, []string{"can be written by others"}},
		{evil + "no-such-program:netscape", nil, []string{"no-such-program", "netscape"}},
		{".", nil, []string{"in Broker's PATH"}},
		{"", nil, nil},
	} {
		words, warnings := FromShell(test.variable, dir)
		var got []string
		if words != nil {
			var err error
			if got, err = (Browser{Words: words, Path: dir}).Command(address); err != nil {
				t.Errorf("%q: %v", test.variable, err)
			}
		}
		if !slices.Equal(got, test.want) || len(warnings) != len(test.warnings) {
			t.Errorf("%q: %q, warnings %q", test.variable, got, warnings)
			continue
		}
		for i, part := range test.warnings {
			if !strings.Contains(warnings[i], part) || !strings.HasSuffix(warnings[i], "; broker config set browser COMMAND") {
				t.Errorf("%q: %q, want %s in it", test.variable, warnings[i], part)
			}
		}
	}
}

// TestShellBrowserLeavesTheRepository: a program of the system that BROWSER names runs nothing of the working
// directory, whatever its arguments say.
func TestShellBrowserLeavesTheRepository(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("SKIPPED: needs sh")
	}
	repo, bin := t.TempDir(), t.TempDir()
	t.Chdir(repo)
	t.Setenv("PWD", repo)
	t.Setenv("OLDPWD", repo)
	must := func(t *testing.T, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	stolen := filepath.Join(t.TempDir(), "stolen")
	for name, text := range map[string]string{
		"evil": "touch " + stolen, "env": "touch " + stolen, "Makefile": "all:\n\ttouch " + stolen,
	} {
		must(t, os.WriteFile(name, []byte(text+"\n"), 0o755))
	}
	for _, name := range []string{"sh", "env", "make", "git"} {
		if program, err := exec.LookPath(name); err == nil {
			must(t, os.Symlink(program, filepath.Join(bin, name)))
		} else {
			t.Logf("SKIPPED, NOT PROVEN: %s is not installed", name)
		}
	}
	must(t, os.Mkdir(".git", 0o700))
	must(t, os.WriteFile(".git/config", []byte("[alias]\n\tx = !touch "+stolen+"\n"), 0o600))
	for _, variable := range []string{"sh evil", "sh ./evil", "sh -c ./evil", "sh -c $PWD/evil", "sh -c $OLDPWD/evil",
		"env ./evil", "make", "make all", "git x"} {
		words, _ := FromShell(variable, bin)
		command, err := Browser{Words: words, Path: bin}.Command(address)
		must(t, err)
		ended, err := Start(command, os.Environ(), ShellDir)
		must(t, err)
		<-ended
		if _, err := os.Stat(stolen); err == nil {
			t.Errorf("BROWSER=%q ran a program of the repository", variable)
			must(t, os.Remove(stolen))
		}
	}
}

func TestStart(t *testing.T) {
	for command, fails := range map[string]bool{"exit 0": false, "exit 3": true, "kill -9 $$": true} {
		ended, err := Start([]string{"/bin/sh", "-c", command}, nil, "")
		if err != nil {
			t.Fatal(err)
		}
		if err := <-ended; (err != nil) != fails {
			t.Errorf("%s: %v", command, err)
		}
	}
	if _, err := Start([]string{"/nothing/of/that/name"}, nil, ""); err == nil {
		t.Error("started a program that does not exist")
	}
}
