package accounts

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"broker/internal/fault"
	"broker/internal/partition"
)

// TestGolden reads each map in testdata and compares the resulting profiles. The first lines, which begin with ";
// ", are template, user and roles.
func TestGolden(t *testing.T) {
	maps, err := filepath.Glob("testdata/*.ini")
	if err != nil || len(maps) < 3 {
		t.Fatal(maps, err)
	}
	for _, file := range maps {
		t.Run(filepath.Base(file), func(t *testing.T) {
			src, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			n := Naming{User: "paul"}
			if template, ok := strings.CutPrefix(strings.SplitN(string(src), "\n", 2)[0], "; template "); ok {
				n.Template = template
			}
			got := goldenOf(t, file, src, n)
			// A copy with a BOM and CRLF, as editors on Windows write it, is the same map.
			if crlf := goldenOf(t, file, []byte("\ufeff"+strings.ReplaceAll(string(src), "\n", "\r\n")), n); crlf != got {
				t.Errorf("with CRLF: %s", crlf)
			}
			want, err := os.ReadFile(strings.TrimSuffix(file, ".ini") + ".golden")
			if err != nil || got != string(want) {
				t.Errorf("%v: got\n%s", err, got)
			}
		})
	}
}

func goldenOf(t *testing.T, file string, src []byte, n Naming) string {
	m, err := Parse(file, src)
	if err != nil {
		t.Fatal(err)
	}
	list, err := m.Profiles(n)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "label %s product %s source %s\n", m.Label, m.Product, m.Source)
	for _, p := range list {
		fmt.Fprintln(
			&b,
			strings.TrimSpace(
				strings.Join(
					[]string{p.Name, p.Account, p.AccountID, p.RoleARN, p.Region, p.ExternalID, p.Duration, p.MFASerial},
					" ",
				),
			),
		)
	}
	return b.String()
}

const goodID = "id = 222233334444\n"

// TestHostileMaps: rejected maps, with the line of the error.
func TestHostileMaps(t *testing.T) {
	account := "[dev]\n" + goodID + "roles = admin\n"
	tests := []struct {
		src  string
		line int // 0 if there is none
		want string
	}{
		// code, endpoints, secrets
		{account + "credential_process = /bin/sh -c id\n", 4, "no code"},
		{account + "CREDENTIAL_PROCESS = x\n", 4, "no code"},
		{account + "mfa_process = x\n", 4, "no code"},
		{account + "endpoint_url = https://evil.example\n", 4, "no endpoint"},
		{account + "sts_endpoint = https://evil.example\n", 4, "no endpoint"},
		{account + "services = evil\n", 4, "no code"},
		{account + "ca_bundle = /tmp/ca\n", 4, "no code"},
		{account + "sts_regional_endpoints = legacy\n", 4, "no endpoint"},
		{account + "web_identity_token_file = /etc/passwd\n", 4, "no secret"},
		{account + "aws_access_key_id = AKIA\n", 4, "no secret"},
		{account + "aws_secret_access_key = x\n", 4, "no secret"},
		{account + "aws_session_token = x\n", 4, "no secret"},
		{account + "mfa_seed = keyring\n", 4, "no secret"},
		{account + "sso_start_url = https://x\n", 4, "no code"},
		{account + "source_profile = other\n", 4, "no code"},
		{account + "credential_source = Environment\n", 4, "no code"},
		{account + "confirm = never\n", 4, "no code"},
		{account + "https_proxy = http://evil\n", 4, "no code"},
		{"mfa_process = x\n" + account, 1, "no code"},
		{"catalog = git@evil:x\n" + account, 1, "no code"},
		{account + "[services evil]\nsts = x\n", 4, "cannot be called"},
		{account + "[settings]\nkeyring_backend = file\n", 5, "no code"},
		// keys
		{account + "rolse = x\n", 4, `"rolse" is not known in [dev]; known keys are id,`},
		{account + "Region = eu-west-1\n", 4, "is not known"},
		{account + "- = x\n", 4, "is not known"},
		{"id = 222233334444\n" + account, 1, "is not known before the first section"},
		{account + "roles = other\n", 4, "is set twice"},
		{account + "roles = admin\n", 4, "is set twice"},
		{account + "region\n", 4, "is not"},
		{account + "`a b` = x\n", 4, "is not known"},
		// names
		{"[$(touch /tmp/x)]\n" + goodID, 1, "cannot be called"},
		{"[a`id`]\n" + goodID, 1, "cannot be called"},
		{"[a;b]\n" + goodID, 1, "cannot be called"},
		{"[a b]\n" + goodID, 1, "cannot be called"},
		{"[../../x]\n" + goodID, 1, "cannot be called"},
		{"[-rf]\n" + goodID, 1, "cannot be called"},
		{"[a]b]\n" + goodID, 1, ""},
		{"[default]\n" + goodID, 1, "not default"},
		{"[DEFAULT]\n" + goodID, 0, ""},
		{"[" + strings.Repeat("x", 65) + "]\n" + goodID, 1, "cannot be called"},
		{"[]\n" + goodID, 0, ""},
		{"[dev\n" + goodID, 0, ""},
		{"[ünï]\n" + goodID, 1, "cannot be called"},
		{"[a\x1b[2J]\n" + goodID, 1, "not text"},
		{"[a\x00]\n" + goodID, 1, "not text"},
		{"[dev]\n" + goodID + "environment = a\xff\n", 3, "not text"},
		{"[dev]\n" + goodID + "environment = $(id)\n", 3, "is not a word"},
		{"product = a b\n" + account, 1, "is not a word"},
		{"source = -x\n" + account, 1, "is not the name"},
		// values
		{"[dev]\nroles = x\n", 1, "has no id"},
		{"[dev]\nid = 1234\n", 2, "twelve digits"},
		{"[dev]\nid = 22223333444a\n", 2, "twelve digits"},
		{"[dev]\nid = 2222 3333 4444\n", 2, "twelve digits"},
		{"[dev]\nid = \"222233334444\"\n", 2, "twelve digits"},
		{"[dev]\n" + goodID + "region = eu-west-1.evil.example/\n", 3, "name of a region"},
		{"[dev]\n" + goodID + "region = %(id)s\n", 3, "name of a region"},
		{"region = ../x\n" + account, 1, "name of a region"},
		{"[dev]\n" + goodID + "partition = aws-evil\n", 3, "is not aws,"},
		{"[dev]\n" + goodID + "partition = aws-cn\nregion = eu-west-1\n", 1, "in another"},
		{"[dev]\n" + goodID + "roles = a b\n", 3, "invalid role"},
		{"[dev]\n" + goodID + "roles = admin, $(id)\n", 3, "invalid role"},
		{"[dev]\n" + goodID + "roles = arn:aws:iam::999999999999:role/admin\n", 3, "another account"},
		{"[dev]\n" + goodID + "roles = arn:aws-cn:iam::222233334444:role/admin\n", 3, "another account"},
		{"[dev]\n" + goodID + "roles = arn:aws:iam::222233334444:user/admin\n", 3, "invalid role"},
		{"roles = a/../..//b\n[dev]\n" + goodID, 1, "invalid role"},
		{"[dev]\n" + goodID + "roles = " + strings.Repeat("a,", 101) + "\n", 3, "more than 100"},
		{"[dev]\n" + goodID + "external_id = a'b\"c\n", 3, "is not 2 to"},
		{"[dev]\n" + goodID + "mfa_serial = x\n", 3, "serial"},
		{"[dev]\n" + goodID + "mfa = yes\n", 3, "neither required nor optional"},
		{"mfa = no\n" + account, 1, "neither required nor optional"},
		{"[dev]\n" + goodID + "duration_seconds = 1e3\n", 3, "whole number"},
		{"[dev]\n" + goodID + "duration_seconds = 86400\n", 3, "whole number"},
		{"[dev]\n" + goodID + "environment = \"\"\"a\nb\"\"\"\n", 4, "is not"},
		{"template = {evil}\n" + account, 1, "placeholders"},
		{"template = $(id){env}\n" + account, 1, "a template consists of"},
		// the whole map
		{account + "[dev]\nid = 333344445555\n", 4, `account "dev" is defined twice, first at accounts.ini:1`},
		{account + "[stage]\n" + goodID, 4, "id 222233334444 is defined twice, first at accounts.ini:1"},
		{"", 0, "a section for each account"},
		{"product = x\n", 0, "a section for each account"},
		{"<html>not found</html>\n", 0, ""},
		{strings.Repeat("[dev]\n"+goodID, 10<<20/24), 0, "at most"},
	}
	if len(tests) < 60 {
		t.Fatalf("only %d maps", len(tests))
	}
	for _, tt := range tests {
		m, err := Parse("accounts.ini", []byte(tt.src))
		f := fault.Of(err)
		short := fmt.Sprintf("%.80q", tt.src)
		if f == nil {
			t.Errorf("%s was accepted: %+v", short, m)
			continue
		}
		origin := "accounts.ini:"
		if tt.line > 0 {
			origin = fmt.Sprintf("accounts.ini:%d:", tt.line)
		}
		if f.Kind != fault.Config || !strings.HasPrefix(f.Message, origin) || !strings.Contains(f.Message, tt.want) {
			t.Errorf("%s: %s: %s; want %s … %s", short, f.Kind, f.Message, origin, tt.want)
		}
		if f.Error() != f.Message || len(f.Message) > 400 {
			t.Errorf("%s: not one short printable line: %q", short, f.Message)
		}
	}
}

// TestLargeMaps: maps of the maximum size are read in linear time; "lines" kept gopkg.in/ini.v1 busy for minutes.
func TestLargeMaps(t *testing.T) {
	for what, src := range map[string]string{
		"sections": strings.Repeat("[a]\n", maxSize/4), "keys": "[a]\n" + strings.Repeat("id=\n", maxSize/4-1), "roles": "[a]\n" + goodID + "roles=" + strings.Repeat("a,", maxSize/2-20),
		"lines": "[a]\nid = \"\"\"" + strings.Repeat("\n", maxSize-20), "one line": "[a]\nid = " + strings.Repeat("x", maxSize-20),
	} {
		if _, err := Parse("accounts.ini", []byte(src)); !fault.Is(err, fault.Config) || len(src) > maxSize {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestNames(t *testing.T) {
	const two = "product = p\n[dev]\nid = 222233334444\nroles = admin, team/read-only\n[prod]\nid = 444455556666\nroles = admin\n"
	tests := []struct {
		src, template, user, roles, want string
	}{
		{two, "", "paul", "", "p_dev_paul p_dev_paul_read-only p_prod_paul"},
		{two, "{account}-{role}", "", "", "dev-admin dev-read-only prod-admin"},
		{two, "{account}", "", "", "dev dev_read-only prod"},
		{two, "x{id}", "", "other", "x222233334444 x444455556666"},
		{"template = {env}.{role}\n" + two, "", "", "", "dev.admin dev.read-only prod.admin"},
		{two, "", "", "", `error: the template needs {user}, but account "dev" has no value for it`},
		{two, "{region}", "", "", `error: the template needs {region}, but account "dev" has no value for it`},
		{two, "{user}", "paul", "admin", `error: admin of account "dev" and admin of account "prod" would both be called paul; a template with {account} tells them apart`},
		{strings.ReplaceAll(two, "team/", "admin, team/"), "{env}_{role}", "", "", `error: admin of account "dev" and admin of account "dev" would both be called dev_admin; a template with {role} tells them apart`},
		{two, "plain", "", "", `error: the template "plain" has no placeholder, so all profiles would have the same name`},
		{two, "{env", "", "", `error: a template has the placeholders {product} {env} {account} {id} {role} {user} {region}, unlike "{env"`},
		{two, "-{env}", "", "", `error: a name begins with a letter or a digit, unlike "-{env}"`},
		{two, "{env}]", "", "", `error: a template consists of letters, digits, _.@+=,- and placeholders, unlike "{env}]"`},
		{two, "{env}", "", "a b", `error: accounts.ini:2: account "dev": roles names an invalid role "a b"`},
		{"[dev]\nid = 222233334444\n", "{env}", "", "", `error: accounts.ini:1: account "dev" names no roles`},
	}
	for _, tt := range tests {
		m, err := Parse("accounts.ini", []byte(tt.src))
		if err != nil {
			t.Fatal(err)
		}
		n := Naming{Template: tt.template, User: tt.user}
		if tt.roles != "" {
			n.Roles = strings.Split(tt.roles, ",")
		}
		list, err := m.Profiles(n)
		var names []string
		for _, p := range list {
			names = append(names, p.Name)
		}
		got := strings.Join(names, " ")
		if err != nil {
			got = "error: " + err.Error()
		}
		if got != tt.want {
			t.Errorf("template %q: got %s, want %s", tt.template, got, tt.want)
		}
	}
}

func TestOrganization(t *testing.T) {
	m := OfOrganization("product_mgmt_paul", "aws", "eu-west-1", []Listed{
		{"111122223333", "Security"}, {"222233334444", "My  Dev (old) "}, {"333344445555", "$(touch /tmp/x)"},
		{"444455556666", "same"}, {"555566667777", "SAME"}, {"666677778888", "日本"}, {"777788889999", ""}, {"888899990000", "default"},
		{"012345678901", strings.Repeat("é x", 100)},
	})
	list, err := m.Profiles(Naming{Template: "{account}", Roles: []string{OrganizationRole}})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, p := range list {
		names = append(names, p.Name)
		if !Word(p.Name) {
			t.Errorf("%q is not a word", p.Name)
		}
	}
	if got := strings.Join(names[:8], " "); got != "security my-dev-old touch-tmp-x same-444455556666 same-555566667777 666677778888 777788889999 default-888899990000" {
		t.Errorf("names %s", got)
	}
	if m.Label != "org-product_mgmt_paul" || m.Source != "product_mgmt_paul" || list[8].RoleARN != "arn:aws:iam::012345678901:role/OrganizationAccountAccessRole" {
		t.Errorf("map %+v", m)
	}
}

func TestUserOf(t *testing.T) {
	for arn, want := range map[string]string{
		"arn:aws:iam::111122223333:mfa/paul": "paul", "arn:aws-cn:iam::111122223333:u2f/user/li/key-1": "key-1", "GAHT12345678": "",
		"arn:aws:iam::111122223333:user/team/paul@example.com": "paul@example.com", "arn:aws:iam::111122223333:mfa/a b": "", "arn:aws:iam::1:root": "", "": "",
		"arn:aws:sts::111122223333:assumed-role/x/y": "",
	} {
		if got := UserOf(arn); got != want {
			t.Errorf("%q: %q", arn, got)
		}
	}
}

// FuzzParse: accepted maps have only values of the required form.
func FuzzParse(f *testing.F) {
	f.Add([]byte("product = p\nsource=s\n[dev]\nid = 222233334444\nroles = a, b/c\nregion = eu-west-1\n"))
	f.Add([]byte("[a]\nid: 000000000001 ; x\nroles = arn:aws:iam::000000000001:role/x\n"))
	f.Add([]byte("x = \"\"\"\n[a]\n\"\"\"\n[`b`]\n[a.b]\nid = %(id)s\\\n"))
	name := regexp.MustCompile(`^[A-Za-z0-9_.@+=,-]+$`)
	arn := regexp.MustCompile(`^arn:aws(-cn|-us-gov)?:iam::[0-9]{12}:role/[A-Za-z0-9_+=,.@/-]+$`)
	f.Fuzz(func(t *testing.T, src []byte) {
		m, err := Parse("accounts.ini", src)
		if err != nil {
			if k := fault.Of(err).Kind; k != fault.Config {
				t.Errorf("kind %s: %v", k, err)
			}
			return
		}
		list, err := m.Profiles(Naming{Template: "{env}_{role}_{id}"})
		if err != nil {
			return
		}
		for _, p := range list {
			if !name.MatchString(p.Name) || p.Name[0] == '-' || !arn.MatchString(p.RoleARN) ||
				strings.ContainsAny(p.Region+p.ExternalID+p.Duration+p.MFASerial, "\n\r\x00 $`'\"") {
				t.Errorf("%q gave %+v", src, p)
			}
		}
	})
}

// TestPartitionsOfAMap: a map may use every known partition, and no other.
func TestPartitionsOfAMap(t *testing.T) {
	for _, id := range append(partition.IDs(), "aws-moon") {
		_, known := partition.Find(id)
		m, err := Parse("accounts.ini", []byte("[dev]\nid = 222233334444\nroles = r\npartition = "+id+"\n"))
		if (err == nil) != known || known && m.Accounts[0].Partition != id {
			t.Errorf("%s: %v", id, err)
		}
	}
}

// TestRequiredMFA: the value of an account wins over the one before the first section.
func TestRequiredMFA(t *testing.T) {
	m, err := Parse("x.ini", []byte("mfa = required\n[a]\nid = 111122223333\n[b]\nid = 222233334444\nmfa = optional\n"))
	if err != nil || m.Accounts[0].MFA != "required" || m.Accounts[1].MFA != "optional" {
		t.Errorf("%+v, %v", m, err)
	}
}

// TestPortalNames: names of accounts are any text, and become words. Accounts of one name keep apart by their IDs. Two
// profiles of one name are an error that names both.
func TestPortalNames(t *testing.T) {
	const a, b = "111122223333", "444455556666"
	m := OfPortal("my-sso", "aws", "", []Assigned{{a, "Prod ]\n[profile x]\ncredential_process = evil", "Admin"},
		{b, "\x1b[31m", "Admin"}, {a, "ignored", "Read"}})
	list, err := m.Profiles(Naming{})
	var names []string
	for _, p := range list {
		names = append(names, p.Name+" "+p.AccountID+" "+p.Role())
	}
	want := "prod-profile-x-credential_process-evil-Admin " + a + " Admin, prod-profile-x-credential_process-evil-Read " + a +
		" Read, 31m-Admin " + b + " Admin"
	if got := strings.Join(names, ", "); err != nil || got != want || m.Label != "sso-my-sso" {
		t.Errorf("%s: %q, %v; want %q", m.Label, got, err, want)
	}
	same, err := OfPortal("my-sso", "aws", "", []Assigned{{a, "Prod", "Admin"}, {b, "prod!", "Admin"}}).Profiles(Naming{})
	if err != nil || same[0].Name != "prod-"+a+"-Admin" || same[1].Name != "prod-"+b+"-Admin" {
		t.Errorf("%+v, %v", same, err)
	}
	_, err = OfPortal("my-sso", "aws", "", []Assigned{{a, "a", "b-c"}, {b, "a-b", "c"}}).Profiles(Naming{})
	if err == nil || !strings.Contains(err.Error(), `b-c of account "a" and c of account "a-b" would both be called a-b-c`) ||
		!strings.Contains(err.Error(), "{id}") {
		t.Errorf("one name for two: %v", err)
	}
	if m := OfPortal("https://demo.awsapps.com/start", "aws", "", nil); m.Label != "sso-https-demo-awsapps-com-start" {
		t.Errorf("the label is %q", m.Label)
	}
}
