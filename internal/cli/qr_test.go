package cli

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/rivo/uniseg"

	"broker/internal/secret"
)

// TestQRCodeOnTerminal: each cell is two modules, the quiet zone is around them, and every line is as wide as planned.
// A test with another program's reader is in e2e.
func TestQRCodeOnTerminal(t *testing.T) {
	for _, account := range []string{"a@1", "paul@111122223333", strings.Repeat("x", 64) + "@111122223333"} {
		code, err := otpauth(account, secret.New(strings.Repeat("ABCD", 16)))
		if err != nil {
			t.Fatal(err)
		}
		for _, quiet := range []int{quietZone, leastQuiet} {
			lines := strings.Split(strings.TrimSuffix(code.draw(quiet), "\n"), "\n")
			if len(lines) != code.rows(quiet) {
				t.Errorf("%s: %d lines, want %d", account, len(lines), code.rows(quiet))
			}
			for y, line := range lines {
				cells, is := strings.CutPrefix(line, onWhite)
				cells, ends := strings.CutSuffix(cells, asUsual)
				if !is || !ends || uniseg.StringWidth(cells) != code.columns(quiet) {
					t.Fatalf("%s: line %d is %q", account, y, line)
				}
				for x, cell := range []rune(cells) {
					upper, lower := strings.ContainsRune("▀█", cell), strings.ContainsRune("▄█", cell)
					for i, got := range []bool{upper, lower} {
						mx, my := x-quiet, 2*y+i-quiet
						inside := mx >= 0 && my >= 0 && mx < code.size && my < code.size
						if want := inside && code.dark(mx, my); got != want {
							t.Fatalf("%s: module %d, %d is dark: %t", account, mx, my, got)
						}
					}
				}
			}
		}
	}
}

// TestCountdown: it waits for the whole time, second by second, and ends with the context.
func TestCountdown(t *testing.T) {
	p := newProgram(strings.NewReader(""), new(bytes.Buffer), new(bytes.Buffer))
	now := time.Unix(1_800_000_007, 0)
	waited := 0
	p.now = func() time.Time { return now }
	p.pause = func(ctx context.Context, d time.Duration) error {
		now = now.Add(d)
		waited++
		return ctx.Err()
	}
	if err := p.countdown(t.Context(), nextCode(now), "it comes"); err != nil || now.Unix() != 1_800_000_030 || waited != 23 {
		t.Errorf("after %d pauses it is %v, %v", waited, now, err)
	}
	if err := p.countdown(t.Context(), now, "it comes"); err != nil || waited != 23 {
		t.Errorf("a time that has come: %d pauses, %v", waited, err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.countdown(ended, now.Add(time.Hour), "it comes"); err == nil {
		t.Error("it goes on after Ctrl-C")
	}
}
