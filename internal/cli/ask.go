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

// terminal is the controlling terminal: questions go there, whatever stdin and stdout are. It is the file
// that is read; on Windows another one is written.
type terminal struct {
	*os.File
	out  *os.File
	echo *echo
}

// echo is whether the terminal shows what is typed. After a question for a secret it does not: what was typed too early
// may be a part of that secret, or of the next one. It shows it again at the next question that is not for a secret, for
// a program that takes over the terminal, and when the command ends.
type echo struct {
	mu   sync.Mutex
	show func() // nil while the terminal shows it
}

func (e *echo) hide(f *os.File) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.show != nil {
		return nil
	}
	show, err := tty.Hide(f)
	e.show = show
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

func (p *program) openTerminal() (terminal, error) {
	p.interrupts.catch() // or Ctrl-C would leave the terminal as it is in the middle of a question
	in, out, err := tty.Files()
	if err != nil {
		return terminal{}, fault.New(fault.Failed, "there is no terminal to ask on")
	}
	return terminal{in, out, p.echo}, nil
}

// Write implements io.Writer. Whatever names are in a question, they do not steer the terminal.
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

// maxAnswer bounds what is read for one question.
const maxAnswer = 4096

// line asks a question and returns the answer without blanks around it.
func (t terminal) line(ctx context.Context, question string) (string, error) {
	t.echo.restore()
	return t.read(ctx, question, func() (string, error) {
		answer, err := bufio.NewReader(io.LimitReader(t, maxAnswer)).ReadString('\n')
		if err != nil { // Ctrl-D: what follows begins on a line of its own
			_, _ = fmt.Fprintln(t)
		}
		return answer, err
	})
}

// hidden asks for a secret: nothing is shown of it, nor of what is typed behind it; see echo.
func (t terminal) hidden(ctx context.Context, question string) (secret.String, error) {
	// Not by what reads: that may begin only when Ctrl-C has ended the question.
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

// fresh asks for a new passphrase, twice.
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
		case again.IsZero(): // another one
		case first.Reveal() != again.Reveal():
			_, _ = fmt.Fprintln(t, "The two are not the same.")
		default:
			return first, nil
		}
	}
}

// read waits for an answer, or for Ctrl-C.
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
		return "", fault.ErrInterrupted
	case r := <-answered:
		if r.err != nil && !(errors.Is(r.err, io.EOF) && r.text != "") {
			return "", fault.New(fault.NotConfirmed, "no answer was given")
		}
		return strings.TrimSpace(r.text), nil
	}
}

// question asks on the terminal and returns the answer.
func (p *program) question(ctx context.Context, text string) (string, error) {
	t, err := p.openTerminal()
	if err != nil {
		return "", err
	}
	defer func() { _ = t.Close() }()
	return t.line(ctx, text)
}

// errNo is the answer to a question that only yes confirms.
var errNo = fault.New(fault.NotConfirmed, "not confirmed, nothing was changed")

// confirm asks a question that yes alone answers.
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

// noTerminal is the error of a question that nobody can be asked, with the command that answers it.
func (p *program) noTerminal(why string) error {
	at := locate(p.commands, p.typed)
	f := fault.New(fault.NotConfirmed, "%s", why)
	switch {
	case !slices.ContainsFunc(at.flags, func(f cli.Flag) bool { return slices.Contains(f.Names(), "yes") }):
		return f.WithHint("broker %s --help", at.path)
	case len(at.rest) == 0:
		return f.WithHint("broker %s --yes", at.path)
	}
	return f.WithHint("%s --yes %s", fault.Hintf("broker %s", at.path), at.rest)
}

// yesIs reports whether an answer is a yes.
func yesIs(answer string) bool {
	return strings.EqualFold(answer, "y") || strings.EqualFold(answer, "yes")
}
