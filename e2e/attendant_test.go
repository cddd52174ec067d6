package e2e

import (
	"bufio"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// open is a house whose profile prod asks for each session, and whose daemon runs.
func open(t *testing.T) *house {
	t.Helper()
	h := guarded(t)
	h.ok(t, "credproc", "product_prod_paul")
	return h
}

// attendants returns the processes that show prompts of doors in a house.
func (h *house) attendants() (list []process) {
	for _, p := range h.processes() {
		if strings.Contains(p.line, "--attend") {
			list = append(list, p)
		}
	}
	return list
}

// left waits until no attendant is left.
func (h *house) left(t *testing.T) {
	t.Helper()
	until(t, "no attendant is left", func() bool { return len(h.attendants()) == 0 })
}

// TestPromptOfADoor checks that what needs a person is asked at the terminal of the command, through its attendant, and
// never over the door: stdin, stdout and stderr of the program that asks are elsewhere. The command has no child that
// it did not start, and the attendant ends with it.
func TestPromptOfADoor(t *testing.T) {
	t.Parallel()
	h := open(t)
	s := h.shell(t, "broker", "exec", "--only", "prod", "--", "sh", "-c", `read -r kids </proc/$$/task/$$/children
		echo "children: [$kids]"
		setsid -w credproc prod </dev/null >out 2>err; echo "code $?"
		credproc prod </dev/null >out2 2>err2; echo "code $?"`)
	s.waits(confirmation) // for the door
	s.types("y")
	s.waits("children: []")
	if len(h.attendants()) != 1 {
		t.Errorf("attendants: %v", h.attendants())
	}
	s.waits(confirmation)
	s.types("y")
	s.waits("code 0")
	s.waits(confirmation)
	s.types("n")
	s.waits("code 8")
	s.ends()
	s.asItWas()
	out, err := os.ReadFile(filepath.Join(h.dir, "out"))
	must(t, err)
	if _, err := parseDocument(string(out)); err != nil {
		t.Error(err)
	}
	h.left(t)
}

// TestAttendantRestoresFirst checks that an attendant restores the terminal before it sends an answer. The
// command may end as soon as the answer arrives, and the shell would then find the modes of the prompt.
func TestAttendantRestoresFirst(t *testing.T) {
	t.Parallel()
	h := open(t)
	s := h.shell(t, "broker", "exec", "--only", "prod", "--", "sh", "-c",
		`credproc prod </dev/null >out 2>err; echo "code $?"`)
	s.waits(confirmation) // for the door
	s.types("y")
	s.waits(confirmation)
	resume := suspend(t, h.daemonPID(t))
	s.types("n")
	until(t, "the terminal has its modes back", func() bool { return s.modes() == s.before })
	resume()
	s.waits("code 8")
	s.ends()
	s.asItWas()
	h.left(t)
}

// TestAttendantOutlivesNoCommand checks that an attendant whose command ends at an open prompt restores the terminal
// and ends, also if the daemon does not answer.
func TestAttendantOutlivesNoCommand(t *testing.T) {
	t.Parallel()
	h := open(t)
	s := h.shell(t, "sh", "-c", `broker exec --only prod -- sh -c '
			setsid credproc prod </dev/null >out 2>err & until test -e go; do sleep 0.02; done'
		echo "command ended"; until test -e end; do sleep 0.02; done`)
	s.waits(confirmation) // for the door
	s.types("y")
	s.waits(confirmation)
	resume := suspend(t, h.daemonPID(t))
	must(t, os.WriteFile(filepath.Join(h.dir, "go"), nil, 0o600))
	s.waits("command ended")
	until(t, "the terminal has its modes back", func() bool { return s.modes() == s.before })
	h.left(t)
	resume()
	must(t, os.WriteFile(filepath.Join(h.dir, "end"), nil, 0o600))
	s.ends()
	s.asItWas()
}

// TestAttendantIsSilent checks that an attendant without a prompt writes nothing to the terminal.
func TestAttendantIsSilent(t *testing.T) {
	t.Parallel()
	h := open(t)
	s := h.shell(t, "broker", "exec", "--only", "product_dev_paul", "--", "sh", "-c", "sleep 0.5; echo done")
	s.waits("done")
	s.ends()
	if got := strings.TrimRight(s.shown(), "\r\n"); got != "done" {
		t.Errorf("shown: %q", got)
	}
	h.left(t)
}

// TestCtrlCBesideADoor checks that Ctrl-C for the command does not end its attendant, and that Ctrl-C at a prompt
// refuses the request.
func TestCtrlCBesideADoor(t *testing.T) {
	t.Parallel()
	h := open(t)
	s := h.shell(t, "broker", "exec", "--only", "prod", "--", "sh", "-c", `trap 'echo caught' INT
		echo ready; until test -e go; do sleep 0.05; done
		for i in 1 2; do setsid -w credproc prod </dev/null >out 2>err; echo "code $?"; done
		until test -e end; do sleep 0.05; done`)
	s.waits(confirmation)
	s.types("y")
	s.waits("ready")
	s.keys("\x03")
	s.waits("caught")
	must(t, os.WriteFile(filepath.Join(h.dir, "go"), nil, 0o600))
	s.waits(confirmation)
	s.types("y")
	s.waits("code 0")
	s.waits(confirmation)
	s.keys("\x03")
	s.waits("code 8")
	if len(h.attendants()) != 1 {
		t.Errorf("attendants: %v", h.attendants())
	}
	s.asItWas()
	must(t, os.WriteFile(filepath.Join(h.dir, "end"), nil, 0o600))
	s.ends()
	s.asItWas()
	h.left(t)
}

// TestPipesBesideADoor checks that an attendant keeps no file of its command open: who reads them sees the end while
// the command still runs.
func TestPipesBesideADoor(t *testing.T) {
	t.Parallel()
	h := open(t)
	s := h.shell(t, "bash", "-c", `broker exec --only product_prod_paul -- sh -c '
			exec </dev/null >/dev/null 2>&1 3>&-; until test -e go; do sleep 0.05; done' 2>&1 3>&1 | (cat; touch go)
		echo "exit ${PIPESTATUS[0]}"`)
	s.waits("exit 0")
	s.ends()
	s.asItWas()
	h.left(t)
}

// TestAttendantAfterARestart checks that an attendant finds the next daemon.
func TestAttendantAfterARestart(t *testing.T) {
	t.Parallel()
	h := open(t)
	s := h.shell(t, "broker", "exec", "--only", "prod", "--", "sh", "-c", `echo ready; until test -e go; do sleep 0.05; done
		until credproc prod </dev/null >out 2>err; do sleep 0.2; done; echo got it`)
	s.waits(confirmation)
	s.types("y")
	s.waits("ready")
	before := h.daemonPID(t)
	h.ok(t, "brokerd", "--background", "--replace")
	if h.daemonPID(t) == before {
		t.Fatal("the daemon was not replaced: the test is void")
	}
	must(t, os.WriteFile(filepath.Join(h.dir, "go"), nil, 0o600))
	s.waits(confirmation)
	s.types("y")
	s.waits("got it")
	s.ends()
	h.left(t)
}

// TestAttendantOfAKilledCommand checks that an attendant ends with its command, also while no daemon runs.
func TestAttendantOfAKilledCommand(t *testing.T) {
	t.Parallel()
	h := open(t)
	s := h.shell(t, "broker", "exec", "--only", "product_prod_paul", "--", "sh", "-c", "echo ready; exec sleep 600")
	s.waits("ready")
	must(t, h.stopDaemon())
	if len(h.attendants()) != 1 {
		t.Errorf("attendants: %v", h.attendants())
	}
	must(t, s.cmd.Process.Kill())
	s.ends()
	h.left(t)
}

// TestCodeForADoor checks that a code is asked before a command with a door starts, and that without a terminal the
// command does not start.
func TestCodeForADoor(t *testing.T) {
	t.Parallel()
	h := seedless(t, "")
	for _, option := range []string{"--only", "--door"} {
		r := h.run("broker", "exec", option, "product_prod_paul", "--", "touch", "started")
		if err := checkFailure(r, "4", "broker", nil); err != nil || !strings.HasSuffix(r.stderr, loginHint) {
			t.Errorf("%s: %v: %v", option, err, r)
		}
	}
	if isFile(filepath.Join(h.dir, "started")) {
		t.Error("the command was started")
	}
	s := h.shell(t, "broker", "exec", "--only", "product_prod_paul", "--", "sh", "-c", "credproc product_prod_paul >out; echo ended")
	s.waits(question)
	s.types(h.code(t, serial))
	s.waits("ended")
	s.ends()
	s.asked(1)
	s.asItWas()
	h.toldCodes(t, 1)
	h.left(t)
}

// TestDoorAsksForNoPassphrase checks that a door, which may lie, cannot make a command ask a person for the passphrase
// of the keyring. Seen to fail: the prompt appeared, and the passphrase was checked against the keyring.
func TestDoorAsksForNoPassphrase(t *testing.T) {
	t.Parallel()
	h := demo(t)
	dir := filepath.Join(h.dir, "door")
	must(t, os.Mkdir(dir, 0o700))
	l, err := net.Listen("unix", filepath.Join(dir, "socket"))
	must(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go answerAll(l, func(conn net.Conn) {
		_, _ = bufio.NewReader(conn).ReadString('\n')
		_, _ = conn.Write([]byte(`{"v":1,"error":{"kind":"keyring_locked","message":"the keyring is locked"}}` + "\n"))
		_ = conn.Close()
	})
	s := &seat{t: t, cmd: h.command("broker", "export", "product_prod_paul")}
	s.cmd.Env = append(slices.Clone(s.cmd.Env), "BROKER_DOOR="+dir, "BROKER_KEYRING_PASSPHRASE_FILE=")
	s.start()
	if s.shows("Passphrase") {
		t.Error("a passphrase was asked for")
		s.keys("\x03")
	}
	if r := s.ends(); r.code != 7 || !strings.Contains(s.shown()+r.stderr, "the keyring is locked") {
		t.Errorf("%v\n%s", r, s.shown())
	}
	s.asItWas()
}
