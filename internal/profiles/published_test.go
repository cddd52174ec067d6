//go:build unix

package profiles

import (
	"strings"
	"testing"

	"broker/internal/secret"
)

var (
	firstSession  = Published{"product_prod_paul", "ASIAFIRST", secret.New("s3cret/+="), secret.New("tok//en+==")}
	secondSession = Published{"product_prod_paul", "ASIASECOND", secret.New("other"), secret.New("token")}
	devSession    = Published{"dev", "ASIADEV", secret.New("s"), secret.New("t")}
)

// wrote returns a function that reports whether Broker wrote one of these sessions before.
func wrote(sessions ...Published) func(name, id string) bool {
	return func(name, id string) bool {
		for _, s := range sessions {
			if s.Profile == name && s.AccessKeyID == id {
				return true
			}
		}
		return false
	}
}

func setPublished(t *testing.T, src string, ours func(string, string) bool, sessions ...Published) string {
	t.Helper()
	before := strings.Clone(src)
	dst, taken, err := SetPublished([]byte(src), ours, sessions)
	if err != nil {
		t.Fatalf("%q: %v", src, err)
	}
	for _, s := range sessions {
		if line, is := taken[s.Profile]; is {
			t.Fatalf("%q: the section in line %[3]d has the name %[2]s", src, s.Profile, line)
		}
	}
	if src != before {
		t.Fatal("SetPublished modified its input")
	}
	return string(dst)
}

// TestSetPublishedRestoresTheFile checks that sessions come and go without a trace, whatever else is in the file.
func TestSetPublishedRestoresTheFile(t *testing.T) {
	for _, src := range []string{
		"", "\n", "# mine\n", "# mine", "[a]\nk = v\n", "[a]\nk = v", "[a]\r\nk = v\r\n", "\ufeff[a]\nk = v\n", "\ufeff",
		"\n\n; x\n[a]\naws_access_key_id = AKIA\n\n\n", "[a]\ns3 =\n  x = y\n", "[]\nx\n", "[a\nb = c\n",
	} {
		one := setPublished(t, src, wrote(), firstSession)
		two := setPublished(t, one, wrote(firstSession), devSession, secondSession)
		for _, in := range []string{one, two} {
			table, err := newTable("credentials", []byte(in), credentialsFile, nil)
			if err != nil {
				t.Fatal(err)
			}
			if b := table.blocks[blockID{SectionCredentials, "product_prod_paul"}]; b == nil || !b.ours || len(b.settings) != 3 {
				t.Errorf("%q: not read back: %q", src, in)
			}
			if b := table.blocks[blockID{SectionCredentials, "a"}]; b != nil && b.ours {
				t.Errorf("%q: Broker takes a section of the user for its own", src)
			}
		}
		if same := setPublished(t, two, wrote(secondSession, devSession), devSession, secondSession); same != two {
			t.Errorf("%q: the second call changed the file again:\n%s\n%s", src, two, same)
		}
		if back := setPublished(t, two, wrote(secondSession, devSession)); back != src {
			t.Errorf("%q became %q", src, back)
		}
	}
}

// TestSetPublishedKeepsOtherSections checks that only sections that Broker wrote are removed, whatever happened to the
// marks.
func TestSetPublishedKeepsOtherSections(t *testing.T) {
	const ours = "[product_prod_paul]\naws_access_key_id = ASIAFIRST\naws_secret_access_key = x\naws_session_token = y\n"
	const theirs = "[other]\naws_access_key_id = ASIAOTHER\naws_secret_access_key = x\naws_session_token = y\n"
	for _, c := range []struct{ name, src, want string }{
		{"marks removed", theirs + ours + theirs, theirs + theirs},
		{"end mark removed", markBegin + "\n" + ours + theirs, theirs},
		{"the user's section between the marks", markBegin + "\n" + ours + theirs + markEnd + "\n", theirs},
		{"the same name, another key", markBegin + "\n" + strings.ReplaceAll(ours, "ASIAFIRST", "ASIAELSE") + markEnd + "\n", strings.ReplaceAll(ours, "ASIAFIRST", "ASIAELSE")},
		{"the user's key in our section", ours + "output = json\n", "[product_prod_paul]\noutput = json\n"},
		{"the user's comment in our section", strings.Replace(ours, "\naws_secret", "\n# why\naws_secret", 1), "[product_prod_paul]\n# why\n"},
		{"the user's comment after it", markBegin + "\n" + ours + "# note\n" + markEnd + "\n" + theirs, "# note\n" + theirs},
		{"moved to the end", theirs + "\n" + markBegin + "\n" + ours + markEnd + "\n", theirs + "\n"},
		{"rewritten by configparser", "[product_prod_paul]\naws_access_key_id = ASIAFIRST\naws_secret_access_key = x\naws_session_token = y\n\n" + theirs, "\n" + theirs},
	} {
		if got := setPublished(t, c.src, wrote(firstSession)); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
	_, taken, err := SetPublished([]byte(theirs+ours), wrote(devSession), []Published{firstSession, devSession})
	if err != nil || taken["product_prod_paul"] != 5 || taken["dev"] != 0 {
		t.Errorf("taken %v, %v", taken, err)
	}
	for _, src := range []string{"k = v\n[a]\n", "  [a]\n  k = v\n", "junk\n", "[a]\x00\n"} {
		if dst, _, err := SetPublished([]byte(src), wrote(), []Published{firstSession}); err == nil {
			t.Errorf("%q became %q", src, dst)
		}
	}
	for _, s := range []Published{{Profile: "a\u202eb", AccessKeyID: "A", Secret: secret.New("s"),
		Token: secret.New("t")}, {Profile: "a", AccessKeyID: "A\nB", Secret: secret.New("s"), Token: secret.New("t")}} {
		if dst, _, err := SetPublished(nil, wrote(), []Published{s}); err == nil {
			t.Errorf("%q was written: %q", s.Profile, dst)
		}
	}
}

// TestPublishedSessionIsNotTheUsersKey checks that neither import nor link treats a published session as the user's
// own key.
func TestPublishedSessionIsNotTheUsersKey(t *testing.T) {
	config := "[profile dev]\nrole_arn = arn:aws:iam::222233334444:role/r\nsource_profile = security\n"
	registry := "[source security]\naccess_key_id = AKIAIOSFODNN7EXAMPLE\n"
	files := Files{Config: "/c", Credentials: "/s", Registry: "/r"}
	docs := Documents{RegistryDocument: []byte(registry), ConfigDocument: []byte(config)}
	docs[CredentialsDocument] = []byte(setPublished(t, "", wrote(), devSession))
	next, out, err := Link(files, docs, []string{"dev"}, "/bin/credproc")
	if err != nil || out[0].State != Changed || string(next[CredentialsDocument]) != string(docs[CredentialsDocument]) {
		t.Fatalf("link: %+v, %v", out, err)
	}
	set, err := next.set(files)
	if err != nil {
		t.Fatal(err)
	}
	if err := set.Preferred("dev"); err != nil {
		t.Error(err)
	}
	if set, _ := docs.set(files); set.Preferred("dev") == nil {
		t.Error("Preferred does not report a role_arn in the config")
	}
	if chain, err := set.Resolve("dev"); err != nil || len(chain.Roles) != 1 {
		t.Errorf("%+v, %v", chain, err)
	}
}

func TestStanding(t *testing.T) {
	docs := Documents{RegistryDocument: []byte("[profile b]\npublish = true\n[profile a]\nPublish = true\n[profile c]\npublish = false\n[profile d]\n")}
	set, err := docs.set(Files{Config: "/c", Credentials: "/s", Registry: "/r"})
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(set.Standing(), " "); got != "a b" {
		t.Errorf("%q", got)
	}
	if w := set.Warnings(); len(w) > 0 {
		t.Error(w)
	}
}

func TestPrivateFiles(t *testing.T) {
	const src = "[product_prod_paul]\naws_access_key_id = ASIAOLD\n[mine]\nk = v\n[product_prod_paul]\nx = y"
	other := Published{Profile: "b", AccessKeyID: "ASIAOTHER", Secret: firstSession.Secret, Token: firstSession.Token}
	both := []PrivateSession{{[]string{"product_prod_paul", "live"}, firstSession, "eu-west-1"}, {[]string{"b"}, other, ""}}
	got, err := PrivateCredentials([]byte(src), both)
	if err != nil {
		t.Fatal(err)
	}
	section := "aws_access_key_id = ASIAFIRST\naws_secret_access_key = s3cret/+=\naws_session_token = tok//en+==\nregion = eu-west-1\n"
	second := "aws_access_key_id = ASIAOTHER\naws_secret_access_key = s3cret/+=\naws_session_token = tok//en+==\n"
	if want := "[mine]\nk = v\n\n[product_prod_paul]\n" + section + "\n[live]\n" + section + "\n[b]\n" + second; string(got) != want {
		t.Errorf("%q, want %q", got, want)
	}
	config := "[profile product_prod_paul]\nrole_arn = a\nregion = r\nSSO_start_url = x\ns3 =\n  y = z\n[profile b]\nrole_arn = c\n"
	if got, err = PrivateConfig([]byte(config), both[:1]); err != nil {
		t.Fatal(err)
	}
	if want := "[profile product_prod_paul]\nregion = r\ns3 =\n  y = z\n[profile b]\nrole_arn = c\n"; string(got) != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got, err = PrivateConfig([]byte(config), both); err != nil || strings.Contains(string(got), "role_arn") {
		t.Errorf("the overlays of both: %q, %v", got, err)
	}
}
