package stssim

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestDemo(t *testing.T) {
	org := Demo()
	ids := map[string]string{"security": "111122223333", "dev": "222233334444", "stage": "333344445555", "prod": "444455556666", "mgmt": "555566667777"}
	for _, account := range org.Accounts {
		if ids[account.Name] != account.ID {
			t.Errorf("account %s has id %s", account.Name, account.ID)
		}
		delete(ids, account.Name)
	}
	if len(ids) > 0 {
		t.Errorf("missing accounts: %v", ids)
	}
	if org.Device(paulSerial) == nil || org.User("security", "paul") == nil {
		t.Error("paul or his device is missing")
	}
}

func TestOrganizationFile(t *testing.T) {
	text := `
[settings]
session_lifetime = 3s
new_key_delay    = 10s
new_key_flaps    = true
accounts_per_page = 2
login_mfa = true
[mfa token]
account = cn
user    = li
seed    = gezd gnbv gy3t qojq gezd gnbv gy3t qojq
serial  = GAHT12345678
[mfa phone]
account = cn
user = li
seed = GEZDGNBVGY3TQOJQ
[account cn]
id        = 123456789012
partition = aws-cn
[user li]
account = cn
deny    = iam:*, sts:AssumeRole arn:aws-cn:iam::123456789012:role/x/*
access_key_id     = AKIALILILILILILILILI
secret_access_key = 0123456789012345678901234567890123456789
[role jump]
accounts = cn
path     = /x/
trust    = arn:aws-cn:iam::123456789012:user/li, arn:aws-cn:iam::123456789012:role/other
max_session_duration = 2h
[role land]
accounts    = cn
require_mfa = true
external_id = 42
`
	name := filepath.Join(t.TempDir(), "org.ini")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	org, err := LoadOrganization(name)
	if err != nil {
		t.Fatal(err)
	}
	if org.Settings != (Settings{3 * time.Second, 10 * time.Second, true, 2, true}) {
		t.Errorf("settings %+v", org.Settings)
	}
	if org.Device("GAHT12345678") == nil || org.Device("arn:aws-cn:iam::123456789012:mfa/phone") == nil {
		t.Errorf("devices %+v", org.Devices)
	}
	if len(org.Roles) != 2 || len(org.Roles[0].Trust) != 2 || org.Roles[0].MaxSessionDuration != 2*time.Hour ||
		!org.Roles[1].RequireMFA ||
		org.Roles[1].ExternalID != "42" {
		t.Errorf("roles %+v", org.Roles)
	}
	if deny := org.User("cn", "li").Deny; len(deny) != 2 {
		t.Errorf("deny %q", deny)
	}
	sim, err := New(org)
	if err != nil {
		t.Fatal(err)
	}
	li := caller{sim: sim, keys: keysOf(org.Users[0].Keys[0])}
	if arn := li.call("GetCallerIdentity").field("Arn"); arn != "arn:aws-cn:iam::123456789012:user/li" {
		t.Errorf("identity %s", arn)
	}
}

func TestBadOrganizations(t *testing.T) {
	account := "[account a]\nid = 123456789012\n"
	user := "[user u]\naccount = a\n"
	tests := []struct{ name, text, want string }{
		{"no ini", "[account", "unclosed section"},
		{"loose key", "a = b\n", "want [account NAME]"},
		{"unknown section", "[group x]\n", "no such kind of section"},
		{"no name", "[account]\n", "want [account NAME]"},
		{"unknown key", "[account a]\nid = 123456789012\nregion = x\n", "no such key: region"},
		{"short id", "[account a]\nid = 12\n", "not 12 digits"},
		{"partition", account + "partition = mars\n", "no such partition"},
		{"account twice", account + account, "twice"},
		{"user without account", "[user u]\n", "no such account"},
		{"user twice", account + user + user, "twice"},
		{"short key", account + user + "access_key_id = AKIA\n", "16 capitals"},
		{"key twice", account + user + "access_key_id = AKIALILILILILILILILI\nsecret_access_key = 0123456789012345678901234567890123456789\n[user v]\naccount = a\naccess_key_id = AKIALILILILILILILILI\nsecret_access_key = 0123456789012345678901234567890123456789\n", "twice"},
		{"device of nobody", account + "[mfa d]\naccount = a\nuser = x\nseed = AAAA\n", "no such user"},
		{"bad seed", account + user + "[mfa d]\naccount = a\nuser = u\nseed = 0189\n", "not base32"},
		{"no seed", account + user + "[mfa d]\naccount = a\nuser = u\n", "not base32"},
		{"role without account", "[role r]\naccounts = b\n", "no such account"},
		{"role twice", account + "[role r]\naccounts = a, a\n", "twice"},
		{"bad path", account + "[role r]\naccounts = a\npath = x\n", "slash"},
		{"long role", account + "[role r]\naccounts = a\nmax_session_duration = 13h\n", "not between"},
		{"bad duration", account + "[role r]\naccounts = a\nmax_session_duration = long\n", "want a time"},
		{"bad flag", account + "[role r]\naccounts = a\nrequire_mfa = perhaps\n", "want true or false"},
		{"bad trust", account + "[role r]\naccounts = a\ntrust = everybody\n", "not the ARN"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if _, err := ParseOrganization([]byte(test.text)); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
	if _, err := LoadOrganization("/does/not/exist"); err == nil {
		t.Error("a missing file is no error")
	}
}

func FuzzOrganization(f *testing.F) {
	f.Add(demoFile)
	f.Fuzz(func(t *testing.T, text []byte) {
		if org, err := ParseOrganization(text); err == nil {
			if _, err := New(org); err != nil {
				t.Errorf("parsed, but not played: %v", err)
			}
		}
	})
}

func TestWildcard(t *testing.T) {
	tests := []struct {
		pattern, text string
		want          bool
	}{
		{"iam:*", "iam:CreateAccessKey", true},
		{"iam:*", "sts:AssumeRole", false},
		{"*", "arn:aws:iam::1:role/a/b", true},
		{"arn:aws:iam::1:role/*", "arn:aws:iam::1:role/a/b", true},
		{"arn:aws:iam::1:role/*/b", "arn:aws:iam::1:role/a/b", true},
		{"a[b]*", "a[b]c", true},
		{`a\*`, `a\b`, true},
		{"a", "ab", false},
	}
	for _, test := range tests {
		if got := wildcard(test.pattern, test.text); got != test.want {
			t.Errorf("%s on %s: %v", test.pattern, test.text, got)
		}
	}
}

// The test vectors of RFC 6238, appendix B, truncated to six digits.
func TestCodes(t *testing.T) {
	device := Device{Seed: "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"}
	for at, want := range map[int64]string{59: "287082", 1111111109: "081804", 1111111111: "050471", 1234567890: "005924", 2000000000: "279037", 20000000000: "353130"} {
		if got, err := device.Code(time.Unix(at, 0)); err != nil || got != want {
			t.Errorf("at %d: %s, %v, want %s", at, got, err, want)
		}
	}
}
