package version

import (
	"encoding/json"
	"runtime"
	"runtime/debug"
	"testing"
)

// TestVersionOfABuild: a tag is a release; anything else is a development version that names its commit.
func TestVersionOfABuild(t *testing.T) {
	const (
		commit = "fc672e5b07a72f649d072130050819b62ec402d8"
		date   = "2026-11-28T19:12:24Z"
	)
	for module, tt := range map[string]struct {
		commit, date, modified string
		want                   Info
	}{
		"v1.2.3":      {commit, date, "false", Info{Version: "1.2.3", Commit: commit, Date: date}},
		"v1.2.3-rc.1": {commit, date, "false", Info{Version: "1.2.3-rc.1", Commit: commit, Date: date}},
		"v1.2.4":      {"", "", "", Info{Version: "1.2.4"}}, // go install MODULE/cmd/broker@v1.2.4
		"v1.2.3+dirty": {commit, date, "true",
			Info{Version: "devel+fc672e5b07a7.modified", Commit: commit, Date: date, Modified: true}},
		"v0.0.0-20261128191224-fc672e5b07a7": {commit, date, "false",
			Info{Version: "devel+fc672e5b07a7", Commit: commit, Date: date}},
		"v1.2.4-0.20261128191224-fc672e5b07a7+dirty": {commit, date, "true",
			Info{Version: "devel+fc672e5b07a7.modified", Commit: commit, Date: date, Modified: true}},
		"v1.2.3-rc.1.0.20261128191224-fc672e5b07a7": {"", "", "", // go install MODULE/cmd/broker@main
			Info{Version: "devel+fc672e5b07a7", Commit: "fc672e5b07a7", Date: date}},
		"(devel)":                   {"", "", "", Info{Version: "devel"}},
		"":                          {commit, date, "false", Info{Version: "devel+fc672e5b07a7", Commit: commit, Date: date}},
		"v1.2.3-beta-abcdefabcdef":  {"", "", "", Info{Version: "1.2.3-beta-abcdefabcdef"}},
		"v0.0.0-short-fc672e5b07a7": {"", "", "", Info{Version: "0.0.0-short-fc672e5b07a7"}},
	} {
		build := &debug.BuildInfo{GoVersion: "go1.26.8", Main: debug.Module{Version: module}}
		if tt.commit != "" {
			build.Settings = []debug.BuildSetting{{Key: "vcs.revision", Value: tt.commit}, {Key: "vcs.time", Value: tt.date},
				{Key: "vcs.modified", Value: tt.modified}}
		}
		tt.want.Go, tt.want.Platform = "go1.26.8", runtime.GOOS+"/"+runtime.GOARCH
		if got := of(build); got != tt.want {
			t.Errorf("%s: got %+v, want %+v", module, got, tt.want)
		}
	}
}

// TestVersionAsJSON: the names are part of the interface, and what is not known is left out.
func TestVersionAsJSON(t *testing.T) {
	got, err := json.Marshal(Info{Version: "devel", Go: "go1.26.8", Platform: "linux/amd64"})
	if want := `{"version":"devel","go":"go1.26.8","platform":"linux/amd64"}`; err != nil || string(got) != want {
		t.Errorf("got %s, %v, want %s", got, err, want)
	}
}
