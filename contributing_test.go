package house

import (
	"os"
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
	into := regexp.MustCompile(`(?m)^ +(?:- )?run:.*\$\{\{`) // a script that text of others becomes a part of
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
		if strings.Contains(text, "pull_request_target") || into.MatchString(text) {
			t.Errorf("%s lets the text of others run", file)
		}
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

// TestContributorsFindWhatIsNamed checks that the make targets and files that CONTRIBUTING.md and the workflows name are
// there.
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
			if string(m[1]) == "release" {
				continue // TestMakeTargets has it
			}
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
