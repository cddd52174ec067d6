//go:build unix

package profiles

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"broker/internal/fault"
)

// sourceSection is the registry's section of the source that most tests end in.
const sourceSection = `[source security]
access_key_id = AKIAIOSFODNN7EXAMPLE
mfa_serial = arn:aws:iam::111122223333:mfa/paul
region = eu-west-1
`

const account = "arn:aws:iam::444455556666:role/"

// load makes a Set without waiting for the files to settle.
func load(t testing.TB, config, credentials, registry string) *Set {
	t.Helper()
	set, err := loadErr(config, credentials, registry)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func loadErr(texts ...string) (*Set, error) {
	var states [3]state
	for i, path := range []string{"/config", "/credentials", "/registry"} {
		table, err := newTable(path, []byte(texts[i]), fileKind(i),
			&provenance{place: [...]Place{InDefault, InDefault, InRegistry}[i]})
		if err != nil {
			return nil, err
		}
		states[i] = state{path: path, settled: true, table: table}
	}
	return newSet(Files{Config: "/config", Credentials: "/credentials", Registry: "/registry"}, states), nil
}

func TestResolve(t *testing.T) {
	security := Source{Name: "security", AccessKeyID: "AKIAIOSFODNN7EXAMPLE", MFASerial: "arn:aws:iam::111122223333:mfa/paul",
		Endpoint: Endpoint{Region: "eu-west-1"}, Origin: Origin{"/registry", 1}}
	for _, tt := range []struct {
		what                          string
		config, credentials, registry string
		name                          string
		want                          Chain // Values are compared only if there are any
		claims                        int   // number of settings that take effect only once they are trusted
	}{
		{what: "a source by its own name",
			registry: sourceSection, name: "security",
			want: Chain{Profile: "security", Region: "eu-west-1", Source: security}},
		{what: "a source with a profile's region",
			config: "[profile security]\nregion = eu-north-1\n", registry: sourceSection, name: "security",
			want: Chain{Profile: "security", Region: "eu-north-1", Source: security}},
		{what: "a source, although the plain key is still there",
			credentials: "[security]\naws_access_key_id = AKIAIOSFODNN7EXAMPLE\naws_secret_access_key = x\n", registry: sourceSection, name: "security",
			want: Chain{Profile: "security", Region: "eu-west-1", Source: security}},
		{what: "a role of the AWS config, before anything is linked",
			config: "[profile dev]\nrole_arn = " + account + "dev\nsource_profile = security\nexternal_id = x-1\nrole_session_name = paul\n" +
				"duration_seconds = 7200\nmfa_serial = GAHT12345678\nregion = eu-central-1\nsts_regional_endpoints = Legacy\nuse_fips_endpoint = true\nca_bundle = /ca.pem\n",
			registry: sourceSection, name: "dev",
			want: Chain{Profile: "dev", Region: "eu-central-1", Source: security, Roles: []Role{{Profile: "dev", ARN: account + "dev", ExternalID: "x-1",
				SessionName: "paul", Duration: 2 * time.Hour, MFASerial: "GAHT12345678",
				Endpoint: Endpoint{Region: "eu-central-1", Legacy: true, FIPS: true, CABundle: "/ca.pem"}, Origin: Origin{"/config", 2}}},
				Values: []Value{
					{"dev", "region", "eu-central-1", Origin{"/config", 8}},
					{"dev", "role_arn", account + "dev", Origin{"/config", 2}},
					{"dev", "external_id", "x-1", Origin{"/config", 4}},
					{"dev", "role_session_name", "paul", Origin{"/config", 5}},
					{"dev", "duration_seconds", "7200", Origin{"/config", 6}},
					{"dev", "mfa_serial", "GAHT12345678", Origin{"/config", 7}},
					{"dev", "sts_regional_endpoints", "Legacy", Origin{"/config", 9}},
					{"dev", "use_fips_endpoint", "true", Origin{"/config", 10}},
					{"dev", "ca_bundle", "/ca.pem", Origin{"/config", 11}},
					{"dev", "source_profile", "security", Origin{"/config", 3}},
					{"security", "access_key_id", "AKIAIOSFODNN7EXAMPLE", Origin{"/registry", 2}},
					{"security", "mfa_serial", "arn:aws:iam::111122223333:mfa/paul", Origin{"/registry", 3}},
					{"security", "region", "eu-west-1", Origin{"/registry", 4}},
				}}},
		{what: "a linked profile: the definition of the registry, the region of the config",
			config:   "[profile dev]\ncredential_process = /usr/bin/credproc dev\nregion = eu-central-1\nexternal_id = not-this\nmfa_serial = GAHT00000000\n",
			registry: sourceSection + "[profile dev]\nrole_arn = " + account + "dev\nsource_profile = security\n", name: "dev",
			want: Chain{Profile: "dev", Region: "eu-central-1", Source: security, Roles: []Role{{Profile: "dev", ARN: account + "dev",
				Endpoint: Endpoint{Region: "eu-central-1"}, Origin: Origin{"/registry", 6}}}}},
		{what: "the registry wins over the AWS files",
			config:      "[profile dev]\nrole_arn = " + account + "other\nsource_profile = security\nregion = eu-central-1\n",
			credentials: "[dev]\naws_access_key_id = ASIAIOSFODNN7EXAMPLE\naws_secret_access_key = x\naws_session_token = y\n",
			registry:    sourceSection + "[profile dev]\nrole_arn = " + account + "dev\nsource_profile = security\nregion = eu-west-3\nconfirm = never\n", name: "dev",
			want: Chain{Profile: "dev", Region: "eu-west-3", Source: security, Roles: []Role{{Profile: "dev", ARN: account + "dev",
				Endpoint: Endpoint{Region: "eu-west-3"}, Origin: Origin{"/registry", 6}}}}},
		{what: "the credentials file wins over the config",
			config:      "[profile dev]\nrole_arn = " + account + "other\nsource_profile = security\n",
			credentials: "[dev]\nrole_arn = " + account + "dev\n", registry: sourceSection, name: "dev",
			want: Chain{Profile: "dev", Source: security, Roles: []Role{{Profile: "dev", ARN: account + "dev", Origin: Origin{"/credentials", 2}}}}},
		{what: "a published session does not hide the role",
			config:      "[profile dev]\nrole_arn = " + account + "dev\nsource_profile = security\n",
			credentials: "[dev]\naws_access_key_id = ASIAIOSFODNN7EXAMPLE\naws_secret_access_key = x\naws_session_token = y\n", registry: sourceSection, name: "dev",
			want: Chain{Profile: "dev", Source: security, Roles: []Role{{Profile: "dev", ARN: account + "dev", Origin: Origin{"/config", 2}}}}},
		{what: "two roles, in the order in which they are assumed; the region of the profile asked for",
			config:   "[profile hub]\nrole_arn = " + account + "hub\nsource_profile = security\n[profile dev]\nrole_arn = " + account + "dev\nsource_profile = hub\nregion = eu-central-1\n",
			registry: sourceSection, name: "dev",
			want: Chain{Profile: "dev", Region: "eu-central-1", Source: security, Roles: []Role{
				{Profile: "hub", ARN: account + "hub", Endpoint: Endpoint{Region: "eu-central-1"}, Origin: Origin{"/config", 2}},
				{Profile: "dev", ARN: account + "dev", Endpoint: Endpoint{Region: "eu-central-1"}, Origin: Origin{"/config", 5}}}}},
		{what: "each role at its own region",
			config:   "[profile hub]\nrole_arn = " + account + "hub\nsource_profile = security\nregion = us-east-1\n[profile dev]\nrole_arn = " + account + "dev\nsource_profile = hub\nregion = eu-central-1\n",
			registry: sourceSection, name: "dev",
			want: Chain{Profile: "dev", Region: "eu-central-1", Source: security, Roles: []Role{
				{Profile: "hub", ARN: account + "hub", Endpoint: Endpoint{Region: "us-east-1"}, Origin: Origin{"/config", 2}},
				{Profile: "dev", ARN: account + "dev", Endpoint: Endpoint{Region: "eu-central-1"}, Origin: Origin{"/config", 6}}}}},
		{what: "nothing is inherited from default",
			config:   "[default]\nregion = eu-central-1\nmfa_serial = GAHT12345678\n[profile dev]\nrole_arn = " + account + "dev\nsource_profile = security\n",
			registry: sourceSection, name: "dev",
			want: Chain{Profile: "dev", Source: security, Roles: []Role{{Profile: "dev", ARN: account + "dev", Origin: Origin{"/config", 5}}}}},
		{what: "as a source_profile a source wins over a profile of that name",
			config:   "[profile security]\nrole_arn = " + account + "not-this\nsource_profile = security\n[profile dev]\nrole_arn = " + account + "dev\nsource_profile = security\n",
			registry: sourceSection, name: "dev",
			want: Chain{Profile: "dev", Source: security, Roles: []Role{{Profile: "dev", ARN: account + "dev", Origin: Origin{"/config", 5}}}}},
		{what: "asked for by name a role wins; its source_profile is the source of that name",
			config: "[profile security]\nrole_arn = " + account + "self\nsource_profile = security\n", registry: sourceSection, name: "security",
			want: Chain{Profile: "security", Source: security, Roles: []Role{{Profile: "security", ARN: account + "self", Origin: Origin{"/config", 2}}}}},
		{what: "the role's mfa_serial serves a source without one",
			config:   "[profile dev]\nrole_arn = " + account + "dev\nsource_profile = security\nmfa_serial = arn:aws:iam::111122223333:mfa/phone\n",
			registry: "[source security]\naccess_key_id = AKIAIOSFODNN7EXAMPLE\nmfa_seed = keyring\n", name: "dev",
			want: Chain{Profile: "dev", Source: Source{Name: "security", AccessKeyID: "AKIAIOSFODNN7EXAMPLE", MFASerial: "arn:aws:iam::111122223333:mfa/phone", HasSeed: true, Origin: Origin{"/registry", 1}},
				Roles: []Role{{Profile: "dev", ARN: account + "dev", MFASerial: "arn:aws:iam::111122223333:mfa/phone", Origin: Origin{"/config", 2}}}}},
		{what: "a registry profile without a role is its source",
			registry: sourceSection + "[profile me]\nsource_profile = security\nregion = eu-west-3\n", name: "me",
			want: Chain{Profile: "me", Region: "eu-west-3", Source: security}},
		{what: "an alias",
			config:   "[profile dev]\nrole_arn = " + account + "dev\nsource_profile = security\n",
			registry: sourceSection + "[alias]\nd = dev\n", name: "d",
			want: Chain{Profile: "dev", Source: security, Roles: []Role{{Profile: "dev", ARN: account + "dev", Origin: Origin{"/config", 2}}}}},
		{what: "endpoint_url", claims: 1, config: "[profile dev]\nrole_arn = " + account +
			"dev\nsource_profile = security\nendpoint_url = http://localhost:4599\n",
			registry: sourceSection, name: "dev",
			want: Chain{Profile: "dev", Source: security, Roles: []Role{{Profile: "dev", ARN: account + "dev",
				Endpoint: Endpoint{URL: "http://localhost:4599"}, Origin: Origin{"/config", 2}}}}},
		{what: "services win over endpoint_url", claims: 2,
			config:   "[profile dev]\nrole_arn = " + account + "dev\nsource_profile = security\nendpoint_url = https://all.example\nservices = local\n[services local]\nsts =\n  endpoint_url = https://sts.example\n",
			registry: sourceSection, name: "dev",
			want: Chain{Profile: "dev", Source: security, Roles: []Role{{Profile: "dev", ARN: account + "dev",
				Endpoint: Endpoint{URL: "https://sts.example"}, Origin: Origin{"/config", 2}}}}},
		{what: "services without sts", claims: 1,
			config:   "[profile dev]\nrole_arn = " + account + "dev\nsource_profile = security\nendpoint_url = https://all.example\nservices = local\n[services local]\ns3 =\n  endpoint_url = https://s3.example\n",
			registry: sourceSection, name: "dev",
			want: Chain{Profile: "dev", Source: security, Roles: []Role{{Profile: "dev", ARN: account + "dev",
				Endpoint: Endpoint{URL: "https://all.example"}, Origin: Origin{"/config", 2}}}}},
		{what: "ignored endpoints",
			config:   "[profile dev]\nrole_arn = " + account + "dev\nsource_profile = security\nendpoint_url = https://all.example\nignore_configured_endpoint_urls = true\n",
			registry: sourceSection, name: "dev",
			want: Chain{Profile: "dev", Source: security, Roles: []Role{{Profile: "dev", ARN: account + "dev", Origin: Origin{"/config", 2}}}}},
		{what: "other partitions", config: "[profile cn]\nrole_arn = arn:aws-cn:iam::444455556666:role/a/b/dev\nsource_profile = security\nregion = cn-north-1\n",
			registry: sourceSection, name: "cn",
			want: Chain{Profile: "cn", Region: "cn-north-1", Source: security, Roles: []Role{{Profile: "cn", ARN: "arn:aws-cn:iam::444455556666:role/a/b/dev",
				Endpoint: Endpoint{Region: "cn-north-1"}, Origin: Origin{"/config", 2}}}}},
	} {
		t.Run(tt.what, func(t *testing.T) {
			set := load(t, tt.config, tt.credentials, tt.registry)
			got, err := set.Resolve(tt.name)
			if tt.claims > 0 && fault.Is(err, fault.NotConfirmed) {
				var trust Trust
				trust, err = set.Trust(tt.name)
				if got = trust.Chain; len(trust.Claims) != tt.claims {
					t.Errorf("claims %v, want %d", trust.Claims, tt.claims)
				}
			}
			if err != nil {
				t.Fatal(err)
			}
			if tt.want.Values == nil {
				got.Values = nil
			}
			if len(got.Roles) == 0 {
				got.Roles = nil
			}
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got\n%+v\nwant\n%+v", got, tt.want)
			}
		})
	}
}

func TestResolveRefuses(t *testing.T) {
	role := "[profile dev]\nrole_arn = " + account + "dev\nsource_profile = security\n"
	keys := "aws_access_key_id = AKIAIOSFODNN7EXAMPLE\naws_secret_access_key = x\n"
	for _, tt := range []struct {
		what                          string
		config, credentials, registry string
		name                          string
		kind                          fault.Kind
		want, hint                    string
	}{
		{what: "a plain key", credentials: "[security]\n" + keys, name: "security", kind: fault.Config,
			want: `/credentials:2: the long-lived key of "security" is here in plain text`, hint: "broker setup"},
		{what: "a plain key in the config", config: "[profile \"two words\"]\n" + keys, name: "two words", kind: fault.Config,
			want: "/config:2: the long-lived key", hint: "broker setup"},
		{what: "a plain key as source", config: role, credentials: "[security]\n" + keys, name: "dev", kind: fault.Config,
			want: `/credentials:2: the long-lived key of "security"`, hint: "broker setup"},
		{what: "itself, with a plain key", config: "[profile dev]\nrole_arn = " + account + "dev\nsource_profile = dev\n", credentials: "[dev]\n" + keys, name: "dev",
			kind: fault.Config, want: "/credentials:2: the long-lived key", hint: "broker setup"},
		{what: "itself, linked, with a plain key", credentials: "[dev]\n" + keys, registry: "[profile dev]\nrole_arn = " + account + "dev\nsource_profile = dev\n", name: "dev",
			kind: fault.Config, want: "/credentials:2: the long-lived key", hint: "broker setup"},
		{what: "itself, without a key", config: "[profile dev]\nrole_arn = " + account + "dev\nsource_profile = dev\n", name: "dev",
			kind: fault.Config, want: "/config:3: source_profile forms a loop: dev -> dev"},
		{what: "keys that botocore would prefer to the role of a source_profile",
			config:   "[profile hub]\nrole_arn = " + account + "hub\nsource_profile = security\n" + keys + "[profile dev]\nrole_arn = " + account + "dev\nsource_profile = hub\n",
			registry: sourceSection, name: "dev", kind: fault.Config, want: "/config:4: the long-lived key of \"hub\""},
		{what: "a loop", config: "[profile z]\nrole_arn = " + account + "z\nsource_profile = a\n[profile a]\nrole_arn = " + account + "a\nsource_profile = b\n" +
			"[profile b]\nrole_arn = " + account + "b\nsource_profile = c\n[profile c]\nrole_arn = " + account + "c\nsource_profile = a\n",
			name: "z", kind: fault.Config, want: "/config:6: source_profile forms a loop: a -> b -> c -> a"},
		{what: "helpers that ask for each other", config: "[profile a]\ncredential_process = credproc b\n[profile b]\ncredential_process = credproc --profile a\n", name: "a",
			kind: fault.Config, want: "/config:2: source_profile forms a loop: a -> b -> a"},
		{what: "our helper for an unknown name", config: "[profile a]\ncredential_process = credproc nobody\n", name: "a",
			kind: fault.Config, want: "/config:2: profile \"a\" asks credproc, but the registry has no definition"},
		{what: "no such source_profile", config: role, name: "dev", kind: fault.NotFound,
			want: `/config:3: source_profile names "security", which is neither a source nor a profile`, hint: "broker add security"},
		{what: "a mistyped source", name: "dev", kind: fault.NotFound,
			registry: "[source security]\naccess_key_id = AKIAIOSFODNN7EXAMPLE\n",
			config:   "[profile dev]\nrole_arn = arn:aws:iam::222233334444:role/admin\nsource_profile = seucrity\n",
			want:     `which is neither a source nor a profile; did you mean "security"?`, hint: "broker profiles show security"},
		{what: "no source_profile", config: "[profile dev]\nrole_arn = " + account + "dev\n", name: "dev", kind: fault.Config,
			want: "/config:2: profile \"dev\" has a role_arn but no source_profile"},
		{what: "our helper without a definition", config: "[profile dev]\ncredential_process = \"/opt/my tools/credproc\" dev\n", name: "dev", kind: fault.Config,
			want: `/config:2: profile "dev" asks credproc, but the registry has no definition`},
		{what: "our helper as source", config: role + "[profile security]\ncredential_process = credproc security\n", name: "dev",
			kind: fault.NotFound, want: `/config:3: source_profile names "security", which is no longer a source`,
			hint: "broker add security"},
		{what: "our helper on Windows", config: "[profile dev]\ncredential_process = C:\\tools\\credproc.exe dev\n", name: "dev", kind: fault.Config, want: "asks credproc"},
		{what: "another helper", config: "[profile dev]\nregion = eu-west-1\ncredential_process = /usr/bin/other credproc\n", name: "dev", kind: fault.NotConfirmed,
			want: `/config:3: credential_process of profile "dev" takes effect only once you trust it`, hint: "broker profiles trust dev"},
		{what: "another helper as source", config: role + "[profile security]\ncredential_process = /usr/bin/other\n", name: "dev", kind: fault.NotConfirmed,
			want: `/config:5: credential_process of profile "security" takes effect only once you trust it`, hint: "broker profiles trust dev"},
		{what: "credential_source", config: "[profile dev]\nrole_arn = " + account + "dev\ncredential_source = Environment\n", name: "dev", kind: fault.Config, want: "/config:3: profile \"dev\" has a credential_source"},
		{what: "temporary keys", credentials: "[dev]\n" + keys + "aws_session_token = x\n", name: "dev", kind: fault.Config, want: "/credentials:2: profile \"dev\" has temporary keys"},
		{what: "only a region", config: "[profile dev]\nregion = eu-west-1\n", name: "dev", kind: fault.Config, want: "/config:1: profile \"dev\" has no role_arn", hint: "broker add dev"},
		{what: "a source that is also a role of its own", registry: sourceSection, config: "[profile security]\nrole_arn = " + account + "first\n" +
			"[profile dev]\nrole_arn = " + account + "dev\nsource_profile = security\n", name: "dev",
			kind: fault.Config, want: "/config:5: source_profile names \"security\", which is a source and also a role without"},
		{what: "an indented role", config: "[profile dev]\nregion = x\n  role_arn = " + account + "dev\n  source_profile = security\n", name: "dev",
			kind: fault.Config, want: "/config:2: the role_arn of profile \"dev\" is indented, so that it continues the value of region"},
		{what: "an empty profile in the registry", registry: "[profile dev]\nregion = eu-west-1\n", config: role, name: "dev", kind: fault.Config, want: "/registry:1: profile \"dev\" has no role_arn"},
		{what: "an unknown guard", registry: sourceSection + role + "confirm = sometimes\n", name: "dev", kind: fault.Config, want: "/registry:8: confirm is not never or first or always"},
		{what: "an empty guard", registry: sourceSection + role + "confirm =\n", name: "dev", kind: fault.Config, want: "/registry:8: confirm"},
		{what: "a guard that is kept published", registry: sourceSection + role + "confirm = first\npublish = true\n", name: "dev", kind: fault.Config, want: "/registry:9: a profile with confirm or production cannot have publish = true"},
		{what: "a source without a key id", registry: "[source security]\nmfa_serial = GAHT12345678\n", config: role, name: "dev", kind: fault.Config, want: "/registry:1: source \"security\" has no access_key_id", hint: "broker add security"},
		{what: "a seed elsewhere", registry: sourceSection + "mfa_seed = file\n", name: "security", kind: fault.Config, want: "/registry:5: mfa_seed is not keyring"},
		{what: "services that do not exist", config: role + "services = local\n", registry: sourceSection, name: "dev", kind: fault.Config, want: "/config:4: there is no [services local]"},
		{what: "a plain http endpoint of services", config: role + "services = l\n[services l]\nsts =\n endpoint_url = http://sts.example\n", registry: sourceSection, name: "dev", kind: fault.Config, want: "/config:7: sts.endpoint_url uses plain http"},
		{what: "an alias to nothing", registry: "[alias]\nd = dev\n", name: "d", kind: fault.NotFound, want: `/registry:2: alias "d" stands for "dev"`, hint: "broker profiles alias d --remove"},
		{what: "an unknown name", config: role, name: "dve", kind: fault.NotFound, want: `no profile, source or alias is called "dve"; did you mean "dev"?`, hint: "broker profiles list"},
		{what: "an unknown name, nothing near", config: role, name: "production", kind: fault.NotFound, want: `no profile, source or alias is called "production"`, hint: "broker profiles list"},
		{what: "a part of a name", config: role, name: "de", kind: fault.NotFound, want: "no profile"},
		{what: "the empty name", name: "", kind: fault.Usage, want: "cannot be empty"},
		{what: "a long name", name: strings.Repeat("x", 1<<20), kind: fault.Usage, want: "at most 256 bytes"},
		{what: "a name with an escape", name: "\x1b[2J", kind: fault.Usage, want: `cannot contain '\x1b'`},
		{what: "a name with a line end", name: "a\nb", kind: fault.Usage, want: `cannot contain '\n'`},
	} {
		t.Run(tt.what, func(t *testing.T) {
			set := load(t, tt.config, tt.credentials, tt.registry)
			for range 2 { // the second time from the cache
				_, err := set.Resolve(tt.name)
				if !fault.Is(err, tt.kind) || !strings.Contains(err.Error(), tt.want) || len(err.Error()) > 700 {
					t.Fatalf("got %v, want %s: %s", err, tt.kind, tt.want)
				}
				if f := fault.Of(err); tt.hint != "" && string(f.Hint) != tt.hint {
					t.Errorf("hint %q, want %q", f.Hint, tt.hint)
				}
				if strings.Contains(err.Error(), "\n") {
					t.Errorf("more than one line: %q", err)
				}
			}
		})
	}
}

func TestValues(t *testing.T) {
	for key, values := range map[string]struct{ good, bad []string }{
		"role_arn": {good: []string{account + "x", "arn:aws-us-gov:iam::444455556666:role/p/a.t-h/x+=,.@-_"},
			bad: []string{"x", "arn:aws:iam::4444:role/x", "arn:aws:iam::444455556666:user/x", "arn:aws:iam::444455556666:role/", "arn:aws:sts::444455556666:assumed-role/x/y", account + "x y", account + strings.Repeat("x", 2048), "arn:aws:iam::444455556666:role/a\n  b"}},
		"duration_seconds":       {good: []string{"900", "3600", "43200"}, bad: []string{"899", "43201", "1h", "3600.0", "-900", "99999999999999999999"}},
		"role_session_name":      {good: []string{"ab", "paul@example.com", strings.Repeat("x", 64)}, bad: []string{"a", "a b", strings.Repeat("x", 65), "$(x)", "größe"}},
		"external_id":            {good: []string{"ab", "a/b:c", strings.Repeat("x", 1224)}, bad: []string{"a", "a b", strings.Repeat("x", 1225), "a;b"}},
		"region":                 {good: []string{"eu-west-1", "aws-global"}, bad: []string{"EU", "eu.west", "eu-west-1.evil.example/", strings.Repeat("x", 33)}},
		"sts_regional_endpoints": {good: []string{"legacy", "regional"}, bad: []string{"global"}},
		"use_fips_endpoint":      {good: []string{"true", "False"}, bad: []string{"yes", "1"}},
		"ca_bundle":              {good: []string{"/x", "~/x"}, bad: []string{"x", "~paul/x"}},
		"endpoint_url": {good: []string{"https://sts.example", "https://sts.example:8443/path", "http://127.0.0.1:1", "http://127.9.9.9", "http://[::1]:1", "http://localhost:1/", "http://[::ffff:127.0.0.1]/"},
			bad: []string{"http://sts.example", "http://localhost.evil.example", "http://127.0.0.1.evil.example", "http://127.0.0.1@evil.example", "https://user:pw@sts.example", "ftp://x", "sts.example", "https://", "https://:443", "http://10.0.0.1", "http://169.254.169.254", "http://0.0.0.0", "https://x/?a=b", "//x", "http://2130706433"}},
		"mfa_serial": {good: []string{"arn:aws:iam::111122223333:mfa/paul", "arn:aws:iam::111122223333:mfa/a/b", "GAHT12345678"}, bad: []string{"paul", "arn:aws:iam::111122223333:user/paul", "GAHT 1234567", strings.Repeat("x", 257)}},
	} {
		for _, v := range values.good {
			config := "[profile dev]\nrole_arn = " + account + "x\nsource_profile = security\n"
			if key == "role_arn" {
				config = "[profile dev]\nsource_profile = security\n"
			}
			if _, err := load(t, config+key+" = "+v+"\n", "", sourceSection).Trust("dev"); err != nil {
				t.Errorf("%s = %.80s: %v", key, v, err)
			}
		}
		for _, v := range values.bad {
			registry := sourceSection + "[profile dev]\nrole_arn = " + account + "x\nsource_profile = security\n" + key + " = " + v + "\n"
			_, err := load(t, "", "", registry).Resolve("dev")
			if !fault.Is(err, fault.Config) || !strings.HasPrefix(err.Error(), "/registry:8: "+key+" ") {
				t.Errorf("%s = %.80s: %v", key, v, err)
			}
		}
	}
	for _, id := range []string{"", "short", "akiaiosfodnn7example", "AKIA IOSFODNN7EXAMP", strings.Repeat("A", 129)} {
		if _, err := load(t, "", "", "[source s]\naccess_key_id = "+id+"\n").Resolve("s"); !fault.Is(err, fault.Config) {
			t.Errorf("access_key_id = %s: %v", id, err)
		}
	}
}

func TestResolveExpandsHome(t *testing.T) {
	t.Setenv("HOME", "/home/paul")
	c, err := load(t, "", "", sourceSection+"ca_bundle = ~/ca.pem\n").Resolve("security")
	if err != nil || c.Source.Endpoint.CABundle != "/home/paul/ca.pem" {
		t.Errorf("%q, %v", c.Source.Endpoint.CABundle, err)
	}
}

// chainOf returns a config in which p0 needs n roles, one after the other.
func chainOf(n int, last string) string {
	var b strings.Builder
	for i := range n {
		next := fmt.Sprintf("p%d", i+1)
		if i == n-1 {
			next = last
		}
		fmt.Fprintf(&b, "[profile p%d]\nrole_arn = %sr%d\nsource_profile = %s\n", i, account, i, next)
	}
	return b.String()
}

func TestResolveDeepChains(t *testing.T) {
	for _, tt := range []struct {
		what, config, want string
	}{
		{"10 roles", chainOf(10, "security"), ""},
		{"11 roles", chainOf(11, "security"), "more than 10 profiles"},
		{"1,000 roles", chainOf(1000, "security"), "more than 10 profiles"},
		{"a loop of 10", chainOf(10, "p0"), "p0 -> p1 -> p2"},
		{"a loop of 1,000", chainOf(1000, "p0"), "more than 10 profiles"},
		{"10 roles to nowhere", chainOf(10, "nobody"), `names "nobody"`},
		{"1,000 roles to nowhere", chainOf(1000, "nobody"), "more than 10 profiles"},
	} {
		set := load(t, tt.config, "", sourceSection)
		c, err := set.Resolve("p0")
		if tt.want == "" && (err != nil || len(c.Roles) != 10) ||
			tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v", tt.what, err)
		}
	}
}

// TestUnknownRegistryKeyIsAnError checks that an unknown key or section of the registry is an error. A mistyped key
// could be the one that says which role a profile has, or when to lock.
func TestUnknownRegistryKeyIsAnError(t *testing.T) {
	for text, want := range map[string]string{
		"[profile b]\nrolle_arn = x\n":   `registry:2: unknown key "rolle_arn"; did you mean role_arn?`,
		"[settings]\nlock_affter = 8h\n": `registry:2: unknown key "lock_affter"; did you mean lock_after?`,
		"[source c]\nxyzzy = x\n":        `registry:2: unknown key "xyzzy"`,
		"[setings]\n":                    `registry:1: unknown section "setings"; did you mean settings?`,
		"[profile b]\n[weird thing]\n":   `registry:2: unknown section "weird"`,
	} {
		path := filepath.Join(t.TempDir(), "registry")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := new(Store).Load(Files{Registry: path})
		f := fault.Of(err)
		if f == nil || f.Kind != fault.Config || !strings.HasSuffix(f.Message, want) || !strings.HasPrefix(string(f.Hint), "vi +") {
			t.Errorf("%q: %v, hint %v", text, err, f)
		}
	}
}

func TestWarnings(t *testing.T) {
	set := load(t, "[profile a]\nregion = x\ngarbage\n[profile a]\nregion = y\n", "",
		"[profile b]\nrole_arn = x\nsource_profile = s\n[source c]\n[alias]\na = b\nx = a\u202eb\n")
	var got []string
	for _, w := range set.Warnings() {
		got = append(got, w.String())
	}
	for _, want := range []string{
		`/config:3: this line is not "key = value"`,
		`/config:4: section "a" is there twice, first at line 1`,
		`/registry:4: source "c" cannot be used: /registry:4: source "c" has no access_key_id`,
		`/registry:6: alias a is never used`,
		`/registry:7: is not an alias`,
	} {
		if len(got) == 0 || !strings.HasPrefix(got[0], want) {
			t.Fatalf("got %q, want %s", got, want)
		}
		got = got[1:]
	}
	if len(got) > 0 {
		t.Errorf("too many warnings: %q", got)
	}
}

func TestABrokenRegistryIsAnError(t *testing.T) {
	for _, src := range []string{"[source a]\ngarbage\n", "x = y\n", "[source a\n", "[source ]\n", "[settings]\n= 1\n"} {
		if _, err := loadErr("", "", src); !fault.Is(err, fault.Config) || !strings.HasPrefix(err.Error(), "/registry:") {
			t.Errorf("%q: %v", src, err)
		}
	}
}

func TestFind(t *testing.T) {
	role := func(name string) string {
		return "[profile " + name + "]\nrole_arn = " + account + "x\nsource_profile = security\n"
	}
	config := role("product_prod_paul") + role("product_dev_paul") + role("prod") + role("other_stage") + "[profile stage-sso]\nsso_session = x\n[profile only-sso]\nsso_session = x\n"
	for i := range 12 {
		config += role(fmt.Sprintf("many%d", i))
	}
	set := load(t, config, "", sourceSection+"[alias]\npp = product_prod_paul\nsecret = product_dev_paul\n")
	for short, want := range map[string]string{
		"prod": "prod", "product_prod_paul": "product_prod_paul", "pp": "product_prod_paul", "prod_p": "product_prod_paul", "dev": "product_dev_paul",
		"secur": "security", "other_st": "other_stage", "only": "only-sso",
	} {
		if got, err := set.Find(short); err != nil || got != want {
			t.Errorf("%s: %q, %v", short, got, err)
		}
	}
	words := load(t, role("product_prod_paul")+role("product_dev_paul")+role("product-nonprod"), "", sourceSection)
	for short, want := range map[string]string{"prod": "product_prod_paul", "nonprod": "product-nonprod", "prod_paul": "product_prod_paul", "nonp": "product-nonprod"} {
		if got, err := words.Find(short); err != nil || got != want {
			t.Errorf("%s: %q, %v", short, got, err)
		}
	}
	if _, err := words.Find("product"); !fault.Is(err, fault.NotFound) || !strings.Contains(err.Error(), "product-nonprod, product_dev_paul, product_prod_paul") {
		t.Errorf("a word that all names have: %v", err)
	}
	for short, want := range map[string]string{
		"product": `"product" could be product_dev_paul, product_prod_paul`, "many": "many0, many1, many10, many11, many2, many3, many4, many5, many6, many7 and 2 more",
		"stage": "could be other_stage, stage-sso", "nothing": "no profile", "pord": `did you mean "prod" or "product_prod_paul"?`,
	} {
		if got, err := set.Find(short); !fault.Is(err, fault.NotFound) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %q, %v", short, got, err)
		}
	}
	if _, err := set.Find(""); !fault.Is(err, fault.Usage) {
		t.Error(err)
	}
	if got := set.Aliases(); len(got) != 2 || got[0] != (Alias{"pp", "product_prod_paul", got[0].Origin, ""}) || got[1].Name != "secret" {
		t.Error(got)
	}
}

func TestDistance(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"a", "", 1}, {"abc", "abc", 0}, {"abc", "acb", 1}, {"abcd", "cabd", 2}, {"kitten", "sitting", 3}, {"abcdef", "x", 4}, {"aaaa", "bbbb", 4}} {
		if got := distance(tt.a, tt.b, 3); got != tt.want {
			t.Errorf("%q %q: %d, want %d", tt.a, tt.b, got, tt.want)
		}
		if got := distance(tt.b, tt.a, 3); got != tt.want {
			t.Errorf("%q %q: %d, want %d", tt.b, tt.a, got, tt.want)
		}
	}
}

// TestResolveThroughTheHelper checks that a profile that asks credproc for another profile resolves to that one.
func TestResolveThroughTheHelper(t *testing.T) {
	registry := sourceSection + "[profile dev]\nrole_arn = " + account + "dev\nsource_profile = security\nregion = eu-west-1\n[alias]\nd = dev\n"
	for what, command := range map[string]string{
		"plain": "credproc dev", "quoted": `"/opt/my tools/credproc" "dev"`, "flag": "/x/credproc --profile dev", "flag with =": "/x/credproc --profile=dev", "alias": "credproc d",
	} {
		set := load(t, "[profile other]\nregion = us-west-2\ncredential_process = "+command+"\n", "", registry)
		chain, err := set.Resolve("other")
		if err != nil || chain.Profile != "other" || chain.Region != "us-west-2" || len(chain.Roles) != 1 || chain.Roles[0].ARN != account+"dev" {
			t.Errorf("%s: %+v, %v", what, chain, err)
		}
		for _, sum := range set.List() {
			if sum.Name == "other" && (sum.Kind != KindRole || sum.RoleARN != account+"dev" || sum.AccountID != "444455556666" || sum.Problem != "") {
				t.Errorf("%s: listed as %+v", what, sum)
			}
		}
	}
}

func TestList(t *testing.T) {
	set := load(t,
		"[default]\nregion = us-east-1\n[profile dev]\nregion = eu-west-1\ncredential_process = /x/credproc dev\n[profile stage]\nrole_arn = "+account+"stage\nsource_profile = nobody\n",
		"[old]\naws_access_key_id = AKIAIOSFODNN7EXAMPLE\naws_secret_access_key = x\n",
		sourceSection+"[profile dev]\nrole_arn = "+account+"dev\nsource_profile = security\n[alias]\nd = dev\n")
	got := set.List()
	want := []Summary{
		{Name: "default", Kind: KindOther, Region: "us-east-1", Origin: Origin{"/config", 1}},
		{
			Name:      "dev",
			Kind:      KindRole,
			RoleARN:   account + "dev",
			AccountID: "444455556666",
			Source:    "security",
			Region:    "eu-west-1",
			Linked:    true,
			Helper:    "/x/credproc",
			Asks:      "dev",
			Aliases:   []string{"d"},
			Origin:    Origin{"/registry", 5},
		},
		{
			Name:     "old",
			Kind:     KindOther,
			Origin:   Origin{"/credentials", 1},
			PlainKey: Origin{"/credentials", 2},
			Problem:  "plain text",
		},
		{Name: "security", Kind: KindSource, Source: "security", Region: "eu-west-1", Origin: Origin{"/registry", 1}},
		{Name: "stage", Kind: KindRole, RoleARN: account + "stage", AccountID: "444455556666", Origin: Origin{"/config", 6}, Problem: "neither a source nor a profile"},
	}
	if len(got) != len(want) {
		t.Fatalf("%+v", got)
	}
	for i := range want {
		if !strings.Contains(got[i].Problem, want[i].Problem) || (got[i].Problem == "") != (want[i].Problem == "") {
			t.Errorf("%s: problem %q, want %q", want[i].Name, got[i].Problem, want[i].Problem)
		}
		got[i].Problem = want[i].Problem
		if !reflect.DeepEqual(got[i], want[i]) {
			t.Errorf("got\n%+v\nwant\n%+v", got[i], want[i])
		}
	}
	linked := []Summary{{Name: "dev", Linked: true, Helper: "/x/credproc", Asks: "dev"}}
	if got := set.Linked(); !reflect.DeepEqual(got, linked) {
		t.Errorf("linked are %+v", got)
	}
	if s := set.Sources(); len(s) != 1 || s[0].Name != "security" {
		t.Error(s)
	}
	if _, ok := set.Source("dev"); ok {
		t.Error("Source returned dev, which is not a source")
	}
}

func TestSettings(t *testing.T) {
	got, err := load(t, "", "", "").Settings()
	if err != nil || got.SessionDuration != 12*time.Hour || got.LockAfter != 0 || got.LockOn != nil ||
		fmt.Sprint(got.MFAPrompt) != "[tty gui]" {
		t.Errorf("%+v, %v", got, err)
	}
	got, err = load(
		t,
		"",
		"",
		"[settings]\nkeyring_backend = pass # mine\nsession_duration = 90m\nsts_endpoint = http://127.0.0.1:4599\nlock_after = 28800s\nmfa_prompt = gui, tty\nlock_on = screen , suspend\n",
	).Settings()
	want := Settings{
		KeyringBackend:  "pass",
		SessionDuration: 90 * time.Minute,
		STSEndpoint:     "http://127.0.0.1:4599",
		LockAfter:       8 * time.Hour,
		LockOn:          []string{"screen", "suspend"},
		MFAPrompt:       []string{"gui", "tty"},
		Notices:         true,
		Origins: map[string]Origin{
			"keyring_backend":  {"/registry", 2},
			"session_duration": {"/registry", 3},
			"sts_endpoint":     {"/registry", 4},
			"lock_after":       {"/registry", 5},
			"mfa_prompt":       {"/registry", 6},
			"lock_on":          {"/registry", 7},
		},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	for _, line := range []string{"session_duration = 14m", "session_duration = 37h", "session_duration = soon", "session_duration =", "sts_endpoint = http://sts.example", "lock_after = -1h", "lock_after = 8", "session_duration = 43200", "mfa_prompt = carrier pigeon", "mfa_prompt = tty,tty", "audit = perhaps", "audit =", "notices = true", "notices =", "lock_on = lid", "lock_on =", "lock_on = suspend,", "lock_on = screen,screen"} {
		if _, err := load(t, "", "", "[settings]\n"+line+"\n").Settings(); !fault.Is(err, fault.Config) || !strings.HasPrefix(err.Error(), "/registry:2: ") {
			t.Errorf("%s: %v", line, err)
		}
	}
}

func TestPlainKey(t *testing.T) {
	dir := t.TempDir()
	files := Files{AWS: dir, Config: filepath.Join(dir, "config"), Credentials: filepath.Join(dir, "credentials")}
	write(t, files.Credentials, "[a]\naws_access_key_id = AKIAIOSFODNN7EXAMPLE\naws_secret_access_key = x/y+z== # mine\n[half]\naws_access_key_id = AKIAIOSFODNN7EXAMPLE\n"+
		"[temp]\naws_access_key_id = ASIAIOSFODNN7EXAMPLE\naws_secret_access_key = x\naws_session_token = y\n[odd]\naws_access_key_id = x\naws_secret_access_key = x\n[both]\naws_access_key_id = AKIAIOSFODNN7CREDENT\naws_secret_access_key = x\n")
	write(t, files.Config, "[profile b]\naws_access_key_id = AKIAIOSFODNN7EXAMPLE\naws_secret_access_key = secret\n[profile none]\nregion = x\n[profile both]\naws_access_key_id = AKIAIOSFODNN7CONFIGX\naws_secret_access_key = x\n")
	for _, tt := range []struct {
		name, id, key string
		origin        Origin
		kind          fault.Kind
	}{
		{"a", "AKIAIOSFODNN7EXAMPLE", "x/y+z==", Origin{files.Credentials, 2}, ""},
		{"b", "AKIAIOSFODNN7EXAMPLE", "secret", Origin{files.Config, 2}, ""},
		{"both", "AKIAIOSFODNN7CREDENT", "x", Origin{files.Credentials, 14}, ""},
		{"half", "", "", Origin{}, fault.Config},
		{"temp", "", "", Origin{}, fault.Config},
		{"odd", "", "", Origin{}, fault.Config},
		{"none", "", "", Origin{}, fault.NotFound},
		{"nobody", "", "", Origin{}, fault.NotFound},
		{"a\n", "", "", Origin{}, fault.Usage},
	} {
		key, err := PlainKey(files, tt.name)
		if key.AccessKeyID != tt.id || key.Secret.Reveal() != tt.key || key.Origin != tt.origin ||
			(tt.kind == "") != (err == nil) ||
			err != nil && !fault.Is(err, tt.kind) {
			t.Errorf("%s: %q %v %v", tt.name, key.AccessKeyID, key.Origin, err)
		}
	}
	files.Credentials = dir
	if _, err := PlainKey(files, "a"); !fault.Is(err, fault.Config) {
		t.Error(err)
	}
}

// manyProfiles returns a config of n linked role profiles, and its registry.
func manyProfiles(n int) (config, registry string) {
	var c, r strings.Builder
	r.WriteString(sourceSection)
	for i := range n {
		fmt.Fprintf(&c, "[profile product%d_prod_paul]\nregion = eu-west-1\noutput = json\ncredential_process = \"/usr/local/bin/credproc\" product%d_prod_paul\n\n", i, i)
		fmt.Fprintf(&r, "[profile product%d_prod_paul]\nrole_arn = %sallow-admin-%d\nsource_profile = security\n\n", i, account, i)
	}
	return c.String(), r.String()
}

func benchmarkFiles(b *testing.B, n int) Files {
	dir := b.TempDir()
	files := Files{AWS: dir, Config: filepath.Join(dir, "config"), Credentials: filepath.Join(dir, "credentials"),
		Registry: filepath.Join(dir, "registry")}
	config, registry := manyProfiles(n)
	for path, text := range map[string]string{files.Config: config, files.Registry: registry} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	time.Sleep(2 * quiet)
	return files
}

func BenchmarkWarmLoadAndResolve(b *testing.B) {
	for _, n := range []int{10, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			files := benchmarkFiles(b, n)
			var s Store
			if _, err := s.Load(files); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				set, err := s.Load(files)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := set.Resolve("product7_prod_paul"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkColdLoad(b *testing.B) {
	files := benchmarkFiles(b, 10_000)
	b.ReportAllocs()
	b.ResetTimer()
	for b.Loop() {
		if _, err := new(Store).Load(files); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkList(b *testing.B) {
	config, registry := manyProfiles(10_000)
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		set := load(b, config, "", registry)
		b.StartTimer()
		if list := set.List(); len(list) != 10_001 {
			b.Fatal(len(list))
		}
	}
}

// FuzzResolve looks for panics and hangs in any three files.
func FuzzResolve(f *testing.F) {
	config, registry := manyProfiles(3)
	f.Add(config, "[old]\naws_access_key_id = AKIAIOSFODNN7EXAMPLE\n", registry)
	f.Add(chainOf(3, "p0"), "", "[alias]\na = p0\n[settings]\nsession_duration = 12h\n")
	f.Fuzz(func(t *testing.T, config, credentials, registry string) {
		set, err := loadErr(config, credentials, registry)
		if err != nil {
			return
		}
		for _, sum := range set.List() {
			if (sum.Problem == "") != (sum.Source != "") {
				t.Errorf("%+v", sum)
			}
			if c, err := set.Resolve(sum.Name); err == nil && (c.Source.AccessKeyID == "" || len(c.Roles) > maxHops) {
				t.Errorf("%+v", c)
			}
			_, _ = set.Find(fmt.Sprint(rand.IntN(10)))
		}
		_, _ = set.Settings()
	})
}
