package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestAskedThroughPipes: credproc's stdin, stdout and stderr are all elsewhere, as when an AWS tool starts it, and the
// question stands on the terminal all the same: whose code, of which device, who wants it. The terminal is left as it was.
func TestAskedThroughPipes(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"", "set -m; "} { // a script, and a shell with job control
		h := seedless(t, "")
		s := h.shell(t, "sh", "-c", how+`credproc product_prod_paul </dev/null 2>err | cat >out; echo ended`)
		s.waits("MFA code for security (" + serial + "), sent to " + h.sim.url + ", asked by sh: ")
		s.types(h.code(t, serial))
		s.waits("ended")
		if r := s.ends(); r.code != 0 {
			t.Errorf("%q: the shell: exit code %d", how, r.code)
		}
		out, err := os.ReadFile(filepath.Join(h.dir, "out"))
		must(t, err)
		if _, err := parseDocument(string(out)); err != nil {
			t.Errorf("%q: %v", how, err)
		}
		if said, err := os.ReadFile(filepath.Join(h.dir, "err")); err != nil || len(said) > 0 {
			t.Errorf("%q: stderr holds %q, %v", how, said, err)
		}
		s.asked(1)
		s.asItWas()
		h.toldCodes(t, 1)
		// Nobody is asked again.
		h.credentials(t, "product_dev_paul")
		h.toldCodes(t, 1)
	}
}

// TestTwoTerminals: one question for two, on the terminal that came first; the answer is for both.
func TestTwoTerminals(t *testing.T) {
	t.Parallel()
	h := seedless(t, "")
	first := h.sit(t, "credproc", "product_prod_paul")
	first.waits(question)
	second := h.sit(t, "credproc", "product_dev_paul")
	if !second.running(300 * time.Millisecond) {
		t.Errorf("the second did not wait: %v", second.ends())
	}
	first.types(h.code(t, serial))
	first.succeeds()
	second.succeeds()
	first.asked(1)
	second.asked(0)
	first.asItWas()
	h.counted(t, "GetSessionToken", 1)
	h.counted(t, "AssumeRole", 2)
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

			time.Sleep(5100 * time.Millisecond)
			later := h.sit(t, "credproc", "product_prod_paul")
			later.waits(question)
			later.types(h.code(t, serial))
			later.succeeds()
			h.toldCodes(t, 1)
		})
	}
}

// TestWrongCode: a wrong code is asked for again with the reason, three times in all.
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
		t.Errorf("the reason is not told: %q", said)
	}
	s.asked(3)
	h.toldCodes(t, 5)
}

// TestSpentCode: a code that was used is not sent; the person is told so, and when the next one comes.
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
		t.Errorf("a used code is told like a wrong one:\n%s", s.shown())
	}
}

// TestWrongSerial: another code would not help where the device is another one, so none is asked for.
func TestWrongSerial(t *testing.T) {
	t.Parallel()
	h := seedless(t, "")
	h.ok(t, "broker", "mfa", "set", "security", "--serial", serial+"-another")
	s := h.sit(t, "credproc", "security")
	s.waits(serial + "-another")
	s.types("123456")
	if said := s.fails("4"); !strings.Contains(said, "MFA device is not of this user") {
		t.Errorf("the reason is not told: %q", said)
	}
	s.asked(1)
	h.toldCodes(t, 1)
}

const loginHint = "\nhint: broker login security --code 123456\n"

// TestBackgroundJob: a job in the background neither asks nor writes on the terminal, even where the terminal
// would let it.
func TestBackgroundJob(t *testing.T) {
	t.Parallel()
	h := seedless(t, "")
	h.env = append(h.env, "PS1=ready> ")
	s := h.shell(t, "bash", "--norc", "--noprofile", "-i")
	s.waits("ready> ")
	for _, mode := range []string{"tostop", "-tostop"} {
		s.types("set -m; stty " + mode + `; credproc product_prod_paul </dev/null >out 2>err & wait $!; echo code:$? $(<out)$(<err)`)
		s.waits("code:4 credproc: ")
		s.waits(strings.TrimSpace(loginHint))
	}
	// With the terminal as its stderr it may say why; it may not ask.
	s.types(`credproc product_prod_paul & wait $!; echo code:$?`)
	s.waits("code:4")
	s.asked(0)
	// Brought to the foreground before it asks, the same shell's job is asked.
	s.types(`credproc product_prod_paul >out`)
	s.waits(question)
	s.types(h.code(t, serial))
	s.types(`wc -l <out; exit`)
	s.ends()
	out, err := os.ReadFile(filepath.Join(h.dir, "out"))
	must(t, err)
	if _, err := parseDocument(string(out)); err != nil {
		t.Error(err)
	}
	h.toldCodes(t, 1)
}

// TestNobodyToAsk: without a terminal, as under cron, the answer comes at once and says what to type.
func TestNobodyToAsk(t *testing.T) {
	t.Parallel()
	h := seedless(t, "")
	h.run("broker", "status")
	for _, argv := range [][]string{{"credproc", "product_prod_paul"}, {"broker", "exec", "product_prod_paul", "--", "true"}, {"broker", "login", "security"}} {
		r := h.run(argv[0], argv[1:]...)
		if err := checkFailure(r, "4", argv[0], argv[1:]); err != nil {
			t.Errorf("%v: %v", argv, err)
		}
		if !strings.HasSuffix(r.stderr, loginHint) {
			t.Errorf("%v: the hint is missing: %q", argv, r.stderr)
		}
	}
	h.toldCodes(t, 0)
	h.counted(t, "GetSessionToken", 0)
	// What the hint says works.
	h.ok(t, "broker", "login", "security", "--code", h.code(t, serial))
	h.credentials(t, "product_prod_paul")
}

// TestPagerInThePipeline: a program in the same pipeline that has taken line mode and echo away does
// not keep the question from working, and finds the terminal as it had made it.
func TestPagerInThePipeline(t *testing.T) {
	t.Parallel()
	h := seedless(t, "")
	self, err := os.Executable()
	must(t, err)
	note := filepath.Join(h.dir, "note")
	h.env = append(h.env, "PAGER="+self, "E2E_OUT="+note)
	s := h.shell(t, "sh", "-c", `{ until [ -e note.ready ]; do sleep 0.02; done; credproc product_prod_paul; } | E2E_ROLE=pager "$PAGER"`)
	s.waits(question)
	code := h.code(t, serial)
	s.types(code)
	if r := s.ends(); r.code != 0 {
		t.Errorf("the pipeline: exit code %d", r.code)
	}
	text, err := os.ReadFile(note)
	must(t, err)
	modes, out, _ := strings.Cut(string(text), "\n")
	if modes != "raw" {
		t.Errorf("the pager's terminal was %s", modes)
	}
	if _, err := parseDocument(out); err != nil {
		t.Errorf("%v: %q", err, out)
	}
	if !strings.Contains(s.shown(), code) {
		t.Errorf("what was typed was not shown:\n%s", s.shown())
	}
	s.asItWas()
}

// TestQuestionIsEdited: a typing error can be mended, what was typed before the question is no answer to it, and what is typed behind
// the answer is for the next program.
func TestQuestionIsEdited(t *testing.T) {
	t.Parallel()
	h := seedless(t, "")
	s := h.shell(t, "sh", "-c", `until [ -e typed ]; do sleep 0.02; done; credproc product_prod_paul >out; read -r next; echo "next: $next"`)
	s.types("too early")
	must(t, os.WriteFile(filepath.Join(h.dir, "typed"), nil, 0o600))
	s.waits(question)
	code := h.code(t, serial)
	s.keys("wrong\x15" + code[:5] + "x\x7f" + code[5:] + "\rfor the next\r")
	s.waits("next: for the next")
	s.ends()
	s.asked(1)
	s.asItWas()
	h.toldCodes(t, 1)
}

// TestKilledInMidQuestion: who is told to end gives the terminal back as it was.
func TestKilledInMidQuestion(t *testing.T) {
	t.Parallel()
	h := seedless(t, "")
	s := h.sit(t, "credproc", "product_prod_paul")
	s.waits(question)
	if s.modes() == s.before {
		t.Error("void: the question did not change the terminal's mode")
	}
	must(t, s.cmd.Process.Signal(syscall.SIGTERM))
	<-s.ended
	if status, ok := s.cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGTERM {
		t.Errorf("it ended with %v, want by the signal", s.cmd.ProcessState)
	}
	s.asItWas()
}

// herdSize is how many ask at once.
const herdSize = 50

// succeedAlike fails the test unless all were given the same session.
func succeedAlike(t *testing.T, results []result) {
	t.Helper()
	for i, r := range results {
		if _, err := parseDocument(r.stdout); err != nil || r.code != 0 || r.stdout != results[0].stdout {
			t.Fatalf("process %d of %d: %v: %v", i, len(results), err, r)
		}
	}
}

// TestFiftyAndAPerson: 50 processes on an empty cache, codes that work once, and a person who takes 5 seconds: one
// question, one GetSessionToken, 50 successes.
func TestFiftyAndAPerson(t *testing.T) {
	t.Parallel()
	h := seedless(t, "")
	s, dir := h.herd(t, herdSize, filepath.Join(h.bin, "credproc"), "product_prod_paul")
	s.waits(question)
	time.Sleep(5 * time.Second)
	s.types(h.code(t, serial))
	succeedAlike(t, herdResults(t, s, dir, herdSize))
	s.asked(1)
	s.asItWas()
	h.counted(t, "GetSessionToken", 1)
	h.counted(t, "AssumeRole", 1)
	h.toldCodes(t, 1)
}

// TestFiftyAndASeed: the same where a seed is stored: nobody is asked.
func TestFiftyAndASeed(t *testing.T) {
	t.Parallel()
	h := demo(t)
	s, dir := h.herd(t, herdSize, filepath.Join(h.bin, "credproc"), "product_prod_paul")
	succeedAlike(t, herdResults(t, s, dir, herdSize))
	s.asked(0)
	h.counted(t, "GetSessionToken", 1)
	h.toldCodes(t, 1)
}

// process makes a program that writes down that it ran, and then does what the rest says.
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

// TestFiftyAndAProgram: the same with mfa_process, which runs once.
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

// TestKeptSession: the session outlives the daemon, in the keyring; logout and another device end it there too.
func TestKeptSession(t *testing.T) {
	t.Parallel()
	h := seedless(t, "")
	h.ok(t, "broker", "login", "security", "--code", h.code(t, serial))
	source := h.credentials(t, "security")
	role := h.credentials(t, "product_prod_paul")
	must(t, h.stopDaemon())
	if again := h.credentials(t, "security"); again != source {
		t.Errorf("after a restart it is another session: %s, was %s", again.AccessKeyID, source.AccessKeyID)
	}
	must(t, syscall.Kill(h.daemonPID(t), syscall.SIGKILL))
	h.credentials(t, "product_prod_paul")
	h.counted(t, "GetSessionToken", 1)

	asks := func(when string) {
		t.Helper()
		s := h.sit(t, "credproc", "security")
		s.waits(question)
		s.keys("\x03")
		s.fails("4")
		must(t, h.stopDaemon()) // which also forgets that somebody said no
		if r := h.run("credproc", "security"); r.code != 4 {
			t.Errorf("%s, and after another restart: %v", when, r)
		}
	}
	h.ok(t, "broker", "logout")
	asks("after logout")
	h.ok(t, "broker", "login", "security", "--code", h.code(t, serial))
	h.counted(t, "GetSessionToken", 2)
	registry, err := os.ReadFile(h.registry())
	must(t, err)
	must(t, h.write(h.registry(), strings.ReplaceAll(string(registry), serial, serial+"-new")))
	must(t, h.stopDaemon())
	asks("with another device")
	h.counted(t, "GetSessionToken", 2)

	must(t, h.stopDaemon())
	w := lookFor(map[string]string{"the key's secret": keySecret, "the session's secret": source.SecretAccessKey, "the session's token": source.SessionToken,
		"the role's secret": role.SecretAccessKey, "the role's token": role.SessionToken})
	must(t, filepath.WalkDir(h.dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || filepath.Dir(path) == h.bin {
			return err
		}
		data, err := os.ReadFile(path)
		for _, name := range w.in(data) {
			t.Errorf("%s holds %s", strings.TrimPrefix(path, h.dir), name)
		}
		return err
	}))
}

// TestLoginAnswersElsewhere: whoever logs in answers the question that is open on another terminal.
func TestLoginAnswersElsewhere(t *testing.T) {
	t.Parallel()
	h := seedless(t, "")
	s := h.sit(t, "credproc", "product_prod_paul")
	s.waits(question)
	h.ok(t, "broker", "login", "security", "--code", h.code(t, serial))
	s.succeeds()
	s.asked(1)
	s.asItWas()
	if !strings.HasSuffix(s.shown(), "\n") {
		t.Errorf("the line of the question was not ended: %q", s.shown())
	}
	h.counted(t, "GetSessionToken", 1)
	h.toldCodes(t, 1)
}

// TestLoginAsks: login without a code asks where it was typed; of several profiles it takes one code for each device, and
// assumes all roles at once.
func TestLoginAsks(t *testing.T) {
	t.Parallel()
	h := seedless(t, "[alias]\nprod = product_prod_paul\ndev = product_dev_paul\n")
	must(t, h.write(h.awsConfig(), demoConfig+"[profile stage]\nrole_arn = "+strings.Replace(prodRole, "444455556666", "333344445555", 1)+"\nsource_profile = security\n"))
	// None is answered before all three were asked for.
	must(t, h.sim.fault(`{"kind":"delay","action":"AssumeRole","delay_seconds":4,"times":-1}`))
	s := h.shell(t, "broker", "login", "prod", "stage", "dev")
	s.waits("MFA code for security (" + serial + "), sent to " + h.sim.url + ", asked by broker: ")
	s.types(h.code(t, serial))
	s.waits("security: logged in until ")
	h.reaches(t, "AssumeRole", 3)
	if strings.Contains(s.shown(), ": ready") {
		t.Errorf("the roles were assumed one after the other:\n%s", s.shown())
	}
	if r := s.ends(); r.code != 0 {
		t.Errorf("exit code %d:\n%s", r.code, s.shown())
	}
	for _, name := range []string{"product_prod_paul: ready", "stage: ready", "product_dev_paul: ready"} {
		s.waits(name)
	}
	s.asked(1)
	s.asItWas()
	h.counted(t, "GetSessionToken", 1)
	h.counted(t, "AssumeRole", 3)
	for _, name := range []string{"product_prod_paul", "stage", "product_dev_paul"} {
		h.credentials(t, name)
	}
	h.counted(t, "AssumeRole", 3)
}

// organisation is one of so many users with a device each: u0, u1, …, and a role that trusts them all.
func organisation(n int) (text string, serials []string) {
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

// many is a house with so many sources, u0, u1, …, that have a device each, and no seed.
func many(t testing.TB, n int) (*house, []string) {
	t.Helper()
	text, serials := organisation(n)
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

// TestTwoDevices: the codes of two devices have nothing to do with each other, nor have their questions.
func TestTwoDevices(t *testing.T) {
	t.Parallel()
	h, serials := many(t, 2)
	one, two := h.sit(t, "credproc", "u0"), h.sit(t, "credproc", "u1")
	one.waits("MFA code for u0 (" + serials[0] + ")")
	two.waits("MFA code for u1 (" + serials[1] + ")")
	two.types(h.code(t, serials[1]))
	two.succeeds()
	if !one.running(200 * time.Millisecond) {
		t.Errorf("the code of another device was taken: %v", one.ends())
	}
	one.types(h.code(t, serials[0]))
	one.succeeds()
	h.toldCodes(t, 2)

	// No name at all is all sources, in turn.
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

// TestSecondCodeIsAwaitedLong: two profiles that want a code of one device each, within the same 30 s, and a seed that
// makes the codes: the second waits for the next one, the person is told how long, and both succeed.
func TestSecondCodeIsAwaitedLong(t *testing.T) {
	t.Parallel()
	h := demo(t)
	var config strings.Builder
	for _, name := range []string{"one", "two"} {
		// Longer than an hour is a call with key and code of its own.
		fmt.Fprintf(&config, "[profile %s]\nrole_arn = %s\nsource_profile = security\nrole_session_name = %s\nduration_seconds = 7200\n", name, "arn:aws:iam::222233334444:role/long-work", name)
	}
	must(t, h.write(h.awsConfig(), config.String()))
	if left := 30*time.Second - time.Duration(time.Now().UnixNano())%(30*time.Second); left < 15*time.Second {
		time.Sleep(left) // so that both ask within one step
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
	if told == 0 { // the first may still be there to be told too
		t.Error("nobody was told why it takes long")
	}
	h.counted(t, "AssumeRole", 2)
	h.toldCodes(t, 2)
}

// TestNoCodeTwiceAfterKillLong: the daemon is killed while STS has the code and the answer is not there, and the same
// code is given again, by the client, which starts a daemon and repeats its request, and by the person. AWS sees it
// once.
func TestNoCodeTwiceAfterKillLong(t *testing.T) {
	t.Parallel()
	// A device has three codes at the start and one more each 30 s: as many devices as the rounds need.
	const rounds, sources = 200, 60
	h, serials := many(t, sources)
	must(t, h.sim.fault(`{"kind":"delay","action":"GetSessionToken","hold_seconds":0.3,"times":-1}`))
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
					time.Sleep(time.Duration(kills%8) * 40 * time.Millisecond)
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
		// The person types it once more.
		if again := h.run("broker", login...); again.code == 0 && first.code != 0 {
			t.Errorf("%v: a code whose answer was lost was taken: %v", login[:2], again)
		}
		h.run("broker", "logout", login[1])
	}
	codes := h.codes(t)
	h.toldCodes(t, len(codes))
	t.Logf("%d kills, %d codes, %d of them with their answer lost", kills, len(codes), lost)
	if lost < kills/2 {
		t.Errorf("%d kills, and %d answers lost: nothing is proven", kills, lost)
	}
}

func isStopped(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
