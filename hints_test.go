package house

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestHintsAreQuoted: hints are made by fault.Hintf or WithHint, which quote each argument. The format must match
// its arguments and must not quote them. The compiler checks that a format is a constant and that no string is
// used as a hint; this test checks the rest.
func TestHintsAreQuoted(t *testing.T) {
	const programs = `(?:^|[:;,] )(?:broker|credproc|chmod|rm|mv|cp|env|sudo|systemctl|launchctl|icacls) `
	var (
		verbs   = regexp.MustCompile(`%%|%(\[\d+\])?.`)
		known   = regexp.MustCompile(`^(%%|%s|%d)$`)
		within  = regexp.MustCompile(`['"]%|%.['"]`)
		command = regexp.MustCompile(programs + `[a-z0-9-][^%]*%`)
		joined  = regexp.MustCompile(programs + `(?:.* )?$`)
	)
	// Hints from another process of Broker come from the wire or a pipe and are used unchanged. Package system
	// builds the commands icacls and chmod around a word that is already quoted.
	converts := map[string]bool{
		"internal/wire/json.go": true, "internal/vault/caller.go": true, "internal/client/launch.go": true,
		"internal/client/start.go": true,
	}
	exempt := map[string]bool{"internal/system/system_unix.go": true, "internal/system/system_windows.go": true}
	checked, seen := 0, map[string]bool{}
	for _, p := range list(t, "./cmd/...", "./internal/...") {
		if p.ImportPath == "broker/internal/stssim" || p.ImportPath == "broker/internal/fault" {
			continue
		}
		files, err := filepath.Glob(filepath.Join(p.Dir, "*.go")) // includes the files of other systems
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			set := token.NewFileSet()
			f, err := parser.ParseFile(set, name, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			file := strings.TrimPrefix(p.ImportPath, "broker/") + "/" + filepath.Base(name)
			wrong := func(n ast.Node, format string, args ...any) {
				t.Errorf("%s:%d: "+format, append([]any{file, set.Position(n.Pos()).Line}, args...)...)
			}
			formats := map[ast.Node]bool{}
			ast.Inspect(f, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok {
					return true
				}
				fun, ok := call.Fun.(*ast.SelectorExpr)
				if !ok || len(call.Args) == 0 {
					return true
				}
				of, _ := fun.X.(*ast.Ident)
				ofFault := of != nil && of.Name == "fault"
				if ofFault && (fun.Sel.Name == "Hint" && text(call.Args[0]) == nil || fun.Sel.Name == "ParseReport") {
					if seen[file] = true; !converts[file] {
						wrong(n, "converts a string to a hint; use fault.Hintf")
					}
				}
				if fun.Sel.Name != "WithHint" && !(ofFault && fun.Sel.Name == "Hintf") {
					return true
				}
				checked++
				format := text(call.Args[0])
				if format == nil {
					wrong(n, "the format of a hint must be a literal")
					return true
				}
				formats[call.Args[0]] = true
				count := 0
				for _, verb := range verbs.FindAllString(*format, -1) {
					if !known.MatchString(verb) {
						wrong(n, "a hint may use only %%s and %%d, not %s", verb)
					}
					if verb != "%%" {
						count++
					}
				}
				if count != len(call.Args)-1 || call.Ellipsis.IsValid() {
					wrong(n, "%d verbs for %d arguments", count, len(call.Args)-1)
				}
				if within.MatchString(*format) {
					wrong(n, "Hintf quotes words itself: %s", *format)
				}
				return true
			})
			if exempt[file] {
				continue
			}
			ast.Inspect(f, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.BasicLit:
					if s := text(n); s != nil && !formats[n] && command.MatchString(*s) {
						wrong(n, "builds a command; use fault.Hintf: %s", *s)
					}
				case *ast.BinaryExpr:
					if s := text(n.X); s != nil && n.Op == token.ADD && text(n.Y) == nil && joined.MatchString(*s) {
						wrong(n, "builds a command; use fault.Hintf: %s", *s)
					}
				}
				return true
			})
		}
	}
	if checked < 150 {
		t.Errorf("only %d hints were found: the test proves nothing", checked)
	}
	for file := range converts {
		if !seen[file] {
			t.Errorf("%s converts no string to a hint; its row checks nothing", file)
		}
	}
}

// text returns the value of a string literal; nil for anything else.
func text(e ast.Expr) *string {
	lit, ok := e.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return nil
	}
	s, err := strconv.Unquote(lit.Value)
	if err != nil {
		return nil
	}
	return &s
}
