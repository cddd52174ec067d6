// Package version holds the version text, nothing else.
package version

// number is raised with each release, together with CHANGELOG.md.
const number = "0.1.0"

// revision is set by the Makefile from git.
var revision string

// String returns "0.1.0", or "0.1.0+abc1234" if the build knows its commit.
func String() string {
	if revision == "" {
		return number
	}
	return number + "+" + revision
}
