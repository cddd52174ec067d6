package profiles

// Section is a section of an AWS file as it stands there, for who knows keys that Broker does not.
type Section struct {
	Kind, Name string // empty if its header cannot be read
	Line       int    // of its header
	Start      int    // offset of its header
	// Again says that a section of this kind and name stands further up.
	Again bool
	// Entries are those that count of all sections of this kind and name; none if Again is set.
	Entries []Entry
}

// Entry is a key with its value, which are slices of the file.
type Entry struct {
	Key, Value []byte
	Line       int
}

// Sections are those of a file that holds sections of a kind, in file order. The error is a fault.Config and names the
// path and the line of what is not text.
func Sections(path string, src []byte, kind string) ([]Section, error) {
	d, err := scanFile(path, src, kind == SectionCredentials)
	if err != nil {
		return nil, err
	}
	seen := make(map[blockID]bool, len(d.sections))
	all := make([]Section, 0, len(d.sections))
	for _, s := range d.sections {
		id := blockID{s.kind, s.name}
		section := Section{Kind: s.kind, Name: s.name, Line: s.line, Start: s.start, Again: seen[id]}
		if seen[id] = true; !section.Again {
			for _, e := range d.entriesOf(s.kind, s.name) {
				section.Entries = append(section.Entries, Entry{e.key, e.value, e.line})
			}
		}
		all = append(all, section)
	}
	return all, nil
}
