//go:build clients

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// awsVaultItem is a key in the format that aws-vault writes.
const awsVaultItem = `{"AccessKeyID":"` + keyID + `","SecretAccessKey":"` + keySecret + `",` +
	`"SessionToken":"","Source":"","CanExpire":false,"Expires":"0001-01-01T00:00:00Z"}`

// TestClientsImportFromSecretService checks that a key that aws-vault stores in a real gnome-keyring moves into
// Broker's items, in the same keyring. (Creating another collection needs a window; package vault tests that.)
func TestClientsImportFromSecretService(t *testing.T) {
	for _, name := range []string{"dbus-run-session", "gnome-keyring-daemon"} {
		if len(installed(name)) == 0 {
			missing(t, name)
		}
	}
	h := newHouse(t)
	must(t, h.startSim())
	must(t, h.write(h.registry(), "[settings]\nkeyring_backend = secret-service\nsts_endpoint = "+h.sim.url+"\n"))
	must(t, h.write(h.awsConfig(), "[profile prod]\nrole_arn = "+prodRole+"\ninclude_profile = common\n[profile common]\nsource_profile = work\n"))
	runtime := filepath.Join(h.dir, "xdg")
	must(t, os.Mkdir(runtime, 0o700))
	h.env = append(h.env, "XDG_RUNTIME_DIR="+runtime, "AWS_VAULT_SECRET_SERVICE_COLLECTION_NAME=login", "E2E_ITEM="+awsVaultItem)
	self, err := os.Executable()
	must(t, err)
	script := filepath.Join(h.dir, "script.sh")
	must(t, os.WriteFile(script, []byte(`set -e
printf 'login-password' | gnome-keyring-daemon --unlock --components=secrets >/dev/null 2>&1
E2E_ROLE=aws-vault `+self+`
broker import --from aws-vault --dry-run
broker import --from aws-vault --yes
echo `+seed+` | broker mfa set work --seed-stdin
credproc prod
broker status --json | sed -n 's/.*"pid": \([0-9]*\).*/\1/p' | xargs kill; sleep 0.3
`), 0o700))
	r := finish(h.command("dbus-run-session", "--", "sh", script))
	if r.code != 0 {
		t.Fatal(r)
	}
	must(t, examine(r))
	for _, want := range []string{"would copy the key work out of the collection login of the Secret Service", "stored the key …2222 as work in secret-service"} {
		if !strings.Contains(r.stdout, want) {
			t.Errorf("no %q in %v", want, r)
		}
	}
	lines := strings.Split(strings.TrimSpace(r.stdout), "\n")
	if _, err := parseDocument(lines[len(lines)-1]); err != nil {
		t.Errorf("%v: %v", err, r)
	}
}
