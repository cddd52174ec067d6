//go:build unix

package profiles

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/smithy-go/logging"
)

// linkCorpus returns every case of both corpora: testdata/corpus holds what readers disagree on, testdata/link
// what tools and people write.
func linkCorpus(t testing.TB) map[string]Documents {
	t.Helper()
	files, err := filepath.Glob("testdata/*/*.config")
	if err != nil {
		t.Fatal(err)
	}
	cases, n := map[string]Documents{}, 0
	for _, f := range files {
		config, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		n++
		credentials, err := os.ReadFile(strings.TrimSuffix(f, ".config") + ".credentials")
		if err == nil {
			n++
		}
		docs := documents("", string(config), string(credentials))
		docs[RegistryDocument] = registryFor(t, docs)
		cases[strings.TrimSuffix(f, ".config")] = docs
	}
	if n < 60 {
		t.Fatalf("only %d files", n)
	}
	return cases
}

// registryFor makes a source for each source_profile that is not a role itself, so that the roles of a case can be
// linked.
func registryFor(t testing.TB, docs Documents) []byte {
	t.Helper()
	registry := []byte("# mine\n" + linkRegistry)
	set, err := docs.set(linkFiles)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range set.names {
		p, _ := set.lookup(name)
		source := p.aws.text(keySourceProfile)
		if q, _ := set.lookup(source); source == "" || source == "security" || q.aws.has(keyRoleARN) {
			continue
		}
		registry, err = SetSection(registry, SectionSource, source, []KeyValue{{"access_key_id", "AKIAIOSFODNN7EXAMPLE"}})
		if err != nil {
			t.Fatal(err)
		}
	}
	return registry
}

// untouchedLines fails the test unless every line that link must not touch is still there, in the same order, and
// only the helper's lines and sections are new.
func untouchedLines(t testing.TB, before, after []byte, credentials bool) {
	t.Helper()
	d, _ := scan(before, credentials)
	moved := map[int]bool{} // offsets of the lines that link may remove
	for _, s := range d.sections {
		for _, e := range s.entries {
			if isMovedKey(e.key) || strings.EqualFold(string(e.key), keyCredentialProcess) {
				moved[e.start] = true
			}
		}
	}
	if bytes.HasPrefix(before, byteOrderMark) != bytes.HasPrefix(after, byteOrderMark) {
		t.Fatal("the byte order mark changed")
	}
	kind := lineEnds(before)
	at := len(before) - len(bytes.TrimPrefix(before, byteOrderMark))
	before, after = before[at:], bytes.TrimPrefix(after, byteOrderMark)
	left, size := bytes.SplitAfter(after, []byte("\n")), at+len(before)
	for line := range bytes.Lines(before) {
		start := at
		at += len(line)
		for len(left) > 0 && !bytes.Equal(trimEOL(left[0]), trimEOL(line)) && bytes.Contains(left[0], []byte(credprocPath)) {
			left = left[1:]
		}
		switch {
		case len(left) > 0 && bytes.Equal(trimEOL(left[0]), trimEOL(line)):
			// A file without a final line end stays so. In a file with mixed line ends, a line that becomes the
			// last of its section takes the section's last line end.
			if !bytes.Equal(left[0], line) && at != size && len(left) > 1 && kind != mixed {
				t.Errorf("the line end of %q changed", line)
			}
			left = left[1:]
		case moved[start]:
		default:
			t.Fatalf("line %q is missing or has moved", line)
		}
	}
	for _, line := range left {
		text := string(bytes.TrimSpace(line))
		if text != "" && !strings.Contains(text, credprocPath) && !strings.HasPrefix(text, "[") {
			t.Errorf("line %q is new", line)
		}
	}
}

func trimEOL(line []byte) []byte { return bytes.TrimRight(line, "\r\n") }

// TestLinkCorpus checks over all files that link changes only what it has to, that unlink restores every byte, and
// that edits made in between survive.
func TestLinkCorpus(t *testing.T) {
	linked := 0
	for name, start := range linkCorpus(t) {
		t.Run(name, func(t *testing.T) {
			docs := start
			chains := chainsOf(t, docs)
			for _, o := range mustRun(t, &docs, LinkOrder, linkPlan()) {
				if o.State == Changed {
					linked++
				}
			}
			untouchedLines(t, start[ConfigDocument], docs[ConfigDocument], false)
			untouchedLines(t, start[CredentialsDocument], docs[CredentialsDocument], true)
			sameChains(t, chains, chainsOf(t, docs))
			again := docs
			mustRun(t, &again, LinkOrder, linkPlan())
			if !same(docs, again) {
				t.Errorf("the second link changed the files again:\n%s", again.show())
			}
			if bytes.Contains(docs[RecordsDocument], []byte("wJalr")) || bytes.Contains(docs[RecordsDocument], []byte("FwoG")) {
				t.Error("the records contain a secret")
			}
			back := docs
			mustRun(t, &back, UnlinkOrder, unlinkPlan())
			back[RecordsDocument] = nil
			if byHand := strings.Contains(name, "by-hand"); !same(back, start) && !byHand {
				t.Errorf("unlink gave\n%s\nwant\n%s", back.show(), start.show())
			}

			// Between link and unlink, set an alias, add a section and generate a block.
			edits := func(d Documents) Documents {
				var err error
				for _, e := range []struct {
					doc        Document
					kind, name string
					kv         KeyValue
				}{
					{RegistryDocument, SectionAlias, "", KeyValue{"short", "dev"}},
					{RegistryDocument, SectionSource, "robot", KeyValue{"access_key_id", "AKIADEMOROBOTFAKE333"}},
					{ConfigDocument, SectionProfile, "product_new_paul", KeyValue{"region", "eu-west-1"}},
				} {
					if d[e.doc], err = SetSection(d[e.doc], e.kind, e.name, []KeyValue{e.kv}); err != nil {
						t.Fatal(err)
					}
				}
				return d
			}
			docs = edits(docs)
			mustRun(t, &docs, UnlinkOrder, unlinkPlan())
			want := edits(start)
			if strings.Contains(name, "by-hand") {
				return
			}
			if !bytes.Equal(docs[CredentialsDocument], want[CredentialsDocument]) ||
				nonBlank(docs[ConfigDocument]) != nonBlank(want[ConfigDocument]) ||
				nonBlank(docs[RegistryDocument]) != nonBlank(want[RegistryDocument]) {
				t.Errorf("after edits in between, unlink gave\n%s\nwant\n%s", docs.show(), want.show())
			}
		})
	}
	if linked < 60 {
		t.Errorf("only %d profiles were linked: the test is void", linked)
	}
}

// chainsOf returns the chains of all names that resolve.
func chainsOf(t testing.TB, docs Documents) map[string]Chain {
	t.Helper()
	set, err := docs.set(linkFiles)
	if err != nil {
		t.Fatal(err)
	}
	m := map[string]Chain{}
	for _, name := range set.names {
		if c, err := set.Resolve(name); err == nil {
			m[name] = c
		}
	}
	return m
}

func sameChains(t testing.TB, before, after map[string]Chain) {
	t.Helper()
	for name, c := range before {
		if !sameChain(c, after[name]) {
			t.Errorf("%q resolved to\n%+v\nand now to\n%+v", name, c, after[name])
		}
	}
}

// cutAtAnyStep returns the documents as a crash after n writes leaves them.
func cutAtAnyStep(docs Documents, order []Document, plan Plan, n int) (Documents, bool) {
	read := func(d Document) ([]byte, error) { return docs[d], nil }
	done := 0
	crash := fmt.Errorf("crash")
	_, err := Rewrite(order, read, func(d Document, edit func([]byte) ([]byte, error)) error {
		b, err := edit(docs[d])
		if err != nil {
			return err
		}
		if done == n {
			return crash
		}
		done++
		docs[d] = b
		return nil
	}, plan)
	return docs, err == crash
}

// TestCrashBetweenWrites checks that after a crash between any two writes every profile still resolves to the same
// chain, and that repeating the command, or running its opposite, completes.
func TestCrashBetweenWrites(t *testing.T) {
	crashes := 0
	for name, start := range linkCorpus(t) {
		if strings.Contains(name, "by-hand") {
			continue
		}
		t.Run(name, func(t *testing.T) {
			chains := chainsOf(t, start)
			linked := start
			mustRun(t, &linked, LinkOrder, linkPlan())
			for n := 0; ; n++ {
				half, crashed := cutAtAnyStep(start, LinkOrder, linkPlan(), n)
				if !crashed {
					break
				}
				crashes++
				sameChains(t, chains, chainsOf(t, half))
				again := half
				mustRun(t, &again, LinkOrder, linkPlan())
				if !same(again, linked) {
					t.Errorf("link after a crash at write %d gave\n%s\nwant\n%s", n, again.show(), linked.show())
				}
				mustRun(t, &half, UnlinkOrder, unlinkPlan())
				mustRun(t, &again, UnlinkOrder, unlinkPlan())
				half[RecordsDocument], again[RecordsDocument] = nil, nil
				if !same(half, start) || !same(again, start) {
					t.Errorf("unlink after a crash of link at write %d gave\n%s\nwant\n%s", n, half.show(), start.show())
				}
			}
			for n := 0; ; n++ {
				half, crashed := cutAtAnyStep(linked, UnlinkOrder, unlinkPlan(), n)
				if !crashed {
					break
				}
				crashes++
				sameChains(t, chains, chainsOf(t, half))
				again := half
				mustRun(t, &again, UnlinkOrder, unlinkPlan())
				again[RecordsDocument] = nil
				if !same(again, start) {
					t.Errorf("unlink after a crash at write %d gave\n%s\nwant\n%s", n, again.show(), start.show())
				}
				mustRun(t, &half, LinkOrder, linkPlan())
				half[RecordsDocument] = linked[RecordsDocument]
				if !same(half, linked) {
					t.Errorf("link after a crash of unlink at write %d gave\n%s\nwant\n%s", n, half.show(), linked.show())
				}
			}
		})
	}
	t.Logf("%d crashes", crashes)
}

// beforeAndAfter writes the corpus twice: unchanged, and linked.
func beforeAndAfter(t *testing.T) (pairs map[string][2]Files) {
	t.Helper()
	pairs = map[string][2]Files{}
	for name, docs := range linkCorpus(t) {
		var both [2]Files
		dir := t.TempDir()
		for i, suffix := range []string{".before", ".after"} {
			f := Files{AWS: dir, Config: filepath.Join(dir, "config"+suffix),
				Credentials: filepath.Join(dir, "credentials"+suffix)}
			write(t, f.Config, string(docs[ConfigDocument]))
			write(t, f.Credentials, string(docs[CredentialsDocument]))
			both[i] = f
			mustRun(t, &docs, LinkOrder, linkPlan())
		}
		pairs[name] = both
	}
	return pairs
}

const botocoreFullConfig = `
import json, os, sys
import botocore.session, botocore.exceptions
out = {}
for config, credentials in json.load(sys.stdin):
    os.environ["AWS_CONFIG_FILE"] = config
    os.environ["AWS_SHARED_CREDENTIALS_FILE"] = credentials
    os.environ.pop("AWS_PROFILE", None)
    try:
        out[config] = botocore.session.Session().full_config
    except botocore.exceptions.BotoCoreError as e:
        out[config] = {"error": type(e).__name__}
json.dump(out, sys.stdout)
`

// withoutRoles removes what link may change, and profiles that then have no values left.
func withoutRoles(profiles map[string]any) map[string]any {
	out := map[string]any{}
	for name, values := range profiles {
		kept := map[string]any{}
		for key, v := range values.(map[string]any) {
			if key = strings.ToLower(key); !isMovedKey([]byte(key)) && key != keyCredentialProcess {
				kept[key] = v
			}
		}
		if len(kept) > 0 {
			out[name] = kept
		}
	}
	return out
}

func TestBotocoreReadsTheSameAfterLink(t *testing.T) {
	python := python(t)
	pairs := beforeAndAfter(t)
	var in [][2]string
	for _, both := range pairs {
		in = append(in, [2]string{both[0].Config, both[0].Credentials}, [2]string{both[1].Config, both[1].Credentials})
	}
	raw, _ := json.Marshal(in)
	cmd := exec.Command(python, "-c", botocoreFullConfig)
	cmd.Stdin, cmd.Stderr = bytes.NewReader(raw), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]map[string]any
	if err := json.Unmarshal(out, &all); err != nil {
		t.Fatal(err)
	}
	helpers := 0
	for name, both := range pairs {
		before, after := all[both[0].Config], all[both[1].Config]
		if before["error"] != nil {
			continue // botocore cannot read the file, linked or not
		}
		helpers += asked(t, name, before["profiles"], after["profiles"])
		for _, m := range []map[string]any{before, after} {
			profiles, _ := m["profiles"].(map[string]any)
			m["profiles"] = withoutRoles(profiles)
		}
		if !reflect.DeepEqual(before, after) {
			t.Errorf("%s: botocore read\n%v\nand now\n%v", name, before, after)
		}
	}
	if helpers < 40 {
		t.Errorf("botocore sees only %d helpers", helpers)
	}
}

// asked counts the profiles whose credential_process the reader splits into our program and the profile's name.
func asked(t *testing.T, file string, before, after any) int {
	t.Helper()
	n := 0
	for name, values := range after.(map[string]any) {
		command, _ := values.(map[string]any)[keyCredentialProcess].(string)
		if !strings.HasPrefix(command, credprocPath+" ") {
			continue
		}
		n++
		for _, key := range []string{keyRoleARN, keySourceProfile} {
			if values.(map[string]any)[key] != nil {
				t.Errorf("%s: the reader still sees %s of %q", file, key, name)
			}
		}
	}
	return n
}

func TestGoSDKReadsTheSameAfterLink(t *testing.T) {
	helpers := 0
	for name, both := range beforeAndAfter(t) {
		names := map[string]bool{}
		for _, f := range both {
			for id := range chainsOrNames(t, f) {
				names[id] = true
			}
		}
		for profile := range names {
			var seen [2]config.SharedConfig
			var errs [2]error
			for i, f := range both {
				// The Go SDK fails to load a profile whose source is no longer in the AWS files, so add the
				// sources.
				extra := filepath.Join(t.TempDir(), "sources")
				write(
					t,
					extra,
					"[security]\naws_access_key_id = AKIAIOSFODNN7EXAMPLE\naws_secret_access_key = x\n[okta]\naws_access_key_id = AKIAIOSFODNN7EXAMPLE\naws_secret_access_key = x\n",
				)
				seen[i], errs[i] = config.LoadSharedConfigProfile(
					context.Background(),
					profile,
					func(o *config.LoadSharedConfigOptions) {
						o.ConfigFiles, o.CredentialsFiles = []string{f.Config}, []string{extra, f.Credentials}
						o.Logger = logging.NewStandardLogger(io.Discard)
					},
				)
				if s := &seen[i]; errs[i] == nil {
					if strings.HasPrefix(s.CredentialProcess, credprocPath) {
						helpers++
					}
					s.RoleARN, s.SourceProfileName, s.Source, s.ExternalID, s.MFASerial, s.RoleSessionName,
						s.RoleDurationSeconds = "", "", nil, "", "", "", nil
					s.CredentialProcess, s.Credentials = "", aws.Credentials{}
					s.SSOSessionName, s.SSOSession, s.SSOStartURL, s.SSORegion = "", nil, "", ""
					s.SSOAccountID, s.SSORoleName, s.LoginSession, s.WebIdentityTokenFile = "", "", "", ""
				}
			}
			if errs[0] != nil || errs[1] != nil && seen[0].Profile == "" {
				continue
			}
			if errs[1] != nil || !reflect.DeepEqual(seen[0], seen[1]) {
				t.Errorf("%s: for %q the Go SDK read\n%+v\nand now reads\n%+v, %v", name, profile, seen[0], seen[1], errs[1])
			}
		}
	}
	if helpers < 40 {
		t.Errorf("the Go SDK sees only %d helpers", helpers)
	}
}

// chainsOrNames returns the names of all profiles of two files.
func chainsOrNames(t *testing.T, f Files) map[string]bool {
	t.Helper()
	set, err := new(Store).Load(f)
	if err != nil {
		t.Fatal(err)
	}
	m := map[string]bool{}
	for _, name := range set.names {
		m[name] = true
	}
	return m
}

// TestCommandReadTheSameByAllReaders checks that every reader splits credential_process into the same two words.
func TestCommandReadTheSameByAllReaders(t *testing.T) {
	var values [][2]string // path and name
	for _, path := range []string{"/usr/bin/credproc", "/opt/my tools/credproc", "/opt/o'brien/(x)&{y}/credproc", "/opt/größe/credproc", "/opt/a;b/#c/credproc", "/~x/*?[a]/credproc"} {
		for _, name := range []string{"prod", "a b", "o'brien", "größe", "(x)&|<>", "a=b", "=", "-dash", "--version", "a#b", "#a", "~", "*", "a;b", "{a,b}"} {
			values = append(values, [2]string{path, name})
		}
	}
	var commands []string
	for _, v := range values {
		c, err := Command(v[0], v[1])
		if err != nil {
			t.Fatal(v, err)
		}
		commands = append(commands, c)
		if err := checkKeyValue(KeyValue{keyCredentialProcess, c}); err != nil {
			t.Errorf("%q: %v", c, err)
		}
	}
	check := func(who, command string, words []string, v [2]string) {
		t.Helper()
		if len(words) < 2 || words[0] != v[0] || helperProfile(words) != v[1] {
			t.Errorf("%s splits %q into %q, want %q", who, command, words, v)
		}
	}
	for i, c := range commands {
		check("we", c, SplitCommand(c), values[i])
		out, err := exec.Command("sh", "-c", "set -- "+c+`; printf '%s\0' "$@"`).Output()
		if err != nil {
			t.Fatal(c, err)
		}
		check("sh", c, strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00"), values[i])
		file := filepath.Join(t.TempDir(), "config")
		write(t, file, "[profile x]\ncredential_process = "+c+"\n")
		sdk, err := config.LoadSharedConfigProfile(context.Background(), "x", func(o *config.LoadSharedConfigOptions) {
			o.ConfigFiles, o.CredentialsFiles = []string{file}, []string{os.DevNull}
		})
		if err != nil || sdk.CredentialProcess != c {
			t.Errorf("the Go SDK reads %q as %q, %v", c, sdk.CredentialProcess, err)
		}
	}
	python := python(t)
	in, _ := json.Marshal(commands)
	cmd := exec.Command(python, "-c", "import json,sys; from botocore.compat import compat_shell_split as s; json.dump([s(c) for c in json.load(sys.stdin)], sys.stdout)")
	cmd.Stdin = bytes.NewReader(in)
	out, err := cmd.Output()
	var split [][]string
	if err != nil || json.Unmarshal(out, &split) != nil {
		t.Fatal(err)
	}
	for i, words := range split {
		check("botocore", commands[i], words, values[i])
	}
	for _, bad := range []string{"$a", "`a`", `a\b`, `a"b`, "a!", "a\nb", "a\tb", "a #b", "a ;b", "%a%", "a\x1b"} {
		for _, v := range [][2]string{{"/x/" + bad + "/credproc", "dev"}, {"/x/credproc", bad}} {
			if c, err := Command(v[0], v[1]); err == nil {
				t.Errorf("%q was written as %q", v, c)
			}
		}
	}
}

// FuzzLink checks, for any files, that link and unlink keep every line that is not theirs, keep every chain, and
// undo each other.
func FuzzLink(f *testing.F) {
	for _, docs := range linkCorpus(f) {
		f.Add(docs[RegistryDocument], docs[ConfigDocument], docs[CredentialsDocument])
	}
	f.Fuzz(func(t *testing.T, registry, config, credentials []byte) {
		roundTrip(t, documents(string(registry), string(config), string(credentials)))
	})
}

// TestLinkRandomFiles runs FuzzLink's check on files assembled at random from typical parts.
func TestLinkRandomFiles(t *testing.T) { testRandomFiles(t, 200) }

func TestLinkRandomFilesLong(t *testing.T) { testRandomFiles(t, 4_000) }

func testRandomFiles(t *testing.T, seeds int) {
	t.Helper()
	lines := []string{"[profile a]", "[profile a]", "[profile b]", " [profile b]", "[profile c d]", "[default]", "[profile default]", "[a]", "[b]", "[default]", "[services x]", "[profile security]", "[security]",
		"role_arn = arn:aws:iam::444455556666:role/x", "role_arn=arn:aws:iam::444455556666:role/y # c", "source_profile = security", "source_profile = security", "source_profile: a", "SOURCE_PROFILE=security ; d",
		"mfa_serial = GAHT12345678", "external_id = abc", "duration_seconds = 900", "region = eu-west-1", "region =", "s3 =", "  max = 1", "\toutput = json", "  role_arn = arn:aws:iam::444455556666:role/z",
		"# comment", "  ; comment", "", " ", "garbage", "credential_process = /old/credproc a", "credential_process = credproc b", "credential_process = other", "aws_session_token = x", "sso_session = x",
		"[sso-session x]", "sso_start_url = https://x.example/start/#", "sso_region = eu-west-1", "sso_account_id = 444455556666", "sso_role_name = A # c",
		"login_session = " + consoleUser, "web_identity_token_file = /x"}
	changed := 0
	for seed := range seeds {
		rnd := rand.New(rand.NewPCG(uint64(seed), 7))
		file := func(most int) string {
			var b strings.Builder
			if rnd.IntN(10) == 0 {
				b.Write(byteOrderMark)
			}
			nl := []string{"\n", "\n", "\r\n"}[rnd.IntN(3)]
			for range rnd.IntN(most) {
				b.WriteString(lines[rnd.IntN(len(lines))] + nl)
			}
			text := b.String()
			if rnd.IntN(3) == 0 {
				text = strings.TrimSuffix(text, nl)
			}
			return text
		}
		registry := linkRegistry
		if rnd.IntN(4) == 0 {
			registry += "[profile a]\nrole_arn = arn:aws:iam::444455556666:role/x\nsource_profile = security\n"
		}
		if roundTrip(t, documents(registry, file(14), file(6))) {
			changed++
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	if changed < seeds/10 {
		t.Errorf("only %d of %d files were changed: the test is void", changed, seeds)
	}
}

// roundTrip links and unlinks everything and compares the result with the start. It reports whether there was
// anything to link.
func roundTrip(t *testing.T, start Documents) bool {
	t.Helper()
	if _, err := start.set(linkFiles); err != nil {
		return false
	}
	show := func(docs Documents) string { return docs.show() + "\nstart\n" + start.show() }
	chains := chainsOf(t, start)
	docs := start
	mustRun(t, &docs, LinkOrder, linkPlan())
	for i, credentials := range []bool{false, true} {
		untouchedLines(t, start[ConfigDocument+Document(i)], docs[ConfigDocument+Document(i)], credentials)
		before, _ := scan(start[ConfigDocument+Document(i)], credentials)
		after, _ := scan(docs[ConfigDocument+Document(i)], credentials)
		want, have := effective(before), effective(after)
		for _, m := range []map[string]string{want, have} {
			maps.DeleteFunc(m, func(id, _ string) bool {
				key := id[strings.LastIndexByte(id, 0)+1:]
				return isMovedKey([]byte(key)) || key == keyCredentialProcess
			})
		}
		if !maps.Equal(want, have) {
			t.Fatalf("before %v\nafter %v\n%s", want, have, show(docs))
		}
	}
	sameChains(t, chains, chainsOf(t, docs))
	again := docs
	mustRun(t, &again, LinkOrder, linkPlan())
	if !same(docs, again) {
		t.Fatalf("the second link changed the files again:\n%s\nafter the first:\n%s", again.show(), show(docs))
	}
	changed := !same(docs, start)
	mustRun(t, &docs, UnlinkOrder, unlinkPlan())
	// A section that was linked by hand has no original.
	byHand := bytes.Contains(
		bytes.ToLower(slices.Concat(start[ConfigDocument], start[CredentialsDocument])),
		[]byte("credproc"),
	)
	if !byHand &&
		(!bytes.Equal(docs[ConfigDocument], start[ConfigDocument]) || !bytes.Equal(docs[CredentialsDocument],
			start[CredentialsDocument])) {
		t.Fatalf("unlink gave\n%s", show(docs))
	}
	sameChains(t, chains, chainsOf(t, docs))
	return changed
}
