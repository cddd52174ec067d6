package accounts

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"broker/internal/fault"
)

func TestCheckCatalog(t *testing.T) {
	for _, place := range []string{"git@github.com:team/accounts.git", "https://example.com/team/accounts", "ssh://git@example.com:22/x", "file:///srv/x", "/srv/accounts.ini"} {
		if err := checkCatalog(place); err != nil {
			t.Errorf("%s: %v", place, err)
		}
	}
	for _, place := range []string{"", "-x", "--upload-pack=touch /tmp/x", "ext::sh -c id", "http://example.com/x", "git://example.com/x", "accounts.ini", "../x", "https://user:secret@example.com/x",
		"ssh://-oProxyCommand=x/y", "git@-oProxyCommand=x:y", "ssh://git@-oProxyCommand=x/y", "https://a b", "git@host:a\nb", "javascript:x", "s3::x", "C:x"} {
		if err := checkCatalog(place); err == nil {
			t.Errorf("%q was accepted", place)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", place, err)
		}
	}
}

// repository creates a git repository with these files. Its work tree and hooks would show if any of it ran.
func repository(t *testing.T, files map[string]string) string {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("git is not installed")
	}
	t.Setenv("HOME", t.TempDir())
	dir := t.TempDir()
	git := func(args ...string) {
		t.Helper()
		cmd := exec.Command("git", append([]string{"-C", dir, "-c", "user.name=x", "-c", "user.email=x@example.com"}, args...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
	git("init", "--quiet")
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		git("add", name)
	}
	git("commit", "--quiet", "-m", "accounts")
	return dir
}

func TestFetch(t *testing.T) {
	const text = "[dev]\nid = 222233334444\nroles = admin\n"
	repo := repository(t, map[string]string{"accounts.ini": text, "team/other.ini": "[x]\n", ".gitattributes": "*.ini filter=evil text eol=lf diff=evil\n", "big.ini": strings.Repeat("# x\n", maxSize)})
	state := filepath.Join(t.TempDir(), "state")
	for _, place := range []string{repo, "file://" + repo} {
		name, src, err := Fetch(t.Context(), state, place, "")
		if err != nil || string(src) != text || name != "accounts.ini" {
			t.Errorf("%s: %q, %q, %v", place, name, src, err)
		}
	}
	if name, src, err := Fetch(t.Context(), state, repo, "team/other.ini"); err != nil || string(src) != "[x]\n" || name != "other.ini" {
		t.Errorf("%q, %q, %v", name, src, err)
	}
	if left, err := os.ReadDir(state); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if _, src, err := Fetch(t.Context(), state, filepath.Join(repo, "accounts.ini"), ""); err != nil || string(src) != text {
		t.Errorf("a path of a file: %q, %v", src, err)
	}
	for _, tt := range []struct {
		place, path string
		kind        fault.Kind
		want        string
	}{
		{repo, "../x", fault.Config, "is not the path"},
		{repo, "/etc/passwd", fault.Config, "is not the path"},
		{repo, "-x", fault.Config, "is not the path"},
		{repo, "a:b", fault.Config, "is not the path"},
		{repo, "none.ini", fault.Failed, "cat-file ended with exit code 128: "},
		{repo, "team", fault.Failed, "cat-file"},
		{repo, "big.ini", fault.Config, "more than"},
		{repo + "/none", "", fault.Failed, "no such file"},
		{"file://" + repo + "/none", "", fault.Failed, "git fetch ended with exit code 128: "},
		{"ext::sh -c id", "", fault.Config, "does not use https, ssh or file"},
		{"/dev/null", "", fault.Failed, "is not a regular file"},
	} {
		_, _, err := Fetch(t.Context(), state, tt.place, tt.path)
		if f := fault.Of(err); f == nil || f.Kind != tt.kind || !strings.Contains(f.Message, tt.want) {
			t.Errorf("%s %s: %v", tt.place, tt.path, err)
		}
	}
	// A transport that runs a program stays disabled, even if the user's own configuration allows it.
	touched := filepath.Join(t.TempDir(), "touched")
	config := "[protocol \"ext\"]\n\tallow = always\n[url \"ext::touch " + touched + " \"]\n\tinsteadOf = https://example.com/\n"
	if err := os.WriteFile(filepath.Join(os.Getenv("HOME"), ".gitconfig"), []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Fetch(t.Context(), state, "https://example.com/x", ""); err == nil || !strings.Contains(err.Error(), "transport 'ext' not allowed") {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(touched); err == nil {
		t.Error("a program was run")
	}
}
