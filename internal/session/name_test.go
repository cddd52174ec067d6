package session

import (
	"regexp"
	"testing"
)

// TestDefaultName: AWS accepts the name, and it contains the user and the host.
func TestDefaultName(t *testing.T) {
	name := DefaultName()
	accepted := regexp.MustCompile(`^[\w+=,.@-]{2,64}$`)
	if !accepted.MatchString(name) || !regexp.MustCompile(`.@.`).MatchString(name) {
		t.Errorf("got %q", name)
	}
}
