//go:build linux

package daemon

import (
	"cmp"
	"slices"
	"testing"

	"broker/internal/audit"
	"broker/internal/secret"
	"broker/internal/wire"
)

// TestPromptsAreRecorded: each prompt for a code has a line with what came of it, before the line of the decision.
func TestPromptsAreRecorded(t *testing.T) {
	for reason, answer := range map[string]func(h *house, l line){
		"answered": func(_ *house, l line) { l.send(t, wire.Request{Verb: wire.Answer, ID: 1, Code: secret.New(code)}) },
		"declined": func(_ *house, l line) { l.send(t, wire.Request{Verb: wire.Cancel, ID: 1}) },
		"gone":     func(_ *house, l line) { _ = l.Close() },
		"closed":   func(h *house, _ line) { h.ask(t, wire.Request{Verb: wire.Lock}) },
		"invalid": func(_ *house, l line) {
			for id := 1; id <= slips; id++ {
				l.send(t, wire.Request{Verb: wire.Answer, ID: id, Code: secret.New("no code")})
			}
		},
	} {
		h := start(t)
		answer(h, h.asking(t))
		var list []audit.Event
		until(t, reason+" is recorded", func() bool {
			list = slices.DeleteFunc(h.trail.all(), func(e audit.Event) bool { return e.Event == "start" || e.Event == "lock" })
			return len(list) > 1
		})
		// A request that ends by itself may be recorded before the prompt that it leaves.
		if reason == "gone" || reason == "closed" {
			slices.SortStableFunc(list, func(a, b audit.Event) int { return cmp.Compare(a.Event, b.Event) })
		}
		e, then := list[0], map[bool]string{true: "given", false: "refused"}[reason == "answered"]
		if e.Event != "prompted" || e.Reason != reason || e.Source != "typed" || e.Profile != "typed" || e.Caller == nil {
			t.Errorf("%s: %+v", reason, e)
		}
		if list[1].Event != then {
			t.Errorf("%s: then %+v", reason, list[1])
		}
	}
}
