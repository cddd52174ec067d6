package house

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"broker/internal/fault"
)

// pages returns the text of each Markdown page of the project, at the top and in docs, by its path with slashes.
func pages(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	read := func(name string) {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		all[filepath.ToSlash(name)] = string(text)
	}
	read("README.md")
	read("SECURITY.md")
	read("CHANGELOG.md")
	read("CONTRIBUTING.md")
	read("CODE_OF_CONDUCT.md")
	err := filepath.WalkDir("docs", func(name string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(name, ".md") {
			read(name)
		}
		return err
	})
	if err != nil || len(all) < 50 {
		t.Fatalf("only %d pages were found, %v: the test is void", len(all), err)
	}
	return all
}

var fence = regexp.MustCompile("(?ms)^ *```(\\w*)\n(.*?)^ *```")

// TestLinks follows each link of a page to a file or a heading of this tree. Links to the web are not followed.
func TestLinks(t *testing.T) {
	all := pages(t)
	log, err := os.ReadFile("CHANGELOG.md")
	if err != nil {
		t.Fatal(err)
	}
	all["CHANGELOG.md"] = string(log)
	anchors := map[string][]string{}
	for name, text := range all {
		anchors[name] = headings(text)
	}
	inline := regexp.MustCompile("`[^`\n]*`")
	link := regexp.MustCompile(`\]\(([^)\s]+)\)|(?:src|srcset|href)="([^"]+)"`)
	found := 0
	for name, text := range all {
		text = inline.ReplaceAllString(fence.ReplaceAllString(text, ""), "")
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			to := m[1] + m[2]
			if strings.Contains(to, "://") || strings.HasPrefix(to, "mailto:") {
				continue
			}
			found++
			file, anchor, _ := strings.Cut(to, "#")
			at := name
			if file != "" {
				at = path.Join(path.Dir(name), file)
			}
			if _, err := os.Stat(filepath.FromSlash(at)); err != nil {
				t.Errorf("%s links to %s, which does not exist", name, to)
				continue
			}
			if anchor != "" && !slices.Contains(anchors[at], anchor) {
				t.Errorf("%s links to %s, but %s has no such heading", name, to, at)
			}
		}
	}
	if found < 150 {
		t.Errorf("only %d links were found: the test is void", found)
	}
}

// headings returns the anchors of a page's headings, as forges make them.
func headings(text string) []string {
	var all []string
	count := map[string]int{}
	for line := range strings.Lines(fence.ReplaceAllString(text, "")) {
		title, ok := strings.CutPrefix(strings.TrimLeft(line, "#"), " ")
		if !ok || !strings.HasPrefix(line, "#") {
			continue
		}
		anchor := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
				return unicode.ToLower(r)
			}
			return -1
		}, strings.TrimSpace(title))
		if n := count[anchor]; n > 0 {
			all = append(all, anchor+"-"+string(rune('0'+n)))
		} else {
			all = append(all, anchor)
		}
		count[anchor]++
	}
	return all
}

// TestEveryPageIsListed: docs/README.md, the index of the book, links to each page below docs.
func TestEveryPageIsListed(t *testing.T) {
	all := pages(t)
	for name := range all {
		at, below := strings.CutPrefix(name, "docs/")
		if below && at != "README.md" && !strings.Contains(all["docs/README.md"], "]("+at+")") {
			t.Errorf("docs/README.md does not list %s", name)
		}
	}
}

// TestPagesBeginWithAnExample: a page of docs says what it is for and shows an example before its first section.
func TestPagesBeginWithAnExample(t *testing.T) {
	for name, text := range pages(t) {
		if path.Dir(name) != "docs" {
			continue // a decision has a context in the place of an example
		}
		lead, _, _ := strings.Cut(text, "\n## ")
		title, rest, _ := strings.Cut(lead, "\n")
		if !strings.HasPrefix(title, "# ") {
			t.Errorf("%s does not begin with a title", name)
		}
		if rest = strings.TrimSpace(rest); rest == "" || strings.HasPrefix(rest, "```") {
			t.Errorf("%s does not say what it is for", name)
		}
		if !strings.Contains(lead, "\n```") {
			t.Errorf("%s has no example before its first section", name)
		}
	}
}

// TestReadmeIsShort: the rest belongs into docs.
func TestReadmeIsShort(t *testing.T) {
	if n := strings.Count(pages(t)["README.md"], "\n"); n > 120 {
		t.Errorf("README.md has %d lines, want at most 120", n)
	}
}

// TestLinesOfPages: a line of a page has at most 100 columns. A row of a table cannot be folded, nor can a word.
func TestLinesOfPages(t *testing.T) {
	const most = 100
	for name, text := range pages(t) {
		at := 0
		for line := range strings.Lines(text) {
			at++
			line = strings.TrimRight(line, "\n")
			words := strings.Fields(line)
			if utf8.RuneCountInString(line) <= most || strings.HasPrefix(strings.TrimSpace(line), "|") {
				continue
			}
			long := func(word string) bool { return utf8.RuneCountInString(word) > most-20 }
			if !slices.ContainsFunc(words, long) {
				t.Errorf("%s:%d has more than %d columns", name, at, most)
			}
		}
	}
}

// translated are words by which a sentence shows that it was translated. Each row names what to write in their place.
var translated = []struct{ words, write string }{
	{`\banew\b`, "again"},
	{`\bonce more\b`, "again"},
	{`\bas ever\b`, "as before"},
	{`\bof no use\b`, "useless; without use"},
	{`\bis none\b`, "is not one; does not exist"},
	{`\bnobody says\b`, "nothing says; not given"},
	{`\bwants (?:a|an|one|its)\b`, "needs"},
	{`\bstands? in\b`, "is in"},
	{`\bcome by\b`, "get"},
	{`\bof which\b`, "two sentences"},
	{`\bwhoever\b`, "anybody who"},
}

var spaces = regexp.MustCompile(`\s+`)

// TestPlainWords keeps those words out of the pages, out of all that the programs can say (each string literal in Go,
// completion, the Makefile), and out of the comments of all Go files.
func TestPlainWords(t *testing.T) {
	var patterns []*regexp.Regexp
	for _, row := range translated {
		patterns = append(patterns, regexp.MustCompile(`(?i)`+row.words))
	}
	check := func(at, text string) {
		text = strings.ReplaceAll(spaces.ReplaceAllString(text, " "), "there is none", "") // which is good English
		for i, p := range patterns {
			if m := p.FindString(text); m != "" {
				t.Errorf("%s says %q; write: %s", at, m, translated[i].write)
			}
		}
	}
	for name, text := range pages(t) {
		for paragraph := range strings.SplitSeq(text, "\n\n") {
			check(name, paragraph)
		}
	}
	literals := 0
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (name == ".git" || name == "bin" || name == "dist"):
			return fs.SkipDir
		case strings.HasPrefix(filepath.ToSlash(name), "internal/cli/completion/") && !d.IsDir(), name == "Makefile":
			text, err := os.ReadFile(name)
			check(name, string(text))
			return err
		case !strings.HasSuffix(name, ".go") || name == "docs_test.go":
			return nil
		}
		set := token.NewFileSet()
		f, err := parser.ParseFile(set, name, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		for _, group := range f.Comments {
			check(set.Position(group.Pos()).String(), group.Text())
		}
		if strings.HasSuffix(name, "_test.go") {
			return nil
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok {
				if s := text(lit); s != nil {
					literals++
					check(set.Position(n.Pos()).String(), *s)
				}
			}
			return true
		})
		return nil
	})
	if err != nil || literals < 5000 {
		t.Errorf("%d strings were read, %v: the test is void", literals, err)
	}
}

// TestGlossary: the page has a row for each concept that has one name only.
func TestGlossary(t *testing.T) {
	page := pages(t)["docs/glossary.md"]
	for _, word := range []string{"source", "profile", "registry", "account map", "chain", "session", "MFA session", "grant",
		"delivery", "vault process", "keyring", "prompt", "code", "lock", "restart"} {
		if !regexp.MustCompile(`(?m)^\| ` + word + `(,| \|)`).MatchString(page) {
			t.Errorf("docs/glossary.md has no row for %s", word)
		}
	}
}

// TestExitCodesAreDocumented: the table in docs/reference.md is fault.ExitCodes.
func TestExitCodesAreDocumented(t *testing.T) {
	page := pages(t)["docs/reference.md"]
	_, section, _ := strings.Cut(page, "\n## Exit codes\n")
	section, _, _ = strings.Cut(section, "\n## ")
	var want []string
	for _, e := range fault.ExitCodes {
		kinds := ""
		for i, kind := range e.Kinds {
			if i > 0 {
				kinds += ","
			}
			kinds += " `" + string(kind) + "`"
		}
		want = append(want, strings.TrimSpace(fmt.Sprintf("| %d | %s |%s", e.Code, e.Meaning, kinds))+" |")
	}
	if len(want) < 10 {
		t.Fatalf("only %d exit codes were found: the test is void", len(want))
	}
	if got := regexp.MustCompile(`(?m)^\| \d+ \|.*$`).FindAllString(section, -1); !slices.Equal(got, want) {
		t.Errorf("the table of docs/reference.md is not that of fault.ExitCodes; it should be:\n%s", strings.Join(want, "\n"))
	}
}

// TestVariablesAreDocumented: docs/reference.md has each variable BROKER_… that a program of ours reads or sets.
func TestVariablesAreDocumented(t *testing.T) {
	page := pages(t)["docs/reference.md"]
	variable := regexp.MustCompile(`"(BROKER_[A-Z_]+)[="]`)
	inner := []string{"BROKER_LEFT_OUT", "BROKER_OUTER_BUS", "BROKER_TEXT", // from one process of Broker to another
		"BROKER_AUDIT_LOG", "BROKER_AUDIT_LINES", "BROKER_AUDIT_HEAD"} // fields of the journal
	found := map[string]bool{}
	for _, p := range list(t, "./cmd/...", "./internal/...") {
		for _, name := range p.GoFiles {
			src, err := os.ReadFile(filepath.Join(p.Dir, name))
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range variable.FindAllSubmatch(src, -1) {
				found[string(m[1])] = true
			}
		}
	}
	if len(found) < 7 {
		t.Fatalf("only %d variables were found: the test is void", len(found))
	}
	for name := range found {
		if !slices.Contains(inner, name) && !strings.HasPrefix(name, "BROKER_TEST_") &&
			!strings.Contains(page, "`"+name+"`") {
			t.Errorf("docs/reference.md does not have %s", name)
		}
	}
}
