package e2e

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// TestNothingStaysBehind checks that 20 starts of each program without a session bus leave no new process. The
// keyring library by itself would start a bus each time.
func TestNothingStaysBehind(t *testing.T) {
	t.Parallel()
	h := demo(t)
	h.credentials(t, "product_prod_paul")
	var env []string
	for _, kv := range h.env {
		if !strings.HasPrefix(kv, "DBUS_") && !strings.HasPrefix(kv, "XDG_") {
			env = append(env, kv)
		}
	}
	h.env = append(env, "DISPLAY=:99") // dbus-launch does most if it believes that there is a display
	before := map[int]bool{}
	for _, p := range allProcesses() {
		before[p.pid] = true
	}
	const n = 20
	for _, argv := range [][]string{{"broker", "version"}, {"broker", "status"}, {"credproc", "--version"}, {"credproc", "product_prod_paul"}, {"brokerd", "vault"}} {
		for range n {
			if r := h.run(argv[0], argv[1:]...); r.code != 0 {
				t.Fatalf("%v: %v", argv, r)
			}
		}
	}
	until(t, "no process is left", func() bool {
		return !slices.ContainsFunc(h.processes(), func(p process) bool { return !before[p.pid] })
	})
	for _, p := range allProcesses() {
		if !before[p.pid] && strings.Contains(p.line, "dbus-") && strings.Contains(environOf(p.pid), h.home) {
			t.Errorf("a bus was started: %d %s", p.pid, p.line)
		}
	}
}

func environOf(pid int) string {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	return string(text)
}

// TestNoBusIsStarted checks that a keyring that needs a session bus counts as absent if there is no bus. No bus is
// started for it, or to find out which keyring works.
func TestNoBusIsStarted(t *testing.T) {
	t.Parallel()
	for _, backend := range []string{"keyring_backend = secret-service", ""} {
		t.Run(backend, func(t *testing.T) {
			h := newHouse(t)
			must(t, h.startSim())
			must(t, h.write(h.registry(), "[settings]\nsts_endpoint = "+h.sim.url+"\n"+backend+"\n"))
			h.runWith(`{"AccessKeyId":"`+keyID+`","SecretAccessKey":"`+keySecret+`"}`, "broker", "add", "security", "--stdin")
			// newHouse fails the test if a process is left.
		})
	}
}
