package profiles

import (
	"cmp"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"broker/internal/fault"
)

// maxCandidates is the largest number of names that the error for an ambiguous name lists.
const maxCandidates = 10

// Find returns the profile or source that a person means by short. It tries, in this order: the exact name, an
// alias, the only name that contains short as a whole word between separators (so "prod" finds product_prod_paul
// even if every name starts with "product"), and the only name that contains it anywhere. It considers profiles
// that Broker does not serve only if no other name matches. For a typing error it lists similar names and never
// guesses. Programs use Resolve, which takes only exact names and aliases.
//
// Errors: fault.NotFound if no name or more than one matches, or if an alias points to a missing name; fault.Usage
// if short cannot be a name.
func (s *Set) Find(short string) (string, error) { return s.find(short) }

// find is Find. Similar names are also looked for in more.
func (s *Set) find(short string, more ...string) (string, error) {
	if err := checkName(short); err != nil {
		return "", err
	}
	if name, ok, err := s.exact(short); ok || err != nil {
		return name, err
	}
	var served, other []string
	for _, name := range s.names {
		if !strings.Contains(name, short) {
			continue
		}
		if p, _ := s.lookup(name); s.kindOf(p) == KindOther {
			other = append(other, name)
		} else {
			served = append(served, name)
		}
	}
	switch {
	case len(served) > 0:
		return s.only(short, served)
	case len(other) > 0:
		return s.only(short, other)
	}
	return "", s.notFound(short, more...)
}

// FindSource returns the source that a person means, by the rules of Find among the sources only: the exact name,
// an alias, or the only source that has short as a word or a part of its name. It does not find a source whose
// section is invalid. The errors are those of Find.
func (s *Set) FindSource(short string) (Source, error) {
	if err := checkName(short); err != nil {
		return Source{}, err
	}
	name, _, _ := s.exact(short)
	if src, ok := s.Source(name); ok {
		return src, nil
	}
	var names []string
	for _, src := range s.Sources() {
		if strings.Contains(src.Name, short) {
			names = append(names, src.Name)
		}
	}
	if name == short || len(names) == 0 {
		chain, err := s.Resolve(name)
		if err == nil && chain.Source.Kind != IAMUser {
			return Source{}, fault.New(fault.NotFound, "%q has no long-lived key: its source is not an IAM user", short).
				WithHint("broker explain %s", short)
		}
		if err == nil {
			return Source{}, fault.New(fault.NotFound, "there is no source %q; the profile of that name uses the source %q",
				short, chain.Source.Name).WithHint("broker explain %s", short)
		}
		return Source{}, fault.New(fault.NotFound, "there is no source %q%s", short,
			didYouMean(Nearest(short, maps.Keys(s.sources), 3))).WithHint("broker profiles list")
	}
	name, err := s.only(short, names)
	src, _ := s.Source(name)
	return src, err
}

// exact returns the profile or source with this name or alias.
func (s *Set) exact(name string) (string, bool, error) {
	if _, ok := s.known[name]; ok {
		return name, true, nil
	}
	a, ok := s.aliases[name]
	if !ok {
		return "", false, nil
	}
	if _, ok := s.known[a.target]; !ok {
		return "", false, fault.New(fault.NotFound, "%s: alias %q stands for %q, which is neither a profile nor a source", a.origin, name, a.target).
			WithHint("broker profiles alias %s --remove", name)
	}
	return a.target, true, nil
}

// only chooses among the names that contain short, at least one: the only one that has it as a word, or else the only
// one.
func (s *Set) only(short string, names []string) (string, error) {
	var words []string
	for _, name := range names {
		if hasWord(name, short) {
			words = append(words, name)
		}
	}
	if len(words) > 0 {
		names = words
	}
	if len(names) == 1 {
		return names[0], nil
	}
	more := ""
	if n := len(names) - maxCandidates; n > 0 {
		names, more = names[:maxCandidates], fmt.Sprintf(" and %d more", n)
	}
	return "", fault.New(fault.NotFound, "%q could be %s%s", short, strings.Join(names, ", "), more).
		WithHint("broker profiles list")
}

// hasWord reports whether name has word between separators or at either end.
func hasWord(name, word string) bool {
	return strings.Contains(boundaries(name), boundaries(word))
}

// isSeparator reports whether a character separates the words of a name.
func isSeparator(r rune) bool { return strings.ContainsRune("_-./:@ ", r) }

// boundaries returns s with a NUL for every separator and at both ends.
func boundaries(s string) string {
	return "\x00" + strings.Map(func(r rune) rune {
		if isSeparator(r) {
			return 0
		}
		return r
	}, s) + "\x00"
}

// An Alias is a short name for a profile or source.
type Alias struct {
	Name    string
	Target  string
	Origin  Origin
	Problem string // why it does not work, or empty
}

// Aliases returns all aliases, sorted by name. It omits an alias that has the name of a profile or source, since
// that alias is never used.
func (s *Set) Aliases() []Alias {
	list := make([]Alias, 0, len(s.aliases))
	for name, a := range s.aliases {
		entry := Alias{Name: name, Target: a.target, Origin: a.origin}
		if _, _, err := s.exact(name); err != nil {
			entry.Problem = err.Error()
		}
		list = append(list, entry)
	}
	slices.SortFunc(list, func(a, b Alias) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// CheckAlias checks whether a name may become an alias. It must not be the name of a profile or source, which
// would always win. The error is a fault.Usage.
func (s *Set) CheckAlias(short string) error {
	if err := checkName(short); err != nil {
		return err
	}
	_, known := s.known[short]
	switch {
	case known:
		return fault.New(fault.Usage, "%q is the name of a profile or source, which an alias cannot have", short).
			WithHint("broker profiles show %s", short)
	case short == "default":
		return fault.New(fault.Usage,
			"default is the profile that AWS tools use if none is given, and cannot be an alias")
	case strings.HasPrefix(short, "-"):
		return fault.New(fault.Usage, "%q would be read as a flag", short)
	}
	return checkKeyValue(KeyValue{short, "x"})
}

// near returns up to n names and aliases, or words of more, that are similar to name, the nearest first.
func (s *Set) near(name string, n int, more ...string) []string {
	words := slices.Concat(s.names, more)
	return Nearest(name, slices.Values(slices.AppendSeq(words, maps.Keys(s.aliases))), n)
}

// Nearest returns up to n words that are similar to name as a whole or in one of their parts, the nearest first.
func Nearest(name string, words iter.Seq[string], n int) []string {
	limit := min(3, 1+utf8.RuneCountInString(name)/3)
	partLimit := min(2, utf8.RuneCountInString(name)/3)
	folded := strings.ToLower(name)
	type candidate struct {
		name     string
		distance int
	}
	var found []candidate
	for other := range words {
		lower := strings.ToLower(other)
		if d := distance(folded, lower, limit); d <= limit {
			found = append(found, candidate{other, d})
			continue
		}
		for _, part := range strings.FieldsFunc(lower, isSeparator) {
			if d := distance(folded, part, partLimit); d <= partLimit {
				found = append(found, candidate{other, limit + d})
				break
			}
		}
	}
	slices.SortFunc(found, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.distance, b.distance), strings.Compare(a.name, b.name))
	})
	var names []string
	for _, c := range found[:min(n, len(found))] {
		names = append(names, c.name)
	}
	return names
}

// didYouMean ends a message about an unknown name with the similar ones, if there are any.
func didYouMean(near []string) string {
	if len(near) == 0 {
		return ""
	}
	return "; did you mean " + orList(near) + "?"
}

// orList joins words as "a" or "b" or "c".
func orList(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = strconv.Quote(w)
	}
	return strings.Join(quoted, " or ")
}

// distance returns the number of bytes to insert, delete, replace or swap with the next one to turn a into b
// (optimal string alignment), or limit+1 if it is more than limit.
func distance(a, b string, limit int) int {
	if len(a)-len(b) > limit || len(b)-len(a) > limit {
		return limit + 1
	}
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before, last, row = last, row, before
		row[0] = i + 1
		least := row[0]
		for j := range len(b) {
			d := last[j]
			if a[i] != b[j] {
				d = 1 + min(last[j], last[j+1], row[j])
				if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
					d = min(d, 1+before[j-1])
				}
			}
			row[j+1] = d
			least = min(least, d)
		}
		if least > limit {
			return limit + 1
		}
	}
	return row[len(b)]
}
