//go:build unix

package profiles

import (
	"strings"
	"testing"
)

// TestAdviceOnBypassedGuards: a guard of a profile whose role AWS tools assume themselves is reported, and only there.
func TestAdviceOnBypassedGuards(t *testing.T) {
	const role = "role_arn = " + account + "a\nsource_profile = "
	const linked = "[profile security]\ncredential_process = /bin/credproc security\n"
	const bypassed = " of dev counts only if Broker is asked for it: AWS tools assume this role themselves, with all its " +
		"rights, and nobody is asked; to end that: broker profiles link dev"
	for name, c := range map[string]struct{ config, credentials, registry, want string }{
		"guarded":          {linked + "[profile dev]\n" + role + "security\nproduction = true\n", "", "", "/config:4: the guard" + bypassed},
		"read-only":        {linked + "[profile dev]\n" + role + "security\nread_only = true\n", "", "", "/config:4: read_only" + bypassed},
		"both":             {linked + "[profile dev]\n" + role + "security\nread_only = true\nconfirm = first\n", "", "", "/config:4: the guard and read_only" + bypassed},
		"in the registry":  {linked + "[profile dev]\n" + role + "security\n", "", "[profile dev]\n" + role + "security\nconfirm = first\n", "/config:4: the guard" + bypassed},
		"published source": {"[profile dev]\n" + role + "security\nread_only = true\n", "[security]\naws_access_key_id = ASIAIOSFODNN7EXAMPLE\naws_secret_access_key = x\naws_session_token = x\n", "", "/config:2: read_only" + bypassed},
		"of a role": {linked + "[profile dev]\n" + role + "inner\nread_only = true\n[profile inner]\n" + role + "security\n", "", "",
			"/config:4: read_only" + bypassed},
		"no guard":      {linked + "[profile dev]\n" + role + "security\nproduction = false\nconfirm = never\n", "", "", ""},
		"no way":        {"[profile dev]\n" + role + "security\nproduction = true\n", "", "", ""}, // AWS tools have no keys
		"of the source": {linked + "production = true\n[profile dev]\n" + role + "security\n", "", "", ""},
		"linked":        {linked + "[profile dev]\ncredential_process = /bin/credproc dev\nread_only = true\n", "", "[profile dev]\n" + role + "security\n", ""},
	} {
		set := load(t, c.config, c.credentials, sourceSection+c.registry)
		if _, err := set.Resolve("dev"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, got := range [][]Warning{set.Advice(), set.Advice("security", "dev", "dev")} {
			if text := lines(got); text != c.want {
				t.Errorf("%s: %s", name, text)
			}
		}
		for _, sum := range set.List() {
			if sum.Name == "dev" && sum.Bypassed != c.want {
				t.Errorf("%s: listed with %q", name, sum.Bypassed)
			}
		}
	}
}

// TestAdviceOnGuardsOfOtherSources: AWS tools log in to Identity Center and to the console themselves, read the token
// of a web identity, and run a program.
func TestAdviceOnGuardsOfOtherSources(t *testing.T) {
	for what, keys := range map[string]string{
		"a permission set": "sso_session = corp\nsso_account_id = 444455556666\nsso_role_name = Admin\n",
		"a console login":  "login_session = " + consoleUser + "\nregion = eu-west-1\n",
		"a web identity":   "web_identity_token_file = /token\nrole_arn = " + account + "x\n",
		"a program":        "credential_process = /bin/other\n",
	} {
		config := corpSession + "[profile dev]\n" + keys
		if list := load(t, config, "", "").Advice("dev"); len(list) > 0 {
			t.Errorf("%s without a guard: %v", what, list)
		}
		for _, guard := range []string{"production = true\n", "confirm = always\n"} {
			list := load(t, config+guard, "", "").Advice("dev")
			if len(list) != 1 || list[0].Origin != (Origin{"/config", 5}) || !strings.Contains(list[0].Text,
				"the guard of dev counts only if Broker is asked for it: AWS tools get its session themselves") {
				t.Errorf("%s with %q: %v", what, guard, list)
			}
		}
	}
	config := corpSession + "confirm = first\n" + corpAdmin
	if list := load(t, config, "", "").Advice("admin"); len(list) != 1 {
		t.Errorf("a guarded session: %v", list)
	}
	linked := "[profile dev]\ncredential_process = /usr/bin/credproc dev\n"
	own := corpSession + strings.ReplaceAll(corpAdmin, "admin", "dev") + "confirm = always\n"
	if list := load(t, linked, "", own).Advice("dev"); len(list) > 0 {
		t.Errorf("linked: %v", list)
	}
}

// TestAdviceOnKeysOfTheRegistry: a key that counts in the registry only is reported in an AWS file.
func TestAdviceOnKeysOfTheRegistry(t *testing.T) {
	const role = "role_arn = " + account + "a\nsource_profile = security\n"
	for name, c := range map[string]struct{ config, credentials, registry, want string }{
		"of a role": {"[profile dev]\n" + role + "MFA = each\nsession_tags = a=b\n", "", "",
			"/config:4: mfa has no effect here, only in the registry: broker profiles link dev, then write it into [profile dev] of /registry\n" +
				"/config:5: session_tags has no effect here, only in the registry: broker profiles link dev, then write it into [profile dev] of /registry"},
		"of a source":     {"", "[security]\nbrowser = x\n", "", "/credentials:2: browser has no effect here, only in the registry: write it into [source security] of /registry"},
		"already there":   {"[profile dev]\npublish = true\n", "", "[profile dev]\n" + role + "publish = true\n", ""},
		"of Broker's own": {"[profile dev]\noutput = json\ncolor = x\n", "", "[profile dev]\n" + role, ""},
	} {
		if text := lines(load(t, c.config, c.credentials, sourceSection+c.registry).Advice()); text != c.want {
			t.Errorf("%s: %s", name, text)
		}
	}
}

func lines(list []Warning) string {
	var all []string
	for _, w := range list {
		all = append(all, w.String())
	}
	return strings.Join(all, "\n")
}
