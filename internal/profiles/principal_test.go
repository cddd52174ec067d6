//go:build unix

package profiles

import (
	"strings"
	"testing"

	"broker/internal/fault"
)

// TestOfTools checks that ofTools returns the principals that botocore uses.
func TestOfTools(t *testing.T) {
	const arn = "arn:aws:iam::444455556666:role/"
	role := func(name, source string) string {
		return "[profile " + name + "]\nrole_arn = " + arn + name + "\nsource_profile = " + source + "\n"
	}
	keys := func(name, id string) string {
		return "[" + name + "]\naws_access_key_id = " + id + "\naws_secret_access_key = x\n"
	}
	set := load(t, role("prod", "root")+role("x", "prod")+role("y", "far")+role("far", "root")+role("self", "self")+role("loop", "pool")+
		role("pool", "loop")+role("gone", "nobody")+"[profile web]\nrole_arn = "+arn+"w\nweb_identity_token_file = /t\n",
		keys("root", "AKIAROOT")+keys("prod", "AKIAPROD")+keys("self", "AKIASELF")+keys("temp", "ASIATEMP")+"aws_session_token = t\n", "")
	for name, want := range map[string]string{
		"root": "AKIAROOT", "prod": "AKIAROOT " + arn + "prod", "x": "AKIAPROD " + arn + "x",
		"y": "AKIAROOT " + arn + "far " + arn + "y", "self": "AKIASELF " + arn + "self",
		"loop": "", "gone": "", "web": "", "temp": "", "unknown": "",
	} {
		if got := set.ofTools(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// TestSamePrincipals checks that an import that would change a profile's principal is refused.
func TestSamePrincipals(t *testing.T) {
	config := "[profile prod]\nrole_arn = arn:aws:iam::444455556666:role/prod\nsource_profile = root\n"
	credentials := "[root]\naws_access_key_id = AKIAIOSFODNN7EXAMPLE\naws_secret_access_key = x\n" +
		"[prod]\naws_access_key_id = AKIAIOSFODNN7EXAMPLE\naws_secret_access_key = x\n"
	keys := []Plain{{Profile: "root", Kind: SectionCredentials}, {Profile: "prod", Kind: SectionCredentials}}
	for registry, fine := range map[string]bool{
		"[source root]\naccess_key_id = AKIAIOSFODNN7EXAMPLE\n":                                          true,
		"[source root]\naccess_key_id = AKIAIOSFODNN7EXAMPLE\n[profile prod]\nsource_profile = root\n":   false,
		"[source root]\naccess_key_id = AKIAIOSFODNN7OTHERXX\n":                                          false,
		"[source other]\naccess_key_id = AKIAIOSFODNN7EXAMPLE\n[profile root]\nsource_profile = other\n": true,
	} {
		docs := documents("", config, credentials)
		next, err := docs.RemovePlainKeys(keys)
		if err != nil {
			t.Fatal(err)
		}
		next[RegistryDocument] = []byte(registry)
		err = SamePrincipals(linkFiles, docs, next)
		if (err == nil) != fine || err != nil && (!fault.Is(err, fault.Failed) || !strings.Contains(err.Error(), "today")) {
			t.Errorf("%s: %v", registry, err)
		}
	}
}
