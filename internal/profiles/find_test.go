//go:build unix

package profiles

import (
	"strings"
	"testing"

	"broker/internal/fault"
)

// TestFindListsSimilarNames checks that Find answers a typing error with similar names and aliases, and never picks
// one of them.
func TestFindListsSimilarNames(t *testing.T) {
	role := func(name string) string {
		return "[profile " + name + "]\nrole_arn = " + account + "x\nsource_profile = security\n"
	}
	set := load(t, role("product_prod_paul")+role("product_dev_paul")+role("Billing"), "", sourceSection+"[alias]\nlive = product_prod_paul\nGone = nowhere\nsecurity = Billing\n")
	for typed, want := range map[string]string{
		"product_prod_pual": `did you mean "product_prod_paul"`,  // whole names
		"pord":              `did you mean "product_prod_paul"?`, // one word of a name
		"vedelop":           "",
		"lvie":              `did you mean "live"`, // an alias
		"billing":           `did you mean "Billing"?`,
		"PROD":              `did you mean "product_prod_paul"?`,
		"seucrity":          `did you mean "security"?`,
		"gone":              `did you mean "Gone"?`,
		"xyz":               "",
		"d":                 `"d" could be product_dev_paul, product_prod_paul`,
	} {
		name, err := set.Find(typed)
		if name != "" || !fault.Is(err, fault.NotFound) || !strings.Contains(err.Error(), want) ||
			want == "" && strings.Contains(err.Error(), "did you mean") {
			t.Errorf("%s: %q, %v; want %q", typed, name, err, want)
		}
		if _, err := set.Resolve(typed); !fault.Is(err, fault.NotFound) {
			t.Errorf("%s: Resolve guessed a name: %v", typed, err)
		}
	}
	// Resolve, which programs use, takes whole names only.
	for _, part := range []string{"prod", "dev", "secur"} {
		if c, err := set.Resolve(part); err == nil {
			t.Errorf("%s: %s", part, c.Profile)
		}
	}
	if _, err := set.Find("Gone"); !fault.Is(err, fault.NotFound) || !strings.Contains(err.Error(), `/registry:7: alias "Gone" stands for "nowhere"`) {
		t.Error(err)
	}
}

func TestFindSource(t *testing.T) {
	other := "[source other-account]\naccess_key_id = AKIAIOSFODNN7EXAMPLE\n[source sec-two]\naccess_key_id = AKIAIOSFODNN7EXAMPLE\n[source broken]\n"
	set := load(t, "[profile security-role]\nrole_arn = "+account+"x\nsource_profile = security\n", "", sourceSection+other+"[alias]\ns = security\nr = security-role\n")
	for typed, want := range map[string]string{"security": "security", "secu": "security", "other": "other-account", "s": "security", "two": "sec-two"} {
		if src, err := set.FindSource(typed); err != nil || src.Name != want {
			t.Errorf("%s: %q, %v", typed, src.Name, err)
		}
	}
	for typed, want := range map[string]string{"nobody": "there is no source", "security-role": "there is no source", "r": "could be", "broken": "there is no source"} {
		if src, err := set.FindSource(typed); !fault.Is(err, fault.NotFound) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %q, %v", typed, src.Name, err)
		}
	}
	if _, err := set.FindSource("a\n"); !fault.Is(err, fault.Usage) {
		t.Error(err)
	}
}

func TestCheckAlias(t *testing.T) {
	set := load(t, "[profile dev]\nsso_session = x\n", "", sourceSection+"[alias]\ns = security\n")
	for _, good := range []string{"p", "s", "Dev", "SECURITY", "a b", "ü"} {
		if err := set.CheckAlias(good); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{"", "dev", "security", "default", "-p", "a]", "a\nb", strings.Repeat("x", 2000)} {
		if err := set.CheckAlias(bad); !fault.Is(err, fault.Usage) {
			t.Errorf("%.20s: %v", bad, err)
		}
	}
}

// TestAliasKeysAreNames checks that Prod and prod are two different aliases for writing, reading and removing.
func TestAliasKeysAreNames(t *testing.T) {
	src := []byte("[alias]\nprod = a\n")
	src, err := SetSection(src, SectionAlias, "", []KeyValue{{"Prod", "b"}})
	if err != nil || string(src) != "[alias]\nprod = a\nProd = b\n" {
		t.Fatalf("%q, %v", src, err)
	}
	set := load(t, "[profile a]\nregion = x\n[profile b]\nregion = x\n", "", string(src))
	if a, _ := set.Find("prod"); a != "a" {
		t.Error(a)
	}
	if b, _ := set.Find("Prod"); b != "b" {
		t.Error(b)
	}
	if src, err = RemoveKeys(src, SectionAlias, "", "prod"); err != nil || string(src) != "[alias]\nProd = b\n" {
		t.Errorf("%q, %v", src, err)
	}
	// Keys of AWS settings are not case-sensitive.
	src, err = SetSection([]byte("[profile a]\nRegion = x\n"), SectionProfile, "a", []KeyValue{{"region", "y"}})
	if err != nil || string(src) != "[profile a]\nRegion = y\n" {
		t.Errorf("%q, %v", src, err)
	}
}
