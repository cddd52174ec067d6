package session

import (
	"strings"
	"testing"

	"broker/internal/profiles"
)

// TestLocal: AWS accepts the usual name of this process, and it contains the user and the host.
func TestLocal(t *testing.T) {
	name := Local().name(usualName)
	user, host, ok := strings.Cut(name, "@")
	if !ok || user == "" || host == "" || len(name) > longestName {
		t.Errorf("%q is not USER@HOST", name)
	}
	if err := profiles.CheckRole(profiles.Role{SessionName: name}); err != nil {
		t.Error(err)
	}
}

// TestFillTemplates: whatever the user, the host and the tool are called, AWS accepts the name and the tag.
func TestFillTemplates(t *testing.T) {
	who := func(user, host, program string) Who {
		return Who{User: user, Host: host, Program: func() string { return program }}
	}
	long := strings.Repeat("x", 300)
	for _, tt := range []struct {
		who       Who
		template  string
		name, tag string
	}{
		{who("paul", "laptop", "aws"), "{user}@{host}.{program}", "paul@laptop.aws", "paul@laptop.aws"},
		{who("paul", "laptop", "aws"), "plain", "plain", "plain"},
		{who("CORP\\Zoë Ä", "h", "a:b"), "{user}", "CORP-Zo-", "CORP-Zoë Ä"},
		{who("", "", ""), "{user}.{host}.{program}", "unknown.unknown.unknown", "unknown.unknown.unknown"},
		{who("p", "", ""), "{user}", "p-", "p"},
		{who("aws:x", "", ""), "{user}", "aws-x", "aws-x"},
		{who("{host}", "h", ""), "{user}", "-host-", "-host-"},
		{who("a\x1b[2J\n\xff", "", ""), "x{user}", "xa-2J-", "xa-2J-"},
		{who("paul", "laptop", long), "{program}.{user}", long[:20] + ".paul", long[:20] + ".paul"},
		{who("paul", "laptop", "x.root@db=,+/"), "{program}.{user}", "x.root-db-.paul", "x.root-db-.paul"},
		{who(long, "", ""), "{user}", long[:64], long[:256]},
		{who(strings.Repeat("ü", 300), "", ""), "{user}.", "-.", strings.Repeat("ü", 256)},
	} {
		name, tag := tt.who.name(tt.template), tt.who.tags([]Tag{{Key: "k", Value: tt.template}})
		if name != tt.name || tag[0].Value != tt.tag {
			t.Errorf("%q: name %q, tag %q", tt.template, name, tag[0].Value)
		}
		if err := profiles.CheckRole(profiles.Role{SessionName: name}); err != nil {
			t.Errorf("%q: %v", name, err)
		}
		if err := profiles.CheckTags(tag); err != nil {
			t.Errorf("%q: %v", tag, err)
		}
	}
	for reason, want := range map[string]string{
		"": "", "INC-123": "INC-123", "aws:x {user}\n\x1b": "aws-x -user-", "größer, 4.2": "größer- 4.2",
		strings.Repeat("ü", 300): strings.Repeat("ü", 256),
	} {
		tags := Who{Reason: reason}.tags([]Tag{{Key: "why", Value: "{reason}"}})
		if err := profiles.CheckTags(tags); err != nil || tags[0].Value != want {
			t.Errorf("%q: %q, %v", reason, tags[0].Value, err)
		}
	}
	if got := (Who{User: "paul"}).name("{user}.{program}"); got != "paul.{program}" {
		t.Errorf("for a person to read: %q", got)
	}
}
