//go:build unix

package system

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

// TestPrivateGroup: a group is private if it has no members but this user and root.
func TestPrivateGroup(t *testing.T) {
	me := strconv.Itoa(os.Geteuid())
	for _, tt := range []struct {
		what, users, groups string
		want                bool
	}{
		{"a group of our own", "paul:x:" + me + ":7000::/:\neve:x:9999:9999::/:\n", "paul:x:7000:\n", true},
		{"we are listed too", "paul:x:" + me + ":7000::/:\n", "paul:x:7000:paul,\n", true},
		{"another member", "paul:x:" + me + ":7000::/:\n", "paul:x:7000:paul,eve\n", false},
		{"another's primary group", "paul:x:" + me + ":7000::/:\neve:x:9999:7000::/:\n", "users:x:7000:\n", false},
		{"not our primary group", "paul:x:" + me + ":7001::/:\n", "docker:x:7000:\n", false},
		{"a second line of the group", "paul:x:" + me + ":7000::/:\n", "paul:x:7000:\nother:x:7000:eve\n", false},
		{"we are not listed", "eve:x:9999:9999::/:\n", "paul:x:7000:\n", false},
		{"the group is not listed", "paul:x:" + me + ":7000::/:\n", "", false},
	} {
		dir := t.TempDir()
		for name, text := range map[string]string{"passwd": tt.users, "group": tt.groups} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if got := isPrivateGroup(dir, 7000); got != tt.want {
			t.Errorf("%s: %v", tt.what, got)
		}
	}
	if isPrivateGroup(t.TempDir(), 7000) {
		t.Error("without the lists")
	}
}
