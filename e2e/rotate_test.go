package e2e

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// rotationEnd is a rotation that is killed during one call to AWS: before the call has its effect, or after that.
type rotationEnd struct {
	action string
	skip   int // calls of the action before
	after  bool
}

func (e rotationEnd) String() string {
	if e.after {
		return e.action + ", the answer is lost"
	}
	return e.action + ", before it"
}

// TestRotationKilled kills the daemon and the vault process while a key is created, and while the old one is
// deactivated. `broker rotate --resume` ends the rotation, and the key in use works.
func TestRotationKilled(t *testing.T) {
	t.Parallel()
	killedRotations(t, rotationEnd{"CreateAccessKey", 0, false}, rotationEnd{"CreateAccessKey", 0, true},
		rotationEnd{"UpdateAccessKey", 1, true})
}

// TestRotationKilledLong kills them during each call of a rotation. The first call of some actions only asks whether
// the user may make it.
func TestRotationKilledLong(t *testing.T) {
	t.Parallel()
	var ends []rotationEnd
	for _, after := range []bool{false, true} {
		ends = append(ends, rotationEnd{"ListAccessKeys", 0, after}, rotationEnd{"GetAccessKeyLastUsed", 0, after},
			rotationEnd{"UpdateAccessKey", 0, after}, rotationEnd{"DeleteAccessKey", 0, after},
			rotationEnd{"GetCallerIdentity", 0, after}, rotationEnd{"GetSessionToken", 1, after},
			rotationEnd{"GetCallerIdentity", 3, after}, rotationEnd{"ListAccessKeys", 3, after},
			rotationEnd{"UpdateAccessKey", 1, after}, rotationEnd{"DeleteAccessKey", 1, after})
	}
	killedRotations(t, ends...)
}

func killedRotations(t *testing.T, ends ...rotationEnd) {
	for _, end := range ends {
		t.Run(fmt.Sprint(end, " ", end.skip), func(t *testing.T) {
			t.Parallel()
			h := demo(t)
			h.credentials(t, "product_prod_paul")
			before, err := h.sim.count(end.action)
			must(t, err)
			wait := "delay_seconds"
			if end.after {
				wait = "hold_seconds"
			}
			must(t, h.sim.fault(fmt.Sprintf(`{"kind":"delay","action":%q,"skip":%d,%q:3600}`, end.action, end.skip, wait)))
			done := make(chan result)
			go func() { done <- h.run("broker", "rotate", "security", "--grace", "0") }()
			for limit := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
				n, err := h.sim.count(end.action)
				must(t, err)
				if n > before+end.skip {
					break
				}
				if time.Now().After(limit) {
					t.Fatal("the call was not made")
				}
			}
			if end.after {
				time.Sleep(50 * time.Millisecond) // the simulator counts a call before its effect
			}
			must(t, h.sim.post("faults/clear", ""))
			h.killDaemon(t)
			// The client has asked another daemon to go on.
			if r := <-done; strings.Contains(r.stderr, "has begun already") {
				t.Error(r)
			}
			h.endRotation(t)
		})
	}
}

// killDaemon kills the daemon and its vault processes.
func (h *house) killDaemon(t *testing.T) {
	t.Helper()
	daemon := h.daemonPID(t)
	for _, p := range allProcesses() {
		stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.pid))
		_, fields, _ := strings.Cut(string(stat), ") ")
		if f := strings.Fields(fields); p.line == "brokerd vault" && len(f) > 1 && f[1] == fmt.Sprint(daemon) {
			_ = kill(p.pid)
		}
	}
	must(t, kill(daemon))
}

// endRotation resumes a rotation until it has ended, and checks that one key is left, which works.
func (h *house) endRotation(t *testing.T) {
	t.Helper()
	for limit := time.Now().Add(patience); ; {
		must(t, h.freshCodes())
		r := h.run("broker", "rotate", "security", "--resume")
		if r.code == 0 || strings.Contains(r.stderr, "no rotation of the key") {
			break
		}
		if !strings.Contains(r.stderr, "hint: ") || time.Now().After(limit) {
			t.Fatal(r)
		}
	}
	text, err := os.ReadFile(h.registry())
	must(t, err)
	var keys []struct {
		User   string `json:"user"`
		ID     string `json:"access_key_id"`
		Status string `json:"status"`
	}
	must(t, h.sim.call(http.MethodGet, "keys", "", &keys))
	left := 0
	for _, key := range keys {
		if !strings.HasSuffix(key.User, "/paul") {
			continue
		}
		if left++; key.Status != "Active" || !strings.Contains(string(text), "access_key_id = "+key.ID+"\n") {
			t.Errorf("the key %s is left, %s, and the registry is\n%s", key.ID, key.Status, text)
		}
	}
	if left != 1 {
		t.Errorf("%d keys are left: %v", left, keys)
	}
	h.ok(t, "broker", "logout")
	must(t, h.freshCodes())
	h.credentials(t, "product_prod_paul") // opens a session with the key
}

// TestRotationLocked locks Broker, and so the keyring, while the new key is tried. The rotation stops, and goes on
// after the unlock.
func TestRotationLocked(t *testing.T) {
	t.Parallel()
	h := demo(t)
	h.credentials(t, "product_prod_paul")
	must(t, h.sim.fault(`{"kind":"delay","action":"GetCallerIdentity","hold_seconds":1}`))
	done := make(chan result, 1)
	before, err := h.sim.count("GetCallerIdentity")
	must(t, err)
	go func() { done <- h.run("broker", "rotate", "security", "--grace", "0") }()
	h.reaches(t, "GetCallerIdentity", before+1)
	h.ok(t, "broker", "lock")
	r := <-done
	if r.code != 7 || !strings.Contains(r.stderr, "Broker is locked") || !strings.HasSuffix(r.stderr, "hint: broker unlock\n") {
		t.Error(r)
	}
	must(t, h.freshCodes())
	h.ok(t, "broker", "unlock")
	if r := h.run("broker", "status"); !strings.Contains(r.stdout, "rotation  security: the rotation of key …2222 has stopped; "+
		"continue: broker rotate security --resume") {
		t.Error(r)
	}
	h.endRotation(t)
}

// TestRotationLeft ends the client by Ctrl-C while the daemon rotates a key. The client says that the daemon goes on.
func TestRotationLeft(t *testing.T) {
	t.Parallel()
	h := demo(t)
	h.credentials(t, "product_prod_paul")
	must(t, h.sim.fault(`{"kind":"delay","action":"CreateAccessKey","delay_seconds":3600}`))
	cmd := h.command(filepath.Join(h.bin, "broker"), "rotate", "security", "--grace", "0")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	must(t, cmd.Start())
	h.reaches(t, "CreateAccessKey", 1)
	must(t, cmd.Process.Signal(os.Interrupt))
	err := cmd.Wait()
	const want = "warning: the daemon goes on with the rotation; to see where it is: broker status\nbroker: interrupted\n"
	if cmd.ProcessState.ExitCode() != 130 || stderr.String() != want {
		t.Errorf("%v: %s", err, stderr.String())
	}
	must(t, h.sim.post("faults/clear", ""))
	h.killDaemon(t)
	h.endRotation(t)
}

// TestRotationInterruptsNobody rotates a key, takes the old one back, and rotates again with no grace, while
// clients ask (100 in Long). None fails, although nobody could give a code, and IAM is slow with the new keys.
func TestRotationInterruptsNobody(t *testing.T) { rotateInACrowd(t, 1, 200*time.Millisecond) }

func TestRotationInterruptsNobodyLong(t *testing.T) { rotateInACrowd(t, 25, 0) }

// rotateInACrowd rotates while n, n and 2n clients work.
func rotateInACrowd(t *testing.T, n int, pause time.Duration) {
	t.Helper()
	t.Parallel()
	h := seedless(t, "")
	var code struct{ Code string }
	must(t, h.sim.call(http.MethodGet, "code?serial="+serial, "", &code))
	h.ok(t, "broker", "login", "security", "--code", code.Code)
	must(t, h.sim.post("keys/delay", `{"seconds": 2, "flaps": true}`))
	ends := []func() int64{
		h.crowd(t, 2*n, pause, "credproc", "product_prod_paul"),
		h.crowd(t, n, pause, "credproc", "product_dev_paul"),
		h.crowd(t, n, pause, "broker", "exec", "product_prod_paul", "--", "true"),
	}
	h.ok(t, "broker", "rotate", "security")
	h.ok(t, "broker", "rotate", "security", "--undo")
	h.ok(t, "broker", "rotate", "security", "--grace", "0")
	for _, end := range ends {
		if made := end(); made < int64(n) {
			t.Errorf("only %d requests were made: the test proves nothing", made)
		}
	}
	if r := h.run("broker", "status"); strings.Contains(r.stdout, "rotation") {
		t.Error(r)
	}
}
