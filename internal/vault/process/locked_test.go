package process

import (
	"os"
	"regexp"
	"slices"
	"testing"

	"broker/internal/fault"
	"broker/internal/paths"
	"broker/internal/vault"
)

// TestLockedProcess: while Broker is locked, the process itself refuses a forbidden operation, wherever the lock
// file is. A lock file that cannot be parsed counts as a lock. Package vault tests the table.
func TestLockedProcess(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	state := paths.StateBelow(home)
	moved := t.TempDir()
	if err := os.MkdirAll(state, 0o700); err != nil {
		t.Fatal(err)
	}
	src, err := os.ReadFile("../message.go")
	if err != nil {
		t.Fatal(err)
	}
	all := regexp.MustCompile(`(?m)^\tOp\w+ +Operation = "(.*)"$`).FindAllSubmatch(src, -1)
	if len(all) < 19 {
		t.Fatalf("found %d operations: the test proves nothing", len(all))
	}
	may := []vault.Operation{vault.OpDrop, vault.OpCheck, vault.OpProbe}
	for _, dir := range []string{state, moved} {
		for _, text := range []string{`{"version":1,"locked":true}`, "{"} {
			file := paths.LockFileIn(dir)
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			for _, m := range all {
				op := vault.Operation(m[1])
				e := &errand{request: &request{Op: op, Backend: "none", Source: "s", StateDir: moved}}
				if _, err := e.do(t.Context()); fault.Is(err, fault.Locked) == slices.Contains(may, op) {
					t.Errorf("%s, %s in %s: %v", op, text, dir, err)
				}
			}
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
		}
	}
}
