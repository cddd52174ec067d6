// Package daemon owns the listening side of the protocol: connections, the
// table of verbs, and the daemon's life from binding the socket to the last answer. It
// refuses to know how a credential is made; that is session.Broker's.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"broker/internal/audit"
	"broker/internal/fault"
	"broker/internal/grant"
	"broker/internal/latch"
	"broker/internal/mfa"
	"broker/internal/profiles"
	"broker/internal/record"
	"broker/internal/secret"
	"broker/internal/session"
	"broker/internal/socket"
	"broker/internal/wire"
)

// Keyring is what the daemon itself wants of the vault: to keep the key of the
// file backend for it, and to forget it.
type Keyring interface {
	// Unlock checks what opens the file keyring and keeps its key; with nothing it checks that the keyring can be read.
	Unlock(ctx context.Context, key secret.String) error
	Forget()
}

// Recorder takes the audit events: audit.Log.
type Recorder interface {
	grant.Recorder
	// Failing is why the last one could not be recorded, or nil.
	Failing() error
}

// Window asks for a code at a window of the desktop: mfa.AskGUI.
type Window func(ctx context.Context, q mfa.Question) (secret.String, error)

// Config is what a Daemon is made of; all fields down to Latch must be set, but for Window.
type Config struct {
	Socket  string
	Files   profiles.Files // for requests that name none
	Broker  *session.Broker
	Store   *profiles.Store
	Keyring Keyring
	AWS     AWS
	Audit   Recorder
	Log     *slog.Logger
	Version string
	Window  Window

	CommandsDir string // where the files of commands are made

	Latch    *latch.Latch         // not loaded yet
	Places   latch.Places         // of the Latch; Moved is taken over by it
	Events   Events               // what lock_on names; nil for nothing
	BootTime func() time.Duration // since boot, sleep included; nil for the monotonic clock

	// StartedBy says who started it, for people: see wire.Status.
	StartedBy string
	// Listener is the socket where it is there already; nil: Run binds one.
	Listener *socket.Listener
	// Takeover is what the daemon before left, if this one took over; may be nil.
	Takeover *Takeover
	// StateDir, KeyringDir and Home are this daemon's, absolute; with Files.Registry they are what a client has to mean.
	// An empty KeyringDir or Home: any.
	StateDir, KeyringDir, Home string
	// Setup is what the daemon works with, as the settings are now; nil for nothing to tell.
	Setup func() wire.Setup
	// OnSettings is called with the settings at the start and whenever they were read again; may be nil.
	OnSettings func(profiles.Settings)
	// Warnings are for status, as long as the daemon runs.
	Warnings []string
	// ExitAfter is after how long without use a locked daemon ends by itself; 0 is never.
	ExitAfter time.Duration
}

const (
	// idleTimeout closes a connection on which nothing is asked.
	idleTimeout = time.Minute
	// writeTimeout bounds an answer to a peer that does not read.
	writeTimeout = 5 * time.Second
	// drainTimeout is how long requests under way may go on when the daemon is told to end.
	drainTimeout = 2 * time.Second
	// greeting is how long a client may take from connecting to asking when the daemon is told to end.
	greeting = 250 * time.Millisecond
	// watchInterval is how often the daemon looks whether clients can still
	// find its socket, and whether it is time to lock.
	watchInterval = time.Second
)

// Daemon serves one socket.
type Daemon struct {
	Config
	started    time.Time
	grants     *grant.Keeper
	locking    locking
	successors chan net.Conn // who asked to take over
	accepted   atomic.Int64  // connections
	patience   time.Duration // drainTimeout; the tests have it longer

	mu    sync.Mutex
	conns map[net.Conn]*visit
	done  sync.WaitGroup
}

// visit is one connection.
type visit struct {
	busy  bool      // a request is under way
	asked bool      // it has had one
	since time.Time // when it came, or when busy changed
}

// New makes a Daemon.
func New(cfg Config) *Daemon {
	d := &Daemon{Config: cfg, started: time.Now(), conns: make(map[net.Conn]*visit), successors: make(chan net.Conn, 1),
		patience: drainTimeout}
	if d.BootTime == nil {
		d.BootTime = func() time.Duration { return time.Since(d.started) }
	}
	return d
}

// Run serves until ctx ends, then lets requests under way finish for two
// seconds. ready is called once clients can connect. The error is socket.ErrTaken where another
// daemon has the socket, at the start or later.
func (d *Daemon) Run(ctx context.Context, ready func()) error {
	listener := d.Listener
	if listener == nil {
		var err error
		if listener, err = socket.Listen(d.Socket); err != nil {
			return err
		}
	}
	d.grants = grant.New(grant.Config{Broker: d.Broker, Store: d.Store, Files: d.Files, Audit: d.Audit, Log: d.Log,
		Locked: d.locked, Socket: d.Socket, StateDir: d.StateDir, CommandsDir: d.CommandsDir})
	defer func() { _ = listener.Close() }()
	_ = d.Audit.Record(audit.Event{Event: "start", UID: os.Getuid(), PID: os.Getpid()})
	defer func() { _ = d.Audit.Record(audit.Event{Event: "stop", UID: os.Getuid(), PID: os.Getpid()}) }()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// Requests under way go on when the daemon is told to end, until drain cuts them.
	requests, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	d.sweep()
	d.comeUp()
	defer d.leave()
	d.grants.Begin(requests, d.inherit())
	d.leaveLocked()
	d.followSettings(ctx)
	if ready != nil {
		ready()
	}
	var first, last, endpoints sync.WaitGroup // what has to have ended before requests are drained, and after
	last.Go(func() { d.watch(ctx, listener, cancel) })
	last.Go(func() { d.grants.Run(ctx) })
	first.Go(func() { d.exitWhenIdle(ctx, d.ExitAfter, cancel) })
	first.Go(func() { d.accept(ctx, requests, listener) }) // last: a client that is answered finds the rest running
	var next *offer
	for next == nil && ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case conn := <-d.successors:
			next = d.hold(conn, listener)
		}
	}
	cancel(nil)
	listener.Stop()
	first.Wait()
	endpoints.Go(func() { d.grants.Stop(d.patience) })
	d.drain()
	cut()
	endpoints.Wait()
	last.Wait()
	select {
	case second := <-d.successors:
		_ = second.Close()
	default:
	}
	if err := d.grants.End(next != nil); err != nil {
		d.Log.Error("stop", "err", err)
	}
	if next != nil {
		next.give(d, listener)
	}
	if cause := context.Cause(ctx); errors.Is(cause, socket.ErrTaken) {
		return cause
	}
	return nil
}

// sweep removes what a daemon left that was killed while it wrote a file of the state directory.
func (d *Daemon) sweep() {
	if err := record.Sweep(d.StateDir); err != nil {
		d.Log.Warn("what a daemon left that was killed was not removed", "err", err)
	}
}

// accept takes connections until the listener is stopped.
func (d *Daemon) accept(ctx, requests context.Context, listener *socket.Listener) {
	for ctx.Err() == nil {
		conn, who, err := listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			// Out of descriptors, most likely: those that are idle make room.
			d.Log.Warn("accept failed", "err", err)
			d.closeIdle(0, 0)
			time.Sleep(20 * time.Millisecond)
			continue
		}
		d.accepted.Add(1)
		d.mu.Lock()
		d.conns[conn] = &visit{since: time.Now()}
		d.mu.Unlock()
		d.done.Go(func() {
			defer d.forget(conn)
			d.serve(requests, conn, grant.Caller{Peer: who, Program: sync.OnceValues(who.Program)})
		})
	}
}

// watch looks once a second after what nothing tells us of: a socket that was removed, connections that rest, the
// settings, long disuse, another daemon's lock, and a latch that could not be written.
func (d *Daemon) watch(ctx context.Context, listener *socket.Listener, cancel context.CancelCauseFunc) {
	ticker := time.NewTicker(watchInterval)
	defer ticker.Stop()
	defer d.locking.watches.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		switch err := listener.Restore(); {
		case errors.Is(err, socket.ErrTaken):
			cancel(fmt.Errorf("the socket was taken away: %w", err))
		case err != nil:
			d.Log.Error("the socket is gone and cannot be bound again", "err", err)
		}
		d.closeIdle(idleTimeout, idleTimeout)
		d.followSettings(ctx)
		d.lockIfUnused()
		d.lockAsOthers()
		d.saveLatch()
		d.leaveLocked()
	}
}

// serve answers the requests of one connection.
func (d *Daemon) serve(ctx context.Context, conn net.Conn, peer grant.Caller) {
	defer func() {
		// A panic is this client's failure. The value is not logged: it may hold anything.
		if r := recover(); r != nil {
			d.Log.Error("panic in a request", "stack", string(debug.Stack()))
		}
	}()
	c := newConversation(conn)
	defer close(c.over)
	send := func(resp wire.Response) error { return d.send(conn, resp) }
	for {
		req, err := c.next()
		if errors.Is(err, wire.ErrTooLong) {
			d.reply(conn, wire.Response{Err: fault.New(fault.Usage, "the request is longer than 64 KiB")})
			return
		}
		if err != nil && !isFault(err) || !d.mark(conn, true) {
			return
		}
		if err == nil {
			err = d.answer(ctx, call{req, peer, c, send})
		}
		switch {
		case errors.Is(err, errLeft), errors.Is(err, errGone), c.gone():
			return
		case err != nil && !d.reply(conn, d.failure(err)):
			return
		}
		if !d.mark(conn, false) {
			return
		}
	}
}

// accountsOfLine is how many accounts a line holds: a name is at most 250 bytes, and each byte takes up to six in
// JSON.
const accountsOfLine = 30

// send writes one answer, whose accounts may take more than a line. Nothing is written of one that does not fit.
func (d *Daemon) send(conn net.Conn, resp wire.Response) error {
	var lines []byte
	for more := true; more; {
		part := resp
		if more = len(resp.Accounts) > accountsOfLine; more {
			part = wire.Response{Accounts: resp.Accounts[:accountsOfLine], More: true}
			resp.Accounts = resp.Accounts[accountsOfLine:]
		}
		part.Version = d.Version
		line, err := wire.EncodeResponse(part)
		if err != nil {
			return fault.New(fault.Internal, "the answer cannot be sent: %w", err)
		}
		if lines == nil {
			lines = line // mostly the only one
		} else {
			lines = append(lines, line...)
		}
	}
	_ = conn.SetWriteDeadline(time.Now().Add(writeTimeout))
	if _, err := conn.Write(lines); err != nil {
		return errGone
	}
	return nil
}

// errGone: the client did not take its answer.
var errGone = fault.New(fault.Failed, "the client has gone")

// reply is send. An answer that does not fit becomes a failure.
func (d *Daemon) reply(conn net.Conn, resp wire.Response) bool {
	err := d.send(conn, resp)
	if err != nil && !errors.Is(err, errGone) {
		err = d.send(conn, wire.Response{Err: fault.Of(err)})
	}
	return err == nil
}
