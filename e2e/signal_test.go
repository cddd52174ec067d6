package e2e

import (
	"fmt"
	"maps"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
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

// TestSignalAfterTheCode: while a code or a secret is checked the terminal shows nothing of what is typed. Ctrl-C and the
// like end the program meanwhile, and whatever ends it, the terminal is as it was.
func TestSignalAfterTheCode(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		argv   []string
		before []string // what is typed at the questions before: question, answer, …
		last   string   // the question whose answer is checked
		action string   // by this call
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
						t.Error("the terminal shows what is typed while AWS is asked")
					}
					must(t, s.cmd.Process.Signal(signal))
				}
				began := time.Now()
				s.ends()
				if waited := time.Since(began); waited > 15*time.Second {
					t.Errorf("it ended after %v", waited)
				}
				s.asItWas()
			})
		}
	}
}
