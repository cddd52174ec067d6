// Package client speaks the protocol to the daemon, and starts a daemon where
// there is none. It is all that credproc links, so it imports the standard
// library and our leaves alone; it refuses to know what a profile is.
package client

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"syscall"
	"time"

	"broker/internal/fault"
	"broker/internal/paths"
	"broker/internal/system"
	"broker/internal/wire"
)

// Deadline is how long a request may take in all. The SDKs give a helper
// about a minute, and what they say then is less clear than what we say.
const Deadline = 50 * time.Second

// Client asks the daemon at Paths.Socket.
type Client struct {
	Paths   paths.Paths
	Version string // of the asking program
	// NoStart asks a running daemon only; without one the error is ErrNone, of the kind Unreachable.
	NoStart bool
	// Wait is how long a request may take in all; 0 means Deadline.
	Wait time.Duration
	// Shows, if not nil, is called before anything is shown on the terminal.
	Shows func()
	// Transport takes a request to the daemon and brings the answer; nil for the socket.
	Transport func(context.Context, wire.Request) (wire.Response, error)
}

// Do sends one request and returns the answer. Where a person sits at the
// controlling terminal, the daemon's questions are asked there. A failure that the daemon
// reports is returned as the error, a *fault.Error; so is everything else.
func (c Client) Do(ctx context.Context, req wire.Request) (wire.Response, error) {
	if c.Wait == 0 {
		c.Wait = Deadline
	}
	ctx, cancel := context.WithTimeout(ctx, c.Wait)
	defer cancel()
	req.Client, req.AWSConfig, req.AWSCredentials = c.Version, c.Paths.Config, c.Paths.Credentials
	req = c.names(req)
	// A second less, so that the daemon's clear words come before our own.
	req.Timeout = c.Wait - time.Second
	req.CanAsk, req.TTY = seat()
	req.Desktop = desktop()
	transport := c.Transport
	if transport == nil {
		transport = c.overSocket
	}
	resp, err := transport(ctx, req)
	if err != nil {
		return wire.Response{}, fault.Of(err)
	}
	if resp.Err != nil && resp.Setup != nil {
		return resp, otherDaemon(resp.Err, *resp.Setup)
	}
	if resp.Err != nil {
		return resp, OtherRoute(c.otherVersion(resp), resp.Route)
	}
	return resp, nil
}

// overSocket asks the daemon at the socket, which it starts if there is none.
func (c Client) overSocket(ctx context.Context, req wire.Request) (wire.Response, error) {
	resp, err := c.exchange(ctx, req)
	for again := range asksAgain {
		if !errors.Is(err, errLost) {
			break
		}
		// The daemon went away in the middle: it is started and asked again. It keeps a ledger of codes, so asking
		// twice uses no code twice. A daemon that is being killed may still take a connection, hence several tries.
		time.Sleep(time.Duration(again) * 20 * time.Millisecond)
		resp, err = c.exchange(ctx, req)
	}
	return resp, err
}

// names is the request with the paths that this environment means.
func (c Client) names(req wire.Request) wire.Request {
	req.Registry, req.State, req.Keyring, req.Home = c.Paths.Registry, c.Paths.State, c.Paths.Keyring, paths.Home()
	return req
}

// otherDaemon is the error of a daemon that refused because of its own paths, with what leads back: its home, or a
// variable of this shell that names its socket.
func otherDaemon(f *fault.Error, its wire.Setup) *fault.Error {
	if its.Home != "" && !system.SameFile(its.Home, paths.Home()) {
		return f.WithHint("HOME=%s broker status", its.Home)
	}
	var set []string
	for _, name := range []string{"BROKER_SOCKET", "BROKER_RUNTIME_DIR"} {
		if os.Getenv(name) != "" {
			set = append(set, name)
		}
	}
	if set == nil { // the daemon was started with one of them
		return f.WithHint("broker status")
	}
	return f.WithHint("unset %s", set)
}

// otherVersion is what the daemon refused. Where it is of another version, and knew nothing to type, that is
// most likely why; daemons of 0.1.0 say nothing to type where they do not know a verb.
func (c Client) otherVersion(resp wire.Response) *fault.Error {
	if resp.Err.Kind == fault.Usage && resp.Err.Hint == "" && resp.Version != c.Version {
		return resp.Err.WithHint("broker service restart")
	}
	return resp.Err
}

// StatusWait is how long a daemon may take to say what it holds; one that is stopped says nothing.
const StatusWait = 3 * time.Second

// Status asks what a running daemon holds, for as many pages as there are. It starts none: to look is not to use.
func (c Client) Status(ctx context.Context) (wire.Status, error) {
	c.NoStart, c.Wait = true, StatusWait
	var all wire.Status
	for {
		resp, err := c.Do(ctx, wire.Request{Verb: wire.State, Offset: len(all.Sessions)})
		if err != nil {
			return wire.Status{}, err
		}
		if resp.Status == nil {
			return wire.Status{}, fault.New(fault.Unreachable, "the daemon's answer holds no status")
		}
		sessions := append(all.Sessions, resp.Status.Sessions...)
		all = *resp.Status
		all.Sessions = sessions
		if len(resp.Status.Sessions) == 0 || len(sessions) >= all.Total {
			if all.Setup != nil {
				if differs := all.Setup.Differs(c.names(wire.Request{})); differs != "" {
					all.Warnings = append([]string{differs}, all.Warnings...)
				}
			}
			return all, nil
		}
	}
}

// desktop is what a window needs to come up where the person sits.
func desktop() string {
	var lines []string
	for _, name := range []string{
		"DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS", "LANG",
	} {
		if v := os.Getenv(name); v != "" && !strings.Contains(v, "\n") {
			lines = append(lines, name+"="+v)
		}
	}
	return strings.Join(lines, "\n")
}

// asksAgain is how often a request is repeated whose daemon went away.
const asksAgain = 3

var errLost = errors.New("the daemon went away before it answered")

// exchange makes one attempt. Both programs work at once: the daemon takes the connection while the request is encoded,
// and answers while the types of an answer are learnt.
func (c Client) exchange(ctx context.Context, req wire.Request) (wire.Response, error) {
	conn, err := c.dial(ctx)
	if err != nil {
		return wire.Response{}, err
	}
	defer func() { _ = conn.Close() }()
	line, err := wire.EncodeRequest(req)
	if err != nil {
		return wire.Response{}, fault.New(fault.Usage, "the request cannot be sent: %w", err)
	}
	// The end of ctx ends the reading: the deadline, and a caller that gives up (Ctrl-C).
	defer context.AfterFunc(ctx, conn.Abort)()
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetTimeout(time.Until(deadline))
	}

	if _, err := conn.Write(line); err != nil {
		return wire.Response{}, c.lost(ctx, err)
	}
	wire.Learn()
	reader := bufio.NewReader(conn)
	read := func() (wire.Response, error) {
		answer, err := wire.ReadLine(reader)
		if err != nil {
			return wire.Response{}, c.lost(ctx, err)
		}
		return wire.DecodeResponse(answer)
	}
	var accounts []wire.Account
	var answered *terminal // hushed
	defer func() {
		if answered != nil {
			answered.close()
		}
	}()
	resp, err := read()
	for err == nil && (resp.Ask != nil || resp.Notice != "" || resp.More) {
		accounts = append(accounts, resp.Accounts...)
		if c.Shows != nil && !resp.More {
			c.Shows()
		}
		if resp.Ask != nil {
			if answered != nil {
				answered.close()
			}
			resp, answered, err = c.ask(ctx, conn, *resp.Ask, read)
			continue
		}
		tellTerminal(resp.Notice)
		resp, err = read()
	}
	resp.Accounts = append(accounts, resp.Accounts...)
	return resp, err
}

// ask puts the daemon's question on the terminal, and returns the daemon's next
// line, which ends the question whether it was answered here or elsewhere. answered is the terminal if a code was typed
// there; it shows nothing until it is closed.
func (c Client) ask(ctx context.Context, conn io.Writer, question wire.Ask, read func() (wire.Response, error)) (
	_ wire.Response, answered *terminal, _ error,
) {
	type line struct {
		resp wire.Response
		err  error
	}
	next := make(chan line, 1)
	go func() {
		resp, err := read()
		next <- line{resp, err}
	}()
	reply := func(req wire.Request) {
		req.ID = question.ID
		if b, err := wire.EncodeRequest(req); err == nil {
			_, _ = conn.Write(b) // a daemon that is gone is seen by read
		}
	}
	t, err := askTerminal(question)
	if err != nil {
		reply(wire.Request{Verb: wire.Gone})
		l := <-next
		return l.resp, nil, l.err
	}
	defer func() {
		if answered == nil {
			t.close()
		}
	}()
	waits, given := t.answer, false
	for {
		select {
		case l := <-next:
			if !given && errors.Is(ctx.Err(), context.Canceled) {
				// Ctrl-C: who is asked says no by it, for all who wait.
				reply(wire.Request{Verb: wire.Cancel})
				l.err = fault.ErrInterrupted
			}
			switch {
			case waits != nil:
				t.endLine() // behind what was not typed
			case t.interrupted:
				return wire.Response{}, nil, fault.ErrInterrupted
			case given:
				answered = t
			}
			return l.resp, answered, l.err
		case said := <-waits:
			waits, given = nil, said.Verb == wire.Answer
			if given {
				t.hush(c.Shows == nil)
			} else {
				t.close()
			}
			reply(said)
		}
	}
}

// lost says why there is no answer.
func (c Client) lost(ctx context.Context, err error) error {
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return fault.ErrInterrupted
	case errors.Is(err, os.ErrDeadlineExceeded), ctx.Err() != nil:
		return fault.New(fault.Unreachable, "the daemon did not answer within %v; is it stopped?", c.Wait).
			WithHint("broker status")
	case errors.Is(err, wire.ErrTooLong):
		return fault.New(fault.Unreachable, "the program on the socket is not Broker's daemon")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fault.New(fault.Unreachable, "%w", errLost).WithHint("broker status")
	}
	var cause syscall.Errno
	if errors.As(err, &cause) {
		return fault.New(fault.Unreachable, "%w: "+cause.Error(), errLost).WithHint("broker status")
	}
	return fault.New(fault.Unreachable, "%w", errLost).WithHint("broker status")
}
