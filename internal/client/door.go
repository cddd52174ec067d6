package client

import (
	"bufio"
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"broker/internal/dial"
	"broker/internal/fault"
	"broker/internal/wire"
)

// A shell with a door (BROKER_DOOR) asks nobody else. The answer may be from any program: another person may control a
// far host. So only a credential or an error is taken from the answer, and nothing is asked or shown.

// bare reduces a request to what a door gets. It fails if a door does not answer such a request.
func bare(req *wire.Request) error {
	switch {
	case req.Verb != wire.Ping && req.Verb != wire.Get:
		return NotThroughDoor("broker status")
	case req.Role != nil:
		return fault.New(fault.Usage, "this shell has a door (BROKER_DOOR), which hands out the sessions "+
			"of its profiles as they are; leave out the options for roles").WithHint("broker help exec")
	}
	*req = wire.Request{Verb: req.Verb, Profile: req.Profile, MinTTL: req.MinTTL, Agent: req.Agent, Timeout: req.Timeout}
	return nil
}

// NotThroughDoor returns the error for a command that needs more than a door. The hint is the command for another
// terminal. It does not say how to leave the door: programs that are trusted less read it too.
func NotThroughDoor(command fault.Hint) *fault.Error {
	return fault.New(fault.Usage, "this shell has a door (BROKER_DOOR), which hands out the sessions of its profiles "+
		"and nothing else; type this in another terminal").WithHint("%s", command)
}

const (
	// doorWait is how long a client waits for a listener: a daemon that is replaced needs a moment.
	doorWait = 2 * time.Second
	// doorPause is the first pause before a request is sent again that got no answer; each one is three times as long as
	// the one before. Over ssh, each attempt makes the ssh client complain on the person's terminal, so they are few.
	doorPause = 100 * time.Millisecond
)

// overDoor sends a request to the door, and starts no daemon.
func (c *Client) overDoor(ctx context.Context, req *wire.Request) (*wire.Response, error) {
	until := time.Now().Add(c.wait())
	listens := time.Now().Add(min(doorWait, c.wait()))
	for next := doorPause; ; {
		resp, err := c.exchangeAtDoor(ctx, req, until)
		pause := 50 * time.Millisecond
		switch {
		case errors.Is(err, dial.ErrNobody) && time.Now().Before(listens):
		case errors.Is(err, errLost) && next < doorWait:
			pause, next = next, 3*next
		default:
			return resp, c.noDoor(err)
		}
		select {
		case <-ctx.Done():
			return nil, c.noDoor(err)
		case <-time.After(pause):
		}
	}
}

// exchangeAtDoor makes one attempt.
func (c *Client) exchangeAtDoor(ctx context.Context, req *wire.Request, until time.Time) (*wire.Response, error) {
	conn, err := dial.Door(ctx, c.Paths.Door, wire.DoorSocket)
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
	if _, err = conn.Write(line); err == nil {
		wire.Learn()
		line, err = wire.ReadLine(bufio.NewReader(conn))
	}
	switch {
	case err == nil:
	case errors.Is(ctx.Err(), context.Canceled):
		return nil, ErrLeft
	case errors.Is(err, os.ErrDeadlineExceeded), ctx.Err() != nil:
		return nil, fault.New(fault.Unreachable, "the door %s did not answer within %v", c.Paths.Door, c.wait()).
			WithHint("broker forward list")
	case errors.Is(err, wire.ErrTooLong):
		return nil, c.notBroker()
	default:
		return nil, errLost
	}
	resp, err := wire.DecodeResponse(line)
	switch {
	case err != nil:
		return nil, err
	case resp.Prompt != nil, resp.Notice != "", resp.More:
		return nil, c.notBroker()
	}
	return &wire.Response{Version: resp.Version, Err: resp.Err, Credential: resp.Credential}, nil
}

func (c *Client) notBroker() error {
	return fault.New(fault.Unreachable, "the program that listens at the door %s is not Broker's daemon", c.Paths.Door).
		WithHint("ls -la %s", c.Paths.Door)
}

// noDoor returns the reason why a door gave no answer.
func (c *Client) noDoor(err error) error {
	const causes = "the door may be closed, the daemon behind it stopped, or the ssh connection that carries it cut; " +
		"connect again, or look on the machine that opened it"
	var f *fault.Error
	switch {
	case err == nil, errors.As(err, &f):
		return err
	case errors.Is(err, dial.ErrNobody):
		f = fault.New(fault.Unreachable, "nothing listens on %s: %s", filepath.Join(c.Paths.Door, wire.DoorSocket), causes)
	case errors.Is(err, errLost):
		f = fault.New(fault.Unreachable, "the door %s closed the connection without an answer: %s", c.Paths.Door, causes)
	default:
		return fault.New(fault.Unreachable, "cannot reach the door: %w", err).WithHint("ls -ld %s", c.Paths.Door)
	}
	return f.WithHint("broker forward list")
}

// elsewhere ends an error from a door whose hint is for another terminal.
const elsewhere = "; type the hint in another terminal, on the machine that opened the door"

// fromDoor returns the error in the answer of a door that was asked for a profile. Its hint is kept only if the daemon
// gives such a hint: the answer may be from anybody, and people paste hints.
func fromDoor(f *fault.Error, profile string) *fault.Error {
	g := *f
	if !givesHint(string(g.Hint), profile) {
		g.Hint = ""
	}
	if g.Hint == "" && g.Kind == fault.NotFound {
		g.Hint = "broker forward list"
	}
	if g.ShownHint() != "" {
		g.Message = fault.Line(g.Error() + elsewhere)
	}
	return &g
}

// givesHint reports whether the daemon gives such a hint over a door. "broker exec prod -- curl …" is a command of
// Broker too.
func givesHint(hint, profile string) bool {
	switch hint {
	case "broker unlock", "broker log", "broker forward list", string(fault.Hintf("broker login %s", profile)),
		string(fault.Hintf("broker allow %s --for 15m --everywhere --reason WHY", profile)):
		return true
	}
	return false
}
