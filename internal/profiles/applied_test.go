package profiles

import (
	"os"
	"path/filepath"
	"testing"
)

// TestRoute checks that each setting overrides the unit's variable of the same meaning.
func TestRoute(t *testing.T) {
	unit := map[string]string{"HTTPS_PROXY": "http://unit:1", "NO_PROXY": "unit", "AWS_CA_BUNDLE": "/unit.pem"}
	env := func(name string) string { return unit[name] }
	if got, want := (Settings{}).Route(env), (Route{"http://unit:1", "unit", "/unit.pem"}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	settings := Settings{HTTPSProxy: "http://settings:1", CABundle: "/settings.pem"}
	if got, want := settings.Route(env), (Route{"http://settings:1", "unit", "/settings.pem"}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// TestLatest checks that a broken registry leaves the last settings in effect.
func TestLatest(t *testing.T) {
	registry := filepath.Join(t.TempDir(), "config")
	latest := new(Store).Latest(registry)
	for _, test := range []struct{ text, want string }{
		{"", ""},
		{"[settings]\nhttps_proxy = http://a.example.com:1\n", "http://a.example.com:1"},
		{"[settings\nhttps_proxy = http://b.example.com:1\n", "http://a.example.com:1"},
		{"[settings]\nhttps_proxy = http://c.example.com:1\n", "http://c.example.com:1"},
	} {
		if err := os.WriteFile(registry, []byte(test.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := latest().HTTPSProxy; got != test.want {
			t.Errorf("%q: %q, want %q", test.text, got, test.want)
		}
	}
}

// TestOriginal checks that only files that the daemon made for a command are mapped back to the user's files.
func TestOriginal(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	made := filepath.Join(dir, "exec-1")
	if err := os.MkdirAll(made, 0o700); err != nil {
		t.Fatal(err)
	}
	owner := filepath.Join(made, OwnerFile)
	inCommand := Files{Config: filepath.Join(made, ConfigFile), Credentials: filepath.Join(made, CredentialsFile)}
	for text, want := range map[string]Files{
		`{"version":1,"pid":1,"aws_config_file":"/c","aws_shared_credentials_file":"/k"}`: {Config: "/c", Credentials: "/k"},
		`{"aws_shared_credentials_file":"/k"}`:                                            {Config: inCommand.Config, Credentials: "/k"},
		`{`:                                                                               inCommand,
		``:                                                                                inCommand,
	} {
		if err := os.WriteFile(owner, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := Original(dir, inCommand); got != want {
			t.Errorf("%s: %+v, want %+v", text, got, want)
		}
	}
	whole := `{"aws_config_file":"/c","aws_shared_credentials_file":"/k"}`
	if err := os.WriteFile(owner, []byte(whole), 0o600); err != nil {
		t.Fatal(err)
	}
	other := Files{Config: filepath.Join(made, "other"), Credentials: filepath.Join(made, "sub", CredentialsFile)}
	if got := Original(dir, other); got != other {
		t.Errorf("other names: %+v", got)
	}
	if got := Original(filepath.Join(dir, "exec-1"), inCommand); got != inCommand {
		t.Errorf("another directory: %+v", got)
	}
	if err := os.Chmod(owner, 0o666); err != nil {
		t.Fatal(err)
	}
	if got := Original(dir, inCommand); got != inCommand {
		t.Errorf("an owner file that others can change: %+v", got)
	}
}
