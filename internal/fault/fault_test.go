package fault

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
)

func TestLine(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"empty", "", ""},
		{"plain", "no such profile \"x\"", "no such profile \"x\""},
		{"other scripts", "профиль 本番 é", "профиль 本番 é"},
		{"line ends and tabs", "a\nb\tc", "a b c"},
		{"carriage return", "good\rbad", `good\rbad`},
		{"terminal escape", "\x1b[2Jgone", `\x1b[2Jgone`},
		{"C1 control", "a\u009bb", `a\u009bb`},
		{"NUL", "a\x00b", `a\x00b`},
		{"DEL", "a\x7fb", `a\x7fb`},
		{"not UTF-8", "a\xffb\xc3", `a\xffb\xc3`},
		{"a real replacement character", "a\uFFFDb", "a\uFFFDb"},
		{"right to left override", "a\u202eb", `a\u202eb`},
		{"line separator", "a\u2028b", `a\u2028b`},
		{"zero width space", "a\u200bb", `a\u200bb`},
		{"no-break space", "a\u00a0b", `a\u00a0b`},
		{"tag character", "a\U000e0041b", `a\U000e0041b`},
		{"variation selector", "a\ufe0fb", `a\ufe0fb`},
		{"variation selector of another plane", "a\U000e0101b", `a\U000e0101b`},
		{"filler of Hangul", "a\u3164b", `a\u3164b`},
		{"blank of Braille", "a\u2800b", `a\u2800b`},
		{"soft hyphen", "a\u00adb", `a\u00adb`},
		{"combining marks", "e\u0301", "e\u0301"},
		{"just fits", strings.Repeat("x", maxLine), strings.Repeat("x", maxLine)},
		{"one too many", strings.Repeat("x", maxLine+1), strings.Repeat("x", maxLine) + "…"},
		{"a megabyte", strings.Repeat("é", 1<<20), strings.Repeat("é", maxLine/2) + "…"},
	}
	for _, tt := range tests {
		if got := Line(tt.in); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}

// checkLine checks what holds for the line of any text.
func checkLine(t *testing.T, in string) {
	t.Helper()
	got := Line(in)
	if n := len(got); n > maxLine+len("…") {
		t.Errorf("Line returned %d bytes for %q", n, in)
	}
	checkShown(t, in, got)
	if again := Line(got); again != got {
		t.Errorf("Line is not idempotent: %q became %q", got, again)
	}
}

func TestExitCodes(t *testing.T) {
	// As documented: 1 failed, 2 usage, 3 no such name, 4 a code or login, 5
	// unreachable, 6 denied, 7 locked, 8 not confirmed, 130 for Ctrl-C.
	want := map[Kind]int{
		Internal: 1, Failed: 1, Config: 1, Keyring: 1, Network: 1, Throttled: 1, BadAnswer: 1, Clock: 1,
		Usage: 2, NotFound: 3, LoginNeeded: 4, CodeRejected: 4, Unreachable: 5, Denied: 6, ExpiredSession: 6,
		Locked: 7, KeyringLocked: 7, NotConfirmed: 8, Interrupted: 130, "of_a_newer_version": 1,
	}
	for kind, code := range want {
		if got := kind.ExitCode(); got != code {
			t.Errorf("%s exits with %d, want %d", kind, got, code)
		}
	}
	seen := map[Kind]int{}
	for _, e := range ExitCodes {
		for _, kind := range e.Kinds {
			if _, ok := want[kind]; !ok {
				t.Errorf("%s has an exit code that this test does not list", kind)
			}
			seen[kind]++
		}
	}
	for kind := range want {
		if n := seen[kind]; n != 1 && kind != "of_a_newer_version" {
			t.Errorf("%s is in %d rows", kind, n)
		}
	}
}

func TestOfAndIs(t *testing.T) {
	denied := New(Denied, "no: %w", fs.ErrPermission).WithHint("ask %s", "him")
	plain := errors.New("boom")
	tests := []struct {
		name string
		err  error
		want Error // without Err
	}{
		{"a failure", denied, Error{Kind: Denied, Message: "no: permission denied", Hint: "ask him"}},
		{"wrapped", fmt.Errorf("assume x: %w", denied), Error{Kind: Denied, Message: "assume x: no: permission denied", Hint: "ask him"}},
		{"joined", errors.Join(plain, denied), Error{Kind: Denied, Message: "boom\nno: permission denied", Hint: "ask him"}},
		{"the outer kind counts", New(Config, "file: %w", denied), Error{Kind: Config, Message: "file: no: permission denied"}},
		{"not a fault", plain, Error{Kind: Internal, Message: "boom"}},
	}
	for _, tt := range tests {
		got := Of(tt.err)
		if got.Kind != tt.want.Kind || got.Message != tt.want.Message || got.Hint != tt.want.Hint {
			t.Errorf("%s: got %+v, want %+v", tt.name, got, tt.want)
		}
		if fault := tt.want.Kind != Internal; Is(tt.err, tt.want.Kind) != fault {
			t.Errorf("%s: Is(%s) = %v", tt.name, tt.want.Kind, !fault)
		}
		if Is(tt.err, Throttled) {
			t.Errorf("%s: Is reports a wrong kind", tt.name)
		}
		if tt.err != plain && !errors.Is(got, fs.ErrPermission) {
			t.Errorf("%s: the cause is lost", tt.name)
		}
		if Of(got) != got {
			t.Errorf("%s: Of(Of(err)) differs from Of(err)", tt.name)
		}
	}
	if Of(nil) != nil || Is(nil, Internal) {
		t.Error("Of(nil) is not nil")
	}
	if both := New(Denied, "%w, %w", fs.ErrPermission, plain); !errors.Is(both, fs.ErrPermission) || !errors.Is(both, plain) {
		t.Error("one of two causes is lost")
	}
	if bare := New(Denied, "no"); bare.WithHint("x") == bare || bare.Hint != "" {
		t.Error("WithHint changed the failure that it was called on")
	} else if !errors.Is(Of(fmt.Errorf("x: %w", bare)).WithHint("x"), bare) {
		t.Error("a failure with a hint does not wrap the one without")
	}
}

func TestReport(t *testing.T) {
	e := New(Denied, "AWS said\nno\x1b[0m")
	if got, want := e.Report("broker"), "broker: AWS said no\\x1b[0m\nhint: broker status\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	want := "credproc: AWS said no\\x1b[0m\nhint: broker login 'a\\nb'\n"
	got := e.WithHint("broker login %s", "a\nb").Report("credproc")
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if read := ParseReport(Denied, "credproc", got, ""); read.Report("credproc") != got || read.Hint == "" {
		t.Errorf("read as %+v", read)
	}
}

// TestEveryKindHasAHint: every failure has a hint, except when a person declined, for a file, which the message names
// with its line, and for a wrong command line, whose hint the command knows.
func TestEveryKindHasAHint(t *testing.T) {
	for _, kind := range []Kind{Internal, Failed, Keyring, Network, Throttled, BadAnswer, Clock, NotFound,
		LoginNeeded, CodeRejected, Unreachable, Denied, ExpiredSession, Locked, KeyringLocked} {
		if !strings.Contains(New(kind, "x").Report("broker"), "\nhint: ") {
			t.Errorf("%s has no hint", kind)
		}
	}
	for _, kind := range []Kind{NotConfirmed, Config, Usage} {
		if got := New(kind, "no").Report("broker"); got != "broker: no\n" {
			t.Errorf("%s: got %q", kind, got)
		}
	}
}
