package e2e

import (
	"strings"
	"testing"
	"time"
)

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
			if keys == "\x03" {
				login.fails("130")
			} else {
				login.fails("4")
			}
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

			later := h.sit(t, "credproc", "product_prod_paul")
			until(t, "a person is asked again", func() bool {
				if later.shows(question) {
					return true
				}
				later.fails("4")
				time.Sleep(100 * time.Millisecond) // between two tries
				later = h.sit(t, "credproc", "product_prod_paul")
				return false
			})
			later.types(h.code(t, serial))
			later.succeeds()
			h.toldCodes(t, 1)
		})
	}
}

// TestSayingNo: Ctrl-C or an empty line at one terminal is the answer for all who wait, wherever they are. Who comes
// right after is told the same without a question; who comes later is asked.
func TestSayingNo(t *testing.T) {
	t.Parallel()
	for name, keys := range map[string]string{"Ctrl-C": "\x03", "an empty line": "\r", "Ctrl-D": "\x04"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := seedless(t, "")
			asked := h.sit(t, "credproc", "product_prod_paul")
			asked.waits(question)
			waiting := []*seat{h.sit(t, "credproc", "product_prod_paul"), h.sit(t, "credproc", "product_dev_paul")}
			for _, w := range waiting {
				if !w.running(200 * time.Millisecond) {
					t.Errorf("one did not wait: %v", w.ends())
				}
			}
			asked.keys(keys)
			asked.fails("4")
			asked.asked(1)
			asked.asItWas()
			for _, w := range waiting {
				w.fails("4")
				w.asked(0)
			}

			atOnce := h.sit(t, "credproc", "product_prod_paul")
			atOnce.fails("4")
			atOnce.asked(0)

			later := h.sit(t, "credproc", "product_prod_paul")
			until(t, "a person is asked again", func() bool {
				if later.shows(question) {
					return true
				}
				later.fails("4")
				time.Sleep(100 * time.Millisecond) // between two tries
				later = h.sit(t, "credproc", "product_prod_paul")
				return false
			})
			later.types(h.code(t, serial))
			later.succeeds()
			h.toldCodes(t, 1)
		})
	}
}
