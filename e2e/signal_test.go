package e2e

import (
	"fmt"
	"maps"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// ending are the signals that tell a program to end.
var ending = map[string]syscall.Signal{
	"SIGHUP": syscall.SIGHUP, "SIGINT": syscall.SIGINT, "SIGQUIT": syscall.SIGQUIT, "SIGTERM": syscall.SIGTERM,
}

// TestSignalAtAQuestion checks that the terminal is restored whichever signal ends a program during a prompt.
func TestSignalAtAQuestion(t *testing.T) {
	t.Parallel()
	h := seedless(t, "")
	for name, row := range map[string]struct {
		argv     []string
		question string
		before   []string // typed at the earlier prompts: prompt, answer, …
	}{
		"credproc": {[]string{"credproc", "product_prod_paul"}, question, nil},
		"login":    {[]string{"broker", "login"}, question, nil},
		"a secret": {[]string{"broker", "add", "other"}, "Secret access key: ", []string{"Access key ID: ", robotKeyID}},
		"the list": {[]string{"broker", "exec", "--", "true"}, "profile>", nil},
	} {
		for called, signal := range ending {
			t.Run(name+"/"+called, func(t *testing.T) {
				s := h.sit(t, row.argv[0], row.argv[1:]...)
				for i := 0; i < len(row.before); i += 2 {
					s.waits(row.before[i])
					s.types(row.before[i+1])
				}
				s.waits(row.question)
				until(t, "the terminal is in the mode of the prompt", func() bool { return s.modes() != s.before })
				must(t, s.cmd.Process.Signal(signal))
				s.ends()
				s.asItWas()
			})
		}
	}
}

// TestSignalAfterTheCode checks that the terminal shows no typed text while a code or a secret is checked. Ctrl-C
// and similar keys end the program in the meantime, and whatever ends it, the terminal is restored.
func TestSignalAfterTheCode(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		argv   []string
		before []string // typed at the earlier prompts: prompt, answer, …
		last   string   // the prompt whose answer is checked
		action string   // the call that checks it
	}{
		"credproc": {[]string{"credproc", "product_prod_paul"}, nil, question, "GetSessionToken"},
		"login":    {[]string{"broker", "login"}, nil, question, "GetSessionToken"},
		"add": {[]string{"broker", "add", "other"}, []string{"Access key ID: ", robotKeyID}, "Secret access key: ",
			"GetCallerIdentity"},
	} {
		ends := map[string]syscall.Signal{"answer": 0}
		maps.Copy(ends, ending)
		for called, signal := range ends {
			t.Run(name+"/"+called, func(t *testing.T) {
				t.Parallel()
				h := seedless(t, "")
				hold := 30
				if signal == 0 {
					hold = 1
				}
				calls := func() int {
					n, err := h.sim.count(row.action)
					must(t, err)
					return n
				}
				earlier := calls()
				must(t, h.sim.fault(fmt.Sprintf(`{"kind":"delay","action":%q,"hold_seconds":%d}`, row.action, hold)))
				s := h.sit(t, row.argv[0], row.argv[1:]...)
				for i := 0; i < len(row.before); i += 2 {
					s.waits(row.before[i])
					s.types(row.before[i+1])
				}
				s.waits(row.last)
				answer := robotSecret
				if row.last == question {
					answer = h.code(t, serial)
				}
				s.types(answer)
				until(t, "AWS is asked", func() bool { return calls() > earlier || isClosed(s.ended) })
				if signal != 0 {
					if s.modes().Lflag&unix.ECHO != 0 {
						t.Error("the terminal shows typed text during the call to AWS")
					}
					must(t, s.cmd.Process.Signal(signal))
				}
				began := time.Now()
				s.ends()
				if waited := time.Since(began); waited > 15*time.Second {
					t.Errorf("the program ended only after %v", waited)
				}
				s.asItWas()
			})
		}
	}
}

// TestStoppedAtASecret checks that a program that was stopped at a prompt for a secret hides it when it continues: a
// shell turns echo on after Ctrl-Z.
func TestStoppedAtASecret(t *testing.T) {
	t.Parallel()
	s := seedless(t, "").sit(t, "broker", "add", "other")
	s.waits("Access key ID: ")
	s.types(robotKeyID)
	s.waits("Secret access key: ")
	hidden := func() bool { return s.modes().Lflag&unix.ECHO == 0 }
	until(t, "the terminal hides what is typed", hidden)
	must(t, s.cmd.Process.Signal(syscall.SIGSTOP))
	raw, err := s.tty.SyscallConn()
	must(t, err)
	must(t, raw.Control(func(fd uintptr) { err = unix.IoctlSetTermios(int(fd), unix.TCSETS, &s.before) }))
	must(t, err)
	if hidden() {
		t.Fatal("the shell did not turn echo on: the test proves nothing")
	}
	must(t, s.cmd.Process.Signal(syscall.SIGCONT))
	until(t, "the terminal hides what is typed after SIGCONT", hidden)
	must(t, s.cmd.Process.Signal(syscall.SIGTERM))
	s.ends()
	s.asItWas()
}
