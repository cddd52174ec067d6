package client

import (
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"broker/internal/fault"
	"broker/internal/peer"
	"broker/internal/secret"
	"broker/internal/tty"
	"broker/internal/wire"
)

// ownTerminal returns the state of the controlling terminal, wherever stdin, stdout and stderr go. canAsk reports
// whether a prompt can appear there: a background job must neither write to the terminal nor read what is typed for
// other programs. device is the terminal's name. It is empty without a terminal, or if the system does not report
// it.
func ownTerminal() (canAsk bool, device string) {
	c, err := tty.Open()
	if err != nil {
		return false, ""
	}
	defer c.Close()
	return c.Foreground(), peer.Process{PID: os.Getpid()}.Terminal()
}

// terminal is a prompt on the controlling terminal.
type terminal struct {
	tty.Console
	offer   bool              // the prompt is open elsewhere; Enter moves it here
	choice  bool              // Enter and Ctrl-D are a no; Ctrl-C is no answer
	answer  chan wire.Request // the person's answer, as a request
	signals chan os.Signal
	done    chan struct{} // closed when the prompt is removed
	ended   chan struct{} // closed when nothing reads or writes the terminal any more
	// interrupted means that the answer is Ctrl-C. It is set before the answer is sent.
	interrupted bool
	closed      bool
	dies        bool // without a prompt, Ctrl-C ends this process
}

const (
	// maxAnswer is the most that is read for a code, in bytes.
	maxAnswer = 256
	// glance is how often the terminal is polled while a prompt is open.
	glance = 20 * time.Millisecond
)

// askTerminal shows a prompt and sends the answer to the answer channel. It edits the line itself and polls for
// input; see Console.Ask for the reasons. Input typed before the prompt is discarded.
func askTerminal(question wire.Prompt, dies bool) (*terminal, error) {
	c, err := tty.Open()
	if err != nil {
		return nil, err
	}
	t := &terminal{Console: c, answer: make(chan wire.Request, 1), signals: make(chan os.Signal, 1),
		done: make(chan struct{}), ended: make(chan struct{}), dies: dies}
	err = os.ErrPermission
	if t.Foreground() {
		err = t.Remember()
	}
	if err != nil {
		t.Console.Close()
		return nil, err
	}
	signal.Notify(t.signals, os.Interrupt)
	tty.NotifyEnd(t.signals)
	t.Ask()

	t.offer, t.choice = question.Offer, question.Choice
	columns := t.Columns()
	text := wrap(fault.Line(question.Text), columns)
	if question.Reason != "" {
		text = wrap(fault.Line(question.Reason), columns) + "\r\n" + text
	}
	for _, line := range slices.Backward(question.Lines) {
		text = wrap(fault.Line(line), columns) + "\r\n" + text
	}
	t.Show("\r" + text + " ")
	go func() {
		defer close(t.ended)
		t.answer <- t.listen()
	}()
	return t, nil
}

// tellTerminal shows a line on the controlling terminal if this process is in its foreground.
func tellTerminal(line string) {
	c, err := tty.Open()
	if err != nil {
		return
	}
	defer c.Close()
	if c.Foreground() {
		c.Show("\r" + wrap(fault.Line(line), c.Columns()) + "\r\n")
	}
}

// wrap breaks a line at its blanks so that it fits a terminal of that many columns, with two columns left for typed
// text. A word that is wider stays whole. Each character counts as one column.
func wrap(line string, columns int) string {
	if columns <= 0 {
		return line
	}
	var b strings.Builder
	at := 0
	for i, word := range strings.Split(line, " ") {
		wide := utf8.RuneCountInString(word)
		switch {
		case i == 0:
		case at+1+wide+2 > columns:
			b.WriteString("\r\n  ")
			at = 2
		default:
			b.WriteByte(' ')
			at++
		}
		b.WriteString(word)
		at += wide
	}
	return b.String()
}

// listen reads the keys and returns the person's answer.
func (t *terminal) listen() wire.Request {
	line := make([]byte, 0, maxAnswer)
	defer func() { clear(line[:cap(line)]) }()
	look := time.NewTicker(glance)
	defer look.Stop()
	for {
		select {
		case <-t.done:
			return wire.Request{Verb: wire.Gone}
		case s := <-t.signals:
			if s == os.Interrupt {
				t.endLine()
				t.interrupted = true
				return wire.Request{Verb: wire.Cancel}
			}
			// End as if Broker had not caught the signal, but restore the terminal's mode first.
			t.Restore()
			signal.Reset(s)
			tty.DieOf(s)
			// Send nothing more. Otherwise the daemon would start another prompt on this terminal before it sees
			// that this process ended.
			select {}
		case <-look.C:
		}
		for {
			k, typed, err := t.Key() // reads no further than the line: the rest is for other programs
			if err != nil {          // the terminal hung up; this is not an answer
				return wire.Request{Verb: wire.Gone}
			}
			if !typed {
				break
			}
			eof, erase, kill := t.Special()
			switch {
			case k == '\n' || k == '\r' || k == eof:
				code := strings.TrimSpace(string(line))
				if code == "" && k != eof && !t.offer && !t.choice {
					continue // a second Enter after the one that moved the prompt here
				}
				t.Show("\r\n")
				switch {
				case code == "" && t.choice:
					return wire.Request{Verb: wire.Answer, Code: secret.New("n")}
				case code != "":
					return wire.Request{Verb: wire.Answer, Code: secret.New(code)}
				case k != eof && t.offer:
					return wire.Request{Verb: wire.Here}
				}
				return wire.Request{Verb: wire.Cancel}
			case (k == '\b' || k == 0x7f || k == erase) && len(line) > 0:
				line = line[:len(line)-1]
				t.Show("\b \b")
			case k == kill:
				t.Show(strings.Repeat("\b \b", len(line)))
				line = line[:0]
			case k >= ' ' && k <= '~' && len(line) < maxAnswer:
				line = append(line, k)
				t.Show(string(k))
			}
		}
	}
}

// endLine ends the line of a prompt that was answered elsewhere or not at all.
func (t *terminal) endLine() { t.Show("\r\n") }

// hush keeps typed text hidden while the answer is checked, until close. A signal ends this process, or the exchange,
// which then closes the terminal.
func (t *terminal) hush() {
	<-t.ended
	t.ended = make(chan struct{})
	if !t.dies {
		signal.Stop(t.signals)
	}
	go func() {
		defer close(t.ended)
		select {
		case <-t.done:
		case s := <-t.signals:
			t.Restore()
			signal.Reset(s)
			tty.DieOf(s)
			select {}
		}
	}()
}

// close removes the prompt and restores the terminal. It may be called twice. A signal that arrived meanwhile has
// the same effect as without a prompt.
func (t *terminal) close() {
	if t.closed {
		return
	}
	t.closed = true
	close(t.done)
	<-t.ended
	t.Restore()
	t.Console.Close()
	signal.Stop(t.signals)
	select {
	case s := <-t.signals:
		if t.dies || s != os.Interrupt {
			tty.DieOf(s)
		}
	default:
	}
}
