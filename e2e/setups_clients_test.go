//go:build clients

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const plainPaul = "aws_access_key_id = " + keyID + "\naws_secret_access_key = " + keySecret + "\n"

// masterOrg has a user in the master account of an organization that created the member accounts.
const masterOrg = `
[account master]
id = 555566667777
[account dev]
id = 222233334444
[account prod]
id = 444455556666
[user paul]
account           = master
access_key_id     = ` + keyID + `
secret_access_key = ` + keySecret + `
[mfa paul]
account = master
user    = paul
seed    = BROKERDEMOSEEDBROKERDEMOSEEDBROKERDEMOSEEDBROKERDEMOSEEDBROKERDE
[role OrganizationAccountAccessRole]
accounts    = dev, prod
trust       = arn:aws:iam::555566667777:root
require_mfa = true
`

// singleOrg is one account with several roles.
const singleOrg = `
[account only]
id = 111122223333
[user paul]
account           = only
access_key_id     = ` + keyID + `
secret_access_key = ` + keySecret + `
[mfa paul]
account = only
user    = paul
seed    = BROKERDEMOSEEDBROKERDEMOSEEDBROKERDEMOSEEDBROKERDEMOSEEDBROKERDE
[role deploy]
accounts    = only
trust       = arn:aws:iam::111122223333:root
require_mfa = true
[role read-only]
accounts    = only
trust       = arn:aws:iam::111122223333:user/paul
`

// styles are files as people write them, and the identity that AWS must see for each profile afterwards.
var styles = []struct {
	name, org, config, credentials string
	want                           map[string]string
}{
	{name: "roles in each account, from the security account", credentials: "[security]\n" + plainPaul, config: `
[profile dev-admin]
role_arn=arn:aws:iam::222233334444:role/allow-admin-from-security-account
source_profile=security
mfa_serial=` + serial + `
region=eu-central-1
[profile dev-readonly]
role_arn=arn:aws:iam::222233334444:role/allow-read-only-from-security-account
source_profile=security
mfa_serial=` + serial + `
region=eu-central-1
[profile stage-admin]
role_arn=arn:aws:iam::333344445555:role/allow-admin-from-security-account
source_profile=security
mfa_serial=` + serial + `
region=eu-central-1
[profile prod-admin]
# careful
role_arn=arn:aws:iam::444455556666:role/allow-admin-from-security-account
source_profile=security
mfa_serial=` + serial + `
region=eu-central-1
[profile mgmt-readonly]
role_arn=arn:aws:iam::555566667777:role/allow-read-only-from-security-account
source_profile=security
mfa_serial=` + serial + `
region=eu-central-1
`, want: map[string]string{
		"security": "arn:aws:iam::111122223333:user/paul", "dev-admin": "222233334444:assumed-role/allow-admin-from-security-account/",
		"dev-readonly": "222233334444:assumed-role/allow-read-only-from-security-account/", "stage-admin": "333344445555:assumed-role/allow-admin",
		"prod-admin": "444455556666:assumed-role/allow-admin", "mgmt-readonly": "555566667777:assumed-role/allow-read-only",
	}},
	{name: "OrganizationAccountAccessRole, from the master account", org: masterOrg, credentials: "[default]\n" + plainPaul, config: `
[default]
region = us-east-1
output = json
[profile dev]
role_arn = arn:aws:iam::222233334444:role/OrganizationAccountAccessRole
source_profile = default
mfa_serial = arn:aws:iam::555566667777:mfa/paul
[profile prod]
role_arn = arn:aws:iam::444455556666:role/OrganizationAccountAccessRole
source_profile = default
mfa_serial = arn:aws:iam::555566667777:mfa/paul
`, want: map[string]string{
		"default": "arn:aws:iam::555566667777:user/paul", "dev": "222233334444:assumed-role/OrganizationAccountAccessRole/",
		"prod": "444455556666:assumed-role/OrganizationAccountAccessRole/",
	}},
	{name: "several roles in one account", org: singleOrg, credentials: "[default]\n" + plainPaul, config: `
[profile deploy]
role_arn = arn:aws:iam::111122223333:role/deploy
source_profile = default
[profile look]
role_arn = arn:aws:iam::111122223333:role/read-only
source_profile = default
`, want: map[string]string{"deploy": "111122223333:assumed-role/deploy/", "look": "111122223333:assumed-role/read-only/"}},
	{name: "chains two deep, external ids, names of product, environment and user", credentials: "[product_security_paul]\n" + plainPaul, config: `
[profile product_dev_paul]
role_arn = arn:aws:iam::222233334444:role/allow-admin-from-security-account
source_profile = product_security_paul

[profile product_prod_paul]
role_arn = arn:aws:iam::444455556666:role/release
source_profile = product_dev_paul
role_session_name = paul

[profile vendor]
role_arn = arn:aws:iam::333344445555:role/vendor-access
source_profile = product_security_paul
external_id = demo-external-id
s3 =
  max_concurrent_requests = 20
`, want: map[string]string{
		"product_dev_paul": "222233334444:assumed-role/allow-admin-from-security-account/", "product_prod_paul": "444455556666:assumed-role/release/paul",
		"vendor": "333344445555:assumed-role/vendor-access/",
	}},
}

// TestClientsStyles checks that `import` and `link --all` accept typical setups unchanged, and that the AWS CLI
// and boto3 then work with them.
func TestClientsStyles(t *testing.T) {
	tools := installed("aws")
	if len(tools) == 0 {
		missing(t, "the AWS CLI (aws)")
	}
	var pythons []string
	for _, python := range installed("python3") {
		if newHouse(t).run(python, "-c", "import boto3").code == 0 {
			pythons = append(pythons, python)
		}
	}
	if len(pythons) == 0 {
		missing(t, "boto3")
	}
	for _, style := range styles {
		t.Run(style.name, func(t *testing.T) {
			h := newHouse(t)
			var sim []string
			if style.org != "" {
				org := filepath.Join(h.dir, "org.ini")
				must(t, os.WriteFile(org, []byte(style.org), 0o600))
				sim = []string{"--org", org}
			}
			must(t, h.startSim(sim...))
			must(t, h.settings(""))
			h.env = append(h.env, "AWS_EC2_METADATA_DISABLED=true", "AWS_PAGER=", "AWS_ENDPOINT_URL_STS="+h.sim.url, "PYENV_ROOT="+os.Getenv("PYENV_ROOT"))
			credentials := filepath.Join(filepath.Dir(h.awsConfig()), "credentials")
			must(t, h.write(h.awsConfig(), style.config))
			must(t, h.write(credentials, style.credentials))

			h.ok(t, "broker", "import", "--yes")
			h.ok(t, "broker", "profiles", "link", "--all")
			source := strings.Trim(strings.SplitN(style.credentials, "\n", 2)[0], "[]")
			device := serial
			if style.org == masterOrg {
				device = "arn:aws:iam::555566667777:mfa/paul"
			}
			h.ok(t, "broker", "login", source, "--code", h.code(t, device))
			for profile, who := range style.want {
				for _, tool := range tools {
					if h.run(tool, "--version").code != 0 {
						continue
					}
					if out := h.ok(t, tool, "sts", "get-caller-identity", "--output", "text", "--query", "Arn", "--endpoint-url", h.sim.url, "--region", "eu-west-1", "--profile", profile); !strings.Contains(out, who) {
						t.Errorf("%s, %s: %q, want %s", tool, profile, out, who)
					}
				}
				for _, python := range pythons {
					if out := h.ok(t, python, "-c", botoProgram, profile, h.sim.url); !strings.Contains(out, who) {
						t.Errorf("%s, %s: %q, want %s", python, profile, out, who)
					}
				}
			}
			h.counted(t, "GetSessionToken", 1)
			h.toldCodes(t, 1)

			// Then undo everything.
			h.ok(t, "broker", "profiles", "unlink", "--all")
			h.ok(t, "broker", "import", "--undo", "--yes")
			for path, want := range map[string]string{h.awsConfig(): style.config, credentials: style.credentials} {
				text, err := os.ReadFile(path)
				must(t, err)
				if string(text) != want {
					t.Errorf("%s was restored as\n%s\nwant\n%s", path, text, want)
				}
			}
		})
	}
}
