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

// TestSayingNoToALogin: Ctrl-C or an empty line at one terminal is the answer for all who wait, wherever they are. Who comes
// right after is told the same without a question; who comes later is asked.
func TestSayingNoToALogin(t *testing.T) {
	for name, keys := range map[string]string{"Ctrl-C": "\x03", "an empty line": "\r", "Ctrl-D": "\x04"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := seedless(t, "")
			asked := h.sit(t, "credproc", "product_prod_paul")
			asked.waits(question)
			waiting := []*seat{h.sit(t, "credproc", "product_prod_paul"), h.sit(t, "credproc", "product_dev_paul"), h.sit(t, "broker", "login", "security")}
			for _, w := range waiting {
				if !w.running(200 * time.Millisecond) {
					t.Errorf("one did not wait: %v", w.ends())
				}
			}
			asked.keys(keys)
			asked.fails("4")
			asked.asked(1)
			asked.asItWas()
			// login was told to ask by a person, who then may be asked; the tools may not.
			for _, w := range waiting[:2] {
				w.fails("4")
				w.asked(0)
			}
			if strings.Contains(waiting[2].shown(), question) {
				waiting[2].keys("\r")
			}
			waiting[2].fails("4")

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

// TestMinTTL: credentials that have to last longer than a chained role may are one AssumeRole with a code; where no
// plan can last that long, the reason is told and no code is asked for.
func TestMinTTL(t *testing.T) {
	t.Parallel()
	h := seedless(t, "")
	must(t, h.write(h.awsConfig(), demoConfig+longConfig))
	h.ok(t, "broker", "login", "security", "--code", h.code(t, serial))
	s := h.sit(t, "broker", "exec", "--min-ttl", "2h", "long", "--", "printenv", "AWS_CREDENTIAL_EXPIRATION")
	s.waits(question)
	s.types(h.code(t, serial))
	r := s.ends()
	until, err := time.Parse(time.RFC3339, strings.TrimSpace(r.stdout))
	if r.code != 0 || err != nil || time.Until(until) < 115*time.Minute {
		t.Errorf("%v, %v", err, r)
	}
	h.toldCodes(t, 2)
	if last := h.codes(t)[1]; last.Action != "AssumeRole" || last.Params["DurationSeconds"] != "7200" {
		t.Errorf("the second code went with %s for %s s", last.Action, last.Params["DurationSeconds"])
	}
	s = h.sit(t, "broker", "exec", "--min-ttl", "2h", "release", "--", "true")
	if said := s.fails("1"); !strings.Contains(said, "a role that is assumed from a role lives for 1h0m0s at most") {
		t.Errorf("the reason is not told: %q", said)
	}
	s.asked(0)
	h.toldCodes(t, 2)
}
