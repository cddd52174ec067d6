package process

import (
	"strings"
	"testing"

	"broker/internal/fault"
	"broker/internal/profiles"
	"broker/internal/secret"
	"broker/internal/session"
)

// TestFederationRefusesRoot: a key that was stored unchecked may belong to the root user, whose federated session
// could do everything that its policy allows.
func TestFederationRefusesRoot(t *testing.T) {
	t.Parallel()
	c := fileCaller(t)
	if _, err := c.Put(t.Context(), testKey("security"), profiles.Endpoint{}, false); err != nil {
		t.Fatal(err)
	}
	call := session.Call{Operation: session.GetFederationToken, SessionName: "paul", PolicyARN: "arn:aws:iam::aws:policy/job-function/ViewOnlyAccess"}
	if _, err := c.Open(t.Context(), testSource("security"), call, secret.String{}); err != nil {
		t.Errorf("a user: %v", err)
	}
	call.Endpoint.Region = "arn:aws:iam::111122223333:root" // the scripted STS returns this
	if _, err := c.Open(t.Context(), testSource("security"), call, secret.String{}); !fault.Is(err, fault.Failed) ||
		!strings.Contains(err.Error(), "root user") {
		t.Errorf("the root user: %v", err)
	}
}
