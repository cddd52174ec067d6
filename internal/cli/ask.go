package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/urfave/cli/v2"

	"broker/internal/fault"
	"broker/internal/secret"
	"broker/internal/stretch"
	"broker/internal/tty"
)

// terminal is the controlling terminal. Prompts go there, wherever stdin and stdout go. The embedded file is read;
// on Windows, out is another file.
type terminal struct {
	*os.File
	out  *os.File
	echo *echo
}

// echo tracks whether the terminal shows typed text. After a prompt for a secret it does not, because text that was
// typed too early may be part of that secret or of the next one. Echo comes back at the next prompt that is not for
// a secret, for a program that takes over the terminal, and when the command ends.
type echo struct {
	mu    sync.Mutex
	again func() error // turns echo off again
	show  func()       // turns echo on; nil while it is on
}

func (e *echo) hide(f *os.File) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.show != nil {
		return e.again()
	}
	var err error
	e.again, e.show, err = tty.Hide(f)
	return err
}

func (e *echo) restore() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.show != nil {
		e.show()
		e.show = nil
	}
}

// whileHidden calls f unless echo is on again, as after Ctrl-C: f sets a mode without echo.
func (e *echo) whileHidden(f func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.show != nil {
		f()
	}
}

func (p *program) openTerminal() (terminal, error) {
	p.interrupts.catch() // otherwise Ctrl-C during a prompt would leave the terminal without echo
	in, out, err := tty.Files()
	if err != nil {
		return terminal{}, fault.New(fault.Failed, "there is no terminal to ask on")
	}
	return terminal{in, out, p.echo}, nil
}

// Write implements io.Writer. It escapes control characters, so that names in a prompt cannot control the terminal.
func (t terminal) Write(b []byte) (int, error) { return fault.Writer(t.out).Write(b) }

// WriteString implements io.StringWriter.
func (t terminal) WriteString(s string) (int, error) { return t.Write([]byte(s)) }

// Close implements io.Closer.
func (t terminal) Close() error {
	err := t.File.Close()
	if t.out != t.File {
		_ = t.out.Close()
	}
	return err
}

// dropKeys drops the keys that were typed before a prompt.
func dropKeys() {
	if keys, err := tty.Open(); err == nil {
		keys.Flush()
		keys.Close()
	}
}

// maxAnswer is the most that is read for one answer, in bytes.
const maxAnswer = 4096

// line shows a prompt and returns the answer without surrounding blanks.
func (t terminal) line(ctx context.Context, question string) (string, error) {
	t.echo.restore()
	return t.read(ctx, question, func() (string, error) {
		answer, err := bufio.NewReader(io.LimitReader(t, maxAnswer)).ReadString('\n')
		if err != nil { // Ctrl-D: start a new line
			_, _ = fmt.Fprintln(t)
		}
		return answer, err
	})
}

// hidden prompts for a secret. The terminal shows neither the secret nor what is typed after it; see echo.
func (t terminal) hidden(ctx context.Context, question string) (secret.String, error) {
	// Turn echo off here, not in the goroutine that reads: that one may start after Ctrl-C has ended the prompt.
	if err := t.echo.hide(t.File); err != nil {
		return secret.String{}, fault.New(fault.Failed, "the terminal cannot hide what is typed: %w", err)
	}
	s, err := t.read(ctx, question, func() (string, error) {
		s, err := bufio.NewReader(io.LimitReader(t, maxAnswer)).ReadString('\n')
		_, _ = fmt.Fprintln(t)
		return s, err
	})
	return secret.New(s), err
}

// maxPaste is the most that is read of a pasted text, in bytes.
const maxPaste = 16 << 10

// pasted is hidden for a text that may be longer than a line of a terminal.
func (t terminal) pasted(ctx context.Context, question string) (secret.String, error) {
	err := t.echo.hide(t.File)
	lines := func() {}
	if err == nil {
		lines, err = tty.Keys(t.File)
	}
	if err != nil {
		return secret.String{}, fault.New(fault.Failed, "the terminal cannot hide what is pasted: %w", err)
	}
	defer t.echo.whileHidden(lines)
	s, err := t.read(ctx, question, func() (string, error) {
		s, err := edited(t.File)
		_, _ = fmt.Fprintln(t)
		return s, err
	})
	return secret.New(s), err
}

// The keys that edit a text, as terminals send them.
const (
	ctrlD     = 4
	backspace = 8
	ctrlU     = 21
	erase     = 127
)

// edited reads keys up to Enter, and returns the text that they make. Ctrl-D ends the input.
func edited(keys io.Reader) (string, error) {
	var text []byte
	in := bufio.NewReader(io.LimitReader(keys, maxPaste))
	for {
		key, err := in.ReadByte()
		switch {
		case err == nil && key == ctrlD:
			return string(text), io.EOF
		case err != nil || key == '\r' || key == '\n':
			return string(text), err
		case key == ctrlU:
			text = text[:0]
		case key == backspace || key == erase:
			text = text[:max(len(text)-1, 0)]
		default:
			text = append(text, key)
		}
	}
}

// fresh prompts for a new passphrase, twice.
func (t terminal) fresh(ctx context.Context) (secret.String, error) {
	for {
		first, err := t.hidden(ctx, "New passphrase: ")
		if err != nil {
			return secret.String{}, err
		}
		if why := stretch.Weak(first.Reveal()); why != "" && !first.IsZero() {
			_, _ = fmt.Fprintf(t, "This passphrase is weak: %s. Press Enter to choose another one.\n", why)
		}
		again, err := t.hidden(ctx, "The same again: ")
		switch {
		case err != nil:
			return secret.String{}, err
		case first.IsZero():
			_, _ = fmt.Fprintln(t, "The passphrase is empty.")
		case again.IsZero(): // the person wants to choose another passphrase
		case first.Reveal() != again.Reveal():
			_, _ = fmt.Fprintln(t, "The two are not the same.")
		default:
			return first, nil
		}
	}
}

// read shows a prompt and waits for an answer or for Ctrl-C.
func (t terminal) read(ctx context.Context, question string, read func() (string, error)) (string, error) {
	if _, err := fmt.Fprint(t, question); err != nil {
		return "", fault.New(fault.Failed, "write to the terminal: %w", err)
	}
	type result struct {
		text string
		err  error
	}
	answered := make(chan result, 1)
	go func() {
		text, err := read()
		answered <- result{text, err}
	}()
	select {
	case <-ctx.Done():
		_, _ = fmt.Fprintln(t)
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return "", ctx.Err()
		}
		return "", fault.ErrInterrupted
	case r := <-answered:
		if r.err != nil && !(errors.Is(r.err, io.EOF) && r.text != "") {
			return "", fault.New(fault.NotConfirmed, "no answer was given")
		}
		return strings.TrimSpace(r.text), nil
	}
}

// question prompts on the terminal and returns the answer.
func (p *program) question(ctx context.Context, text string) (string, error) {
	t, err := p.openTerminal()
	if err != nil {
		return "", err
	}
	defer func() { _ = t.Close() }()
	return t.line(ctx, text)
}

// errNo means that a person did not answer yes.
var errNo = &fault.Error{Kind: fault.NotConfirmed, Message: "not confirmed, nothing was changed"}

// confirm prompts with a question. Any answer other than yes is an error.
func (p *program) confirm(ctx context.Context, question string) error {
	if !hasTerminal() {
		return p.noTerminal("there is no terminal to ask on; confirm with --yes")
	}
	answer, err := p.question(ctx, question+" [y/N] ")
	if err == nil && !yesIs(answer) {
		err = errNo
	}
	return err
}

// noTerminal returns the error for a question that nobody can be asked. The hint is the command that answers it.
func (p *program) noTerminal(why string) error {
	at := locate(p.commands, p.typed)
	f := fault.New(fault.NotConfirmed, "%s", why)
	switch {
	case !slices.ContainsFunc(at.flags, func(f cli.Flag) bool { return slices.Contains(f.Names(), "yes") }):
		return f.WithHint("broker %s --help", at.path)
	case len(at.rest) == 0:
		return f.WithHint("broker %s --yes", at.path)
	}
	rest := fault.Hintf("%s", at.rest) // options as well as names, in their order
	return f.WithHint("%s --yes %s", fault.Hintf("broker %s", at.path), rest)
}

// yesIs reports whether an answer is a yes.
func yesIs(answer string) bool {
	return strings.EqualFold(answer, "y") || strings.EqualFold(answer, "yes")
}
