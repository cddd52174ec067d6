//go:build unix

package mfa

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/creack/pty"

	"broker/internal/fault"
	"broker/internal/secret"
)

const device = "arn:aws:iam::111122223333:mfa/paul"

// fakes is a PATH of scripted programs. They may use sh's built-ins, and absolute paths.
type fakes struct {
	dir  string
	mark string
}

func newFakes(t *testing.T) *fakes {
	t.Helper()
	f := &fakes{t.TempDir(), fmt.Sprintf("%d-%s-", os.Getpid(), t.Name())}
	t.Setenv("PATH", f.dir)
	t.Setenv("MFA_TEST_MARK", f.mark)
	t.Setenv("DISPLAY", ":ours")
	t.Setenv("AWS_SECRET_ACCESS_KEY", told)
	return f
}

// add writes a program. In its text, $D is the directory of the fakes. Its arguments and environment are recorded.
func (f *fakes) add(t *testing.T, name, text string) {
	t.Helper()
	text = "#!/bin/sh\nD='" + f.dir + "'\nfor a; do printf '%s\\0' \"$a\"; done >>\"$D/" + name + ".args\"\n/usr/bin/env >\"$D/" + name + ".env\"\n" + text + "\n"
	if err := os.WriteFile(filepath.Join(f.dir, name), []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}

// pinentry adds a pinentry that answers each GETPIN with the next of these lists of lines.
func (f *fakes) pinentry(t *testing.T, answers ...string) {
	t.Helper()
	for i, a := range answers {
		if err := os.WriteFile(filepath.Join(f.dir, fmt.Sprintf("answer.%d", i)), []byte(a+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f.add(t, "pinentry", `
echo "OK Pleased to meet you"
while IFS= read -r line; do
	printf '%s\n' "$line" >>"$D/told"
	case $line in
	"GETINFO flavor") echo "D fake"; echo OK;;
	GETPIN)
		n=0; while [ -e "$D/asked.$n" ]; do n=$((n+1)); done; : >"$D/asked.$n"
		while IFS= read -r a; do printf '%s\n' "$a"; done <"$D/answer.$n";;
	OPTION*lc-ctype*|SETTIMEOUT*) echo "ERR 83886254 Unknown option <Pinentry>";;
	BYE) echo "OK closing connection"; exit 0;;
	*) echo "# a comment"; echo "S SOME_STATUS 1"; echo OK;;
	esac
done`)
}

func (f *fakes) read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(f.dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// told returns each line that pinentry received.
func (f *fakes) told(t *testing.T) []string {
	return strings.Split(strings.TrimSuffix(f.read(t, "told"), "\n"), "\n")
}

func prompt() Prompt {
	return Prompt{Device: device, Source: "security", Asker: "aws (pid 4711)", Env: []string{"DISPLAY=:4711"}}
}

func ask(t *testing.T, f *fakes, q Prompt, system string) (string, error) {
	t.Helper()
	var code secret.String
	err := f.shows(t, fault.LoginNeeded, func(ctx context.Context) (err error) {
		code, err = askGUI(ctx, q, system)
		return err
	})
	if err != nil && !code.IsZero() {
		t.Error("a code came with the error")
	}
	return code.Reveal(), err
}

// shows calls a function that shows a window. It checks that nothing is left behind, and the error.
func (f *fakes) shows(t *testing.T, kind fault.Kind, window func(context.Context) error) error {
	t.Helper()
	goroutines, fds := runtime.NumGoroutine(), descriptors()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err := window(ctx)
	cancel()
	allGone(t, f.mark, goroutines, fds)
	if err != nil {
		if !fault.Is(err, kind) {
			t.Errorf("%v is of kind %s", err, fault.Of(err).Kind)
		}
		for e := err; e != nil; e = errors.Unwrap(e) {
			if strings.Contains(e.Error(), told) || strings.Contains(e.Error(), "12345") {
				t.Errorf("%v repeats what was typed or printed", e)
			}
		}
	}
	return err
}

func TestPromptText(t *testing.T) {
	for want, q := range map[string]Prompt{
		"MFA code for security (arn:aws:iam::111122223333:mfa/paul), asked by aws (pid 4711):": prompt(),
		"MFA code for security (arn:aws:iam::111122223333:mfa/paul):": {Device: device,
			Source: "security", Reason: "wrong"},
		"MFA code for security (GAHT12345678), sent to https://sts.example/\\x1b, asked by aws:": {Source: "security",
			Device: "GAHT12345678", Endpoint: "https://sts.example/\x1b", Asker: "aws"},
		`MFA code for a b (\x1b[2J), asked by \u202egnp.exe:`: {Source: "a\nb",
			Device: "\x1b[2J", Asker: "\u202egnp.exe"},
		"MFA code for " + strings.Repeat("é", 50) + "… (" + device +
			"), asked by aws:": {Source: strings.Repeat("é", 5000), Device: device, Asker: "aws"},
	} {
		if got := q.Text(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestPromptElsewhere(t *testing.T) {
	const enter = ", press Enter to answer here"
	for _, tt := range []struct {
		seat, want string
		q          Prompt
	}{
		{"pts/1", "waiting for the code of security asked on pts/1 by aws" + enter, Prompt{Source: "security", Asker: "aws"}},
		{"", `waiting for the code of a b, sent to http://\x1b, asked` + enter, Prompt{Source: "a\nb", Endpoint: "http://\x1b"}},
		{"", "waiting for the code of security asked by " + strings.Repeat("x", maxShown) + "…" + enter,
			Prompt{Source: "security", Asker: strings.Repeat("x", 100_000)}},
	} {
		if got := tt.q.Elsewhere(tt.seat); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
}

// hostile are names that a protocol, markup, shell or terminal would interpret.
var hostile = []string{
	"100% %41 %0A", "a\nGETPIN", "a\r\nD 123456", "\x1b[2J\x1b]0;x\a", "<b>bold</b> <img src=/etc/passwd>", "&lt;b&gt; & && &amp;",
	"a_b __c", `back\slash \n \x41 \`, `"; do shell script "id`, `'$(id)' ` + "`id`", "--help", "-x", "\u202egnp", "nul\x00nul", "\xff\xfe",
	strings.Repeat("%", 2000), strings.Repeat("本", 2000), "=", "# comment", "item 1 of argv",
}

func TestPinentryIsTold(t *testing.T) {
	for _, name := range hostile {
		f := newFakes(t)
		f.pinentry(t, "D 123456\nOK")
		q := prompt()
		q.Source, q.Asker, q.Device, q.Reason = name, name, name, name
		if code, err := ask(t, f, q, "linux"); code != "123456" {
			t.Fatalf("%q: %v", name, err)
		}
		set := map[string]string{}
		for _, line := range f.told(t) {
			if len(line) > maxAssuan {
				t.Errorf("%q: a line of %d bytes", name, len(line))
			}
			if i := strings.IndexFunc(line, unicode.IsControl); i >= 0 {
				t.Errorf("%q: %q holds a control character", name, line)
			}
			word, text, _ := strings.Cut(line, " ")
			set[word] += unescape(text)
		}
		for word, want := range map[string]string{
			"SETTITLE":  title,
			"SETDESC":   heading + "\n" + q.Text(),
			"SETPROMPT": "MFA code:",
			"SETERROR":  fault.Line(name),
			"GETPIN":    "",
		} {
			got, ok := set[word]
			if !ok || got != want && !(len(got) > 300 && strings.HasPrefix(want, got)) {
				t.Errorf("%q: %s %q, want %q", name, word, got, want)
			}
		}
		if strings.Contains(set["SETDESC"][:len(heading)], "<") || len(set) != 7 {
			t.Errorf("%q: told %q", name, set)
		}
	}
}

func TestPinentryAnswers(t *testing.T) {
	const wrong = "D 12345x\nOK"
	for _, tt := range []struct {
		name     string
		answers  []string
		code     string
		is       error  // what the error wraps
		want     string // the error
		comments int    // number of SETERROR commands
	}{
		{name: "right", answers: []string{"D 123456\nOK"}, code: "123456"},
		{name: "with a blank", answers: []string{"D 123%20456\nOK"}, code: "123456"},
		{name: "in pieces", answers: []string{"D 123\n# x\nS PROGRESS\nD %3456\nOK"}, code: "123456"},
		{name: "it asks back", answers: []string{"INQUIRE QUALITY 123\nD 123456\nOK"}, code: "123456"},
		{name: "wrong, then right", answers: []string{wrong, "D 123456\nOK"}, code: "123456", comments: 1},
		{name: "wrong twice", answers: []string{wrong, "D 1234567\nOK", "D 654321\nOK"}, code: "654321", comments: 2},
		{name: "wrong three times", answers: []string{wrong, wrong, wrong, "D 123456\nOK"}, want: "no MFA code in 3 answers", comments: 2},
		{name: "canceled", answers: []string{"ERR 83886179 Operation cancelled <Pinentry>"}, is: ErrCancelled, want: "the prompt for an MFA code was canceled"},
		{name: "fully canceled", answers: []string{"S ERROR tty.? 83886278 \nERR 83886278 Fully canceled <Pinentry>"}, is: ErrCancelled, want: "the prompt for an MFA code was canceled"},
		{name: "empty", answers: []string{"OK"}, is: ErrCancelled, want: "the prompt for an MFA code was canceled"},
		{name: "blank", answers: []string{"D  %20\nOK"}, is: ErrCancelled, want: "the prompt for an MFA code was canceled"},
		{name: "wrong, then canceled", answers: []string{wrong, "ERR 83886179 no"}, is: ErrCancelled, want: "the prompt for an MFA code was canceled", comments: 1},
		{name: "timeout", answers: []string{"ERR 83886142 Timeout <Pinentry>"}, is: context.DeadlineExceeded, want: "nobody answered the prompt for an MFA code"},
		{name: "no terminal", answers: []string{"ERR 83918950 Inappropriate ioctl for device <Pinentry>"}, is: ErrNobody,
			want: "nobody can be asked in a window: pinentry answered with error 83918950; zenity is not installed; kdialog is not installed"},
		{name: "an invalid error line", answers: []string{"ERR " + told}, is: ErrNobody,
			want: "nobody can be asked in a window: pinentry does not speak the Assuan protocol; zenity is not installed; kdialog is not installed"},
		{name: "no protocol", answers: []string{told}, is: ErrNobody,
			want: "nobody can be asked in a window: pinentry does not speak the Assuan protocol; zenity is not installed; kdialog is not installed"},
		{name: "wrong, then broken", answers: []string{wrong, told}, want: "prompt for an MFA code: pinentry does not speak the Assuan protocol", comments: 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFakes(t)
			f.pinentry(t, tt.answers...)
			code, err := ask(t, f, prompt(), "linux")
			if code != tt.code || (err == nil) != (tt.want == "") || err != nil && err.Error() != tt.want ||
				tt.is != nil && !errors.Is(err, tt.is) {
				t.Errorf("got %q, %v", code, err)
			}
			reasons := 0
			for _, line := range f.told(t) {
				if strings.HasPrefix(line, "SETERROR ") {
					reasons++
				}
			}
			if reasons != tt.comments {
				t.Errorf("told %d reasons, want %d", reasons, tt.comments)
			}
		})
	}
}

// TestBadPinentry: a pinentry that does not work costs little time; zenity is used instead.
func TestBadPinentry(t *testing.T) {
	testBadPinentry(t, map[string]string{
		"ends at once":             "exit 0",
		"fails at once":            "echo " + told + " >&2; exit 2",
		"crashes in the middle":    greet + "read x; kill -SEGV $$",
		"greets in another way":    "echo " + told + "; /bin/sleep 1000",
		"refuses to begin":         "echo ERR 1 no",
		"refuses the prompt":       greet + `while read x y; do case $x in SETDESC) echo ERR 1 x;; *) echo OK;; esac; done`,
		"floods":                   greet + "/usr/bin/yes " + told,
		"one line of a gigabyte":   greet + "/usr/bin/head -c 1000000000 /dev/zero",
		"closes stdin":             greet + "exec <&-; /bin/sleep 0.2",
		"closes stdout":            greet + "exec >&-; /bin/sleep 0.2",
		"has the terminal only":    greet + `while read x; do echo D tty; echo OK; done`,
		"fell back to curses":      greet + `while read x; do echo D gtk2:curses; echo OK; done`,
		"a child holds the pipes":  "/bin/sleep 1000 & exit 1",
		"sends INQUIRE forever":    greet + `while :; do echo INQUIRE X; read x; done`,
		"dies with its answer due": greet + `while read x; do case $x in GETPIN) exit 3;; *) echo OK;; esac; done`,
	})
}

// TestBadPinentryLong waits for the timeout of the handshake.
func TestBadPinentryLong(t *testing.T) {
	testBadPinentry(t, map[string]string{
		"hangs before it greets": "/bin/sleep 1000",
		"hangs and ignores TERM": "trap '' TERM; " + greet + "while :; do /bin/sleep 1; done",
	})
}

// greet is pinentry's first line.
const greet = "echo OK; "

func testBadPinentry(t *testing.T, programs map[string]string) {
	t.Helper()
	for name, text := range programs {
		t.Run(name, func(t *testing.T) {
			f := newFakes(t)
			f.add(t, "pinentry", text)
			f.add(t, "zenity", "echo 123456")
			if code, err := ask(t, f, prompt(), "linux"); code != "123456" {
				t.Errorf("got %q, %v", code, err)
			}
		})
	}
}

func TestPinentryOfGnuPG(t *testing.T) {
	f := newFakes(t)
	f.pinentry(t, "D 123456\nOK")
	if err := os.Rename(filepath.Join(f.dir, "pinentry"), filepath.Join(f.dir, "pin entry")); err != nil {
		t.Fatal(err)
	}
	f.add(t, "gpgconf", `echo "gpg:OpenPGP:/usr/bin/gpg"; echo "pinentry:Passphrase Entry:$D/pin%20entry"`)
	if code, err := ask(t, f, prompt(), "linux"); code != "123456" {
		t.Error(err)
	}
	if got := f.read(t, "gpgconf.args"); got != "--list-components\x00" {
		t.Errorf("gpgconf was asked %q", got)
	}
	for _, text := range []string{"exit 1", "echo pinentry", "echo pinentry:x:", "echo pinentry:x:/no/such", "echo pinentry:x:relative/x"} {
		f.add(t, "gpgconf", text)
		if _, err := ask(t, f, prompt(), "linux"); !errors.Is(err, ErrNobody) || !strings.Contains(err.Error(), "pinentry is not installed") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestPinentryOnATerminal(t *testing.T) {
	person, tty, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer person.Close()
	defer tty.Close()
	for _, tt := range []struct {
		env  []string
		want []string
	}{
		{[]string{"TERM=xterm", "LANG=de_DE.UTF-8"}, []string{"OPTION ttytype=xterm", "OPTION lc-ctype=de_DE.UTF-8"}},
		{[]string{"TERM=dumb", "LANG=C", "LC_ALL=en_US.UTF-8"}, []string{"OPTION ttytype=vt100", "OPTION lc-ctype=en_US.UTF-8"}},
		{[]string{"TERM=a\nGETPIN", "LC_ALL=x y", "LANG=", "LC_CTYPE="}, []string{"OPTION ttytype=vt100", "OPTION lc-ctype=C.UTF-8"}},
	} {
		f := newFakes(t)
		t.Setenv("TERM", "")
		f.pinentry(t, "D 123456\nOK")
		q := prompt()
		q.TTY, q.Env = tty.Name(), tt.env
		if code, err := ask(t, f, q, "linux"); code != "123456" {
			t.Fatal(err)
		}
		for _, want := range append(tt.want, "OPTION ttyname="+tty.Name()) {
			if !slices.Contains(f.told(t), want) {
				t.Errorf("%q: not told %q but %q", tt.env, want, f.told(t))
			}
		}
	}

	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, none := range []string{"", "/dev/null", "/dev/no/such", file, "pts/1", "/dev/pts/../" + tty.Name(), tty.Name() + "\nGETPIN", "/dev"} {
		f := newFakes(t)
		f.pinentry(t, "D 123456\nOK")
		q := prompt()
		q.TTY, q.Env = none, nil
		_, err := ask(t, f, q, "linux")
		if want := "nobody can be asked in a window: pinentry has neither display nor terminal; zenity has no display; kdialog has no display"; !errors.Is(err, ErrNobody) || err.Error() != want {
			t.Errorf("terminal %q: %v", none, err)
		}
	}
}

// TestTerminalThatGoesAway: pinentry may not notice that its terminal closed, and must be stopped.
func TestTerminalThatGoesAway(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("is not noticed here")
	}
	person, tty, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	f := newFakes(t)
	f.add(t, "pinentry", `trap '' HUP TERM; echo OK; while read x; do case $x in GETPIN) : >"$D/asking"; while :; do /bin/sleep 1; done;; *) echo OK;; esac; done`)
	q := prompt()
	q.TTY = tty.Name()
	go func() {
		poll(t, "the prompt is shown", func() bool { return there(filepath.Join(f.dir, "asking")) })
		tty.Close()
		person.Close()
	}()
	if _, err := ask(t, f, q, "linux"); !errors.Is(err, ErrCancelled) {
		t.Error(err)
	}
}

func TestNobody(t *testing.T) {
	f := newFakes(t)
	_, err := ask(t, f, prompt(), "linux")
	if want := "nobody can be asked in a window: pinentry is not installed; zenity is not installed; kdialog is not installed"; !errors.Is(err, ErrNobody) || err.Error() != want {
		t.Error(err)
	}
	q := prompt()
	q.Env = nil // the daemon's own DISPLAY is not the requester's
	f.add(t, "zenity", "echo 123456")
	if _, err := ask(t, f, q, "linux"); !errors.Is(err, ErrNobody) || !strings.Contains(err.Error(), "zenity has no display") {
		t.Error(err)
	}
}

func TestZenity(t *testing.T) {
	undo := strings.NewReplacer(`\\`, `\`, "__", "_")
	for _, name := range hostile {
		f := newFakes(t)
		f.add(t, "zenity", "echo ' 123 456 '")
		q := prompt()
		q.Source, q.Asker, q.Device, q.Reason = name, name, name, name
		if code, err := ask(t, f, q, "linux"); code != "123456" {
			t.Fatalf("%q: %v", name, err)
		}
		args := strings.Split(f.read(t, "zenity.args"), "\x00")
		if len(args) != 4 || args[0] != "--entry" || args[1] != "--title="+title || undo.Replace(args[2]) != "--text="+q.dialog().lines() {
			t.Errorf("%q: %q", name, args)
		}
		if strings.Count(args[2], "\n") != 2 {
			t.Errorf("%q: the lines of %q are not heading, reason and prompt", name, args[2])
		}
	}

	for script, want := range map[string]error{
		"exit $ZENITY_CANCEL": ErrCancelled,
		"exit $ZENITY_ESC":    ErrCancelled,
		"echo":                ErrCancelled,
		"exit 1":              ErrNobody, // the display does not exist
		"exit 255":            ErrNobody,
		"kill -SEGV $$":       ErrNobody,
		"/usr/bin/yes":        ErrNobody,
	} {
		f := newFakes(t)
		f.add(t, "zenity", script)
		q := prompt()
		q.Env = append(q.Env, "ZENITY_CANCEL=0")
		if _, err := ask(t, f, q, "linux"); !errors.Is(err, want) {
			t.Errorf("%s: %v", script, err)
		}
	}
}

func TestWindowsAskAgain(t *testing.T) {
	for _, program := range []string{"zenity", "kdialog"} {
		f := newFakes(t)
		f.add(t, program, `if [ -e "$D/again" ]; then echo 123456; else : >"$D/again"; echo 12345; fi`)
		if code, err := ask(t, f, prompt(), "linux"); code != "123456" {
			t.Error(program, err)
		}
		if args := f.read(t, program+".args"); strings.Count(args, "6 digits") != 1 || strings.Contains(args, "12345\x00") {
			t.Errorf("%s was called with %q", program, args)
		}
	}
}

func TestKdialog(t *testing.T) {
	undo := strings.NewReplacer(`\\`, `\`, "&&", "&")
	for _, name := range hostile {
		f := newFakes(t)
		f.add(t, "kdialog", "echo 123456")
		q := prompt()
		q.Source, q.Asker, q.Device = name, name, name
		if code, err := ask(t, f, q, "linux"); code != "123456" {
			t.Fatalf("%q: %v", name, err)
		}
		args := strings.Split(f.read(t, "kdialog.args"), "\x00")
		if len(args) != 5 || args[0] != "--title" || args[1] != title || args[2] != "--inputbox" || undo.Replace(args[3]) != q.dialog().lines() {
			t.Errorf("%q: %q", name, args)
		}
		if first, _, _ := strings.Cut(args[3], "\n"); first != heading {
			t.Errorf("%q: the first line is %q", name, first)
		}
	}
	for script, want := range map[string]error{"exit 1": ErrCancelled, "exit 134": ErrNobody, "kill -ABRT $$": ErrNobody} {
		f := newFakes(t)
		f.add(t, "kdialog", script)
		if _, err := ask(t, f, prompt(), "linux"); !errors.Is(err, want) {
			t.Errorf("%s: %v", script, err)
		}
	}
}

func TestOsascript(t *testing.T) {
	for _, name := range hostile {
		f := newFakes(t)
		f.add(t, "osascript", `while IFS= read -r x; do printf '%s\n' "$x"; done >"$D/script"; echo answer:123456`)
		q := prompt()
		q.Source, q.Env = name, nil
		if code, err := ask(t, f, q, "darwin"); code != "123456" {
			t.Fatalf("%q: %v", name, err)
		}
		args := strings.Split(f.read(t, "osascript.args"), "\x00")
		if len(args) != 6 || args[0] != "-" || args[1] != title || args[2] != q.dialog().lines() || args[4] != "code" {
			t.Errorf("%q: %q", name, args)
		}
		if f.read(t, "script") != dialogScript {
			t.Error("the script is not always the same")
		}
	}
	for script, want := range map[string]error{
		"echo canceled": ErrCancelled, "echo answer:": ErrCancelled, "echo gave up": context.DeadlineExceeded,
		"exit 1": ErrNobody, "echo " + told: ErrNobody, ":": ErrNobody,
	} {
		f := newFakes(t)
		f.add(t, "osascript", script)
		if _, err := ask(t, f, prompt(), "darwin"); !errors.Is(err, want) {
			t.Errorf("%s: %v", script, err)
		}
	}
	f := newFakes(t)
	f.add(t, "osascript", "echo answer:123456")
	if _, err := ask(t, f, prompt(), "linux"); !errors.Is(err, ErrNobody) {
		t.Errorf("not on a Mac: %v", err)
	}
}

func TestWindowEnvironment(t *testing.T) {
	f := newFakes(t)
	t.Setenv("WAYLAND_DISPLAY", "ours")
	t.Setenv("HOME", "/home/ours")
	f.add(t, "zenity", "echo 123456")
	q := prompt()
	cookie, bus := filepath.Join(t.TempDir(), "cookie"), listen(t)
	if err := os.WriteFile(cookie, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	q.Env = []string{"DISPLAY=:9", "XAUTHORITY=" + cookie, "DBUS_SESSION_BUS_ADDRESS=unix:path=" + bus, "LANG=de_DE.UTF-8",
		"DBUS_SESSION_BUS_ADDRESS=unixexec:path=/evil", "XAUTHORITY=evil", "DISPLAY=evil.example.com:0",
		"LD_PRELOAD=/evil.so", "PATH=/evil", "GTK_MODULES=evil", "QT_PLUGIN_PATH=/evil", "HOME=/evil", "AWS_PROFILE=x", "LC_ALL", "XDG_SESSION_ID=a\x00b"}
	if code, err := ask(t, f, q, "linux"); code != "123456" {
		t.Fatal(err)
	}
	env := strings.Split(f.read(t, "zenity.env"), "\n")
	for _, want := range []string{"DISPLAY=:9", "XAUTHORITY=" + cookie, "DBUS_SESSION_BUS_ADDRESS=unix:path=" + bus,
		"LANG=de_DE.UTF-8", "HOME=/home/ours", "PATH=" + f.dir} {
		if !slices.Contains(env, want) {
			t.Errorf("%s is not in %q", want, env)
		}
	}
	for _, kv := range env {
		if strings.Contains(kv, "evil") || strings.HasPrefix(kv, "AWS_") || strings.HasPrefix(kv, "WAYLAND_DISPLAY") || strings.HasPrefix(kv, "LD_") {
			t.Errorf("the window got %s", kv)
		}
	}
}

// listen creates a unix socket.
func listen(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "bus") // it needs a short name
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = l.Close()
		_ = os.RemoveAll(dir)
	})
	return l.Addr().String()
}

func TestWindowStartsNoBus(t *testing.T) {
	dir := t.TempDir()
	bus := "DBUS_SESSION_BUS_ADDRESS=unix:path=" + listen(t)
	for _, tt := range []struct {
		env  []string
		want string
	}{
		{nil, "DBUS_SESSION_BUS_ADDRESS=disabled:"},
		{[]string{"XDG_RUNTIME_DIR=/no/such"}, "DBUS_SESSION_BUS_ADDRESS=disabled:"},
		{[]string{"XDG_RUNTIME_DIR=" + dir}, ""},
		{[]string{bus}, bus},
	} {
		f := newFakes(t)
		t.Setenv("DBUS_SESSION_BUS_ADDRESS", "")
		t.Setenv("XDG_RUNTIME_DIR", "")
		if err := os.WriteFile(filepath.Join(dir, "bus"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		f.add(t, "kdialog", "echo 123456")
		q := prompt()
		q.Env = append(q.Env, tt.env...)
		if code, err := ask(t, f, q, "linux"); code != "123456" {
			t.Fatal(err)
		}
		got := ""
		for _, kv := range strings.Split(f.read(t, "kdialog.env"), "\n") {
			if strings.HasPrefix(kv, "DBUS_") && kv != "DBUS_SESSION_BUS_ADDRESS=" {
				got = kv
			}
		}
		if got != tt.want {
			t.Errorf("%q: got %q, want %q", tt.env, got, tt.want)
		}
	}
}

// TestDialogEndsWithItsContext: each program ends with the context of its prompt, and no other program is tried.
func TestDialogEndsWithItsContext(t *testing.T) {
	for _, program := range []string{"pinentry", "zenity", "kdialog"} {
		for _, deaf := range []string{"", "trap '' TERM; "} {
			f := newFakes(t)
			switch program {
			case "pinentry":
				f.add(t, program, deaf+`echo OK; while read x; do case $x in GETPIN) : >"$D/asking"; /bin/sleep 1000;; *) echo OK;; esac; done`)
				f.add(t, "zenity", "echo 123456")
			default:
				f.add(t, program, deaf+`: >"$D/asking"; while :; do /bin/sleep 1; done`)
			}
			goroutines, fds := runtime.NumGoroutine(), descriptors()
			ctx, cancel := context.WithCancel(context.Background())
			go func() {
				poll(t, "the prompt is shown", func() bool { return there(filepath.Join(f.dir, "asking")) })
				cancel()
			}()
			_, err := askGUI(ctx, prompt(), "linux")
			if !errors.Is(err, context.Canceled) || err.Error() != "the prompt for an MFA code was withdrawn" || !fault.Is(err, fault.LoginNeeded) {
				t.Errorf("%s: %v", program, err)
			}
			allGone(t, f.mark, goroutines, fds)

			ctx, cancel = context.WithTimeout(context.Background(), 300*time.Millisecond)
			_, err = AskGUI(ctx, prompt())
			cancel()
			if !errors.Is(err, context.DeadlineExceeded) || err.Error() != "nobody answered the prompt for an MFA code" {
				t.Errorf("%s: %v", program, err)
			}
			allGone(t, f.mark, goroutines, fds)
		}
	}
}

func FuzzEscape(f *testing.F) {
	for _, s := range append(hostile, "", "%", "%4", "%zz") {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		line := escape("SETDESC ", s)
		if len(line) > maxAssuan || strings.ContainsAny(line, "\r\n\x00") {
			t.Errorf("%q is no line of the protocol", line)
		}
		if got := unescape(strings.TrimPrefix(line, "SETDESC ")); got != s && !(len(line) > maxAssuan-12 && strings.HasPrefix(s, got)) {
			t.Errorf("%q came back as %q", s, got)
		}
		_ = unescape(s)
	})
}

// TestNoWindowOnWindows: no program is tried there, and the error says so.
func TestNoWindowOnWindows(t *testing.T) {
	_, err := askGUI(t.Context(), Prompt{}, "windows")
	if !errors.Is(err, ErrNobody) || !strings.Contains(err.Error(), "on Windows") {
		t.Error(err)
	}
}
