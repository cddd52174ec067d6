//go:build unix

package profiles

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The oracle makes files of all that AWS files are made of, and holds link and unlink against what must be true of any
// such file. It knows nothing of how they edit: it uses Link, Unlink and Rewrite alone.

// A linkProperty is something that must hold for the documents of a person. It returns what is wrong, or "".
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
	{"link keeps the line ends of a file that has one kind", func(start Documents, _ uint64) string {
		docs, wrong := ran(start, LinkOrder, linkPlan())
		for _, doc := range []Document{ConfigDocument, CredentialsDocument} {
			if was, is := lineEnds(start[doc]), lineEnds(docs[doc]); was != mixed && was != noLines && is != was {
				wrong += fmt.Sprintf("%s, and was %s: %q", is, was, docs[doc])
			}
		}
		return wrong
	}},
	{"link leaves no key of a role that it moves", func(start Documents, _ uint64) string {
		docs := start
		outcomes, err := memory(&docs, LinkOrder, linkPlan())
		if err != nil {
			return err.Error()
		}
		left := namesWith(docs, roleKeys...)
		for _, o := range outcomes {
			if o.State == Changed && isRoleIn(start)(o.Name) && slices.Contains(left, o.Name) {
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
				continue // it gets no worse
			}
			if is, err := resolved(docs, name); err != nil || !sameChain(was, is) {
				return fmt.Sprintf("%q was\n%+v\nand is\n%+v, %v", name, was, is, err)
			}
		}
		return ""
	}},
}

// The properties that rows of knownFaults name.
const (
	sameBytes    = "unlink gives back the same bytes"
	oneByOne     = "unlink one by one gives back the same bytes"
	botocoreSame = "botocore reads the same"
	botocoreAsks = "botocore asks the helper"
)

// roleA is a profile that link moves.
const roleA = "[profile a]\nrole_arn = arn:aws:iam::444455556666:role/a\nsource_profile = security\n"

// knownFaults are the kinds of files for which a property does not hold yet. Each row has the smallest such file:
// TestLinkKnownFaults fails once the property holds for it, and the row has to go.
var knownFaults = []knownFault{
	{
		name:       "an empty credential_process beside a role",
		why:        "unlink loses it, and puts the role's keys in an order of its own",
		properties: []string{sameBytes, oneByOne},
		kind: func(docs Documents) bool {
			return slices.ContainsFunc(namesWith(docs, keyCredentialProcess+" ="), isRoleIn(docs))
		},
		example: documents(linkRegistry, strings.Replace(roleA, "\nr", "\ncredential_process =\nr", 1), ""),
	},
	{
		name:       "a registry that does not end with a line that has text",
		why:        "unlink adds a line end, or takes a blank line away",
		properties: []string{sameBytes, oneByOne},
		kind:       func(docs Documents) bool { return endsOddly(docs[RegistryDocument]) },
		example:    documents(strings.TrimSuffix(linkRegistry, "\n"), roleA, ""),
	},
	{
		name:       "a config that does not end with a line that has text, before or after link",
		why:        "where link changes the end, unlink one by one gives back another number of line ends",
		properties: []string{oneByOne},
		kind: func(docs Documents) bool {
			src := docs[ConfigDocument]
			d, _ := scan(src, false)
			if len(d.sections) == 0 {
				return endsOddly(src)
			}
			last := d.sections[len(d.sections)-1]
			rest := src // without the keys at its end that link takes out
			for _, e := range slices.Backward(last.entries) {
				if !isRoleKey(e.key) || e.end < len(rest) {
					break
				}
				rest = rest[:e.start]
			}
			linked, _ := ran(docs, LinkOrder, linkPlan())
			return (endsOddly(src) || endsOddly(rest)) && !bytes.HasSuffix(linked[ConfigDocument], src[last.start:])
		},
		example: documents(linkRegistry+"\n"+roleA, "\n", ""),
	},
	{
		name:       "a role with a key of IAM Identity Center and no session or start URL",
		why:        "botocore refuses the profile before it asks the helper",
		properties: []string{botocoreAsks},
		kind: func(docs Documents) bool {
			whole := namesWith(docs, keySSOSession, keySSOStartURL) // link knows these
			return slices.ContainsFunc(namesWith(docs, "sso_account_id", "sso_role_name", "sso_region"), func(name string) bool {
				return isRoleIn(docs)(name) && !slices.Contains(whole, name)
			})
		},
		example: documents(linkRegistry, roleA+"sso_role_name = Admin\n", ""),
	},
	{
		name:       "a role with an empty key in the credentials file",
		why:        "botocore takes that for its credentials",
		properties: []string{botocoreAsks},
		kind: func(docs Documents) bool {
			return slices.ContainsFunc(namesWith(docs, keyAccessKeyID+" ="), isRoleIn(docs))
		},
		example: documents(linkRegistry, roleA, "[a]\naws_access_key_id =\n"),
	},
	{
		name:       "a header with a blank behind its bracket",
		why:        "botocore knows no such profile, and link takes it for one",
		properties: []string{botocoreSame, botocoreAsks},
		kind: func(docs Documents) bool {
			return regexp.MustCompile(`(?m)^[^\S\n]*\[[^\S\n]+profile\s`).Match(docs[ConfigDocument])
		},
		example: documents(linkRegistry, strings.Replace(roleA, "[profile a]", "[ profile a ]", 1), ""),
	},
	{
		name:       "an indented header below a key",
		why:        "botocore takes it for a part of that key's value, and link takes it for a profile",
		properties: []string{botocoreAsks},
		kind:       func(docs Documents) bool { return len(aboveIndented(docs)) > 0 },
		example:    documents(linkRegistry, "[default]\nregion = x\n "+roleA, ""),
	},
	{
		name:       "an indented header below a role with an empty key",
		why:        "once the last keys of the role are gone it is below the empty key, and botocore refuses the file",
		properties: []string{botocoreSame},
		kind: func(docs Documents) bool {
			return slices.ContainsFunc(aboveIndented(docs), func(s section) bool {
				return isRoleIn(docs)(s.name) && slices.ContainsFunc(s.entries, func(e entry) bool { return len(e.value) == 0 })
			})
		},
		example: documents(linkRegistry, strings.Replace(roleA, "\ns", "\nregion =\ns", 1)+" [profile b]\noutput = x\n", ""),
	},
}

// aboveIndented are the sections of a config with keys, above a header that is indented.
func aboveIndented(docs Documents) (above []section) {
	d, _ := scan(docs[ConfigDocument], false)
	for i, s := range d.sections {
		if i > 0 && s.indent > 0 && len(d.sections[i-1].entries) > 0 {
			above = append(above, d.sections[i-1])
		}
	}
	return above
}

// The kinds of line ends of a file.
const (
	noLines = "no lines"
	mixed   = "mixed"
)

// lineEnds are the line ends of a file: all LF, all CRLF, mixed or none.
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

// namesWith are the profiles that have one of these keys in an AWS file; "KEY =" stands for a key that is empty.
func namesWith(docs Documents, keys ...string) (names []string) {
	for i, credentials := range []bool{false, true} {
		d, _ := scan(docs[ConfigDocument+Document(i)], credentials)
		for _, s := range d.sections {
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

// isRoleIn reports of a name whether it is a role.
func isRoleIn(docs Documents) func(string) bool {
	roles := namesWith(docs, keyRoleARN, keySourceProfile)
	return func(name string) bool { return slices.Contains(roles, name) }
}

// endsOddly reports whether a file ends without a line end, or with a blank line.
func endsOddly(src []byte) bool {
	src = bytes.TrimPrefix(src, byteOrderMark)
	body, whole := bytes.CutSuffix(src, []byte("\n"))
	last := body[bytes.LastIndexByte(body, '\n')+1:]
	return len(src) > 0 && (!whole || len(bytes.TrimSpace(last)) == 0)
}

type knownFault struct {
	name, why  string
	properties []string
	kind       func(Documents) bool // the generated files that are left out of these properties
	example    Documents
}

// ran runs a plan to its end.
func ran(docs Documents, order []Document, plan Plan) (Documents, string) {
	if _, err := memory(&docs, order, plan); err != nil {
		return docs, "refused: " + err.Error()
	}
	return docs, ""
}

// differs says in what documents are another; the records count only if they are asked for.
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

// untouchedKeys are the values of a file that link may not change.
func untouchedKeys(src []byte, credentials bool) map[string]string {
	d, _ := scan(src, credentials)
	m := effective(d)
	maps.DeleteFunc(m, func(id, _ string) bool {
		key := id[strings.LastIndexByte(id, 0)+1:]
		return isRoleKey([]byte(key)) || key == keyCredentialProcess
	})
	return m
}

// author writes the files of a person.
type author struct {
	*rand.Rand
	roles []string // names of the roles so far
}

func (a *author) pick(of ...string) string { return of[a.IntN(len(of))] }

// one reports true once in n times.
func (a *author) one(n int) bool { return a.IntN(n) == 0 }

// style is how one section is written.
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

// line writes one key, and what people put around it.
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

// filler writes lines that mean nothing.
func (a *author) filler(b *strings.Builder, s style) {
	for range 1 + a.IntN(2) {
		b.WriteString(a.pick("", "", "# a comment", "; another", s.indent+"# indented", " ", "\t", "#", "# [profile gone]",
			"#role_arn = arn:aws:iam::444455556666:role/old") + s.nl)
	}
}

// names of profiles, the plain ones first.
var oracleNames = []string{"dev", "prod", "a", "b", "c", "team-x", "acme_prod_paul", "v1.2", "user@host", "x/y",
	"UPPER", "größe", "with space", "a=b", "a#b", "it's", "-dash", "1", strings.Repeat("long", 40)}

func (a *author) name() string {
	if a.one(3) {
		return oracleNames[a.IntN(len(oracleNames))]
	}
	return oracleNames[a.IntN(8)]
}

// header is the header of a profile in the config.
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

// keys are what the sections of a kind have.
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
	sso := [][2]string{{keySSOSession, "corp"}, {"sso_account_id", "444455556666"}, {"sso_role_name", "Admin"}}
	switch kind {
	case "role":
		return role
	case "sso":
		if a.one(2) {
			sso[0] = [2]string{keySSOStartURL, "https://corp.awsapps.com/start"}
			sso = append(sso, [2]string{"sso_region", "eu-west-1"})
		}
		return sso
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

var oracleKinds = []string{"role", "role", "role", "role", "role", "sso", "role with remains", "source", "web identity",
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
	if len(keys) > 0 && a.one(25) { // twice
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

// nested writes a block, or a value of several lines.
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

// lineEnd is that of one file.
func (a *author) lineEnd() string { return a.pick("\n", "\n", "\n", "\r\n") }

// finish is what editors do to a whole file.
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
	if a.one(12) { // some lines came from another system
		lines := strings.SplitAfter(text, nl)
		i := a.IntN(len(lines))
		lines[i] = strings.TrimRight(lines[i], "\r\n") + a.pick("\n", "\r\n")
		text = strings.Join(lines, "")
	}
	return text
}

// write makes the three files.
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
		case 0:
			other := a.pick("[sso-session corp]", "[services local]", "[plugins]", "[preview]", "[dev]", "[prod]")
			config.WriteString(other + nl)
			a.body(&config, a.style(nl), "plain")
		case 1:
			config.WriteString(a.pick("[default]", "[default]", "[profile default]") + nl)
			a.body(&config, a.style(nl), oracleKinds[a.IntN(len(oracleKinds))])
		default:
			name := a.name()
			if used[name] && !a.one(10) { // few have a section twice
				continue
			}
			used[name] = true
			kind := oracleKinds[a.IntN(len(oracleKinds))]
			config.WriteString(a.header(name) + nl)
			a.body(&config, a.style(nl), kind)
			if kind == "role" {
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

// oracleFiles are the files of a seed each, those that Broker refuses to read left out.
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

// shrink takes lines away for as long as a property fails, so that a person can see why.
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

// oracle holds the files of n seeds against properties.
func oracle(t *testing.T, n int, properties []linkProperty) {
	t.Helper()
	t.Logf("seeds 0 to %d", n-1)
	files := oracleFiles(t, n)
	moved, left := 0, map[string]int{}
	for _, seed := range slices.Sorted(maps.Keys(files)) {
		docs := files[seed]
		if linked, _ := ran(docs, LinkOrder, linkPlan()); !bytes.Equal(linked[RegistryDocument], docs[RegistryDocument]) {
			moved++
		}
		for _, p := range properties {
			known := func(d Documents) int {
				return slices.IndexFunc(knownFaults, func(f knownFault) bool {
					return slices.Contains(f.properties, p.name) && f.kind(d)
				})
			}
			if i := known(docs); i >= 0 {
				left[p.name+": "+knownFaults[i].name]++
				continue
			}
			if wrong := p.test(docs, seed); wrong != "" {
				small := shrink(docs, func(d Documents) bool { return known(d) < 0 && p.test(d, seed) != "" })
				t.Errorf("seed %d: %s: not so:\n%s\nthe smallest such files:\n%s%q",
					seed, p.name, p.test(small, seed), small.show(), small)
			}
		}
	}
	t.Logf("link moves a role of %d of %d files", moved, n)
	for what, times := range left {
		if t.Logf("left out %d times: %s", times, what); times > n/8 {
			t.Errorf("%q is left out %d of %d times: it is not narrow", what, times, n)
		}
	}
	if moved < n/3 {
		t.Errorf("link moves a role of %d of %d files: the test is void", moved, n)
	}
}

// TestLinkOracle: for any AWS files, link changes what it has to and nothing else, twice is once, and unlink gives back
// every byte.
func TestLinkOracle(t *testing.T) { oracle(t, 300, linkProperties) }

func TestLinkOracleLong(t *testing.T) { oracle(t, 2_000, linkProperties) }

// TestLinkOracleBotocore: for any AWS files that botocore can read, it reads the same of them after link, and takes the
// credentials of the helper.
func TestLinkOracleBotocore(t *testing.T) { oracle(t, 300, botocoreProperties(t)) }

func TestLinkOracleBotocoreLong(t *testing.T) { oracle(t, 2_000, botocoreProperties(t)) }

// TestLinkKnownFaults: what is left out of the oracle is still wrong.
func TestLinkKnownFaults(t *testing.T) { stillWrong(t, linkProperties) }

func TestLinkKnownFaultsBotocore(t *testing.T) { stillWrong(t, botocoreProperties(t)) }

func stillWrong(t *testing.T, properties []linkProperty) {
	for _, f := range knownFaults {
		if !f.kind(f.example) {
			t.Errorf("%s: the example is not of its own kind", f.name)
		}
		for _, p := range properties {
			if slices.Contains(f.properties, p.name) && p.test(f.example, 0) == "" {
				t.Errorf("%s: %q holds now: take it out of the row", f.name, p.name)
			}
		}
	}
}

// botocoreServer reads files as tools with botocore do. For some profiles it tells which provider gives the
// credentials, without starting a helper or calling AWS.
const botocoreServer = `
import json, os, sys
import botocore.session, botocore.exceptions, botocore.credentials
for name in list(os.environ):
    if name.startswith("AWS_"):
        del os.environ[name]
session = botocore.session.Session() # one for all: making it takes most of the time
def read(profile):
    session._config = session._profile_map = session._profile = None
    session.set_config_variable("profile", profile)
    return session.full_config
def provider(name):
    read(name)
    try:
        for p in botocore.credentials.create_credential_resolver(session).providers:
            if p.METHOD == "custom-process":
                return session.get_scoped_config().get("credential_process", "no helper")
            if p.load() is not None:
                return p.METHOD
    except Exception as e:
        return type(e).__name__
for line in sys.stdin:
    config, credentials, names = json.loads(line)
    os.environ["AWS_CONFIG_FILE"], os.environ["AWS_SHARED_CREDENTIALS_FILE"] = config, credentials
    try:
        answer = {"config": read(None), "providers": {n: provider(n) for n in names}}
    except botocore.exceptions.BotoCoreError as e:
        answer = {"error": type(e).__name__}
    print(json.dumps(answer), flush=True)
`

type botocoreView struct {
	Error     string
	Config    map[string]any
	Providers map[string]string
}

// botocoreProperties are what botocore has to see. It runs until the test ends.
func botocoreProperties(t *testing.T) []linkProperty {
	t.Helper()
	cmd := exec.Command(python(t), "-c", botocoreServer)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	})
	to, from, dir := json.NewEncoder(in), json.NewDecoder(out), t.TempDir()
	files, helpers := 0, 0
	t.Cleanup(func() {
		t.Logf("botocore read %d files and looked for the credentials of %d linked profiles", files, helpers)
		if files == 0 || helpers == 0 {
			t.Error("the test is void")
		}
	})
	read := func(docs Documents, names []string) (v botocoreView) {
		config, credentials := filepath.Join(dir, "config"), filepath.Join(dir, "credentials")
		write(t, config, string(docs[ConfigDocument]))
		write(t, credentials, string(docs[CredentialsDocument]))
		if err := to.Encode([]any{config, credentials, append([]string{}, names...)}); err != nil {
			t.Fatal(err)
		}
		if err := from.Decode(&v); err != nil {
			t.Fatal(err)
		}
		if helpers += len(v.Providers); v.Error == "" {
			files++
		}
		return v
	}
	return []linkProperty{
		{botocoreSame, func(start Documents, _ uint64) string {
			before := read(start, nil)
			docs, wrong := ran(start, LinkOrder, linkPlan())
			if wrong != "" || before.Error != "" {
				return wrong
			}
			after := read(docs, nil)
			if after.Error != "" {
				return "botocore says " + after.Error
			}
			for _, v := range []botocoreView{before, after} {
				all, _ := v.Config["profiles"].(map[string]any)
				v.Config["profiles"] = withoutRoles(all)
			}
			if !reflect.DeepEqual(before, after) {
				return fmt.Sprintf("botocore read\n%v\nand reads\n%v", before.Config, after.Config)
			}
			return ""
		}},
		{botocoreAsks, func(start Documents, _ uint64) string {
			docs := start
			outcomes, err := memory(&docs, LinkOrder, linkPlan())
			if err != nil {
				return err.Error()
			}
			var names []string
			for _, o := range outcomes {
				if o.State == Changed {
					names = append(names, o.Name)
				}
			}
			after := read(docs, names)
			for name, provider := range after.Providers {
				if words := SplitCommand(provider); len(words) < 2 || words[0] != credprocPath || helperProfile(words) != name {
					return fmt.Sprintf("of %q botocore takes the credentials of %s", name, provider)
				}
			}
			return ""
		}},
	}
}
