package vault

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"broker/internal/fault"
	"broker/internal/lockfile"
	"broker/internal/paths"
)

// operations returns all constants of the type Operation in the package, by value.
func operations(t *testing.T) map[Operation]string {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	all := map[Operation]string{}
	for _, name := range files {
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok || len(spec.Values) != 1 {
				return true
			}
			if kind, ok := spec.Type.(*ast.Ident); !ok || kind.Name != "Operation" {
				return true
			}
			text, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			all[Operation(text)] = spec.Names[0].Name
			return true
		})
	}
	return all
}

// TestLockedCaller: while Broker is locked, all operations but three are refused before a process starts, wherever the
// lock file is. A lock file that cannot be parsed counts as a lock.
func TestLockedCaller(t *testing.T) {
	all := operations(t)
	if len(all) < 19 {
		t.Fatalf("found %d operations: the test proves nothing", len(all))
	}
	home := t.TempDir()
	t.Setenv("HOME", home)
	state := paths.StateBelow(home)
	moved := t.TempDir()
	if err := os.MkdirAll(state, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{state, moved} {
		for _, text := range []string{`{"version":1,"locked":true}`, "{"} {
			file := paths.LockFileIn(dir)
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			for op, name := range all {
				may := op == OpDrop || op == OpCheck || op == OpProbe
				// Starting this program would fail in another way.
				c := &Caller{Exe: filepath.Join(home, "none"), StateDir: moved}
				_, err := c.run(t.Context(), &Request{Op: op, Backend: File, Source: "s"})
				if fault.Is(err, fault.Locked) == may {
					t.Errorf("%s, %s in %s: %v", name, text, dir, err)
				}
			}
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := lockfile.Find(moved).Refuse(); err != nil {
		t.Fatalf("still locked: %v", err)
	}
	c := &Caller{Exe: filepath.Join(home, "none"), StateDir: moved}
	if err := c.Remove(t.Context(), "s"); err == nil || fault.Is(err, fault.Locked) {
		t.Errorf("unlocked: %v", err)
	}
}
