package e2e

import (
	"strings"
	"testing"
	"time"
)

// TestNotACode: what cannot be a code is not sent; blanks are no fault.
func TestNotACode(t *testing.T) {
	t.Parallel()
	h := seedless(t, "")
	s := h.sit(t, "credproc", "security")
	for _, typed := range []string{"12345", "abcdef"} {
		s.waits(question)
		s.types(typed)
		s.waits("6 digits")
	}
	s.waits(question)
	code := h.code(t, serial)
	s.types(" " + code[:3] + " " + code[3:] + " ")
	s.succeeds()
	h.toldCodes(t, 1)
}

// TestSayingNoToALogin: a login is asked where it is typed. Ctrl-C or an empty line there is the answer for all who wait, wherever they are. Who comes
// right after is told the same without a question; who comes later is asked.
func TestSayingNoToALogin(t *testing.T) {
	t.Parallel()
	for name, keys := range map[string]string{"Ctrl-C": "\x03", "an empty line": "\r", "Ctrl-D": "\x04"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := seedless(t, "")
			first := h.sit(t, "credproc", "product_prod_paul")
			first.waits(question)
			waiting := []*seat{first, h.sit(t, "credproc", "product_prod_paul"), h.sit(t, "credproc", "product_dev_paul")}
			for _, w := range waiting {
				if !w.running(200 * time.Millisecond) {
					t.Errorf("one did not wait: %v", w.ends())
				}
			}
			// The question moves to where somebody types a login, who then says no.
			login := h.sit(t, "broker", "login", "security")
			login.waits(question)
			if r := h.run("broker", "status"); !strings.Contains(r.stdout, "waiting   4 requests for a code of "+serial) {
				t.Errorf("the waiting requests are not shown: %v", r)
			}
			login.keys(keys)
			login.fails("4")
			login.asItWas()
			for _, w := range waiting {
				w.fails("4")
				w.asItWas()
			}
			first.asked(1)
			for _, w := range waiting[1:] {
				w.asked(0)
			}

			atOnce := h.sit(t, "credproc", "product_prod_paul")
			atOnce.fails("4")
			atOnce.asked(0)

			time.Sleep(5100 * time.Millisecond)
			later := h.sit(t, "credproc", "product_prod_paul")
			later.waits(question)
			later.types(h.code(t, serial))
			later.succeeds()
			h.toldCodes(t, 1)
		})
	}
}

// TestMinTTL: two hours are one AssumeRole with a code of its own, which is asked for once.
func TestMinTTL(t *testing.T) {
	t.Parallel()
	h := seedless(t, "")
	must(t, h.write(h.awsConfig(), demoConfig+longConfig))
	h.ok(t, "broker", "login", "security", "--code", h.code(t, serial))
	for range 2 { // the second time it is at hand
		s := h.sit(t, "broker", "exec", "--min-ttl", "2h", "long", "--", "printenv", "AWS_CREDENTIAL_EXPIRATION")
		if len(h.codes(t)) == 1 {
			s.waits(question)
			s.types(h.code(t, serial))
		}
		r := s.ends()
		until, err := time.Parse(time.RFC3339, strings.TrimSpace(r.stdout))
		if r.code != 0 || err != nil || time.Until(until) < 118*time.Minute {
			t.Errorf("%v, %v", err, r)
		}
	}
	h.toldCodes(t, 2)
	if last := h.codes(t)[1]; last.Action != "AssumeRole" || last.Params["DurationSeconds"] != "7200" {
		t.Errorf("the second code went with %s for %s s", last.Action, last.Params["DurationSeconds"])
	}
}
