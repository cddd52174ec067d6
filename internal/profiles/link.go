package profiles

import (
	"bytes"
	"reflect"
	"slices"
	"strings"
	"unicode"

	"broker/internal/fault"
)

// Document is one of the files that linking changes.
type Document int

// The documents. RecordsDocument is Broker's own file: it holds what link took out of the AWS files, so that
// unlink restores the same bytes.
const (
	RegistryDocument Document = iota
	ConfigDocument
	CredentialsDocument
	RecordsDocument
)

// Documents holds the bytes of these files; a missing file is empty.
type Documents [4][]byte

// The order in which the files are written. Each profile keeps working between two writes: a definition is written
// to its new place before it is removed from the old one, and what is needed to restore the bytes is written
// before they change.
var (
	LinkOrder   = []Document{RecordsDocument, RegistryDocument, ConfigDocument, CredentialsDocument}
	UnlinkOrder = []Document{RecordsDocument, CredentialsDocument, ConfigDocument, RegistryDocument}
)

// The states of an Outcome.
const (
	Changed   = "changed"
	Unchanged = "unchanged" // it is already in the requested state
	Left      = "left"      // Broker does not handle this profile
	Refused   = "refused"
)

// Outcome is the result for one profile.
type Outcome struct {
	Name  string
	State string
	Err   error    // why it was left or refused
	Note  string   // more information for the user, or empty
	Asks  []string // the lines that are ignored now and take effect once they are moved: a person must confirm them
}

// movedKeys are the keys that define a profile; link moves them. A profile that has only keys of a role, without the
// first two, is not a role for any AWS tool and keeps them.
var movedKeys = slices.Concat([]string{
	keyRoleARN,
	keySourceProfile,
	keyMFASerial,
	keyExternalID,
	keySessionName,
	keyDuration,
	keyMFAProcess,
	keyLoginSession,
	keyWebIdentity,
}, ssoKeys)

// keysOf are the keys with which a profile itself defines a source of a kind. AWS tools prefer them to a
// credential_process.
var keysOf = map[Kind][]string{
	Portal:       ssoKeys,
	ConsoleLogin: {keyLoginSession},
	WebIdentity:  {keyWebIdentity},
}

// shadows are the keys, in addition to plain-text keys, that some AWS tool prefers to a credential_process.
var shadows = []string{keyWebIdentity, keyCredentialSource, keySSOSession, keySSOStartURL, keyLoginSession}

// Link makes AWS tools ask credproc, an absolute path, for these profiles. If names is nil, it links all profiles
// that can be linked. The definition of a role moves from the AWS files into the registry, and a
// credential_process takes its place. A name that is only in the registry gets a new section in the config.
// Settings that some tool prefers to the helper are moved if they are part of a role's definition; otherwise the
// profile is refused, since botocore tries credential_process last (see Preferred). All other bytes stay. Link is
// idempotent.
//
// It returns the new documents and writes nothing. The error is a fault.Config for a file that cannot be read; a
// problem with one profile is in its Outcome.
func Link(files Files, docs Documents, names []string, credproc string) (Documents, []Outcome, error) {
	l, err := newLinker(files, docs)
	if err != nil {
		return docs, nil, err
	}
	if names == nil {
		names, l.every = l.all(), true
	}
	var out []Outcome
	for _, name := range names {
		out = append(out, l.link(name, credproc))
	}
	return l.finish(out)
}

// all returns the names that `link --all` handles. Link never creates a [default], since that would change tools
// that are run without a profile.
func (l *linker) all() []string {
	names := slices.Clone(l.set.names)
	return slices.DeleteFunc(names, func(name string) bool {
		return name == "default" && len(l.sections(ConfigDocument, name)) == 0 && len(l.sections(CredentialsDocument, name)) == 0
	})
}

// A linker collects the changes of one call.
type linker struct {
	files   Files
	given   Documents
	docs    Documents
	set     *Set
	index   [3]map[string][]*section // profiles by document and name
	bare    map[string]int           // lines of [NAME] in the config, which are not profiles
	odd     [3][]*section            // sections that AWS tools read differently, and [DEFAULT]
	records *records
	every   bool    // all profiles are to be linked
	open    [3]bool // the file's last line has no line end; docs adds one, so that lines can move
	cuts    [3][]cut
	added   [3][]addition
}

// An addition is a new section.
type addition struct {
	name  string
	lines []string
	made  bool // the registry gets a section for it too
}

// kindIn is the kind of a profile's section in each document.
var kindIn = [3]string{
	RegistryDocument:    SectionProfile,
	ConfigDocument:      SectionProfile,
	CredentialsDocument: SectionCredentials,
}

func newLinker(files Files, docs Documents) (*linker, error) {
	l := &linker{files: files, given: docs, docs: docs, bare: map[string]int{},
		records: readRecords(docs[RecordsDocument])}
	var err error
	if l.set, err = docs.set(files); err != nil {
		return nil, err
	}
	for i := range l.index {
		if src := bytes.TrimPrefix(docs[i], byteOrderMark); len(src) > 0 && len(eolOf(src)) == 0 {
			l.open[i] = true
			l.docs[i] = slices.Concat(docs[i], l.endOf(Document(i), src))
		}
		d, _ := scan(l.docs[i], i == int(CredentialsDocument)) // newTable already read it without an error
		l.index[i] = map[string][]*section{}
		for j := range d.sections {
			switch s := &d.sections[j]; {
			case i != int(RegistryDocument) && (s.loose || s.kind == sectionInherited):
				l.odd[i] = append(l.odd[i], s)
			case s.kind == kindIn[i]:
				l.index[i][s.name] = append(l.index[i][s.name], s)
			case i == int(ConfigDocument) && s.name == "":
				l.bare[s.kind] = s.line
			}
		}
	}
	return l, nil
}

// endOf returns the line end to add to the last line of a file that has none: the one of the first line. If link
// left only one line, the record tells which line end it was.
func (l *linker) endOf(doc Document, src []byte) []byte {
	if len(firstLine(src)) < len(src) {
		return eol(src)
	}
	for _, end := range []string{"\r\n", "\r"} {
		for id, rec := range l.records.all {
			if id.file == l.path(doc) && rec.describes(slices.Concat(src, []byte(end))) {
				return []byte(end)
			}
		}
	}
	return eol(src)
}

// set reads the documents as a Store reads files.
func (docs Documents) set(files Files) (*Set, error) {
	var states [3]state
	for _, f := range []struct {
		doc  Document
		path string
		kind fileKind
	}{{ConfigDocument, files.Config, configFile}, {CredentialsDocument, files.Credentials, credentialsFile},
		{RegistryDocument, files.Registry, registryFile}} {
		// Link moves settings whatever their place. Whether a setting is in effect is decided when it is used.
		t, err := newTable(f.path, docs[f.doc], f.kind, &provenance{place: InRegistry})
		if err != nil {
			return nil, err
		}
		states[f.kind] = state{path: f.path, table: t}
	}
	return newSet(files, states), nil
}

func (l *linker) path(doc Document) string {
	return [3]string{l.files.Registry, l.files.Config, l.files.Credentials}[doc]
}

func (l *linker) sections(doc Document, name string) []*section { return l.index[doc][name] }

// section returns the first section of a profile, or nil.
func (l *linker) section(doc Document, name string) *section {
	if all := l.sections(doc, name); len(all) > 0 {
		return all[0]
	}
	return nil
}

// unique refuses a profile that has two sections in one file. botocore refuses such a file, and tools disagree on
// whether [default] or [profile default] wins.
func (l *linker) unique(name string) error {
	for doc := range Document(3) {
		for _, s := range l.odd[doc] {
			if s.loose && s.kind == kindIn[doc] && s.name == name {
				return looseHeader(Origin{l.path(doc), s.line}, s.kind, name)
			}
		}
		if s := l.sections(doc, name); len(s) > 1 {
			return fault.New(fault.Config, "%s: %q has a second section here, the first is at line %d; "+
				"AWS tools disagree on what that means", Origin{l.path(doc), s[1].line}, name, s[0].line)
		}
	}
	return nil
}

func (l *linker) link(name, credproc string) Outcome {
	refused := func(err error) Outcome { return Outcome{Name: name, State: Refused, Err: err} }
	if err := l.unique(name); err != nil {
		return refused(err)
	}
	p, found := l.set.lookup(name)
	if kind, _ := p.kind(); kind == OtherProgram && l.set.sources[name] == nil {
		return Outcome{Name: name, State: Left, Err: otherHelper(p)}
	}
	chain, err := l.set.Resolve(name)
	if err == nil && chain.Source.Kind == OtherProgram {
		err = fault.New(fault.Config, "%s: the source of profile %q is another program, which AWS tools run themselves",
			p.origin(), name)
	}
	if err == nil {
		err = l.shadowed(p)
	}
	if err != nil {
		if found && l.isForeign(p) {
			return Outcome{Name: name, State: Left, Err: err}
		}
		return refused(err)
	}
	if s := l.section(CredentialsDocument, name); s != nil {
		for _, e := range s.entries {
			if strings.EqualFold(string(e.key), keyCredentialProcess) {
				return Outcome{Name: name, State: Left, Err: fault.New(fault.Config,
					"%s: the credential_process of %q is in the credentials file; Broker edits it only in the config",
					Origin{l.path(CredentialsDocument), e.line}, name)}
			}
		}
	}
	asks := isOurs(p.aws.text(keyCredentialProcess))
	if l.every && chain.Source.Kind != IAMUser && !p.ours && l.set.sources[name] == nil && !asks {
		return Outcome{Name: name, State: Left, Err: fault.New(fault.Config,
			"%s: profile %q does not end in an IAM user, and AWS tools serve it themselves; to link it, name it",
			p.origin(), name).WithHint("broker profiles link %s", name)}
	}
	moving := p.aws.has(keyRoleARN) || p.aws.has(keySourceProfile) || definesSource(p.aws.has)
	if moving && p.ours {
		if err := contradiction(p, chain); err != nil {
			return refused(err)
		}
	}
	want := name
	if _, ok := l.set.asksFor(p); ok && l.set.sources[name] == nil {
		want = helperProfile(SplitCommand(p.aws.text(keyCredentialProcess)))
	}
	value, err := Command(credproc, want)
	if err != nil {
		return refused(err)
	}
	var definition []string
	if moving && !p.ours {
		if definition, err = l.definition(p); err != nil {
			return refused(err)
		}
	}
	o := l.rewrite(p, definition, value)
	if o.State == Changed && len(definition) > 0 {
		o.Asks = l.asks(p)
	}
	return o
}

// asks returns the lines of a definition that take effect in the registry, but are ignored or need trust in their
// present file.
func (l *linker) asks(p profile) []string {
	var lines []string
	for _, key := range movedKeys {
		set, block := p.aws.find(key)
		if set == nil {
			continue
		}
		kind := configFile
		if block.shared {
			kind = credentialsFile
		}
		now, _ := stampOf(block.origin.File)
		if d := Decide(key, l.files.provenance(kind, block.origin.File, now).place); d == Ignored || d == OnceTrusted {
			lines = append(lines, Origin{block.origin.File, set.line}.String()+": "+key+" = "+set.value)
		}
	}
	return lines
}

// rewrite changes the sections of a profile that can be linked.
func (l *linker) rewrite(p profile, definition []string, value string) Outcome {
	refused := func(err error) Outcome { return Outcome{Name: p.name, State: Refused, Err: err} }
	o := Outcome{Name: p.name, State: Unchanged}
	config, credentials := l.original(ConfigDocument, p.name), l.original(CredentialsDocument, p.name)
	moved := defines(config) || defines(credentials)
	var there []*passage
	for _, r := range []*passage{config, credentials} {
		if r == nil {
			continue
		}
		if err := r.link(moved, value); err != nil {
			return refused(err)
		}
		there = append(there, r)
	}
	if config == nil && quoteName(p.name) != p.name {
		return refused(fault.New(fault.Failed,
			"AWS tools disagree on how to write the name %q in a config file", p.name))
	}
	if line, ok := l.bare[p.name]; ok && config == nil {
		// "Cannot redefine property": version 2 of the SDK for JavaScript reads both headers as the same profile
		return Outcome{Name: p.name, State: Left, Err: fault.New(fault.Config,
			"%s: next to this section of another tool, some AWS tools cannot read a [profile %s]",
			Origin{l.files.Config, line}, p.name)}
	}
	for _, r := range there {
		if bytes.Equal(r.after, l.docs[r.doc][r.from:r.to]) {
			continue
		}
		o.State = Changed
		l.cuts[r.doc] = append(l.cuts[r.doc], cut{r.from, r.to, r.after})
		if r.asksOurs() {
			rec := l.records.find(l.path(r.doc), p.name)
			if rec == nil || !rec.describes(slices.Concat(r.after, l.docs[r.doc][r.to:])) {
				l.records.drop(l.path(r.doc), p.name) // it was linked by hand, so there is no other original
			}
			continue
		}
		l.records.put(&linkRecord{File: l.path(r.doc), Profile: p.name, Made: len(definition) > 0, Length: len(r.after),
			SHA256: digest(r.after), Pieces: r.pieces}, r.record)
	}
	if config == nil {
		o.State = Changed
		lines := []string{keyCredentialProcess + " = " + value}
		// AWS tools look for the region only in the AWS files.
		if chain, err := l.set.Resolve(p.name); err == nil && chain.Region != "" && !p.aws.has(keyRegion) {
			lines = append(lines, keyRegion+" = "+chain.Region)
		}
		l.added[ConfigDocument] = append(l.added[ConfigDocument], addition{p.name, lines, len(definition) > 0})
	}
	if len(definition) > 0 {
		o.State = Changed
		l.added[RegistryDocument] = append(l.added[RegistryDocument], addition{name: p.name, lines: definition})
	}
	return o
}

// isForeign reports whether a profile that cannot be linked is another tool's: nothing in it says that Broker
// should serve it.
func (l *linker) isForeign(p profile) bool {
	if p.ours || isOurs(p.aws.text(keyCredentialProcess)) {
		return false
	}
	return !p.aws.has(keyRoleARN) || slices.ContainsFunc([]string{keyWebIdentity, keyCredentialSource}, p.aws.has)
}

// shadowed returns an error for a setting that AWS tools prefer to the helper and that link does not move. It moves the
// keys of the source that the profile is.
func (l *linker) shadowed(p profile) error {
	kind, _ := profile{own: p.aws, aws: p.aws}.kind()
	moved := keysOf[kind]
	if l.set.sources[p.name] != nil { // another source, which would be served instead
		moved = nil
	}
	for _, b := range p.aws {
		v := view{b}
		if v.has(keySessionToken) && b.ours {
			continue // `broker publish` put it there, and removes it again
		}
		if v.has(keySessionToken) {
			return fault.New(fault.Config, "%s: %q has temporary keys here, written by another tool; "+
				"AWS tools use them before they ask the helper, so remove them",
				v.origin(keySessionToken), p.name)
		}
		for _, key := range []string{keyAccessKeyID, keySecretKey} {
			if v.has(key) {
				return fault.New(fault.Config, "%s: the long-lived key of %q is here in plain text; "+
					"AWS tools use it before they ask the helper",
					v.origin(key), p.name).WithHint("broker import")
			}
		}
		for _, key := range shadows {
			if v.has(key) && !slices.Contains(moved, key) {
				return fault.New(fault.Config, "%s: profile %q has a %s, which AWS tools use before they ask the helper",
					v.origin(key), p.name, key)
			}
		}
		if command := v.text(keyCredentialProcess); command != "" && !isOurs(command) {
			return otherHelper(p)
		}
	}
	return l.shadowedByLine(p.name, moved)
}

func otherHelper(p profile) error {
	return fault.New(fault.Config, "%s: profile %q asks another helper; it stays as it is",
		p.aws.origin(keyCredentialProcess), p.name)
}

// shadowedByLine refuses keys that affect some AWS tool whatever their value is, and keys of [DEFAULT], which
// botocore gives to each profile of the file.
func (l *linker) shadowedByLine(name string, moved []string) error {
	for doc := ConfigDocument; doc <= CredentialsDocument; doc++ {
		for _, s := range slices.Concat(l.odd[doc], l.sections(doc, name)) {
			for _, e := range s.entries {
				key := strings.ToLower(string(e.key))
				shadow := slices.Contains(shadows, key) || strings.HasPrefix(key, "sso_") || key == keyAccessKeyID
				at := Origin{l.path(doc), e.line}
				switch {
				case s.kind == sectionInherited && (shadow || isMovedKey(e.key) || key == keyCredentialProcess ||
					slices.Contains(awsKeys, key) && l.section(ConfigDocument, name) == nil):
					return fault.New(fault.Config, "%s: the AWS CLI applies this %s of [DEFAULT] to each profile "+
						"of the file, and Broker does not edit [DEFAULT]", at, key)
				case s.loose || s.kind == sectionInherited || !shadow, key == keyAccessKeyID && len(e.value) > 0:
				case len(e.value) > 0 && slices.Contains(moved, key):
				case len(e.value) == 0:
					return fault.New(fault.Config, "%s: profile %q has an empty %s, which AWS tools use before "+
						"they ask the helper", at, name, key)
				default:
					return fault.New(fault.Config, "%s: profile %q has a %s, which makes AWS tools fail before "+
						"they ask the helper", at, name, key)
				}
			}
		}
	}
	return nil
}

// looseHeader returns the error for a header that botocore does not read as a profile. It says how to write the
// header.
func looseHeader(at Origin, kind, name string) error {
	return fault.New(fault.Config, "%s: the AWS CLI does not read this header as a profile; write %s",
		at, header(kind, name))
}

// contradiction refuses a profile that the registry and the AWS files define differently. Broker uses the
// registry's definition, so linking the profile would change the credentials that AWS tools get.
func contradiction(p profile, chain Chain) error {
	for _, key := range movedKeys {
		theirs, ours := p.aws.text(key), p.own.text(key)
		if theirs == "" || theirs == ours || key == keyMFAProcess && isAbsoluteOf(ours, theirs) ||
			key == keyMFASerial && ours == "" && theirs == chain.Source.MFASerial {
			continue
		}
		return fault.New(fault.Config, "%s: profile %q has another %s here than in the registry (%s)", p.aws.origin(key), p.name, key, p.origin()).
			WithHint("broker profiles show %s", p.name)
	}
	return nil
}

// definition returns the body of the registry's section for a role that the AWS files define, with the comments
// after the values.
func (l *linker) definition(p profile) ([]string, error) {
	var lines []string
	for _, key := range movedKeys {
		set, block := p.aws.find(key)
		if set == nil {
			continue
		}
		value := set.value
		if key == keyMFAProcess {
			var err error
			if value, err = l.set.AbsoluteCommand(value); err != nil {
				return nil, fault.New(fault.Config, "%s: %s %w", Origin{block.origin.File, set.line}, key, err)
			}
		}
		if err := checkKeyValue(KeyValue{key, value}); err != nil {
			return nil, fault.New(fault.Config, "%s: %w", Origin{block.origin.File, set.line}, err)
		}
		doc := ConfigDocument
		if block == l.set.block(credentialsFile, SectionCredentials, p.name) {
			doc = CredentialsDocument
		}
		lines = append(lines, key+" = "+value+l.comment(doc, p.name, set.line))
	}
	return lines, nil
}

// comment returns the comment after the value in a line, with a space before it.
func (l *linker) comment(doc Document, name string, line int) string {
	for _, e := range l.section(doc, name).entries {
		if e.line == line && !e.multiline {
			if c := trimSpace(string(l.docs[doc][e.valTo:e.end])); c != "" {
				return " " + c
			}
		}
	}
	return ""
}

// A passage holds the bytes of one section as they were before link changed them.
type passage struct {
	doc      Document
	file     string
	from, to int // in the document as it is now
	base     []byte
	entries  []entry     // the entries of base
	record   *linkRecord // the record from which base was restored, or nil
	indent   []byte      // indentation for a key at the end of the section

	after  []byte  // base after link
	pieces []piece // how to undo that
}

// original returns the section of a profile as it was before link, if a record has it and the section was not
// changed since. Otherwise it returns the section as it is, or nil if there is none.
func (l *linker) original(doc Document, name string) *passage {
	s := l.section(doc, name)
	if s == nil {
		return nil
	}
	r := &passage{doc: doc, file: l.path(doc), from: s.start, to: s.bodyEnd, base: l.docs[doc][s.start:s.bodyEnd]}
	if rec := l.records.find(l.path(doc), name); rec != nil && !rec.Created {
		if base, ok := rec.restore(l.docs[doc], s); ok {
			r.to, r.base, r.record = s.start+rec.Length, base, rec
		}
	}
	d, _ := scan(r.base, doc == CredentialsDocument)
	if len(d.sections) == 1 {
		r.entries = d.sections[0].entries
		r.indent = indentOf(slices.Concat(r.base, l.docs[doc][r.to:]), &d.sections[0])
	}
	return r
}

func (r *passage) has(key string) bool {
	return r != nil && slices.ContainsFunc(r.entries, func(e entry) bool { return strings.EqualFold(string(e.key), key) })
}

// asksOurs reports whether the section already asks our helper, which means that it was linked by hand.
func (r *passage) asksOurs() bool {
	return slices.ContainsFunc(r.entries, func(e entry) bool {
		return strings.EqualFold(string(e.key), keyCredentialProcess) && isOurs(string(e.value))
	})
}

// defines reports whether some AWS tool reads the section as a role or as a source.
func defines(r *passage) bool {
	return r.has(keyRoleARN) || r.has(keySourceProfile) || definesSource(r.has)
}

// definesSource reports whether there is a key with which a profile defines a source.
func definesSource(has func(key string) bool) bool {
	for _, keys := range keysOf {
		if slices.ContainsFunc(keys, has) {
			return true
		}
	}
	return false
}

// link replaces the role's keys by the helper. The helper's line goes only into the config.
func (r *passage) link(moved bool, value string) error {
	var cuts []cut
	placed := r.doc == CredentialsDocument || r.has(keyCredentialProcess)
	for i := range r.entries {
		e := &r.entries[i]
		helper := strings.EqualFold(string(e.key), keyCredentialProcess)
		switch {
		case !helper && !(moved && isMovedKey(e.key)), helper && r.doc == CredentialsDocument:
		case e.multiline:
			return fault.New(fault.Config, "%s: the value of %s spans several lines", r.file, bytes.ToLower(e.key))
		case !helper:
			cuts = append(cuts, cut{from: e.start, to: e.end})
		case e.commented: // botocore passes the comment to the helper, so it moves to a line of its own
			line := r.base[e.start:e.end]
			end := e.end - len(eolOf(line))
			comment := slices.Concat(leading(line), bytes.TrimFunc(r.base[e.valTo:end], isSpace), eolOf(line))
			cuts = append(cuts, cut{e.start, e.start, comment}, cut{e.valueAt, end, []byte(value)})
		case !asks(string(e.value), value):
			cuts = append(cuts, cut{e.valueAt, e.valTo, []byte(value)})
		}
	}
	switch {
	case placed:
	case len(cuts) > 0:
		c := &cuts[0]
		line := r.base[c.from:c.to]
		c.with = slices.Concat(leading(line), []byte(keyCredentialProcess+" = "+value), eolOf(line))
	default:
		with := slices.Concat(r.indent, []byte(keyCredentialProcess+" = "+value), eolOf(r.base))
		cuts = append(cuts, cut{len(r.base), len(r.base), with})
	}
	cuts = endAlike(r.base, cuts)
	shift := 0
	for _, c := range cuts {
		r.pieces = append(r.pieces, piece{At: c.from + shift, Length: len(c.with), Text: string(r.base[c.from:c.to])})
		shift += len(c.with) - (c.to - c.from)
	}
	r.after = apply(r.base, cuts)
	return nil
}

// endAlike adjusts the cuts so that base still ends with the same line end after them. In an open file, the line
// end of the last line is not written, so it must be the same whichever line comes last. This matters only in a
// file with mixed line ends.
func endAlike(base []byte, cuts []cut) []cut {
	end, i := len(base), len(cuts)
	for i > 0 && cuts[i-1].to == end && len(cuts[i-1].with) == 0 {
		i--
		end = cuts[i].from
	}
	if i > 0 && cuts[i-1].to == end && len(cuts[i-1].with) > 0 {
		c := &cuts[i-1]
		c.with = slices.Concat(bytes.TrimRight(c.with, "\r\n"), eolOf(base))
		return cuts
	}
	if last := eolOf(base[:end]); i < len(cuts) && !bytes.Equal(last, eolOf(base)) {
		return slices.Insert(cuts, i, cut{end - len(last), end, eolOf(base)})
	}
	return cuts
}

// leading returns the white space at the start of a line.
func leading(line []byte) []byte {
	return line[:len(line)-len(bytes.TrimLeftFunc(line, isSpace))]
}

// eolOf returns the line end of the last line, or nil at the end of a file without one.
func eolOf(b []byte) []byte {
	for _, end := range []string{"\r\n", "\n", "\r"} {
		if bytes.HasSuffix(b, []byte(end)) {
			return b[len(b)-len(end):]
		}
	}
	return nil
}

func isMovedKey(key []byte) bool { return slices.Contains(movedKeys, strings.ToLower(string(key))) }

// asks reports whether two commands start the same program for the same profile.
func asks(a, b string) bool {
	x, y := SplitCommand(a), SplitCommand(b)
	form := len(x) == 2 || len(x) == 3 && (x[1] == "--profile" || x[1] == "--")
	return form && x[0] == y[0] && helperProfile(x) == helperProfile(y)
}

// Command returns the value of credential_process that asks for a profile. botocore splits it as a shell would
// (shlex), the SDKs for Go and JavaScript pass it to a shell, and the Go SDK strips quotes around the whole value.
// All of them must read the same words. If that is impossible, the error is a fault.Failed.
// https://docs.aws.amazon.com/cli/latest/userguide/cli-configure-sourcing-external.html
func Command(credproc, name string) (string, error) {
	words := []string{credproc, name}
	if strings.HasPrefix(name, "-") {
		words = []string{credproc, "--profile", name}
	}
	for i, w := range words {
		if strings.ContainsAny(w, "$`\\\"!%") || strings.ContainsFunc(w, func(r rune) bool { return !unicode.IsPrint(r) }) ||
			strings.Contains(w, " #") || strings.Contains(w, " ;") {
			return "", fault.New(fault.Failed, "%.300q cannot be written so that all AWS tools read it the same way", w)
		}
		if strings.ContainsFunc(w, func(r rune) bool {
			return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("_.@+=:,/-", r)
		}) {
			words[i] = `"` + w + `"`
		}
	}
	if last := words[len(words)-1]; words[0][0] == '"' && last[len(last)-1] == '"' {
		words[0] = words[0][1:2] + `"` + words[0][2:] // /"opt/my tools/credproc" "my profile"
	}
	return strings.Join(words, " "), nil
}

// finish applies the changes and checks the result: each profile that was linked or unlinked must get the same
// credentials as before.
func (l *linker) finish(out []Outcome) (Documents, []Outcome, error) {
	next := l.given
	for doc := range Document(3) {
		if len(l.cuts[doc])+len(l.added[doc]) == 0 {
			continue
		}
		b := bytes.NewBuffer(apply(l.docs[doc], l.cuts[doc]))
		for _, a := range l.added[doc] {
			from := b.Len()
			lead := appendLines(b, header(kindIn[doc], a.name), a.lines)
			body := b.Bytes()[from+lead:]
			rec := &linkRecord{File: l.path(doc), Profile: a.name, Made: a.made, Created: true, Lead: lead,
				Length: len(body), SHA256: digest(body)}
			l.records.put(rec, nil)
		}
		next[doc] = b.Bytes()
		if l.open[doc] {
			next[doc] = next[doc][:len(next[doc])-len(eolOf(next[doc]))]
		}
	}
	next[RecordsDocument] = l.records.bytes(l.docs[RecordsDocument])
	after, err := next.set(l.files)
	if err != nil {
		return l.given, nil, fault.New(fault.Internal,
			"the files would become unreadable; nothing was changed: %w", err)
	}
	for _, o := range out {
		if o.State != Changed {
			continue
		}
		was, err := l.set.Resolve(o.Name)
		if err != nil {
			continue // the profile did not resolve before, so it cannot get worse
		}
		if is, err := after.Resolve(o.Name); err != nil || !sameChain(was, is) {
			return l.given, nil, fault.New(fault.Internal,
				"%q would resolve differently; nothing was changed", o.Name)
		}
	}
	return next, out, nil
}

// sameChain reports whether two chains are equal, apart from the lines that they came from and the rest of their sets.
func sameChain(a, b Chain) bool {
	plain := func(c Chain) Chain {
		c.Values, c.Warnings, c.Source.Origin, c.Directories = nil, nil, Origin{}, nil
		c.MFAProcess = strings.Join(byName(c.MFAProcess), " ")
		c.Roles = slices.Clone(c.Roles)
		for i := range c.Roles {
			c.Roles[i].Origin = Origin{}
		}
		if c.Assignment != nil {
			a := *c.Assignment
			a.Origin, c.Assignment = Origin{}, &a
		}
		return c
	}
	return reflect.DeepEqual(plain(a), plain(b))
}
