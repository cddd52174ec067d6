package profiles

import (
	"bytes"
	"strings"
	"unicode"
	"unicode/utf8"

	"broker/internal/fault"
)

// The kinds of sections. In ~/.aws/config and in the registry the kind is the
// first word of a header; every section of ~/.aws/credentials is of kind
// SectionCredentials, and its header is the bare name.
// https://docs.aws.amazon.com/cli/latest/userguide/cli-configure-files.html
const (
	SectionProfile     = "profile" // [profile NAME], and [default] for the name "default"
	SectionServices    = "services"
	SectionSSO         = "sso-session"
	SectionCredentials = "credentials"
	SectionSource      = "source"   // registry only
	SectionSettings    = "settings" // registry only; has no name
	SectionAlias       = "alias"    // registry only; has no name
	SectionTrust       = "trust"    // registry only; see Trust
)

// A document is a scanned file. Its keys and values are slices of the source,
// so that reading a file with secrets in it makes no copies of them.
type document struct {
	sections []section
	problems []problem
}

// A section has an empty kind if its header cannot be read: its entries belong
// to nobody, rather than to the section above.
type section struct {
	kind, name string
	prefixed   bool // [profile default], as opposed to [default]
	line       int
	start, end int // offsets of the header line
	bodyEnd    int // offset behind its last line that is neither blank nor a comment
	indent     int
	published  bool // it stands between the marks of `broker publish`
	entries    []entry
}

// An entry is a key with its value and all the lines that belong to it.
type entry struct {
	key, value     []byte
	line           int
	indent         int
	start, end     int // offsets of its lines
	valueAt, valTo int // offsets of the value within its first line
	multiline      bool
	nested         []entry
}

// A problem never quotes the line: it could be a secret.
type problem struct {
	line int
	text string
}

// maxProblems bounds what is remembered of a file that is no AWS file at all.
const maxProblems = 100

func (d *document) report(line int, text string) {
	if len(d.problems) < maxProblems {
		d.problems = append(d.problems, problem{line, text})
	}
}

// maxFile bounds what is read of one file.
const maxFile = 50 << 20

var byteOrderMark = []byte("\xef\xbb\xbf")

// scan reads AWS's INI dialect: botocore's where it is defined by it
// (configparser for lines, shlex for names, one level of nesting), and the Go
// SDK's where that one is more lenient (inline comments, a line it cannot read
// is skipped, duplicates are merged). A document that is not text is an error.
func scan(src []byte, credentials bool) (*document, *problem) {
	if p := notText(src); p != nil {
		return nil, p
	}
	d := &document{}
	var sec *section // the last of d.sections
	var cur *entry   // the last of sec.entries, while lines may still continue it
	published := false
	pos := 0
	if bytes.HasPrefix(src, byteOrderMark) {
		pos = len(byteOrderMark)
	}
	for line := 1; pos < len(src); line++ {
		start, end := pos, len(src)
		if i := bytes.IndexByte(src[pos:], '\n'); i >= 0 {
			end = pos + i + 1
		}
		pos = end
		text := bytes.TrimSpace(src[start:end])
		if len(text) == 0 || text[0] == '#' || text[0] == ';' {
			if mark := publishMark(text); credentials && mark != "" {
				published = mark == markBegin
			}
			continue
		}
		at := start + bytes.Index(src[start:end], text)
		indent := utf8.RuneCount(src[start:at])
		continues := cur != nil && indent > cur.indent

		if text[0] == '[' { // at any indentation, as in the Go SDK
			s := section{line: line, start: start, end: end, bodyEnd: end, indent: indent, published: published}
			if why := s.readHeader(text, credentials); why != "" {
				d.report(line, why)
			}
			d.sections = append(d.sections, s)
			sec, cur = &d.sections[len(d.sections)-1], nil
			continue
		}
		if sec == nil {
			d.report(line, "stands before the first section")
			continue
		}
		sec.bodyEnd = end
		e, ok := splitEntry(src, at, at+len(text), !continues)
		e.line, e.indent, e.start, e.end = line, indent, start, end
		switch {
		case continues && len(cur.value) == 0: // a nested block
			cur.end, cur.multiline = end, true
			if ok {
				cur.nested = append(cur.nested, e)
			} else {
				d.report(line, `is not "key = value"`)
			}
		case continues:
			if !cur.multiline {
				cur.value = bytes.Clone(cur.value) // the source stays as it is
			}
			cur.value = append(append(cur.value, '\n'), text...)
			cur.end, cur.multiline = end, true
		case ok:
			sec.entries = append(sec.entries, e)
			cur = &sec.entries[len(sec.entries)-1]
		default:
			cur = nil
			d.report(line, `is not "key = value"`)
		}
	}
	return d, nil
}

// scanFile is scan of a file, which the error names: a fault.Config.
func scanFile(path string, src []byte, credentials bool) (*document, error) {
	d, bad := scan(src, credentials)
	if bad != nil {
		return nil, bad.in(path)
	}
	return d, nil
}

func (p problem) in(path string) error {
	return fault.New(fault.Config, "%s: this line %s", Origin{path, p.line}, p.text)
}

// notText finds the first NUL or byte that is not UTF-8.
func notText(src []byte) *problem {
	if i := bytes.IndexByte(src, 0); i >= 0 {
		return &problem{1 + bytes.Count(src[:i], []byte("\n")), "holds a NUL byte"}
	}
	if utf8.Valid(src) {
		return nil
	}
	line := 1
	for rest := src; ; line++ {
		text, more, _ := bytes.Cut(rest, []byte("\n"))
		if !utf8.Valid(text) {
			return &problem{line, "is not valid UTF-8"}
		}
		rest = more
	}
}

// splitEntry reads src[from:to], a trimmed line, as key and value. Both "=" and
// ":" separate, as in configparser and in the Go SDK.
func splitEntry(src []byte, from, to int, comments bool) (entry, bool) {
	text := src[from:to]
	i := bytes.IndexAny(text, "=:")
	if i < 0 {
		return entry{}, false
	}
	key := bytes.TrimSpace(text[:i])
	if len(key) == 0 {
		return entry{}, false
	}
	at := to - len(bytes.TrimLeftFunc(text[i+1:], unicode.IsSpace))
	if comments {
		for j := at; j < to; j++ {
			if (src[j] == '#' || src[j] == ';') && (src[j-1] == ' ' || src[j-1] == '\t') {
				to = j
				break
			}
		}
	}
	value := bytes.TrimSpace(src[at:to])
	return entry{key: key, value: value, valueAt: at, valTo: at + len(value)}, true
}

// readHeader reads "[...]" and says what is wrong with it.
func (s *section) readHeader(text []byte, credentials bool) string {
	inside, after, closed := bytes.Cut(text[1:], []byte("]"))
	if !closed {
		return `starts a section without "]"; the section is ignored`
	}
	header := strings.TrimSpace(string(inside))
	if credentials {
		s.kind, s.name = SectionCredentials, header
	} else {
		kind, rest := header, ""
		if i := strings.IndexFunc(header, unicode.IsSpace); i >= 0 {
			kind, rest = header[:i], strings.TrimSpace(header[i:])
		}
		s.kind, s.name = kind, unquoteName(rest)
		s.prefixed = kind == SectionProfile
		if header == "default" {
			s.kind, s.name = SectionProfile, header
		}
	}
	named := s.kind == SectionProfile || s.kind == SectionCredentials || s.kind == SectionSource || s.kind == SectionTrust
	if s.kind == "" || (named || s.name != "") && checkName(s.name) != nil {
		s.kind, s.name = "", ""
		return "names a section that nothing can be called; the section is ignored"
	}
	after = bytes.TrimSpace(after)
	if len(after) > 0 && after[0] != '#' && after[0] != ';' {
		return `has text after "]"; the text is ignored`
	}
	return ""
}

// unquoteName reads the name in a header as botocore does, by the rules of a
// POSIX shell. Where botocore gives up (an open quote, two words) the name is
// taken as it stands, as the Go SDK does.
func unquoteName(s string) string {
	if !strings.ContainsAny(s, `"'\`) {
		return s
	}
	var b strings.Builder
	var quote rune
	escaped := false
	for _, r := range s {
		switch {
		case escaped:
			// within double quotes a backslash stands for itself but before these two
			if quote == '"' && r != '"' && r != '\\' {
				b.WriteByte('\\')
			}
			b.WriteRune(r)
			escaped = false
		case r == '\\' && quote != '\'':
			escaped = true
		case quote != 0 && r == quote:
			quote = 0
		case quote == 0 && (r == '"' || r == '\''):
			quote = r
		case quote == 0 && unicode.IsSpace(r):
			return s
		default:
			b.WriteRune(r)
		}
	}
	if quote != 0 || escaped {
		return s
	}
	return b.String()
}

// quoteName is the inverse of unquoteName.
func quoteName(s string) string {
	if s != "" && !strings.ContainsAny(s, " \t\"'\\#;") && unquoteName(s) == s && strings.TrimSpace(s) == s {
		return s
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// maxName bounds the names of profiles, sources and aliases.
const maxName = 256

// checkName says whether a profile, source or alias may be called so: 1 to 256
// bytes, printable, no "]". The error is a fault.Usage and short, however long
// the name is.
func checkName(name string) error {
	switch {
	case name == "":
		return fault.New(fault.Usage, "a profile's name cannot be empty")
	case len(name) > maxName:
		return fault.New(fault.Usage, "a profile's name has at most %d bytes, this one has %d", maxName, len(name))
	case !utf8.ValidString(name):
		return fault.New(fault.Usage, "a profile's name must be valid UTF-8")
	}
	for _, r := range name {
		if r == ']' || !unicode.IsPrint(r) {
			return fault.New(fault.Usage, "a profile's name cannot contain %q", r)
		}
	}
	return nil
}

// entriesOf returns the entries of all sections of that name, in file order.
// [default] counts only where there is no [profile default].
func (d *document) entriesOf(kind, name string) []*entry {
	var all []*entry
	for _, s := range d.sectionsOf(kind, name) {
		for i := range s.entries {
			all = append(all, &s.entries[i])
		}
	}
	return all
}

// sectionsOf returns the sections of that name that count, in file order.
func (d *document) sectionsOf(kind, name string) []*section {
	var plain, prefixed []*section
	for i := range d.sections {
		if s := &d.sections[i]; s.kind == kind && s.name == name {
			if s.prefixed {
				prefixed = append(prefixed, s)
			} else {
				plain = append(plain, s)
			}
		}
	}
	if len(prefixed) > 0 {
		return prefixed
	}
	return plain
}
