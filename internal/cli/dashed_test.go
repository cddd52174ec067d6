package cli

import (
	"bytes"
	"go/ast"
	"go/format"
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

// TestHintsWithDashedNames checks each hint in the source that puts outside text into a command of broker. A text that
// begins with "-" must be read as a name or as the value of an option. If the format begins with %s, its first
// argument is the command.
func TestHintsWithDashedNames(t *testing.T) {
	const name = "-odd"
	hintf := reflect.ValueOf(fault.Hintf)
	app := newProgram(nil, nil, nil).app()
	checked, inners := 0, 0
	// hints are the arguments of type Hint. Hintf does not change them.
	hints := map[string]bool{"typed(c)": true, "g.again": true, "rest": true, "w.option": true, "again": true}
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
			form, err := strconv.Unquote(lit.Value)
			inner := strings.HasPrefix(form, "%s ") // after a command
			if err != nil || !strings.HasPrefix(form, "broker ") && !inner || strings.Contains(form, " -- ") ||
				strings.HasPrefix(form, "broker %s") || strings.Contains(form, "%d") || strings.HasSuffix(form, "&& %s") {
				return true // of exec, or with a command or its name
			}
			args := []reflect.Value{reflect.ValueOf(form).Convert(hintf.Type().In(0))}
			texts := 0
			for i, arg := range call.Args[1:] {
				switch isHint := hints[exprOf(arg)]; {
				case i == 0 && inner && isHint:
					args = append(args, reflect.ValueOf(fault.Hint("broker shell")))
				case isHint:
					args = append(args, reflect.ValueOf(fault.Hint("")))
				default:
					texts++
					args = append(args, reflect.ValueOf(name))
				}
			}
			if texts == 0 || inner && args[1].Type() != reflect.TypeFor[fault.Hint]() {
				return true // no text, or another program's command
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
			if inner {
				inners++
			}
			return true
		})
		return nil
	})
	if err != nil || checked < 60 || inners < 5 {
		t.Errorf("%d hints were looked at, %d of them after a command, %v: the test is void", checked, inners, err)
	}
}

// exprOf returns the source text of an argument.
func exprOf(e ast.Expr) string {
	var b strings.Builder
	_ = format.Node(&b, token.NewFileSet(), e)
	return b.String()
}

// TestHintsOfTypedCommands checks the hints of commands with a profile whose name begins with "-".
func TestHintsOfTypedCommands(t *testing.T) {
	t.Setenv("BROKER_PROFILE", "other")
	for line, want := range map[string]string{
		"explain -- --all x":                  "broker explain -- --all",
		"shell --mode magic -- --all":         "broker shell --mode env -- --all",
		"shell --mode env -- --all x":         "broker shell --mode file -- --all x",
		"shell --token-file -- --all":         "broker shell --mode server --token-file -- --all",
		"shell -- --all":                      "env -u BROKER_PROFILE broker shell -- --all",
		"shell --mode server -- --all":        "env -u BROKER_PROFILE broker shell --mode server -- --all",
		"shell --mode magic a":                "broker shell a --mode env",
		"exec --mode magic a -- env":          "broker exec a --mode env -- COMMAND",
		"exec --mode server a -- env":         "env -u BROKER_PROFILE broker exec a --mode server -- env",
		"shell --mode magic --role-arn arn:x": "broker shell --role-arn arn:x --mode env",
	} {
		if got := hintOf(t, line); got != want {
			t.Errorf("broker %s: got %s, want %s", line, got, want)
		}
	}
}

// hintOf runs a command within the shell of another profile, and returns the hint of its error.
func hintOf(t *testing.T, line string) string {
	t.Helper()
	t.Setenv("HOME", t.TempDir())
	var out, problems bytes.Buffer
	newProgram(strings.NewReader(""), &out, &problems).main(append([]string{"broker"}, strings.Fields(line)...))
	_, hint, _ := strings.Cut(problems.String(), "\nhint: ")
	return strings.TrimSuffix(hint, "\n")
}
