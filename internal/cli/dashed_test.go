package cli

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"broker/internal/fault"
)

// TestHintsWithDashedNames checks hints that put outside text into a broker command. If the text is a name that
// begins with "-", the command still reads it as a name or as the value of an option, and not as an option.
func TestHintsWithDashedNames(t *testing.T) {
	const name = "-odd"
	hintf := reflect.ValueOf(fault.Hintf)
	app := newProgram(nil, nil, nil).app()
	checked := 0
	err := filepath.WalkDir("..", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, path, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || len(call.Args) < 2 {
				return true
			}
			fun, ok := call.Fun.(*ast.SelectorExpr)
			lit, literal := call.Args[0].(*ast.BasicLit)
			if !ok || !literal || fun.Sel.Name != "WithHint" && fun.Sel.Name != "Hintf" {
				return true
			}
			format, err := strconv.Unquote(lit.Value)
			if err != nil || !strings.HasPrefix(format, "broker ") || strings.Contains(format, " -- ") ||
				strings.HasPrefix(format, "broker %s") || strings.Contains(format, "%d") || strings.HasSuffix(format, "&& %s") {
				return true // of exec, or with a command or its name
			}
			args := []reflect.Value{reflect.ValueOf(format).Convert(hintf.Type().In(0))}
			for range strings.Count(format, "%s") {
				args = append(args, reflect.ValueOf(name))
			}
			hint := hintf.Call(args)[0].String()
			hint, _, _ = strings.Cut(hint, " < ")
			hint, _, _ = strings.Cut(hint, " && ")
			words := strings.Fields(strings.ReplaceAll(hint, "'", ""))
			in := read(app, words[1:])
			at := slices.Index(in.ordered, "--")
			options := in.ordered[len(in.path):at]
			for i, word := range options {
				if word == name && (i == 0 || !takesValue(in.flags, options[i-1])) {
					t.Errorf("%s: %q reads the name as an option", set.Position(call.Pos()), hint)
				}
			}
			if !slices.Contains(in.ordered, name) {
				t.Errorf("%s: %q lost the name", set.Position(call.Pos()), hint)
			}
			checked++
			return true
		})
		return nil
	})
	if err != nil || checked < 60 {
		t.Errorf("only %d hints were checked, %v: the test is void", checked, err)
	}
}
