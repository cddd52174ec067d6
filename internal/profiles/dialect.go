package profiles

import (
	"bytes"
	"strings"

	"broker/internal/lazyregexp"
)

// A dialect is how a family of AWS tools reads the headers of a file. TestClientsNames runs them.
type dialect int

const (
	botocore dialect = iota // what Broker goes by
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

// readHeader reads "[...]" as d does. A header that it cannot read gives a section without a kind.
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
	case d == js2: // which takes [NAME] of the config for a profile, too
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

// disputed reports whether not all dialects read the same of a file that botocore reads as d.
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

// of is the table as a dialect reads the file.
func (t *table) of(d dialect) *table {
	if t.others[d] != nil {
		return t.others[d]
	}
	return t
}

// as is what a dialect reads of the files. It is for look-ups alone.
func (s *Set) as(d dialect) *Set {
	other := &Set{files: s.files, states: s.states}
	for i := range other.states {
		other.states[i].table = other.states[i].table.of(d)
	}
	return other
}
