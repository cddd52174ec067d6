package e2e

import (
	"strings"
	"testing"
)

// offered ends the line that a terminal shows while the prompt is open on another one.
const offered = "press Enter to answer here"

// TestSayingNo checks that Ctrl-C or Ctrl-D cancels for all requests that wait on that terminal, and for no other.
// The prompt moves to the next terminal, and nothing remembers the cancellation. An empty line does not cancel.
func TestSayingNo(t *testing.T) {
	t.Parallel()
	for name, no := range map[string]struct{ keys, code string }{
		"Ctrl-C": {"\x03", "130"}, "Ctrl-D": {"\x04", "4"}, "after empty lines": {"\r\r\x04", "4"},
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
			third.keys("\r") // takes over the prompt
			third.waits(question)
			first.waits(offered)
			third.keys(no.keys)
			third.fails(no.code)
			third.asItWas()
			first.waits(question) // it had the prompt before

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

// TestInterruptedLogin checks that Ctrl-C at the first prompt ends the command, which then asks for no other
// source.
func TestInterruptedLogin(t *testing.T) {
	t.Parallel()
	h := seedless(t, "")
	out := h.ok(t, "cat", h.registry())
	must(t, h.write(h.registry(), out+"\n[source zebra]\naccess_key_id = AKIADEMOPAULFAKE3333\nmfa_serial = "+serial+"2\n"))
	login := h.sit(t, "broker", "login")
	login.waits(question)
	login.keys("\x03")
	if said := login.fails("130"); strings.Contains(said, "zebra") {
		t.Errorf("login continued: %s", said)
	}
	login.asked(1)
	login.asItWas()
}
