package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// herdSize is the number of processes that ask at once.
const herdSize = 50

// succeedAlike fails the test unless all processes got the same session.
func succeedAlike(t *testing.T, results []result) {
	t.Helper()
	for i, r := range results {
		if _, err := parseDocument(r.stdout); err != nil || r.code != 0 || r.stdout != results[0].stdout {
			t.Fatalf("process %d of %d: %v: %v", i, len(results), err, r)
		}
	}
}

// TestFiftyAndAPerson runs 50 processes with an empty cache, codes that work once, and a slow person: one prompt,
// one GetSessionToken, 50 successes.
func TestFiftyAndAPerson(t *testing.T) {
	t.Parallel()
	h := seedless(t, "")
	s, dir := h.herd(t, herdSize, filepath.Join(h.bin, "credproc"), "product_prod_paul")
	s.waits(question)
	until(t, "all wait", func() bool {
		return strings.Contains(h.run("broker", "status").stdout, fmt.Sprintf("waiting   %d requests", herdSize))
	})
	s.types(h.code(t, serial))
	succeedAlike(t, herdResults(t, s, dir, herdSize))
	s.asked(1)
	s.asItWas()
	h.counted(t, "GetSessionToken", 1)
	h.counted(t, "AssumeRole", 1)
	h.toldCodes(t, 1)
}

// TestFiftyAndASeed does the same with a stored seed: no prompt.
func TestFiftyAndASeed(t *testing.T) {
	t.Parallel()
	h := demo(t)
	s, dir := h.herd(t, herdSize, filepath.Join(h.bin, "credproc"), "product_prod_paul")
	succeedAlike(t, herdResults(t, s, dir, herdSize))
	s.asked(0)
	h.counted(t, "GetSessionToken", 1)
	h.toldCodes(t, 1)
}

// TestFiftyAndAProgram does the same with mfa_process, which runs once.
func TestFiftyAndAProgram(t *testing.T) {
	t.Parallel()
	h := seedless(t, "")
	runs := h.process(t, "sleep 1; exec "+filepath.Join(h.bin, "stssim")+" --print-code "+serial)
	s, dir := h.herd(t, herdSize, filepath.Join(h.bin, "credproc"), "product_prod_paul")
	succeedAlike(t, herdResults(t, s, dir, herdSize))
	s.asked(0)
	if n := runs(); n != 1 {
		t.Errorf("mfa_process ran %d times", n)
	}
	h.counted(t, "GetSessionToken", 1)
	h.toldCodes(t, 1)
}

// TestSessionsEndForFive lets sessions expire while ten processes ask for five roles of one device within a
// second: one code.
func TestSessionsEndForFive(t *testing.T) {
	t.Parallel()
	h := seedless(t, "")
	var config strings.Builder
	for i, role := range []string{"222233334444:role/allow-admin", "222233334444:role/allow-read-only", "333344445555:role/allow-admin", "444455556666:role/allow-admin", "444455556666:role/allow-read-only"} {
		fmt.Fprintf(&config, "[profile r%d]\nrole_arn = arn:aws:iam::%s-from-security-account\nsource_profile = security\n", i, role)
	}
	must(t, h.write(h.awsConfig(), config.String()))
	must(t, h.sim.post("lifetime", `{"seconds":4}`))
	h.ok(t, "broker", "login", "security", "--code", h.code(t, serial))
	must(t, h.sim.post("lifetime", `{"seconds":0}`))
	time.Sleep(4 * time.Second)
	s, dir := h.herd(t, 10, "sh", "-c", `credproc r$(( $$ % 5 ))`)
	s.waits(question)
	s.types(h.code(t, serial))
	for i, r := range herdResults(t, s, dir, 10) {
		if _, err := parseDocument(r.stdout); err != nil || r.code != 0 {
			t.Errorf("process %d: %v: %v", i, err, r)
		}
	}
	s.asked(1)
	h.counted(t, "GetSessionToken", 2)
	h.toldCodes(t, 2)
}
