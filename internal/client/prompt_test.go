package client

import (
	"testing"
	"time"
)

func TestLeft(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "expired", 0: "expired", time.Millisecond: "1s", 59 * time.Second: "59s", time.Minute: "1m",
		119 * time.Minute: "119m", 2 * time.Hour: "2h", 36 * time.Hour: "36h",
	} {
		if got := Left(d); got != want {
			t.Errorf("%v: %s, want %s", d, got, want)
		}
	}
}
