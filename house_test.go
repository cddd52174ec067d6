// Package house holds the rules of this tree as tests: which package may know
// which, that each says what it owns, and that what the README prints is true.
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

// pkg is what `go list -json` says of a package.
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
		t.Fatal("go list found no package: the test is void")
	}
	return all
}

// TestTestsLeaveTheTerminal: tests that can start a process run in testproc, so that none of what they start asks on
// the terminal of the person who runs them. What can start one reaches os/exec, itself or through its package.
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
			t.Errorf("the tests of %s can start a process: their TestMain has to call testproc.Run", path)
		}
		checked++
	}
	if checked < 10 {
		t.Errorf("only %d packages were found: the test is void", checked)
	}
}

// TestEveryTestHasItsTarget: each test belongs to exactly one of `make test`, test-long, test-clients and soak, by the
// tag of its file and its name, and .ci/run makes each of them. Nothing else leaves a test out: see docs/testing.md.
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
		"test-clients": "-tags clients -count 1 -timeout 20m -run 'Client' ./e2e ./internal/...",
		"soak":         "-tags soak -count 1 -timeout 0 -v -run TestSoak ./e2e",
	} {
		rule := regexp.MustCompile(`(?m)^` + target + `:.*\n(\t.*\n)+`).Find(makefile)
		if !strings.Contains(string(rule), selects) {
			t.Errorf("make %s does not select its tests by %s", target, selects)
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
				t.Errorf("%s: %s: names in a file with the tag clients have Client, others do not", path, name)
			}
			if soak != strings.HasPrefix(name, "TestSoak") {
				t.Errorf("%s: %s: only names in a file with the tag soak begin with TestSoak", path, name)
			}
		}
		if call := "testing." + "Short()"; strings.Contains(string(src), call) {
			t.Errorf("%s: %s is false everywhere: what takes long has a name that ends in Long", path, call)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if long < 10 {
		t.Errorf("only %d long tests were found: the test is void", long)
	}
}

// TestEveryFileHasItsSubject: docs/testing.md says what each file of e2e covers, and names no other.
func TestEveryFileHasItsSubject(t *testing.T) {
	page, err := os.ReadFile("docs/testing.md")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("e2e/*_test.go")
	if err != nil || len(files) < 20 {
		t.Fatalf("only %d files were found, %v: the test is void", len(files), err)
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

// TestForbiddenImports: each row names what a package must not reach, directly
// or through others, and why.
func TestForbiddenImports(t *testing.T) {
	const (
		sdk     = "github.com/aws/aws-sdk-go-v2"
		keyring = "github.com/99designs/keyring"
	)
	rows := []struct{ from, to, why string }{
		{"broker/cmd/broker", sdk, "the command line asks the daemon, which asks AWS"},
		{"broker/cmd/broker", keyring, "the command line starts vault processes; brokerd is one"},
		{"broker/cmd/broker", "github.com/godbus/", "the command line dials no bus; brokerd does"},
		{"broker/cmd/broker", "broker/internal/vault/process", "the command line starts vault processes; brokerd is one"},
		{"broker/cmd/broker", "broker/internal/brokerd", "the command line starts brokerd"},
		{"broker/cmd/broker", "broker/internal/daemon", "the command line asks the daemon"},
		{"broker/cmd/broker", "broker/internal/exchange", "the command line asks the daemon, which asks AWS"},
		{"broker/cmd/broker", "net/http", "the start of TLS and HTTP would be a part of the life of each command"},
		{"broker/cmd/broker", "internal/coverage/cfile", "a program writes nothing to the directory in GOCOVERDIR"},
		{"broker/cmd/brokerd", "internal/coverage/cfile", "a program writes nothing to the directory in GOCOVERDIR"},
		{"broker/cmd/credproc", "internal/coverage/cfile", "a program writes nothing to the directory in GOCOVERDIR"},
		{"broker/cmd/credproc", "net/http", "credproc starts at every call of a tool: it has to be small and quick"},
		{"broker/cmd/credproc", "github.com/", "credproc is the standard library only"},
		{"broker/cmd/credproc", "golang.org/", "credproc is the standard library only"},
		{"broker/cmd/credproc", "gopkg.in/", "credproc is the standard library only"},
		{"broker/internal/fault", "broker/", "a leaf: everything makes its errors there"},
		{"broker/internal/secret", "broker/", "a leaf: everything holds its secrets there"},
		{"broker/internal/paths", "broker/", "a leaf"},
		{"broker/internal/system", "broker/", "below the leaves"},
		{"broker/internal/environ", "broker/internal/wire", "it knows nothing of what is said"},
		{"broker/internal/environ", "os/exec", "it runs nothing"},
		{"broker/internal/atomicfile", "broker/", "a leaf"},
		{"broker/internal/bundle", "broker/", "a leaf"},
		{"broker/internal/partition", "broker/internal/fault", "a leaf: it knows nothing of what is asked"},
		{"broker/internal/partition", "github.com/", "the command line and the console know it"},
		{"broker/internal/lazyregexp", "broker/", "a leaf"},
		{"broker/internal/peer", "broker/", "a leaf: it knows nothing of what is said"},
		{"broker/internal/peer", "net", "credproc links it"},
		{"broker/internal/peer", "golang.org/", "credproc links it"},
		{"broker/cmd/credproc", "net", "the poller and the resolver would be a good part of its life"},
		{"broker/internal/dial", "broker/", "a leaf: it knows nothing of what is said"},
		{"broker/internal/record", "broker/internal/paths", "it is told where a file is, and knows nothing of what is in it"},
		{"broker/internal/record", "broker/internal/profiles", "it knows nothing of what is in a file"},
		{"broker/internal/record", "github.com/", "a leaf, in credproc too: the standard library, system and fault"},
		{"broker/internal/record", "crypto/rand", "its start would be a part of the life of credproc"},
		{"broker/internal/child", "broker/", "a leaf: it runs what it is given"},
		{"broker/internal/tty", "broker/", "a leaf: it knows nothing of what is asked"},
		{"broker/internal/tty", "golang.org/", "credproc links it"},
		{"broker/internal/socket", "broker/internal/wire", "it knows nothing of what is said"},
		{"broker/internal/harden", "broker/", "a leaf"},
		{"broker/internal/harden/nodump", "broker/", "must be initialised before anything that takes time"},
		{"broker/internal/harden/nodump", "os", "must be initialised before anything that takes time"},
		{"broker/internal/service", "broker/internal/daemon", "it writes what starts the daemon, and knows nothing of it"},
		{"broker/internal/service", "os/exec", "it runs nothing; the command line does"},
		{"broker/internal/vault/process/nodbus", "broker/", "must be initialised before anything of github.com"},
		{"broker/internal/vault/process/ready", "github.com/", "must be initialised before anything of github.com"},
		{"broker/internal/vault/process/ready", "golang.org/", "those are initialised after what is of github.com"},
		{"broker/internal/wire", "broker/internal/session", "the protocol knows nothing of how a credential is made"},
		{"broker/internal/profiles", sdk, "profiles are read by our own rules, with file and line"},
		{"broker/internal/session", sdk, "the heart declares what it needs; exchange fulfils it"},
		{"broker/internal/session", keyring, "the heart declares what it needs; the vault fulfils it"},
		{"broker/internal/session", "net", "the heart knows no socket"},
		{"broker/internal/daemon", sdk, "the daemon asks session.Broker; there is no second path to STS"},
		{"broker/internal/daemon", keyring, "long-lived keys never enter the daemon"},
		{"broker/internal/daemon", "github.com/godbus/", "the daemon is told that the machine sleeps; logind alone dials the bus"},
		{"broker/internal/logind", "broker/", "a leaf: it tells, and knows nothing of what is locked"},
		{"broker/internal/vault", sdk, "the command line starts vault processes; the process calls AWS"},
		{"broker/internal/vault", keyring, "the command line starts vault processes; the process opens the keyring"},
		{"broker/internal/vault", "github.com/godbus/", "the command line starts vault processes; the process opens the keyring"},
		{"broker/internal/vault", "broker/internal/vault/process", "what is done as a program starts is for the process alone"},
		{"broker/internal/latch", "broker/internal/vault", "the passphrase for unlock is not the keyring's"},
		{"broker/internal/latch", "net", "it is a file"},
		{"broker/internal/stretch", "broker/", "a leaf: it knows nothing of what the key is for"},
		{"broker/internal/exchange", keyring, "exchange signs with what it is given"},
		{"broker/internal/mfa", "broker/internal/vault", "the vault asks mfa, not the other way"},
		{"broker/internal/mfa", sdk, "codes are made and remembered here, not sent"},
		{"broker/internal/accounts", "broker/internal/profiles", "a map says which roles there are, and nothing of the files"},
		{"broker/internal/accounts", sdk, "what AWS Organizations lists is handed to it"},
		{"broker/internal/accounts", "net", "what it fetches, git fetches"},
		{"broker/internal/foreign", keyring, "it names the keyrings of other tools; the vault process opens them"},
		{"broker/internal/foreign", "broker/internal/vault/process", "it names the keyrings of other tools"},
		{"broker/internal/daemon", "broker/internal/foreign", "the daemon serves what import made of other tools' settings"},
		{"broker/internal/console", sdk, "it leads a browser on; exchange asks for the token"},
		{"broker/internal/console", "broker/internal/profiles", "it is told which page and which browser"},
		{"broker/internal/testbus", "broker/", "a leaf: it knows nothing of who is tested"},
		{"broker/internal/testproc", "broker/", "a leaf: the tests of every other leaf import it"},
		{"broker/internal/testtree", "broker/", "a leaf: it knows nothing of who is tested"},
		{"broker/internal/dist", "net/http", "what it makes depends on the commit alone"},
		{"broker/internal/brokerd", "github.com/urfave/", "the daemon is started with two flags"},
		{"broker/cmd/brokerd", "testing", "what is for tests alone is in no program"},
		{"broker/cmd/broker", "testing", "what is for tests alone is in no program"},
		{"broker/internal/stssim", "broker/", "the simulator shares no code with what it tests"},
		{"broker/internal/stssim", sdk, "the simulator checks SigV4 on its own"},
		{"broker/internal/stssim", "github.com/pquerna/otp", "the simulator makes its own codes"},
	}
	deps := map[string][]string{}
	for _, p := range list(t, "./...") {
		deps[p.ImportPath] = p.Deps
	}
	for _, row := range rows {
		reached, ok := deps[row.from]
		if !ok {
			t.Errorf("there is no package %s; the row about it checks nothing", row.from)
		}
		for _, dep := range reached {
			if row.to == "broker/" && dep == "broker/internal/system" && row.from != dep {
				continue // below the leaves: what the systems do differently
			}
			if row.to == "broker/" && row.from == "broker/internal/dial" && dep == "broker/internal/peer" {
				continue // a client asks who listens before it sends anything
			}
			if row.to == "broker/" && strings.HasPrefix(dep, row.from+"/") {
				continue // a part of itself
			}
			below := strings.HasPrefix(dep, strings.TrimSuffix(row.to, "/")+"/")
			if dep == row.to || below && row.to != "net" { // net/netip is no socket

				t.Errorf("%s reaches %s: %s", row.from, dep, row.why)
				break
			}
		}
	}
}

// TestEverySystem: `make build-all`, which CI runs, builds for six targets; here it is that on each of them
// credproc is the standard library and ours alone, and without net where the start of a process is quick.
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
				t.Errorf("%s: credproc reaches %s, which is not of the standard library", target, p.ImportPath)
			}
			if p.ImportPath == "net/http" || p.ImportPath == "net" && system != "windows" {
				t.Errorf("%s: credproc reaches %s: see TestForbiddenImports", target, p.ImportPath)
			}
		}
	}
}

// TestOnlyImporters: some libraries have one door.
func TestOnlyImporters(t *testing.T) {
	const v5 = "github.com/godbus/dbus/v5" // another library, though its path is below the old one's
	rows := []struct{ library, door string }{
		{"github.com/aws/aws-sdk-go-v2", "broker/internal/exchange"},
		{"github.com/99designs/keyring", "broker/internal/vault/process"},
		{"github.com/godbus/dbus", "broker/internal/vault/process"},
		{v5, "broker/internal/logind"},
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
				if p.ImportPath != row.door {
					t.Errorf("%s imports %s; only %s may", p.ImportPath, imp, row.door)
				}
				used = true
			}
		}
		if !used {
			t.Errorf("nobody imports %s; the row about it checks nothing", row.library)
		}
	}
}

// TestPlainRequests: what crosses to a vault process and back holds plain secrets; only its two sides name it.
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
				t.Errorf("%s/%s names %s", p.ImportPath, name, m)
			}
		}
	}
	if found == 0 {
		t.Error("package process does not name them: the test is void")
	}
}

// TestPackageComments: each package says once what it owns.
func TestPackageComments(t *testing.T) {
	for _, p := range list(t, "./...") {
		comments := 0
		for _, name := range p.GoFiles {
			f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, parser.PackageClauseOnly|parser.ParseComments)
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

// TestPatterns: every pattern is a good one, and none is compiled at the start of a program that starts often.
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
					t.Errorf("%s/%s: a pattern is a raw string: %s", p.ImportPath, name, m[0])
				case !quoted: // it goes on behind a parenthesis
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
		t.Errorf("only %d patterns were found: the test is void", checked)
	}
}

// TestMainsHaveNoLogic: a main function hands over and nothing else.
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
		t.Error("go.mod replaces a module: what is built would not be what is named")
	}
	// jose2go up to 1.5.0 can be made to use all memory or time by an encrypted file
	// (CVE-2023-50658, CVE-2025-63811); the keyring library still asks for 1.5.0.
	version := regexp.MustCompile(`github\.com/dvsekhvalnov/jose2go v1\.(\d+)\.`).FindSubmatch(mod)
	if version == nil || len(version[1]) < 2 && version[1][0] < '8' {
		t.Errorf("jose2go is not raised to a fixed version: %s", version)
	}
}

// TestDependenciesAreNamed: each direct dependency has its line of reasons.
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
		t.Fatalf("found only %d direct dependencies: the test is void", len(direct))
	}
	for _, m := range direct {
		if !strings.Contains(string(doc), "`"+string(m[1])+"`") {
			t.Errorf("docs/dependencies.md has no line for %s", m[1])
		}
	}
}

// TestMapOfTheHouse: docs/design.md has each package, and no other.
func TestMapOfTheHouse(t *testing.T) {
	doc, err := os.ReadFile("docs/design.md")
	if err != nil {
		t.Fatal(err)
	}
	_, house, found := strings.Cut(string(doc), "\n## The house\n")
	if !found {
		t.Fatal("docs/design.md has no map of the house")
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
		t.Errorf("the map in docs/design.md has\n%s, want\n%s", got, want)
	}
}

// TestTheWalk: the files that docs/design.md names for the life of a credential are there, and each is short enough to be
// read at once.
func TestTheWalk(t *testing.T) {
	doc, err := os.ReadFile("docs/design.md")
	if err != nil {
		t.Fatal(err)
	}
	_, walk, _ := strings.Cut(string(doc), "| file | what happens there |\n")
	walk, _, _ = strings.Cut(walk, "\n\n")
	files := regexp.MustCompile("`((?:cmd|internal)/[a-z_/]+\\.go)`").FindAllStringSubmatch(walk, -1)
	if len(files) < 7 {
		t.Fatalf("the walk in docs/design.md names only %d files", len(files))
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

// TestDiagram: an arrow in the diagram of docs/design.md is an import, and each import between two of its packages is an
// arrow.
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
			t.Errorf("%s is drawn and no import", edge)
		}
	}
	for edge := range imported {
		if !drawn[edge] {
			t.Errorf("%s is not drawn", edge)
		}
	}
}

// TestMakeTargets: each target is phony and has its help text, but for those that other targets alone call.
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

// TestUninstall: what make install puts below PREFIX, make uninstall removes, and nothing else.
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
			t.Fatalf("only %q were installed: the test is void", left)
		}
	}
	if !slices.Equal(left, []string{other}) {
		t.Errorf("left behind: %q", left)
	}
}

// TestCommandsInDocsAreRun: what README and docs print as typed (`$ …` in a console
// block) is run by e2e (TestDocs), or it is a command of make or go that CI runs.
func TestCommandsInDocsAreRun(t *testing.T) {
	docs, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	ci, err := os.ReadFile(".ci/run")
	if err != nil {
		t.Fatal(err)
	}
	played := []string{"docs/first-minute.md", "docs/aws-facts.md"} // by a test of its own; what AWS answers
	for _, doc := range append(docs, "README.md") {
		text, err := os.ReadFile(doc)
		if err != nil {
			t.Fatal(err)
		}
		for _, block := range fence.FindAllStringSubmatch(string(text), -1) {
			lang, body := block[1], block[2]
			if slices.Contains([]string{"sh", "bash", "shell", ""}, lang) {
				t.Errorf("%s: a block of commands is ```console with `$ ` before each, so that it is run; text is ```text", doc)
			}
			if lang == "text" && regexp.MustCompile(`(?m)^\$ `).MatchString(body) && !slices.Contains(played, filepath.ToSlash(doc)) {
				t.Errorf("%s: commands that are typed belong in a ```console block, so that they are run", doc)
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
// this house, and hardens its programs before anything else: Go initialises packages in the order of their paths.
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
	run("go", "vet", "./...")
	run("go", "vet", "-tags", "clients,soak", "./e2e")
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

// TestProofsExist: each test that SECURITY.md or a page of docs names is there. A name that ends in "…" begins others.
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
				t.Errorf("%s names %s, which is no test", page, name)
			}
		}
	}
	if found < 50 {
		t.Errorf("only %d names were found: the test is void", found)
	}
}

// TestNoForeignPages: a comment or a page says a fact itself, and cites no page or number that is not in this tree.
func TestNoForeignPages(t *testing.T) {
	cites := regexp.MustCompile(`\b(?:FAULTS|AWS-FACTS|FINDINGS|ANCHORS|DESIGN\.md|STYLE\.md|FIELD\.md)\b` +
		`|\b[ITSU][0-9]{1,2}\b[:,.;)]`)
	own := regexp.MustCompile(`\bS3\b`) // of AWS
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
				t.Errorf("%s:%d cites %q, which is not here: say what it says", name, i+1, cited)
			}
		}
		return nil
	})
	if err != nil || read < 400 {
		t.Errorf("%d files were read, %v: the test is void", read, err)
	}
}
