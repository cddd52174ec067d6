package e2e

import (
	"strings"
	"testing"
)

// offered is how the line ends that a terminal shows while the question stands at another.
const offered = "press Enter to answer here"

// TestSayingNo: Ctrl-C or Ctrl-D is the answer for all who wait at that terminal, and for no other. The question goes to
// the next terminal, and nobody remembers the no. An empty line says nothing.
func TestSayingNo(t *testing.T) {
	t.Parallel()
	for name, no := range map[string]struct{ keys, code string }{
		"Ctrl-C": {"\x03", "130"}, "Ctrl-D": {"\x04", "4"}, "behind empty lines": {"\r\r\x04", "4"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := seedless(t, "")
			first := h.sit(t, "credproc", "product_prod_paul")
			first.waits(question)
			second, third := h.sit(t, "credproc", "product_prod_paul"), h.sit(t, "credproc", "product_dev_paul")
			second.waits(offered)
			third.waits(offered)
			if r := h.run("broker", "status"); !strings.Contains(r.stdout, "waiting   3 requests for a code of "+serial) {
				t.Errorf("the waiting requests are not shown: %v", r)
			}
			third.keys("\r") // takes the question over
			third.waits(question)
			first.waits(offered)
			third.keys(no.keys)
			third.fails(no.code)
			third.asItWas()
			first.waits(question) // whose turn it was before

			first.keys(no.keys)
			first.fails(no.code)
			first.asItWas()
			second.waits(question)
			second.keys(no.keys)
			second.fails(no.code)
			second.asItWas()

			atOnce := h.sit(t, "credproc", "product_prod_paul")
			atOnce.waits(question)
			atOnce.types(h.code(t, serial))
			atOnce.succeeds()
			h.toldCodes(t, 1)
		})
	}
}

// TestInterruptedLogin: Ctrl-C at the first question ends the command: no other source is opened, in no other way.
func TestInterruptedLogin(t *testing.T) {
	t.Parallel()
	h := seedless(t, "")
	out := h.ok(t, "cat", h.registry())
	must(t, h.write(h.registry(), out+"\n[source zebra]\naccess_key_id = AKIADEMOPAULFAKE3333\nmfa_serial = "+serial+"2\n"))
	login := h.sit(t, "broker", "login")
	login.waits(question)
	login.keys("\x03")
	if said := login.fails("130"); strings.Contains(said, "zebra") {
		t.Errorf("it went on: %s", said)
	}
	login.asked(1)
	login.asItWas()
}
