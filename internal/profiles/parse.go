package profiles

import (
	"bytes"
	"iter"
	"strings"
	"unicode"
	"unicode/utf8"

	"broker/internal/fault"
)

// The kinds of sections. In ~/.aws/config and in the registry the kind is the first word of a header. Every
// section of ~/.aws/credentials has the kind SectionCredentials, and its header is only the name.
// https://docs.aws.amazon.com/cli/latest/userguide/cli-configure-files.html
const (
	SectionProfile     = "profile" // [profile NAME], and [default] for the name "default"
	SectionServices    = "services"
	SectionSSO         = "sso-session"
	SectionCredentials = "credentials"
	SectionSource      = "source"    // registry only
	SectionSettings    = "settings"  // registry only; has no name
	SectionAlias       = "alias"     // registry only; has no name
	SectionTrust       = "trust"     // registry only; see Trust
	SectionDirectory   = "directory" // registry only; its name is a path; see Directory
	sectionInherited   = "DEFAULT"   // AWS files only: botocore adds its keys to each section that lacks them
)

// A document is a scanned file. Its keys and values are slices of the source, so that scanning a file with secrets
// makes no copies of them.
type document struct {
	sections []section
	problems []problem
	refused  *problem // why botocore refuses the whole file, and where; nil if it accepts it
}

// A section has an empty kind if its header cannot be read. Its entries then belong to no profile, instead of to
// the section above.
type section struct {
	kind, name string
	header     string // the text between the brackets; botocore merges sections with the same header
	// loose means that botocore does not read the header as a profile. kind and name are then what other tools
	// read.
	loose      bool
	line       int
	start, end int // offsets of the header line
	bodyEnd    int // offset after its last line that is neither blank nor a comment
	indent     int
	commented  bool // there is text after the header
	published  bool // it is between the marks of `broker publish`
	entries    []entry
}

// An entry is a key with its value and all lines that belong to it.
type entry struct {
	key, value     []byte
	line           int
	indent         int
	start, end     int  // offsets of its lines
	valueAt, valTo int  // offsets of the value within its first line
	commented      bool // there is a comment after the value, which botocore reads as part of the value
	multiline      bool
	brackets       bool // one of its continuation lines looks like a header
	nested         []entry
}

// A problem never quotes the line, since the line could be a secret.
type problem struct {
	line int
	text string
}

// maxProblems limits what is remembered of a file that is not an AWS file at all.
const maxProblems = 100

func (d *document) report(line int, text string) {
	if len(d.problems) < maxProblems {
		d.problems = append(d.problems, problem{line, text})
	}
}

// maxFile is the largest file that is read, in bytes.
const maxFile = 50 << 20

var byteOrderMark = []byte("\xef\xbb\xbf")

// refuse records why botocore refuses the file. Only the first reason counts, since botocore reports that one.
func (d *document) refuse(line int, text string) {
	if d.refused == nil {
		d.refused = &problem{line, text}
	}
}

// scan reads AWS's INI dialect. It reads a file that botocore accepts as botocore does (configparser for lines,
// shlex for names, one level of nesting), except that it strips a comment after a value, as the other SDKs do. In
// a file that botocore refuses it reads what it can, as the Go SDK does: it skips lines that it cannot read and
// merges duplicates. A document that is not text is an error.
func scan(src []byte, credentials bool) (*document, *problem) {
	return scanAs(src, credentials, botocore)
}

// scanAs is scan with the header rules of another dialect. Only botocore refuses files.
func scanAs(src []byte, credentials bool, as dialect) (*document, *problem) {
	if p := notText(src); p != nil {
		return nil, p
	}
	d := &document{}
	var sec *section             // the last of d.sections
	var cur *entry               // the last of sec.entries, while lines may still continue it
	seen := map[[2]string]bool{} // headers, and keys in their sections
	published, blanks := false, 0
	pos := 0
	if bytes.HasPrefix(src, byteOrderMark) && as != golang { // the Go SDK loses the first line
		pos = len(byteOrderMark)
		d.refuse(1, "begins with a byte order mark")
	}
	for line := 1; pos < len(src); line++ {
		start, end := pos, pos+len(firstLine(src[pos:]))
		pos = end
		text := bytes.TrimFunc(src[start:end], isSpace)
		if len(text) == 0 || isComment(text) {
			if mark := publishMark(text); credentials && mark != "" {
				published = mark == markBegin
			}
			if len(text) == 0 {
				blanks++
			}
			continue
		}
		at := start + bytes.Index(src[start:end], text)
		indent := utf8.RuneCount(src[start:at])
		if cur != nil && indent > cur.indent && (as == botocore || text[0] != '[') {
			sec.bodyEnd = end
			cur.brackets = cur.brackets || text[0] == '['
			d.more(cur, src, at, at+len(text), line, blanks)
			cur.end, blanks = end, 0
			continue
		}
		cur, blanks = nil, 0
		e, ok := splitEntry(src, at, at+len(text), true)
		if text[0] == '[' && as != botocore {
			d.sections = append(d.sections, section{line: line, start: start, end: end, bodyEnd: end})
			sec = &d.sections[len(d.sections)-1]
			as.readHeader(sec, text, credentials)
			continue
		}
		if text[0] == '[' && (bytes.LastIndexByte(text, ']') > 1 || !ok) {
			s := section{line: line, start: start, end: end, bodyEnd: end, indent: indent, published: published}
			if why := s.readHeader(text, credentials); why != "" {
				d.report(line, why)
			}
			switch {
			case s.header == "":
				d.refuse(line, `begins with "[" but is not a section`)
			case seen[[2]string{s.header}] && s.header != sectionInherited:
				d.refuse(line, "begins a section a second time")
			}
			seen[[2]string{s.header}] = true
			d.sections = append(d.sections, s)
			sec = &d.sections[len(d.sections)-1]
			continue
		}
		if sec == nil {
			d.report(line, "is before the first section")
			d.refuse(line, "is before the first section")
			continue
		}
		sec.bodyEnd = end
		if !ok {
			d.report(line, noKeyValue)
			d.refuse(line, noKeyValue)
			continue
		}
		id := [2]string{sec.header, strings.ToLower(string(e.key))}
		if seen[id] {
			d.refuse(line, "sets a key a second time")
		}
		seen[id] = true
		e.line, e.indent, e.start, e.end = line, indent, start, end
		sec.entries = append(sec.entries, e)
		cur = &sec.entries[len(sec.entries)-1]
	}
	return d, nil
}

const noKeyValue = `is not "key = value"`

// more adds src[from:to], a trimmed line that continues an entry. The line goes to the nested block of a key
// without a value, or else to the value, with the blank lines in between.
func (d *document) more(cur *entry, src []byte, from, to, line, blanks int) {
	if len(cur.value) > 0 || cur.commented {
		if !cur.multiline {
			cur.value = bytes.Clone(cur.value) // the source must not change
		}
		for range blanks + 1 {
			cur.value = append(cur.value, '\n')
		}
		cur.value, cur.multiline = append(cur.value, src[from:to]...), true
		return
	}
	cur.multiline = true
	for next := from; next < to; { // each line as Python splits lines
		from = next
		end := to
		if i := bytes.IndexFunc(src[from:to], splitsLines); i >= 0 {
			end = from + i
		}
		next = end
		if end < to {
			_, size := utf8.DecodeRune(src[end:])
			next += size
		}
		text := bytes.TrimFunc(src[from:end], isSpace)
		if len(text) == 0 {
			continue
		}
		if i := bytes.IndexByte(text, '='); i >= 0 {
			value := bytes.TrimFunc(text[i+1:], isSpace)
			cur.nested = append(cur.nested, entry{key: bytes.TrimFunc(text[:i], isSpace), value: value, line: line})
			continue
		}
		d.refuse(line, noKeyValue)
		at := from + bytes.Index(src[from:to], text)
		if e, ok := splitEntry(src, at, at+len(text), false); ok {
			e.line = line
			cur.nested = append(cur.nested, e)
		} else {
			d.report(line, noKeyValue)
		}
	}
}

// isComment reports whether text, which has no blanks around it, is a comment. text is a line or the end of a
// line.
func isComment(text []byte) bool { return len(text) > 0 && (text[0] == '#' || text[0] == ';') }

// isSpace reports whether Python treats r as white space. Those are four control characters more than in Go.
func isSpace(r rune) bool { return unicode.IsSpace(r) || r >= 0x1c && r <= 0x1f }

func trimSpace(s string) string { return strings.TrimFunc(s, isSpace) }

// splitsLines reports whether Python's splitlines ends a line at r.
func splitsLines(r rune) bool {
	return r >= '\n' && r <= '\r' || r >= 0x1c && r <= 0x1e || r == 0x85 || r == 0x2028 || r == 0x2029
}

// linesOf returns the lines of a file, each with its line end.
func linesOf(b []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for len(b) > 0 {
			line := firstLine(b)
			if b = b[len(line):]; !yield(line) {
				return
			}
		}
	}
}

// firstLine returns the first line with its line end: LF, CRLF, or CR alone, as in Python.
func firstLine(b []byte) []byte {
	end := len(b)
	if i := bytes.IndexByte(b, '\n'); i >= 0 {
		end = i + 1
	}
	if i := bytes.IndexByte(b[:end], '\r'); i >= 0 && i+1 < end && b[i+1] != '\n' {
		return b[:i+1]
	}
	return b[:end]
}

// scanFile scans a file. The error is a fault.Config that names the file.
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
		return &problem{1 + bytes.Count(src[:i], []byte("\n")), "contains a NUL byte"}
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

// splitEntry reads src[from:to], a trimmed line, as a key and a value. Both "=" and ":" separate them, as in
// configparser and in the Go SDK.
func splitEntry(src []byte, from, to int, comments bool) (entry, bool) {
	text := src[from:to]
	i := bytes.IndexAny(text, "=:")
	if i < 0 {
		return entry{}, false
	}
	key := bytes.TrimFunc(text[:i], isSpace)
	if len(key) == 0 {
		return entry{}, false
	}
	at := to - len(bytes.TrimLeftFunc(text[i+1:], isSpace))
	commented := false
	for j := at; comments && j < to; j++ {
		if (src[j] == '#' || src[j] == ';') && (src[j-1] == ' ' || src[j-1] == '\t') {
			to, commented = j, true
		}
	}
	value := bytes.TrimFunc(src[at:to], isSpace)
	return entry{key: key, value: value, valueAt: at, valTo: at + len(value), commented: commented}, true
}

// readHeader reads "[...]" and returns what is wrong with it. It ignores text after the last "]" of the line.
func (s *section) readHeader(text []byte, credentials bool) string {
	end := bytes.LastIndexByte(text, ']')
	if end < 2 {
		return `starts a section without "]"; the section is ignored`
	}
	s.header = string(text[1:end])
	header := trimSpace(s.header)
	words, split := shellWords(s.header)
	kind, rest := header, ""
	if i := strings.IndexFunc(header, isSpace); i >= 0 {
		kind, rest = header[:i], trimSpace(header[i:])
	}
	switch {
	case s.header == sectionInherited:
		s.kind = sectionInherited
		return ""
	case credentials:
		s.kind, s.name, s.loose = SectionCredentials, header, header != s.header
	case header == "default":
		s.kind, s.name, s.loose = SectionProfile, header, header != s.header
	default:
		s.kind, s.name = kind, rest
		for _, aws := range []string{SectionProfile, SectionServices, SectionSSO} {
			if strings.HasPrefix(s.header, aws) && split && len(words) == 2 { // also matches "profiles x"
				s.kind = aws
			}
			s.loose = s.loose || s.kind == aws && (!strings.HasPrefix(s.header, aws) || !split || len(words) != 2)
		}
		if split && len(words) == 2 {
			s.name = words[1]
		}
	}
	named := s.kind == SectionProfile || s.kind == SectionCredentials || s.kind == SectionSource || s.kind == SectionTrust
	check := checkName
	if s.kind == SectionDirectory {
		named, check = true, checkDirectory
	}
	if s.kind == "" || (named || s.name != "") && check(s.name) != nil {
		s.kind, s.name = "", ""
		return "has a section name that is not allowed; the section is ignored"
	}
	after := bytes.TrimFunc(text[end+1:], isSpace)
	s.commented = len(after) > 0
	if len(after) > 0 && !isComment(after) {
		return `has text after "]"; the text is ignored`
	}
	return ""
}

// shellWords splits a header as botocore does, by the rules of a POSIX shell (Python's shlex). ok is false if a
// quote is not closed.
func shellWords(s string) (words []string, ok bool) {
	var b strings.Builder
	var quote rune
	word, escaped := false, false
	for _, r := range s {
		switch {
		case escaped:
			// Within double quotes a backslash is literal unless it precedes one of these two.
			if quote == '"' && r != '"' && r != '\\' {
				b.WriteByte('\\')
			}
			b.WriteRune(r)
			escaped = false
		case r == '\\' && quote != '\'':
			escaped, word = true, true
		case quote != 0 && r == quote:
			quote = 0
		case quote == 0 && (r == '"' || r == '\''):
			quote, word = r, true
		case quote == 0 && strings.ContainsRune(" \t\r\n", r):
			if word {
				words = append(words, b.String())
			}
			b.Reset()
			word = false
		default:
			b.WriteRune(r)
			word = true
		}
	}
	if word {
		words = append(words, b.String())
	}
	return words, quote == 0 && !escaped
}

// quoteName writes a name so that shellWords and other readers read it as one word.
func quoteName(s string) string {
	if s != "" && !strings.ContainsAny(s, "\"'\\#;[]") && strings.IndexFunc(s, isSpace) < 0 {
		return s
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// maxName is the longest name of a profile, source or alias, in bytes.
const maxName = 256

// checkName checks the name of a profile, source or alias: 1 to 256 bytes, printable. The error is a fault.Usage
// and is short, however long the name is.
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
		if !unicode.IsPrint(r) {
			return fault.New(fault.Usage, "a profile's name cannot contain %q", r)
		}
	}
	return nil
}

// entriesOf returns the entries of all effective sections of that name, in file order.
func (d *document) entriesOf(kind, name string) []*entry {
	var all []*entry
	for _, s := range d.sectionsOf(kind, name) {
		for i := range s.entries {
			all = append(all, &s.entries[i])
		}
	}
	return all
}

// sectionsOf returns the effective sections of that name, in file order. Those are the sections with the same
// header as the last one, since botocore keeps only the last of [default] and [profile default], or of [profile x]
// and [profile "x"]. A section that botocore does not read as a profile is effective only if there is no other.
func (d *document) sectionsOf(kind, name string) []*section {
	var all []*section
	for i := range d.sections {
		s := &d.sections[i]
		switch {
		case s.kind != kind || s.name != name || len(all) > 0 && s.loose && !all[0].loose:
			continue
		case len(all) > 0 && s.header != all[0].header:
			all = nil
		}
		all = append(all, s)
	}
	return all
}
