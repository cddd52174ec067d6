package session

import (
	"regexp"
	"testing"
)

// TestDefaultName: AWS takes it, and it names user and host.
func TestDefaultName(t *testing.T) {
	if name := DefaultName(); !regexp.MustCompile(`^[\w+=,.@-]{2,64}$`).MatchString(name) || !regexp.MustCompile(`.@.`).MatchString(name) {
		t.Errorf("got %q", name)
	}
}
