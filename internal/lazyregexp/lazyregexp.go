// Package lazyregexp provides regular expressions that are compiled on first use. Every start pays for a
// package-level regexp.MustCompile, and Broker starts often: as a command in a shell prompt, and as the vault
// process. A house test compiles all patterns, so a bad one does not go unnoticed.
package lazyregexp

import (
	"regexp"
	"sync"
)

// Regexp is a lazily compiled pattern; see package regexp.
type Regexp struct {
	pattern string
	once    sync.Once
	regexp  *regexp.Regexp
}

// New returns a Regexp for a pattern. An invalid pattern panics on first use. The compiler initializes a package
// variable that New sets, so it costs nothing when a program starts.
func New(pattern string) *Regexp { return &Regexp{pattern: pattern} }

func (r *Regexp) compiled() *regexp.Regexp {
	r.once.Do(func() { r.regexp = regexp.MustCompile(r.pattern) })
	return r.regexp
}

// MatchString is regexp.Regexp.MatchString.
func (r *Regexp) MatchString(s string) bool { return r.compiled().MatchString(s) }

// FindStringSubmatch is regexp.Regexp.FindStringSubmatch.
func (r *Regexp) FindStringSubmatch(s string) []string { return r.compiled().FindStringSubmatch(s) }

// FindAllStringSubmatch is regexp.Regexp.FindAllStringSubmatch, without a limit.
func (r *Regexp) FindAllStringSubmatch(s string) [][]string {
	return r.compiled().FindAllStringSubmatch(s, -1)
}

// ReplaceAllString is regexp.Regexp.ReplaceAllString.
func (r *Regexp) ReplaceAllString(s, with string) string {
	return r.compiled().ReplaceAllString(s, with)
}

// ReplaceAllStringFunc is regexp.Regexp.ReplaceAllStringFunc.
func (r *Regexp) ReplaceAllStringFunc(s string, with func(string) string) string {
	return r.compiled().ReplaceAllStringFunc(s, with)
}
