//go:build unix

package mfa

import (
	"context"
	"errors"
	"html"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"broker/internal/fault"
)

func confirmation() Confirmation {
	return Confirmation{Lines: []string{"Profile: prod", "Program: terraform destroy"}, Env: []string{"DISPLAY=:4711"}}
}

func askToConfirm(t *testing.T, f *fakes, q Confirmation, system string) error {
	t.Helper()
	return f.shows(t, fault.NotConfirmed, func(ctx context.Context) error { return confirm(ctx, q, system) })
}

const declined = "not confirmed: the answer was no"

// TestConfirmAnswers: only a yes is a yes, in each program.
func TestConfirmAnswers(t *testing.T) {
	const confirmed = "exit $ZENITY_OK"
	for _, tt := range []struct {
		program, system, script string
		is                      error // what the error wraps; nil for a yes
		want                    string
	}{
		{"zenity", "linux", confirmed, nil, ""},
		{"zenity", "linux", "exit $ZENITY_CANCEL", ErrCancelled, declined},
		{"zenity", "linux", "exit $ZENITY_ESC", ErrCancelled, declined},
		{"zenity", "linux", "exit 0", ErrCancelled, declined}, // its window was destroyed
		{"zenity", "linux", "echo yes", ErrCancelled, declined},
		{"zenity", "linux", "exit 1", ErrNobody, ""}, // the display does not exist
		{"zenity", "linux", "kill -SEGV $$", ErrNobody, ""},
		{"zenity", "linux", "/usr/bin/yes", ErrNobody, ""},
		{"kdialog", "linux", "echo yes", nil, ""},
		{"kdialog", "linux", "echo ' YES '", nil, ""},
		{"kdialog", "linux", "echo y", ErrCancelled, declined},
		{"kdialog", "linux", "echo yes yes", ErrCancelled, declined},
		{"kdialog", "linux", "echo", ErrCancelled, declined},
		{"kdialog", "linux", ":", ErrCancelled, declined},
		{"kdialog", "linux", "echo yes; exit 1", ErrCancelled, declined},
		{"kdialog", "linux", "echo yes; exit 134", ErrNobody, ""},
		{"osascript", "darwin", "echo answer:yes", nil, ""},
		{"osascript", "darwin", "echo answer:", ErrCancelled, declined},
		{"osascript", "darwin", "echo canceled", ErrCancelled, declined},
		{"osascript", "darwin", "echo gave up", context.DeadlineExceeded, "nobody answered the prompt to confirm"},
		{"osascript", "darwin", "echo " + told, ErrNobody, ""},
		{"osascript", "darwin", "exit 1", ErrNobody, ""},
		{"osascript", "linux", "echo answer:yes", ErrNobody, ""},
	} {
		f := newFakes(t)
		f.add(t, tt.program, tt.script)
		q := confirmation()
		q.Env = append(q.Env, "ZENITY_OK=0")
		err := askToConfirm(t, f, q, tt.system)
		if (err == nil) != (tt.is == nil) || !errors.Is(err, tt.is) || tt.want != "" && err.Error() != tt.want {
			t.Errorf("%s: %s: %v", tt.program, tt.script, err)
		}
	}
}

func TestConfirmWithPinentry(t *testing.T) {
	for _, tt := range []struct {
		answer string
		is     error
	}{
		{"D yes\nOK", nil},
		{"D %59es\nOK", nil},
		{"OK", ErrCancelled},
		{"D no\nOK", ErrCancelled},
		{"D 123456\nOK", ErrCancelled},
		{"ERR 83886179 Operation cancelled <Pinentry>", ErrCancelled},
		{"ERR 83886194 Not confirmed <Pinentry>", ErrNobody},
		{"ERR 83886142 Timeout <Pinentry>", context.DeadlineExceeded},
		{told, ErrNobody},
	} {
		f := newFakes(t)
		f.pinentry(t, tt.answer, "D yes\nOK")
		if err := askToConfirm(t, f, confirmation(), "linux"); !errors.Is(err, tt.is) || (err == nil) != (tt.is == nil) {
			t.Errorf("%q: %v", tt.answer, err)
		}
		if there(filepath.Join(f.dir, "asked.1")) {
			t.Errorf("%q: asked twice", tt.answer)
		}
	}
}

// TestConfirmShows: each program gets the same lines, and interprets nothing in them.
func TestConfirmShows(t *testing.T) {
	zenity := func(s string) string {
		return strings.ReplaceAll(html.UnescapeString(strings.TrimPrefix(s, "--text=")), `\\`, `\`)
	}
	kdialog := strings.NewReplacer(`\\`, `\`, "&&", "&").Replace
	for _, name := range hostile {
		q := confirmation()
		q.Lines = []string{"Profile: prod", "Program: " + name}
		text := confirmHeading + "\nProfile: prod\n" + fault.Short("Program: "+name, maxShownLine)

		f := newFakes(t)
		f.add(t, "zenity", "exit $ZENITY_OK")
		f.add(t, "kdialog", "echo yes")
		f.pinentry(t, "D yes\nOK")
		if err := askToConfirm(t, f, q, "linux"); err != nil {
			t.Fatalf("%q: %v", name, err)
		}
		args := strings.Split(strings.TrimSuffix(f.read(t, "zenity.args"), "\x00"), "\x00")
		if len(args) != 6 || args[0] != "--question" || zenity(args[2]) != text || !slices.Contains(args, "--default-cancel") ||
			strings.ContainsAny(args[2], "<>") {
			t.Errorf("%q: zenity was called with %q", name, args)
		}
		if there(filepath.Join(f.dir, "kdialog.args")) || there(filepath.Join(f.dir, "told")) {
			t.Errorf("%q: a second program was used", name)
		}

		f.add(t, "zenity", "exit 1")
		if err := askToConfirm(t, f, q, "linux"); err != nil {
			t.Fatalf("%q: %v", name, err)
		}
		args = strings.Split(f.read(t, "kdialog.args"), "\x00")
		if len(args) != 5 || args[2] != "--inputbox" || kdialog(args[3]) != text+"\n"+typeYes {
			t.Errorf("%q: kdialog was called with %q", name, args)
		}
		if first, _, _ := strings.Cut(args[3], "\n"); first != confirmHeading {
			t.Errorf("%q: the first line is %q", name, first)
		}

		f.add(t, "kdialog", "exit 2")
		if err := askToConfirm(t, f, q, "linux"); err != nil {
			t.Fatalf("%q: %v", name, err)
		}
		shown := map[string]string{}
		for _, line := range f.told(t) {
			if len(line) > maxAssuan || strings.ContainsFunc(line, unicode.IsControl) {
				t.Errorf("%q: pinentry was told %q", name, line)
			}
			word, text, _ := strings.Cut(line, " ")
			shown[word] += unescape(text)
		}
		if shown["SETDESC"] != text+"\n"+typeYes || shown["SETPROMPT"] != "Type yes:" || shown["SETTITLE"] != confirmTitle {
			t.Errorf("%q: pinentry was told %q", name, shown)
		}

		f = newFakes(t)
		f.add(t, "osascript", "echo answer:yes")
		if err := askToConfirm(t, f, q, "darwin"); err != nil {
			t.Fatalf("%q: %v", name, err)
		}
		args = strings.Split(f.read(t, "osascript.args"), "\x00")
		if len(args) != 6 || args[1] != confirmTitle || args[2] != text || args[4] != "confirm" {
			t.Errorf("%q: osascript was called with %q", name, args)
		}
	}
}

func TestConfirmWithNobody(t *testing.T) {
	newFakes(t)
	err := confirm(t.Context(), confirmation(), "linux")
	const want = "nobody can be asked in a window: zenity is not installed; kdialog is not installed; pinentry is not installed"
	if !errors.Is(err, ErrNobody) || !fault.Is(err, fault.NotConfirmed) || err.Error() != want {
		t.Error(err)
	}
	if err := confirm(t.Context(), confirmation(), "windows"); !errors.Is(err, ErrNobody) {
		t.Error(err)
	}
}

// TestConfirmEndsWithItsContext: the window is closed, and that is no yes.
func TestConfirmEndsWithItsContext(t *testing.T) {
	for _, program := range []string{"zenity", "kdialog", "pinentry"} {
		f := newFakes(t)
		f.add(t, program, `trap '' TERM; echo OK; : >"$D/asking"; while :; do /bin/sleep 1; done`)
		err := f.shows(t, fault.NotConfirmed, func(ctx context.Context) error {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			go func() {
				poll(t, "the window is shown", func() bool { return there(filepath.Join(f.dir, "asking")) })
				cancel()
			}()
			return confirm(ctx, confirmation(), "linux")
		})
		if !errors.Is(err, context.Canceled) || err.Error() != "the prompt to confirm was withdrawn" {
			t.Errorf("%s: %v", program, err)
		}
		err = f.shows(t, fault.NotConfirmed, func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
			defer cancel()
			return confirm(ctx, confirmation(), "linux")
		})
		if !errors.Is(err, context.DeadlineExceeded) || err.Error() != "nobody answered the prompt to confirm" {
			t.Errorf("%s: %v", program, err)
		}
	}
}
