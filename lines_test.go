package house

import (
	"go/scanner"
	"go/token"
	"os"
	"os/exec"
	"strings"
	"testing"
	"unicode/utf8"
)

// TestLinesOfGo: a line of Go has at most 120 columns, where a tab counts as one. Text in quotes does not count: a
// message or a document is easier to read in one piece. Nor do examples in a comment.
func TestLinesOfGo(t *testing.T) {
	out, err := exec.Command("git", "ls-files", "*.go").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range strings.Fields(string(out)) {
		src, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		text := []byte(string(src)) // without the text in quotes
		file := token.NewFileSet().AddFile(name, -1, len(src))
		var s scanner.Scanner
		s.Init(file, src, nil, 0)
		for pos, tok, lit := s.Scan(); tok != token.EOF; pos, tok, lit = s.Scan() {
			for at := range lit {
				if tok == token.STRING && lit[at] != '\n' {
					text[file.Offset(pos)+at] = 0
				}
			}
		}
		for i, line := range strings.Split(strings.ReplaceAll(string(text), "\x00", ""), "\n") {
			if n := utf8.RuneCountInString(line); n > 120 && !strings.HasPrefix(line, "//\t") {
				t.Errorf("%s:%d has %d columns", name, i+1, n)
			}
		}
	}
}
