package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"broker/internal/dial"
	"broker/internal/fault"
	"broker/internal/grant"
	"broker/internal/paths"
	"broker/internal/session"
	"broker/internal/socket"
	"broker/internal/wire"
)

// A daemon that is replaced hands over its listening sockets: clients that connect in between wait in the sockets'
// queues, so no client finds the daemon missing. The order makes this safe. The old daemon stops accepting, lets
// running requests finish, and ends all its background work. Only then does it send the sockets and the lock file,
// so the lock is held without a gap. It sends no session and no passphrase: the new daemon gets those like any
// other daemon.

// replaceTimeout is how long the next daemon waits for the old one to drain. It is longer than the drain may
// take.
const replaceTimeout = 4 * drainTimeout

// ErrNotAsked is returned by Replace if the running daemon is too old to hand over its sockets.
var ErrNotAsked = errors.New("the running daemon is too old to hand over its socket")

// Replaced is the result of Replace.
type Replaced struct {
	wire.Replaced
	Listener *socket.Listener
	sockets  grant.Sockets
}

// handover starts to end this daemon, so that the calling daemon can replace it.
func (d *Daemon) handover(_ context.Context, c call) error {
	err := d.invite(c)
	d.record("restart", "", c, session.Answer{}, err)
	if err != nil {
		return err
	}
	return errLeft
}

// errLeft means that Run answers this connection itself, after all others.
var errLeft = errors.New("the connection is Run's")

// invite passes the connection of the next daemon to Run.
func (d *Daemon) invite(c call) error {
	if d.StartedBy == wire.ByService || d.StartedBy == wire.ByActivity {
		return fault.New(fault.Failed,
			"the daemon is run by the service manager, which would start it again").
			WithHint("broker service restart")
	}
	unix, ok := c.talk.conn.(*net.UnixConn)
	if !ok || gone(unix) {
		return fault.New(fault.Failed, "this connection cannot receive sockets")
	}
	// Duplicate the connection: the drain must not close it.
	file, err := unix.File()
	if err != nil {
		return fault.New(fault.Failed, "hand over the socket: %w", err)
	}
	conn, err := net.FileConn(file)
	_ = file.Close()
	if err != nil {
		return fault.New(fault.Failed, "hand over the socket: %w", err)
	}
	select {
	case d.successors <- successor{conn, c.req.TakesDoors}:
		return nil
	default:
		_ = conn.Close()
		return fault.New(fault.Failed, "another process is already replacing this daemon").WithHint("broker status")
	}
}

// successor is a daemon that asked to take over.
type successor struct {
	conn       net.Conn
	takesDoors bool
}

// offer is what Run hands over at the end.
type offer struct {
	conn  *net.UnixConn
	ports []int
	doors []string
	files []*os.File // the sockets of ports, and then those of doors
}

// hold keeps the sockets for the next daemon. After that, this daemon must end. If hold fails, it returns nil and
// this daemon goes on.
func (d *Daemon) hold(s successor, listener *socket.Listener) *offer {
	conn := s.conn
	unix, ok := conn.(*net.UnixConn)
	if !ok || gone(unix) {
		_ = conn.Close()
		return nil
	}
	ports, files, err := d.grants.Sockets(dial.MaxFiles - 2)
	var doors []string
	if err == nil && s.takesDoors {
		var more []*os.File
		doors, more, err = d.grants.DoorSockets(dial.MaxFiles - 2 - len(files))
		files = append(files, more...)
	}
	if err == nil {
		err = listener.Hold()
	}
	if err != nil {
		for _, f := range files {
			_ = f.Close()
		}
		d.Log.Error("cannot hand over the sockets", "err", err)
		d.reply(conn, wire.Response{Err: fault.New(fault.Failed,
			"the running daemon cannot hand over its socket: %w", err)})
		_ = conn.Close()
		return nil
	}
	return &offer{unix, ports, doors, files}
}

// give sends everything to the next daemon. It runs when this daemon has stopped all work. If it fails, the
// sockets close, and the next client starts a daemon.
func (o *offer) give(d *Daemon, listener *socket.Listener) {
	defer func() { _ = o.conn.Close() }()
	lock, file := listener.Give()
	files := append([]*os.File{lock, file}, o.files...)
	defer func() {
		for _, f := range o.files {
			_ = f.Close()
		}
	}()
	line, err := wire.EncodeResponse(&wire.Response{Version: d.Version,
		Replaced: &wire.Replaced{Ports: o.ports, Doors: o.doors, Locked: d.Broker.Locked()}})
	if err == nil {
		_ = o.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
		err = writeFiles(o.conn, line, files)
	}
	if err != nil {
		d.Log.Error("cannot hand over the sockets", "err", err)
		return
	}
	d.Log.Info("handed over the sockets")
}

// Replace asks the daemon at the socket of p to end, and returns what it leaves, for a Config. If no daemon
// listens, the error is dial.ErrNobody. If the daemon is too old, the error is ErrNotAsked, and pid is the process
// of the socket. A daemon that does not answer goes on unchanged.
func Replace(ctx context.Context, p paths.Paths, version string) (left *Replaced, pid int, err error) {
	ctx, cancel := context.WithTimeout(ctx, replaceTimeout)
	defer cancel()
	conn, err := dial.Dial(ctx, p.Socket)
	if err != nil {
		return nil, 0, err
	}
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, conn.Abort)()
	peer, err := conn.Peer()
	if err != nil {
		return nil, 0, err
	}
	stays := func(err error) error {
		return fault.New(fault.Failed,
			"the running daemon (pid %d) does not hand over its socket and goes on: %w", peer.PID, err).
			WithHint("broker status")
	}
	conn.SetDeadline(time.Now().Add(replaceTimeout))
	line, err := wire.EncodeRequest(&wire.Request{Verb: wire.Replace, Client: version, Registry: p.Registry,
		State: p.State, Keyring: p.Keyring, Home: paths.Home(), TakesDoors: true})
	if err != nil {
		return nil, peer.PID, err
	}
	if _, err := conn.Write(line); err != nil {
		return nil, peer.PID, stays(err)
	}
	answer, files, err := readLine(conn)
	closeAll := func() {
		for _, f := range files {
			_ = f.Close()
		}
	}
	if err != nil {
		closeAll()
		if ctx.Err() != nil || errors.Is(err, os.ErrDeadlineExceeded) {
			err = fmt.Errorf("no answer within %v; is it stopped?", replaceTimeout)
		}
		return nil, peer.PID, stays(err)
	}
	resp, err := wire.DecodeResponse(answer)
	switch {
	case errors.Is(err, wire.ErrStranger): // a variable may name the socket of any program
		closeAll()
		return nil, peer.PID, stays(err)
	case err != nil, resp.Err != nil && resp.Err.Kind == fault.Usage:
		closeAll()
		return nil, peer.PID, ErrNotAsked
	case resp.Err != nil:
		closeAll()
		return nil, peer.PID, resp.Err
	case resp.Replaced == nil, len(files) != 2+len(resp.Replaced.Ports)+len(resp.Replaced.Doors):
		closeAll()
		return nil, peer.PID, fault.New(fault.Failed, "the running daemon handed over only a part of its sockets")
	}
	left = &Replaced{Replaced: *resp.Replaced,
		sockets: grant.Sockets{Ports: map[int]net.Listener{}, Doors: map[string]*net.UnixListener{}}}
	for i, f := range files[2:] {
		// If this is not a usable socket, it is bound again, as after a crash.
		l, err := net.FileListener(f)
		_ = f.Close()
		if unix, ok := l.(*net.UnixListener); ok && i >= len(left.Ports) {
			unix.SetUnlinkOnClose(false)
			left.sockets.Doors[left.Doors[i-len(left.Ports)]] = unix
		} else if err == nil && i < len(left.Ports) {
			left.sockets.Ports[left.Ports[i]] = l
		}
	}
	if left.Listener, err = socket.Inherit(p.Socket, files[0], files[1]); err != nil {
		return nil, peer.PID, err
	}
	return left, peer.PID, nil
}

// readLine reads one line and the files that are sent with it.
func readLine(conn *dial.Conn) (line []byte, files []*os.File, err error) {
	b := make([]byte, wire.MaxLine)
	for len(line) < wire.MaxLine {
		n, more, err := conn.ReadFiles(b[:wire.MaxLine-len(line)])
		files = append(files, more...)
		line = append(line, b[:n]...)
		if before, _, whole := bytes.Cut(line, []byte("\n")); whole {
			return before, files, nil
		}
		if err == nil && n == 0 {
			err = errors.New("the connection ended without an answer")
		}
		if err != nil {
			return nil, files, err
		}
	}
	return nil, files, wire.ErrTooLong
}

// inherit adopts the state of the previous daemon, before any request is answered. It returns the sockets
// of endpoints and doors.
func (d *Daemon) inherit() grant.Sockets {
	if d.Replaced == nil {
		return grant.Sockets{}
	}
	if d.Replaced.Locked {
		d.Broker.Lock()
		// The previous daemon may have failed to save its lock. If we fail too, saveLock retries later.
		if err := d.LockFile.Lock(); err != nil {
			d.Log.Error("cannot save the lock of the previous daemon", "err", err)
		}
	}
	return d.Replaced.sockets
}
