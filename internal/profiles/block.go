package profiles

import (
	"bytes"
	"slices"
	"strings"

	"broker/internal/fault"
	"broker/internal/lazyregexp"
)

// A marked block is the part of a file that belongs to the broker: two comment
// lines, and the [profile …] sections between them. What stands between them is replaced
// as a whole; every byte outside stays.
//
//	# broker generate LABEL: begin (written by broker profiles generate; edits between these lines are lost)
//	[profile product_dev_paul]
//	…
//	# broker generate LABEL: end

// BlockSection is one profile within a marked block.
type BlockSection struct {
	Name string
	Keys []KeyValue
}

// marker recognises both lines. A label keeps the blocks of two account maps apart.
var marker = lazyregexp.New(`^[#;][ \t]*broker generate ([A-Za-z0-9_.@+=,-]{1,64}): (begin|end)(?:[ \t].*)?$`)

const beginNote = " (written by broker profiles generate; edits between these lines are lost)"

// blockAt is where a block stands: its lines with the markers, and its content.
type blockAt struct {
	label                string
	from, to             int
	contentFrom, content int // the content ends where the end marker begins
	line                 int
}

// Block returns what is in the marked block of this label; nil if the file has no such block. The errors are those of
// SetBlock.
func Block(src []byte, label string) ([]BlockSection, error) {
	blocks, err := blocksOf(src)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(blocks, func(b blockAt) bool { return b.label == label })
	if i < 0 {
		return nil, nil
	}
	b := blocks[i]
	d, err := scanForEdit(src[b.contentFrom:b.content], SectionProfile)
	if err != nil {
		return nil, err
	}
	var sections []BlockSection
	for _, s := range d.sections {
		section := BlockSection{Name: s.name}
		for _, e := range s.entries {
			section.Keys = append(section.Keys, KeyValue{string(e.key), string(e.value)})
		}
		sections = append(sections, section)
	}
	return sections, nil
}

// SetBlock returns src with these profiles in the marked block of this label, in
// their order. The block keeps its place; a new one is made at the end, and without any
// profile it goes. Every byte outside of it stays. Doing it twice is doing it once.
//
// It returns bytes and writes nothing. Errors: fault.Usage for a label, a name or a
// value that could not be read back as given; fault.Config, with the line, for markers that are
// not one pair for each label, for keys behind a block that belong to no section but one of the block,
// and where src is not text. What a person broke is never guessed at.
func SetBlock(src []byte, label string, sections []BlockSection) ([]byte, error) {
	if !marker.MatchString("# broker generate " + label + ": end") {
		return nil, fault.New(fault.Usage, "a block cannot be called %.80q", label)
	}
	blocks, err := blocksOf(src)
	if err != nil {
		return nil, err
	}
	nl := eol(src)
	text, err := blockText(label, sections, nl)
	if err != nil {
		return nil, err
	}
	if i := slices.IndexFunc(blocks, func(b blockAt) bool { return b.label == label }); i >= 0 {
		return apply(src, []cut{{blocks[i].from, blocks[i].to, text}}), nil
	}
	if len(text) == 0 {
		return src, nil
	}
	if body := bytes.TrimPrefix(src, byteOrderMark); len(body) > 0 {
		if body[len(body)-1] != '\n' {
			text = slices.Concat(nl, nl, text)
		} else if len(bytes.TrimSpace(body)) > 0 && blankSuffix(body) == 0 {
			text = slices.Concat(nl, text)
		}
	}
	return slices.Concat(src, text), nil
}

// WithoutBlock returns src without the marked block of this label: what the user
// wrote, and other blocks. The errors are those of SetBlock.
func WithoutBlock(src []byte, label string) ([]byte, error) { return SetBlock(src, label, nil) }

// blockText is a block with its markers; nothing without a section.
func blockText(label string, sections []BlockSection, nl []byte) ([]byte, error) {
	if len(sections) == 0 {
		return nil, nil
	}
	lines := []string{"# broker generate " + label + ": begin" + beginNote}
	for i, s := range sections {
		if err := checkSection(SectionProfile, s.Name); err != nil {
			return nil, err
		}
		if s.Name == "default" {
			return nil, fault.New(fault.Usage, "a block never has [default]")
		}
		if i > 0 {
			lines = append(lines, "")
		}
		lines = append(lines, header(SectionProfile, s.Name))
		for _, kv := range s.Keys {
			if err := checkKeyValue(kv); err != nil {
				return nil, err
			}
			lines = append(lines, kv.Key+" = "+kv.Value)
		}
	}
	lines = append(lines, "# broker generate "+label+": end", "")
	return []byte(strings.Join(lines, string(nl))), nil
}

// blocksOf finds all marked blocks.
func blocksOf(src []byte) ([]blockAt, error) {
	bad := func(line int, what string) error {
		return fault.New(fault.Config, "line %d %s; mend the lines that begin with \"# broker generate\" by hand", line, what)
	}
	if p := notText(src); p != nil {
		return nil, fault.New(fault.Config, "line %d %s", p.line, p.text)
	}
	var blocks []blockAt
	var open *blockAt
	pos, line, loose := 0, 0, false // loose: behind a block, no section has begun yet
	for pos < len(src) {
		start := pos
		pos += len(firstLine(src[pos:]))
		line++
		text := src[start:pos]
		if start == 0 {
			text = bytes.TrimPrefix(text, byteOrderMark)
			start = pos - len(text)
		}
		text = bytes.TrimSpace(text)
		m := marker.FindStringSubmatch(string(text))
		switch {
		case m == nil && (len(text) == 0 || text[0] == '#' || text[0] == ';'):
		case m == nil && text[0] == '[':
			loose = false
		case m == nil && loose:
			return nil, bad(line, "stands behind the block of the broker, and belongs to no section of its own")
		case m == nil:
		case m[2] == "begin":
			if open != nil {
				return nil, bad(line, "begins a block within another")
			}
			label := m[1]
			for _, b := range blocks {
				if b.label == label {
					return nil, bad(line, "begins the block of "+label+" a second time")
				}
			}
			open = &blockAt{label: label, from: start, contentFrom: pos, line: line}
			loose = true // the content has to begin with a section, too
		default:
			if open == nil || open.label != m[1] {
				return nil, bad(line, "ends a block that was not begun")
			}
			open.content, open.to = start, pos
			blocks = append(blocks, *open)
			open, loose = nil, true
		}
	}
	if open != nil {
		return nil, bad(open.line, "begins a block that has no end")
	}
	return blocks, nil
}

// NamedLine is a name that a file gives, and where.
type NamedLine struct {
	Name string
	Line int
	// Session says that it is a section of the credentials file with a session in it,
	// which a program wrote there and will take out again.
	Session bool
}

// Names lists what a file calls a profile, a source or an alias, in its order. It
// reads the bytes that it is given, so that a caller can leave blocks out. The error is a fault.Config with the line.
func Names(src []byte, credentials bool) ([]NamedLine, error) {
	kind := SectionProfile
	if credentials {
		kind = SectionCredentials
	}
	d, err := scanForEdit(src, kind)
	if err != nil {
		return nil, err
	}
	var names []NamedLine
	for _, s := range d.sections {
		switch s.kind {
		case SectionProfile, SectionCredentials, SectionSource:
			session := s.kind == SectionCredentials && slices.ContainsFunc(s.entries, func(e entry) bool {
				return strings.EqualFold(string(e.key), keySessionToken)
			})
			names = append(names, NamedLine{s.name, s.line, session})
		case SectionAlias:
			for _, e := range s.entries {
				names = append(names, NamedLine{string(e.key), e.line, false})
			}
		}
	}
	return names, nil
}
