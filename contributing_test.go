package house

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestWorkflowsAreLeast checks what actionlint does not: a workflow may only read the code unless one of its jobs says
// more, uses actions by the hash of a commit, keeps no token in the clone, and runs no code of a pull request with the
// rights of this repository.
func TestWorkflowsAreLeast(t *testing.T) {
	files, err := filepath.Glob(".github/workflows/*.yml")
	if err != nil || len(files) < 3 {
		t.Fatalf("%d workflows were found, %v: the test is void", len(files), err)
	}
	uses := regexp.MustCompile(`(?m)uses: (.*)$`)
	pinned := regexp.MustCompile(`^[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$`)
	for _, file := range files {
		src, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		text := string(src)
		if !strings.Contains(text, "\npermissions:\n  contents: read\njobs:") &&
			!strings.Contains(text, "\npermissions:\n  contents: read\nconcurrency:") {
			t.Errorf("%s does not begin with the permission to read alone", file)
		}
		actions := uses.FindAllStringSubmatch(text, -1)
		if len(actions) == 0 {
			t.Errorf("%s uses no action: the test is void", file)
		}
		for _, m := range actions {
			if !pinned.MatchString(m[1]) {
				t.Errorf("%s uses %s: name the hash of the commit, and the version behind #", file, m[1])
			}
		}
		checkouts := strings.Count(text, "actions/checkout@")
		if strings.Count(text, "persist-credentials: false") != checkouts {
			t.Errorf("%s leaves its token in a clone", file)
		}
		if strings.Contains(text, "pull_request_target") {
			t.Errorf("%s runs code of a pull request with the rights of this repository", file)
		}
		for _, line := range unsafeExpressions(text) {
			t.Errorf("%s lets the text of others run: %s", file, line)
		}
		// Tools of others run in make release. They get neither a secret nor a right to write.
		for job := range strings.SplitSeq(text, "\n    runs-on: ") {
			if strings.Contains(job, "make release") && regexp.MustCompile(`secrets\.|: write`).MatchString(job) {
				t.Errorf("%s: the job that runs make release has a secret or may write", file)
			}
		}
	}
}

// unsafeExpressions returns the lines of a workflow with an expression that may become a part of a script. An
// expression is safe as the value, on one line, of a key that no script is in.
func unsafeExpressions(workflow string) (lines []string) {
	safe := regexp.MustCompile(`^ +(?:- )?(?:[A-Z_]+|group|cancel-in-progress|runs-on): [\w-]*\$\{\{[^{}]*\}\}$`)
	block := regexp.MustCompile(`^( *(?:- )*)[\w-]+: [|>][-+0-9]*$`)
	within := -1 // the column of the key whose block a line belongs to
	for _, line := range strings.Split(workflow, "\n") {
		indent := len(line) - len(strings.TrimLeft(line, " "))
		if strings.TrimSpace(line) != "" && indent <= within {
			within = -1
		}
		if strings.Contains(line, "${{") && (within >= 0 || !safe.MatchString(line)) {
			lines = append(lines, strings.TrimSpace(line))
		}
		if m := block.FindStringSubmatch(line); m != nil && within < 0 {
			within = len(m[1])
		}
	}
	return lines
}

// TestUnsafeExpressions: an expression is found wherever YAML lets a script be written.
func TestUnsafeExpressions(t *testing.T) {
	const title = "${{ github.event.pull_request.title }}"
	for workflow, want := range map[string]int{
		"      - run: echo " + title:                                           1,
		"      - run: |\n          echo a\n          echo " + title:            1,
		"      - run: |\n\n          TITLE: " + title:                          1,
		"        run: >-\n          echo\n          " + title:                  1,
		"        run: echo a\n          " + title:                              1,
		"      - {run: 'echo " + title + "'}":                                  1,
		"          script: |\n            log(" + title + ")":                  1,
		"        run: |\n          a\n        env:\n          TITLE: " + title: 0,
		"        env:\n          TITLE: " + title + "\n        run: a":         0,
		"  group: test-" + title:                                               0,
	} {
		if got := unsafeExpressions(workflow); len(got) != want {
			t.Errorf("%s\ngot %q, want %d lines", workflow, got, want)
		}
	}
}

// TestReleaseNotes: the notes of a release are its section of the changelog, and no other.
func TestReleaseNotes(t *testing.T) {
	workflow, err := os.ReadFile(".github/workflows/release.yml")
	if err != nil {
		t.Fatal(err)
	}
	program := regexp.MustCompile(`awk -v this="## \$\{VERSION#v\}" '([^']+)'`).FindSubmatch(workflow)
	if program == nil {
		t.Fatal("release.yml makes no notes by awk: the test is void")
	}
	cmd := exec.Command("awk", "-v", "this=## 1.2.3", string(program[1]))
	cmd.Stdin = strings.NewReader("# Changelog\n\n## 1.2.30\n\nlater\n\n## 1.2.3\n\nthis\n\n## 1.2\n\nearlier\n")
	if got, err := cmd.CombinedOutput(); err != nil || string(got) != "## 1.2.3\n\nthis\n\n" {
		t.Errorf("got %q, %v", got, err)
	}
}

// TestPlacesNameOneGo checks that workflows and the devcontainer have the Go version of go.mod.
func TestPlacesNameOneGo(t *testing.T) {
	mod, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	version := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindSubmatch(mod)
	files, err := filepath.Glob(".github/workflows/*.yml")
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile(`golang:(\d+\.\d+)-|go-version: '(\d+\.\d+)'`)
	for _, file := range append(files, ".devcontainer/devcontainer.json") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		places := named.FindAllStringSubmatch(string(text), -1)
		if len(places) == 0 {
			t.Errorf("%s names no version of Go", file)
		}
		for _, m := range places {
			if m[1]+m[2] != string(version[1]) {
				t.Errorf("%s has Go %s, go.mod %s", file, m[1]+m[2], version[1])
			}
		}
	}
}

// TestDocsHaveThePinsOfTheMakefile: a tool that a page runs with `go run` has the version that the Makefile pins.
func TestDocsHaveThePinsOfTheMakefile(t *testing.T) {
	makefile, err := os.ReadFile("Makefile")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for name, text := range pages(t) {
		for _, m := range regexp.MustCompile(`\bgo run (\S+@v\S+)`).FindAllStringSubmatch(text, -1) {
			found++
			if !strings.Contains(string(makefile), " "+m[1]+"\n") {
				t.Errorf("%s runs %s, which the Makefile does not pin", name, m[1])
			}
		}
	}
	if found == 0 {
		t.Error("no page runs a pinned tool: the test is void")
	}
}

// TestContributorsFindWhatIsNamed checks that the make targets and files that CONTRIBUTING.md and the workflows name
// are there.
func TestContributorsFindWhatIsNamed(t *testing.T) {
	makefile, err := os.ReadFile("Makefile")
	if err != nil {
		t.Fatal(err)
	}
	pages, err := filepath.Glob(".github/*/*.yml")
	if err != nil {
		t.Fatal(err)
	}
	target := regexp.MustCompile("(?m)(?:^make|`make|run: make|^ +make) ([a-z-]+)")
	path := regexp.MustCompile("`((?:internal|docs|e2e)/[a-z0-9_/.-]+|[a-z_]+\\.go|\\.[a-z]+/[a-z]+)`")
	targets, paths := 0, 0
	for _, page := range append(pages, "CONTRIBUTING.md", ".github/pull_request_template.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range target.FindAllSubmatch(text, -1) {
			targets++
			if !regexp.MustCompile(`(?m)^` + string(m[1]) + `:.*## \S`).Match(makefile) {
				t.Errorf("%s names make %s, which has no help text", page, m[1])
			}
		}
		for _, m := range path.FindAllSubmatch(text, -1) {
			paths++
			found := false
			for _, at := range []string{"", "internal/cli", "internal/grant", "internal/profiles", "internal/vault/process"} {
				_, err := os.Stat(filepath.Join(at, string(m[1])))
				found = found || err == nil
			}
			if !found {
				t.Errorf("%s names %s, which is not there", page, m[1])
			}
		}
	}
	if targets < 10 || paths < 15 {
		t.Errorf("only %d targets and %d paths were found: the test is void", targets, paths)
	}
}
