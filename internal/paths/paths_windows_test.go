package paths

import (
	"strings"
	"testing"
)

// TestWindows: all files are below the user's profile, and the same variables override them as on other systems.
func TestWindows(t *testing.T) {
	for _, v := range []string{"AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "BROKER_CONFIG", "BROKER_KEYRING_DIR", "BROKER_STATE_DIR",
		"BROKER_RUNTIME_DIR", "BROKER_SOCKET", "APPDATA", "LOCALAPPDATA"} {
		t.Setenv(v, "")
	}
	t.Setenv("USERPROFILE", `C:\Users\x`)
	t.Setenv("HOME", `C:\elsewhere`)
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	want := Paths{
		Config: `C:\Users\x\.aws\config`, Credentials: `C:\Users\x\.aws\credentials`, AWS: `C:\Users\x\.aws`,
		Registry: `C:\Users\x\AppData\Roaming\broker\config`, Keyring: `C:\Users\x\AppData\Local\broker\keyring`,
		State: `C:\Users\x\AppData\Local\broker`, Runtime: `C:\Users\x\AppData\Local\broker\run`, Socket: `C:\Users\x\AppData\Local\broker\run\broker.sock`,
	}
	if got, err := FromEnv(); err != nil || got != want {
		t.Errorf("got  %+v, %v\nwant %+v", got, err, want)
	}
	t.Setenv("APPDATA", `D:\roam`)
	t.Setenv("BROKER_STATE_DIR", `~\state`)
	t.Setenv("BROKER_SOCKET", `C:\s\b.sock`)
	want.Registry, want.State, want.Runtime, want.Socket = `D:\roam\broker\config`, `C:\Users\x\state`, "", `C:\s\b.sock`
	got, err := FromEnv()
	// a suffix, because the registry is not below the user's profile
	if !strings.HasPrefix(got.Runtime, `C:\Users\x\state\run-`) {
		t.Errorf("runtime: %s", got.Runtime)
	}
	got.Runtime = ""
	if err != nil || got != want {
		t.Errorf("moved: got  %+v, %v\nwant %+v", got, err, want)
	}
}
