package console

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

const address = "http://127.0.0.1:1/A"

// programs is a PATH with these programs and nothing else.
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
		got, err := Browser{test.words, "product_prod_paul", "444455556666"}.Command(address)
		if err != nil || !slices.Equal(got, test.want) {
			t.Errorf("%q: %q, %v", test.words, got, err)
		}
	}
	for _, name := range []string{"", "-P", "--no-remote", ".", "../x", "a/b", `a\b`, "a&url=http://example.com", "a\nb", "a?b", "a#b", "a%20b", `a"b`} {
		if got, err := (Browser{[]string{"firefox", "--dir=/x/{profile}"}, name, ""}).Command(address); err == nil {
			t.Errorf("the profile %q: %q", name, got)
		}
		if _, err := (Browser{[]string{"firefox"}, name, ""}).Command(address); err != nil {
			t.Errorf("the profile %q, which is not in the command: %v", name, err)
		}
	}
	if _, err := (Browser{[]string{"firefox", "{account}"}, "a", ""}).Command(address); err == nil {
		t.Error("there is no account")
	}
	if _, err := (Browser{[]string{"netscape"}, "a", ""}).Command(address); err == nil {
		t.Error("there is no such program")
	}
}

func TestStandardBrowser(t *testing.T) {
	programs(t)
	if _, err := (Browser{}).Command(address); !errors.Is(err, ErrNoBrowser) {
		t.Errorf("without any: %v", err)
	}
	dir := programs(t, "w3m", "xdg-open", "open")
	got, err := Browser{}.Command(address)
	if err != nil || len(got) != 2 || filepath.Dir(got[0])+"/" != dir || got[1] != address {
		t.Errorf("what the desktop has: %q, %v", got, err)
	}
	for list, want := range map[string][]string{
		"w3m":                   {dir + "w3m", address},
		"netscape::w3m -v":      {dir + "w3m", "-v", address},
		"netscape %s:w3m -u=%s": {dir + "w3m", "-u=" + address},
	} {
		t.Setenv("BROWSER", list)
		if got, err := (Browser{}).Command(address); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %q, %v", list, got, err)
		}
	}
}

func TestStart(t *testing.T) {
	for command, fails := range map[string]bool{"exit 0": false, "exit 3": true, "kill -9 $$": true} {
		ended, err := Start([]string{"/bin/sh", "-c", command}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := <-ended; (err != nil) != fails {
			t.Errorf("%s: %v", command, err)
		}
	}
	if _, err := Start([]string{"/nothing/of/that/name"}, nil); err == nil {
		t.Error("there is no such program")
	}
}
