package main

import (
	_ "embed"
	"io"
	"strings"

	"broker/internal/version"
)

//go:embed broker.rb
var formulaText string

// formula prints the Homebrew formula. The formula builds from source, since the programs of a release lack
// support for the macOS keychain, which needs cgo on a Mac. It names the commit, so that the source is
// unambiguous.
func formula(w io.Writer, module string, info version.Info) error {
	if info.Commit == "" {
		return errNoCommit
	}
	fill := strings.NewReplacer("@MODULE@", module, "@VERSION@", info.Version, "@COMMIT@", info.Commit,
		"@DESC@", description)
	_, err := io.WriteString(w, fill.Replace(formulaText))
	return err
}
