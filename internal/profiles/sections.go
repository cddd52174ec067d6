package profiles

// Section is a section of an AWS file as written, for packages that know keys that Broker itself does not know.
type Section struct {
	Kind, Name string // empty if its header cannot be read
	Line       int    // of its header
	Start      int    // offset of its header
	// Again means that the file has an earlier section of this kind and name.
	Again bool
	// Entries are the effective entries of all sections of this kind and name. It is empty if Again is set.
	Entries []Entry
}

// Entry is a key with its value; both are slices of the file.
type Entry struct {
	Key, Value []byte
	Line       int
}

// Sections returns the sections of a file, in file order. kind is the kind of sections that the file holds. The
// error is a fault.Config with the path and the line that is not text.
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
