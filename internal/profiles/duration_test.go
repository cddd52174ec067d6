package profiles

import (
	"testing"
	"time"
)

func TestFormatDuration(t *testing.T) {
	for text, want := range map[string]string{
		"8h0m0s": "8h", "10h0m0s": "10h", "1h30m0s": "1h30m", "10m0s": "10m", "20s": "20s", "0s": "0s", "1h0m5s": "1h0m5s",
		"-10m0s": "-10m", "24h": "24h", "36h": "36h", "48h": "2d", "168h": "7d", "49h": "49h", "9h31m2.4s": "9h31m2s",
	} {
		d, err := time.ParseDuration(text)
		if got := FormatDuration(d); err != nil || got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}

func TestParseDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0": 0, "0d": 0, "90m": 90 * time.Minute, "1d": 24 * time.Hour, "7d": 7 * 24 * time.Hour,
		"1d12h": 36 * time.Hour, "30d1h30m": 721*time.Hour + 30*time.Minute,
	} {
		if got, err := ParseDuration(text); err != nil || got != want {
			t.Errorf("%s: %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "d", "7", "7 d", "7D", "-7d", "+7d", "1.5d", "1d2", "1d-1h", "1h1d", "1d1d", "1w",
		"99999d",
		"65535d2000000h", "106752d", "65536d", "١d", "７d", "1_0d", "0x1d", "d1h", "1dd", "1d-0.5s",
		"-0d", "1e1d", "NaNd", "1d9223372036854775807ns9223372036854775807ns"} {
		if got, err := ParseDuration(text); err == nil {
			t.Errorf("%q is taken for %v", text, got)
		}
	}
}
