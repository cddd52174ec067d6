package profiles

import (
	"cmp"
	"slices"
	"strings"

	"broker/internal/fault"
)

// registryOnly are the keys of a profile that count in the registry only, and that link does not move there.
var registryOnly = []string{keyMFA, keyPublish, keyBrowser, keySourceIdentity, keySessionTags, keyTransitiveTags,
	keyOptionalTags}

// Advice lists the settings of the AWS files that do less than they say, by file and line: guards that AWS tools
// bypass, and keys that count in the registry only. Given exact names, it lists only those of these profiles.
func (s *Set) Advice(names ...string) (list []Warning) {
	if names == nil {
		names = s.names
	}
	for _, name := range names {
		if w := s.bypassed(name); w != nil {
			list = append(list, *w)
		}
		list = append(list, s.unread(name)...)
	}
	slices.SortStableFunc(list, func(a, b Warning) int {
		return cmp.Or(strings.Compare(a.Origin.File, b.Origin.File), cmp.Compare(a.Origin.Line, b.Origin.Line))
	})
	return slices.Compact(list)
}

// bypassed returns a warning for a guarded or read-only profile whose credentials AWS tools get themselves: with a role
// that they assume with what they get for its source_profile, or with their own login. They do not ask Broker for the
// profile, so its guard cannot hold.
func (s *Set) bypassed(name string) *Warning {
	p, _ := s.lookup(name)
	at, do := Origin{}, "get its session"
	if role, ok := p.way(p.aws, wayRole); ok {
		if _, ok := s.WayOf(p.aws.text(keySourceProfile)); !ok {
			return nil
		}
		at, do = role, "assume this role"
	} else {
		for _, w := range []way{wayWebIdentity, waySSO, wayLogin, wayProcess} {
			if found, ok := p.way(p.aws, w); ok && at == (Origin{}) &&
				(w != wayProcess || !isOurs(p.aws.text(keyCredentialProcess))) {
				at = found
			}
		}
		if at == (Origin{}) {
			return nil
		}
	}
	sections, r, g := s.guards(p), &reading{}, Guard{}
	if session := p.aws.text(keySSOSession); session != "" {
		sections = append(sections, s.sessionGuards(session)...)
	}
	r.guard(sections, &g)
	readOnly := r.readOnly(name, sections, false)
	what := "the guard and read_only"
	switch {
	case r.err != nil || g.IsZero() && !readOnly: // Resolve returns the error
		return nil
	case !readOnly:
		what = "the guard"
	case g.IsZero():
		what = "read_only"
	}
	return &Warning{at, what + " of " + name + " counts only if Broker is asked for it: AWS tools " + do +
		" themselves, with all its rights, and nobody is asked; to end that: " + string(link(name))}
}

// unread returns a warning for each key of a profile in an AWS file that counts in the registry only.
func (s *Set) unread(name string) (list []Warning) {
	p, _ := s.lookup(name)
	for _, b := range p.aws {
		for _, set := range b.unread {
			if p.ours && p.own.has(set.key) {
				continue
			}
			text := set.key + " has no effect here, only in the registry: "
			if !p.ours && p.aws.has(keyRoleARN) {
				text += string(fault.Hintf("broker profiles link %s", name)) + ", then "
			}
			section := SectionProfile
			if slices.Contains(registryKeys[SectionSource], set.key) && s.sources[name] != nil {
				section = SectionSource
			}
			list = append(list, Warning{Origin{b.origin.File, set.line},
				text + "write it into [" + section + " " + name + "] of " + s.files.Registry})
		}
	}
	return list
}
