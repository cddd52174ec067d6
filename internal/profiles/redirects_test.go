package profiles

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// TestRedirects checks that a registry's endpoints, programs and certificates are listed with their lines, and
// that roles are not.
func TestRedirects(t *testing.T) {
	path := filepath.Join(t.TempDir(), "registry")
	if err := os.WriteFile(path, []byte(`[settings]
lock_after = 1h
https_proxy = http://proxy.example.com
[source security]
access_key_id = AKIAIOSFODNN7EXAMPLE
mfa_process = /bin/code
[profile dev]
role_arn = arn:aws:iam::444455556666:role/dev
source_profile = security
endpoint_url = https://sts.example.com
ca_bundle = /ca.pem
`), 0o600); err != nil {
		t.Fatal(err)
	}
	set, err := new(Store).Load(Files{Registry: path})
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("[%[1]s:3: https_proxy = http://proxy.example.com %[1]s:6: source security: mfa_process = /bin/code "+
		"%[1]s:10: profile dev: endpoint_url = https://sts.example.com %[1]s:11: profile dev: ca_bundle = /ca.pem]", path)
	if got := fmt.Sprint(set.Redirects()); got != want {
		t.Errorf("got\n%s, want\n%s", got, want)
	}
}
