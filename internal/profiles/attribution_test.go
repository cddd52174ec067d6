//go:build unix

package profiles

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"broker/internal/fault"
)

// TestAttributionKeys checks what a profile of the registry may say about its sessions.
func TestAttributionKeys(t *testing.T) {
	const role = "role_arn = " + account + "x\nsource_profile = security\n"
	many := func(n int) string {
		var tags []string
		for i := range n {
			tags = append(tags, fmt.Sprintf("k%d=v", i))
		}
		return strings.Join(tags, ", ")
	}
	for _, tt := range []struct {
		lines string
		want  Role   // the fields below
		err   string // empty if the lines are right
	}{
		{"role_session_name = plain", Role{SessionName: "plain"}, ""},
		{"role_session_name = {user}@{host}.{program}", Role{SessionName: "{user}@{host}.{program}"}, ""},
		{"role_session_name = {user}", Role{SessionName: "{user}"}, ""},
		{"role_session_name = {account}", Role{}, "the known ones are {user}, {host}, {program}"},
		{"role_session_name = {reason}", Role{}, "unknown placeholder"},
		{"source_identity = {reason}", Role{}, "unknown placeholder"},
		{"role_session_name = {}", Role{}, "unknown placeholder"},
		{"role_session_name = {user", Role{}, "is not 2 to 64"},
		{"role_session_name = user}", Role{}, "is not 2 to 64"},
		{"role_session_name = {user} {host}", Role{}, "is not 2 to 64"},
		{"role_session_name = {user}" + strings.Repeat("x", 63), Role{}, "is not 2 to 64"},
		{"source_identity = {user}", Role{SourceIdentity: "{user}"}, ""},
		{"source_identity = x", Role{}, "source_identity is not 2 to 64"},
		{"source_identity = aws:paul", Role{}, "source_identity is not 2 to 64"},
		{"session_tags = team=web, by={user} , empty=",
			Role{Tags: []Tag{{"team", "web"}, {"by", "{user}"}, {"empty", ""}}}, ""},
		{"session_tags = a=b=c", Role{Tags: []Tag{{"a", "b=c"}}}, ""},
		{"session_tags = Größe=ü 1", Role{Tags: []Tag{{"Größe", "ü 1"}}}, ""},
		{"session_tags = team", Role{}, "is not a list such as"},
		{"session_tags = a=b,", Role{}, "is not a list such as"},
		{"session_tags = =b", Role{}, "has a key that is not 1 to 128"},
		{"session_tags = {user}=b", Role{}, "has a key that is not 1 to 128"},
		{"session_tags = a=b;c", Role{}, `has a value for "a" that is not`},
		{"session_tags = why={reason}", Role{Tags: []Tag{{"why", "{reason}"}}}, ""},
		{"session_tags = a={x}", Role{}, "the known ones are {user}, {host}, {program}, {reason}"},
		{"session_tags = Team=a, team=b", Role{}, `has the key "team" twice`},
		{"session_tags = AWS:x=a", Role{}, "begins with aws:"},
		{"session_tags = x=aws:a", Role{}, "begins with aws:"},
		{"session_tags = " + many(51), Role{}, "more than 50 tags"},
		{"session_tags = " + strings.Repeat("k", 129) + "=", Role{}, "has a key that is not"},
		{"session_tags = k=" + strings.Repeat("ü", 257), Role{}, "has a value for"},
		{"session_tags = a=b, C=d\ntransitive_tags = A, c",
			Role{Tags: []Tag{{"a", "b"}, {"C", "d"}}, TransitiveTags: []string{"A", "c"}}, ""},
		{"session_tags = a=b\ntransitive_tags = a, b", Role{}, "transitive_tags has a key that session_tags does not have"},
		{"transitive_tags = a", Role{}, "transitive_tags has a key that session_tags does not have"},
		{"session_tags = a=b\ntransitive_tags = a, A", Role{}, "has a key twice"},
		{"optional_tags = TRUE", Role{OptionalTags: true}, ""},
		{"optional_tags = yes", Role{}, "optional_tags is not true or false"},
		{"read_only = true", Role{ReadOnly: true}, ""},
		{"read_only = false", Role{}, ""},
		{"read_only = 1", Role{}, "read_only is not true or false"},
	} {
		set := placed(t, InDefault, "", "", sourceSection+"[profile x]\n"+role+tt.lines+"\n")
		chain, err := set.Resolve("x")
		if tt.err != "" {
			if !fault.Is(err, fault.Config) || !strings.Contains(err.Error(), tt.err) ||
				!strings.Contains(err.Error(), "/registry:") {
				t.Errorf("%.60q: %v, want %q", tt.lines, err, tt.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%.60q: %v", tt.lines, err)
			continue
		}
		got := chain.Roles[0]
		got = Role{SessionName: got.SessionName, SourceIdentity: got.SourceIdentity, Tags: got.Tags,
			TransitiveTags: got.TransitiveTags, OptionalTags: got.OptionalTags, ReadOnly: got.ReadOnly}
		if !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%q: %+v", tt.lines, got)
		}
	}
}

// TestPlaceholdersNeedTheRegistry: AWS tools would send the braces to STS, which refuses them.
func TestPlaceholdersNeedTheRegistry(t *testing.T) {
	const role = "[profile x]\nrole_arn = " + account + "x\nsource_profile = security\n"
	for _, place := range []Place{InDefault, InOther} {
		_, err := placed(t, place, role+"role_session_name = {user}\n", "", sourceSection).Resolve("x")
		if !fault.Is(err, fault.Config) || !strings.Contains(err.Error(), "which only the registry may have") {
			t.Errorf("%v", err)
		}
	}
	// Of the other keys nothing is read there: AWS tools do not know them.
	chain, err := placed(t, InDefault, role+"session_tags = a\nsource_identity = x\n", "",
		sourceSection).Resolve("x")
	if err != nil || chain.Roles[0].Tags != nil || chain.Roles[0].SourceIdentity != "" {
		t.Errorf("%+v, %v", chain, err)
	}
}

// TestRoleKeysNeedARole: GetSessionToken takes no policy, no tags and no source identity.
func TestRoleKeysNeedARole(t *testing.T) {
	for _, line := range []string{"read_only = true", "session_tags = a=b", "source_identity = paul",
		"optional_tags = true", "session_tags = a=b\ntransitive_tags = a"} {
		for _, text := range []string{
			"[profile security]\n" + line + "\n",                            // a source
			"[profile security]\nsource_profile = security\n" + line + "\n", // it too
		} {
			_, err := placed(t, InDefault, "", "", sourceSection+text).Resolve("security")
			if !fault.Is(err, fault.Config) || !strings.Contains(err.Error(), "needs a role_arn") {
				t.Errorf("%q: %v", text, err)
			}
		}
	}
}

// TestReadOnlyThroughAHelper: a profile that stands for a read-only one is read-only too.
func TestReadOnlyThroughAHelper(t *testing.T) {
	set := placed(t, InDefault, "[profile other]\ncredential_process = credproc reader\n", "", sourceSection+
		"[profile reader]\nrole_arn = "+account+"a\nsource_profile = security\nread_only = true\n")
	chain, err := set.Resolve("other")
	if err != nil || len(chain.Roles) != 1 || !chain.Roles[0].ReadOnly {
		t.Errorf("%+v, %v", chain, err)
	}
	for _, s := range set.List() {
		if want := s.Name != "security"; s.ReadOnly != want {
			t.Errorf("%s is listed as read-only: %v", s.Name, s.ReadOnly)
		}
	}
}

// TestAttributionInChains: AWS lets no later role change the source identity or a transitive tag.
func TestAttributionInChains(t *testing.T) {
	for _, tt := range []struct{ first, second, err string }{
		{"source_identity = {user}", "source_identity = {user}", ""},
		{"source_identity = {user}", "", ""},
		{"", "source_identity = {user}", ""},
		{"source_identity = {user}", "source_identity = paul", `has another source_identity than "first"`},
		{"session_tags = a=b", "session_tags = a=c", ""},
		{"session_tags = a=b\ntransitive_tags = a", "session_tags = b=c", ""},
		{"session_tags = a=b\ntransitive_tags = a", "session_tags = A=b",
			`the session tag "A", which is a transitive tag of "first"`},
		{"read_only = true", "", ""},
	} {
		set := placed(t, InDefault, "", "", sourceSection+
			"[profile first]\nrole_arn = "+account+"a\nsource_profile = security\n"+tt.first+"\n"+
			"[profile second]\nrole_arn = "+account+"b\nsource_profile = first\n"+tt.second+"\n")
		_, err := set.Resolve("second")
		right := fault.Is(err, fault.Config) && strings.Contains(err.Error(), tt.err)
		if tt.err == "" && err != nil || tt.err != "" && !right {
			t.Errorf("%q, %q: %v, want %q", tt.first, tt.second, err, tt.err)
		}
	}
}

// TestUnlinkKeepsPlaceholders: a name with placeholders stays in the registry, because AWS tools would send them.
func TestUnlinkKeepsPlaceholders(t *testing.T) {
	docs := Documents{
		RegistryDocument: []byte(sourceSection + "[profile x]\nrole_arn = " + account + "x\nsource_profile = security\n" +
			"role_session_name = {user}\nread_only = true\n"),
		ConfigDocument: []byte("[profile x]\ncredential_process = /usr/bin/credproc x\n"),
	}
	got, out, err := Unlink(Files{Config: "/config", Credentials: "/credentials", Registry: "/registry"}, docs,
		[]string{"x"})
	if err != nil || len(out) != 1 || out[0].State != Changed {
		t.Fatalf("%+v, %v", out, err)
	}
	if config := string(got[ConfigDocument]); strings.Contains(config, "{") || !strings.Contains(config, "read_only = true") {
		t.Errorf("the config has %q", config)
	}
	if registry := string(got[RegistryDocument]); !strings.Contains(registry, "role_session_name = {user}") {
		t.Errorf("the registry has %q", registry)
	}
}

func FuzzFill(f *testing.F) {
	for _, s := range []string{"", "{user}", "{", "}", "{}", "a{host}b{program}", "{{user}}", "}{"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if same := Fill(s, func(name string) string { return "{" + name + "}" }); same != s {
			t.Errorf("%q became %q", s, same)
		}
	})
}
