// Package house tests the rules of this tree: which package may import which, that each package has a comment, and
// that what the docs print is true.
package house

import (
	"encoding/json"
	"errors"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"broker/internal/testproc"
	"broker/internal/testtree"
)

func TestMain(m *testing.M) { os.Exit(testproc.Run(m)) }

// pkg is a package in the output of `go list -json`.
type pkg struct {
	ImportPath string
	Dir        string
	Standard   bool
	GoFiles    []string
	Imports    []string
	Deps       []string
}

// goList is what `go list` prints.
func goList(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list"}, args...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// list returns packages. Those of this module are called broker/…, whatever the path of the module is.
func list(t *testing.T, patterns ...string) []pkg {
	t.Helper()
	module := strings.TrimSpace(goList(t, "-m"))
	out := goList(t, append([]string{"-json=ImportPath,Dir,Standard,GoFiles,Imports,Deps"}, patterns...)...)
	out = strings.NewReplacer(`"`+module+`"`, `"broker"`, `"`+module+`/`, `"broker/`, `[`+module+`/`, `[broker/`).Replace(out)
	var all []pkg
	for d := json.NewDecoder(strings.NewReader(out)); d.More(); {
		var p pkg
		if err := d.Decode(&p); err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	if len(all) == 0 {
		t.Fatal("go list found no package: the test proves nothing")
	}
	return all
}

// TestTestsLeaveTheTerminal: tests that can start a process run in testproc, so that no program that they start
// can prompt on the terminal of the person who runs them. Such tests reach os/exec, directly or through their
// package.
func TestTestsLeaveTheTerminal(t *testing.T) {
	main := regexp.MustCompile(`(?s)\nfunc TestMain\(m \*testing\.M\) \{.*\bRun\(m\)`)
	checked := 0
	for _, p := range list(t, "-test", "./...") {
		path, _, variant := strings.Cut(p.ImportPath, " [")
		if !variant || !slices.Contains(p.Deps, "os/exec") {
			continue
		}
		tests, err := filepath.Glob(filepath.Join(p.Dir, "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, name := range tests {
			src, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			found = found || main.Match(src)
		}
		if !found {
			t.Errorf("the tests of %s can start a process: their TestMain must call testproc.Run", path)
		}
		checked++
	}
	if checked < 10 {
		t.Errorf("only %d packages were found: the test proves nothing", checked)
	}
}

// TestEveryTestHasItsTarget: each test belongs to exactly one of `make test`, test-long, test-clients and soak, by
// the build tag of its file and by its name, and .ci/run runs all of them. No test may be skipped in another way:
// see docs/testing.md.
func TestEveryTestHasItsTarget(t *testing.T) {
	makefile, err := os.ReadFile("Makefile")
	if err != nil {
		t.Fatal(err)
	}
	ci, err := os.ReadFile(".ci/run")
	if err != nil {
		t.Fatal(err)
	}
	for target, selects := range map[string]string{
		"check":        "$(MAKE) race",
		"race":         "-skip 'Long$$'",
		"test":         "-skip 'Long$$' ./...",
		"test-long":    "-run 'Long$$' ./...",
		"test-clients": "-tags clients -count 1 -timeout 30m -run 'Client' ./e2e ./internal/...",
		"soak":         "-tags soak -count 1 -timeout 0 -v -run TestSoak ./e2e",
	} {
		rule := regexp.MustCompile(`(?m)^` + target + `:.*\n(\t.*\n)+`).Find(makefile)
		if !strings.Contains(string(rule), selects) {
			t.Errorf("make %s does not select its tests with %s", target, selects)
		}
		if target != "race" && !regexp.MustCompile(`(?m)^[^#\n]*\bmake `+target+`(\s|$)`).Match(ci) {
			t.Errorf(".ci/run does not run make %s", target)
		}
	}
	tag := regexp.MustCompile(`(?m)^//go:build (.*)$`)
	test := regexp.MustCompile(`(?m)^func (Test[A-Z]\w*)\(t \*testing\.T\)`)
	long := 0
	err = filepath.WalkDir(".", func(path string, d os.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		src, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		tags := ""
		if m := tag.FindSubmatch(src); m != nil {
			tags = string(m[1])
		}
		clients, soak := strings.Contains(tags, "clients"), strings.Contains(tags, "soak")
		for _, m := range test.FindAllSubmatch(src, -1) {
			name := string(m[1])
			if strings.HasSuffix(name, "Long") {
				long++
			}
			if clients != strings.Contains(name, "Client") {
				t.Errorf("%s: %s: in files with the tag clients, and only there, names of tests contain Client", path, name)
			}
			if soak != strings.HasPrefix(name, "TestSoak") {
				t.Errorf("%s: %s: in files with the tag soak, and only there, names of tests begin with TestSoak", path, name)
			}
		}
		if call := "testing." + "Short()"; strings.Contains(string(src), call) {
			t.Errorf("%s: %s is always false: end the names of slow tests in Long instead", path, call)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if long < 10 {
		t.Errorf("only %d long tests were found: the test proves nothing", long)
	}
}

// TestEveryFileHasItsSubject: docs/testing.md says what each file of e2e covers, and names no other file.
func TestEveryFileHasItsSubject(t *testing.T) {
	page, err := os.ReadFile("docs/testing.md")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("e2e/*_test.go")
	if err != nil || len(files) < 20 {
		t.Fatalf("only %d files were found, %v: the test proves nothing", len(files), err)
	}
	for _, file := range files {
		if !strings.Contains(string(page), "`"+filepath.Base(file)+"`") {
			t.Errorf("docs/testing.md does not say what %s covers", file)
		}
	}
	for _, m := range regexp.MustCompile("`([a-z_0-9]+_test\\.go)`").FindAllSubmatch(page, -1) {
		name := string(m[1])
		if !slices.Contains(files, filepath.Join("e2e", name)) && name != "house_test.go" {
			t.Errorf("docs/testing.md names %s, which is not in e2e", name)
		}
	}
}

// TestForbiddenImports: each row names a package that another one must not import, directly or indirectly, and
// why.
func TestForbiddenImports(t *testing.T) {
	const (
		sdk     = "github.com/aws/aws-sdk-go-v2"
		keyring = "github.com/99designs/keyring"
		slow    = "docs/dependencies.md: this version costs 1 to 2 ms at each start"
	)
	rows := []struct{ from, to, why string }{
		{"broker/cmd/broker", sdk, "the command line asks the daemon, which asks AWS"},
		{"broker/cmd/broker", keyring, "the command line starts vault processes; brokerd is one"},
		{"broker/cmd/broker", "github.com/godbus/", "the command line dials no bus; brokerd does"},
		{"broker/cmd/broker", "broker/internal/vault/process", "the command line starts vault processes; brokerd is one"},
		{"broker/cmd/broker", "broker/internal/brokerd", "the command line starts brokerd"},
		{"broker/cmd/broker", "broker/internal/daemon", "the command line asks the daemon"},
		{"broker/cmd/broker", "broker/internal/exchange", "the command line asks the daemon, which asks AWS"},
		{"broker/cmd/broker", "net/http", "initializing TLS and HTTP would add to the run time of each command"},
		{"broker/cmd/broker", "encoding/xml", "initializing its table of entities would add to the run time of each command"},
		{"broker/cmd/broker", "internal/coverage/cfile", "a program must not write to the directory in GOCOVERDIR"},
		{"broker/cmd/brokerd", "internal/coverage/cfile", "a program must not write to the directory in GOCOVERDIR"},
		{"broker/cmd/brokerd", sdk + "/service/codeartifact/schemas", slow},
		{"broker/cmd/brokerd", sdk + "/service/ecr/schemas", slow},
		{"broker/cmd/brokerd", sdk + "/service/organizations/schemas", slow},
		{"broker/cmd/credproc", "internal/coverage/cfile", "a program must not write to the directory in GOCOVERDIR"},
		{"broker/cmd/credproc", "net/http", "credproc starts at every call of a tool, so it must be small and fast"},
		{"broker/cmd/credproc", "github.com/", "credproc uses only the standard library"},
		{"broker/cmd/credproc", "golang.org/", "credproc uses only the standard library"},
		{"broker/cmd/credproc", "gopkg.in/", "credproc uses only the standard library"},
		{"broker/internal/agent", "broker/", "a leaf: it knows nothing about requests"},
		{"broker/internal/fault", "broker/", "a leaf: all packages make their errors there"},
		{"broker/internal/secret", "broker/", "a leaf: all packages hold their secrets there"},
		{"broker/internal/paths", "broker/", "a leaf"},
		{"broker/internal/system", "broker/", "below the leaves"},
		{"broker/internal/environ", "broker/internal/wire", "it knows nothing about the protocol"},
		{"broker/internal/environ", "os/exec", "it runs nothing"},
		{"broker/internal/atomicfile", "broker/", "a leaf"},
		{"broker/internal/bundle", "broker/", "a leaf"},
		{"broker/internal/partition", "broker/internal/fault", "a leaf: it knows nothing about requests"},
		{"broker/internal/partition", "github.com/", "the command line and the console import it"},
		{"broker/internal/lazyregexp", "broker/", "a leaf"},
		{"broker/internal/peer", "broker/", "a leaf: it knows nothing about the protocol"},
		{"broker/internal/peer", "net", "credproc links it"},
		{"broker/internal/peer", "golang.org/", "credproc links it"},
		{"broker/cmd/credproc", "crypto/", "credproc has no use for cryptography, and would initialize it at every start"},
		{"broker/cmd/credproc", "net", "initializing the poller and the resolver would take a large part of its run time"},
		{"broker/internal/dial", "broker/", "a leaf: it knows nothing about the protocol"},
		{"broker/internal/record", "broker/internal/paths", "its callers say where a file is, and it knows nothing about the content"},
		{"broker/internal/record", "broker/internal/profiles", "it knows nothing about the content of a file"},
		{"broker/internal/record", "github.com/", "a leaf, used in credproc too: only the standard library, system and fault"},
		{"broker/internal/child", "broker/", "a leaf: it runs what it is given"},
		{"broker/internal/tty", "broker/", "a leaf: it knows nothing about prompts"},
		{"broker/internal/tty", "golang.org/", "credproc links it"},
		{"broker/internal/socket", "broker/internal/wire", "it knows nothing about the protocol"},
		{"broker/internal/harden", "broker/", "a leaf"},
		{"broker/internal/harden/nodump", "broker/", "must be initialized before anything that takes time"},
		{"broker/internal/harden/nodump", "os", "must be initialized before anything that takes time"},
		{"broker/internal/service", "broker/internal/daemon", "it writes the files that start the daemon, and knows nothing about the daemon"},
		{"broker/internal/service", "os/exec", "it runs nothing; the command line does"},
		{"broker/internal/vault/process/nodbus", "broker/", "must be initialized before anything of github.com"},
		{"broker/internal/vault/process/ready", "github.com/", "must be initialized before anything of github.com"},
		{"broker/internal/vault/process/ready", "golang.org/", "these packages are initialized after those of github.com"},
		{"broker/internal/wire", "broker/internal/session", "the protocol knows nothing about how a credential is made"},
		{"broker/internal/profiles", sdk, "profiles are read by our own rules, with file and line"},
		{"broker/internal/session", sdk, "the core declares what it needs; exchange implements it"},
		{"broker/internal/session", keyring, "the core declares what it needs; the vault implements it"},
		{"broker/internal/session", "net", "the core knows no sockets"},
		{"broker/internal/daemon", sdk, "the daemon calls session.Broker; there is no second path to STS"},
		{"broker/internal/daemon", keyring, "long-lived keys never enter the daemon"},
		{"broker/internal/daemon", "github.com/godbus/", "logind dials the system bus, and notice the session bus"},
		{"broker/internal/rotate", "broker/internal/vault", "it decides the steps of a rotation; others make them"},
		{"broker/internal/rotate", "net", "it makes no call"},
		{"broker/internal/logind", "broker/", "a leaf: it reports events, and knows nothing about locking"},
		{"broker/internal/notice", "broker/internal/session", "it shows a text, and knows nothing about sessions"},
		{"broker/internal/vault", sdk, "the command line starts vault processes; the process calls AWS"},
		{"broker/internal/vault", keyring, "the command line starts vault processes; the process opens the keyring"},
		{"broker/internal/vault", "github.com/godbus/", "the command line starts vault processes; the process opens the keyring"},
		{"broker/internal/vault", "broker/internal/vault/process", "code that runs at the start of a program is only for the vault process"},
		{"broker/internal/lockfile", "broker/internal/vault", "the passphrase for unlock is not that of the keyring"},
		{"broker/internal/lockfile", "net", "it only uses a file"},
		{"broker/internal/stretch", "broker/", "a leaf: it knows nothing about the use of the key"},
		{"broker/internal/exchange", keyring, "exchange signs with the keys that it gets"},
		{"broker/internal/mfa", "broker/internal/vault", "the vault calls mfa, not the other way round"},
		{"broker/internal/mfa", sdk, "codes are computed and recorded here, not sent"},
		{"broker/internal/accounts", "broker/internal/profiles", "a map says which roles exist, and nothing about the files"},
		{"broker/internal/accounts", sdk, "its callers pass the list of AWS Organizations to it"},
		{"broker/internal/accounts", "net", "only git fetches"},
		{"broker/internal/policy", "broker/internal/profiles", "its callers say which roles and accounts"},
		{"broker/internal/policy", sdk, "it prints policies, and applies none"},
		{"broker/internal/foreign", keyring, "it names the keyrings of other tools; the vault process opens them"},
		{"broker/internal/foreign", "broker/internal/vault/process", "it names the keyrings of other tools"},
		{"broker/internal/daemon", "broker/internal/foreign", "the daemon serves the result of an import of other tools' settings"},
		{"broker/internal/console", sdk, "it opens a browser; exchange gets the token"},
		{"broker/internal/console", "broker/internal/profiles", "its callers say which page and which browser"},
		{"broker/internal/testbus", "broker/", "a leaf: it knows nothing about the package under test"},
		{"broker/internal/testproc", "broker/", "a leaf: the tests of every other leaf import it"},
		{"broker/internal/testtree", "broker/", "a leaf: it knows nothing about the package under test"},
		{"broker/internal/dist", "net/http", "its output depends on the commit alone"},
		{"broker/internal/brokerd", "github.com/urfave/", "the daemon has only two flags"},
		{"broker/cmd/brokerd", "testing", "test code must not be in a program"},
		{"broker/cmd/broker", "testing", "test code must not be in a program"},
		{"broker/internal/stssim", "broker/", "the simulator shares no code with what it tests"},
		{"broker/internal/stssim", sdk, "the simulator verifies SigV4 on its own"},
		{"broker/internal/stssim", "github.com/pquerna/otp", "the simulator computes its own codes"},
	}
	deps := map[string][]string{}
	for _, p := range list(t, "./...") {
		deps[p.ImportPath] = p.Deps
	}
	for _, row := range rows {
		reached, ok := deps[row.from]
		if !ok {
			t.Errorf("there is no package %s; its row checks nothing", row.from)
		}
		for _, dep := range reached {
			if row.to == "broker/" && dep == "broker/internal/system" && row.from != dep {
				continue // below the leaves: it hides the differences of operating systems
			}
			if row.to == "broker/" && row.from == "broker/internal/dial" && dep == "broker/internal/peer" {
				continue // a client checks who listens before it sends anything
			}
			if row.to == "broker/" && strings.HasPrefix(dep, row.from+"/") {
				continue // a part of itself
			}
			below := strings.HasPrefix(dep, strings.TrimSuffix(row.to, "/")+"/")
			if dep == row.to || below && row.to != "net" { // net/netip has no sockets

				t.Errorf("%s imports %s, directly or indirectly: %s", row.from, dep, row.why)
				break
			}
		}
	}
}

// TestEverySystem: `make build-all`, which CI runs, builds for six targets. On each of them, credproc imports only
// the standard library and our packages, and not net where processes start fast.
func TestEverySystem(t *testing.T) {
	makefile, err := os.ReadFile("Makefile")
	if err != nil {
		t.Fatal(err)
	}
	ci, err := os.ReadFile(".ci/run")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(ci), "make build-all") {
		t.Error(".ci/run does not run make build-all")
	}
	line := regexp.MustCompile(`(?m)^targets := (.*)$`).FindSubmatch(makefile)
	if line == nil {
		t.Fatal("the Makefile has no targets")
	}
	targets := strings.Fields(string(line[1]))
	for _, want := range []string{"linux/amd64", "linux/arm64", "darwin/amd64", "darwin/arm64", "windows/amd64", "windows/arm64"} {
		if !slices.Contains(targets, want) {
			t.Errorf("make build-all does not build for %s", want)
		}
	}
	for _, target := range targets {
		system, arch, _ := strings.Cut(target, "/")
		t.Setenv("GOOS", system)
		t.Setenv("GOARCH", arch)
		t.Setenv("CGO_ENABLED", "0")
		for _, p := range list(t, "-deps", "./cmd/credproc") {
			if !p.Standard && !strings.HasPrefix(p.ImportPath, "broker/") {
				t.Errorf("%s: credproc imports %s, which is not in the standard library", target, p.ImportPath)
			}
			if p.ImportPath == "net/http" || p.ImportPath == "net" && system != "windows" {
				t.Errorf("%s: credproc imports %s: see TestForbiddenImports", target, p.ImportPath)
			}
		}
	}
}

// TestOnlyImporters: only these packages may import each of these libraries.
func TestOnlyImporters(t *testing.T) {
	const v5 = "github.com/godbus/dbus/v5" // another library, although its path is below the old one's
	rows := []struct{ library, doors string }{
		{"github.com/aws/aws-sdk-go-v2", "broker/internal/exchange"},
		{"github.com/99designs/keyring", "broker/internal/vault/process"},
		{"github.com/godbus/dbus", "broker/internal/vault/process"},
		{v5, "broker/internal/logind broker/internal/notice"},
		{"golang.org/x/crypto", "broker/internal/stretch"},
		{"golang.org/x/net", "broker/internal/exchange"},
		{"github.com/pquerna/otp", "broker/internal/mfa"},
		{"github.com/urfave/cli/v2", "broker/internal/cli"},
		{"github.com/junegunn/fzf", "broker/internal/cli"},
		{"gopkg.in/ini.v1", "broker/internal/stssim"},
	}
	all := list(t, "./...")
	for _, row := range rows {
		used := false
		for _, p := range all {
			for _, imp := range p.Imports {
				if imp != row.library && !strings.HasPrefix(imp, row.library+"/") || row.library != v5 && strings.HasPrefix(imp, v5) {
					continue
				}
				if !slices.Contains(strings.Fields(row.doors), p.ImportPath) {
					t.Errorf("%s imports %s; only %s may", p.ImportPath, imp, row.doors)
				}
				used = true
			}
		}
		if !used {
			t.Errorf("no package imports %s; its row checks nothing", row.library)
		}
	}
}

// TestPlainRequests: the messages to a vault process and back contain plain secrets, so only the two sides may use
// their types.
func TestPlainRequests(t *testing.T) {
	plain := regexp.MustCompile(`\bvault\.(Request|Answer|Credentials)\b`)
	found := 0
	for _, p := range list(t, "./...") {
		for _, name := range p.GoFiles {
			src, err := os.ReadFile(filepath.Join(p.Dir, name))
			if err != nil {
				t.Fatal(err)
			}
			switch m := plain.Find(src); {
			case m == nil:
			case p.ImportPath == "broker/internal/vault/process":
				found++
			default:
				t.Errorf("%s/%s uses %s", p.ImportPath, name, m)
			}
		}
	}
	if found == 0 {
		t.Error("package process does not use these types: the test proves nothing")
	}
}

// TestPackageComments: each package has exactly one package comment.
func TestPackageComments(t *testing.T) {
	for _, p := range list(t, "./...") {
		comments := 0
		for _, name := range p.GoFiles {
			f, err := parser.ParseFile(
				token.NewFileSet(),
				filepath.Join(p.Dir, name),
				nil,
				parser.PackageClauseOnly|parser.ParseComments,
			)
			if err != nil {
				t.Fatal(err)
			}
			if f.Doc != nil {
				comments++
				if !strings.HasPrefix(f.Doc.Text(), "Package ") && !strings.HasPrefix(f.Doc.Text(), "Command ") {
					t.Errorf("%s/%s: the comment does not begin with Package or Command", p.ImportPath, name)
				}
			}
		}
		if len(p.GoFiles) > 0 && comments != 1 {
			t.Errorf("%s has %d package comments, want 1", p.ImportPath, comments)
		}
	}
}

// TestPatterns: every regular expression is valid, and none is compiled at the start of a program that starts
// often.
func TestPatterns(t *testing.T) {
	literal := regexp.MustCompile("(lazyregexp\\.New|regexp\\.MustCompile)\\(([^)\n]*)")
	checked := 0
	for _, p := range list(t, "./cmd/broker/...", "./cmd/brokerd/...", "./internal/...") {
		if p.ImportPath == "broker/internal/stssim" || p.ImportPath == "broker/internal/lazyregexp" {
			continue
		}
		for _, name := range p.GoFiles {
			src, err := os.ReadFile(filepath.Join(p.Dir, name))
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range literal.FindAllStringSubmatch(string(src), -1) {
				pattern, _, quoted := strings.Cut(strings.TrimPrefix(m[2], "`"), "`")
				switch {
				case m[1] != "lazyregexp.New":
					t.Errorf("%s/%s: use lazyregexp: %s", p.ImportPath, name, m[0])
				case !strings.HasPrefix(m[2], "`"):
					t.Errorf("%s/%s: a pattern must be a raw string: %s", p.ImportPath, name, m[0])
				case !quoted: // it continues after a parenthesis
					whole := string(src)[strings.Index(string(src), m[0])+len(m[1])+2:]
					pattern = whole[:strings.IndexByte(whole, '`')]
				}
				if _, err := regexp.Compile(pattern); err != nil {
					t.Errorf("%s/%s: %v", p.ImportPath, name, err)
				}
				checked++
			}
		}
	}
	if checked < 20 {
		t.Errorf("only %d patterns were found: the test proves nothing", checked)
	}
}

// TestMainsHaveNoLogic: a main function only calls the Main of a package.
func TestMainsHaveNoLogic(t *testing.T) {
	mains, err := filepath.Glob("cmd/*/main.go")
	if err != nil || len(mains) != 4 {
		t.Fatalf("want four programs, got %v, %v", mains, err)
	}
	for _, main := range mains {
		src, err := os.ReadFile(main)
		if err != nil {
			t.Fatal(err)
		}
		_, body, _ := strings.Cut(string(src), "func main()")
		if lines := strings.Count(body, "\n"); lines > 4 {
			t.Errorf("%s: main has %d lines", main, lines)
		}
	}
}

func TestGoMod(t *testing.T) {
	mod, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	if regexp.MustCompile(`(?m)^\s*replace\b`).Match(mod) {
		t.Error("go.mod replaces a module, so the build would not use the version that it names")
	}
	// jose2go up to 1.5.0 can be made to use all memory or time by an encrypted file (CVE-2023-50658,
	// CVE-2025-63811); the keyring library still requires 1.5.0.
	version := regexp.MustCompile(`github\.com/dvsekhvalnov/jose2go v1\.(\d+)\.`).FindSubmatch(mod)
	if version == nil || len(version[1]) < 2 && version[1][0] < '8' {
		t.Errorf("go.mod does not require a fixed version of jose2go: %s", version)
	}
}

// TestDependenciesAreNamed: docs/dependencies.md has a line for each direct dependency.
func TestDependenciesAreNamed(t *testing.T) {
	mod, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := os.ReadFile("docs/dependencies.md")
	if err != nil {
		t.Fatal(err)
	}
	direct := regexp.MustCompile(`(?m)^\t(\S+) v\S+$`).FindAllSubmatch(mod, -1)
	if len(direct) < 5 {
		t.Fatalf("found only %d direct dependencies: the test proves nothing", len(direct))
	}
	for _, m := range direct {
		if !strings.Contains(string(doc), "`"+string(m[1])+"`") {
			t.Errorf("docs/dependencies.md has no line for %s", m[1])
		}
	}
}

// TestMapOfTheHouse: docs/design.md lists every package, and no other.
func TestMapOfTheHouse(t *testing.T) {
	doc, err := os.ReadFile("docs/design.md")
	if err != nil {
		t.Fatal(err)
	}
	_, house, found := strings.Cut(string(doc), "\n## The house\n")
	if !found {
		t.Fatal("docs/design.md has no list of packages")
	}
	house, _, _ = strings.Cut(house, "\n## ")
	var got, want []string
	for _, m := range regexp.MustCompile("`((?:cmd|internal)/[a-z/]+)`").FindAllStringSubmatch(house, -1) {
		got = append(got, "broker/"+m[1])
	}
	for _, p := range list(t, "./cmd/...", "./internal/...") {
		want = append(want, p.ImportPath)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("the list in docs/design.md has\n%s, want\n%s", got, want)
	}
}

// TestTheWalk: the files that docs/design.md names for the life of a credential exist, and each is short enough to
// read in one go.
func TestTheWalk(t *testing.T) {
	doc, err := os.ReadFile("docs/design.md")
	if err != nil {
		t.Fatal(err)
	}
	_, walk, _ := strings.Cut(string(doc), "| file | what happens there |\n")
	walk, _, _ = strings.Cut(walk, "\n\n")
	files := regexp.MustCompile("`((?:cmd|internal)/[a-z_/]+\\.go)`").FindAllStringSubmatch(walk, -1)
	if len(files) < 7 {
		t.Fatalf("the table in docs/design.md names only %d files", len(files))
	}
	for _, m := range files {
		src, err := os.ReadFile(m[1])
		if err != nil {
			t.Error(err)
		} else if n := strings.Count(string(src), "\n"); n >= 350 {
			t.Errorf("%s has %d lines", m[1], n)
		}
	}
}

// TestDiagram: every arrow in the diagram of docs/design.md is an import, and every import between two of its
// packages is an arrow.
func TestDiagram(t *testing.T) {
	doc, err := os.ReadFile("docs/design.md")
	if err != nil {
		t.Fatal(err)
	}
	_, diagram, _ := strings.Cut(string(doc), "```mermaid\n")
	diagram, _, _ = strings.Cut(diagram, "```")
	drawn, nodes := map[string]bool{}, map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^ +([a-z/]+) --> ([a-z/ &]+)$`).FindAllStringSubmatch(diagram, -1) {
		for to := range strings.SplitSeq(m[2], " & ") {
			drawn[m[1]+" --> "+to] = true
			nodes[m[1]], nodes[to] = true, true
		}
	}
	if len(nodes) < 10 {
		t.Fatalf("the diagram in docs/design.md has only %d packages", len(nodes))
	}
	name := func(path string) string {
		return strings.TrimPrefix(strings.TrimPrefix(path, "broker/internal/"), "broker/")
	}
	imported := map[string]bool{}
	for _, p := range list(t, "./cmd/...", "./internal/...") {
		for _, to := range p.Imports {
			if nodes[name(p.ImportPath)] && nodes[name(to)] {
				imported[name(p.ImportPath)+" --> "+name(to)] = true
			}
		}
	}
	for edge := range drawn {
		if !imported[edge] {
			t.Errorf("%s is drawn, but not imported", edge)
		}
	}
	for edge := range imported {
		if !drawn[edge] {
			t.Errorf("%s is imported, but not drawn", edge)
		}
	}
}

// TestMakeTargets: each target is phony and has a help text, except the two that only other targets use.
func TestMakeTargets(t *testing.T) {
	makefile, err := os.ReadFile("Makefile")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(string(makefile), "\\\n", "")
	lists := regexp.MustCompile(`(?m)^\.PHONY: (.*)$`).FindAllStringSubmatch(text, -1)
	if len(lists) != 1 {
		t.Fatalf("the Makefile has %d lists of phony targets, want 1", len(lists))
	}
	rules := regexp.MustCompile(`(?m)^([a-z/-]+):(.*)$`).FindAllStringSubmatch(text, -1)
	var targets []string
	for _, rule := range rules {
		targets = append(targets, rule[1])
		inner := rule[1] == "layout" || rule[1] == "bin/dist"
		if !inner && !regexp.MustCompile(`## \S`).MatchString(rule[2]) {
			t.Errorf("the target %s has no help text", rule[1])
		}
	}
	phony := strings.Fields(lists[0][1])
	slices.Sort(phony)
	slices.Sort(targets)
	if !slices.Equal(phony, targets) {
		t.Errorf("the phony targets are\n%q, the rules\n%q", phony, targets)
	}
}

// TestUninstall: make uninstall removes exactly what make install puts below PREFIX.
func TestUninstall(t *testing.T) {
	dir := t.TempDir()
	root := filepath.Join(dir, "root")
	makefile, err := os.ReadFile("Makefile")
	if err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(root, "usr", "bin", "other")
	for path, text := range map[string]string{
		filepath.Join(dir, "Makefile"): string(makefile), other: "", filepath.Join(dir, "LICENSE"): "",
		filepath.Join(dir, "bin/broker"): "", filepath.Join(dir, "bin/brokerd"): "", filepath.Join(dir, "bin/credproc"): "",
	} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.CopyFS(filepath.Join(dir, "internal/cli/completion"), os.DirFS("internal/cli/completion")); err != nil {
		t.Fatal(err)
	}
	build := exec.Command("go", "build", "-o", filepath.Join(dir, "bin/dist"), "./internal/dist")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var left []string
	for _, target := range []string{"install", "uninstall", "uninstall"} {
		cmd := exec.Command("make", "-o", "build", target, "DESTDIR="+root, "PREFIX=/usr")
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil || strings.Contains(string(out), "Error") {
			t.Fatalf("make %s: %v\n%s", target, err, out)
		}
		left = nil
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				left = append(left, path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if target == "install" && len(left) < 13 {
			t.Fatalf("only %q were installed: the test proves nothing", left)
		}
	}
	if !slices.Equal(left, []string{other}) {
		t.Errorf("left behind: %q", left)
	}
}

// TestCommandsInDocsAreRun: commands that README and docs print (`$ …` in a console block) are run by e2e
// (TestDocs), or are commands of make or go that CI runs.
func TestCommandsInDocsAreRun(t *testing.T) {
	docs, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	ci, err := os.ReadFile(".ci/run")
	if err != nil {
		t.Fatal(err)
	}
	played := []string{"docs/first-minute.md", "docs/aws-facts.md"} // the first has its own test; the second shows answers of AWS
	for _, doc := range append(docs, "README.md") {
		text, err := os.ReadFile(doc)
		if err != nil {
			t.Fatal(err)
		}
		for _, block := range fence.FindAllStringSubmatch(string(text), -1) {
			lang, body := block[1], block[2]
			if slices.Contains([]string{"sh", "bash", "shell", ""}, lang) {
				t.Errorf("%s: write commands in a ```console block, with `$ ` before each, so that they are run; write text in ```text", doc)
			}
			if lang == "text" && regexp.MustCompile(`(?m)^\$ `).MatchString(body) && !slices.Contains(played, filepath.ToSlash(doc)) {
				t.Errorf("%s: write commands in a ```console block, so that they are run", doc)
			}
			if lang != "console" {
				continue
			}
			for _, line := range strings.Split(body, "\n") {
				if rest, ok := strings.CutPrefix(line, "$ make "); ok {
					if target := strings.Fields(rest)[0]; !strings.Contains(string(ci), "make "+target) {
						t.Errorf("%s prints `make %s`, which .ci/run does not run", doc, target)
					}
				}
				if command, ok := strings.CutPrefix(line, "$ go "); ok && !strings.Contains(string(ci), "go "+command) {
					t.Errorf("%s prints `go %s`, which .ci/run does not run", doc, command)
				}
			}
		}
	}
}

// TestModulePathIsInOnePlace: go.mod alone has the path of this module. Imports follow it; everything else asks
// `go list`, so that a new path needs the commands of docs/releasing.md and no search. Here broker/… is what list
// calls a package.
func TestModulePathIsInOnePlace(t *testing.T) {
	module := strings.TrimSpace(goList(t, "-m"))
	path := regexp.MustCompile(`(?m)(?:^|[^\w/.-])` + regexp.QuoteMeta(module) + `/(?:cmd|internal)\b.*`)
	imports := regexp.MustCompile(`(?m)^(?:import |\t)(?:[\w.]+ )?"` + regexp.QuoteMeta(module) + `/internal/[a-z0-9/]+"$`)
	read, imported := 0, 0
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (name == ".git" || name == "bin" || name == "dist"):
			return fs.SkipDir
		case !d.Type().IsRegular(), name == "house_test.go", name == "hints_test.go", name == "docs/releasing.md":
			return nil
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		read++
		if strings.HasSuffix(name, ".go") {
			imported += len(imports.FindAll(text, -1))
			text = imports.ReplaceAll(text, nil)
		}
		for _, found := range path.FindAll(text, -1) {
			t.Errorf("%s has the path of the module: %s", name, found)
		}
		return nil
	})
	if err != nil || read < 400 || imported < 400 {
		t.Errorf("%d files were read and %d imports found, %v: the test is void", read, imported, err)
	}
}

// TestRenamedModuleLong: after the commands of docs/releasing.md, a module of another path builds, keeps the rules of
// this house, and hardens its programs before anything else: Go initializes packages in the order of their paths.
func TestRenamedModuleLong(t *testing.T) {
	page, err := os.ReadFile("docs/releasing.md")
	if err != nil {
		t.Fatal(err)
	}
	_, commands, found := strings.Cut(string(page), "## The path of the module\n")
	_, commands, begun := strings.Cut(commands, "```text\n")
	commands, _, ended := strings.Cut(commands, "```\n")
	if !found || !begun || !ended {
		t.Fatal("docs/releasing.md does not say how to rename the module")
	}
	dir := t.TempDir()
	run := func(name string, args ...string) string {
		cmd := exec.Command(name, args...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s %q: %v\n%s", name, args, err, out)
		}
		return string(out)
	}
	if err := testtree.Copy(dir, "."); err != nil {
		t.Fatal(err)
	}
	run("git", "init", "-q")
	run("git", "add", "-A")
	run("sh", "-ec", commands)
	if got := run("go", "list", "-m"); got != "github.com/owner/broker\n" {
		t.Fatalf("the module is %s: the test is void", got)
	}
	imports := exec.Command("go", "list", "-e", "-deps", "-test", "-tags", "clients,soak", "-f", "{{with .Error}}{{.}}{{end}}", "./...")
	imports.Dir = dir
	if unresolved, err := imports.Output(); err != nil || strings.TrimSpace(string(unresolved)) != "" {
		t.Errorf("an import cannot be resolved: %v\n%s", err, unresolved)
	}
	run("go", "test", "-skip", "Long$|^TestUninstall$", ".")
	for where, tests := range map[string]string{"./e2e": "^(TestHardenedFirst|TestBrokerdOfAnotherVersion)$",
		"./internal/vault/process": "^TestNoDBusLaunch$"} {
		if out := run("go", "test", "-v", "-run", tests, where); !strings.Contains(out, "--- PASS: ") {
			t.Errorf("%s ran no test:\n%s", where, out)
		}
	}

	// Published, it is installed by its path. The proxies are directories: one with this module, and what go has fetched.
	proxy := t.TempDir()
	at := filepath.Join(proxy, "github.com/owner/broker/@v")
	mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	err = errors.Join(err, os.MkdirAll(at, 0o755), os.WriteFile(filepath.Join(at, "v1.2.3.mod"), mod, 0o644),
		os.WriteFile(filepath.Join(at, "list"), []byte("v1.2.3\n"), 0o644),
		os.WriteFile(filepath.Join(at, "v1.2.3.info"), []byte(`{"Version":"v1.2.3"}`), 0o644))
	if err != nil {
		t.Fatal(err)
	}
	run("git", "add", "-A")
	run("git", "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qm", "v1.2.3")
	// Modules below this one are not part of it.
	run("git", "archive", "--prefix=github.com/owner/broker@v1.2.3/", "-o", filepath.Join(at, "v1.2.3.zip"), "HEAD",
		".", ":!e2e/testdata")
	fetched := strings.TrimSpace(run("go", "env", "GOMODCACHE"))
	bin := t.TempDir()
	install := exec.Command("go", "install", "-modcacherw", "github.com/owner/broker/cmd/broker@v1.2.3",
		"github.com/owner/broker/cmd/brokerd@v1.2.3", "github.com/owner/broker/cmd/credproc@v1.2.3")
	install.Dir = t.TempDir()
	install.Env = append(os.Environ(), "GOBIN="+bin, "GOMODCACHE="+t.TempDir(), "GOFLAGS=",
		"GOSUMDB=off", // what go has fetched was checked then
		"GOPROXY=file://"+proxy+",file://"+filepath.Join(fetched, "cache/download"))
	if out, err := install.CombinedOutput(); err != nil {
		t.Fatalf("go install by path: %v\n%s", err, out)
	}
	if got := run(filepath.Join(bin, "broker"), "version"); got != "broker 1.2.3\n" {
		t.Errorf("installed by path, it says %s", got)
	}
	// From a clone.
	install = exec.Command("go", "install", "./cmd/broker", "./cmd/brokerd", "./cmd/credproc")
	install.Dir, install.Env = dir, append(os.Environ(), "GOBIN="+bin, "GOFLAGS=-buildvcs=true")
	if out, err := install.CombinedOutput(); err != nil {
		t.Fatalf("go install from a clone: %v\n%s", err, out)
	}
	devel := regexp.MustCompile(`^broker devel\+[0-9a-f]{12}\n$`)
	if got := run(filepath.Join(bin, "broker"), "version"); !devel.MatchString(got) {
		t.Errorf("installed from a clone, it says %s", got)
	}
}

// TestProofsExist: each test that SECURITY.md or a page of docs names exists. A name that ends in "…" is a prefix.
func TestProofsExist(t *testing.T) {
	pages, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	var sources strings.Builder
	err = filepath.WalkDir(".", func(path string, _ fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, "_test.go") {
			text, rerr := os.ReadFile(path)
			sources.Write(text)
			return rerr
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile(`\b(?:Test|Fuzz|Benchmark)[A-Z][A-Za-z]*…?`)
	found := 0
	for _, page := range append(pages, "SECURITY.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range named.FindAllString(string(text), -1) {
			found++
			start, open := strings.CutSuffix(name, "…")
			if !open {
				start += "("
			}
			if !strings.Contains(sources.String(), "\nfunc "+start) {
				t.Errorf("%s names %s, which is not a test", page, name)
			}
		}
	}
	if found < 50 {
		t.Errorf("only %d names were found: the test proves nothing", found)
	}
}

// TestNoForeignPages: comments and pages state their facts themselves, and do not cite pages or numbers outside of
// this tree.
func TestNoForeignPages(t *testing.T) {
	cites := regexp.MustCompile(`\b(?:FAULTS|AWS-FACTS|FINDINGS|ANCHORS|DESIGN\.md|STYLE\.md|FIELD\.md)\b` +
		`|\b[ITSU][0-9]{1,2}\b[:,.;)]`)
	own := regexp.MustCompile(`\bS3\b`) // AWS's S3
	read := 0
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (name == ".git" || name == "bin"):
			return fs.SkipDir
		case name == "house_test.go",
			!d.Type().IsRegular(),
			!slices.Contains([]string{".go", ".md", ".txtar", ""}, filepath.Ext(name)):
			return nil
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		read++
		for i, line := range strings.Split(string(text), "\n") {
			if cited := cites.FindString(own.ReplaceAllString(line, "")); cited != "" {
				t.Errorf("%s:%d cites %q, which is not in this tree: state the fact itself", name, i+1, cited)
			}
		}
		return nil
	})
	if err != nil || read < 400 {
		t.Errorf("%d files were read, %v: the test proves nothing", read, err)
	}
}
