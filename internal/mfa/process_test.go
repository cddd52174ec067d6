//go:build unix

package mfa

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"broker/internal/child"
	"broker/internal/fault"
)

// told is what bad helpers also print: it must not appear anywhere.
const told = "s3cr3t-of-the-helper"

// patience is the timeout for actions that take no time on an idle machine.
const patience = time.Minute

// poll waits until a condition is true.
func poll(t testing.TB, what string, so func() bool) {
	t.Helper()
	for give := time.Now().Add(patience); !so(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(give) {
			t.Errorf("timed out waiting until %s", what)
			return
		}
	}
}

func there(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// script writes a shell script and returns its path.
func script(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// leftovers lists the processes that were started after mark was set in our environment.
func leftovers(t testing.TB, mark string) (left []string) {
	t.Helper()
	if runtime.GOOS != "linux" {
		return nil
	}
	all, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil || len(all) == 0 {
		t.Fatalf("no processes to look at: %v", err)
	}
	for _, file := range all {
		env, err := os.ReadFile(file)
		if err != nil || !strings.Contains(string(env), "MFA_TEST_MARK="+mark) {
			continue
		}
		cmdline, _ := os.ReadFile(filepath.Join(filepath.Dir(file), "cmdline"))
		left = append(left, filepath.Base(filepath.Dir(file))+" "+strings.ReplaceAll(string(cmdline), "\x00", " "))
	}
	return left
}

func descriptors() int {
	entries, _ := os.ReadDir("/dev/fd")
	return len(entries)
}

// allGone fails unless processes, goroutines and descriptors are back at their earlier numbers, at once or a
// little later.
func allGone(t testing.TB, mark string, goroutines, fds int) {
	t.Helper()
	var left []string
	for give := time.Now().Add(patience); time.Now().Before(give); time.Sleep(20 * time.Millisecond) {
		left = leftovers(t, mark)
		if len(left) == 0 && runtime.NumGoroutine() <= goroutines && descriptors() <= fds {
			return
		}
	}
	t.Errorf("left: processes %q, %d goroutines (were %d), %d descriptors (were %d)", left, runtime.NumGoroutine(), goroutines, descriptors(), fds)
}

// TestBadHelpers: whatever a program does, the error is one line without its output, and nothing is left of the
// program.
func TestBadHelpers(t *testing.T) {
	const short, ok, no = 250 * time.Millisecond, "", "did not print a code of 6 digits"
	const late, much, two = "did not end within 250ms", "printed more than 64 KiB", "printed more than one line"
	tests := []struct {
		name, script, want string // if want is "", the code is 123456
		timeout            time.Duration
		escapes            bool // a process leaves the group, so we must not end it
	}{
		{name: "hangs", script: "sleep 1000", want: late, timeout: short},
		{name: "hangs after a code", script: "echo 123456; sleep 1000", want: late, timeout: short},
		{name: "spins", script: "while :; do :; done", want: late, timeout: short},
		{name: "waits for stdin, which is empty", script: "cat; echo 123456", want: ok},
		{name: "waits for a terminal", script: "read x </dev/tty; sleep 1000", want: late, timeout: short},
		{name: "ignores SIGTERM, SIGINT, SIGHUP", script: "trap '' TERM INT HUP; while :; do sleep 1; done", want: late, timeout: short},
		{name: "stops itself", script: "kill -STOP $$; echo 123456", want: late, timeout: short},
		{name: "closes stdout early and hangs", script: "exec >&-; sleep 1000", want: late, timeout: short},
		{name: "closes stdout after a code, ends well", script: "echo 123456; exec >&-; sleep 0.1", want: ok},
		{name: "waits for a child that hangs", script: "sleep 1000 & wait", want: late, timeout: short},
		{name: "a child holds stdout", script: "sleep 1000 & echo 123456", want: ok},
		{name: "a child holds stdout, and nothing was said", script: "sleep 1000 &", want: "printed nothing"},
		{name: "a child floods stdout", script: "yes " + told + " & sleep 1000", want: much},
		{name: "a child that ignores SIGHUP holds stdout", script: "(trap '' HUP TERM; sleep 1000) & echo 123456", want: ok},
		{name: "double fork", script: "( (sleep 1000) & ); echo 123456", want: ok},
		{name: "double fork, then hangs", script: "( (sleep 1000) & ); sleep 1000", want: late, timeout: short},
		{name: "100 children", script: "for i in $(seq 100); do sleep 1000 & done; echo 123456", want: ok},
		{name: "a daemon holds stdout", script: "setsid sleep 1000 & sleep 0.3; echo 123456", want: ok, escapes: true},
		{name: "a daemon holds stdout, and it hangs", script: "setsid sleep 1000 & sleep 1000", want: late, timeout: short, escapes: true},
		{name: "a gigabyte in one line", script: "head -c 1000000000 /dev/zero", want: much},
		{name: "a gigabyte of lines", script: "yes " + told + " | head -c 1000000000", want: much},
		{name: "without end, deaf to SIGPIPE", script: "trap '' PIPE; while :; do echo " + told + "; done", want: much},
		{name: "a code, then 64 KiB of blanks", script: "echo 123456; head -c 65536 /dev/zero | tr '\\0' ' '", want: much},
		{name: "64 KiB in all", script: "echo 123456; head -c 65529 /dev/zero | tr '\\0' ' '", want: ok},
		{name: "floods stderr", script: "yes " + told + " | head -c 20000000 >&2; echo 123456", want: ok},
		{name: "floods stderr without end", script: "yes " + told + " >&2", want: late, timeout: short},
		{name: "nothing", script: ":", want: "printed nothing"},
		{name: "blank lines", script: "printf ' \\n\\n\\t\\r\\n'", want: "printed nothing"},
		{name: "two codes", script: "echo 123456; echo 654321", want: two},
		{name: "a code twice", script: "echo 123456; echo 123456", want: two},
		{name: "a code and a word", script: "echo 123456; echo " + told, want: two},
		{name: "a code in two lines", script: "echo 123; echo 456", want: two},
		{name: "letters", script: "echo " + told, want: no},
		{name: "a code and its name", script: "echo aws:paul 123456", want: no},
		{name: "5 digits", script: "echo 12345", want: no},
		{name: "7 digits", script: "echo 1234567", want: no},
		{name: "8 digits", script: "echo 12345678", want: no},
		{name: "a sign", script: "echo -123456", want: no},
		{name: "other digits", script: "echo ١٢٣٤٥٦", want: no},
		{name: "two codes parted by a carriage return", script: "printf '123\\r456'", want: no},
		{name: "NULs", script: "printf '\\0\\0\\0'", want: no},
		{name: "a code and a NUL", script: "printf '123456\\0'", want: no},
		{name: "an escape sequence", script: "printf '\\033[2J123456'", want: no},
		{name: "not UTF-8", script: "printf '\\377\\376'", want: no},
		{name: "exit 1 with a code", script: "echo 123456; exit 1", want: "ended with exit code 1"},
		{name: "exit 255 with its reason", script: "echo " + told + " >&2; echo " + told + "; exit 255", want: "ended with exit code 255"},
		{name: "killed with a code", script: "echo 123456; kill -KILL $$", want: "was ended by a signal (killed)"},
		{name: "crashes", script: "kill -SEGV $$", want: "was ended by a signal (segmentation fault)"},
		{name: "kills its group", script: "echo 123456; kill -TERM 0; sleep 1000", want: "was ended by a signal (terminated)"},

		{name: "a good one", script: "echo 123456", want: ok},
		{name: "without a line end", script: "printf 123456", want: ok},
		{name: "blanks around and inside", script: "printf '\\n  123 456 \\r\\n\\n'", want: ok},
	}
	bad := 0
	for i, tt := range tests {
		if tt.want != ok {
			bad++
		}
		t.Run(tt.name, func(t *testing.T) {
			mark := fmt.Sprintf("%d-%d-", os.Getpid(), i)
			t.Setenv("MFA_TEST_MARK", mark)
			path := script(t, "ykman", tt.script)
			goroutines, fds := runtime.NumGoroutine(), descriptors()
			timeout := tt.timeout
			if timeout == 0 {
				timeout = patience
			}
			code, err := fromProcess(context.Background(), path, timeout)
			if tt.want == ok {
				if err != nil || code.Reveal() != "123456" {
					t.Errorf("got %d digits, %v", len(code.Reveal()), err)
				}
			} else {
				checkRefusal(t, err, fault.Failed, "mfa_process ykman: "+tt.want)
				if !code.IsZero() {
					t.Error("a code came with the error")
				}
			}
			if tt.escapes { // it still runs, and nobody waited for it
				for _, process := range leftovers(t, mark) {
					var pid int
					_, _ = fmt.Sscan(process, &pid)
					_ = syscall.Kill(pid, syscall.SIGKILL)
				}
			}
			allGone(t, mark, goroutines, fds)
		})
	}
	if bad < 40 {
		t.Errorf("only %d bad helpers", bad)
	}
}

// checkRefusal compares the whole message, so that it cannot contain any output of a helper.
func checkRefusal(t testing.TB, err error, kind fault.Kind, want string) {
	t.Helper()
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
		return
	}
	if !fault.Is(err, kind) {
		t.Errorf("%v is of kind %s, want %s", err, fault.Of(err).Kind, kind)
	}
	for e := err; e != nil; e = errors.Unwrap(e) {
		if strings.Contains(fmt.Sprintf("%+v", e), told) {
			t.Errorf("%T repeats what the helper said", e)
		}
	}
}

func TestCommandsThatAreNone(t *testing.T) {
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain")
	garbage := filepath.Join(dir, "garbage")
	noInterpreter := filepath.Join(dir, "no-interpreter")
	for path, text := range map[string]string{plain: "#!/bin/sh\necho 123456\n", garbage: "\x7fELF", noInterpreter: "#!/no/such/program\n"} {
		mode := os.FileMode(0o755)
		if path == plain {
			mode = 0o644
		}
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":.:"+os.Getenv("PATH"))
	t.Setenv("HOME", dir)
	t.Chdir(dir)
	if err := os.WriteFile("here", []byte("#!/bin/sh\necho 123456\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", ".:"+"/usr/bin:/bin") // a program in the current directory is not one that the user chose
	long := strings.Repeat("x", 5000)
	for command, want := range map[string]struct {
		kind    fault.Kind
		message string
	}{
		"":                         {fault.Config, "mfa_process has no program"},
		" \t ":                     {fault.Config, "mfa_process has no program"},
		`"" -s aws`:                {fault.Config, "mfa_process has no program"},
		"no-such-program-anywhere": {fault.Failed, "mfa_process no-such-program-anywhere: is not there"},
		"here":                     {fault.Failed, "mfa_process here: is not there"},
		"/no/such/ykman -s aws":    {fault.Failed, "mfa_process ykman: is not there"},
		"./here":                   {fault.Config, "mfa_process here: is neither an absolute path nor a name on the PATH"},
		"~/here":                   {fault.Config, "mfa_process here: is neither an absolute path nor a name on the PATH"},
		"$HOME/here":               {fault.Config, "mfa_process here: is neither an absolute path nor a name on the PATH"},
		plain:                      {fault.Failed, "mfa_process plain: cannot be started: permission denied"},
		dir:                        {fault.Failed, "mfa_process " + filepath.Base(dir) + ": cannot be started: is a directory"},
		garbage:                    {fault.Failed, "mfa_process garbage: cannot be started: exec format error"},
		noInterpreter:              {fault.Failed, "mfa_process no-interpreter: cannot be started: no such file or directory"},
		"/bin/echo \x00":           {fault.Failed, "mfa_process echo: cannot be started: invalid argument"},
		"echo 123456; exit":        {fault.Failed, "mfa_process echo: did not print a code of 6 digits"},
		"echo $(id)":               {fault.Failed, "mfa_process echo: did not print a code of 6 digits"},
		"/x/\x1b[2J\u202e":         {fault.Failed, `mfa_process \x1b[2J\u202e: is not there`},
		"/x/" + long:               {fault.Failed, "mfa_process " + long[:maxShown] + "…: is not there"},
	} {
		_, err := FromProcess(context.Background(), command)
		checkRefusal(t, err, want.kind, want.message)
	}
}

// TestProgramOfOthers: a program that another user can change is not run, although its line was accepted before.
func TestProgramOfOthers(t *testing.T) {
	dir := t.TempDir()
	program, ran := filepath.Join(dir, "tool"), filepath.Join(t.TempDir(), "ran")
	if err := os.WriteFile(program, []byte("#!/bin/sh\n: >"+ran+"\necho {}\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	for what, path := range map[string]string{"program": program, "directory": dir} {
		if err := os.Chmod(path, 0o707); err != nil {
			t.Fatal(err)
		}
		out, err := CredentialProcess(t.Context(), program)
		if !fault.Is(err, fault.Config) || !out.IsZero() || there(ran) {
			t.Errorf("%s: printed %q, ran: %v, %v", what, out.Reveal(), there(ran), err)
		}
		if err := os.Chmod(path, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := CredentialProcess(t.Context(), program); err != nil || out.IsZero() || !there(ran) {
		t.Errorf("a program of ours: %v", err)
	}
}

func TestProcessIsSplitAsTheSDKsDo(t *testing.T) {
	path := script(t, "my tool", `[ $# = 3 ] && [ "$1" = 'a b' ] && [ "$2" = '$HOME' ] && [ "$3" = '' ] && echo 123456`)
	code, err := FromProcess(context.Background(), `"`+path+`"  "a b" $HOME ""`)
	if err != nil || code.Reveal() != "123456" {
		t.Error(err)
	}
}

// TestScriptOfOthers: a program does not run a script that another user can change.
func TestScriptOfOthers(t *testing.T) {
	path := script(t, "code", "echo 123456")
	if code, err := FromProcess(t.Context(), "/bin/sh "+path); err != nil || code.Reveal() != "123456" {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o777); err != nil {
		t.Fatal(err)
	}
	_, err := FromProcess(t.Context(), "/bin/sh "+path)
	checkRefusal(t, err, fault.Config, "mfa_process sh: "+path+" can be written by others (mode 0777)")
	_, err = CredentialProcess(t.Context(), "/bin/sh -e "+path)
	if !fault.Is(err, fault.Config) || !strings.Contains(err.Error(), path) {
		t.Error(err)
	}
}

func TestProcessEnvironment(t *testing.T) {
	t.Setenv("AWS_SECRET_ACCESS_KEY", told)
	t.Setenv("AWS_PROFILE", "x")
	t.Setenv("BROKER_SOCKET", "x")
	t.Setenv("YKMAN_X", "kept")
	path := script(t, "ykman", `env | grep -E '^(AWS|BROKER)_' && exit 9; [ "$YKMAN_X" = kept ] && [ -n "$PATH" ] && [ "$(pwd)" = / ] && echo 123456`)
	if _, err := FromProcess(context.Background(), path); err != nil {
		t.Error(err)
	}
}

func TestProcessEndsWithItsContext(t *testing.T) {
	mark := fmt.Sprintf("%d-ctx-", os.Getpid())
	t.Setenv("MFA_TEST_MARK", mark)
	running := filepath.Join(t.TempDir(), "running")
	path := script(t, "ykman", ": >'"+running+"'; sleep 1000")
	goroutines, fds := runtime.NumGoroutine(), descriptors()
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		poll(t, "it runs", func() bool { return there(running) })
		cancel()
	}()
	_, err := fromProcess(ctx, path, patience)
	checkRefusal(t, err, fault.Failed, "mfa_process ykman: was stopped before it answered")
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v does not wrap the end of the context", err)
	}
	if _, err := FromProcess(ctx, path); !errors.Is(err, context.Canceled) {
		t.Errorf("a context that has ended: %v", err)
	}
	ctx, cancel = context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	if _, err := FromProcess(ctx, path); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, child.ErrTimeout) {
		t.Errorf("the caller's deadline: %v", err)
	}
	allGone(t, mark, goroutines, fds)
}

// recipes are the programs of docs/mfa.md with their output on stdout and stderr, including line ends.
var recipes = map[string]string{
	// -s prints only the code; the request for a touch goes to stderr.
	"ykman oath accounts code -s aws": `[ "$*" = "oath accounts code -s aws" ] || exit 2
echo "Touch your YubiKey..." >&2; sleep 0.3; echo 123456`,
	// echo prints oathtool's code again.
	"pass otp aws": `[ "$*" = "otp aws" ] || { echo "Error: aws is not in the password store."; exit 1; }
code=$(echo 123456); echo "$code"`,
	"op item get AWS --otp": `[ "$*" = "item get AWS --otp" ] || { echo "[ERROR] 2026/01/02 03:04:05 unknown" >&2; exit 1; }
echo 123456`,
	"oathtool --totp --base32 @/home/paul/.config/aws-mfa-seed": `[ "$*" = "--totp --base32 @/home/paul/.config/aws-mfa-seed" ] && echo 123456`,
}

// TestRecipes runs all commands that docs/mfa.md recommends.
func TestRecipes(t *testing.T) {
	text, err := os.ReadFile("../../docs/mfa.md")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^mfa_process = (.*)$`).FindAllStringSubmatch(string(text), -1) {
		found[m[1]] = true
	}
	for command := range found {
		fake, ok := recipes[command]
		if !ok {
			t.Errorf("docs/mfa.md recommends %q, which no test runs", command)
			continue
		}
		program, _, _ := strings.Cut(command, " ")
		t.Setenv("PATH", filepath.Dir(script(t, program, fake))+":/usr/bin:/bin")
		if code, err := FromProcess(context.Background(), command); code.Reveal() != "123456" {
			t.Errorf("%s: %v", command, err)
		}
	}
	if len(found) != len(recipes) {
		t.Errorf("docs/mfa.md has %d recipes, want %d", len(found), len(recipes))
	}
}

// TestRecipesGoneWrong: the same programs when something fails.
func TestRecipesGoneWrong(t *testing.T) {
	for _, tt := range []struct{ command, fake, want string }{
		{"ykman oath accounts code aws", "echo 'aws:paul  123456'", "mfa_process ykman: did not print a code of 6 digits"},
		{"ykman oath accounts code -s aws", "echo 'ERROR: No YubiKey detected!' >&2; exit 1", "mfa_process ykman: ended with exit code 1"},
		{"pass otp aws", "echo 'Error: aws is not in the password store.'; exit 1", "mfa_process pass: ended with exit code 1"},
		{"op item get AWS --otp", "echo '[ERROR] 2026/01/02 03:04:05 You are not currently signed in.' >&2; exit 1", "mfa_process op: ended with exit code 1"},
		{"oathtool --totp x", "echo 'oathtool: base32 decoding failed' >&2; exit 1", "mfa_process oathtool: ended with exit code 1"},
	} {
		program, _, _ := strings.Cut(tt.command, " ")
		t.Setenv("PATH", filepath.Dir(script(t, program, tt.fake))+":/usr/bin:/bin")
		_, err := FromProcess(context.Background(), tt.command)
		checkRefusal(t, err, fault.Failed, tt.want)
	}
}

func FuzzProcessOutput(f *testing.F) {
	for _, s := range []string{"123456\n", " 123 456 \r\n\n", "123456\n123456", "12345", "\x00", "123\r456", "\u00a0123456", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, out string) {
		code, problem := parseOutput(out)
		if code.IsZero() == (problem == "") {
			t.Fatalf("%q: neither code nor problem, or both", out)
		}
		var digits strings.Builder
		for _, r := range out {
			if r >= '0' && r <= '9' {
				digits.WriteRune(r)
			}
		}
		if problem == "" && code.Reveal() != digits.String() || len(code.Reveal())%6 != 0 {
			t.Errorf("%q was read as something else", out)
		}
	})
}
