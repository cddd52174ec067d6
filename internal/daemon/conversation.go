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

// conversation reads the lines of one connection: requests and, within a request, the answers to prompts. It
// starts its own reading goroutine only when needed: at the first prompt, or to see the client disconnect.
type conversation struct {
	conn   net.Conn
	reader *bufio.Reader

	mu    sync.Mutex                 // held while a prompt is open: one at a time
	asked int                        // the id of the last prompt
	reads sync.Once                  // starts the reading goroutine
	lines atomic.Pointer[chan heard] // nil until then
	left  chan struct{}              // closed when the reading goroutine has seen the client disconnect
	over  chan struct{}              // closed when the connection's handler ends
}

func newConversation(conn net.Conn) *conversation {
	return &conversation{conn: conn, reader: bufio.NewReaderSize(conn, 1024), left: make(chan struct{}),
		over: make(chan struct{})}
}

// gone reports whether the client is known to have disconnected.
func (c *conversation) gone() bool {
	select {
	case <-c.left:
		return true
	default:
		return false
	}
}

// listen starts the reading goroutine, so that answers arrive and the end of the connection is noticed.
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

// next reads the next request. It skips late answers to prompts that have ended.
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

// ask shows one prompt at the client and waits for the person's answer. The answer to an offer may be empty.
func (c *conversation) ask(ctx context.Context, prompt wire.Prompt) (secret.String, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if ctx.Err() != nil {
		return secret.String{}, ctx.Err()
	}
	lines := c.listen()
	c.asked++
	prompt.ID = c.asked
	b, err := wire.EncodeResponse(&wire.Response{Prompt: &prompt})
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
			if c.gone() { // the end of the connection ended the request
				return secret.String{}, session.ErrGone
			}
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
			case l.req.Verb == wire.Here && prompt.Offer:
				return secret.String{}, nil
			case l.req.Verb == wire.Cancel, l.req.Verb == wire.Answer:
				return secret.String{}, session.ErrCancelled
			}
		}
	}
}

// tell sends the client a line that explains the delay. It sends nothing while a prompt is open there.
func (c *conversation) tell(line string) {
	if !c.mu.TryLock() {
		return
	}
	defer c.mu.Unlock()
	if b, err := wire.EncodeResponse(&wire.Response{Notice: fault.Line(line)}); err == nil {
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
			close(c.left) // close it before the prompt fails with ErrGone and the next place is tried
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

// isFault distinguishes a line that is not a valid request from a lost connection.
func isFault(err error) bool { return fault.Of(err).Kind != fault.Internal }

// terminal is the terminal of a client, as a place to prompt at.
type terminal struct {
	call
	seat func() (seat, who string) // computed once: it is compared with the seats of all other waiters
}

func newTerminal(c call) *terminal {
	return &terminal{c, sync.OnceValues(func() (seat, who string) {
		at := c.peer
		if c.attends != nil {
			at = c.attends.peer
		}
		return strings.TrimPrefix(at.Terminal(), "/dev/"), c.asker()
	})}
}

// ask shows a prompt at the client's terminal, or at that of the attendant of its door.
func (c call) ask(ctx context.Context, prompt wire.Prompt) (secret.String, error) {
	if c.attends != nil {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		c.talk.Watch(ctx, cancel) // remove the prompt if nobody waits any more
		return c.attends.ask(ctx, prompt)
	}
	return c.talk.ask(ctx, prompt)
}

// slips is how many answers may be malformed codes before Ask fails.
const slips = 3

// Ask implements session.Prompter. It checks the form of the code here and asks again, so that AWS is never sent an
// answer that cannot be a code.
func (t *terminal) Ask(ctx context.Context, q session.Prompt) (secret.String, error) {
	for try := 1; ; try++ {
		typed, err := t.ask(ctx, wire.Prompt{Text: t.prompt(q).Text(), Reason: q.Reason})
		if err != nil {
			return secret.String{}, err
		}
		code, err := mfa.ParseCode(typed.Reveal())
		switch {
		case err == nil:
			return code, nil
		case try == slips:
			return secret.String{}, fault.Of(err).WithHint("broker login %s", q.Source)
		}
		q.Reason = err.Error()
	}
}

// Offer implements session.Terminal. A person who types a code instead of Enter is not asked for it again.
func (t *terminal) Offer(ctx context.Context, q session.Prompt, seat, who string) (secret.String, error) {
	elsewhere := mfa.Prompt{Source: q.Source, Endpoint: q.Endpoint, Asker: who}
	typed, err := t.ask(ctx, wire.Prompt{Text: elsewhere.Elsewhere(seat), Offer: true})
	if err != nil || typed.IsZero() {
		return secret.String{}, err
	}
	code, err := mfa.ParseCode(typed.Reveal())
	if err != nil {
		return secret.String{}, nil // not a code: the prompt moves here
	}
	return code, nil
}

// Seat implements session.Prompter. It asks the kernel for the terminal, because a client could name somebody else's.
func (t *terminal) Seat() (seat, who string) { return t.seat() }

// window is the desktop of a client, as a place to prompt at.
type window struct {
	call
	show Window
}

// Ask implements session.Prompter.
func (w *window) Ask(ctx context.Context, q session.Prompt) (secret.String, error) {
	if w.talk.gone() { // another program has its terminal now, and nobody waits for the code
		return secret.String{}, session.ErrGone
	}
	code, err := w.show(ctx, w.prompt(q))
	switch {
	case errors.Is(err, mfa.ErrNobody):
		return code, session.ErrGone
	case errors.Is(err, mfa.ErrCancelled):
		return code, session.ErrCancelled
	}
	return code, err
}

// Seat implements session.Prompter. A client that names no desktop gets the daemon's window.
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

// asker returns the program that needs the code: the tool that started credproc, or else the client itself.
func (c call) asker() string {
	if c.program != "" {
		return c.program
	}
	program, _ := c.peer.Program()
	if program == "credproc" {
		if tool := c.peer.Tool(); tool != "" {
			return tool
		}
	}
	return program
}

// prompt returns the prompt's contents: the device, its source, and the program that asks.
func (c call) prompt(q session.Prompt) mfa.Prompt {
	prompt := mfa.Prompt{Device: q.Device, Source: q.Source, Reason: q.Reason, Endpoint: q.Endpoint,
		Asker: c.asker()}
	if c.req.CanAsk {
		prompt.TTY = c.peer.Terminal()
	}
	if c.req.Desktop != "" {
		prompt.Env = strings.Split(c.req.Desktop, "\n")
	}
	return prompt
}
