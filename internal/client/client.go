// Package client speaks the protocol to the daemon, and starts the daemon if none is running. It is all that
// credproc links, so it imports only the standard library and Broker's leaf packages. It knows nothing about
// profiles.
package client

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"syscall"
	"time"

	"broker/internal/agent"
	"broker/internal/fault"
	"broker/internal/paths"
	"broker/internal/system"
	"broker/internal/wire"
)

// Deadline is the total time that a request may take. The SDKs give a helper about a minute. After that they report
// an error that is less clear than Broker's.
const Deadline = 50 * time.Second

// Client sends requests to the daemon at Paths.Socket, or to the door at Paths.Door if there is one.
type Client struct {
	Paths   paths.Paths
	Version string // of the program that sends the request
	// NoStart sends requests to a running daemon only. Without a daemon the error wraps ErrNone, and its kind is
	// Unreachable.
	NoStart bool
	// Ends means that this program ends after the request, so that a daemon that it starts may be its child for that
	// long. Other programs start it through a process in between: a command that replaces `broker exec` must have no
	// child that it did not start.
	Ends bool
	// Wait is the total time that a request may take; 0 means Deadline.
	Wait time.Duration
	// Shows, if not nil, is called before anything is shown on the terminal. From then on the program catches Ctrl-C.
	Shows func()
	// Attends, if not nil, means that the client shows the prompts of a door: it goes on after Ctrl-C at a prompt. It is
	// called when the daemon knows the client, and after each prompt.
	Attends func()
	// Transport, if not nil, carries a request to the daemon and returns the answer, in place of the socket or door.
	Transport func(context.Context, *wire.Request) (*wire.Response, error)
}

// Do sends one request and returns the answer. If a person is at the controlling terminal, the daemon's prompts
// appear there. All errors are of type *fault.Error, including failures that the daemon reports.
func (c *Client) Do(ctx context.Context, req wire.Request) (wire.Response, error) {
	resp, err := c.do(ctx, &req)
	if resp == nil {
		return wire.Response{}, err
	}
	return *resp, err
}

// do is Do without copies of the request and the answer. It changes the request: it adds what the daemon needs, or
// leaves only what a door gets. After an error, the answer may be nil.
func (c *Client) do(ctx context.Context, req *wire.Request) (*wire.Response, error) {
	// The daemon gets a fiftieth less, so that its clearer error arrives before the client's own timeout.
	req.Timeout = c.wait() / 50 * 49
	req.Agent = agent.FromEnv(os.Getenv)
	transport := c.overSocket
	if c.Paths.Door != "" {
		if err := bare(req); err != nil {
			return nil, err
		}
		transport = c.overDoor
	} else {
		req.Client, req.AWSConfig, req.AWSCredentials = c.Version, c.Paths.Config, c.Paths.Credentials
		c.addPaths(req)
		req.CanAsk, req.TTY = ownTerminal()
		req.Desktop = desktop()
	}
	if c.Transport != nil {
		transport = c.Transport
	}
	resp, err := transport(ctx, req)
	switch {
	case err != nil:
		return nil, fault.Of(err)
	case resp.Err == nil:
		return resp, nil
	case c.Paths.Door != "":
		return &wire.Response{Version: resp.Version}, fromDoor(resp.Err, req.Profile)
	case resp.Setup != nil:
		return resp, otherDaemon(resp.Err, resp.Setup)
	}
	return resp, OtherRoute(c.otherVersion(resp), resp.Route)
}

// wait returns the total time that a request may take.
func (c *Client) wait() time.Duration { return cmp.Or(c.Wait, Deadline) }

// overSocket sends a request to the daemon at the socket, and starts the daemon if none is running.
func (c *Client) overSocket(ctx context.Context, req *wire.Request) (*wire.Response, error) {
	until := time.Now().Add(c.wait())
	resp, err := c.exchange(ctx, req, until)
	for again := range maxRetries {
		if !errors.Is(err, errLost) {
			break
		}
		// The daemon went away during the request, so exchange starts a new one and sends the request again. The
		// daemon records used codes, so a retry uses no code twice. A daemon that is being killed may still accept
		// a connection, so there are several retries.
		time.Sleep(time.Duration(again) * 20 * time.Millisecond)
		if req.Rotation != nil {
			rotation := *req.Rotation
			rotation.Again, req.Rotation = true, &rotation
		}
		resp, err = c.exchange(ctx, req, until)
	}
	return resp, err
}

// addPaths adds to a request the paths that this environment implies.
func (c *Client) addPaths(req *wire.Request) {
	req.Registry, req.State, req.Keyring, req.Home = c.Paths.Registry, c.Paths.State, c.Paths.Keyring, paths.Home()
}

// otherDaemon returns the error of a daemon that refused because it works with other paths. The hint leads back: it
// names the daemon's home, or the variable of this shell that points to its socket.
func otherDaemon(f *fault.Error, its *wire.Setup) *fault.Error {
	if its.Home != "" && !system.SameFile(its.Home, paths.Home()) {
		return f.WithHint("HOME=%s broker status", its.Home)
	}
	var set []string
	for _, name := range []string{"BROKER_SOCKET", "BROKER_RUNTIME_DIR"} {
		if os.Getenv(name) != "" {
			set = append(set, name)
		}
	}
	if set == nil { // the daemon was started with one of these variables
		return f.WithHint("broker status")
	}
	return f.WithHint("unset %s", set)
}

// otherVersion returns the daemon's error. If the daemon has another version and gave no hint, the version is the
// most likely cause: daemons of version 0.1.0 give no hint if they do not know a verb.
func (c *Client) otherVersion(resp *wire.Response) *fault.Error {
	if resp.Err.Kind == fault.Usage && resp.Err.Hint == "" && resp.Version != c.Version {
		return resp.Err.WithHint("broker service restart")
	}
	return resp.Err
}

// StatusWait is how long the daemon may take to report its status. A stopped process never answers.
const StatusWait = 3 * time.Second

// Status returns what a running daemon holds; it reads as many pages as there are. It starts no daemon, because
// looking at the status is not a use of a profile.
func (c *Client) Status(ctx context.Context) (wire.Status, error) {
	quick := *c
	quick.NoStart, quick.Wait = true, min(c.wait(), StatusWait)
	var all wire.Status
	for {
		resp, err := quick.Do(ctx, wire.Request{Verb: wire.State, Offset: len(all.Sessions)})
		if err != nil {
			return wire.Status{}, err
		}
		if resp.Status == nil {
			return wire.Status{}, fault.New(fault.Unreachable, "the daemon's answer has no status")
		}
		sessions := append(all.Sessions, resp.Status.Sessions...)
		all = *resp.Status
		all.Sessions = sessions
		if len(resp.Status.Sessions) == 0 || len(sessions) >= all.Total {
			if all.Setup != nil {
				var req wire.Request
				c.addPaths(&req)
				if differs := all.Setup.Differs(&req); differs != "" {
					all.Warnings = append([]string{differs}, all.Warnings...)
				}
			}
			return all, nil
		}
	}
}

// desktop returns the variables that a window needs to appear on the person's desktop, one NAME=VALUE per line.
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

// maxRetries is how often a request is sent again after the daemon went away.
const maxRetries = 3

var errLost = errors.New("the daemon went away before it answered")

// ErrLeft is the failure of a request that Ctrl-C ended while the daemon worked, and not at a prompt.
var ErrLeft = &fault.Error{Kind: fault.Interrupted, Message: "interrupted"}

// exchange makes one attempt. Client and daemon work in parallel: the daemon accepts the connection while the
// client encodes the request, and answers while the client learns the types of the answer.
func (c *Client) exchange(ctx context.Context, req *wire.Request, until time.Time) (*wire.Response, error) {
	conn, err := c.dial(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	line, err := wire.EncodeRequest(req)
	if err != nil {
		return nil, fault.New(fault.Usage, "the request cannot be sent: %w", err)
	}
	conn.SetDeadline(until)
	defer context.AfterFunc(ctx, conn.Abort)()
	if _, err := conn.Write(line); err != nil {
		return nil, c.lost(ctx, err)
	}
	wire.Learn()
	reader := bufio.NewReader(conn)
	read := func() (*wire.Response, error) {
		answer, err := wire.ReadLine(reader)
		if err != nil {
			return nil, c.lost(ctx, err)
		}
		return wire.DecodeResponse(answer)
	}
	var accounts []wire.Account
	var assigned []wire.Assignment
	var answered *terminal // silent until it is closed
	defer func() {
		if answered != nil {
			answered.close()
		}
	}()
	resp, err := read()
	for err == nil && (resp.Prompt != nil || resp.Notice != "" || resp.More) {
		accounts, assigned = append(accounts, resp.Accounts...), append(assigned, resp.Assigned...)
		if c.Shows != nil && !resp.More {
			c.Shows()
		}
		if c.Attends != nil && resp.More {
			c.Attends()
		}
		if answered != nil && resp.Prompt != nil {
			answered.close()
			answered = nil
		}
		if resp.Prompt != nil {
			resp, answered, err = c.ask(ctx, conn, *resp.Prompt, read)
			continue
		}
		if resp.Notice != "" { // a line with More alone has nothing to show
			tellTerminal(resp.Notice)
		}
		resp, err = read()
	}
	if err != nil {
		return nil, err
	}
	resp.Accounts, resp.Assigned = append(accounts, resp.Accounts...), append(assigned, resp.Assigned...)
	return resp, nil
}

// ask shows the daemon's prompt on the terminal and returns the daemon's next line. That line ends the prompt,
// whether it was answered here or elsewhere. If a code was typed here, answered is the terminal; it shows nothing
// until it is closed. It may be closed already.
func (c *Client) ask(ctx context.Context, conn io.Writer, question wire.Prompt, read func() (*wire.Response, error)) (
	_ *wire.Response, answered *terminal, _ error,
) {
	type line struct {
		resp *wire.Response
		err  error
	}
	next := make(chan line, 1)
	go func() {
		resp, err := read()
		next <- line{resp, err}
	}()
	reply := func(req *wire.Request) {
		req.ID = question.ID
		if b, err := wire.EncodeRequest(req); err == nil {
			_, _ = conn.Write(b) // read notices if the daemon is gone
		}
	}
	t, err := askTerminal(question, c.Shows == nil)
	if err != nil {
		reply(&wire.Request{Verb: wire.Gone})
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
				// Ctrl-C at the prompt cancels it for all requests that wait for it.
				reply(&wire.Request{Verb: wire.Cancel})
				l.err = fault.ErrInterrupted
			}
			switch {
			case waits != nil:
				t.endLine() // nothing was typed here
			case t.interrupted && c.Attends == nil:
				return nil, nil, fault.ErrInterrupted
			case given:
				answered = t
			}
			return l.resp, answered, l.err
		case said := <-waits:
			waits, given = nil, said.Verb == wire.Answer
			if given && c.Attends == nil && !question.Choice {
				t.hush() // what is typed now may be the next code
			} else { // another prompt, or the end of an attendant's command, may follow the answer at once
				t.close()
			}
			reply(&said)
		}
	}
}

// lost returns the reason why there is no answer.
func (c *Client) lost(ctx context.Context, err error) error {
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return ErrLeft
	case errors.Is(err, os.ErrDeadlineExceeded), ctx.Err() != nil:
		return fault.New(fault.Unreachable, "the daemon did not answer within %v; is it stopped?", c.wait()).
			WithHint("broker daemon --stop")
	case errors.Is(err, wire.ErrTooLong):
		return fault.New(fault.Unreachable, "the program on the socket is not Broker's daemon")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fault.New(fault.Unreachable, "%w", errLost).WithHint("broker status")
	}
	if cause, ok := errors.AsType[syscall.Errno](err); ok {
		return fault.New(fault.Unreachable, "%w: "+cause.Error(), errLost).WithHint("broker status")
	}
	return fault.New(fault.Unreachable, "%w", errLost).WithHint("broker status")
}
