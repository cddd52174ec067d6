// Package fault defines the failures that users see: their kinds, the names of the kinds on the wire and the exit
// codes. It does not know who failed. Every package above it makes its errors here, and both programs turn them
// into the same line and the same exit code.
package fault

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
)

// Kind names one kind of failure. Its text travels on the wire and is written to the audit log, so it must not
// change once released.
type Kind string

// The kinds. Their exit codes are part of the documented command line.
const (
	Internal       Kind = "internal"        // a defect in Broker itself
	Failed         Kind = "failed"          // the operation failed; the message says why
	Config         Kind = "config"          // a file has content that cannot be used
	Keyring        Kind = "keyring"         // the keyring is missing or returned an error
	Network        Kind = "network"         // AWS could not be reached
	Throttled      Kind = "throttled"       // AWS rate-limited the request
	BadAnswer      Kind = "bad_answer"      // the response is not one that STS sends
	Clock          Kind = "clock"           // this machine's clock is wrong
	Usage          Kind = "usage"           // the command line is invalid
	NotFound       Kind = "not_found"       // no such profile or source
	LoginNeeded    Kind = "login_needed"    // a person has to enter an MFA code
	CodeRejected   Kind = "code_rejected"   // the code was wrong or already used
	Unreachable    Kind = "unreachable"     // no daemon, and none could be started
	Denied         Kind = "denied"          // AWS denied the request
	ExpiredSession Kind = "expired_session" // AWS rejected a session before its expiry
	Locked         Kind = "locked"          // Broker is locked
	KeyringLocked  Kind = "keyring_locked"  // the keyring needs its passphrase
	NotConfirmed   Kind = "not_confirmed"   // a person declined
	Interrupted    Kind = "interrupted"     // Ctrl-C
)

// exitCodes maps kinds to exit codes; all other kinds exit with 1.
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
	Interrupted:    130, // what a shell reports for a program that SIGINT ended
}

// hints holds the default hint of each kind, for failures without a hint of their own. Config has none: such a
// message names file and line, and most commands would fail in the same way. Usage has none: it depends on the command.
var hints = map[Kind]Hint{
	Internal:       "broker status",
	Failed:         "broker status",
	Keyring:        "broker status",
	Network:        "broker status",
	Throttled:      "broker status",
	BadAnswer:      "broker status",
	Clock:          "date -u",
	NotFound:       "broker profiles list",
	LoginNeeded:    "broker login",
	CodeRejected:   "broker login",
	Unreachable:    "broker daemon",
	Denied:         "broker status",
	ExpiredSession: "broker logout",
	Locked:         "broker unlock",
	KeyringLocked:  "broker unlock",
}

// ExitCode returns the exit code of a program that ends with this kind of failure.
func (k Kind) ExitCode() int {
	if code, ok := exitCodes[k]; ok {
		return code
	}
	return 1
}

// Error is a failure as the user sees it: one line that says what is wrong and with what, and, if there is one, a
// command that fixes it.
type Error struct {
	Kind    Kind
	Message string
	Hint    Hint  // empty if the failure has no command of its own
	Err     error // the cause, for errors.Is and errors.As; may be nil
}

// Error returns the message, on one line and safe for a terminal.
func (e *Error) Error() string { return Line(e.Message) }

// ErrInterrupted is the failure of a command that Ctrl-C ended.
var ErrInterrupted = New(Interrupted, "interrupted")

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// New makes a failure. A %w in the format keeps the cause.
func New(kind Kind, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Kind: kind, Message: err.Error(), Err: errors.Unwrap(err)}
}

// WithHint returns a copy of the failure with a hint, made by Hintf: the command that fixes it.
func (e *Error) WithHint(format constant, args ...any) *Error {
	c := *e
	c.Hint = Hintf(format, args...)
	return &c
}

// Of returns err as a failure. If err is or wraps one, the result has its kind and hint and the whole message of
// err; otherwise its kind is Internal. Of(nil) is nil.
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

// Report returns what a program writes to stderr before it exits: a line with the message, and a second line with
// the hint, if there is one.
func (e *Error) Report(program string) string {
	s := program + ": " + e.Error() + "\n"
	if hint := e.ShownHint(); hint != "" {
		s += "hint: " + hint + "\n"
	}
	return s
}

// ShownHint returns the hint as Report writes it: the hint of the error, or that of its kind, or "".
func (e *Error) ShownHint() string { return cmp.Or(e.Hint.Shown(), string(hints[e.Kind])) }

// ParseReport parses the output of Report in another process of Broker, as a failure of this kind. If the text has
// no message, the message is otherwise.
func ParseReport(kind Kind, program, text, otherwise string) *Error {
	line, hint, _ := strings.Cut(strings.TrimSpace(text), "\nhint: ")
	message := cmp.Or(strings.TrimPrefix(line, program+": "), otherwise)
	return &Error{Kind: kind, Message: message, Hint: Hint(hint)}
}
