package client

import (
	"os"
	"os/signal"
	"strings"
	"time"
	"unicode/utf8"

	"broker/internal/fault"
	"broker/internal/peer"
	"broker/internal/secret"
	"broker/internal/tty"
	"broker/internal/wire"
)

// seat is the controlling terminal, whatever stdin, stdout and stderr are. canAsk reports whether a person there can be
// asked: a background job must neither write there nor read what is typed for others. device is its name; it is empty
// without a terminal, or if the system does not tell.
func seat() (canAsk bool, device string) {
	c, err := tty.Open()
	if err != nil {
		return false, ""
	}
	defer c.Close()
	return c.Foreground(), peer.Process{PID: os.Getpid()}.Terminal()
}

// terminal is a question on the controlling terminal.
type terminal struct {
	tty.Console
	offer   bool              // the question stands elsewhere: Enter takes it over
	answer  chan wire.Request // what the person says: one of wire's verbs for it
	signals chan os.Signal
	done    chan struct{} // closed when the question is taken off
	ended   chan struct{} // closed when nobody reads or writes there any more
	// interrupted: the answer is Ctrl-C. It is written before the answer is sent.
	interrupted bool
	closed      bool
}

const (
	// maxAnswer bounds what is read for a code.
	maxAnswer = 256
	// glance is how often the terminal is looked at while a question stands there.
	glance = 20 * time.Millisecond
)

// askTerminal puts a question; the answer comes on the channel. The line is edited here, and looked for by a
// clock; Console.Ask says why. What was typed before the question is not its answer, and thrown away.
func askTerminal(question wire.Ask) (*terminal, error) {
	c, err := tty.Open()
	if err != nil {
		return nil, err
	}
	t := &terminal{Console: c, answer: make(chan wire.Request, 1), signals: make(chan os.Signal, 1),
		done: make(chan struct{}), ended: make(chan struct{})}
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

	t.offer = question.Offer
	columns := t.Columns()
	text := wrap(fault.Line(question.Text), columns)
	if question.Reason != "" {
		text = wrap(fault.Line(question.Reason), columns) + "\r\n" + text
	}
	t.Show("\r" + text + " ")
	go func() {
		defer close(t.ended)
		t.answer <- t.listen()
	}()
	return t, nil
}

// tellTerminal shows a line to the person there, if it is for us to do.
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

// wrap breaks a line at its blanks so that it fits a terminal of so many columns, with two more for what is typed behind
// it. A word that is wider stays whole. Each character counts as one column.
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

// listen returns what the person says.
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
			// As if Broker had not caught it, but for the terminal's mode.
			t.Restore()
			signal.Reset(s)
			tty.DieOf(s)
			// Not a word more, or the daemon would still ask at this terminal in another way, before it sees the end.
			select {}
		case <-look.C:
		}
		for {
			k, typed, err := t.Key() // no more than the line: what follows is for others
			if err != nil {          // hung up: nobody said that
				return wire.Request{Verb: wire.Gone}
			}
			if !typed {
				break
			}
			eof, erase, kill := t.Special()
			switch {
			case k == '\n' || k == '\r' || k == eof:
				code := strings.TrimSpace(string(line))
				if code == "" && k != eof && !t.offer {
					continue // the Enter that took the question over, typed twice
				}
				t.Show("\r\n")
				switch {
				case code != "":
					return wire.Request{Verb: wire.Answer, Code: secret.New(code)}
				case k != eof:
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

// endLine ends the line of a question that was answered elsewhere, or not at all.
func (t *terminal) endLine() { t.Show("\r\n") }

// hush is for while the answer is checked: what is typed meanwhile is not shown, until close. A signal ends the process
// unless it ends the exchange, which then closes.
func (t *terminal) hush(dies bool) {
	<-t.ended
	t.ended = make(chan struct{})
	if !dies {
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

// close takes the question off the terminal and leaves it as it was. It may be called twice. A signal that came
// meanwhile still does what it does without a question.
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
		tty.DieOf(s)
	default:
	}
}
