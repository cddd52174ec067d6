package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestWrongCode checks that after a wrong code the prompt returns with the reason, up to three times in total.
func TestWrongCode(t *testing.T) {
	t.Parallel()
	h := seedless(t, "")
	s := h.sit(t, "credproc", "security")
	s.waits(question)
	s.types("000000")
	s.waits("AWS rejected the MFA code")
	s.waits(question)
	s.types(h.code(t, serial))
	s.succeeds()
	s.asked(2)
	s.asItWas()
	h.toldCodes(t, 2)

	h.ok(t, "broker", "logout")
	s = h.sit(t, "credproc", "security")
	for _, wrong := range []string{"000001", "000002", "000003"} {
		s.waits(question)
		s.types(wrong)
	}
	if said := s.fails("4"); !strings.Contains(said, "AWS rejected the MFA code") {
		t.Errorf("the prompt does not show the reason: %q", said)
	}
	s.asked(3)
	h.toldCodes(t, 5)
}

// TestSpentCode checks that a used code is not sent again, and that the person is told so and when the next code
// comes.
func TestSpentCode(t *testing.T) {
	t.Parallel()
	h := seedless(t, "")
	code := h.code(t, serial)
	h.ok(t, "broker", "login", "security", "--code", code)
	h.ok(t, "broker", "logout")
	s := h.sit(t, "credproc", "security")
	s.waits(question)
	s.types(code)
	s.waits("this MFA code was used already; the next comes at ")
	s.waits(question)
	s.types(h.code(t, serial))
	s.succeeds()
	h.toldCodes(t, 2)
	if strings.Contains(s.shown(), "AWS rejected") {
		t.Errorf("a used code is reported like a wrong one:\n%s", s.shown())
	}
}

// TestWrongSerial checks that with a wrong MFA serial there is no second prompt, since another code would not
// help.
func TestWrongSerial(t *testing.T) {
	t.Parallel()
	h := seedless(t, "")
	h.ok(t, "broker", "mfa", "set", "security", "--serial", serial+"-another")
	s := h.sit(t, "credproc", "security")
	s.waits(serial + "-another")
	s.types("123456")
	if said := s.fails("4"); !strings.Contains(said, "MFA device does not belong to this user") {
		t.Errorf("the error does not show the reason: %q", said)
	}
	s.asked(1)
	h.toldCodes(t, 1)
}

const loginHint = "\nhint: broker login security --code 123456\n"

// process makes a program that records that it ran, and then runs the script rest. runs returns how often it ran.
func (h *house) process(t testing.TB, rest string) (runs func() int) {
	t.Helper()
	path, note := filepath.Join(h.dir, "device"), filepath.Join(h.dir, "device.runs")
	must(t, os.WriteFile(path, []byte("#!/bin/sh\necho ran >>"+note+"\n"+rest+"\n"), 0o755))
	h.ok(t, "broker", "mfa", "set", "security", "--serial", serial, "--process", path)
	return func() int {
		text, _ := os.ReadFile(note)
		return strings.Count(string(text), "ran")
	}
}

// organization returns an organization of n users with a device each (u0, u1, …) and a role that trusts them all.
func organization(n int) (text string, serials []string) {
	var b strings.Builder
	b.WriteString("[account security]\nid = 111122223333\n[account prod]\nid = 444455556666\n[role admin]\naccounts = prod\ntrust = arn:aws:iam::111122223333:root\nrequire_mfa = true\n")
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
	for i := range n {
		letter := string([]byte{letters[i/32], letters[i%32]})
		fmt.Fprintf(&b, "[user u%d]\naccount = security\naccess_key_id = %s\nsecret_access_key = %s\n", i, manyKeyID(i), manySecret(i))
		fmt.Fprintf(&b, "[mfa d%d]\naccount = security\nuser = u%d\nseed = %s\n", i, i, strings.Repeat(letter, 32))
		serials = append(serials, fmt.Sprintf("arn:aws:iam::111122223333:mfa/d%d", i))
	}
	return b.String(), serials
}

func manyKeyID(i int) string  { return fmt.Sprintf("AKIAMANYUSERSFAKE2%c%c", 'A'+i/26, 'A'+i%26) }
func manySecret(i int) string { return fmt.Sprintf("fake/many+secret/of+user/fake/many+%05d", i) }

// many returns a house with n sources (u0, u1, …), each with a device and without a seed.
func many(t testing.TB, n int) (*house, []string) {
	t.Helper()
	text, serials := organization(n)
	h := newHouse(t)
	org := filepath.Join(h.dir, "org.ini")
	must(t, os.WriteFile(org, []byte(text), 0o600))
	must(t, h.startSim("--org", org))
	must(t, h.settings(""))
	for i, device := range serials {
		r := h.runWith(fmt.Sprintf(`{"AccessKeyId":%q,"SecretAccessKey":%q}`, manyKeyID(i), manySecret(i)), "broker", "add", fmt.Sprintf("u%d", i), "--stdin", "--no-verify", "--mfa-serial", device)
		if r.code != 0 {
			t.Fatal(r)
		}
	}
	return h, serials
}

// TestTwoDevices checks that the codes and the prompts of two devices are independent.
func TestTwoDevices(t *testing.T) {
	t.Parallel()
	h, serials := many(t, 2)
	one, two := h.sit(t, "credproc", "u0"), h.sit(t, "credproc", "u1")
	one.waits("MFA code for u0 (" + serials[0] + ")")
	two.waits("MFA code for u1 (" + serials[1] + ")")
	two.types(h.code(t, serials[1]))
	two.succeeds()
	if !one.running(200 * time.Millisecond) {
		t.Errorf("the code of another device was accepted: %v", one.ends())
	}
	one.types(h.code(t, serials[0]))
	one.succeeds()
	h.toldCodes(t, 2)

	// Without a name, login asks for all sources in turn.
	h.ok(t, "broker", "logout")
	s := h.shell(t, "broker", "login")
	for i, device := range serials {
		s.waits(fmt.Sprintf("MFA code for u%d (%s)", i, device))
		s.types(h.code(t, device))
		s.waits(fmt.Sprintf("u%d: logged in until ", i))
	}
	if r := s.ends(); r.code != 0 {
		t.Errorf("exit code %d:\n%s", r.code, s.shown())
	}
	s.asked(2)
	h.toldCodes(t, 4)
}

// TestSecondCodeIsAwaitedLong runs two profiles that each need a code of one device within the same 30 s, with a
// seed that makes the codes. The second waits for the next code, the person is told how long, and both succeed.
func TestSecondCodeIsAwaitedLong(t *testing.T) {
	t.Parallel()
	h := demo(t)
	var config strings.Builder
	for _, name := range []string{"one", "two"} {
		// A session of more than an hour needs its own call with key and code.
		fmt.Fprintf(&config, "[profile %s]\nrole_arn = %s\nsource_profile = security\nrole_session_name = %s\nduration_seconds = 7200\n", name, "arn:aws:iam::222233334444:role/long-work", name)
	}
	must(t, h.write(h.awsConfig(), config.String()))
	if left := 30*time.Second - time.Duration(time.Now().UnixNano())%(30*time.Second); left < 15*time.Second {
		time.Sleep(left) // so that both requests fall into one time step
	}
	var seats []*seat
	for _, name := range []string{"one", "two"} {
		seats = append(seats, h.sit(t, "credproc", name))
	}
	told := 0
	for _, s := range seats {
		s.succeeds()
		s.asked(0)
		told += strings.Count(s.shown(), " for the next code: this MFA code was used already; the next comes at ")
	}
	if told == 0 { // the first one may also still see the message
		t.Error("nothing said why it takes long")
	}
	h.counted(t, "AssumeRole", 2)
	h.toldCodes(t, 2)
}

// TestNoCodeTwiceAfterKillLong kills the daemon while STS has the code but the answer has not arrived. The same
// code is then given again: by the client, which starts a daemon and repeats its request, and by the person. AWS
// sees it once.
func TestNoCodeTwiceAfterKillLong(t *testing.T) {
	t.Parallel()
	// A device has three codes at the start and one more every 30 s, so the rounds need this many devices.
	const rounds, sources = 40, 14
	h, serials := many(t, sources)
	must(t, h.sim.fault(`{"kind":"delay","action":"GetSessionToken","hold_seconds":2,"times":-1}`))
	kills, lost := 0, 0
	for round := 0; kills < rounds && !t.Failed(); round++ {
		source := round % sources
		var answer struct{ Fresh string }
		must(t, h.sim.call("GET", "code?serial="+serials[source], "", &answer))
		if answer.Fresh == "" {
			time.Sleep(100 * time.Millisecond)
			continue
		}
		login := []string{"login", fmt.Sprintf("u%d", source), "--code", answer.Fresh}
		before, err := h.sim.count("GetSessionToken")
		must(t, err)
		stop := make(chan struct{})
		killed := make(chan bool)
		go func() {
			defer close(killed)
			for !isStopped(stop) {
				n, err := h.sim.count("GetSessionToken")
				if pid := h.daemonProcess(); err == nil && pid != 0 && n > before {
					time.Sleep(time.Duration(kills%8) * 100 * time.Millisecond)
					killed <- kill(pid) == nil
					return
				}
				time.Sleep(5 * time.Millisecond)
			}
		}()
		first := h.run("broker", login...)
		close(stop)
		if <-killed {
			kills++
		}
		if first.code != 0 {
			lost++
			if first.code != 4 || !strings.Contains(first.stderr, "used already") {
				t.Errorf("%v: %v", login[:2], first)
			}
		}
		// The person types the code again.
		if again := h.run("broker", login...); again.code == 0 && first.code != 0 {
			t.Errorf("%v: a code whose answer was lost was accepted again: %v", login[:2], again)
		}
		h.run("broker", "logout", login[1])
	}
	codes := h.codes(t)
	h.toldCodes(t, len(codes))
	t.Logf("%d kills, %d codes, %d of them with a lost answer", kills, len(codes), lost)
	if lost < kills/2 {
		t.Errorf("%d kills, and %d answers lost: nothing is proven", kills, lost)
	}
}

// TestFreshCodeForEach checks that with mfa = each every session of the role needs its own code, and that the MFA
// session of the source is not affected.
func TestFreshCodeForEach(t *testing.T) {
	t.Parallel()
	h := seedless(t, "[profile each]\nrole_arn = "+prodRole+"\nsource_profile = security\nmfa = each\n")
	s := h.sit(t, "credproc", "each")
	s.waits(question)
	s.types(h.code(t, serial))
	s.succeeds()
	h.counted(t, "GetSessionToken", 0)
	if codes := h.codes(t); len(codes) != 1 || codes[0].Action != "AssumeRole" {
		t.Errorf("the codes were sent with %v", codes)
	}
}

// TestWindow starts ten processes without a terminal, on a desktop. One window opens, and its answer serves all of
// them.
func TestWindow(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ name, answer, code string }{
		{"a code", `echo "D $(stssim --print-code ` + serial + `)"; echo OK`, "0"},
		{"canceled", `echo "ERR 83886179 Operation cancelled <Pinentry>"`, "4"},
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
				t.Errorf("%d prompts, %v", n, err)
			}
			if row.code != "0" {
				h.toldCodes(t, 0)
			} else {
				h.toldCodes(t, 1)
			}
		})
	}
}

// TestWindowOfNobody checks that a window closes when the last process that needs the code has gone, and stays
// open while any process waits.
func TestWindowOfNobody(t *testing.T) {
	t.Parallel()
	h := seedless(t, "mfa_prompt = gui\n")
	note := filepath.Join(h.dir, "window")
	must(t, os.WriteFile(filepath.Join(h.bin, "pinentry"), fmt.Appendf(nil, fakePinentry, note, "exec sleep 600"), 0o755))
	h.env = append(h.env, "DISPLAY=:99")
	windows := func() (n int) {
		for _, p := range h.processes() {
			if strings.Contains(p.line, "sleep 600") {
				n++
			}
		}
		return n
	}
	first, second := h.command("credproc", "product_prod_paul"), h.command("broker", "login", "security")
	for _, cmd := range []*exec.Cmd{first, second} {
		must(t, cmd.Start())
		t.Cleanup(func() { _ = cmd.Process.Kill() })
	}
	until(t, "both wait, and a window is open", func() bool {
		return windows() == 1 && strings.Contains(h.run("broker", "status").stdout, "waiting   2 requests")
	})
	must(t, first.Process.Signal(os.Interrupt))
	_ = first.Wait()
	until(t, "one waits, and a window is open", func() bool {
		return windows() == 1 && strings.Contains(h.run("broker", "status").stdout, "waiting   1 request")
	})
	must(t, second.Process.Signal(os.Interrupt))
	_ = second.Wait()
	until(t, "no window is open", func() bool { return windows() == 0 })
	until(t, "nobody waits", func() bool { return !strings.Contains(h.run("broker", "status").stdout, "waiting") })
}

// TestBadProgram checks that a broken mfa_process is reported at once, or within its ten seconds, and that AWS
// gets no request.
func TestBadProgram(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ name, script, says string }{
		{"hangs", "sleep 600", "did not end within 10s"},
		{"prints 1 GB", "head -c 1073741824 /dev/zero", "printed more than 64 KiB"},
		{"fails", "exit 3", "3"},
		{"two lines", "echo 123456; echo 654321", "printed more than one line"},
		{"letters", "echo hunter2", "did not print a code of 6 digits"},
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
				t.Errorf("the error is %q", r.stderr)
			}
			h.toldCodes(t, 0)
		})
	}
}

// TestNotACode checks that input that cannot be a code is not sent; blanks around a code are accepted.
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
