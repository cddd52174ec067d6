package service

import (
	"encoding/xml"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// odd are words that may be special in a file format.
var odd = []string{"plain", "with space", "per%cent %h %%", "$HOME ${HOME}", "<a> & b", "ümläut €", "semi;colon # hash", "]]>", "--"}

func TestSystemd(t *testing.T) {
	for _, word := range odd {
		d := Daemon{Program: "/opt/" + word + "/broker", Socket: "/run/user/7/" + word + "/s", Env: []string{"A=" + word + ` "q" 'a' \b`}}
		dir := t.TempDir()
		files, err := Systemd(dir, d, "")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Write(files); err != nil {
			t.Fatal(err)
		}
		if got := SystemdProgram(dir); got != d.Program {
			t.Errorf("the program is %q, want %q", got, d.Program)
		}
		if want := "\nListenStream=" + strings.ReplaceAll(d.Socket, "%", "%%") + "\n"; !strings.Contains(files[1].Text, want) {
			t.Errorf("%q is missing in %s", want, files[1].Text)
		}
		below, err := Systemd(dir, d, "/run/user/7/")
		if err != nil || !strings.Contains(below[1].Text, "\nListenStream=%t/"+strings.ReplaceAll(word, "%", "%%")+"/s\n") {
			t.Errorf("%v: %s", err, below[1].Text)
		}
	}
	for _, r := range []string{"", "/run/user/70", "run"} {
		files, err := Systemd("/x", Daemon{Program: "/b", Socket: "/run/user/7/broker/s"}, r)
		if err != nil || !strings.Contains(files[1].Text, "\nListenStream=/run/user/7/broker/s\n") {
			t.Errorf("with the runtime directory %q: %v: %s", r, err, files[1].Text)
		}
	}
}

// TestPackagedUnits: the units of a package are those that `broker service install` writes, but for their first line,
// which would let it change them, and the socket, which is that of each user.
func TestPackagedUnits(t *testing.T) {
	d := Daemon{Program: "/usr/bin/brokerd", Socket: "/run/user/7/broker/broker.sock"}
	own, err := Systemd("/d", d, "/run/user/7")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	packaged, err := Packaged(dir, d.Program)
	if err != nil || len(packaged) != len(own) {
		t.Fatal(packaged, err)
	}
	for i := range own {
		_, want, _ := strings.Cut(own[i].Text, "\n")
		if _, got, _ := strings.Cut(packaged[i].Text, "\n"); got != want {
			t.Errorf("%s is\n%s\nwant\n%s", packaged[i].Path, got, want)
		}
		if err := os.WriteFile(packaged[i].Path, []byte(packaged[i].Text), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := Ours(packaged[i].Path); !errors.Is(err, ErrForeign) {
			t.Errorf("%s could be changed: %v", packaged[i].Path, err)
		}
	}
	for _, program := range []string{"brokerd", "/b\n", `/b"`} {
		if _, err := Packaged(dir, program); err == nil {
			t.Errorf("a package can start %q", program)
		}
	}
}

// TestEnabledPackage: the units of a package are found by the link that enables them, for this user or for all.
func TestEnabledPackage(t *testing.T) {
	dir, user, allUsers := t.TempDir(), t.TempDir(), t.TempDir()
	files, err := Packaged(dir, "/usr/bin/brokerd")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(files[0].Path, []byte(files[0].Text), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := enabledPackage(user, allUsers); got != "" {
		t.Errorf("enabled without a link: %s", got)
	}
	for _, at := range []string{user, allUsers} {
		link := filepath.Join(at, "sockets.target.wants", SocketUnit)
		if err := os.Mkdir(filepath.Dir(link), 0o755); err != nil {
			t.Fatal(err)
		}
		for target, want := range map[string]string{
			filepath.Join(dir, SocketUnit):         dir,
			filepath.Join(user, SocketUnit):        "", // the user's own
			filepath.Join(t.TempDir(), SocketUnit): "", // the package has gone
			"../" + SocketUnit:                     "",
		} {
			if err := os.Symlink(target, link); err != nil {
				t.Fatal(err)
			}
			if got := enabledPackage(user, allUsers); got != want {
				t.Errorf("the link in %s to %s: got %q, want %q", at, target, got, want)
			}
			if err := os.Remove(link); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestRefused(t *testing.T) {
	good := Daemon{Program: "/b", Socket: "/s"}
	tests := map[string]func(*Daemon){
		"a relative program":   func(d *Daemon) { d.Program = "b" },
		"a relative socket":    func(d *Daemon) { d.Socket = "s" },
		"a newline":            func(d *Daemon) { d.Program = "/b\nExecStartPre=/bin/evil" },
		"a newline in a value": func(d *Daemon) { d.Env = []string{"A=b\nExecStartPre=/bin/evil"} },
		"a NUL":                func(d *Daemon) { d.Socket = "/s\x00" },
		"no UTF-8":             func(d *Daemon) { d.Program = "/b\xff" },
		"a quote":              func(d *Daemon) { d.Program = `/b"` },
		"a backslash":          func(d *Daemon) { d.Program = `/b\` },
		"a long socket":        func(d *Daemon) { d.Socket = "/" + strings.Repeat("s", maxSocket) },
		"a space at the end":   func(d *Daemon) { d.Socket = "/s " },
		"a continued line":     func(d *Daemon) { d.Socket = `/s\` },
	}
	for name, change := range tests {
		d := good
		change(&d)
		if _, err := Systemd("/x", d, ""); err == nil {
			t.Errorf("systemd accepted %s", name)
		}
	}
	if _, err := Launchd("/x", Daemon{Program: "/b\n", Socket: "/s"}); err == nil {
		t.Error("launchd accepted a newline")
	}
	if _, err := Systemd("/x", good, ""); err != nil {
		t.Error(err)
	}
}

// TestLaunchd: the agent is well formed, and every word can be read back.
func TestLaunchd(t *testing.T) {
	for _, word := range append(odd, `"q" 'a' \b`) {
		home := filepath.Join(t.TempDir(), "h")
		d := Daemon{Program: "/opt/" + word + "/broker", Socket: "/s", Env: []string{"A=" + word, "B=x=y"}, Log: "/log/" + word}
		files, err := Launchd(home, d)
		if err != nil {
			t.Fatal(err)
		}
		if changed, err := Write(files); !changed || err != nil {
			t.Fatal(changed, err)
		}
		if got := LaunchdProgram(home); got != d.Program {
			t.Errorf("the program is %q, want %q", got, d.Program)
		}
		text := files[0].Text
		for key, want := range map[string]string{
			"Label": Label, "ProgramArguments": d.Program, "A": word, "B": "x=y", "StandardErrorPath": d.Log, "C": "",
			"EnvironmentVariables": "", // has no string of its own
		} {
			if got := stringAfter(text, key); got != want {
				t.Errorf("%s is %q, want %q", key, got, want)
			}
		}
		// Keys and values alternate in every dictionary.
		type element struct {
			XMLName  xml.Name
			Children []element `xml:",any"`
		}
		var list element
		if err := xml.Unmarshal([]byte(text), &list); err != nil {
			t.Fatal(err)
		}
		var look func(e element)
		look = func(e element) {
			for i, c := range e.Children {
				if e.XMLName.Local == "dict" && (i%2 == 0) != (c.XMLName.Local == "key") {
					t.Errorf("element %d of a dict is %s", i, c.XMLName.Local)
				}
				look(c)
			}
		}
		look(list)
	}
}

func TestWriteAndRemove(t *testing.T) {
	dir := t.TempDir()
	files, err := Systemd(filepath.Join(dir, "a/b"), Daemon{Program: "/b", Socket: "/s"}, "")
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []bool{true, false} {
		if changed, err := Write(files); changed != want || err != nil {
			t.Errorf("write %d: %v, %v", i, changed, err)
		}
	}
	if removed, err := Remove(files); len(removed) != 2 || err != nil {
		t.Errorf("removed %v, %v", removed, err)
	}
	if removed, err := Remove(files); len(removed) != 0 || err != nil {
		t.Errorf("removed %v, %v", removed, err)
	}

	// If one file is somebody else's, neither is touched.
	foreign := map[string]func(path string) error{
		"a unit": func(p string) error { return os.WriteFile(p, []byte("[Socket]\n"), 0o644) },
		"a late word": func(p string) error {
			return os.WriteFile(p, []byte(strings.Repeat("#\n", 10)+"# "+marker+"\n"), 0o644)
		},
		"a link":      func(p string) error { return os.Symlink(files[0].Path, p) },
		"a directory": func(p string) error { return os.Mkdir(p, 0o755) },
	}
	for name, plant := range foreign {
		if _, err := Write(files); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.Remove(files[1].Path), plant(files[1].Path)); err != nil {
			t.Fatal(err)
		}
		other := slices.Clone(files)
		other[0].Text += "# another\n"
		if changed, err := Write(other); changed || !errors.Is(err, ErrForeign) {
			t.Errorf("%s: write: %v, %v", name, changed, err)
		}
		if removed, err := Remove(files); len(removed) != 0 || !errors.Is(err, ErrForeign) {
			t.Errorf("%s: remove: %v, %v", name, removed, err)
		}
		if text, err := os.ReadFile(files[0].Path); err != nil || string(text) != files[0].Text {
			t.Errorf("%s: the other file was touched: %v", name, err)
		}
		if err := os.RemoveAll(files[1].Path); err != nil {
			t.Fatal(err)
		}
	}
}

// TestStablePath: a name that survives an upgrade is better than the file itself.
func TestStablePath(t *testing.T) {
	dir := t.TempDir()
	write := func(name string) string {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, nil, 0o755)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	real, other := write("cellar/1.2/bin/broker"), write("old/broker")
	link := filepath.Join(dir, "bin-broker")
	if err := os.Symlink(real, link); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		candidates []string
		want       string
	}{
		{nil, real},
		{[]string{link}, link},
		{[]string{other, link}, link},
		{[]string{other, "", "relative", "/no/such"}, real},
	}
	for _, tt := range tests {
		if got, err := StablePath(real, tt.candidates...); got != tt.want || err != nil {
			t.Errorf("%q: %q, %v; want %q", tt.candidates, got, err, tt.want)
		}
	}
	for _, gone := range []string{real + " (deleted)", filepath.Join(dir, "gone")} {
		if got, err := StablePath(gone, link); err == nil {
			t.Errorf("%s: %q", gone, got)
		}
	}
}
