package mfa

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"broker/internal/child"
	"broker/internal/environ"
	"broker/internal/fault"
	"broker/internal/lazyregexp"
	"broker/internal/secret"
)

const (
	maxAnswers    = 3
	maxAnswer     = 4 << 10 // bytes that a dialog may print
	dialogTimeout = 5 * time.Minute
	lookUpTimeout = 5 * time.Second

	maxShown       = 100 // bytes of a name in a question
	maxShownDevice = 300 // AWS allows 256

	maxShownEndpoint = 100

	title = "AWS MFA"
	// heading is the first line in each window. Qt takes a text for HTML if there is a tag in its first line, so that
	// line is ours.
	heading = "A code of your MFA device is needed."
)

// Why AskGUI has no code. Both come inside a fault of kind LoginNeeded.
var (
	// ErrCancelled: the person said no. The window was closed or cancelled, or the answer was empty.
	ErrCancelled = errors.New("the question for an MFA code was cancelled")
	// ErrNobody: no program that asks can be used here; nobody has seen a question.
	ErrNobody = errors.New("nobody can be asked in a window")
)

// Question is a question for a code, as a person sees it. All its texts may come from elsewhere.
type Question struct {
	Device string // serial number of the MFA device
	Source string // the source whose key wants it
	Asker  string // who asks, such as "aws (pid 4711)"; may be empty
	Reason string // why it is asked again; empty at first
	// Endpoint is where the code goes, if that is not AWS's own place; else empty.
	Endpoint string

	// TTY is the terminal of the requester, if a program may ask there, which is when the requester is in its
	// foreground; else empty.
	TTY string
	// Env holds the requester's variables of its graphical session, "K=V". What is not about the session or the
	// language is ignored.
	Env []string
}

// Text is the question in one line, without the reason: safe to print, and short enough to name all three.
func (q Question) Text() string {
	text := fmt.Sprintf("MFA code for %s (%s)", short(q.Source, maxShown), short(q.Device, maxShownDevice))
	if q.Endpoint != "" {
		text += ", sent to " + short(q.Endpoint, maxShownEndpoint)
	}
	if q.Asker != "" {
		text += ", asked by " + short(q.Asker, maxShown)
	}
	return fault.Line(text + ":")
}

// Elsewhere is the line at other terminals while the question stands at a seat, such as "pts/1"; it may be empty. It is
// safe to print, and short.
func (q Question) Elsewhere(seat string) string {
	text := "waiting for the code of " + short(q.Source, maxShown)
	if q.Endpoint != "" {
		text += ", sent to " + short(q.Endpoint, maxShownEndpoint) + ","
	}
	text += " asked"
	if seat != "" {
		text += " on " + short(seat, maxShown)
	}
	if q.Asker != "" {
		text += " by " + short(q.Asker, maxShown)
	}
	return fault.Line(text + ", press Enter to answer here")
}

// short is one safe line of n bytes at most.
func short(s string, n int) string {
	s = fault.Line(s)
	if len(s) <= n {
		return s
	}
	n -= len("…")
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}

// AskGUI asks a person in a window: by pinentry (which may also use the terminal of the question), zenity, kdialog, or
// osascript on a Mac, the first that works. An answer that is not a code is asked again, three times in all. When ctx ends,
// so does the window.
//
// All its errors are faults of kind LoginNeeded; see ErrCancelled and ErrNobody. One that wraps neither means that the
// question was seen and brought no code, or that ctx ended, which it then wraps.
func AskGUI(ctx context.Context, q Question) (secret.String, error) {
	return askGUI(ctx, q, runtime.GOOS)
}

func askGUI(ctx context.Context, q Question, system string) (secret.String, error) {
	if system == "windows" {
		return secret.String{}, fault.New(fault.LoginNeeded, "%w: this version opens none on Windows", ErrNobody)
	}
	ctx, cancel := context.WithTimeout(ctx, dialogTimeout)
	defer cancel()
	d := desktop{system: system, tty: usableTTY(q.TTY), env: desktopEnvironment(os.Environ(), q.Env)}
	var tried []string
	for _, a := range askers {
		answer, err := a.ask(ctx, d, q)
		if err != nil && ctx.Err() == nil && !errors.Is(err, ErrCancelled) && !errors.Is(err, context.DeadlineExceeded) {
			if !errors.Is(err, errNotAMac) {
				tried = append(tried, a.name+" "+err.Error())
			}
			continue
		}
		return answers(ctx, d, q, a, answer, err)
	}
	return secret.String{}, fault.New(fault.LoginNeeded, "%w: %s", ErrNobody, strings.Join(tried, "; "))
}

// answers makes a code of the first answer of a person, or asks again.
func answers(ctx context.Context, d desktop, q Question, a asker, answer string, err error) (secret.String, error) {
	for try := 1; ; try++ {
		switch {
		case errors.Is(ctx.Err(), context.Canceled):
			return secret.String{}, &fault.Error{Kind: fault.LoginNeeded, Message: "the question for an MFA code was taken back", Err: ctx.Err()}
		case ctx.Err() != nil || errors.Is(err, context.DeadlineExceeded):
			return secret.String{}, &fault.Error{Kind: fault.LoginNeeded, Message: "nobody answered the question for an MFA code", Err: context.DeadlineExceeded}
		case errors.Is(err, ErrCancelled), err == nil && strings.TrimSpace(answer) == "":
			return secret.String{}, fault.New(fault.LoginNeeded, "%w", ErrCancelled)
		case err != nil:
			return secret.String{}, fault.New(fault.LoginNeeded, "ask for an MFA code: %s %w", a.name, err)
		}
		if code, bad := ParseCode(answer); bad == nil {
			return code, nil
		}
		if try == maxAnswers {
			return secret.String{}, fault.New(fault.LoginNeeded, "none of %d answers was an MFA code", maxAnswers)
		}
		q.Reason = "That was not a code: it has exactly 6 digits."
		answer, err = a.ask(ctx, d, q)
	}
}

// asker is a program that asks a person.
type asker struct {
	name string
	// ask returns what was typed. Its errors are ErrCancelled, context.DeadlineExceeded if nobody answered,
	// and anything else that says in a few words why the program cannot be used.
	ask func(context.Context, desktop, Question) (string, error)
}

var askers = []asker{
	{"pinentry", askPinentry},
	{"zenity", askZenity},
	{"kdialog", askKdialog},
	{"osascript", askOsascript},
}

// desktop is where a window can be opened.
type desktop struct {
	system string   // GOOS
	tty    string   // where pinentry may ask, or empty
	env    []string // for programs that ask
}

var (
	errNoDisplay    = errors.New("has no display")
	errNotInstalled = errors.New("is not installed")
	errNotAMac      = errors.New("is for macOS")
)

// display reports whether there is one, as far as the environment knows.
func (d desktop) display() bool {
	return d.system == "darwin" || d.value("DISPLAY") != "" || d.value("WAYLAND_DISPLAY") != ""
}

// value is that of a variable: the last one, as the programs see it.
func (d desktop) value(name string) string {
	for _, kv := range slices.Backward(d.env) {
		if k, v, _ := strings.Cut(kv, "="); k == name {
			return v
		}
	}
	return ""
}

// screenVariables say on which screen a window opens. They come from the requester or not at all: the screen that the
// broker was started on may be gone, or another one.
var screenVariables = []string{"DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY"}

// sessionVariables are those that a requester may set for a window. A list, so that no LD_PRELOAD, PATH or plug-in
// comes along.
var sessionVariables = append([]string{
	"DBUS_SESSION_BUS_ADDRESS", "DESKTOP_SESSION", "KDE_FULL_SESSION", "KDE_SESSION_VERSION",
	"XDG_CURRENT_DESKTOP", "XDG_RUNTIME_DIR", "XDG_SESSION_DESKTOP", "XDG_SESSION_ID", "XDG_SESSION_TYPE",
	"LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "LC_MESSAGES", "TERM",
}, screenVariables...)

func desktopEnvironment(ours, theirs []string) []string {
	env := environment(ours, screenVariables...)
	for _, kv := range theirs {
		if name, value, ok := strings.Cut(kv, "="); ok && slices.Contains(sessionVariables, name) &&
			environ.Usable(name, value) {
			env = append(env, kv)
		}
	}
	return env
}

// windowText is what stands above the entry field of a window that has one text.
func windowText(q Question) string {
	text := heading + "\n"
	if q.Reason != "" {
		text += fault.Line(q.Reason) + "\n"
	}
	return text + q.Text()
}

// cancelledCode is what zenity is told to end with when it was cancelled or closed. Its own choice, 1, is also what it
// ends with when there is no such display.
const cancelledCode = 71

// zenityText keeps a text what it is: zenity's own backslash escapes, and GTK's underscores for keys. (The text of an entry
// dialog, unlike that of the other dialogs, is no Pango markup.)
var zenityText = strings.NewReplacer(`\`, `\\`, "_", "__")

func askZenity(ctx context.Context, d desktop, q Question) (string, error) {
	d.env = append(slices.Clip(d.env), "ZENITY_OK=0", fmt.Sprintf("ZENITY_CANCEL=%d", cancelledCode), fmt.Sprintf("ZENITY_ESC=%d", cancelledCode))
	return d.window(ctx, "zenity", cancelledCode, nil, "--entry", "--title="+title, "--text="+zenityText.Replace(windowText(q)))
}

// kdialogText does the same for kdialog: its backslash escapes, and Qt's ampersands for keys.
var kdialogText = strings.NewReplacer(`\`, `\\`, "&", "&&")

func askKdialog(ctx context.Context, d desktop, q Question) (string, error) {
	return d.window(ctx, "kdialog", 1, nil, "--title", title, "--inputbox", kdialogText.Replace(windowText(q)))
}

// window runs a program that opens one on a display, and prints what was typed there.
func (d desktop) window(ctx context.Context, program string, cancelled int, stdin []byte, args ...string) (string, error) {
	if !d.display() {
		return "", errNoDisplay
	}
	env := d.env
	if !d.hasBus() {
		env = append(slices.Clip(env), "DBUS_SESSION_BUS_ADDRESS="+noBus)
	}
	out, err := child.Command{
		Program: program, Args: args, Env: env, Stdin: stdin,
		Timeout: 2 * dialogTimeout, // ctx is shorter
		Limit:   maxAnswer,
	}.Run(ctx)
	var exit *child.ExitError
	switch {
	case errors.Is(err, child.ErrNotFound):
		return "", errNotInstalled
	case errors.As(err, &exit) && exit.Code == cancelled:
		return "", ErrCancelled
	case err != nil:
		return "", err
	}
	return string(out), nil
}

// noBus is an address that every D-Bus library refuses at once. Without any, and without the user's bus at its usual place, GTK
// and Qt start a bus that nobody ever ends.
const noBus = "disabled:"

func (d desktop) hasBus() bool {
	if d.system == "darwin" || d.value("DBUS_SESSION_BUS_ADDRESS") != "" {
		return true
	}
	_, err := os.Stat(filepath.Join(d.value("XDG_RUNTIME_DIR"), "bus"))
	return err == nil && d.value("XDG_RUNTIME_DIR") != ""
}

// dialogScript is what osascript runs. The texts are its arguments, so that none of them is ever read as AppleScript.
const dialogScript = `on run argv
	try
		set answer to display dialog (item 2 of argv) with title (item 1 of argv) default answer "" ¬
			buttons {"Cancel", "OK"} default button "OK" cancel button "Cancel" giving up after (item 3 of argv as integer)
		if gave up of answer then return "gave up"
		return "answer:" & text returned of answer
	on error number -128
		return "cancelled"
	end try
end run
`

func askOsascript(ctx context.Context, d desktop, q Question) (string, error) {
	if d.system != "darwin" {
		return "", errNotAMac
	}
	out, err := d.window(ctx, "osascript", -1, []byte(dialogScript), "-", title, windowText(q), fmt.Sprint(secondsLeft(ctx)))
	if err != nil {
		return "", err
	}
	answer, typed := strings.CutPrefix(out, "answer:")
	switch {
	case typed:
		return answer, nil
	case strings.TrimSpace(out) == "cancelled":
		return "", ErrCancelled
	case strings.TrimSpace(out) == "gave up":
		return "", context.DeadlineExceeded
	}
	return "", errors.New("said nothing that is known")
}

// secondsLeft is what a program gets that keeps time itself; a little less than what is left, so that it ends first.
func secondsLeft(ctx context.Context) int {
	left := dialogTimeout
	if deadline, ok := ctx.Deadline(); ok {
		left = time.Until(deadline)
	}
	return max(1, int((left-time.Second/2)/time.Second))
}

// ttyName is a name that pinentry's protocol, which has no quoting for it, can be told.
var ttyName = lazyregexp.New(`^/dev/[A-Za-z0-9/_-]+$`)

func usableTTY(path string) string {
	if !ttyName.MatchString(path) {
		return ""
	}
	if t := openTerminal(path); t != nil {
		t.close()
		return path
	}
	return ""
}
