package profiles

import (
	"testing"
	"time"
)

func TestFormatDuration(t *testing.T) {
	for text, want := range map[string]string{
		"8h0m0s": "8h", "10h0m0s": "10h", "1h30m0s": "1h30m", "10m0s": "10m", "20s": "20s", "0s": "0s", "1h0m5s": "1h0m5s",
		"-10m0s": "-10m", "9h31m2.4s": "9h31m2s",
	} {
		d, err := time.ParseDuration(text)
		if got := FormatDuration(d); err != nil || got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}
