// Package fault defines the failures that users see: their kinds, the names of the kinds on the wire and the exit
// codes. It does not know who failed. Every package above it makes its errors here, and both programs turn them
// into the same line and the same exit code.
package fault

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
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

// An ExitCode is an exit code of broker and credproc.
type ExitCode struct {
	Code    int
	Meaning string
	Kinds   []Kind // the failures that end with it
}

// ExitCodes are all exit codes. The manual page prints them, and docs/reference.md has the same table.
var ExitCodes = []ExitCode{
	{0, "success", nil},
	{1, "failed; the message says why", []Kind{Failed, Config, Keyring, Network, Throttled, BadAnswer, Clock, Internal}},
	{2, "wrong usage", []Kind{Usage}},
	{3, "no such profile or source", []Kind{NotFound}},
	{4, "a code or a login is needed and nobody can be asked, or the code was wrong", []Kind{LoginNeeded, CodeRejected}},
	{5, "no daemon answers, and none could be started", []Kind{Unreachable}},
	{6, "AWS denied the call", []Kind{Denied, ExpiredSession}},
	{7, "Broker or its keyring is locked", []Kind{Locked, KeyringLocked}},
	{8, "not confirmed", []Kind{NotConfirmed}},
	{130, "interrupted by Ctrl-C", []Kind{Interrupted}}, // what a shell reports for a program that SIGINT ended
}

// hint returns the default hint of a kind, for failures without a hint of their own. Config has none: such a message
// names file and line, and most commands would fail in the same way. Usage has none: it depends on the command.
func (k Kind) hint() string {
	switch k {
	case Internal, Failed, Keyring, Network, Throttled, BadAnswer, Denied:
		return "broker status"
	case Clock:
		return "date -u"
	case NotFound:
		return "broker profiles list"
	case LoginNeeded, CodeRejected:
		return "broker login"
	case Unreachable:
		return "broker daemon"
	case ExpiredSession:
		return "broker logout"
	case Locked, KeyringLocked:
		return "broker unlock"
	}
	return ""
}

// ExitCode returns the exit code of a program that ends with this kind of failure.
func (k Kind) ExitCode() int {
	for i := range ExitCodes {
		if slices.Contains(ExitCodes[i].Kinds, k) {
			return ExitCodes[i].Code
		}
	}
	return 1 // a kind of a newer version
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
var ErrInterrupted = &Error{Kind: Interrupted, Message: "interrupted"}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// New makes a failure. Each %w in the format keeps a cause.
func New(kind Kind, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	cause := errors.Unwrap(err)
	if _, several := err.(interface{ Unwrap() []error }); several {
		cause = err
	}
	return &Error{Kind: kind, Message: err.Error(), Err: cause}
}

// WithHint returns a failure that wraps e and has a hint, made by Hintf: the command that fixes it.
func (e *Error) WithHint(format constant, args ...any) *Error {
	return &Error{Kind: e.Kind, Message: e.Message, Hint: Hintf(format, args...), Err: e}
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
	e, ok := errors.AsType[*Error](err)
	return ok && e.Kind == kind
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
func (e *Error) ShownHint() string { return cmp.Or(e.Hint.Shown(), e.Kind.hint()) }

// ParseReport parses the output of Report in another process of Broker, as a failure of this kind. If the text has
// no message, the message is otherwise.
func ParseReport(kind Kind, program, text, otherwise string) *Error {
	line, hint, _ := strings.Cut(strings.TrimSpace(text), "\nhint: ")
	message := cmp.Or(strings.TrimPrefix(line, program+": "), otherwise)
	return &Error{Kind: kind, Message: message, Hint: Hint(hint)}
}
