package cli

import (
	"testing"
	"time"
)

func TestSpan(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"3600s": time.Hour, "30m": 30 * time.Minute, "1h30m": 90 * time.Minute, "0": 0, "90s": 90 * time.Second,
	} {
		var s span
		if err := s.Set(text); err != nil || time.Duration(s) != want {
			t.Errorf("%s: %v, %v", text, time.Duration(s), err)
		}
	}
	for _, text := range []string{"", "1", "3600", "1 hour", "-5", "-5m", "1.5", "1500ms", "1e3", "3600 ", "99999999999", "0x10"} {
		if err := new(span).Set(text); err == nil {
			t.Errorf("%q is taken for a duration", text)
		}
	}
}
