// Package accounts reads the account map: a small INI file that a team keeps in git, or the list of AWS
// Organizations. It derives the names and roles of profiles from it. Other people write a map, so a map may only
// say which roles exist. It must not contain code, endpoints or secrets, and every value must have the form that
// AWS gives it. The package knows neither the files of profiles nor AWS.
package accounts

import (
	"bytes"
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"broker/internal/fault"
	"broker/internal/lazyregexp"
	"broker/internal/partition"
)

// maxSize limits the file of a map, in bytes. 10,000 accounts, AWS's own limit for an organization, fit into it.
// https://docs.aws.amazon.com/organizations/latest/userguide/orgs_reference_limits.html
const maxSize = 2 << 20

// maxRoles limits the roles of one account; more are a mistake.
const maxRoles = 100

// Map lists the accounts of a team.
type Map struct {
	Label    string // label of the block in which its profiles are written
	Product  string // for {product}; may be empty
	Source   string // the source or profile that assumes its roles; may be empty
	Template string // template for the names; may be empty
	Accounts []Account
}

// Account is one account of a map.
type Account struct {
	Name        string
	ID          string // twelve digits
	Environment string // for {env}
	Partition   string
	Roles       []string // each is a name, a path and name, or an ARN
	Region      string   // may be empty
	ExternalID  string
	Duration    string // seconds; empty if the map does not set it
	MFASerial   string
	MFA         string // "required": the roles must refuse a caller without a code; "optional" or empty: they need not

	origin string // file:line, for messages
}

// The keys of a map: before the first section, and in a section.
var (
	topKeys     = []string{"product", "source", "region", "partition", "roles", "template", "mfa"}
	accountKeys = []string{"id", "environment", "partition", "roles", "region", "external_id", "duration_seconds", "mfa_serial",
		"mfa"}
)

// The allowed values. The patterns are AWS's, except for the paths of roles: AWS allows every character in them,
// and a file from elsewhere does not need all of them.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html
// https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
var (
	word        = lazyregexp.New(`^[A-Za-z0-9_][A-Za-z0-9_.@+=,-]{0,63}$`)
	accountID   = lazyregexp.New(`^[0-9]{12}$`)
	region      = lazyregexp.New(`^[a-z]{2,8}(-[a-z]{2,12}){1,3}-[0-9]{1,2}$`)
	rolePath    = lazyregexp.New(`^([A-Za-z0-9_+=,.@-]+/)*[A-Za-z0-9_+=,.@-]+$`)
	roleARN     = lazyregexp.New(`^arn:(aws(?:-[a-z]+)*):iam::([0-9]{12}):role/(.+)$`)
	partitionID = lazyregexp.New(`^aws(-cn|-us-gov|-eusc|-iso(-[bef])?)?$`) // the partitions of package partition
	externalID  = lazyregexp.New(`^[A-Za-z0-9_+=,.@:/-]{2,}$`)
	mfaRule     = lazyregexp.New(`^(required|optional)$`)
	device      = lazyregexp.New(`^[A-Za-z0-9_+=/:,.@-]{9,}$`)
)

// Parse parses a map. The name of the file appears in messages, and in the label if the map has no product.
//
// The error is a fault.Config with file and line: for text that is not INI, for keys that are unknown, repeated or
// not allowed in a map, for values of the wrong form, and for repeated accounts.
func Parse(file string, src []byte) (Map, error) {
	if len(src) > maxSize {
		return Map{}, fault.New(fault.Config, "%s: an account map has at most %d bytes", file, maxSize)
	}
	r := &reader{file: file}
	if line := notText(src); line > 0 {
		return Map{}, r.wrong(line, "contains a character that is not text")
	}
	sections, err := r.scan(src)
	if err != nil {
		return Map{}, err
	}
	if len(sections) < 2 {
		return Map{}, fault.New(fault.Config, "%s: an account map needs a section for each account, such as [dev]", file)
	}
	m := Map{Label: labelOf(file)}
	top := r.values("before the first section", sections[0], topKeys)
	m.Product = top.take("product", word, "is not a word such as product")
	m.Source = top.take("source", word, "is not the name of a source or profile")
	if m.Template, _ = top.get("template"); m.Template != "" {
		if _, err := parseTemplate(m.Template, DefaultTemplate); err != nil {
			top.fail("template", "%s", fault.Of(err).Message)
		}
	}
	if m.Product != "" {
		m.Label = labelOf(m.Product)
	}
	seen := map[string]string{}
	for _, s := range sections[1:] {
		a := r.account(s, top)
		for _, key := range []string{"account " + strconv.Quote(a.Name), "id " + a.ID} {
			if first, again := seen[key]; again && r.err == nil {
				r.err = fault.New(fault.Config, "%s: %s is defined twice, first at %s", a.origin, key, first)
			}
			seen[key] = a.origin
		}
		m.Accounts = append(m.Accounts, a)
	}
	if r.err != nil {
		return Map{}, r.err
	}
	return m, nil
}

func (r *reader) account(s section, top *values) Account {
	a := Account{Name: s.name, origin: r.origin(s.line)}
	if !word.MatchString(a.Name) || strings.EqualFold(a.Name, "default") {
		r.fail(a.origin, "an account cannot be called %.70q: a name has letters, digits and _.@+=,-, and is not default", a.Name)
	}
	v := r.values("in ["+a.Name+"]", s, accountKeys)
	a.ID = v.take("id", accountID, "is not an account ID of twelve digits")
	if a.ID == "" {
		r.fail(a.origin, "account %q has no id", a.Name)
	}
	if a.Environment = v.take("environment", word, "is not a word such as dev"); a.Environment == "" {
		a.Environment = a.Name
	}
	a.Region = v.or(top, "region", region, "is not the name of a region")
	a.Partition = v.or(top, "partition", partitionID, "is not "+strings.Join(partition.IDs(), ", "))
	if of := cmp.Or(partition.OfRegion(a.Region), partition.Default); a.Partition == "" {
		a.Partition = of
	} else if a.Region != "" && of != a.Partition {
		r.fail(a.origin, "account %q is in partition %s, but its region %s is in another", a.Name, a.Partition, a.Region)
	}
	roles, from := v, "roles"
	if _, own := v.get(from); !own {
		roles = top
	}
	list, _ := roles.get(from)
	for role := range strings.SplitSeq(list, ",") {
		if role = strings.TrimSpace(role); role == "" {
			continue
		}
		if _, err := a.RoleARN(role); err != nil {
			roles.fail(from, "%s", err)
		}
		a.Roles = append(a.Roles, role)
	}
	if len(a.Roles) > maxRoles {
		roles.fail(from, "names more than %d roles", maxRoles)
	}
	a.ExternalID = v.take("external_id", externalID, "is not 2 to 1224 letters, digits and characters of _+=,.@:/-")
	a.MFA = v.or(top, "mfa", mfaRule, "is neither required nor optional")
	a.MFASerial = v.take("mfa_serial", device, "is not the serial of an MFA device")
	if seconds, ok := v.get("duration_seconds"); ok {
		if n, err := strconv.Atoi(seconds); err != nil || n < 900 || n > 43200 || strconv.Itoa(n) != seconds {
			v.fail("duration_seconds", "is not a whole number of seconds from 900 to 43200")
		}
		a.Duration = seconds
	}
	return a
}

// AWS's limits for the name of a role, and for everything after "role/".
const (
	maxRoleName = 64
	maxPath     = 512 + maxRoleName
)

// RoleARN returns the ARN of a role of the account. The role is given by name, by path and name, or by ARN. The
// error says what is wrong, without a prefix.
func (a Account) RoleARN(role string) (string, error) {
	if m := roleARN.FindStringSubmatch(role); m != nil {
		if m[1] != a.Partition || m[2] != a.ID {
			return "", fmt.Errorf("names a role of another account or partition, not of %s in %s", a.ID, a.Partition)
		}
		role = m[3]
	}
	path := strings.TrimPrefix(role, "/")
	if name := path[strings.LastIndexByte(path, '/')+1:]; !rolePath.MatchString(path) || len(path) > maxPath ||
		len(name) > maxRoleName {
		return "", fmt.Errorf("names an invalid role %.80q", role)
	}
	return "arn:" + a.Partition + ":iam::" + a.ID + ":role/" + path, nil
}

// labelOf derives the label of a block from the name of a file or a product.
func labelOf(name string) string {
	base := filepath.Base(name)
	return toWord(strings.TrimSuffix(base, filepath.Ext(base)), "accounts")
}

// toWord makes one word of any text: lower-case letters and digits, with a dash for everything else.
func toWord(text, otherwise string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(text) {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '_':
			b.WriteRune(r)
		case b.Len() > 0 && !strings.HasSuffix(b.String(), "-"):
			b.WriteByte('-')
		}
		if b.Len() >= 60 {
			break
		}
	}
	if w := strings.Trim(b.String(), "-"); w != "" {
		return w
	}
	return otherwise
}

// Listed is an account as AWS Organizations lists it.
type Listed struct{ ID, Name string }

// OfOrganization returns the map of an organization that the management account of a profile listed. All accounts
// get the region, which may be empty. Account names become words; if two become equal, each gets its ID as a
// suffix.
func OfOrganization(profile, partition, region string, list []Listed) Map {
	m := Map{Label: "org-" + toWord(profile, "profile"), Source: profile}
	count := map[string]int{}
	for _, l := range list {
		count[toWord(l.Name, l.ID)]++
	}
	for _, l := range list {
		name := toWord(l.Name, l.ID)
		if count[name] > 1 || name == "default" {
			name += "-" + l.ID
		}
		m.Accounts = append(m.Accounts, Account{Name: name, ID: l.ID, Environment: name, Partition: partition,
			Region: region, origin: "the organization"})
	}
	return m
}

// PortalTemplate is the default template for the names of profiles of IAM Identity Center.
const PortalTemplate = "{account}-{role}"

// Assigned is a permission set that a person has in an account, as the portal lists it.
type Assigned struct{ ID, Name, Role string }

// OfPortal returns the map of what the portal of a session assigns. The roles are the permission sets. Account names
// become words as in OfOrganization. The list may have the roles of an account at several places.
func OfPortal(session, partition, region string, list []Assigned) Map {
	var listed []Listed
	roles := map[string][]string{}
	for _, a := range list {
		if roles[a.ID] == nil {
			listed = append(listed, Listed{a.ID, a.Name})
		}
		roles[a.ID] = append(roles[a.ID], a.Role)
	}
	m := OfOrganization(session, partition, region, listed)
	m.Label, m.Source, m.Template = "sso-"+session, "", PortalTemplate
	if !Word(session) || len(session) > 60 {
		m.Label = "sso-" + toWord(session, "portal")
	}
	for i := range m.Accounts {
		a := &m.Accounts[i]
		a.Roles, a.origin = roles[a.ID], "the portal"
	}
	return m
}

// reader records the first error in a map.
type reader struct {
	file string
	err  error
}

func (r *reader) origin(line int) string {
	if line == 0 {
		return r.file
	}
	return r.file + ":" + strconv.Itoa(line)
}

func (r *reader) wrong(line int, text string) error {
	return fault.New(fault.Config, "%s: this line %s", r.origin(line), text)
}

func (r *reader) fail(origin, format string, args ...any) {
	if r.err == nil {
		r.err = fault.New(fault.Config, "%s: "+format, append([]any{origin}, args...)...)
	}
}

// section is one section of the file.
type section struct {
	name string
	line int // 0 for the keys before the first section
	keys []keyLine
}

type keyLine struct {
	key, value string
	line       int
}

// scan reads lines: [name], key = value, comments. There is nothing else: no quotes, no continued lines, no
// interpolation.
func (r *reader) scan(src []byte) ([]section, error) {
	all := []section{{}}
	n := 0
	for text := range bytes.Lines(bytes.TrimPrefix(src, []byte("\ufeff"))) {
		n++
		line := strings.TrimSpace(withoutComment(string(text)))
		if line == "" {
			continue
		}
		if line[0] == '[' {
			if line[len(line)-1] != ']' {
				return nil, r.wrong(n, `begins a section without "]"`)
			}
			all = append(all, section{name: strings.TrimSpace(line[1 : len(line)-1]), line: n})
			continue
		}
		i := strings.IndexAny(line, "=:")
		if i < 1 {
			return nil, r.wrong(n, `is not "key = value"`)
		}
		last := &all[len(all)-1]
		last.keys = append(last.keys, keyLine{strings.TrimSpace(line[:i]), strings.TrimSpace(line[i+1:]), n})
	}
	return all, nil
}

// withoutComment removes a comment: a # or ; at the start or after white space.
func withoutComment(line string) string {
	for i := range len(line) {
		if (line[i] == '#' || line[i] == ';') && (i == 0 || line[i-1] == ' ' || line[i-1] == '\t') {
			return line[:i]
		}
	}
	return line
}

// values are the keys of one section.
type values struct {
	*reader
	line  int // of the section
	lines map[string]int
	keys  map[string]string
}

// values reads a section and rejects keys that it must not have.
func (r *reader) values(where string, s section, known []string) *values {
	v := &values{r, s.line, map[string]int{}, map[string]string{}}
	for _, k := range s.keys {
		_, again := v.lines[k.key]
		v.lines[k.key] = k.line
		switch {
		case !slices.Contains(known, k.key) && dangerous(k.key):
			v.fail(k.key, "has no place in an account map: no code, no endpoint and no secret is taken from one")
		case !slices.Contains(known, k.key):
			v.fail(k.key, "is not known %s; known keys are %s", where, strings.Join(known, ", "))
		case again:
			v.fail(k.key, "is set twice %s", where)
		}
		if k.value != "" {
			v.keys[k.key] = k.value
		}
	}
	return v
}

// dangerous reports whether a key of AWS's or Broker's files could run a program, choose who sees keys, or contain
// a secret.
func dangerous(key string) bool {
	key = strings.ToLower(key)
	for _, part := range []string{"process", "command", "endpoint", "service", "ca_bundle", "proxy", "secret", "access_key", "token", "seed", "password",
		"credential", "source_profile", "sso_", "login_", "web_identity", "keyring", "include", "catalog", "confirm", "sts_"} {
		if strings.Contains(key, part) {
			return true
		}
	}
	return false
}

func (v *values) get(key string) (string, bool) {
	s, ok := v.keys[key]
	return s, ok
}

// fail reports what is wrong with a key, without its value: somebody may have pasted a secret into the wrong line.
func (v *values) fail(key, format string, args ...any) {
	line, ok := v.lines[key]
	if !ok {
		line = v.line
	}
	v.reader.fail(v.origin(line), "%.60q "+format, append([]any{key}, args...)...)
}

// maxValue limits a value, in characters. AWS's longest is the external ID.
const maxValue = 1224

func (v *values) take(key string, form *lazyregexp.Regexp, otherwise string) string {
	value, ok := v.get(key)
	if ok && (!form.MatchString(value) || len(value) > maxValue) {
		v.fail(key, "%s", otherwise)
	}
	return value
}

// or returns a value of the section, else the one before the first section.
func (v *values) or(top *values, key string, form *lazyregexp.Regexp, otherwise string) string {
	if _, own := v.get(key); own {
		return v.take(key, form, otherwise)
	}
	return top.take(key, form, otherwise)
}

// notText returns the first line with a byte that is not text, or 0.
func notText(src []byte) int {
	line := 1
	for len(src) > 0 {
		r, n := utf8.DecodeRune(src)
		switch {
		case r == '\n':
			line++
		case r == utf8.RuneError && n == 1, unicode.IsControl(r) && r != '\t' && r != '\r':
			return line
		}
		src = src[n:]
	}
	return 0
}
