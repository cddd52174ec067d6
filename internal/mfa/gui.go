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

	"broker/internal/child"
	"broker/internal/environ"
	"broker/internal/fault"
	"broker/internal/lazyregexp"
	"broker/internal/secret"
)

const (
	maxAnswers    = 3
	maxAnswer     = 4 << 10 // most bytes that a dialog may print
	dialogTimeout = 5 * time.Minute
	lookUpTimeout = 5 * time.Second

	maxShown       = 100 // bytes of a name in a prompt
	maxShownDevice = 300 // AWS allows 256

	maxShownEndpoint = 100

	title = "AWS MFA"
	// heading is the first line in a window for a code. Qt treats a text as HTML if its first line contains a tag,
	// so the first line of each window is fixed.
	heading = "A code of your MFA device is needed."
)

// Why AskGUI returns no code, and Confirm no yes.
var (
	// ErrCancelled means that the person declined: closed or canceled the window, gave an empty answer, or said no.
	ErrCancelled = errors.New("the prompt for an MFA code was canceled")
	// ErrNobody means that no program for prompts works here; no prompt was shown.
	ErrNobody = errors.New("nobody can be asked in a window")
)

// Prompt is a prompt for a code, as a person sees it. None of its texts is trusted.
type Prompt struct {
	Device string // serial number of the MFA device
	Source string // the source whose key needs the code
	Asker  string // the program that asks, such as "aws (pid 4711)"; may be empty
	Reason string // why the last code failed; empty for the first prompt
	// Endpoint is where the code is sent, unless that is AWS's own endpoint; else empty.
	Endpoint string

	// TTY is the requester's terminal if a program may prompt there, which is the case if the requester is in its
	// foreground; else empty.
	TTY string
	// Env has the requester's variables of its graphical session, as "K=V". Variables that are not about the
	// session or the language are ignored.
	Env []string
}

// Text returns the prompt in one line, without the reason. The line is safe to print, and short enough to show all
// names.
func (q Prompt) Text() string {
	text := fmt.Sprintf("MFA code for %s (%s)", fault.Short(q.Source, maxShown), fault.Short(q.Device, maxShownDevice))
	if q.Endpoint != "" {
		text += ", sent to " + fault.Short(q.Endpoint, maxShownEndpoint)
	}
	if q.Asker != "" {
		text += ", asked by " + fault.Short(q.Asker, maxShown)
	}
	return fault.Line(text + ":")
}

// Elsewhere returns the line for other terminals while the prompt is open at a seat, such as "pts/1"; the seat may
// be empty. The line is safe to print, and short.
func (q Prompt) Elsewhere(seat string) string {
	text := "waiting for the code of " + fault.Short(q.Source, maxShown)
	if q.Endpoint != "" {
		text += ", sent to " + fault.Short(q.Endpoint, maxShownEndpoint) + ","
	}
	text += " asked"
	if seat != "" {
		text += " on " + fault.Short(seat, maxShown)
	}
	if q.Asker != "" {
		text += " by " + fault.Short(q.Asker, maxShown)
	}
	return fault.Line(text + ", press Enter to answer here")
}

// AskGUI prompts a person in a window. It uses the first of these programs that works: pinentry (which may also
// use the terminal of q), zenity, kdialog, or osascript on a Mac. If an answer is not a code, it asks again, three
// times in all. When ctx ends, the window is closed.
//
// All errors are faults of the kind LoginNeeded; see ErrCancelled and ErrNobody. An error that wraps neither means
// that the prompt was shown and gave no code, or that ctx ended; then it wraps the error of ctx.
func AskGUI(ctx context.Context, q Prompt) (secret.String, error) {
	return askGUI(ctx, q, runtime.GOOS)
}

func askGUI(ctx context.Context, q Prompt, system string) (code secret.String, err error) {
	err = q.dialog().run(ctx, newDesktop(system, q.TTY, q.Env), func(answer string) (err error) {
		code, err = ParseCode(answer)
		return err
	})
	return code, err
}

func (q Prompt) dialog() dialog {
	return dialog{title: title, heading: heading, reason: q.Reason, text: q.Text(), label: "MFA code:", askers: askers,
		kind: fault.LoginNeeded, prompt: "the prompt for an MFA code", declined: ErrCancelled.Error()}
}

// dialog is one window: a text with an entry field, or with the buttons Yes and No. Its texts are safe to print.
type dialog struct {
	title, heading string
	reason         string // why the last answer was not a code; may be empty
	text           string
	label          string // of the entry field, where it has one of its own
	confirm        bool   // with two buttons, if the program can make No the default; else the person types "yes"
	askers         []asker

	kind             fault.Kind // of all errors
	prompt, declined string     // for messages: what it is, and that the person declined
}

// lines is the text of a window that has one text.
func (g dialog) lines() string {
	if g.reason == "" {
		return g.heading + "\n" + g.text
	}
	return g.heading + "\n" + fault.Line(g.reason) + "\n" + g.text
}

// typed returns the dialog for a program with an entry field only.
func (g dialog) typed() dialog {
	if g.confirm {
		g.text += "\n" + typeYes
	}
	return g
}

// run opens the dialog with the first program that works. It asks again if accept refuses an answer, unless with
// ErrCancelled.
func (g dialog) run(ctx context.Context, d desktop, accept func(answer string) error) error {
	if d.system == "windows" {
		return fault.New(g.kind, "%w: Broker opens no windows on Windows", ErrNobody)
	}
	ctx, cancel := context.WithTimeout(ctx, dialogTimeout)
	defer cancel()
	var tried []string
	for _, a := range g.askers {
		answer, err := a.ask(ctx, d, g)
		if err != nil && ctx.Err() == nil && !errors.Is(err, ErrCancelled) && !errors.Is(err, context.DeadlineExceeded) {
			if !errors.Is(err, errNotAMac) {
				tried = append(tried, a.name+" "+err.Error())
			}
			continue
		}
		return g.answers(ctx, d, a, answer, err, accept)
	}
	return fault.New(g.kind, "%w: %s", ErrNobody, strings.Join(tried, "; "))
}

// answers passes a person's first answer to accept, or asks again.
func (g dialog) answers(
	ctx context.Context,
	d desktop,
	a asker,
	answer string,
	err error,
	accept func(string) error,
) error {
	for try := 1; ; try++ {
		switch {
		case errors.Is(ctx.Err(), context.Canceled):
			return &fault.Error{Kind: g.kind, Message: g.prompt + " was withdrawn", Err: ctx.Err()}
		case ctx.Err() != nil || errors.Is(err, context.DeadlineExceeded):
			return &fault.Error{Kind: g.kind, Message: "nobody answered " + g.prompt, Err: context.DeadlineExceeded}
		case errors.Is(err, ErrCancelled), err == nil && strings.TrimSpace(answer) == "":
			return &fault.Error{Kind: g.kind, Message: g.declined, Err: ErrCancelled}
		case err != nil:
			return fault.New(g.kind, "%s: %s %w", strings.TrimPrefix(g.prompt, "the "), a.name, err)
		}
		switch bad := accept(answer); {
		case bad == nil:
			return nil
		case errors.Is(bad, ErrCancelled):
			return &fault.Error{Kind: g.kind, Message: g.declined, Err: ErrCancelled}
		case try == maxAnswers:
			return fault.New(g.kind, "no MFA code in %d answers", maxAnswers)
		}
		g.reason = "That was not a code. A code has exactly 6 digits."
		answer, err = a.ask(ctx, d, g)
	}
}

// asker is a program that prompts a person.
type asker struct {
	name string
	// ask returns what was typed, or "yes" for the button. It fails with ErrCancelled, with
	// context.DeadlineExceeded if nobody answered, or with another error that says in a few words why the program
	// does not work.
	ask func(context.Context, desktop, dialog) (string, error)
}

var askers = []asker{
	{"pinentry", askPinentry},
	{"zenity", askZenity},
	{"kdialog", askKdialog},
	{"osascript", askOsascript},
}

// desktop is where a window can be opened.
type desktop struct {
	system string   // like GOOS
	tty    string   // terminal for pinentry, or empty
	env    []string // environment of the programs
}

// newDesktop returns the desktop of a requester with this terminal and these variables.
func newDesktop(system, tty string, env []string) desktop {
	return desktop{system: system, tty: usableTTY(tty), env: desktopEnvironment(os.Environ(), env)}
}

var (
	errNoDisplay    = errors.New("has no display")
	errNotInstalled = errors.New("is not installed")
	errNotAMac      = errors.New("is for macOS")
)

// display reports whether the environment names a display.
func (d desktop) display() bool {
	return d.system == "darwin" || d.value("DISPLAY") != "" || d.value("WAYLAND_DISPLAY") != ""
}

// value returns the value of a variable: the last one, like the programs do.
func (d desktop) value(name string) string {
	for _, kv := range slices.Backward(d.env) {
		if k, v, _ := strings.Cut(kv, "="); k == name {
			return v
		}
	}
	return ""
}

// screenVariables select the screen on which a window opens. They come only from the requester: the screen on
// which the daemon was started may be gone, or be another one.
var screenVariables = []string{"DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY"}

// sessionVariables are the variables that a requester may set for a window. This is an allow list, so that no
// LD_PRELOAD, PATH or plug-in can be set.
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

// Exit codes that zenity is told to use: when it was canceled or closed, and for its button Yes. Its default for
// the first, 1, also means that the display does not exist; its default for Yes, 0, also that its window was
// destroyed.
const (
	cancelledCode = 71
	yesCode       = 72
)

// zenityText escapes what zenity interprets in an entry dialog: its own backslash escapes, and GTK's underscores
// for keys.
func zenityText(s string) string { return strings.NewReplacer(`\`, `\\`, "_", "__").Replace(s) }

// zenityMarkup escapes the text of other dialogs, which is Pango markup. With --no-markup, versions differ in
// whether a backslash is an escape.
func zenityMarkup(s string) string {
	return strings.NewReplacer(`\`, `\\`, "&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(s)
}

func askZenity(ctx context.Context, d desktop, g dialog) (string, error) {
	ok, args := 0, []string{"--entry", "--title=" + g.title, "--text=" + zenityText(g.lines())}
	if g.confirm {
		ok, args = yesCode, []string{"--question", "--title=" + g.title, "--text=" + zenityMarkup(g.lines()),
			"--ok-label=Yes", "--cancel-label=No", "--default-cancel"}
	}
	d.env = append(slices.Clip(d.env), fmt.Sprintf("ZENITY_OK=%d", ok),
		fmt.Sprintf("ZENITY_CANCEL=%d", cancelledCode), fmt.Sprintf("ZENITY_ESC=%d", cancelledCode))
	out, err := d.window(ctx, "zenity", cancelledCode, nil, args...)
	var exit *child.ExitError
	switch {
	case g.confirm && errors.As(err, &exit) && exit.Code == yesCode:
		return yes, nil
	case g.confirm && err == nil:
		return "", ErrCancelled
	}
	return out, err
}

// kdialogText does the same for kdialog: its backslash escapes, and Qt's ampersands for keys.
func kdialogText(s string) string { return strings.NewReplacer(`\`, `\\`, "&", "&&").Replace(s) }

// askKdialog uses an entry field for a confirmation too: Enter means yes in each of its dialogs with buttons.
func askKdialog(ctx context.Context, d desktop, g dialog) (string, error) {
	return d.window(ctx, "kdialog", 1, nil, "--title", g.title, "--inputbox", kdialogText(g.typed().lines()))
}

// window runs a program that opens a window on a display and prints what was typed.
func (d desktop) window(
	ctx context.Context,
	program string,
	canceled int,
	stdin []byte,
	args ...string,
) (string, error) {
	if !d.display() {
		return "", errNoDisplay
	}
	env := d.env
	if !d.hasBus() {
		env = append(slices.Clip(env), "DBUS_SESSION_BUS_ADDRESS="+noBus)
	}
	out, err := child.Command{
		Program: program, Args: args, Env: env, Stdin: stdin,
		Timeout: 2 * dialogTimeout, // ctx ends earlier
		Limit:   maxAnswer,
	}.Run(ctx)
	var exit *child.ExitError
	switch {
	case errors.Is(err, child.ErrNotFound):
		return "", errNotInstalled
	case errors.As(err, &exit) && exit.Code == canceled:
		return "", ErrCancelled
	case err != nil:
		return "", err
	}
	return string(out), nil
}

// noBus is an address that every D-Bus library rejects at once. If no address is set, and the user's bus is not at
// its usual place, GTK and Qt start a bus that never ends.
const noBus = "disabled:"

func (d desktop) hasBus() bool {
	if d.system == "darwin" || d.value("DBUS_SESSION_BUS_ADDRESS") != "" {
		return true
	}
	_, err := os.Stat(filepath.Join(d.value("XDG_RUNTIME_DIR"), "bus"))
	return err == nil && d.value("XDG_RUNTIME_DIR") != ""
}

// dialogScript is the script for osascript. The texts are arguments, so that none of them is interpreted as
// AppleScript.
const dialogScript = `on run argv
	try
		if item 4 of argv is "confirm" then
			set answer to display dialog (item 2 of argv) with title (item 1 of argv) ¬
				buttons {"No", "Yes"} default button "No" cancel button "No" giving up after (item 3 of argv as integer)
			if button returned of answer is "Yes" then return "answer:yes"
			return "gave up"
		end if
		set answer to display dialog (item 2 of argv) with title (item 1 of argv) default answer "" ¬
			buttons {"Cancel", "OK"} default button "OK" cancel button "Cancel" giving up after (item 3 of argv as integer)
		if gave up of answer then return "gave up"
		return "answer:" & text returned of answer
	on error number -128
		return "canceled"
	end try
end run
`

func askOsascript(ctx context.Context, d desktop, g dialog) (string, error) {
	if d.system != "darwin" {
		return "", errNotAMac
	}
	kind := "code"
	if g.confirm {
		kind = "confirm"
	}
	out, err := d.window(ctx, "osascript", -1, []byte(dialogScript),
		"-", g.title, g.lines(), fmt.Sprint(secondsLeft(ctx)), kind)
	if err != nil {
		return "", err
	}
	answer, typed := strings.CutPrefix(out, "answer:")
	switch {
	case typed:
		return answer, nil
	case strings.TrimSpace(out) == "canceled":
		return "", ErrCancelled
	case strings.TrimSpace(out) == "gave up":
		return "", context.DeadlineExceeded
	}
	return "", errors.New("gave an unknown answer")
}

// secondsLeft is the timeout for programs that keep time themselves. It is a little shorter than the remaining
// time, so that they end first.
func secondsLeft(ctx context.Context) int {
	left := dialogTimeout
	if deadline, ok := ctx.Deadline(); ok {
		left = time.Until(deadline)
	}
	return max(1, int((left-time.Second/2)/time.Second))
}

// ttyName matches the names that can be passed in pinentry's protocol, which cannot quote them.
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
