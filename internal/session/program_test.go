package session

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestProgramsAreBounded: a caller chooses its name, so many names must not open many sessions.
func TestProgramsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, attributed)
		w.aws.take(0)
		ask := func(program string) Call {
			t.Helper()
			a, err := w.Credentials(t.Context(), Request{Profile: "tagged", Files: w.files, Program: by(program)})
			if err != nil {
				t.Fatal(err)
			}
			return w.aws.askedWith(a)
		}
		for i := range 1000 {
			ask(fmt.Sprint("p", i))
		}
		_, roles := w.aws.calls()
		if held := len(w.Held()); roles > maxPrograms+1 || held > maxPrograms+2 {
			t.Errorf("1000 programs made %d calls, and %d sessions are held", roles, held)
		}
		if call := ask("late"); call.SessionName != otherProgram+".paul" || call.Tags[1].Value != otherProgram {
			t.Errorf("beyond the limit: %+v", call)
		}
		if call := ask("p3"); call.SessionName != "p3.paul" {
			t.Errorf("a known program: %+v", call)
		}
		time.Sleep(longestRole + time.Hour)
		if call := ask("late"); call.SessionName != "late.paul" {
			t.Errorf("after the sessions of the others ended: %+v", call)
		}
	})
}

// TestProgramsThatLookAlike: names that AWS gets in the same form are one program.
func TestProgramsThatLookAlike(t *testing.T) {
	var p programs
	for i := range 100 {
		p.admit("x", strings.Repeat("y", longestProgram+i), 0)
		p.admit("x", "a"+strings.Repeat("@", 1+i), 0)
	}
	if n := len(p.seen["x"]); n != 2 {
		t.Errorf("%d programs, want 2", n)
	}
}
