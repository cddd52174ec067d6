package cli

import (
	"context"
	"runtime"
	"slices"
	"testing"

	"broker/internal/fault"
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
