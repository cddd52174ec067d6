package profiles

import (
	"bytes"
	"iter"
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
	sectionInherited   = "DEFAULT"  // AWS files only: botocore gives its keys to each other section that lacks them
)

// A document is a scanned file. Its keys and values are slices of the source,
// so that reading a file with secrets in it makes no copies of them.
type document struct {
	sections []section
	problems []problem
	refused  *problem // why botocore takes none of the file, and where; nil if it takes it
}

// A section has an empty kind if its header cannot be read: its entries belong
// to nobody, rather than to the section above.
type section struct {
	kind, name string
	header     string // what stands between the brackets: sections with one header are one
	// loose says that botocore takes the header for no profile. Kind and name are those that other tools read.
	loose      bool
	line       int
	start, end int // offsets of the header line
	bodyEnd    int // offset behind its last line that is neither blank nor a comment
	indent     int
	commented  bool // something stands behind the header
	published  bool // it stands between the marks of `broker publish`
	entries    []entry
}

// An entry is a key with its value and all the lines that belong to it.
type entry struct {
	key, value     []byte
	line           int
	indent         int
	start, end     int  // offsets of its lines
	valueAt, valTo int  // offsets of the value within its first line
	commented      bool // a comment stands behind the value, which for botocore is a part of it
	multiline      bool
	brackets       bool // a line that continues it looks like a header
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

// refuse notes why botocore takes none of the file; the first reason is the one that it names.
func (d *document) refuse(line int, text string) {
	if d.refused == nil {
		d.refused = &problem{line, text}
	}
}

// scan reads AWS's INI dialect. A file that botocore takes is read as botocore reads it (configparser for lines, shlex
// for names, one level of nesting), but for a comment behind a value, which is left out as in the other SDKs. Of a file
// that botocore refuses the rest is read, as in the Go SDK: a line that cannot be read is skipped, duplicates are
// merged. A document that is not text is an error.
func scan(src []byte, credentials bool) (*document, *problem) {
	return scanAs(src, credentials, botocore)
}

// scanAs is scan for a dialect: how others read headers. Only botocore refuses files.
func scanAs(src []byte, credentials bool, as dialect) (*document, *problem) {
	if p := notText(src); p != nil {
		return nil, p
	}
	d := &document{}
	var sec *section             // the last of d.sections
	var cur *entry               // the last of sec.entries, while lines may still continue it
	seen := map[[2]string]bool{} // headers, and keys below them
	published, blanks := false, 0
	pos := 0
	if bytes.HasPrefix(src, byteOrderMark) && as != golang { // which loses the first line
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
				d.refuse(line, `begins with "[" and is not a section`)
			case seen[[2]string{s.header}] && s.header != sectionInherited:
				d.refuse(line, "begins a section a second time")
			}
			seen[[2]string{s.header}] = true
			d.sections = append(d.sections, s)
			sec = &d.sections[len(d.sections)-1]
			continue
		}
		if sec == nil {
			d.report(line, "stands before the first section")
			d.refuse(line, "stands before the first section")
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

// more adds src[from:to], a trimmed line that continues an entry: to the block of keys below one without a value, or
// to a value, with the blank lines between.
func (d *document) more(cur *entry, src []byte, from, to, line, blanks int) {
	if len(cur.value) > 0 || cur.commented {
		if !cur.multiline {
			cur.value = bytes.Clone(cur.value) // the source stays as it is
		}
		for range blanks + 1 {
			cur.value = append(cur.value, '\n')
		}
		cur.value, cur.multiline = append(cur.value, src[from:to]...), true
		return
	}
	cur.multiline = true
	for next := from; next < to; { // what Python takes for lines
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

// isComment reports whether a line without blanks around it, or the end of one, is a comment.
func isComment(text []byte) bool { return len(text) > 0 && (text[0] == '#' || text[0] == ';') }

// isSpace reports what Python takes for white space, which is four controls more than in Go.
func isSpace(r rune) bool { return unicode.IsSpace(r) || r >= 0x1c && r <= 0x1f }

func trimSpace(s string) string { return strings.TrimFunc(s, isSpace) }

// splitsLines reports what Python's splitlines takes for an end of a line.
func splitsLines(r rune) bool {
	return r >= '\n' && r <= '\r' || r >= 0x1c && r <= 0x1e || r == 0x85 || r == 0x2028 || r == 0x2029
}

// linesOf are the lines of a file, each with its end.
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

// firstLine is the first line with its end: LF, CRLF, or CR alone, as Python has it.
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

// readHeader reads "[...]" and says what is wrong with it. What is behind the last "]" of the line counts for nothing.
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
			if strings.HasPrefix(s.header, aws) && split && len(words) == 2 { // "profiles x" too
				s.kind = aws
			}
			s.loose = s.loose || s.kind == aws && (!strings.HasPrefix(s.header, aws) || !split || len(words) != 2)
		}
		if split && len(words) == 2 {
			s.name = words[1]
		}
	}
	named := s.kind == SectionProfile || s.kind == SectionCredentials || s.kind == SectionSource || s.kind == SectionTrust
	if s.kind == "" || (named || s.name != "") && checkName(s.name) != nil {
		s.kind, s.name = "", ""
		return "names a section that nothing can be called; the section is ignored"
	}
	after := bytes.TrimFunc(text[end+1:], isSpace)
	s.commented = len(after) > 0
	if len(after) > 0 && !isComment(after) {
		return `has text after "]"; the text is ignored`
	}
	return ""
}

// shellWords splits a header as botocore does, by the rules of a POSIX shell (Python's shlex). It is not ok where a
// quote stays open.
func shellWords(s string) (words []string, ok bool) {
	var b strings.Builder
	var quote rune
	word, escaped := false, false
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

// quoteName writes a name so that shellWords and other readers take it for one word.
func quoteName(s string) string {
	if s != "" && !strings.ContainsAny(s, "\"'\\#;[]") && strings.IndexFunc(s, isSpace) < 0 {
		return s
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// maxName bounds the names of profiles, sources and aliases.
const maxName = 256

// checkName says whether a profile, source or alias may be called so: 1 to 256
// bytes, printable. The error is a fault.Usage and short, however long
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
		if !unicode.IsPrint(r) {
			return fault.New(fault.Usage, "a profile's name cannot contain %q", r)
		}
	}
	return nil
}

// entriesOf returns the entries of all sections of that name that count, in file order.
func (d *document) entriesOf(kind, name string) []*entry {
	var all []*entry
	for _, s := range d.sectionsOf(kind, name) {
		for i := range s.entries {
			all = append(all, &s.entries[i])
		}
	}
	return all
}

// sectionsOf returns the sections of that name that count, in file order: those with the header of the last one, since
// botocore keeps the last of [default] and [profile default], or of [profile x] and [profile "x"]. One that botocore
// takes for no profile counts where there is no other.
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
