package cli

import (
	"testing"
	"time"
)

func TestSpan(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"3600s": time.Hour, "30m": 30 * time.Minute, "1h30m": 90 * time.Minute, "0": 0, "90s": 90 * time.Second,
		"7d": 168 * time.Hour,
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

// TestClock: a time of another day has its date.
func TestClock(t *testing.T) {
	now := time.Date(2026, 11, 28, 23, 30, 0, 0, time.Local)
	for after, want := range map[time.Duration]string{
		20 * time.Minute:     "23:50",
		time.Hour:            "2026-11-29 00:30",
		24 * time.Hour:       "2026-11-29 23:30",
		-24 * time.Hour:      "2026-11-27 23:30",
		365 * 24 * time.Hour: "2027-11-28 23:30",
	} {
		if got := clock(now.Add(after).UTC(), now, hourMinute); got != want {
			t.Errorf("%v later: %q, want %q", after, got, want)
		}
	}
}
