package profiles

import (
	"cmp"
	"slices"
)

// Redirects lists the registry's settings for endpoints, programs to run and trusted certificates, in the order of
// their lines. It does not list roles and sources.
func (s *Set) Redirects() []Warning {
	var list []Warning
	for id, b := range s.states[registryFile].table.blocks {
		for _, set := range b.settings {
			if !slices.ContainsFunc(Rules, func(r Rule) bool {
				return r.Name == set.key && (r.In[InDefault] != Taken || r.Name == keyCABundle)
			}) {
				continue
			}
			text := set.key + " = " + set.value
			if id.kind != SectionSettings {
				text = id.kind + " " + id.name + ": " + text
			}
			list = append(list, Warning{Origin: Origin{b.origin.File, set.line}, Text: text})
		}
	}
	slices.SortFunc(list, func(a, b Warning) int { return cmp.Compare(a.Origin.Line, b.Origin.Line) })
	return list
}
