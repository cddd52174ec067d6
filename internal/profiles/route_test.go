package profiles

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestRouteSettings checks the settings for the route to AWS and for programs. Invalid values are refused, and the
// error does not contain the password.
func TestRouteSettings(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("USERPROFILE", home)
	read := func(line string) (Settings, error) {
		t.Helper()
		file := filepath.Join(t.TempDir(), "config")
		if err := os.WriteFile(file, []byte("[settings]\n"+line+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		set, err := new(Store).Load(Files{Registry: file, Config: file + ".none", Credentials: file + ".none"})
		if err != nil {
			t.Fatal(err)
		}
		return set.Settings()
	}
	for _, line := range []string{"https_proxy = http://proxy:3128", "https_proxy = https://paul:secret@proxy",
		"https_proxy = http://proxy:3128/", "https_proxy = http://paul:%23%2F@[::1]:3128",
		"https_proxy = socks5://127.0.0.1:1080", "no_proxy = .a,10.0.0.0/8,*",
		"ca_bundle = ~/ca.pem", "gnupg_home = ~/g", "password_store_dir = ~/p", "path = ~/bin"} {
		if _, err := read(line); err != nil {
			t.Errorf("%s: %v", line, err)
		}
	}
	for _, line := range []string{"https_proxy = proxy:3128", "https_proxy = paul:secret@proxy", "https_proxy = http://",
		"https_proxy = ftp://proxy", "https_proxy = http://paul:%secret@proxy",
		"https_proxy = http://paul:secret#x@proxy", "https_proxy = http://secret#x@proxy", "https_proxy = http://proxy#",
		"https_proxy = http://proxy:3128/pac", "https_proxy = http://paul:secret/x@proxy", "https_proxy = http://proxy?secret",
		"ca_bundle = ca.pem", "gnupg_home = g", "password_store_dir = p", "path = bin", "path = .", "path = ~/bin" +
			string(os.PathListSeparator) + string(os.PathListSeparator) + "~/b"} {
		if _, err := read(line); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", line, err)
		}
	}
	s, err := read("path = ~/bin\nca_bundle = ~/ca.pem")
	if err != nil || !slices.Equal(s.Path, []string{filepath.Join(home, "bin")}) ||
		s.CABundle != filepath.Join(home, "ca.pem") {
		t.Errorf("%+v, %v", s, err)
	}
}
