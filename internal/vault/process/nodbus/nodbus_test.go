package nodbus

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestVisible(t *testing.T) {
	dir := t.TempDir()
	listener, err := net.Listen("unix", filepath.Join(dir, "bus"))
	if err != nil {
		t.Skipf("the path of the temporary directory is too long for a socket: %v", err)
	}
	defer func() { _ = listener.Close() }()
	plain := t.TempDir()
	if err := os.WriteFile(filepath.Join(plain, "bus"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		address, runtime string
		vault            bool
		want             string
	}{
		{"unix:path=/run/user/1/bus", dir, false, Disabled},
		{"", dir, false, Disabled},
		{"unix:path=/run/user/1/bus", "", true, "unix:path=/run/user/1/bus"},
		{Disabled, dir, true, Disabled},
		{"", dir, true, "unix:path=" + dir + "/bus"},
		{"autolaunch:", dir, true, "unix:path=" + dir + "/bus"},
		{"autolaunch:scope=x", "", true, Disabled},
		{"autolaunch:", "", true, Disabled},
		{"", "", true, Disabled},
		{"", plain, true, Disabled},
		{"", "relative", true, Disabled},
		{"", dir + ",x=y", true, Disabled},
		{"", "/nowhere", true, Disabled},
	} {
		t.Setenv("XDG_RUNTIME_DIR", tc.runtime)
		if got := visible(tc.address, tc.vault); got != tc.want {
			t.Errorf("visible(%q, %t) with XDG_RUNTIME_DIR=%q = %q, want %q", tc.address, tc.vault, tc.runtime, got, tc.want)
		}
	}
}

// TestPath: the order of initialization depends on this package's import path and on its imports.
func TestPath(t *testing.T) {
	source, err := os.ReadFile("nodbus.go")
	if err != nil {
		t.Fatal(err)
	}
	_, imports, _ := strings.Cut(string(source), "import (")
	imports, _, _ = strings.Cut(imports, ")")
	for _, name := range strings.Fields(imports) {
		if strings.Contains(name, ".") || strings.HasPrefix(name, `"broker/`) {
			t.Errorf("imports %s; only the standard library may be initialized before it", name)
		}
	}
}
