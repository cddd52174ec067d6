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

// SetSection returns src with these keys set in a section. The section is made
// at the end if there is none, an existing key keeps its place, its spelling
// and the comment behind it, a new one stands after the last. Every other byte
// stays: comments, order, line ends, byte order mark, other keys. Doing it twice
// is doing it once. Keys are compared without regard to case, but those of
// SectionAlias, which are names.
//
// The kind is one of the Section constants; SectionSettings and SectionAlias
// have no name. It returns bytes and writes nothing. Errors: fault.Usage for a
// key, name or value that could not be read back as given (control characters,
// line ends, comment signs); fault.Config, with the line, if src is not text.
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

// RemoveSection returns src without the section and the comments within it. A
// comment after its last key stays: it may belong to what follows. Errors are
// those of SetSection.
func RemoveSection(src []byte, kind, name string) ([]byte, error) {
	return cutSections(src, kind, name, func(s *section) []cut {
		return []cut{cutOf(src, s)}
	})
}

// cutOf takes out a section with the blank lines that set it off from the next one.
func cutOf(src []byte, s *section) cut {
	c := cut{from: s.start, to: s.bodyEnd}
	c.to += blankPrefix(src[c.to:])
	if c.to == len(src) {
		c.from -= blankSuffix(src[:c.from])
	}
	return c
}

// RemoveKeys returns src without these keys of a section, wherever they are
// in it, with the lines that continue their values. Errors are those of SetSection.
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

// cutSections returns src without what cuts names of each section of this kind and name.
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

// sameKey reports whether two keys of a section mean the same: AWS takes keys
// without regard to case, but an alias is a name, and names are taken as written.
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

// setKey sets a key where it counts: its last entry in the last section.
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

// setValue replaces a value: its text on the first line, and the lines that
// continue it.
func setValue(src []byte, e entry, value string) []byte {
	if string(e.value) == value && !e.multiline {
		return src
	}
	with := []byte(value)
	if e.valueAt == e.valTo && e.valueAt-2 >= e.start && src[e.valueAt-2] == ' ' && src[e.valueAt-1] != ' ' {
		with = append([]byte(" "), with...) // "key =" has nothing behind it
	}
	cuts := []cut{{e.valueAt, e.valTo, with}}
	if e.valueAt == e.valTo && e.valTo < len(src) && (src[e.valTo] == '#' || src[e.valTo] == ';') {
		cuts[0].with = append(with, ' ') // before the comment
	}
	if e.multiline {
		first := e.start + len(firstLine(src[e.start:]))
		cuts = append(cuts, cut{from: first, to: e.end})
	}
	return apply(src, cuts)
}

// appendSection writes a new section at the end.
func appendSection(src []byte, kind, name string, kv KeyValue) []byte {
	b := bytes.NewBuffer(slices.Clip(src))
	appendLines(b, header(kind, name), []string{kv.Key + " = " + kv.Value})
	return b.Bytes()
}

// appendLines writes a section behind what is there, set off by a blank line.
// It returns how many bytes were written before the header.
func appendLines(b *bytes.Buffer, header string, lines []string) (lead int) {
	src := b.Bytes()
	nl, from := eol(src), len(src)
	body := bytes.TrimPrefix(src, byteOrderMark)
	switch end := eolOf(body); {
	case len(body) > 0 && len(end) == 0:
		b.Write(nl)
	case bytes.HasSuffix(end, []byte("\r")):
		nl = []byte("\r") // a line feed would become a part of this end
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

// isBlank reports whether there is nothing but white space; it looks no further than needed.
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

// eol is the line end that the file uses.
func eol(src []byte) []byte {
	if end := eolOf(firstLine(src)); len(end) > 0 {
		return bytes.Clone(end)
	}
	return []byte("\n")
}

// indentOf is the white space before the last key of a section. A new key must
// not be indented more, or it would continue the one above; nor less than a header behind it, which would continue it.
func indentOf(src []byte, s *section) []byte {
	own := leading(bytes.TrimPrefix(src[s.start:s.end], byteOrderMark))
	if k := len(s.entries); k > 0 {
		own = leading(src[s.entries[k-1].start:s.entries[k-1].end])
	}
	for line := range linesOf(src[s.bodyEnd:]) {
		if text := bytes.TrimFunc(line, isSpace); len(text) == 0 || text[0] == '#' || text[0] == ';' {
			continue
		}
		if next := leading(line); utf8.RuneCount(next) > utf8.RuneCount(own) {
			own = next
		}
		break
	}
	return bytes.Clone(own)
}

// blankPrefix is the length of the blank lines at the start.
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

// blankSuffix is the length of the last line, if it is blank and ends.
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
		return bad("a key has no spaces around it and none of =:#;[]")
	case v == "" || strings.TrimSpace(v) != v:
		return bad("its value is empty or has spaces around it")
	case strings.ContainsFunc(v, unprintable):
		return bad("its value has characters that cannot be printed")
	case v[0] == '#' || v[0] == ';' || strings.Contains(v, " #") || strings.Contains(v, " ;"):
		return bad("its value would be read as a comment")
	}
	return nil
}
