package main

import (
	_ "embed"
	"io"
	"strings"

	"broker/internal/version"
)

//go:embed broker.rb
var formulaText string

// formula prints the Homebrew formula. It builds from the source, since the programs of a release have no keychain of
// macOS: that needs cgo, on a Mac. The commit names the source beyond doubt.
func formula(w io.Writer, module string, info version.Info) error {
	if info.Commit == "" {
		return errNoCommit
	}
	fill := strings.NewReplacer("@MODULE@", module, "@VERSION@", info.Version, "@COMMIT@", info.Commit,
		"@DESC@", description)
	_, err := io.WriteString(w, fill.Replace(formulaText))
	return err
}
