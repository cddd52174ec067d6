//go:build unix

package profiles

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"broker/internal/fault"
)

const credprocPath = "/usr/local/bin/credproc"

var linkFiles = Files{AWS: "/home/paul/.aws", Config: "/home/paul/.aws/config",
	Credentials: "/home/paul/.aws/credentials", Registry: "/home/paul/.config/broker/config"}

const linkRegistry = "[source security]\naccess_key_id = AKIAIOSFODNN7EXAMPLE\nmfa_serial = arn:aws:iam::111122223333:mfa/paul\n"

// documents makes the documents of a test.
func documents(registry, config, credentials string) Documents {
	var d Documents
	d[RegistryDocument], d[ConfigDocument], d[CredentialsDocument] = []byte(registry), []byte(config), []byte(credentials)
	return d
}

// show formats the documents for a failed test.
func (docs Documents) show() string {
	var b strings.Builder
	for i, name := range []string{"registry", "config", "credentials", "records"} {
		fmt.Fprintf(&b, "-- %s --\n%s", name, docs[i])
	}
	return b.String()
}

// memory runs a plan as Rewrite does, but on bytes in memory.
func memory(docs *Documents, order []Document, plan Plan) ([]Outcome, error) {
	read := func(d Document) ([]byte, error) { return docs[d], nil }
	edit := func(d Document, edit func([]byte) ([]byte, error)) error {
		b, err := edit(docs[d])
		if err == nil {
			docs[d] = b
		}
		return err
	}
	return Rewrite(order, read, edit, plan)
}

// linkPlan links these profiles by name, or all profiles by name.
func linkPlan(names ...string) Plan {
	return func(d Documents) (Documents, []Outcome, error) {
		if l, err := newLinker(linkFiles, d); err == nil && names == nil {
			return Link(linkFiles, d, l.all(), credprocPath)
		}
		return Link(linkFiles, d, names, credprocPath)
	}
}

func unlinkPlan(names ...string) Plan {
	return func(d Documents) (Documents, []Outcome, error) { return Unlink(linkFiles, d, names) }
}

func mustRun(t *testing.T, docs *Documents, order []Document, plan Plan) []Outcome {
	t.Helper()
	out, err := memory(docs, order, plan)
	if err != nil {
		t.Fatalf("%v\n%s", err, docs.show())
	}
	return out
}

// TestLink checks what link writes, that it is idempotent, and that unlink restores the original.
func TestLink(t *testing.T) {
	const role = "arn:aws:iam::444455556666:role/dev"
	made := linkRegistry + "\n[profile dev]\nrole_arn = " + role + "\nsource_profile = security\n"
	for _, tt := range []struct {
		what, name                       string
		registry, config, credentials    string
		registry2, config2, credentials2 string
	}{
		{"usual", "dev", linkRegistry, "[profile dev]\nrole_arn = " + role + "\nsource_profile = security\nregion = eu-west-1\n", "",
			made, "[profile dev]\ncredential_process = /usr/local/bin/credproc dev\nregion = eu-west-1\n", ""},
		{"comments, blocks, order, tabs", "dev", linkRegistry,
			"# top\n[default]\nregion = x\n\n[profile dev] ; mine\n\tregion = eu-west-1\n\t# the role\n\tRole_ARN=" + role + " # of dev\n\t# and its source\n\tsource_profile: security\n\ts3 =\n\t\tmax = 1\n\t# last\n[profile z]\n", "",
			strings.Replace(made, "role/dev\n", "role/dev # of dev\n", 1),
			"# top\n[default]\nregion = x\n\n[profile dev] ; mine\n\tregion = eu-west-1\n\t# the role\n\tcredential_process = /usr/local/bin/credproc dev\n\t# and its source\n\ts3 =\n\t\tmax = 1\n\t# last\n[profile z]\n", ""},
		{"CRLF, BOM, no final newline", "dev", linkRegistry, "\xef\xbb\xbf[profile dev]\r\nregion = x\r\nrole_arn = " + role + "\r\nsource_profile = security", "",
			made, "\xef\xbb\xbf[profile dev]\r\nregion = x\r\ncredential_process = /usr/local/bin/credproc dev", ""},
		{"all keys", "dev", linkRegistry, "[profile dev]\nsource_profile=security\nduration_seconds=900\nrole_session_name=me\nexternal_id=abc\nmfa_serial=GAHT12345678\nmfa_process=/bin/code\nrole_arn=" + role + "\noutput=json\n", "",
			linkRegistry + "\n[profile dev]\nrole_arn = " + role + "\nsource_profile = security\nmfa_serial = GAHT12345678\nexternal_id = abc\nrole_session_name = me\nduration_seconds = 900\nmfa_process = /bin/code\n",
			"[profile dev]\ncredential_process = /usr/local/bin/credproc dev\noutput=json\n", ""},
		{"partly in the credentials file", "dev", linkRegistry, "[profile dev]\nregion = x\n", "[dev]\nrole_arn = " + role + "\nsource_profile = security\n# c\n[other]\naws_access_key_id = AKIAIOSFODNN7EXAMPLE\n",
			made, "[profile dev]\nregion = x\ncredential_process = /usr/local/bin/credproc dev\n", "[dev]\n# c\n[other]\naws_access_key_id = AKIAIOSFODNN7EXAMPLE\n"},
		{"only in the credentials file, which wins", "dev", linkRegistry, "", "[dev]\nrole_arn = " + role + "\nsource_profile = security\n",
			made, "[profile dev]\ncredential_process = /usr/local/bin/credproc dev\n", "[dev]\n"},
		{"only in the registry", "dev", made, "[default]\nregion = x", "", made, "[default]\nregion = x\n\n[profile dev]\ncredential_process = /usr/local/bin/credproc dev", ""},
		{"the same in both", "dev", made, "[profile dev]\nrole_arn = " + role + "\nsource_profile = security\nmfa_serial = arn:aws:iam::111122223333:mfa/paul\n", "",
			made, "[profile dev]\ncredential_process = /usr/local/bin/credproc dev\n", ""},
		{"a source", "security", linkRegistry, "[profile security]\nmfa_serial = arn:aws:iam::111122223333:mfa/paul\nregion = x\n", "",
			linkRegistry, "[profile security]\nmfa_serial = arn:aws:iam::111122223333:mfa/paul\nregion = x\ncredential_process = /usr/local/bin/credproc security\n", ""},
		{"a profile that is only in the registry", "dev", linkRegistry + "\n[profile dev]\nrole_arn = arn:aws:iam::444455556666:role/dev\nsource_profile = security\nregion = eu-west-1\n", "", "",
			linkRegistry + "\n[profile dev]\nrole_arn = arn:aws:iam::444455556666:role/dev\nsource_profile = security\nregion = eu-west-1\n",
			"[profile dev]\ncredential_process = /usr/local/bin/credproc dev\nregion = eu-west-1\n", ""},
		{"a source without a section", "security", linkRegistry, "", "", linkRegistry, "[profile security]\ncredential_process = /usr/local/bin/credproc security\n", ""},
		{"default", "default", linkRegistry, "[default]\nrole_arn = " + role + "\nsource_profile = security\n", "",
			linkRegistry + "\n[default]\nrole_arn = " + role + "\nsource_profile = security\n", "[default]\ncredential_process = /usr/local/bin/credproc default\n", ""},
		{"profile default", "default", linkRegistry, "[profile default]\nrole_arn = " + role + "\nsource_profile = security\n", "",
			linkRegistry + "\n[default]\nrole_arn = " + role + "\nsource_profile = security\n", "[profile default]\ncredential_process = /usr/local/bin/credproc default\n", ""},
		{"Identity Center", "admin", linkRegistry, "# top\n" + corpSession + "[profile admin]\n  sso_session = corp # mine\n  region = eu-west-1\n  sso_account_id = 444455556666\n  SSO_Role_Name=Admin\n", "",
			linkRegistry + "\n[profile admin]\nsso_session = corp # mine\nsso_account_id = 444455556666\nsso_role_name = Admin\n",
			"# top\n" + corpSession + "[profile admin]\n  credential_process = /usr/local/bin/credproc admin\n  region = eu-west-1\n", ""},
		{"Identity Center without a session", "old", linkRegistry, strings.Replace(legacyAdmin, "start/", "start/#", 1), "",
			linkRegistry + "\n[profile old]\nsso_start_url = https://Corp.awsapps.com/start/#\nsso_region = eu-west-1\nsso_account_id = 444455556666\nsso_role_name = Admin\n",
			"[profile old]\ncredential_process = /usr/local/bin/credproc old\n", ""},
		{"a console login", "me", linkRegistry, "[profile me]\nlogin_session = " + consoleUser + "\nregion = eu-west-1\n", "",
			linkRegistry + "\n[profile me]\nlogin_session = " + consoleUser + "\n",
			"[profile me]\ncredential_process = /usr/local/bin/credproc me\nregion = eu-west-1\n", ""},
		{"a web identity", "ci", linkRegistry, "[profile ci]\nrole_arn = " + role + "\nweb_identity_token_file = /run/token\nexternal_id = abc\n", "",
			linkRegistry + "\n[profile ci]\nrole_arn = " + role + "\nexternal_id = abc\nweb_identity_token_file = /run/token\n",
			"[profile ci]\ncredential_process = /usr/local/bin/credproc ci\n", ""},
		{"duplicate keys", "dev", linkRegistry, "[profile dev]\nrole_arn = x\nsource_profile = security\nregion = a\nrole_arn = " + role + "\n", "",
			made, "[profile dev]\ncredential_process = /usr/local/bin/credproc dev\nregion = a\n", ""},
	} {
		t.Run(tt.what, func(t *testing.T) {
			start := documents(tt.registry, tt.config, tt.credentials)
			docs := start
			out := mustRun(t, &docs, LinkOrder, linkPlan(tt.name))
			if len(out) != 1 || out[0].State != Changed {
				t.Fatalf("%+v", out)
			}
			want := documents(tt.registry2, tt.config2, tt.credentials2)
			want[RecordsDocument] = docs[RecordsDocument]
			if !same(docs, want) {
				t.Fatalf("got\n%s\nwant\n%s", docs.show(), want.show())
			}
			again := docs
			if out := mustRun(t, &again, LinkOrder, linkPlan(tt.name)); out[0].State != Unchanged || !same(docs, again) {
				t.Errorf("the second link changed the files again: %+v\n%s", out, again.show())
			}
			out = mustRun(t, &docs, UnlinkOrder, unlinkPlan(tt.name))
			if out[0].State != Changed || out[0].Note != "" {
				t.Errorf("%+v", out)
			}
			docs[RecordsDocument] = nil
			if !same(docs, start) {
				t.Errorf("unlink gave\n%s\nwant\n%s", docs.show(), start.show())
			}
			if out := mustRun(t, &docs, UnlinkOrder, unlinkPlan(tt.name)); out[0].State != Unchanged || !same(docs, start) {
				t.Errorf("unlinking twice: %+v", out)
			}
		})
	}
}

func TestLinkRefuses(t *testing.T) {
	const role = "role_arn = arn:aws:iam::444455556666:role/dev\nsource_profile = security\n"
	for _, tt := range []struct {
		what, name, registry, config, credentials string
		state, text                               string
	}{
		{"nobody", "nobody", "", "", "", Refused, "no profile"},
		{"SSO", "corp", "", "[profile corp]\nsso_session = x\n", "", Left, "there is no [sso-session x]"},
		{"a web identity without a role", "w", "", "[profile w]\nweb_identity_token_file = /x\n", "", Left, "no role_arn"},
		{"Identity Center and a console login", "w", "", corpSession + "[profile w]\nsso_session = corp\nsso_account_id = 444455556666\nsso_role_name = A\nlogin_session = " + consoleUser + "\n", "", Left, "has a login_session, which AWS tools use before"},
		{"Identity Center and an unknown key of it", "w", "", corpSession + "[profile w]\nsso_session = corp\nsso_account_id = 444455556666\nsso_role_name = A\nsso_new = x\n", "", Left, "has a sso_new, which makes AWS tools fail"},
		{"Identity Center and an empty key of it", "w", "", legacyAdmin + "[profile w]\nsso_session =\nsso_start_url = https://x.example\nsso_region = eu-west-1\nsso_account_id = 444455556666\nsso_role_name = A\n", "", Left, "has an empty sso_session"},
		{"Identity Center under the name of a source", "security", linkRegistry, corpSession + "[profile security]\nsso_session = corp\nsso_account_id = 444455556666\nsso_role_name = A\n", "", Left, "has a sso_session, which AWS tools use before"},
		{"another permission set in the registry", "admin", corpAdmin, corpSession + strings.Replace(corpAdmin, "Admin", "Reader", 1), "", Refused, "has another sso_role_name here than in the registry"},
		{"a role of another program", "w", "", "[profile w]\nrole_arn = arn:aws:iam::444455556666:role/dev\nsource_profile = p\n[profile p]\ncredential_process = /bin/other\n", "", Refused, "the source of profile \"w\" is another program"},
		{"credential_source", "w", "", "[profile w]\nrole_arn = arn:aws:iam::444455556666:role/dev\ncredential_source = Environment\n", "", Left, "credential_source"},
		{"another helper", "w", "", "[profile w]\ncredential_process = aws-vault exec x\n", "", Left, "config:2: "},
		{"plain keys", "w", "", "", "[w]\naws_access_key_id = AKIAIOSFODNN7EXAMPLE\naws_secret_access_key = x\n", Left, "credentials:2: the long-lived key"},
		{"region alone", "w", "", "[profile w]\nregion = x\n", "", Left, "no role_arn"},
		{"a source with its plain keys", "security", linkRegistry, "", "[security]\naws_access_key_id = AKIAIOSFODNN7EXAMPLE\naws_secret_access_key = x\n", Left, "plain text"},
		{"role of plain keys", "w", "", "[profile w]\n" + role, "[security]\naws_access_key_id = AKIAIOSFODNN7EXAMPLE\naws_secret_access_key = x\n", Refused, "credentials:2: the long-lived key"},
		{"role with keys beside", "w", linkRegistry, "[profile w]\n" + role, "[w]\naws_access_key_id = AKIAIOSFODNN7EXAMPLE\n", Refused, "credentials:2: the long-lived key"},
		{"half a key beside", "w", linkRegistry, "[profile w]\n" + role + "aws_secret_access_key = x\n", "", Refused, "config:4: the long-lived key"},
		{"session keys beside", "w", linkRegistry, "[profile w]\n" + role, "[w]\naws_access_key_id = ASIAIOSFODNN7EXAMPLE\naws_session_token = x\n", Refused, "another tool"},
		{"SSO beside", "w", linkRegistry, "[profile w]\n" + role + "sso_start_url = x\n", "", Refused, "sso_start_url"},
		{"another helper beside", "w", linkRegistry, "[profile w]\n" + role + "credential_process = /x\n", "", Refused, "config:4: "},
		{"another helper in the credentials file", "w", linkRegistry, "[profile w]\n" + role, "[w]\ncredential_process = /x\n", Refused, "credentials:2: "},
		{"no source", "w", "", "[profile w]\n" + role, "", Refused, "neither a source"},
		{"a cycle", "w", "", "[profile w]\nrole_arn = arn:aws:iam::444455556666:role/dev\nsource_profile = w\n", "", Refused, "loop"},
		{"not an ARN", "w", linkRegistry, "[profile w]\nrole_arn = x\nsource_profile = security\n", "", Refused, "config:2: role_arn"},
		{"two sections", "w", linkRegistry, "[profile w]\n" + role + "[profile w]\nregion = x\n", "", Refused, `config:4: "w" has a second section here, the first is at line 1`},
		{"two defaults", "default", linkRegistry, "[default]\n" + role + "[profile default]\nregion = x\n", "", Refused, "config:4: "},
		{"two in the credentials file", "w", linkRegistry, "[profile w]\n" + role, "[w]\n[w]\n", Refused, "credentials:2: "},
		{"another role in the registry", "w", linkRegistry + "[profile w]\nrole_arn = arn:aws:iam::444455556666:role/prod\nsource_profile = security\n", "[profile w]\n" + role, "", Refused, "config:2: profile \"w\" has another role_arn here than in the registry (/home/paul/.config/broker/config:4)"},
		{"more in the config", "w", linkRegistry + "[profile w]\n" + role, "[profile w]\n" + role + "external_id = abc\n", "", Refused, "another external_id"},
		{"ours without a definition", "w", "", "[profile w]\ncredential_process = credproc w\n", "", Refused, "no definition"},
		{"dollar in the name", "a$b", linkRegistry, "[profile a$b]\n" + role, "", Refused, "read it the same way"},
		{"percent in the name", "100%", linkRegistry, "[profile 100%]\n" + role, "", Refused, "read it the same way"},
		{"comment in the name", "a #b", linkRegistry, "[profile \"a #b\"]\n" + role, "", Refused, "read it the same way"},
		{"a section of another tool", "security", linkRegistry, "[default]\n[security]\nx = y\n", "", Left, "config:2: next to this section"},
		{"no section, and a name with a space", "a b", linkRegistry + "[profile \"a b\"]\n" + role, "", "", Refused, "how to write the name"},
	} {
		t.Run(tt.what, func(t *testing.T) {
			docs := documents(tt.registry, tt.config, tt.credentials)
			next, out, err := Link(linkFiles, docs, []string{tt.name}, credprocPath)
			if err != nil || len(out) != 1 {
				t.Fatal(out, err)
			}
			if out[0].State != tt.state || !strings.Contains(fmt.Sprint(out[0].Err), tt.text) {
				t.Errorf("%s: %v; want %s: …%s…", out[0].State, out[0].Err, tt.state, tt.text)
			}
			if !same(docs, next) {
				t.Errorf("refused, but the files changed:\n%s", next.show())
			}
		})
	}
	docs := documents("", "[a]\n\x00", "")
	if _, _, err := Link(linkFiles, docs, nil, credprocPath); !fault.Is(err, fault.Config) ||
		!strings.Contains(err.Error(), "config:2") {
		t.Error(err)
	}
}

// TestLinkAllLeavesOtherSources checks that a link of all profiles takes nothing from the AWS CLI's own logins that was
// not named, and keeps what was.
func TestLinkAllLeavesOtherSources(t *testing.T) {
	start := documents(linkRegistry+"[source console]\nlogin_session = "+consoleUser+"\n", corpSession+corpAdmin+legacyAdmin+
		"[profile me]\nlogin_session = "+consoleUser+"\nregion = eu-west-1\n[profile dev]\nrole_arn = "+account+"dev\nsource_profile = admin\n"+
		"[profile mine]\nrole_arn = "+account+"dev\nsource_profile = security\n", "")
	docs := start
	mustRun(t, &docs, LinkOrder, linkPlan("old"))
	all := func(d Documents) (Documents, []Outcome, error) { return Link(linkFiles, d, nil, credprocPath) }
	want := map[string]string{"admin": Left, "dev": Left, "me": Left, "old": Unchanged, "mine": Changed, "security": Changed, "console": Changed}
	for _, o := range mustRun(t, &docs, LinkOrder, all) {
		if o.State != want[o.Name] || o.State == Left && string(fault.Of(o.Err).Hint) != "broker profiles link "+o.Name {
			t.Errorf("%+v, want %s", o, want[o.Name])
		}
	}
	mustRun(t, &docs, UnlinkOrder, unlinkPlan())
	docs[RecordsDocument] = nil
	if !same(docs, start) {
		t.Errorf("unlink gave\n%s\nwant\n%s", docs.show(), start.show())
	}
}

// TestUnlinkAfterChanges checks what unlink restores if it cannot restore the original bytes.
func TestUnlinkAfterChanges(t *testing.T) {
	const role = "role_arn = arn:aws:iam::444455556666:role/dev\nsource_profile = security\n"
	replace := func(doc Document, old, text string) func(*Documents) {
		return func(d *Documents) {
			if !bytes.Contains(d[doc], []byte(old)) {
				panic(old)
			}
			d[doc] = bytes.Replace(d[doc], []byte(old), []byte(text), 1)
		}
	}
	for _, tt := range []struct {
		what           string
		config         string
		change         func(*Documents)
		want, registry string // the registry afterwards; "" means the given one without the profile
		note           string
	}{
		{"no records", "[profile dev]\n  region = x\n  " + strings.Replace(role, "\n", "\n  ", 1) + "# c\n", func(d *Documents) { d[RecordsDocument] = nil },
			"[profile dev]\n  region = x\n  " + strings.Replace(role, "\n", "\n  ", 1) + "# c\n", "", ""},
		{"records that are not JSON", "[profile dev]\nregion = x\n" + role, func(d *Documents) { d[RecordsDocument] = []byte("{") }, "[profile dev]\nregion = x\n" + role, "", ""},
		{"a key was added", "[profile dev]\nsource_profile=security\nrole_arn=arn:aws:iam::444455556666:role/dev", replace(ConfigDocument, "proc dev", "proc dev\noutput = json\n"),
			"[profile dev]\nsource_profile=security\nrole_arn=arn:aws:iam::444455556666:role/dev\noutput = json\n", "", ""},
		{"a key was changed", "[profile dev]\nregion = x\nsource_profile=security\nrole_arn=arn:aws:iam::444455556666:role/dev\n", replace(ConfigDocument, "= x", "= y"),
			"[profile dev]\nregion = y\n" + role, "", ""},
		{"the last line was continued", "[profile dev]\n" + role + "region = eu-west", replace(ConfigDocument, "eu-west", "eu-west-1"), "[profile dev]\n" + role + "region = eu-west-1", "", ""},
		{"another role in the registry", "[profile dev]\nsource_profile=security\nrole_arn=arn:aws:iam::444455556666:role/dev\nregion = x\n", replace(RegistryDocument, "role/dev", "role/other"),
			"[profile dev]\n" + strings.Replace(role, "role/dev", "role/other", 1) + "region = x\n", "", ""},
		{"a region in the registry", "[profile dev]\n" + role, replace(RegistryDocument, "role/dev\n", "role/dev\nregion = y # here\n"),
			"[profile dev]\n" + strings.Replace(role, "dev\n", "dev\nregion = y # here\n", 1), "", ""},
		{"a key of Broker's own", "[profile dev]\nsource_profile=security\nrole_arn=arn:aws:iam::444455556666:role/dev\n", replace(RegistryDocument, "role/dev\n", "role/dev\nmfa = each\n"),
			"[profile dev]\nsource_profile=security\nrole_arn=arn:aws:iam::444455556666:role/dev\n", linkRegistry + "\n[profile dev]\n" + strings.Replace(role, "dev\n", "dev\nmfa = each\n", 1), "mfa"},
		{"the definition is missing", "[profile dev]\n" + role, func(d *Documents) { d[RegistryDocument] = []byte(linkRegistry) }, "[profile dev]\n" + role, "", ""},
		{"a comment in the registry", "[profile dev]\n" + role, replace(RegistryDocument, "role/dev\n", "role/dev\n# mine\n"), "[profile dev]\n" + role, linkRegistry + "\n# mine\n", ""},
		{"something behind", "[profile dev]\nregion = x\n" + role[:len(role)-1], func(d *Documents) {
			d[ConfigDocument] = append(d[ConfigDocument], "\n\n[profile new]\nregion = z\n"...)
		},
			"[profile dev]\nregion = x\n" + role + "\n[profile new]\nregion = z\n", "", ""},
	} {
		t.Run(tt.what, func(t *testing.T) {
			docs := documents(linkRegistry, tt.config, "")
			mustRun(t, &docs, LinkOrder, linkPlan("dev"))
			tt.change(&docs)
			out := mustRun(t, &docs, UnlinkOrder, unlinkPlan())
			if len(out) != 1 || out[0].State != Changed || (out[0].Note == "") != (tt.note == "") ||
				!strings.Contains(out[0].Note, tt.note) {
				t.Errorf("%+v", out)
			}
			if string(docs[ConfigDocument]) != tt.want {
				t.Errorf("config\n%s\nwant\n%s", docs[ConfigDocument], tt.want)
			}
			if tt.registry == "" {
				tt.registry = linkRegistry
			}
			if string(docs[RegistryDocument]) != tt.registry {
				t.Errorf("registry\n%s\nwant\n%s", docs[RegistryDocument], tt.registry)
			}
		})
	}
}

// TestUnlinkCreated checks that unlink removes the sections that link created, whatever surrounds them now.
func TestUnlinkCreated(t *testing.T) {
	registry := linkRegistry + "\n[profile dev]\nrole_arn = arn:aws:iam::444455556666:role/dev\nsource_profile = security\n"
	for _, config := range []string{"", "\n", "[default]\nregion = x", "[default]\nregion = x\n", "[default]\r\nregion = x\r\n\r\n", "# c", "\xef\xbb\xbf", "\xef\xbb\xbf# c\n\n\n"} {
		docs := documents(registry, config, "")
		mustRun(t, &docs, LinkOrder, linkPlan())
		if n := bytes.Count(docs[ConfigDocument], []byte("credproc")); n != 2 {
			t.Fatalf("%d linked\n%s", n, docs.show())
		}
		linked := docs
		mustRun(t, &docs, UnlinkOrder, unlinkPlan())
		if string(docs[ConfigDocument]) != config || string(docs[RegistryDocument]) != registry {
			t.Errorf("%q: unlink gave %q, registry %q", config, docs[ConfigDocument], docs[RegistryDocument])
		}
		docs = linked
		docs[ConfigDocument] = append(bytes.Clone(docs[ConfigDocument]), "\n[profile later]\nregion = y\n"...)
		mustRun(t, &docs, UnlinkOrder, unlinkPlan())
		got, want := nonBlank(docs[ConfigDocument]), nonBlank([]byte(config+"\n[profile later]\nregion = y\n"))
		if got != want {
			t.Errorf("%q: with a section after it, unlink gave %q", config, docs[ConfigDocument])
		}
	}
}

// nonBlank returns the lines that are not blank.
func nonBlank(b []byte) string {
	var out []string
	for line := range strings.Lines(string(bytes.TrimPrefix(b, byteOrderMark))) {
		if line = strings.TrimRight(line, "\r\n"); strings.TrimSpace(line) != "" {
			out = append(out, line)
		}
	}
	return strings.Join(out, "\n")
}

// TestLinkCorrectsOldHelper checks that link corrects an old path or name of the helper, and still knows the
// original.
func TestLinkCorrectsOldHelper(t *testing.T) {
	const config = "[profile dev]\nregion = x\nsource_profile=security\nrole_arn=arn:aws:iam::444455556666:role/dev\n# c\n"
	docs := documents(linkRegistry, config, "")
	old := func(d Documents) (Documents, []Outcome, error) { return Link(linkFiles, d, nil, "/old place/credproc") }
	mustRun(t, &docs, LinkOrder, old)
	if !bytes.Contains(docs[ConfigDocument], []byte("credential_process = \"/old place/credproc\" dev\n")) {
		t.Fatal(docs.show())
	}
	if out := mustRun(t, &docs, LinkOrder, linkPlan("dev")); out[0].State != Changed {
		t.Errorf("%+v", out)
	}
	if !bytes.Contains(docs[ConfigDocument], []byte("credential_process = /usr/local/bin/credproc dev\n")) {
		t.Fatal(docs.show())
	}
	mustRun(t, &docs, UnlinkOrder, unlinkPlan())
	if string(docs[ConfigDocument]) != config {
		t.Error(docs.show())
	}

	byHand := linkRegistry + "[profile dev]\nrole_arn = arn:aws:iam::444455556666:role/dev\nsource_profile = security\n"
	for _, tt := range [][2]string{
		{`"/usr/local/bin/credproc" dev`, `"/usr/local/bin/credproc" dev`}, // superfluous quotes are no reason to rewrite the line
		{`/usr/local/bin/credproc --profile dev`, `/usr/local/bin/credproc --profile dev`},
		{"credproc dev # mine", "/usr/local/bin/credproc dev"},
		{`/usr/local/bin/credproc other`, `/usr/local/bin/credproc dev`},
	} {
		docs := documents(byHand, "[profile dev]\ncredential_process = "+tt[0]+"\nregion = x\n", "")
		mustRun(t, &docs, LinkOrder, linkPlan("dev"))
		comment := ""
		if strings.Contains(tt[0], "#") { // botocore reads the comment as part of the command
			comment = "# mine\n"
		}
		if want := "[profile dev]\n" + comment + "credential_process = " + tt[1] + "\nregion = x\n"; string(docs[ConfigDocument]) != want {
			t.Errorf("%q: got\n%s\nwant\n%s", tt[0], docs[ConfigDocument], want)
		}
		mustRun(t, &docs, UnlinkOrder, unlinkPlan("dev"))
		if want := "[profile dev]\n" + comment + "role_arn = arn:aws:iam::444455556666:role/dev\nsource_profile = security\nregion = x\n"; string(docs[ConfigDocument]) != want {
			t.Errorf("%q: unlink gave\n%s", tt[0], docs[ConfigDocument])
		}
	}

	// A profile that was pointed at another profile by hand stays that way.
	docs = documents(byHand+"[alias]\nd = dev\n", "[profile short]\ncredential_process = /old/credproc d\n", "")
	mustRun(t, &docs, LinkOrder, linkPlan("short"))
	if string(docs[ConfigDocument]) != "[profile short]\ncredential_process = /usr/local/bin/credproc d\n" {
		t.Error(docs.show())
	}
	if _, out, _ := Unlink(linkFiles, docs, []string{"short"}); out[0].State != Left {
		t.Errorf("%+v", out)
	}
}

// TestLinkBesideTrustedDirectory: a section [directory PATH] of the registry is not part of what a profile resolves to.
func TestLinkBesideTrustedDirectory(t *testing.T) {
	const config = "[profile dev]\nrole_arn = arn:aws:iam::444455556666:role/dev\nsource_profile = security\n"
	docs := documents(linkRegistry+"\n[directory /src/infra]\nsha256 = "+strings.Repeat("0", 64)+"\n", config, "")
	if out := mustRun(t, &docs, LinkOrder, linkPlan("dev")); len(out) != 1 || out[0].State != Changed {
		t.Errorf("%+v", out)
	}
	mustRun(t, &docs, UnlinkOrder, unlinkPlan("dev"))
	if string(docs[ConfigDocument]) != config {
		t.Error(docs.show())
	}
}
