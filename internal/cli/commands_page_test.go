package cli

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

var update = flag.Bool("update", false, "write docs/commands.md")

// commandsIntro is the start of docs/commands.md.
const commandsIntro = `# Every command

Look up a command here. This page is the help of each command, as a terminal of 80 columns shows
it. A test compares it with the command tree, so it is never out of date.

` + "```text" + `
broker help exec
broker exec --help
` + "```" + `

Both print one section of this page. When to use a command is in [tasks.md](tasks.md), and in the
page of its subject.
`

// TestCommandsPage checks that docs/commands.md is the help of each command. With -update it writes the page: go
// test ./internal/cli -run TestCommandsPage -update
func TestCommandsPage(t *testing.T) {
	const page = "../../docs/commands.md"
	t.Setenv("HOME", "") // help does not need it
	var b strings.Builder
	b.WriteString(commandsIntro)
	everyCommand(t, func(path []string, _ *cli.Command) {
		var out, problems bytes.Buffer
		words := slices.Concat([]string{"broker"}, path, []string{"--help"})
		if code := newProgram(strings.NewReader(""), &out, &problems).main(words); code != 0 {
			t.Errorf("%q ends with %d: %s", words, code, problems.String())
		}
		title := strings.Join(slices.Concat([]string{"broker"}, path), " ")
		b.WriteString("\n## " + title + "\n\n```text\n" + out.String() + "```\n")
	})
	if *update {
		if err := os.WriteFile(page, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if string(text) != b.String() {
		got, want := strings.Split(string(text), "\n"), strings.Split(b.String(), "\n")
		for i := range max(len(got), len(want)) {
			if i >= len(got) || i >= len(want) || got[i] != want[i] {
				t.Fatalf("%s differs from the help from line %d on (run with -update)", page, i+1)
			}
		}
	}
}

// TestCommandsOfPages checks that each broker command printed in README, SECURITY and docs exists with its
// options, both in code blocks and within sentences.
func TestCommandsOfPages(t *testing.T) {
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	printed := regexp.MustCompile("(?m)`(broker [a-z-][^`]*)`|^ *(?:\\$ )?(broker [a-z-].*)$|\\((broker [a-z-][^()]*)\\)")
	ends := regexp.MustCompile(`(?: && | \| | # |  ).*$`)
	found := 0
	for _, page := range append(pages, "../../README.md", "../../SECURITY.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range printed.FindAllStringSubmatch(string(text), -1) {
			if page == "../../docs/commands.md" || strings.Contains(m[0], "broker generate LABEL") {
				continue // the help itself; the mark of a block
			}
			typed := strings.Join(strings.Fields(ends.ReplaceAllString(m[1]+m[2]+m[3], "")), " ")
			words := slices.DeleteFunc(strings.Fields(typed)[1:], func(w string) bool {
				return strings.ContainsAny(w, "…[]")
			})
			found++
			app := newProgram(strings.NewReader(""), new(bytes.Buffer), new(bytes.Buffer)).app()
			var silence func(commands []*cli.Command)
			silence = func(commands []*cli.Command) {
				for _, c := range commands {
					silence(c.Subcommands)
					c.Action = func(*cli.Context) error { return nil }
				}
			}
			silence(app.Commands)
			in := read(app, words)
			if len(in.path) == 0 || len(in.commands) > 0 && len(in.words) > 0 && !takesNames(in.command) {
				t.Errorf("%s: there is no such command: %s", page, typed)
			} else if err := app.Run(append([]string{"broker"}, in.ordered...)); err != nil {
				t.Errorf("%s: %s: %v", page, typed, err)
			}
		}
	}
	if found < 300 {
		t.Errorf("only %d commands were found: the test is void", found)
	}
}
