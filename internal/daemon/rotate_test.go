//go:build linux

package daemon

import (
	"os"
	"strings"
	"testing"
	"time"

	"broker/internal/fault"
)

// TestUseRefusesThirdKey: if somebody adds another key of the source to the registry before the swap, the registry
// keeps it.
func TestUseRefusesThirdKey(t *testing.T) {
	const (
		old   = "AKIAOLDKEYEXAMPLE222"
		fresh = "AKIANEWKEYEXAMPLE222"
		third = "AKIATHIRDKEYEXAMPLE2"
	)
	h := build(t, t.TempDir(), "[source security]\naccess_key_id = "+third+"\n")
	r := &rotating{d: h.Daemon, source: "security"}
	err := r.Use(t.Context(), old, fresh, time.Now())
	text, read := os.ReadFile(h.Files.Registry)
	if !fault.Is(err, fault.Failed) || read != nil || !strings.Contains(string(text), third) {
		t.Errorf("got %v, %v; registry %s", err, read, text)
	}
	if err := r.Use(t.Context(), third, fresh, time.Now()); err != nil {
		t.Error(err)
	}
	if id, err := r.InUse(); id != fresh || err != nil {
		t.Errorf("got %s, %v", id, err)
	}
}
