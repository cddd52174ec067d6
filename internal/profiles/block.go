package profiles

import (
	"bytes"
	"slices"
	"strings"

	"broker/internal/fault"
	"broker/internal/lazyregexp"
)

// A marked block is the part of a file that belongs to Broker: two comment lines, and the [profile …] sections between
// them. SetBlock replaces everything between the two lines; every byte outside stays.
//
//	# broker generate LABEL: begin (written by broker profiles generate; edits between these lines are lost)
//	[profile product_dev_paul]
//	…
//	# broker generate LABEL: end

// BlockSection is one profile in a marked block.
type BlockSection struct {
	Name string
	Keys []KeyValue
}

// marker matches the begin and the end line. The label distinguishes the blocks of two account maps.
var marker = lazyregexp.New(`^[#;][ \t]*broker generate ([A-Za-z0-9_.@+=,-]{1,64}): (begin|end)(?:[ \t].*)?$`)

const beginNote = " (written by broker profiles generate; edits between these lines are lost)"

// blockAt is the position of a block: its range with the markers, and the range of its content.
type blockAt struct {
	label                string
	from, to             int
	contentFrom, content int // the content ends where the end marker begins
	line                 int
}

// Block returns the profiles in the marked block with this label, or nil if the file has no such block. The errors
// are those of SetBlock.
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

// SetBlock returns src with these profiles, in this order, in the marked block with this label. An existing block
// keeps its place. A new block goes to the end of the file. Without profiles the block is removed. Every byte
// outside the block stays. SetBlock is idempotent.
//
// It returns bytes and writes nothing. Errors: fault.Usage for a label, a name or a value that would not be read
// back as given; fault.Config, with the line, if a label has anything but one begin and one end marker, if keys
// follow a block without a section header of their own, and if src is not text. SetBlock never guesses how to
// repair a block that was edited by hand.
func SetBlock(src []byte, label string, sections []BlockSection) ([]byte, error) {
	if !marker.MatchString("# broker generate " + label + ": end") {
		return nil, fault.New(fault.Usage, "%.80q is not a valid label for a block", label)
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

// WithoutBlock returns src without the marked block with this label: the user's own lines and the other blocks.
// The errors are those of SetBlock.
func WithoutBlock(src []byte, label string) ([]byte, error) { return SetBlock(src, label, nil) }

// blockText returns the text of a block with its markers, or nil if there are no sections.
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
			return nil, fault.New(fault.Usage, "a block cannot contain [default]")
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

// blocksOf finds all marked blocks in a file.
func blocksOf(src []byte) ([]blockAt, error) {
	bad := func(line int, what string) error {
		return fault.New(fault.Config, "line %d %s; fix the lines that begin with \"# broker generate\" by hand", line, what)
	}
	if p := notText(src); p != nil {
		return nil, fault.New(fault.Config, "line %d %s", p.line, p.text)
	}
	var blocks []blockAt
	var open *blockAt
	pos, line, loose := 0, 0, false // loose: a block has ended and no section has begun since
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
		case m == nil && (len(text) == 0 || isComment(text)):
		case m == nil && text[0] == '[':
			loose = false
		case m == nil && loose:
			return nil, bad(line, "follows Broker's block without a section header of its own")
		case m == nil:
		case m[2] == "begin":
			if open != nil {
				return nil, bad(line, "begins a block inside another block")
			}
			label := m[1]
			for _, b := range blocks {
				if b.label == label {
					return nil, bad(line, "begins the block of "+label+" a second time")
				}
			}
			open = &blockAt{label: label, from: start, contentFrom: pos, line: line}
			loose = true // the content, too, must begin with a section header
		default:
			if open == nil || open.label != m[1] {
				return nil, bad(line, "ends a block that has no begin line")
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

// NamedLine is a name in a file, and its line.
type NamedLine struct {
	Name string
	Line int
	// Session means that the name is a section of the credentials file that holds a session. Some program wrote it
	// and will remove it again.
	Session bool
}

// Names lists the names of profiles, sources and aliases in a file, in file order. It takes the bytes, so that a
// caller can leave blocks out. The error is a fault.Config with the line.
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
