package profiles

import (
	"bytes"
	"strings"

	"broker/internal/lazyregexp"
)

// A dialect is how a family of AWS tools reads the headers of a file. TestClientsNames checks them against the
// real tools.
type dialect int

const (
	botocore dialect = iota // the dialect that Broker follows
	golang                  // aws-sdk-go-v2, internal/ini
	js3                     // @smithy/shared-ini-file-loader, parseIni
	js2                     // aws-sdk 2, util.ini.parse and shared-ini/ini-loader.js
	dialects
)

var (
	jsComment = lazyregexp.New(`^(.*?)(?:^|\s)[;#]`)
	js3Header = lazyregexp.New(`^([\w-]+)\s(?:([\w@+.%:/-]+)|"([\w@+.%:/-]+)"|'([\w@+.%:/-]+)')$`)
	js2Prefix = lazyregexp.New(`^profile\s(.*)$`)
	plainName = lazyregexp.New(`^[A-Za-z0-9_@+.:/-]+$`)
)

// readHeader reads "[...]" by the rules of d. If d cannot read the header, the section gets no kind.
func (d dialect) readHeader(s *section, text []byte, credentials bool) {
	line := string(text)
	if d == golang {
		line, _, _ = strings.Cut(line, "#")
		line, _, _ = strings.Cut(line, ";")
	} else if m := jsComment.FindStringSubmatch(line); m != nil {
		line = m[1]
	}
	line = strings.TrimSpace(line)
	if len(line) < 2 || line[len(line)-1] != ']' {
		return
	}
	s.header = line[1 : len(line)-1]
	name, isProfile := s.header, credentials || s.header == "default"
	switch {
	case d == golang:
		name = strings.TrimSpace(s.header)
		isProfile = isProfile || name == "default"
		if kind := strings.Fields(name); !credentials && len(kind) > 1 && kind[0] == SectionProfile {
			name, isProfile = strings.TrimSpace(strings.TrimPrefix(name, SectionProfile)), true
		}
	case credentials:
	case d == js3:
		if m := js3Header.FindStringSubmatch(s.header); m != nil && m[1] == SectionProfile {
			name, isProfile = m[2]+m[3]+m[4], true
		}
	case d == js2: // js2 takes [NAME] in the config for a profile, too
		m := js2Prefix.FindStringSubmatch(s.header)
		if isProfile = true; m != nil {
			name = m[1]
		}
	}
	switch {
	case credentials:
		s.kind, s.name = SectionCredentials, name
	case isProfile:
		s.kind, s.name = SectionProfile, name
	}
}

// disputed reports whether another dialect reads the file differently from botocore. d is the document as botocore
// reads it.
func (d *document) disputed() bool {
	if d.refused != nil {
		return true
	}
	seen := map[blockID]bool{}
	for i := range d.sections {
		s := &d.sections[i]
		id := blockID{s.kind, s.name}
		if s.kind == "" || s.kind == sectionInherited || s.loose || seen[id] || s.commented ||
			s.name != "" && (!plainName.MatchString(s.name) || s.header != s.name && s.header != s.kind+" "+s.name) {
			return true
		}
		seen[id] = true
		for _, e := range s.entries {
			if e.multiline && (bytes.Contains(e.value, []byte("\n[")) || e.brackets) {
				return true
			}
		}
	}
	return false
}

// of returns the table of the file as d reads it.
func (t *table) of(d dialect) *table {
	if t.others[d] != nil {
		return t.others[d]
	}
	return t
}

// as returns the files as d reads them. The result is only for look-ups.
func (s *Set) as(d dialect) *Set {
	other := &Set{files: s.files, states: s.states}
	for i := range other.states {
		other.states[i].table = other.states[i].table.of(d)
	}
	return other
}
