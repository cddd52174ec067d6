package e2e

import (
	"syscall"
	"testing"
	"time"
)

// ending are the signals by which a program is told to end.
var ending = map[string]syscall.Signal{
	"SIGHUP": syscall.SIGHUP, "SIGINT": syscall.SIGINT, "SIGQUIT": syscall.SIGQUIT, "SIGTERM": syscall.SIGTERM,
}

// TestSignalAtAQuestion: whatever tells a program to end while it asks, the terminal is left as it was.
func TestSignalAtAQuestion(t *testing.T) {
	t.Parallel()
	h := seedless(t, "")
	for name, row := range map[string]struct {
		argv     []string
		question string
		before   []string // what is typed at the questions before: question, answer, …
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
				until(t, "the terminal is in the mode of the question", func() bool { return s.modes() != s.before })
				must(t, s.cmd.Process.Signal(signal))
				s.ends()
				s.asItWas()
			})
		}
	}
}

// TestSignalAfterTheCode: once the code was typed the terminal is as it was, and Ctrl-C and the like end the program
// while AWS is asked.
func TestSignalAfterTheCode(t *testing.T) {
	t.Parallel()
	for _, argv := range [][]string{{"credproc", "product_prod_paul"}, {"broker", "login"}} {
		for called, signal := range ending {
			t.Run(argv[0]+"/"+called, func(t *testing.T) {
				t.Parallel()
				h := seedless(t, "")
				must(t, h.sim.fault(`{"kind":"delay","action":"GetSessionToken","hold_seconds":30}`))
				s := h.sit(t, argv[0], argv[1:]...)
				s.waits(question)
				s.types(h.code(t, serial))
				until(t, "AWS has the code", func() bool { return len(h.codes(t)) == 1 })
				until(t, "the terminal is as it was", func() bool { return s.modes() == s.before })
				began := time.Now()
				must(t, s.cmd.Process.Signal(signal))
				s.ends()
				if waited := time.Since(began); waited > 15*time.Second {
					t.Errorf("it ended after %v", waited)
				}
				s.asItWas()
			})
		}
	}
}
