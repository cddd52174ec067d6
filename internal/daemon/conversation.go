package daemon

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"broker/internal/fault"
	"broker/internal/mfa"
	"broker/internal/secret"
	"broker/internal/session"
	"broker/internal/wire"
)

// conversation reads the lines of one connection: requests, and within a
// request the answers to questions. Only where a question was put does a goroutine of its own read.
type conversation struct {
	conn   net.Conn
	reader *bufio.Reader

	mu    sync.Mutex                 // held while a question is open: one at a time
	asked int                        // the id of the last question
	reads sync.Once                  // starts the goroutine that reads
	lines atomic.Pointer[chan heard] // nil until then
	left  chan struct{}              // closed when that has seen that the client has left
	over  chan struct{}              // closed when the connection's handler ends
}

func newConversation(conn net.Conn) *conversation {
	return &conversation{conn: conn, reader: bufio.NewReaderSize(conn, 1024), left: make(chan struct{}),
		over: make(chan struct{})}
}

// gone reports whether the client has left, as far as that was seen.
func (c *conversation) gone() bool {
	select {
	case <-c.left:
		return true
	default:
		return false
	}
}

// listen starts to read, so that answers come, and the end of the connection is seen.
func (c *conversation) listen() <-chan heard {
	c.reads.Do(func() {
		lines := make(chan heard)
		c.lines.Store(&lines)
		go c.readAll(lines)
	})
	return *c.lines.Load()
}

// Watch implements session.Client.
func (c *conversation) Watch(ctx context.Context, gone func()) {
	c.listen()
	go func() {
		select {
		case <-c.left:
			gone()
		case <-ctx.Done():
		}
	}()
}

type heard struct {
	req *wire.Request // nil with an error
	err error
}

func (c *conversation) read() (*wire.Request, error) {
	b, err := wire.ReadLine(c.reader)
	if err != nil {
		return nil, err
	}
	return wire.DecodeRequest(b)
}

// next reads the next request. What comes late to a question that was over is not one.
func (c *conversation) next() (*wire.Request, error) {
	for {
		var l heard
		if lines := c.lines.Load(); lines == nil {
			l.req, l.err = c.read()
		} else {
			var open bool
			if l, open = <-*lines; !open {
				return nil, io.EOF
			}
		}
		if l.err == nil {
			switch l.req.Verb {
			case wire.Answer, wire.Cancel, wire.Gone, wire.Here:
				continue
			}
		}
		return l.req, l.err
	}
}

// ask puts one question to the client and waits for what the person says. The answer to an offer may be empty.
func (c *conversation) ask(ctx context.Context, question wire.Ask) (secret.String, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if ctx.Err() != nil {
		return secret.String{}, ctx.Err()
	}
	lines := c.listen()
	c.asked++
	question.ID = c.asked
	b, err := wire.EncodeResponse(wire.Response{Ask: &question})
	if err != nil {
		return secret.String{}, err
	}
	_ = c.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
	if _, err := c.conn.Write(b); err != nil {
		return secret.String{}, session.ErrGone
	}
	for {
		select {
		case <-ctx.Done():
			return secret.String{}, ctx.Err()
		case l, open := <-lines:
			switch {
			case !open || l.err != nil:
				return secret.String{}, session.ErrGone
			case l.req.ID != c.asked:
				continue
			case l.req.Verb == wire.Answer && !l.req.Code.IsZero():
				return l.req.Code, nil
			case l.req.Verb == wire.Gone:
				return secret.String{}, session.ErrGone
			case l.req.Verb == wire.Here && question.Offer:
				return secret.String{}, nil
			case l.req.Verb == wire.Cancel, l.req.Verb == wire.Answer:
				return secret.String{}, session.ErrCancelled
			}
		}
	}
}

// tell tells the client why its answer takes long. Before an open question that is not said: the person is busy.
func (c *conversation) tell(line string) {
	if !c.mu.TryLock() {
		return
	}
	defer c.mu.Unlock()
	if b, err := wire.EncodeResponse(wire.Response{Notice: fault.Line(line)}); err == nil {
		_ = c.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
		_, _ = c.conn.Write(b)
	}
}

// readAll reads until the connection or its handler ends.
func (c *conversation) readAll(lines chan<- heard) {
	defer close(lines)
	for {
		req, err := c.read()
		ends := err != nil && !isFault(err)
		if ends {
			close(c.left) // before a question at the terminal ends by it, and the next place is asked
		}
		select {
		case lines <- heard{req, err}:
		case <-c.over:
			return
		}
		if ends {
			return
		}
	}
}

// isFault tells a line that is no request from a connection that is gone.
func isFault(err error) bool { return fault.Of(err).Kind != fault.Internal }

// terminal is the person at a client's terminal.
type terminal struct {
	call
	seat func() (seat, who string) // read once: each who waits is compared with all others
}

func newTerminal(c call) *terminal {
	return &terminal{c, sync.OnceValues(func() (seat, who string) {
		return strings.TrimPrefix(c.peer.Terminal(), "/dev/"), c.asker()
	})}
}

// slips is how often what was typed may be no code at all before we give up.
const slips = 3

// Ask implements session.Asker. What cannot be a code is asked for again here:
// it is nobody else's business, and none of AWS's.
func (t *terminal) Ask(ctx context.Context, q session.Question) (secret.String, error) {
	for try := 1; ; try++ {
		typed, err := t.talk.ask(ctx, wire.Ask{Text: t.question(q).Text(), Reason: q.Reason})
		if err != nil {
			return secret.String{}, err
		}
		code, err := mfa.ParseCode(typed.Reveal())
		if err == nil || try == slips {
			return code, err
		}
		q.Reason = err.Error()
	}
}

// Offer implements session.Terminal. Who types a code instead of Enter is not asked for it again.
func (t *terminal) Offer(ctx context.Context, q session.Question, seat, who string) (secret.String, error) {
	stands := mfa.Question{Source: q.Source, Endpoint: q.Endpoint, Asker: who}
	typed, err := t.talk.ask(ctx, wire.Ask{Text: stands.Elsewhere(seat), Offer: true})
	if err != nil || typed.IsZero() {
		return secret.String{}, err
	}
	code, err := mfa.ParseCode(typed.Reveal())
	if err != nil {
		return secret.String{}, nil // it is asked here
	}
	return code, nil
}

// Seat implements session.Asker. The kernel says which terminal it is: a client could name that of another.
func (t *terminal) Seat() (seat, who string) { return t.seat() }

// window is the person at the desktop of a client.
type window struct {
	call
	ask Window
}

// Ask implements session.Asker.
func (w *window) Ask(ctx context.Context, q session.Question) (secret.String, error) {
	if w.talk.gone() { // its terminal is somebody else's by now, and its desktop need not be asked for nobody
		return secret.String{}, session.ErrGone
	}
	code, err := w.ask(ctx, w.question(q))
	switch {
	case errors.Is(err, mfa.ErrNobody):
		return code, session.ErrGone
	case errors.Is(err, mfa.ErrCancelled):
		return code, session.ErrCancelled
	}
	return code, err
}

// Seat implements session.Asker. Who has no desktop of their own get the daemon's window.
func (w *window) Seat() (seat, who string) {
	seat = "a window"
	for _, kv := range strings.Split(w.req.Desktop, "\n") {
		name, value, _ := strings.Cut(kv, "=")
		if name == "DISPLAY" || name == "WAYLAND_DISPLAY" {
			seat = "a window of " + value
		}
	}
	return seat, w.asker()
}

// asker is the program that needs the code: the tool behind credproc, else the client itself.
func (c call) asker() string {
	program, _ := c.peer.Program()
	if program == "credproc" {
		if tool := c.peer.Tool(); tool != "" {
			return tool
		}
	}
	return program
}

// question is what the person reads: whose code, for which device, and who asks for it.
func (c call) question(q session.Question) mfa.Question {
	question := mfa.Question{Device: q.Device, Source: q.Source, Reason: q.Reason, Endpoint: q.Endpoint,
		Asker: c.asker()}
	if c.req.CanAsk {
		question.TTY = c.peer.Terminal()
	}
	if c.req.Desktop != "" {
		question.Env = strings.Split(c.req.Desktop, "\n")
	}
	return question
}
