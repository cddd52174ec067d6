package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestScripts runs testdata/script, TestScriptsLong testdata/script/long. Beyond the commands of testscript there are:
//
//	sim [FLAG…]               starts the simulator; $STS is its URL, $CA its CA with --tls
//	simstop                   ends it
//	settings [FILE]           writes the registry: the simulator, the file keyring, then FILE
//	setup [-noseed|-nokey]    settings with the script's file `registry`, the key and the seed
//	broker ARG…               runs it; it has to succeed, and to be silent on stderr but for warnings
//	credproc ARG…             likewise
//	fails CODE PROGRAM ARG…   it has to end with that code, nothing on stdout and at most two lines
//	exits CODE PROGRAM ARG…   any program that has to end with that code
//	eventually REGEXP ARG…    runs `broker ARG…` until stdout matches
//	dialog FILE CODE ARG…     runs a program on a terminal; FILE says what is shown (<) and typed (>);
//	                          the file `screen` is what the terminal showed
//	simcount ACTION N         so often an action was called
//	simrequests               prints the records of the simulator, one JSON object a line
//	simpost PATH [JSON]       steers it, see stssim's admin paths
//	simfault JSON             simpost faults
//	code                      $CODE is what the MFA device shows now
//	freshcodes                makes the codes of this moment good again, on both sides
//	signal NAME               to the daemon; with KILL or TERM waits for its end
//	differ A B                two files that must not be equal
//	until COMMAND             waits until `sh -c COMMAND` succeeds
//
// At the end of a script the daemon is stopped; a process that is left fails the test.
func TestScripts(t *testing.T) { runScripts(t, "testdata/script") }

func TestScriptsLong(t *testing.T) { runScripts(t, "testdata/script/long") }

func runScripts(t *testing.T, dir string) {
	t.Helper()
	t.Parallel()
	t.Run("scripts", func(t *testing.T) {
		testscript.Run(t, testscript.Params{
			Dir:                 dir,
			RequireExplicitExec: true,
			RequireUniqueNames:  true,
			Setup:               setupScript,
			Cmds: map[string]func(*testscript.TestScript, bool, []string){
				"sim":         script(cmdSim),
				"simstop":     script(cmdSimStop),
				"settings":    script(cmdSettings),
				"setup":       script(cmdSetup),
				"broker":      script(cmdProgram("broker")),
				"credproc":    script(cmdProgram("credproc")),
				"fails":       script(cmdFails),
				"exits":       script(cmdExits),
				"eventually":  script(cmdEventually),
				"dialog":      script(cmdDialog),
				"simcount":    script(cmdSimCount),
				"simrequests": script(cmdSimRequests),
				"simpost":     script(cmdSimPost),
				"simfault":    script(cmdSimFault),
				"code":        script(cmdCode),
				"freshcodes":  script(cmdFreshCodes),
				"signal":      script(cmdSignal),
				"differ":      script(cmdDiffer),
				"until":       script(cmdUntil),
			},
		})
	})
	t.Run("hints", checkHints)
}

// houseKey is the key under which a script's house is stored.
type houseKey struct{}

func setupScript(env *testscript.Env) error {
	h, err := openHouse(env.WorkDir)
	if err != nil {
		return err
	}
	env.Values[houseKey{}] = h
	env.Defer(func() {
		if err := h.close(); err != nil {
			env.T().Fatal(err)
		}
	})
	env.Vars = append(env.Vars, h.env...)
	env.Setenv("BIN", h.bin)
	env.Setenv("SELF", os.Args[0]) // with E2E_ROLE, it plays one of its roles
	env.Setenv("SERIAL", serial)
	env.Setenv("PROD", prodRole)
	env.Setenv("DEV", devRole)
	return nil
}

// script makes a testscript command of a function that returns an error.
func script(
	run func(ts *testscript.TestScript, h *house, args []string) error,
) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		if neg {
			ts.Fatalf("this command does not accept !; use fails CODE")
		}
		h := ts.Value(houseKey{}).(*house)
		if err := run(ts, h, args); err != nil {
			ts.Fatalf("%v", err)
		}
	}
}

func cmdSim(ts *testscript.TestScript, h *house, args []string) error {
	if err := h.startSim(args...); err != nil {
		return err
	}
	ts.Setenv("STS", h.sim.url)
	ts.Setenv("CA", h.sim.ca)
	return nil
}

func cmdSimStop(_ *testscript.TestScript, h *house, _ []string) error { return h.sim.stop() }

func cmdSettings(ts *testscript.TestScript, h *house, args []string) error {
	rest := ""
	if len(args) == 1 {
		rest = ts.ReadFile(args[0])
	}
	return h.settings(os.Expand(rest, ts.Getenv))
}

func cmdSetup(ts *testscript.TestScript, h *house, args []string) error {
	if h.sim == nil {
		if err := cmdSim(ts, h, nil); err != nil {
			return err
		}
	}
	var rest []string
	if isFile(ts.MkAbs("registry")) {
		rest = []string{"registry"}
	}
	if err := cmdSettings(ts, h, rest); err != nil {
		return err
	}
	if slices.Contains(args, "-nokey") {
		return nil
	}
	return h.furnish(!slices.Contains(args, "-noseed"))
}

// execute runs a program with the environment and directory of the script.
func execute(ts *testscript.TestScript, name string, args ...string) (result, error) {
	err := ts.Exec(name, args...)
	r := result{stdout: ts.ReadFile("stdout"), stderr: ts.ReadFile("stderr")}
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		r.code = exitCode(exit.ProcessState)
	case err != nil:
		return r, err
	}
	keepHints(ts.Name(), r)
	return r, examine(r)
}

// secretTexts are texts that no program may ever print.
var secretTexts = []string{keySecret, seed, passphrase}

// examine checks what must hold for every run of every program.
func examine(r result) error {
	for _, s := range secretTexts {
		if strings.Contains(r.stdout, s) || strings.Contains(r.stderr, s) {
			return fmt.Errorf("the output contains a secret: %v", r)
		}
	}
	return nil
}

func cmdProgram(name string) func(*testscript.TestScript, *house, []string) error {
	return func(ts *testscript.TestScript, _ *house, args []string) error {
		r, err := execute(ts, name, args...)
		if err != nil {
			return err
		}
		if r.code != 0 {
			return fmt.Errorf("exit code %d", r.code)
		}
		for l := range strings.Lines(r.stderr) {
			if !strings.HasPrefix(l, "warning: ") {
				return errors.New("the program succeeded, but wrote to stderr")
			}
		}
		return nil
	}
}

func cmdFails(ts *testscript.TestScript, _ *house, args []string) error {
	if len(args) < 2 {
		return errors.New("usage: fails CODE PROGRAM ARG…")
	}
	r, err := execute(ts, args[1], args[2:]...)
	if err != nil {
		return err
	}
	return checkFailure(r, args[0], args[1], args[2:])
}

// checkFailure checks the form of a failure: nothing on stdout, one line that says what is wrong, and optionally a
// hint.
func checkFailure(r result, code, program string, args []string) error {
	if strconv.Itoa(r.code) != code {
		return fmt.Errorf("exit code %d, want %s: %s", r.code, code, r.stderr)
	}
	if r.stdout != "" && !(program == "broker" && slices.Contains(args, "status")) {
		return fmt.Errorf("the program failed, but wrote to stdout: %q", r.stdout)
	}
	lines := strings.Split(strings.TrimSuffix(r.stderr, "\n"), "\n")
	for len(lines) > 0 && strings.HasPrefix(lines[0], "warning: ") {
		lines = lines[1:]
	}
	switch {
	case len(lines) == 0 || !strings.HasPrefix(lines[0], program+": "):
		return fmt.Errorf("the first line does not have the form that %s uses: %q", program, r.stderr)
	case len(lines) > 2, len(lines) == 2 && !strings.HasPrefix(lines[1], "hint: "):
		return fmt.Errorf("more than one line and a hint: %q", r.stderr)
	}
	for _, l := range lines {
		if strings.ContainsFunc(l, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return fmt.Errorf("a control character would reach the terminal: %q", l)
		}
	}
	return nil
}

func cmdExits(ts *testscript.TestScript, _ *house, args []string) error {
	if len(args) < 2 {
		return errors.New("usage: exits CODE PROGRAM ARG…")
	}
	r, err := execute(ts, args[1], args[2:]...)
	if err == nil && strconv.Itoa(r.code) != args[0] {
		err = fmt.Errorf("exit code %d, want %s", r.code, args[0])
	}
	return err
}

func cmdEventually(ts *testscript.TestScript, _ *house, args []string) error {
	want, err := regexp.Compile(args[0])
	if err != nil {
		return err
	}
	for limit := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		r, err := execute(ts, "broker", args[1:]...)
		if err != nil {
			return err
		}
		if want.MatchString(r.stdout) {
			return nil
		}
		if time.Now().After(limit) {
			return fmt.Errorf("never matched; the last result was %v", r)
		}
	}
}

func cmdDialog(ts *testscript.TestScript, h *house, args []string) error {
	if len(args) < 3 {
		return errors.New("usage: dialog FILE CODE PROGRAM ARG…")
	}
	dialog, err := parseDialog(strings.ReplaceAll(ts.ReadFile(args[0]), "$PASSPHRASE", passphrase))
	if err != nil {
		return err
	}
	cmd := h.command(args[2], args[3:]...)
	cmd.Dir = ts.MkAbs(".")
	cmd.Env = nil
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "BROKER_KEYRING_PASSPHRASE_FILE"} {
		if v := ts.Getenv(name); v != "" {
			cmd.Env = append(cmd.Env, name+"="+v)
		}
	}
	r, shown, err := converse(cmd, dialog)
	if err != nil {
		return err
	}
	_, _ = ts.Stdout().Write([]byte(r.stdout))
	_, _ = ts.Stderr().Write([]byte(r.stderr))
	if err := os.WriteFile(ts.MkAbs("screen"), []byte(strings.ReplaceAll(shown, "\r\n", "\n")), 0o600); err != nil {
		return err
	}
	if strconv.Itoa(r.code) != args[1] {
		return fmt.Errorf("exit code %d, want %s; the terminal showed:\n%s", r.code, args[1], shown)
	}
	keepHints(ts.Name(), r)
	return examine(r)
}

func cmdSimCount(_ *testscript.TestScript, h *house, args []string) error {
	got, err := h.sim.count(args[0])
	if err == nil && strconv.Itoa(got) != args[1] {
		err = fmt.Errorf("%s was called %d times, want %s", args[0], got, args[1])
	}
	return err
}

func cmdSimRequests(ts *testscript.TestScript, h *house, _ []string) error {
	list, err := h.sim.requests()
	if err != nil {
		return err
	}
	enc := json.NewEncoder(ts.Stdout())
	for _, r := range list {
		if err := enc.Encode(r); err != nil {
			return err
		}
	}
	return nil
}

func cmdSimPost(_ *testscript.TestScript, h *house, args []string) error {
	body := ""
	if len(args) > 1 {
		body = args[1]
	}
	return h.sim.post(args[0], body)
}

func cmdSimFault(_ *testscript.TestScript, h *house, args []string) error {
	return h.sim.fault(strings.Join(args, " "))
}

func cmdCode(ts *testscript.TestScript, h *house, _ []string) error {
	r := h.run("stssim", "--org", "demo", "--print-code", serial)
	if r.code != 0 {
		return fmt.Errorf("%v", r)
	}
	ts.Setenv("CODE", strings.TrimSpace(r.stdout))
	return nil
}

func cmdFreshCodes(_ *testscript.TestScript, h *house, _ []string) error { return h.freshCodes() }

func cmdSignal(_ *testscript.TestScript, h *house, args []string) error {
	signals := map[string]syscall.Signal{"KILL": syscall.SIGKILL, "TERM": syscall.SIGTERM, "STOP": syscall.SIGSTOP, "CONT": syscall.SIGCONT}
	s, err := h.status()
	if err != nil {
		return err
	}
	if !s.Running {
		return errors.New("no daemon is running")
	}
	sig := signals[args[0]]
	if sig == syscall.SIGSTOP {
		return halt(s.PID)
	}
	if err := syscall.Kill(s.PID, sig); err != nil || sig == syscall.SIGCONT {
		return err
	}
	for limit := time.Now().Add(patience); alive(s.PID); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(limit) {
			return fmt.Errorf("the daemon %d did not end", s.PID)
		}
	}
	return nil
}

func cmdDiffer(ts *testscript.TestScript, _ *house, args []string) error {
	if ts.ReadFile(args[0]) == ts.ReadFile(args[1]) {
		return fmt.Errorf("%s and %s are equal", args[0], args[1])
	}
	return nil
}

func cmdUntil(ts *testscript.TestScript, _ *house, args []string) error {
	for limit := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		if ts.Exec("sh", "-c", args[0]) == nil {
			return nil
		}
		if time.Now().After(limit) {
			return fmt.Errorf("never true: %s", args[0])
		}
	}
}

// hints are the texts printed after "hint: ", with the test that saw them.
var (
	hintsMu sync.Mutex
	hints   = map[string]string{}
)

func keepHints(test string, r result) {
	hintsMu.Lock()
	defer hintsMu.Unlock()
	for l := range strings.Lines(r.stderr) {
		if hint, ok := strings.CutPrefix(l, "hint: "); ok && hints[strings.TrimSpace(hint)] == "" {
			hints[strings.TrimSpace(hint)] = test
		}
	}
}

// standard are the commands that a hint may begin with, in addition to Broker's own.
var standard = map[string]bool{"chmod": true, "env": true, "mv": true, "rm": true, "sleep": true, "df": true, "gnome-keyring-daemon": true,
	"export": true, "unset": true, // part of every shell
	"ls": true, "vi": true, // part of POSIX
}

// checkHints checks that every hint seen is a command line that can be typed, with flags that exist.
func checkHints(t *testing.T) {
	hintsMu.Lock()
	defer hintsMu.Unlock()
	h, err := openHouse(t.TempDir())
	must(t, err)
	for hint, test := range hints {
		words := strings.Fields(hint)
		if words[0] == "env" { // env -u NAME broker …
			if i := slices.Index(words, "broker"); i > 0 {
				words = words[i:]
			}
		}
		switch {
		case words[0] == "broker":
			if err := checkBrokerHint(h, words[1:]); err != nil {
				t.Errorf("%s: hint %q: %v", test, hint, err)
			}
		case words[0] == "credproc", standard[words[0]]:
		default:
			t.Errorf("%s: hint %q does not begin with a command", test, hint)
		}
	}
	if len(hints) == 0 {
		t.Skip("no script that was run printed a hint")
	}
	t.Logf("%d hints", len(hints))
}

// checkBrokerHint asks the program itself whether it has the command and the flags.
func checkBrokerHint(h *house, words []string) error {
	if i := slices.Index(words, "--"); i >= 0 {
		words = words[:i]
	}
	var path []string
	for _, w := range words {
		if w != strings.ToLower(w) || strings.HasPrefix(w, "-") || len(path) == 2 {
			break
		}
		path = append(path, w)
	}
	if len(path) == 0 || !slices.Contains([]string{"profiles", "mfa", "keyring", "service", "policy", "accounts"}, path[0]) {
		path = path[:min(1, len(path))]
	}
	if slices.Equal(words, []string{"help"}) {
		return nil
	}
	r := h.run("broker", append(slices.Clone(path), "--help")...)
	if r.code != 0 || len(path) > 0 && !strings.Contains(r.stdout, strings.Join(append([]string{"broker"}, path...), " ")) {
		return fmt.Errorf("there is no such command: %v", r)
	}
	for _, w := range words {
		flag, _, _ := strings.Cut(w, "=")
		if strings.HasPrefix(flag, "-") && !regexp.MustCompile(regexp.QuoteMeta(flag)+`\b`).MatchString(r.stdout) {
			return fmt.Errorf("there is no flag %s", flag)
		}
	}
	return nil
}
