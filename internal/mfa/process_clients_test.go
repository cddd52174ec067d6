//go:build clients && linux

package mfa

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestClientOathtool runs the documented command, and compares our codes with those of oathtool.
func TestClientOathtool(t *testing.T) {
	needs(t, "oathtool")
	file := filepath.Join(t.TempDir(), "seed")
	if err := os.WriteFile(file, []byte(seedText+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	seed, err := ParseSeed(seedText)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 { // a period may end in between
		before, _ := seed.Code(time.Now())
		code, err := FromProcess(context.Background(), "oathtool --totp --base32 @"+file)
		if err != nil {
			t.Fatal(err)
		}
		after, _ := seed.Code(time.Now())
		if code.Reveal() == before.Reveal() || code.Reveal() == after.Reveal() {
			return
		}
	}
	t.Error("oathtool makes other codes than we do")
}
