package profiles

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"broker/internal/fault"
)

// maxCandidates bounds how many names an ambiguous one is answered with.
const maxCandidates = 10

// Find returns the profile or source that a person means: the exact name, else
// an alias, else the only name that has short as a whole word between its
// separators (so that "prod" is product_prod_paul, though every name of the
// product has it), else the only name that has it anywhere. Profiles that the
// broker does not serve are considered only where no other matches. Programs use
// Resolve, which does not guess.
//
// Errors: fault.NotFound if nothing or more than one thing is meant,
// fault.Usage for what cannot be a name.
func (s *Set) Find(short string) (string, error) {
	if err := checkName(short); err != nil {
		return "", err
	}
	if _, ok := s.known[short]; ok {
		return short, nil
	}
	if a, ok := s.aliases[short]; ok {
		return a.target, nil
	}
	var words, served, other []string
	for _, name := range s.names {
		if !strings.Contains(name, short) {
			continue
		}
		if p, _ := s.lookup(name); s.kindOf(p) == KindOther {
			other = append(other, name)
			continue
		}
		served = append(served, name)
		if hasWord(name, short) {
			words = append(words, name)
		}
	}
	found := other
	if len(served) > 0 {
		found = served
	}
	if len(words) > 0 {
		found = words
	}
	switch {
	case len(found) == 0:
		return "", s.notFound(short)
	case len(found) == 1:
		return found[0], nil
	}
	more := ""
	if n := len(found) - maxCandidates; n > 0 {
		found, more = found[:maxCandidates], fmt.Sprintf(" and %d more", n)
	}
	return "", fault.New(fault.NotFound, "%q could be %s%s", short, strings.Join(found, ", "), more).
		WithHint("broker profiles list")
}

// hasWord reports whether name has word between separators, or between one and an end.
func hasWord(name, word string) bool {
	const separators = "_-./:@ "
	return strings.Contains(boundaries(name, separators), boundaries(word, separators))
}

// boundaries is s with every separator, and both ends, written alike.
func boundaries(s, separators string) string {
	return "\x00" + strings.Map(func(r rune) rune {
		if strings.ContainsRune(separators, r) {
			return 0
		}
		return r
	}, s) + "\x00"
}

// Aliases returns the aliases of a profile or source, sorted.
func (s *Set) Aliases(name string) []string {
	var names []string
	for short, a := range s.aliases {
		if a.target == name {
			names = append(names, short)
		}
	}
	slices.Sort(names)
	return names
}

// near returns up to n names that differ from name by little, the nearest first.
func (s *Set) near(name string, n int) []string {
	limit := min(3, 1+utf8.RuneCountInString(name)/3)
	type candidate struct {
		name     string
		distance int
	}
	var found []candidate
	for _, other := range s.names {
		if d := distance(name, other, limit); d <= limit {
			found = append(found, candidate{other, d})
		}
	}
	slices.SortStableFunc(found, func(a, b candidate) int { return cmp.Compare(a.distance, b.distance) })
	var names []string
	for _, c := range found[:min(n, len(found))] {
		names = append(names, c.name)
	}
	return names
}

// distance is the number of bytes to insert, delete or replace between a and b
// (Levenshtein), or limit+1 if it is more than limit.
func distance(a, b string, limit int) int {
	if len(a)-len(b) > limit || len(b)-len(a) > limit {
		return limit + 1
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal, least := row[0], i+1
		row[0] = i + 1
		for j := range len(b) {
			d := diagonal
			if a[i] != b[j] {
				d = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], d
			least = min(least, d)
		}
		if least > limit {
			return limit + 1
		}
	}
	return row[len(b)]
}
