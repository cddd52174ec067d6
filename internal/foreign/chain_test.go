package foreign

import (
	"strings"
	"testing"
)

// TestRoleOfItsOwnKeyIsNoSource: where aws-vault assumes two roles, no chain of one role is written.
func TestRoleOfItsOwnKeyIsNoSource(t *testing.T) {
	config := "[profile work]\nrole_arn = arn:aws:iam::444455556666:role/work\n" +
		"[profile work-admin]\nrole_arn = arn:aws:iam::444455556666:role/admin\nsource_profile = work\n"
	got, err := Translate(Elsewhere{Tool: AWSVault, Config: []byte(config), Keys: []string{"work"}})
	if err != nil || len(got.Left) != 1 || !strings.Contains(got.Left[0].Text, "assumes both roles") {
		t.Errorf("%v, %v", got.Left, err)
	}
	if strings.Contains(string(got.Config), "[profile work]\nsource_profile") || strings.Count(string(got.Config), "source_profile") != 1 {
		t.Errorf("%s", got.Config)
	}
}
