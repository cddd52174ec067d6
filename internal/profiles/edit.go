package profiles

import (
	"bytes"
	"cmp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"broker/internal/fault"
)

// KeyValue is one setting to write.
type KeyValue struct{ Key, Value string }

// SetSection returns src with these keys set in a section. A missing section is added at the end. An existing key
// keeps its place, its spelling and the comment after it; a new key goes after the last one. Every other byte
// stays: comments, order, line ends, byte order mark, other keys. SetSection is idempotent. It compares keys
// without regard to case, except those of SectionAlias, which are names.
//
// The kind is one of the Section constants; SectionSettings and SectionAlias have no name. SetSection returns
// bytes and writes nothing. Errors: fault.Usage for a key, name or value that would not be read back as given
// (control characters, line ends, comment signs); fault.Config, with the line, if src is not text.
func SetSection(src []byte, kind, name string, keys []KeyValue) ([]byte, error) {
	if err := checkSection(kind, name); err != nil {
		return nil, err
	}
	for _, kv := range keys {
		if err := checkKeyValue(kv); err != nil {
			return nil, err
		}
	}
	for _, kv := range keys {
		d, err := scanForEdit(src, kind)
		if err != nil {
			return nil, err
		}
		secs := d.sectionsOf(kind, name)
		if len(secs) == 0 {
			src = appendSection(src, kind, name, kv)
			continue
		}
		src = setKey(src, secs, kv)
	}
	return src, nil
}

// RemoveSection returns src without the section and the comments inside it. A comment after its last key stays,
// since it may belong to the next section. The errors are those of SetSection.
func RemoveSection(src []byte, kind, name string) ([]byte, error) {
	return cutSections(src, kind, name, func(s *section) []cut {
		return []cut{cutOf(src, s)}
	})
}

// cutOf returns the cut that removes a section and the blank lines that separate it from the next one.
func cutOf(src []byte, s *section) cut {
	c := cut{from: s.start, to: s.bodyEnd}
	c.to += blankPrefix(src[c.to:])
	if c.to == len(src) {
		c.from -= blankSuffix(src[:c.from])
	}
	return c
}

// RemoveKeys returns src without these keys of a section. It removes every occurrence, with the lines that
// continue the value. The errors are those of SetSection.
func RemoveKeys(src []byte, kind, name string, keys ...string) ([]byte, error) {
	return cutSections(src, kind, name, func(s *section) (cuts []cut) {
		for _, e := range s.entries {
			if slices.ContainsFunc(keys, func(k string) bool { return sameKey(kind, k, string(e.key)) }) {
				cuts = append(cuts, cut{from: e.start, to: e.end})
			}
		}
		return cuts
	})
}

// cutSections returns src without the parts that cuts selects in each section of this kind and name.
func cutSections(src []byte, kind, name string, cuts func(*section) []cut) ([]byte, error) {
	if err := checkSection(kind, name); err != nil {
		return nil, err
	}
	d, err := scanForEdit(src, kind)
	if err != nil {
		return nil, err
	}
	var all []cut
	for i := range d.sections {
		if s := &d.sections[i]; s.kind == kind && s.name == name {
			all = append(all, cuts(s)...)
		}
	}
	return apply(src, all), nil
}

// sameKey reports whether two keys of a section are the same. AWS ignores the case of keys, but an alias is a
// name, and names are case-sensitive.
func sameKey(kind, a, b string) bool {
	return a == b || kind != SectionAlias && strings.EqualFold(a, b)
}

// A cut replaces src[from:to].
type cut struct {
	from, to int
	with     []byte
}

func apply(src []byte, cuts []cut) []byte {
	slices.SortFunc(cuts, func(a, b cut) int { return cmp.Compare(a.from, b.from) })
	var out []byte
	at := 0
	for _, c := range cuts {
		out = append(append(out, src[at:max(at, c.from)]...), c.with...)
		at = max(at, c.to)
	}
	return append(out, src[at:]...)
}

func scanForEdit(src []byte, kind string) (*document, error) {
	d, bad := scan(src, kind == SectionCredentials)
	if bad != nil {
		return nil, fault.New(fault.Config, "line %d %s", bad.line, bad.text)
	}
	return d, nil
}

// setKey sets a key at its effective place: the last entry of the last section that has the key.
func setKey(src []byte, secs []*section, kv KeyValue) []byte {
	for _, s := range slices.Backward(secs) {
		for _, e := range slices.Backward(s.entries) {
			if sameKey(s.kind, string(e.key), kv.Key) {
				return setValue(src, e, kv.Value)
			}
		}
	}
	last := secs[len(secs)-1]
	at := last.bodyEnd
	line := slices.Concat(indentOf(src, last), []byte(kv.Key+" = "+kv.Value), eol(src))
	if at > 0 && src[at-1] != '\n' {
		line = append(eol(src), line...)
	}
	return apply(src, []cut{{at, at, line}})
}

// setValue replaces a value: the text on the first line, and the continuation lines.
func setValue(src []byte, e entry, value string) []byte {
	if string(e.value) == value && !e.multiline {
		return src
	}
	with := []byte(value)
	if e.valueAt == e.valTo && e.valueAt-2 >= e.start && src[e.valueAt-2] == ' ' && src[e.valueAt-1] != ' ' {
		with = append([]byte(" "), with...) // "key =" has no space after it
	}
	cuts := []cut{{e.valueAt, e.valTo, with}}
	if e.valueAt == e.valTo && isComment(src[e.valTo:]) {
		cuts[0].with = append(with, ' ') // before the comment
	}
	if e.multiline {
		first := e.start + len(firstLine(src[e.start:]))
		cuts = append(cuts, cut{from: first, to: e.end})
	}
	return apply(src, cuts)
}

// appendSection adds a new section at the end.
func appendSection(src []byte, kind, name string, kv KeyValue) []byte {
	b := bytes.NewBuffer(slices.Clip(src))
	appendLines(b, header(kind, name), []string{kv.Key + " = " + kv.Value})
	return b.Bytes()
}

// appendLines adds a section at the end, after a blank line. It returns the number of bytes written before the
// header.
func appendLines(b *bytes.Buffer, header string, lines []string) (lead int) {
	src := b.Bytes()
	nl, from := eol(src), len(src)
	body := bytes.TrimPrefix(src, byteOrderMark)
	switch end := eolOf(body); {
	case len(body) > 0 && len(end) == 0:
		b.Write(nl)
	case bytes.HasSuffix(end, []byte("\r")):
		nl = []byte("\r") // a line feed would become part of this line end
	}
	if !isBlank(body) && blankSuffix(body) == 0 {
		b.Write(nl)
	}
	lead = b.Len() - from
	for _, line := range append([]string{header}, lines...) {
		b.WriteString(line)
		b.Write(nl)
	}
	return lead
}

// isBlank reports whether b holds only white space. It stops at the first other character.
func isBlank(b []byte) bool {
	return bytes.IndexFunc(b, func(r rune) bool { return !unicode.IsSpace(r) }) < 0
}

func header(kind, name string) string {
	switch {
	case kind == SectionCredentials, kind == SectionProfile && name == "default":
		return "[" + name + "]"
	case name == "":
		return "[" + kind + "]"
	}
	return "[" + kind + " " + quoteName(name) + "]"
}

// eol returns the line end that the file uses.
func eol(src []byte) []byte {
	if end := eolOf(firstLine(src)); len(end) > 0 {
		return bytes.Clone(end)
	}
	return []byte("\n")
}

// indentOf returns the white space before the last key of a section. A new key must not be indented more, since it
// would then continue the value above. Nor may it be indented less than a header that follows, since that header
// would then continue the new key's value.
func indentOf(src []byte, s *section) []byte {
	own := leading(bytes.TrimPrefix(src[s.start:s.end], byteOrderMark))
	if k := len(s.entries); k > 0 {
		own = leading(src[s.entries[k-1].start:s.entries[k-1].end])
	}
	for line := range linesOf(src[s.bodyEnd:]) {
		if text := bytes.TrimFunc(line, isSpace); len(text) == 0 || isComment(text) {
			continue
		}
		if next := leading(line); utf8.RuneCount(next) > utf8.RuneCount(own) {
			own = next
		}
		break
	}
	return bytes.Clone(own)
}

// blankPrefix returns the length of the blank lines at the start of b.
func blankPrefix(b []byte) int {
	n := 0
	for line := range linesOf(b) {
		if len(bytes.TrimSpace(line)) > 0 {
			break
		}
		n += len(line)
	}
	return n
}

// blankSuffix returns the length of the last line if it is blank and has a line end.
func blankSuffix(b []byte) int {
	if len(b) == 0 || b[len(b)-1] != '\n' {
		return 0
	}
	from := bytes.LastIndexByte(b[:len(b)-1], '\n') + 1
	if len(bytes.TrimSpace(b[from:])) > 0 || bytes.HasPrefix(b[from:], byteOrderMark) {
		return 0
	}
	return len(b) - from
}

func checkSection(kind, name string) error {
	switch kind {
	case SectionSettings, SectionAlias:
		if name != "" {
			return fault.New(fault.Usage, "a section [%s] has no name", kind)
		}
		return nil
	case SectionProfile, SectionSource, SectionServices, SectionSSO, SectionTrust:
		if err := checkName(name); err != nil {
			return err
		}
	case SectionDirectory:
		return checkDirectory(name)
	case SectionCredentials:
		if err := checkName(name); err != nil {
			return err
		}
		if strings.TrimSpace(name) != name {
			return fault.New(fault.Usage, "a name in the credentials file cannot start or end with a space")
		}
	default:
		return fault.New(fault.Usage, "there are no sections of kind %q", kind)
	}
	return nil
}

func checkKeyValue(kv KeyValue) error {
	k, v := kv.Key, kv.Value
	bad := func(what string) error {
		return fault.New(fault.Usage, "the key %.40q cannot be written: %s", k, what)
	}
	unprintable := func(r rune) bool { return !unicode.IsPrint(r) || r == utf8.RuneError }
	switch {
	case k == "" || strings.TrimSpace(k) != k || strings.ContainsAny(k, "=:#;[]") || strings.ContainsFunc(k, unprintable):
		return bad("a key must not contain =:#;[] or have spaces around it")
	case v == "" || strings.TrimSpace(v) != v:
		return bad("the value is empty or has spaces around it")
	case strings.ContainsFunc(v, unprintable):
		return bad("the value has characters that cannot be printed")
	case v[0] == '#' || v[0] == ';' || strings.Contains(v, " #") || strings.Contains(v, " ;"):
		return bad("the value would be read as a comment")
	}
	return nil
}
