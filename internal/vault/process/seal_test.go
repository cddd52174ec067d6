package process

import (
	"strings"
	"testing"

	"broker/internal/fault"
	"broker/internal/secret"
)

// TestSeal: sealed data comes back unchanged, sealing again replaces it, sources of the same name do not see it,
// and after ForgetSealed it is gone.
func TestSeal(t *testing.T) {
	t.Parallel()
	c, ctx := fileCaller(t), t.Context()
	if _, err := c.Unseal(ctx, "import"); !fault.Is(err, fault.NotFound) {
		t.Fatalf("before anything was sealed: %v", err)
	}
	for _, text := range []string{"first", strings.Repeat("\"\n\x00 longer ", 2000)} {
		if err := c.Seal(ctx, "import", secret.New(text)); err != nil {
			t.Fatal(err)
		}
		if back, err := c.Unseal(ctx, "import"); err != nil || back.Reveal() != text {
			t.Errorf("%d bytes came back as %d, %v", len(text), len(back.Reveal()), err)
		}
	}
	if _, err := c.Describe(ctx, "import"); !fault.Is(err, fault.NotFound) {
		t.Errorf("a source of the same name: %v", err)
	}
	if err := c.Seal(ctx, "import", secret.New(strings.Repeat("x", 80<<10))); !fault.Is(err, fault.Usage) {
		t.Errorf("more than fits into a message: %v", err)
	}
	if err := c.ForgetSealed(ctx, "import"); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{c.ForgetSealed(ctx, "import"), func() error { _, err := c.Unseal(ctx, "import"); return err }()} {
		if !fault.Is(err, fault.NotFound) {
			t.Errorf("after it was forgotten: %v", err)
		}
	}
}
