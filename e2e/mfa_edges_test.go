package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestTerminalGone: a terminal that is closed in the middle of a question costs nobody anything: the daemon answers, and who waits
// at the next terminal is asked there.
func TestTerminalGone(t *testing.T) {
	t.Parallel()
	h := seedless(t, "")
	first := h.sit(t, "credproc", "product_prod_paul")
	first.waits(question)
	second := h.sit(t, "credproc", "product_dev_paul")
	if !second.running(300 * time.Millisecond) {
		t.Errorf("the second did not wait: %v", second.ends())
	}
	first.leave()
	h.ok(t, "broker", "status")
	second.waits(question)
	second.types(h.code(t, serial))
	second.succeeds()
	h.toldCodes(t, 1)
}

// TestSessionsEndForFive: sessions end, and ten processes ask for five roles of one device within a second: one code.
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

const longConfig = `[profile long]
role_arn = arn:aws:iam::222233334444:role/long-work
source_profile = security
[profile toolong]
role_arn = ` + devRole + `
source_profile = security
duration_seconds = 7200
[profile release]
role_arn = arn:aws:iam::444455556666:role/release
source_profile = product_dev_paul
`

// TestMinTTLCannot: where no plan can last as long as is wanted, the reason is told and no code is asked for.
func TestMinTTLCannot(t *testing.T) {
	t.Parallel()
	h := seedless(t, "")
	must(t, h.write(h.awsConfig(), demoConfig+longConfig))
	s := h.sit(t, "broker", "exec", "--min-ttl", "2h", "release", "--", "true")
	if said := s.fails("1"); !strings.Contains(said, "a role that is assumed from a role lives for 1h0m0s at most") {
		t.Errorf("the reason is not told: %q", said)
	}
	s.asked(0)
	h.toldCodes(t, 0)
}

// TestRoleAllowsLess: a role that allows less than its profile asks for is assumed for one hour, with one warning, and that is
// remembered.
func TestRoleAllowsLess(t *testing.T) {
	t.Parallel()
	h := seedless(t, "")
	must(t, h.write(h.awsConfig(), demoConfig+longConfig))
	h.ok(t, "broker", "login", "security", "--code", h.code(t, serial))
	s := h.sit(t, "credproc", "toolong")
	s.waits(question)
	s.types(h.code(t, serial))
	if d := s.succeeds(); time.Until(d.Expiration) > time.Hour+time.Minute {
		t.Errorf("it lasts until %v", d.Expiration)
	}
	s.asked(1)
	h.credentials(t, "toolong")
	h.toldCodes(t, 2)
	log, err := os.ReadFile(h.state("daemon.log"))
	must(t, err)
	if n := strings.Count(string(log), "the role allows less than its profile asks for"); n != 1 {
		t.Errorf("%d warnings in the log", n)
	}
}

// TestFreshCodeForEach: mfa = each gives every session of the role a code of its own, and leaves the session of the source alone.
func TestFreshCodeForEach(t *testing.T) {
	t.Parallel()
	h := seedless(t, "[profile each]\nrole_arn = "+prodRole+"\nsource_profile = security\nmfa = each\n")
	s := h.sit(t, "credproc", "each")
	s.waits(question)
	s.types(h.code(t, serial))
	s.succeeds()
	h.counted(t, "GetSessionToken", 0)
	if codes := h.codes(t); len(codes) != 1 || codes[0].Action != "AssumeRole" {
		t.Errorf("the codes went with %v", codes)
	}
}

const fakePinentry = `#!/bin/sh
echo "OK Pleased to meet you"
while read -r word rest; do
	case $word in
	GETINFO) echo "D fake"; echo OK ;;
	GETPIN) echo asked >>%[1]s; sleep 1; %[2]s ;;
	BYE) echo OK; exit 0 ;;
	*) echo OK ;;
	esac
done
`

// TestWindow: ten processes without a terminal, on a desktop: one window, and what it says is for all of them.
func TestWindow(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ name, answer, code string }{
		{"a code", `echo "D $(stssim --print-code ` + serial + `)"; echo OK`, "0"},
		{"cancelled", `echo "ERR 83886179 Operation cancelled <Pinentry>"`, "4"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			h := seedless(t, "mfa_prompt = gui\n")
			note := filepath.Join(h.dir, "window")
			must(t, os.WriteFile(filepath.Join(h.bin, "pinentry"), fmt.Appendf(nil, fakePinentry, note, row.answer), 0o755))
			h.env = append(h.env, "DISPLAY=:99")
			for i, r := range together(t, h, 10, func(int) []string { return []string{"credproc", "product_prod_paul"} }) {
				if fmt.Sprint(r.code) != row.code {
					t.Errorf("process %d: %v", i, r)
				}
			}
			text, err := os.ReadFile(note)
			if n := strings.Count(string(text), "asked"); err != nil || n != 1 {
				t.Errorf("asked %d times, %v", n, err)
			}
			if row.code != "0" {
				h.toldCodes(t, 0)
			} else {
				h.toldCodes(t, 1)
			}
		})
	}
}

// TestBadProgram: an mfa_process that is no good is said so, at once or within its ten seconds, and AWS is told nothing.
func TestBadProgram(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ name, script, says string }{
		{"hangs", "sleep 600", "did not end within 10s"},
		{"prints 1 GB", "head -c 1073741824 /dev/zero", "printed more than 64 KiB"},
		{"fails", "exit 3", "3"},
		{"two lines", "echo 123456; echo 654321", "printed more than one line"},
		{"letters", "echo hunter2", "printed something else than a code of 6 digits"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			h := seedless(t, "")
			h.process(t, row.script)
			r := h.run("credproc", "security")
			if err := checkFailure(r, "1", "credproc", nil); err != nil {
				t.Error(err)
			}
			if !strings.Contains(r.stderr, "mfa_process device: ") || !strings.Contains(r.stderr, row.says) || strings.Contains(r.stderr, "hunter2") {
				t.Errorf("it says %q", r.stderr)
			}
			h.toldCodes(t, 0)
		})
	}
}
