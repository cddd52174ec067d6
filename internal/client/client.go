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
	"syscall"
	"time"

	"broker/internal/fault"
	"broker/internal/paths"
	"broker/internal/wire"
)

// Deadline is how long a request may take in all. The SDKs give a helper
// about a minute, and what they say then is less clear than what we say.
const Deadline = 50 * time.Second

// Client asks the daemon at Paths.Socket.
type Client struct {
	Paths   paths.Paths
	Version string // of the asking program
	// NoStart asks a running daemon only; without one the error is Unreachable.
	NoStart bool
}

// Do sends one request and returns the answer. A failure that the daemon
// reports is returned as the error, a *fault.Error; so is everything else.
func (c Client) Do(ctx context.Context, req wire.Request) (wire.Response, error) {
	ctx, cancel := context.WithTimeout(ctx, Deadline)
	defer cancel()
	req.Client, req.AWSConfig, req.AWSCredentials = c.Version, c.Paths.Config, c.Paths.Credentials
	line, err := wire.EncodeRequest(req)
	if err != nil {
		return wire.Response{}, fault.New(fault.Usage, "the request cannot be sent: %w", err)
	}
	resp, err := c.exchange(ctx, line)
	for again := range asksAgain {
		if !errors.Is(err, errLost) {
			break
		}
		// The daemon went away in the middle: it is started once more and asked
		// again. It keeps a ledger of codes, so asking twice uses none twice. One that is
		// just being killed may still take a connection, hence more than once.
		time.Sleep(time.Duration(again) * 20 * time.Millisecond)
		resp, err = c.exchange(ctx, line)
	}
	if err != nil {
		return wire.Response{}, fault.Of(err)
	}
	if resp.Err != nil {
		return resp, resp.Err
	}
	return resp, nil
}

// asksAgain is how often a request is repeated whose daemon went away.
const asksAgain = 3

var errLost = errors.New("the daemon went away before it answered")

func (c Client) exchange(ctx context.Context, line []byte) (wire.Response, error) {
	conn, err := c.dial(ctx)
	if err != nil {
		return wire.Response{}, err
	}
	defer func() { _ = conn.Close() }()
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline)
	}
	// A caller that gives up (Ctrl-C) must not sit out the deadline.
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()

	if _, err := conn.Write(line); err != nil {
		return wire.Response{}, lost(ctx, err)
	}
	answer, err := wire.ReadLine(bufio.NewReader(conn))
	if err != nil {
		return wire.Response{}, lost(ctx, err)
	}
	return wire.DecodeResponse(answer)
}

// lost says why there is no answer.
func lost(ctx context.Context, err error) error {
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return fault.New(fault.Failed, "interrupted before the daemon answered")
	case errors.Is(err, os.ErrDeadlineExceeded), ctx.Err() != nil:
		return fault.New(fault.Unreachable, "the daemon did not answer within %v; is it stopped?", Deadline).WithHint("broker status")
	case errors.Is(err, wire.ErrTooLong):
		return fault.New(fault.Unreachable, "what answers on the socket is not the broker's daemon")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fault.New(fault.Unreachable, "%w", errLost).WithHint("broker status")
	}
	var cause syscall.Errno
	if errors.As(err, &cause) {
		return fault.New(fault.Unreachable, "%w: "+cause.Error(), errLost).WithHint("broker status")
	}
	return fault.New(fault.Unreachable, "%w", errLost).WithHint("broker status")
}
