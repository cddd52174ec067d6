// Package version tells which version of Broker a program is. It reads what the Go toolchain wrote into the program, so
// a tag is the only place that has the number.
package version

import (
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
)

// release is the version without its "v". It is for builds that have no git, such as those from an archive of the
// source: -ldflags "-X MODULE/internal/version.release=1.2.3".
var release string

// Info is what `broker version --json` prints. Commit and Date are empty if the program was built without git.
type Info struct {
	Version  string `json:"version"`            // "1.2.3", or "devel+abc123def456" if the commit has no tag
	Commit   string `json:"commit,omitempty"`   // in full; 12 digits if `go install` fetched the module
	Date     string `json:"date,omitempty"`     // of the commit, in UTC: "2026-11-28T19:12:24Z"
	Modified bool   `json:"modified,omitempty"` // there were changes that are not in the commit
	Go       string `json:"go"`                 // "go1.26.8"
	Platform string `json:"platform"`           // "linux/amd64"
}

// Get returns the version of this program.
var Get = sync.OnceValue(func() Info {
	build, ok := debug.ReadBuildInfo()
	if !ok {
		build = &debug.BuildInfo{GoVersion: runtime.Version()}
	}
	info := of(build)
	if release != "" {
		info.Version = release
	}
	return info
})

// String is the version of this program, such as "1.2.3" or "devel+abc123def456".
func String() string { return Get().Version }

// of reads the version from what the Go toolchain knows of a build.
func of(build *debug.BuildInfo) Info {
	info := Info{Go: build.GoVersion, Platform: runtime.GOOS + "/" + runtime.GOARCH}
	for _, s := range build.Settings {
		switch s.Key {
		case "vcs.revision":
			info.Commit = s.Value
		case "vcs.time":
			info.Date = s.Value
		case "vcs.modified":
			info.Modified = s.Value == "true"
		}
	}
	// "v1.2.3", "v1.2.3-rc.1", "(devel)", or a pseudo-version of https://go.dev/ref/mod#pseudo-versions, which ends in
	// time and commit. A "+" says that the commit was changed.
	tag, tagged := strings.CutPrefix(build.Main.Version, "v")
	at := strings.LastIndexByte(tag, '-')
	if commit := tag[at+1:]; at > stampDigits && len(commit) == commitDigits && isStamp(tag[at-stampDigits:at]) {
		tagged = false
		if info.Commit == "" {
			s := tag[at-stampDigits : at]
			info.Commit = commit
			info.Date = s[:4] + "-" + s[4:6] + "-" + s[6:8] + "T" + s[8:10] + ":" + s[10:12] + ":" + s[12:] + "Z"
		}
	}
	switch {
	case tagged && !strings.Contains(tag, "+"):
		info.Version = tag
	case info.Commit == "":
		info.Version = "devel"
	default:
		info.Version = "devel+" + info.Commit[:min(len(info.Commit), commitDigits)]
		if info.Modified {
			info.Version += ".modified"
		}
	}
	return info
}

// Widths of the parts of a pseudo-version.
const (
	stampDigits  = 14 // "20261128191224"
	commitDigits = 12
)

func isStamp(s string) bool {
	return strings.Trim(s, "0123456789") == ""
}
