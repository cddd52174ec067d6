package main

import (
	_ "embed"
	"path/filepath"
	"strings"

	"broker/internal/cli"
	"broker/internal/version"
)

//go:embed credproc.1
var credprocPage string

//go:embed brokerd.8
var brokerdPage string

// man writes the manual page of each program. Without git the pages have no date.
func man(dir string, info version.Info) error {
	day, _, _ := strings.Cut(info.Date, "T")
	fill := strings.NewReplacer("@DATE@", day, "@VERSION@", info.Version)
	for path, text := range map[string]string{
		"man1/broker.1":   string(cli.ManPage(day, info.Version)),
		"man1/credproc.1": fill.Replace(credprocPage),
		"man8/brokerd.8":  fill.Replace(brokerdPage),
	} {
		if err := write(filepath.Join(dir, path), []byte(text)); err != nil {
			return err
		}
	}
	return nil
}
