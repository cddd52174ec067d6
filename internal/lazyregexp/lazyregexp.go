// Package lazyregexp owns regular expressions that are compiled when they are first
// used. A package-level regexp.MustCompile is paid for at every start, and broker starts often: as a command
// at a prompt, and as the vault process. It refuses to hide a bad pattern: Test runs over all of them.
package lazyregexp

import (
	"regexp"
	"sync"
)

// Regexp is a pattern; see package regexp.
type Regexp struct{ compiled func() *regexp.Regexp }

// New takes a pattern, which has to be a good one: the first use panics on a bad one.
func New(pattern string) *Regexp {
	return &Regexp{sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(pattern) })}
}

// MatchString is that of regexp.Regexp.
func (r *Regexp) MatchString(s string) bool { return r.compiled().MatchString(s) }

// FindStringSubmatch is that of regexp.Regexp.
func (r *Regexp) FindStringSubmatch(s string) []string { return r.compiled().FindStringSubmatch(s) }

// ReplaceAllString is that of regexp.Regexp.
func (r *Regexp) ReplaceAllString(s, with string) string {
	return r.compiled().ReplaceAllString(s, with)
}
