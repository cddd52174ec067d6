package cli

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"broker/internal/client"
	"broker/internal/fault"
	"broker/internal/profiles"
	"broker/internal/wire"
)

// TestFixTakesNoShellText: --fix runs a program with arguments, and nothing that only a shell would read.
func TestFixTakesNoShellText(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("--fix runs nothing on Windows")
	}
	for _, word := range []string{"/home/paul/.config/broker", "/it's", `/a\'\\b\`, "/a b; touch /x", "$(id)", "-R", "", "a=b"} {
		got, ok := fault.Hintf("chmod go= %s", word).Words()
		if want := []string{"chmod", "go=", word}; !ok || !slices.Equal(got, want) {
			t.Errorf("%q: got %q, %v", word, got, ok)
		}
	}
	for command, want := range map[fault.Hint]bool{
		"chmod 700 /x": true, "chmod go-w '/a b'": true, "chmod u+rwx /x": true, "chmod go= /x": true, "chmod 0711 /x": true,
		"chmod u+rw /x":          true,
		"chmod 700 /x; touch /y": false, "chmod 700 /x && touch /y": false, "chmod 700 $(touch /y)": false,
		"chmod 700 `touch /y`": false, "chmod 700 /x\ntouch /y": false, "chmod 700 /x | sh": false, "chmod 700 /x > /y": false,
		"chmod 700 '/x": false, `chmod 700 /x\`: false, "chmod -R 700 /x": false, "chmod 700 -R": false, "chmod 700 /x /y": false,
		"chmod 777 /x": false, "chmod a+rwx /x": false, "chmod u+s /x": false, "chmod 4711 /x": false, "chmod 700 x": false,
		"chmod /x": false, "sudo chmod 0711 /x": false, "": false,
	} {
		if got := isChmod(command); got != want {
			t.Errorf("isChmod(%q) = %v", command, got)
		}
	}
}

// TestKeysInAWS: --deep reports a second key, and an old key whose day is not in the registry. What it cannot know is
// not called fine.
func TestKeysInAWS(t *testing.T) {
	registry := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(registry, []byte("[settings]\nmax_age = 90d\n[source security]\n"+
		"access_key_id = AKIAIOSFODNN7EXAMPLE\n[source ceph]\naccess_key_id = AKIAIOSFODNN7EXAMPLE\n"+
		"endpoint_url = https://ceph.example\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	two := fault.New(fault.Failed, "the user has two").WithHint("aws iam delete-access-key")
	for _, tt := range []struct {
		answer any
		want   []finding
	}{
		{wire.Response{KeyCreated: time.Now()}, nil},
		{wire.Response{KeyCreated: time.Now().Add(-100 * 24 * time.Hour)}, []finding{{Level: risky,
			Text: `the key of source "security" is 100 days old (max_age = 90d)`, Command: "broker rotate security"}}},
		{wire.Response{Err: two}, []finding{{Level: risky, Text: "the user has two", Command: "aws iam delete-access-key"}}},
		{wire.Response{Err: fault.New(fault.Locked, "locked").WithHint("broker unlock")}, []finding{{Level: fine,
			Text: `the keys in AWS of source "security" are not checked: locked`, Command: "broker unlock"}}},
	} {
		daemon := &scripted{answers: []any{tt.answer}}
		x := &examination{program: new(program), deep: true}
		x.client.Transport = daemon.carry
		var err error
		if x.set, err = new(profiles.Store).Load(profiles.Files{Registry: registry}); err != nil {
			t.Fatal(err)
		}
		if x.settings, err = x.set.Settings(); err != nil {
			t.Fatal(err)
		}
		if got := x.checkKeysInAWS(t.Context()); !slices.Equal(got, tt.want) {
			t.Errorf("got %+v, want %+v", got, tt.want)
		}
		x.deep = false
		if got := x.checkKeysInAWS(t.Context()); got != nil || daemon.verbs() != "rotate security" {
			t.Errorf("without --deep: %+v; asked %s", got, daemon.verbs())
		}
	}
}

// TestFixRunsNoHintOfDaemon: what answers at the socket chooses the hint.
func TestFixRunsNoHintOfDaemon(t *testing.T) {
	x := &examination{program: new(program)}
	x.statusErr = &fault.Error{Kind: fault.Failed, Message: "no", Hint: "chmod 700 /x"}
	for _, f := range x.checkDaemon(context.Background()) {
		if f.safe {
			t.Errorf("--fix would run %q", f.Command)
		}
	}
}

// TestDaemonThatCannotStart: if no daemon runs and its socket cannot be made, doctor does not say that it starts on
// demand.
func TestDaemonThatCannotStart(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		socket string
		of     level
		text   string
	}{{"new/run/broker.sock", fine, "not running; it starts on demand"},
		{"file/run/broker.sock", bad, "the daemon cannot start: "}} {
		x := &examination{program: new(program)}
		x.statusErr, x.paths.State, x.paths.Socket = client.ErrNone, dir, filepath.Join(dir, c.socket)
		got := x.checkDaemon(t.Context())
		if len(got) != 1 || got[0].Level != c.of || !strings.HasPrefix(got[0].Text, c.text) {
			t.Errorf("%s: %+v", c.socket, got)
		}
	}
}
