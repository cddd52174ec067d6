//go:build unix

package profiles

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The oracle generates files from all elements that occur in AWS files, and checks that link and unlink keep the
// properties that must hold for any such file. It knows nothing of how they edit: it only calls Link, Unlink and
// Rewrite.

// A linkProperty is something that must hold for any user's documents. It returns what is wrong, or "".
type linkProperty struct {
	name string
	test func(start Documents, seed uint64) string
}

var linkProperties = []linkProperty{
	{sameBytes, func(start Documents, _ uint64) string {
		docs, wrong := ran(start, LinkOrder, linkPlan())
		if wrong == "" {
			docs, wrong = ran(docs, UnlinkOrder, unlinkPlan())
		}
		return wrong + differs(start, docs, false)
	}},
	{oneByOne, func(start Documents, seed uint64) string {
		names, wrong := namesIn(start)
		rnd := rand.New(rand.NewPCG(seed, 3))
		for range 2 {
			docs := start
			for _, step := range []struct {
				order []Document
				plan  func(...string) Plan
			}{{LinkOrder, linkPlan}, {UnlinkOrder, unlinkPlan}} {
				for _, i := range rnd.Perm(len(names)) {
					if wrong == "" {
						docs, wrong = ran(docs, step.order, step.plan(names[i]))
					}
				}
			}
			if wrong += differs(start, docs, false); wrong != "" {
				return wrong
			}
		}
		return ""
	}},
	{"a second link changes nothing", func(start Documents, _ uint64) string {
		once, wrong := ran(start, LinkOrder, linkPlan())
		twice := once
		if wrong == "" {
			twice, wrong = ran(once, LinkOrder, linkPlan())
		}
		return wrong + differs(once, twice, true)
	}},
	{"link keeps the line ends of a file that uses one kind", func(start Documents, _ uint64) string {
		docs, wrong := ran(start, LinkOrder, linkPlan())
		for _, doc := range []Document{ConfigDocument, CredentialsDocument} {
			if was, is := lineEnds(start[doc]), lineEnds(docs[doc]); was != mixed && was != noLines && is != was {
				wrong += fmt.Sprintf("%s, and was %s: %q", is, was, docs[doc])
			}
		}
		return wrong
	}},
	{"link leaves no key of a profile that it moves", func(start Documents, _ uint64) string {
		docs := start
		outcomes, err := memory(&docs, LinkOrder, linkPlan())
		if err != nil {
			return err.Error()
		}
		left := namesWith(docs, movedKeys...)
		for _, o := range outcomes {
			if o.State == Changed && isDefinedIn(start)(o.Name) && slices.Contains(left, o.Name) {
				return fmt.Sprintf("%q has a key of a role\n%s", o.Name, docs.show())
			}
		}
		return ""
	}},
	{"what link does not touch reads the same", func(start Documents, _ uint64) string {
		docs, wrong := ran(start, LinkOrder, linkPlan())
		if wrong != "" {
			return wrong
		}
		for i, credentials := range []bool{false, true} {
			doc := ConfigDocument + Document(i)
			if was, is := untouchedKeys(start[doc], credentials), untouchedKeys(docs[doc], credentials); !maps.Equal(was, is) {
				return fmt.Sprintf("the keys were\n%v\nand are\n%v", was, is)
			}
		}
		for _, name := range must(namesIn(start)) {
			was, err := resolved(start, name)
			if err != nil {
				continue // it cannot get worse
			}
			if is, err := resolved(docs, name); err != nil || !sameChain(was, is) {
				return fmt.Sprintf("%q was\n%+v\nand is\n%+v, %v", name, was, is, err)
			}
		}
		return ""
	}},
}

// The names of properties.
const (
	sameBytes    = "unlink gives back the same bytes"
	oneByOne     = "unlink one by one gives back the same bytes"
	botocoreSame = "botocore reads the same"
	botocoreAsks = "botocore asks the helper"
)

// roleA is a profile that link moves.
const roleA = "[profile a]\nrole_arn = arn:aws:iam::444455556666:role/a\nsource_profile = security\n"

// The kinds of line ends that a file can have.
const (
	noLines = "no lines"
	mixed   = "mixed"
)

// lineEnds returns the kind of line ends of a file: all LF, all CRLF, mixed or none.
func lineEnds(src []byte) string {
	lf, crlf := bytes.Count(src, []byte("\n")), bytes.Count(src, []byte("\r\n"))
	switch {
	case lf == 0:
		return noLines
	case crlf == 0:
		return "LF"
	case crlf == lf:
		return "CRLF"
	}
	return mixed
}

// namesWith returns the profiles that have one of these keys in an AWS file; "KEY =" matches a key with an empty
// value.
func namesWith(docs Documents, keys ...string) (names []string) {
	for i, credentials := range []bool{false, true} {
		d, _ := scan(docs[ConfigDocument+Document(i)], credentials)
		for _, s := range d.sections {
			if s.kind != kindIn[ConfigDocument+Document(i)] || s.loose {
				continue
			}
			for _, e := range s.entries {
				key := strings.ToLower(string(e.key))
				if slices.Contains(keys, key) || len(e.value) == 0 && slices.Contains(keys, key+" =") {
					names = append(names, s.name)
				}
			}
		}
	}
	return names
}

// isDefinedIn returns a function that reports whether a name is a role or a source.
func isDefinedIn(docs Documents) func(string) bool {
	names := namesWith(docs, keyRoleARN, keySourceProfile, keySSOAccountID, keyLoginSession, keyWebIdentity)
	return func(name string) bool { return slices.Contains(names, name) }
}

// ran runs a plan to its end.
func ran(docs Documents, order []Document, plan Plan) (Documents, string) {
	if _, err := memory(&docs, order, plan); err != nil {
		return docs, "refused: " + err.Error()
	}
	return docs, ""
}

// differs describes the first difference between two sets of documents. It compares the records only if asked to.
func differs(want, have Documents, records bool) string {
	if !records {
		want[RecordsDocument], have[RecordsDocument] = nil, nil
	}
	if same(want, have) {
		return ""
	}
	return fmt.Sprintf("got\n%s\nwant\n%s", have.show(), want.show())
}

func namesIn(docs Documents) ([]string, string) {
	set, err := docs.set(linkFiles)
	if err != nil {
		return nil, "cannot be read: " + err.Error()
	}
	return set.names, ""
}

func must(names []string, wrong string) []string {
	if wrong != "" {
		panic(wrong)
	}
	return names
}

func resolved(docs Documents, name string) (Chain, error) {
	set, err := docs.set(linkFiles)
	if err != nil {
		return Chain{}, err
	}
	return set.Resolve(name)
}

// untouchedKeys returns the values of a file that link must not change.
func untouchedKeys(src []byte, credentials bool) map[string]string {
	d, _ := scan(src, credentials)
	m := map[string]string{}
	for _, s := range d.sections {
		for _, e := range s.entries {
			if key := strings.ToLower(string(e.key)); !isMovedKey(e.key) && key != keyCredentialProcess {
				m[s.header+"\x00"+key] = fmt.Sprint(string(e.value), len(e.nested))
			}
		}
	}
	return m
}

// An author writes files as people do.
type author struct {
	*rand.Rand
	roles []string // names of the roles so far
}

func (a *author) pick(of ...string) string { return of[a.IntN(len(of))] }

// one reports true once in n times on average.
func (a *author) one(n int) bool { return a.IntN(n) == 0 }

// A style is how one section is written.
type style struct{ indent, equals, nl string }

func (a *author) style(nl string) style {
	s := style{"", " = ", nl}
	if a.one(4) {
		s.indent = a.pick("  ", "\t", "    ")
	}
	if a.one(3) {
		s.equals = a.pick("=", "= ", " =", "\t=\t", ": ", ":")
	}
	return s
}

// line writes one key, with the spaces and comments that people put around it.
func (a *author) line(b *strings.Builder, s style, key, value string) {
	if a.one(12) {
		key = a.pick(strings.ToUpper(key), strings.ToUpper(key[:1])+key[1:])
	}
	b.WriteString(s.indent + key + s.equals + value)
	if a.one(12) {
		b.WriteString(a.pick(" # of "+key, " ; mine", "  ", "\t", " #", "\t# role_arn = x"))
	}
	b.WriteString(s.nl)
	if a.one(12) {
		a.filler(b, s)
	}
}

// filler writes lines without a meaning.
func (a *author) filler(b *strings.Builder, s style) {
	for range 1 + a.IntN(2) {
		b.WriteString(a.pick("", "", "# a comment", "; another", s.indent+"# indented", " ", "\t", "#", "# [profile gone]",
			"#role_arn = arn:aws:iam::444455556666:role/old") + s.nl)
	}
}

// oracleNames are names of profiles, the plain ones first.
var oracleNames = []string{"dev", "prod", "a", "b", "c", "team-x", "acme_prod_paul", "v1.2", "user@host", "x/y",
	"UPPER", "größe", "with space", "a=b", "a#b", "it's", "-dash", "1", strings.Repeat("long", 40)}

func (a *author) name() string {
	if a.one(3) {
		return oracleNames[a.IntN(len(oracleNames))]
	}
	return oracleNames[a.IntN(8)]
}

// header returns the header of a profile in the config.
func (a *author) header(name string) string {
	written := quoteName(name)
	if a.one(10) {
		written = a.pick(`"`+name+`"`, name, "'"+name+"'")
	}
	header := "[profile " + written + "]"
	switch a.IntN(30) {
	case 0:
		header = "[profile  " + written + "]"
	case 1:
		header = "[profile\t" + written + "]"
	case 2:
		header = "[ profile " + written + " ]"
	case 3:
		header = " " + header
	case 4, 5, 6:
		header += a.pick(" # "+name, " ; c", "  ", "# c")
	}
	return header
}

// keys returns typical keys for a kind of section.
func (a *author) keys(kind string) [][2]string {
	source := "security"
	if len(a.roles) > 0 && a.one(4) {
		source = a.roles[a.IntN(len(a.roles))]
	}
	arn := "arn:aws:iam::444455556666:role/" + a.pick("dev", "path/to/admin", "x+y=z,w.@-_")
	role := [][2]string{{keyRoleARN, arn}, {keySourceProfile, source}}
	for _, more := range [][2]string{{keyMFASerial, "arn:aws:iam::111122223333:mfa/paul"}, {keyExternalID, "abc:1/2=3"},
		{keySessionName, "paul@host"}, {keyDuration, "3600"}} {
		if a.one(4) {
			role = append(role, more)
		}
	}
	sso := [][2]string{{keySSOSession, "corp"}, {keySSOAccountID, "444455556666"}, {keySSORoleName, "Admin"}}
	switch kind {
	case "role":
		return role
	case "sso":
		if a.one(2) {
			sso[0] = [2]string{keySSOStartURL, a.pick("https://corp.awsapps.com/start", "https://corp.awsapps.com/start/#")}
			sso = append(sso, [2]string{keySSORegion, "eu-west-1"})
		}
		if a.one(6) {
			sso = append(sso, role[a.IntN(len(role)-1)+1])
		}
		if a.one(8) {
			sso = append(sso, [2]string{a.pick(keySSORegion, keySSOScopes, "sso_new", keyLoginSession), a.pick("eu-west-1", "a:b", "")})
		}
		return sso
	case "session":
		return [][2]string{{keySSOStartURL, "https://corp.awsapps.com/start"}, {keySSORegion, "eu-west-1"}}
	case "login":
		login := [][2]string{{keyLoginSession, consoleUser}}
		if a.one(4) {
			login = append(login, [2]string{keyCredentialProcess, a.pick("helper dev", "")})
		}
		return login
	case "role with remains":
		if a.one(2) {
			return append(role, [2]string{"mfa_process", "/usr/bin/code"})
		}
		if a.one(2) {
			return append(role, sso...)
		}
		return append(role, sso[a.IntN(3)])
	case "source":
		return [][2]string{{keyCredentialSource, a.pick("Ec2InstanceMetadata", "Environment")}, {keyRoleARN, arn}}
	case "web identity":
		return [][2]string{{keyRoleARN, arn}, {keyWebIdentity, "/var/run/token"}}
	case "process":
		helper := a.pick("aws-vault export --format=json dev", `"/opt/my tools/helper" --x=y`, "helper 'a b'")
		return [][2]string{{keyCredentialProcess, helper}}
	case "role with process":
		return append(role, [2]string{keyCredentialProcess, a.pick("helper dev", "")})
	case "half a role":
		return role[a.IntN(2):][:1]
	case "keys":
		return [][2]string{{keyAccessKeyID, "AKIAIOSFODNN7EXAMPLE"}, {keySecretKey, "wJalrXUtnFEMI/K7MDENG/EXAMPLEKEY"}}
	}
	return nil
}

var oracleKinds = []string{"role", "role", "role", "role", "role", "sso", "sso", "sso", "login", "role with remains", "source", "web identity",
	"process", "role with process", "half a role", "keys", "plain", "plain", "empty"}

// body writes the lines of a section.
func (a *author) body(b *strings.Builder, s style, kind string) {
	keys := a.keys(kind)
	if kind != "empty" {
		for _, more := range [][2]string{{keyRegion, "eu-west-1"}, {keyOutput, "json"}, {"cli_pager", ""},
			{"services", "local"}, {keyCABundle, "/etc/ssl/corp.pem"},
			{"x_unknown", "a = b # not a comment?"}, {"parameter_validation", "false"}} {
			if a.one(5) {
				keys = append(keys, more)
			}
		}
	}
	a.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
	if len(keys) > 0 && a.one(25) { // a key twice
		keys = append(keys, keys[a.IntN(len(keys))])
	}
	for i, kv := range keys {
		if i == a.IntN(12) {
			a.nested(b, s)
		}
		a.line(b, s, kv[0], kv[1])
	}
	if a.one(6) {
		a.nested(b, s)
	}
	if a.one(40) {
		b.WriteString(s.indent + a.pick("no key at all", "= no key", "[broken") + s.nl)
	}
}

// nested writes a nested block, or a value of several lines.
func (a *author) nested(b *strings.Builder, s style) {
	if a.one(6) {
		b.WriteString(s.indent + "x_lines = one" + s.nl + s.indent + "  two" + s.nl)
		return
	}
	b.WriteString(s.indent + a.pick("s3", "dynamodb") + a.pick(" =", "=", " = ") + s.nl)
	for range 1 + a.IntN(3) {
		b.WriteString(s.indent + a.pick("  ", "\t", "    ") + a.pick("max_concurrent_requests = 20", "addressing_style=path",
			"role_arn = arn:aws:iam::444455556666:role/nested", "# in the block", "endpoint_url: http://localhost:9000") + s.nl)
	}
}

// lineEnd chooses the line end of one file.
func (a *author) lineEnd() string { return a.pick("\n", "\n", "\n", "\r\n") }

// finish applies what editors do to a whole file.
func (a *author) finish(text, nl string) string {
	if a.one(12) {
		text = string(byteOrderMark) + text
	}
	if !a.one(6) {
		if trimmed := strings.TrimRight(text, " \t\r\n"); trimmed != "" {
			text = trimmed + nl
		}
	}
	if a.one(16) {
		text = strings.TrimSuffix(text, nl)
	}
	if a.one(12) { // some lines came from another operating system
		lines := strings.SplitAfter(text, nl)
		i := a.IntN(len(lines))
		lines[i] = strings.TrimRight(lines[i], "\r\n") + a.pick("\n", "\r\n")
		text = strings.Join(lines, "")
	}
	return text
}

// write generates the three files.
func (a *author) write() Documents {
	var config, credentials, registry strings.Builder
	nl := a.lineEnd()
	plain := style{"", " = ", nl}
	if a.one(3) {
		a.filler(&config, plain)
	}
	used := map[string]bool{}
	for range a.IntN(7) {
		switch a.IntN(12) {
		case 2:
			config.WriteString(a.pick("[sso-session corp]", "[sso-session \"corp\"]") + nl)
			a.body(&config, a.style(nl), "session")
		case 0:
			other := a.pick("[sso-session corp]", "[services local]", "[plugins]", "[preview]", "[dev]", "[prod]")
			config.WriteString(other + nl)
			a.body(&config, a.style(nl), "plain")
		case 1:
			config.WriteString(a.pick("[default]", "[default]", "[profile default]") + nl)
			a.body(&config, a.style(nl), oracleKinds[a.IntN(len(oracleKinds))])
		default:
			name := a.name()
			if used[name] && !a.one(10) { // few files have a section twice
				continue
			}
			used[name] = true
			kind := oracleKinds[a.IntN(len(oracleKinds))]
			config.WriteString(a.header(name) + nl)
			a.body(&config, a.style(nl), kind)
			if kind == "role" || kind == "sso" {
				a.roles = append(a.roles, name)
			}
		}
		if !a.one(3) {
			a.filler(&config, plain)
		}
	}
	text := a.finish(config.String(), nl)

	nl = a.lineEnd()
	for range max(0, a.IntN(6)-2) {
		name := a.name()
		if len(a.roles) > 0 && a.one(2) {
			name = a.roles[a.IntN(len(a.roles))]
		}
		credentials.WriteString("[" + name + "]" + nl)
		a.body(&credentials, a.style(nl), a.pick("keys", "keys", "role", "half a role", "plain", "plain", "empty"))
		if a.one(20) {
			credentials.WriteString(keyAccessKeyID + " =" + nl)
		}
		credentials.WriteString(nl)
	}

	registry.WriteString(linkRegistry)
	if a.one(6) {
		registry.WriteString("\n# mine\n" + strings.ReplaceAll(roleA, "a]", "dev]"))
	}
	if a.one(6) {
		registry.WriteString("\n[alias]\nd = dev\n")
	}
	mine := registry.String()
	switch a.IntN(20) {
	case 0:
		mine = strings.TrimSuffix(mine, "\n")
	case 1:
		mine += "\n"
	case 2:
		mine = strings.ReplaceAll(mine, "\n", "\r\n")
	case 3:
		mine += "# the end\n"
	}
	return documents(mine, text, a.finish(credentials.String(), nl))
}

// oracleFiles returns generated files by seed, without those that Broker refuses to read.
func oracleFiles(t *testing.T, n int) map[uint64]Documents {
	t.Helper()
	files := map[uint64]Documents{}
	for seed := range uint64(n) {
		a := &author{Rand: rand.New(rand.NewPCG(seed, 19))}
		docs := a.write()
		if _, wrong := namesIn(docs); wrong != "" {
			t.Errorf("seed %d: %s\n%s", seed, wrong, docs.show())
			continue
		}
		files[seed] = docs
	}
	return files
}

// wildFiles returns wild files by seed.
func wildFiles(t *testing.T, n int) map[uint64]Documents {
	t.Helper()
	files := map[uint64]Documents{}
	for seed := range uint64(n) {
		docs := wild(seed)
		if _, wrong := namesIn(docs); wrong != "" {
			t.Errorf("seed %d: %s\n%q", seed, wrong, docs)
			continue
		}
		files[seed] = docs
	}
	return files
}

// shrink removes lines as long as the property still fails, so that a person can see why.
func shrink(docs Documents, fails func(Documents) bool) Documents {
	for again := true; again; {
		again = false
		for doc := range Document(3) {
			lines := slices.Collect(bytes.Lines(docs[doc]))
			for i := len(lines) - 1; i >= 0; i-- {
				try := docs
				try[doc] = bytes.Join(slices.Delete(slices.Clone(lines), i, i+1), nil)
				if _, wrong := namesIn(try); wrong == "" && fails(try) {
					docs, lines, again = try, slices.Delete(lines, i, i+1), true
				}
			}
		}
	}
	return docs
}

// oracle checks the properties on each of the files.
func oracle(t *testing.T, files map[uint64]Documents, properties []linkProperty) {
	t.Helper()
	n := len(files)
	moved := 0
	for _, seed := range slices.Sorted(maps.Keys(files)) {
		docs := files[seed]
		if linked, _ := ran(docs, LinkOrder, linkPlan()); !bytes.Equal(linked[RegistryDocument], docs[RegistryDocument]) {
			moved++
		}
		for _, p := range properties {
			if wrong := p.test(docs, seed); wrong != "" {
				small := shrink(docs, func(d Documents) bool { return p.test(d, seed) != "" })
				t.Errorf("seed %d: does not hold: %s:\n%s\nthe smallest such files:\n%s%q",
					seed, p.name, p.test(small, seed), small.show(), small)
			}
		}
	}
	t.Logf("link moves a role in %d of %d files", moved, n)
	if moved < n/10 {
		t.Errorf("link moves a role in %d of %d files: the test is void", moved, n)
	}
}

// TestLinkOracle checks for any AWS files that link changes only what it has to, that it is idempotent, and that
// unlink restores every byte.
func TestLinkOracle(t *testing.T) {
	oracle(t, oracleFiles(t, 25), linkProperties)
	oracle(t, wildFiles(t, 40), linkProperties)
}

func TestLinkOracleLong(t *testing.T) {
	oracle(t, oracleFiles(t, runs(200)), linkProperties)
	oracle(t, wildFiles(t, runs(200)), linkProperties)
}

// runs returns n, or the number in FILES: FILES=50000 go test -timeout 0 -run Oracle …
func runs(n int) int {
	if more, err := strconv.Atoi(os.Getenv("FILES")); err == nil {
		return more
	}
	return n
}
