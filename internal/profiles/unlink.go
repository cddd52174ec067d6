package profiles

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"

	"broker/internal/fault"
)

// Unlink restores what Link changed, for these profiles, or for all linked profiles if names is nil. If neither
// the section nor the registry's definition was changed since, the section gets its original bytes. Otherwise the
// registry's present definition replaces credential_process. The registry keeps a definition that it had before
// link, and one with keys that AWS files do not have; a Note says so. A section that link created is removed.
//
// It returns the new documents and writes nothing. The error is that of Link.
func Unlink(files Files, docs Documents, names []string) (Documents, []Outcome, error) {
	l, err := newLinker(files, docs)
	if err != nil {
		return docs, nil, err
	}
	if names == nil {
		names = slices.DeleteFunc(slices.Clone(l.set.names), func(name string) bool { return !l.isLinked(name) })
	}
	var out []Outcome
	for _, name := range names {
		out = append(out, l.unlink(name))
	}
	return l.finish(out)
}

// isLinked reports whether there may be something to restore for a name.
func (l *linker) isLinked(name string) bool {
	rec := l.records.find(l.files.Config, name)
	return l.helper(name) != nil || rec != nil && rec.Made
}

// helper returns the entry of a profile's config that asks credproc, or nil.
func (l *linker) helper(name string) *entry {
	s := l.section(ConfigDocument, name)
	if s == nil {
		return nil
	}
	for i := range s.entries {
		if e := &s.entries[i]; strings.EqualFold(string(e.key), keyCredentialProcess) && isOurs(string(e.value)) {
			return e
		}
	}
	return nil
}

func (l *linker) unlink(name string) Outcome {
	if err := l.unique(name); err != nil {
		return Outcome{Name: name, State: Refused, Err: err}
	}
	p, found := l.set.lookup(name)
	if !found && l.set.sources[name] == nil {
		return Outcome{Name: name, State: Refused, Err: l.set.notFound(name)}
	}
	rec := l.records.find(l.files.Config, name)
	helper := l.helper(name)
	if helper == nil && (rec == nil || !rec.Made) {
		return Outcome{Name: name, State: Unchanged}
	}
	config, credentials := l.original(ConfigDocument, name), l.original(CredentialsDocument, name)
	m := l.compare(p, config, credentials)
	o := Outcome{Name: name, State: Changed}
	if helper == nil { // it was removed before; only the registry is left to change
		if p.ours && len(m.lines)+len(m.differ) == 0 {
			l.dropRegistered(name)
		} else {
			l.records.done(l.files.Config, name)
			l.records.done(l.files.Credentials, name)
		}
		return o
	}
	if _, ok := l.set.asksFor(p); ok && rec == nil && l.set.sources[name] == nil {
		return Outcome{Name: name, State: Left, Err: fault.New(fault.Config, "%s: profile %q asks for %q; it has no definition of its own to restore",
			Origin{l.files.Config, helper.line}, name, helperProfile(SplitCommand(string(helper.value))))}
	}
	created := rec != nil && rec.Created && l.asCreated(ConfigDocument, rec, name)
	asItWas := created || config.record != nil
	if asItWas && rec.Made && p.ours {
		moved := func(key string) bool { return isMovedKey([]byte(key)) }
		asItWas = len(m.lines) == 0 && !slices.ContainsFunc(m.differ, moved)
	}
	switch {
	case !asItWas:
		m = l.compare(p, l.current(ConfigDocument, name), l.current(CredentialsDocument, name))
		if rec != nil && !rec.Made && !cutKeys(rec) {
			m.lines = nil // the registry's definition was never here
		}
		l.putBack(name, helper, m.lines)
	case created:
		l.cutCreated(ConfigDocument, rec, name)
	}
	for _, r := range []*passage{config, credentials} {
		if asItWas && r != nil && r.record != nil {
			l.cuts[r.doc] = append(l.cuts[r.doc], cut{r.from, r.to, r.base})
		}
	}
	switch {
	case !p.ours || rec != nil && !rec.Made:
		l.records.done(l.files.Config, name)
		l.records.done(l.files.Credentials, name)
	case len(m.differ) > 0:
		o.Note = fmt.Sprintf("the registry keeps its definition, which Broker uses: the AWS files do not have the same %s", strings.Join(m.differ, ", "))
	default:
		if rec == nil { // without the helper, a later run must know that the registry is next
			l.records.put(&linkRecord{File: l.files.Config, Profile: name, Made: true}, nil)
		}
		l.dropRegistered(name)
	}
	return o
}

func cutKeys(rec *linkRecord) bool {
	return slices.ContainsFunc(rec.Pieces, func(p piece) bool { return p.Text != "" })
}

// asCreated reports whether a section that link created is unchanged.
func (l *linker) asCreated(doc Document, rec *linkRecord, name string) bool {
	s := l.section(doc, name)
	_, same := rec.restore(l.docs[doc], s)
	return same && s.bodyEnd <= s.start+rec.Length
}

// cutCreated removes what link wrote, with the blank line before it, and nothing else. So sections can be removed
// in any order.
func (l *linker) cutCreated(doc Document, rec *linkRecord, name string) {
	s := l.section(doc, name)
	from := max(0, s.start-rec.Lead)
	if len(bytes.TrimSpace(l.docs[doc][from:s.start])) > 0 {
		from = s.start
	}
	l.cuts[doc] = append(l.cuts[doc], cut{from: from, to: s.start + rec.Length})
}

// A comparison is what would be missing if only the AWS files defined a profile.
type comparison struct {
	lines  []string // lines of the registry's definition that can be written there
	differ []string // keys that would have another value, or cannot be written there
}

// compare compares the registry's definition with the sections of the AWS files.
func (l *linker) compare(p profile, config, credentials *passage) comparison {
	var c comparison
	s := l.section(RegistryDocument, p.name)
	if s == nil {
		return c
	}
	there := valuesOf(config)
	maps.Copy(there, valuesOf(credentials))
	defined := map[string]*entry{}
	for i := range s.entries {
		defined[strings.ToLower(string(s.entries[i].key))] = &s.entries[i]
	}
	for i := range s.entries {
		e := &s.entries[i]
		key := strings.ToLower(string(e.key))
		value, has := there[key]
		known := slices.Contains(awsKeys, key)
		switch {
		case defined[key] != e: // a later key wins
		case has && (value == string(e.value) || key == keyMFAProcess && isAbsoluteOf(string(e.value), value)):
		case has, e.multiline, len(e.value) == 0, !known && key != keyOutput,
			key == keySessionName && noPlaceholder(string(e.value)) != nil: // AWS tools would send the placeholders
			c.differ = append(c.differ, key)
		default:
			c.lines = append(c.lines, key+" = "+string(e.value)+l.comment(RegistryDocument, p.name, e.line))
		}
	}
	for _, key := range movedKeys {
		if _, has := there[key]; has && defined[key] == nil {
			c.differ = append(c.differ, key)
		}
	}
	return c
}

// current returns the present section of a profile.
func (l *linker) current(doc Document, name string) *passage {
	s := l.section(doc, name)
	if s == nil {
		return nil
	}
	return &passage{doc: doc, entries: s.entries}
}

// putBack replaces the line that asks the helper by these lines. If the section had nothing else, it is removed
// with it.
func (l *linker) putBack(name string, helper *entry, lines []string) {
	s, src := l.section(ConfigDocument, name), l.docs[ConfigDocument]
	if len(lines) == 0 &&
		len(bytes.TrimSpace(src[s.end:helper.start]))+len(bytes.TrimSpace(src[helper.end:s.bodyEnd])) == 0 {
		l.drop(ConfigDocument, s)
		return
	}
	old := src[helper.start:helper.end]
	end, between := eolOf(old), eol(src)
	var with []byte
	for i, line := range lines {
		if i > 0 {
			with = append(with, between...)
		}
		with = append(append(with, leading(old)...), line...)
	}
	if len(lines) > 0 {
		with = append(with, end...)
	}
	l.cuts[ConfigDocument] = append(l.cuts[ConfigDocument], cut{helper.start, helper.end, with})
}

// dropRegistered removes a definition from the registry, but keeps comments that are on their own lines.
func (l *linker) dropRegistered(name string) {
	s, src := l.section(RegistryDocument, name), l.docs[RegistryDocument]
	rec := l.records.find(l.files.Registry, name)
	if rec != nil && rec.Created && l.asCreated(RegistryDocument, rec, name) {
		l.cutCreated(RegistryDocument, rec, name)
		return
	}
	lines := []cut{{from: s.start, to: s.end}}
	at, comments := s.end, false
	for _, e := range s.entries {
		comments = comments || len(bytes.TrimSpace(src[at:e.start])) > 0
		lines = append(lines, cut{from: e.start, to: e.end})
		at = e.end
	}
	if comments {
		l.cuts[RegistryDocument] = append(l.cuts[RegistryDocument], lines...)
		return
	}
	l.drop(RegistryDocument, s)
}

// drop removes a section that was changed since it was created, as RemoveSection does.
func (l *linker) drop(doc Document, s *section) {
	l.cuts[doc] = append(l.cuts[doc], cutOf(l.docs[doc], s))
}

// valuesOf returns the values of a section by key, as the tools read them.
func valuesOf(r *passage) map[string]string {
	m := map[string]string{}
	if r == nil {
		return m
	}
	for _, e := range r.entries {
		key := strings.ToLower(string(e.key))
		if delete(m, key); len(e.value) > 0 {
			m[key] = string(e.value)
		}
	}
	return m
}
