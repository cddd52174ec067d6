package cli

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"broker/internal/paths"
)

// TestRouteNeedsNoAWSFile checks that an unreadable AWS file hides no setting, and that route does not wait for
// one.
func TestRouteNeedsNoAWSFile(t *testing.T) {
	dir := t.TempDir()
	p := &program{paths: paths.Paths{
		Registry: filepath.Join(dir, "registry"), Config: filepath.Join(dir, "config"),
		Credentials: filepath.Join(dir, "credentials"),
	}}
	const proxy = "http://proxy.example.com:3128"
	err := errors.Join(os.Mkdir(p.paths.Config, 0o700), os.Mkdir(p.paths.Credentials, 0o700),
		os.WriteFile(p.paths.Registry, []byte("[settings]\nhttps_proxy = "+proxy+"\n"), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	if got := p.route().HTTPSProxy; got != proxy {
		t.Errorf("the proxy is %q, want %q", got, proxy)
	}
}
