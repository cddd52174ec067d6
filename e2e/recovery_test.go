package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestKilledInTheMiddle: the daemon is killed at some moment while ten clients ask. Each is
// answered in the end, and no code was sent twice. One that comes after the code was spent waits for the next.
func TestKilledInTheMiddle(t *testing.T) {
	t.Parallel()
	for round := range 5 {
		moment := time.Duration(rand.IntN(5+20*round*round)) * time.Millisecond
		t.Run(fmt.Sprint(moment), func(t *testing.T) {
			t.Parallel()
			h := demo(t)
			killed := make(chan bool)
			go func() {
				for range 2000 {
					if pid := h.daemonProcess(); pid != 0 {
						time.Sleep(moment)
						killed <- syscall.Kill(pid, syscall.SIGKILL) == nil
						return
					}
					time.Sleep(time.Millisecond)
				}
				killed <- false
			}()
			for i, r := range together(t, h, 10, func(int) []string { return []string{"credproc", "product_prod_paul"} }) {
				if _, err := parseDocument(r.stdout); r.code != 0 || err != nil {
					t.Errorf("client %d: %v", i, r)
				}
			}
			if !<-killed {
				t.Error("no daemon was killed")
			}
			h.noCodeTwice(t)
		})
	}
}

// noCodeTwice reads in the simulator's memory that each code came once.
func (h *house) noCodeTwice(t *testing.T) {
	t.Helper()
	list, err := h.sim.requests()
	must(t, err)
	codes := map[string]int{}
	for _, r := range list {
		if r.TokenCode != "" {
			if codes[r.TokenCode]++; codes[r.TokenCode] == 2 {
				t.Errorf("a code was sent twice: %s", r.Action)
			}
		}
	}
	if len(codes) == 0 {
		t.Error("no code was sent at all")
	}
}

// TestSocketRemoved: a socket, or its directory, that somebody removes is bound anew; nobody waits long.
func TestSocketRemoved(t *testing.T) {
	t.Parallel()
	h := demo(t)
	first := h.credentials(t, "product_prod_paul")
	for _, gone := range []string{h.socket(), filepath.Dir(h.socket())} {
		must(t, os.RemoveAll(gone))
		must(t, h.freshCodes())
		h.credentials(t, "product_prod_paul")
		time.Sleep(1500 * time.Millisecond)
		h.credentials(t, "product_prod_paul")
		var daemons []process
		for limit := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
			daemons = nil
			for _, p := range h.processes() {
				if strings.Contains(p.line, "brokerd") {
					daemons = append(daemons, p)
				}
			}
			if len(daemons) == 1 || time.Now().After(limit) {
				break
			}
		}
		if len(daemons) != 1 {
			t.Errorf("after %s was removed there are %d daemons: %v", filepath.Base(gone), len(daemons), daemons)
		}
	}
	_ = first
}

// TestNoBusIsStarted: a keyring that needs a session bus, where there is none, is absent; no bus is started for it, and
// none for trying which keyring works.
func TestNoBusIsStarted(t *testing.T) {
	t.Parallel()
	for _, backend := range []string{"keyring_backend = secret-service", ""} {
		t.Run(backend, func(t *testing.T) {
			h := newHouse(t)
			must(t, h.startSim())
			must(t, h.write(h.registry(), "[settings]\nsts_endpoint = "+h.sim.url+"\n"+backend+"\n"))
			h.runWith(`{"AccessKeyId":"`+keyID+`","SecretAccessKey":"`+keySecret+`"}`, "broker", "add", "security", "--stdin")
			// newHouse fails the test where a process is left.
		})
	}
}

// TestLostRegistry: a key whose section was lost from the registry can be taken up again or removed, as the hint says.
func TestLostRegistry(t *testing.T) {
	t.Parallel()
	h := demo(t)
	must(t, h.settings(""))
	r := h.runWith(`{"AccessKeyId":"`+keyID+`","SecretAccessKey":"`+keySecret+`"}`, "broker", "add", "security", "--stdin")
	if r.code == 0 {
		return
	}
	if !strings.Contains(r.stderr, "hint: broker remove security\n") {
		t.Fatal(r)
	}
	if again := h.run("broker", "remove", "security", "--yes"); again.code != 0 {
		t.Errorf("%v\nand what its hint says: %v", r, again)
	}
}
