// Package daemon serves the protocol: it accepts connections, dispatches verbs, and runs the daemon from binding
// the socket to the last answer. It does not know how credentials are made; session.Broker does.
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
	"syscall"
	"time"

	"broker/internal/audit"
	"broker/internal/fault"
	"broker/internal/grant"
	"broker/internal/guard"
	"broker/internal/lockfile"
	"broker/internal/mfa"
	"broker/internal/peer"
	"broker/internal/profiles"
	"broker/internal/record"
	"broker/internal/rotate"
	"broker/internal/secret"
	"broker/internal/session"
	"broker/internal/socket"
	"broker/internal/wire"
)

// Keyring is what the daemon itself needs of the vault: to cache the key of the file keyring, and to forget it.
type Keyring interface {
	// Unlock checks the key for the file keyring and caches it. With an empty key, it checks that the keyring can
	// be read.
	Unlock(ctx context.Context, key secret.String) error
	Forget()
}

// Recorder records audit events. It is implemented by audit.Log.
type Recorder interface {
	grant.Recorder
	// Failing returns why the last event could not be recorded, or nil.
	Failing() error
}

// Window prompts for a code in a window of the desktop. It is implemented by mfa.AskGUI.
type Window func(ctx context.Context, q mfa.Prompt) (secret.String, error)

// Confirm asks a person in a window of the desktop whether the lines of a confirmation may happen. It is implemented by
// mfa.Confirm.
type Confirm func(ctx context.Context, c mfa.Confirmation) error

// Config configures a Daemon. All fields down to LockFile must be set, except Window, Confirm and Notify.
type Config struct {
	Socket  string
	Files   profiles.Files // for requests that name no files
	Broker  *session.Broker
	Store   *profiles.Store
	Keyring Keyring
	AWS     AWS
	Audit   Recorder
	Log     *slog.Logger
	Version string
	Window  Window
	Confirm Confirm
	Notify  Notify
	// Vault makes the steps of a rotation; nil if no key can be rotated. Clock is its clock; nil for the real one.
	Vault rotate.Vault
	Clock rotate.Clock

	CommandsDir string // directory for the files of commands
	DoorsDir    string // directory for the directories of doors
	// Helper returns the absolute path of the installed credproc, for the files of doors.
	Helper func() (string, error)

	LockFile *lockfile.File       // not loaded yet
	Places   lockfile.Places      // where the LockFile is; the LockFile adopts the file at Places.Moved
	Events   Events               // reports the events of lock_on; nil to ignore lock_on
	BootTime func() time.Duration // since boot, sleep included; nil for the monotonic clock

	// StartedBy says what started the daemon, for display: see wire.Status.
	StartedBy string
	// Listener is a socket that already exists; if nil, Run binds one.
	Listener *socket.Listener
	// Replaced is what the previous daemon left, if this daemon replaces it; may be nil.
	Replaced *Replaced
	// StateDir, KeyringDir and Home are this daemon's absolute paths. With Files.Registry, they are compared with
	// the paths of each request. An empty KeyringDir or Home matches all.
	StateDir, KeyringDir, Home string
	// Setup returns the setup for status, by the current settings; may be nil.
	Setup func() wire.Setup
	// AWSClock returns AWS's clock minus ours, and when that was learned, the zero time for never; may be nil.
	AWSClock func() (offset time.Duration, at time.Time)
	// OnSettings is called with the settings at the start and after each read; may be nil.
	OnSettings func(profiles.Settings)
	// Warnings are shown by status while the daemon runs.
	Warnings []string
	// ExitAfter is how long a locked daemon may be idle before it exits; 0 means forever.
	ExitAfter time.Duration
}

const (
	// idleTimeout closes a connection that sends no request.
	idleTimeout = time.Minute
	// writeTimeout limits the write of an answer to a peer that does not read.
	writeTimeout = 5 * time.Second
	// drainTimeout is how long running requests may take after the daemon is told to end.
	drainTimeout = 2 * time.Second
	// greeting is how long a client may take from connecting to its first request after the daemon is told to end.
	greeting = 250 * time.Millisecond
	// watchInterval is how often the daemon checks that clients can still find its socket, and whether it must
	// lock.
	watchInterval = time.Second
)

// Daemon serves one socket.
type Daemon struct {
	Config
	started    time.Time
	grants     *grant.Keeper
	guard      *guard.Guard
	rotator    *rotate.Rotator
	locking    locking
	notices    notices
	successors chan successor
	accepted   atomic.Int64  // number of connections
	patience   time.Duration // drainTimeout; longer in tests
	writing    time.Duration // writeTimeout of an answer; longer in tests

	stopping chan struct{} // closed when the daemon is told to end
	doors    doorways

	connections // of the daemon's own socket
}

// New returns a Daemon.
func New(cfg Config) *Daemon {
	d := &Daemon{Config: cfg, started: time.Now(), guard: guard.New(nil), successors: make(chan successor, 1),
		patience: drainTimeout, writing: writeTimeout, stopping: make(chan struct{}),
		connections: connections{conns: map[net.Conn]*visit{}}}
	d.doors.d = d
	if d.Clock == nil {
		d.Clock = realClock{}
	}
	d.rotator = rotate.New(d.StateDir, d.Files.Registry, d.Clock)
	if d.BootTime == nil {
		d.BootTime = func() time.Duration { return time.Since(d.started) }
	}
	return d
}

// Run serves until ctx ends, then gives running requests two seconds to finish. It calls ready once clients can
// connect. The error is socket.ErrTaken if another daemon has the socket, at the start or later.
func (d *Daemon) Run(ctx context.Context, ready func()) error {
	listener := d.Listener
	if listener == nil {
		var err error
		if listener, err = socket.Listen(d.Socket); err != nil {
			return err
		}
	}
	d.grants = grant.New(grant.Config{Broker: d.Broker, Store: d.Store, Files: d.Files, Audit: d.Audit, Log: d.Log,
		Guard:  d.guard,
		Locked: d.locked, Socket: d.Socket, StateDir: d.StateDir, CommandsDir: d.CommandsDir, DoorsDir: d.DoorsDir,
		Doorman: &d.doors, Helper: d.Helper, BootTime: d.BootTime})
	defer func() { _ = listener.Close() }()
	_ = d.Audit.Record(audit.Event{Event: "start", UID: os.Getuid(), PID: os.Getpid()})
	defer func() { _ = d.Audit.Record(audit.Event{Event: "stop", UID: os.Getuid(), PID: os.Getpid()}) }()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// Running requests continue when the daemon is told to end, until drain cuts them off.
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
	var first, last, endpoints sync.WaitGroup // first ends before the drain, last and endpoints after it
	last.Go(func() { d.watch(ctx, listener, cancel) })
	last.Go(func() { d.grants.Run(ctx) })
	last.Go(func() { d.deleteOldKeys(ctx) })
	first.Go(func() { d.exitWhenIdle(ctx, d.ExitAfter, cancel) })
	first.Go(func() { d.accept(ctx, requests, listener) }) // last: now everything else runs
	var next *offer
	for next == nil && ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case s := <-d.successors:
			next = d.hold(s, listener)
		}
	}
	cancel(nil)
	close(d.stopping)
	listener.Stop()
	first.Wait()
	endpoints.Go(func() { d.grants.Stop(d.patience) })
	d.drain(d.patience)
	cut()
	endpoints.Wait()
	last.Wait()
	select {
	case second := <-d.successors:
		_ = second.conn.Close()
	default:
	}
	if err := d.grants.End(next != nil); err != nil {
		d.Log.Error("cannot remove all sessions", "err", err)
	}
	if next != nil {
		next.give(d, listener)
	}
	if cause := context.Cause(ctx); errors.Is(cause, socket.ErrTaken) {
		return cause
	}
	return nil
}

// sweep removes temporary files that a killed daemon left in the state directory.
func (d *Daemon) sweep() {
	if err := record.Sweep(d.StateDir); err != nil {
		d.Log.Warn("cannot remove the files of a killed daemon", "err", err)
	}
}

// accept accepts connections until the listener is stopped.
func (d *Daemon) accept(ctx, requests context.Context, listener *socket.Listener) {
	for ctx.Err() == nil {
		conn, who, err := listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			// Most likely out of file descriptors: close idle connections to free some.
			d.Log.Warn("accept failed", "err", err)
			d.closeIdle(0, 0)
			time.Sleep(20 * time.Millisecond)
			continue
		}
		d.accepted.Add(1)
		d.add(conn, nil)
		d.done.Go(func() {
			defer d.forget(conn)
			d.serve(requests, &d.connections, conn, callerOf(conn, who), nil)
		})
	}
}

// callerOf returns the Caller at the other end of a connection.
func callerOf(conn net.Conn, who peer.Peer) grant.Caller {
	caller := grant.CallerOf(who)
	caller.Conn, _ = conn.(syscall.Conn)
	return caller
}

// watch polls once a second for changes that arrive without an event: a removed socket, idle connections, changed
// settings, lock_after, another daemon's lock, and a lock that could not be saved.
func (d *Daemon) watch(ctx context.Context, listener *socket.Listener, cancel context.CancelCauseFunc) {
	ticker := time.NewTicker(watchInterval)
	defer ticker.Stop()
	defer d.locking.watches.Wait()
	defer d.notices.open.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		switch err := listener.Restore(); {
		case errors.Is(err, socket.ErrTaken):
			cancel(fmt.Errorf("another process took the socket: %w", err))
		case err != nil:
			d.Log.Error("the socket is gone and cannot be bound again", "err", err)
		}
		d.closeIdle(idleTimeout, idleTimeout)
		d.doors.closeIdle()
		d.followSettings(ctx)
		d.lockIfUnused()
		d.lockAsOthers()
		d.saveLock()
		d.leaveLocked()
		d.noticeEnding(ctx)
	}
}

// serve answers the requests of one connection. The door is the one over which the client came; nil for none.
func (d *Daemon) serve(
	ctx context.Context, of *connections, conn net.Conn, peer grant.Caller, door *doorway,
) {
	defer func() {
		// A panic fails this client only. The value is not logged, because it may contain a secret.
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
		if err != nil && !isFault(err) || !of.mark(conn, true) {
			return
		}
		malformed := err != nil
		switch {
		case malformed && door != nil:
			err = grant.ForDoor(err)
		case !malformed:
			err = d.answer(ctx, call{req: req, peer: peer, talk: c, reply: send, door: door})
		}
		switch {
		case errors.Is(err, errLeft), errors.Is(err, errGone), c.gone():
			return
		case err != nil && !d.reply(conn, d.failure(err, req, door)):
			return
		}
		if malformed && door != nil || !of.mark(conn, false) {
			return
		}
	}
}

// accountsOfLine is how many accounts fit into a line: a name and a path have at most 1100 bytes, and JSON may take six
// bytes for each. An assignment has the name of an account and that of a permission set.
const (
	accountsOfLine = 9
	assignedOfLine = 30
)

// send writes one answer. An answer with a long list takes several lines. An answer that does not fit is not
// written at all.
func (d *Daemon) send(conn net.Conn, resp wire.Response) error {
	var lines []byte
	for more := true; more; {
		part := resp
		switch more = true; {
		case len(resp.Accounts) > accountsOfLine:
			part = wire.Response{Accounts: resp.Accounts[:accountsOfLine], More: true}
			resp.Accounts = resp.Accounts[accountsOfLine:]
		case len(resp.Assigned) > assignedOfLine:
			part = wire.Response{Assigned: resp.Assigned[:assignedOfLine], More: true}
			resp.Assigned = resp.Assigned[assignedOfLine:]
		default:
			more = false
		}
		part.Version = d.Version
		line, err := wire.EncodeResponse(&part)
		if err != nil {
			return fault.New(fault.Internal, "cannot send the answer: %w", err)
		}
		if lines == nil {
			lines = line // usually the only line
		} else {
			lines = append(lines, line...)
		}
	}
	_ = conn.SetWriteDeadline(time.Now().Add(d.writing))
	if _, err := conn.Write(lines); err != nil {
		return errGone
	}
	return nil
}

// errGone means that the client did not read its answer.
var errGone = fault.New(fault.Failed, "the client has disconnected")

// reply calls send. If the answer does not fit, it sends an error instead.
func (d *Daemon) reply(conn net.Conn, resp wire.Response) bool {
	err := d.send(conn, resp)
	if err != nil && !errors.Is(err, errGone) {
		err = d.send(conn, wire.Response{Err: fault.Of(err)})
	}
	return err == nil
}
