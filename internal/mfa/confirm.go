package mfa

import (
	"context"
	"runtime"
	"strings"

	"broker/internal/fault"
)

const (
	maxShownLine = 160

	yes            = "yes"
	typeYes        = "Type yes to agree. Anything else means no."
	confirmTitle   = "AWS session"
	confirmHeading = "Broker asks before it hands out a session."
)

// confirmers are the askers, with those first whose windows have buttons.
var confirmers = []asker{
	{"zenity", askZenity},
	{"osascript", askOsascript},
	{"kdialog", askKdialog},
	{"pinentry", askPinentry},
}

// Confirmation is a question with the answers yes and no, as a person sees it. None of its texts is trusted.
type Confirmation struct {
	// Lines say what the person decides about. The most important come first: pinentry shows about 900 bytes in
	// all.
	Lines []string

	TTY string   // like Prompt.TTY
	Env []string // like Prompt.Env
}

// Confirm asks a person in a window, and returns nil only for a yes. It uses the first of these programs that works:
// zenity, osascript on a Mac, kdialog, or pinentry (which may also use the terminal of q). Each program answers no
// to Enter: zenity and osascript have the buttons Yes and No, and kdialog and pinentry ask for the word "yes". When
// ctx ends, the window is closed.
//
// All errors are faults of the kind NotConfirmed. The error wraps ErrCancelled for a no, also when the window was
// closed; ErrNobody if no program works; context.DeadlineExceeded if nobody answered; and the error of ctx if it
// ended.
func Confirm(ctx context.Context, q Confirmation) error {
	return confirm(ctx, q, runtime.GOOS)
}

func confirm(ctx context.Context, q Confirmation, system string) error {
	return q.dialog().run(ctx, newDesktop(system, q.TTY, q.Env), func(answer string) error {
		if !strings.EqualFold(strings.TrimSpace(answer), yes) {
			return ErrCancelled
		}
		return nil
	})
}

func (q Confirmation) dialog() dialog {
	lines := make([]string, len(q.Lines))
	for i, line := range q.Lines {
		lines[i] = fault.Short(line, maxShownLine)
	}
	return dialog{title: confirmTitle, heading: confirmHeading, text: strings.Join(lines, "\n"), label: "Type yes:",
		confirm: true, askers: confirmers,
		kind: fault.NotConfirmed, prompt: "the prompt to confirm", declined: "not confirmed: the answer was no"}
}
