// Package fault owns what can go wrong, as the user sees it: the kinds of
// failure, their names on the wire, their exit codes. It refuses to know who
// failed; every package above makes its errors here, and the two programs turn
// them into the same line and the same exit code.
package fault

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
)

// Kind names one way to fail. Its text travels on the wire and is written
// to the audit log, so it never changes once released.
type Kind string

// The kinds. The exit codes are those of the documented command line.
const (
	Internal       Kind = "internal"        // a defect of the broker itself
	Failed         Kind = "failed"          // it could not be done; the message says why
	Config         Kind = "config"          // a file says something that cannot be used
	Keyring        Kind = "keyring"         // the keyring is absent or answered with an error
	Network        Kind = "network"         // AWS could not be reached
	Throttled      Kind = "throttled"       // AWS asked to slow down
	BadAnswer      Kind = "bad_answer"      // what came back is not an answer of STS
	Clock          Kind = "clock"           // this machine's clock is wrong
	Usage          Kind = "usage"           // the command line makes no sense
	NotFound       Kind = "not_found"       // no such profile or source
	LoginNeeded    Kind = "login_needed"    // a person has to give an MFA code
	CodeRejected   Kind = "code_rejected"   // the code given was wrong or spent
	Unreachable    Kind = "unreachable"     // no daemon, and none could be started
	Denied         Kind = "denied"          // AWS said no
	ExpiredSession Kind = "expired_session" // AWS refused a session before its time
	Locked         Kind = "locked"          // the broker is locked
	KeyringLocked  Kind = "keyring_locked"  // the keyring needs its passphrase
	NotConfirmed   Kind = "not_confirmed"   // a person said no
	Interrupted    Kind = "interrupted"     // Ctrl-C
)

// exitCodes is the one table from failures to exit codes; a kind that is not
// in it exits with 1.
var exitCodes = map[Kind]int{
	Usage:          2,
	NotFound:       3,
	LoginNeeded:    4,
	CodeRejected:   4,
	Unreachable:    5,
	Denied:         6,
	ExpiredSession: 6,
	Locked:         7,
	KeyringLocked:  7,
	NotConfirmed:   8,
	Interrupted:    130, // as a shell tells of a program that SIGINT ended
}

// hints say what to type where the failure itself knows nothing better. A fault of kind Config has none: it names file
// and line, and most commands fail of it alike.
var hints = map[Kind]Hint{
	Internal:       "broker status",
	Failed:         "broker status",
	Keyring:        "broker status",
	Network:        "broker status",
	Throttled:      "broker status",
	BadAnswer:      "broker status",
	Clock:          "date -u",
	Usage:          "broker help",
	NotFound:       "broker profiles list",
	LoginNeeded:    "broker login",
	CodeRejected:   "broker login",
	Unreachable:    "broker daemon",
	Denied:         "broker status",
	ExpiredSession: "broker logout",
	Locked:         "broker unlock",
	KeyringLocked:  "broker unlock",
}

// ExitCode is the exit code of a program that ends with this kind of failure.
func (k Kind) ExitCode() int {
	if code, ok := exitCodes[k]; ok {
		return code
	}
	return 1
}

// Error is a failure as it is shown: one line that says what is wrong and
// whose it is, and a command that mends it where there is one.
type Error struct {
	Kind    Kind
	Message string
	Hint    Hint  // empty where the failure knows no command of its own
	Err     error // the cause, for errors.Is and errors.As; may be nil
}

// Error returns the message, on one line and safe for a terminal.
func (e *Error) Error() string { return Line(e.Message) }

// ErrInterrupted is the failure of what Ctrl-C ended.
var ErrInterrupted = New(Interrupted, "interrupted")

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// New makes a failure. A %w in the format keeps the cause.
func New(kind Kind, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Kind: kind, Message: err.Error(), Err: errors.Unwrap(err)}
}

// WithHint returns the failure with the command that mends it, made by Hintf.
func (e *Error) WithHint(format constant, args ...any) *Error {
	c := *e
	c.Hint = Hintf(format, args...)
	return &c
}

// Of returns err as a failure: itself if it is or wraps one (with the whole
// message of err), otherwise an Internal one. Of(nil) is nil.
func Of(err error) *Error {
	if err == nil {
		return nil
	}
	var e *Error
	if !errors.As(err, &e) {
		return &Error{Kind: Internal, Message: err.Error(), Err: err}
	}
	if err == error(e) {
		return e
	}
	return &Error{Kind: e.Kind, Message: err.Error(), Hint: e.Hint, Err: err}
}

// Is reports whether err is a failure of this kind.
func Is(err error, kind Kind) bool {
	var e *Error
	return errors.As(err, &e) && e.Kind == kind
}

// Report is what a program writes to stderr before it ends: the message on
// one line, and on a second the command that mends it, or where to look.
func (e *Error) Report(program string) string {
	s := program + ": " + e.Error() + "\n"
	hint := e.Hint.Shown()
	if hint == "" {
		hint = string(hints[e.Kind])
	}
	if hint != "" {
		s += "hint: " + hint + "\n"
	}
	return s
}

// ParseReport reads what Report wrote in another process of Broker, as a failure of this kind. The message is otherwise
// if there is none.
func ParseReport(kind Kind, program, text, otherwise string) *Error {
	line, hint, _ := strings.Cut(strings.TrimSpace(text), "\nhint: ")
	message := cmp.Or(strings.TrimPrefix(line, program+": "), otherwise)
	return &Error{Kind: kind, Message: message, Hint: Hint(hint)}
}
