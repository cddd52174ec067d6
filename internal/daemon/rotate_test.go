//go:build linux

package daemon

import (
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"broker/internal/fault"
	"broker/internal/rotate"
	"broker/internal/wire"
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

// TestGraceOutOfRange: a period that is not allowed neither spoils the record nor ends at once.
func TestGraceOutOfRange(t *testing.T) {
	h := build(t, t.TempDir(), "[source security]\naccess_key_id = AKIAOLDKEYEXAMPLE222\n")
	h.Daemon.Vault = struct{ rotate.Vault }{} // panics if it is called
	for _, seconds := range []int{-1, math.MinInt, math.MaxInt, int(wire.MaxGrace/time.Second) + 1} {
		for _, step := range []string{wire.RotateStart, wire.RotateGrace, wire.RotatePlan} {
			req := &wire.Request{Verb: wire.Rotate, Profile: "security", Rotation: &wire.Rotation{Step: step, Grace: seconds}}
			if err := h.Daemon.rotate(t.Context(), call{req: req}); !fault.Is(err, fault.Usage) {
				t.Errorf("%s, %d: %v", step, seconds, err)
			}
		}
	}
}
