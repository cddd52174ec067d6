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
	"broker/internal/paths"
	"broker/internal/session"
	"broker/internal/socket"
	"broker/internal/wire"
)

// A daemon that is replaced hands over its sockets while they listen: who connects between the two waits in their
// queues, and nobody finds nobody. The order is what makes it safe: the old one stops accepting, lets requests under way
// finish, and ends everything that it does by itself; only then it sends the sockets, and the lock with them, which so is held
// without a break. It sends no session and no passphrase: the new one gets those as any daemon does.

// takeOverTimeout is how long the next daemon waits for a daemon that drains, and is more than that may take.
const takeOverTimeout = 4 * drainTimeout

// ErrNotAsked is returned by TakeOver where the running daemon cannot hand over: it is of a version that does not know how.
var ErrNotAsked = errors.New("the running daemon is of a version that cannot hand over")

// Takeover is what TakeOver brings.
type Takeover struct {
	wire.Takeover
	Listener  *socket.Listener
	listeners map[int]net.Listener // by port
}

// handover begins to end the daemon in favour of who asks.
func (d *Daemon) handover(_ context.Context, c call) error {
	err := d.invite(c)
	d.record("handover", "", c, session.Answer{}, err)
	if err != nil {
		return err
	}
	return errLeft
}

// errLeft: Run answers this connection, as the last of all.
var errLeft = errors.New("the connection is Run's")

// invite passes the connection of the next daemon on to Run.
func (d *Daemon) invite(c call) error {
	if d.StartedBy == wire.ByService || d.StartedBy == wire.ByActivity {
		return fault.New(fault.Failed, "the daemon is run by the service manager, which would start it again").WithHint("broker service restart")
	}
	unix, ok := c.talk.conn.(*net.UnixConn)
	if !ok || gone(unix) {
		return fault.New(fault.Failed, "the connection cannot take sockets")
	}
	// A connection of its own, which is not one of those that are drained.
	file, err := unix.File()
	if err != nil {
		return fault.New(fault.Failed, "hand over: %w", err)
	}
	conn, err := net.FileConn(file)
	_ = file.Close()
	if err != nil {
		return fault.New(fault.Failed, "hand over: %w", err)
	}
	select {
	case d.successors <- conn:
		return nil
	default:
		_ = conn.Close()
		return fault.New(fault.Failed, "another process is taking over already").WithHint("broker status")
	}
}

// offer is what is handed over at the end.
type offer struct {
	conn  *net.UnixConn
	ports []int
	files []*os.File // the ports' sockets
}

// hold holds the sockets for the next daemon, from where on this one has to end. It returns nil if that cannot be
// done, and the daemon goes on.
func (d *Daemon) hold(conn net.Conn, listener *socket.Listener) *offer {
	unix, ok := conn.(*net.UnixConn)
	if !ok || gone(unix) {
		_ = conn.Close()
		return nil
	}
	ports, files, err := d.grants.Sockets(dial.MaxFiles - 2)
	if err == nil {
		err = listener.Hold()
	}
	if err != nil {
		for _, f := range files {
			_ = f.Close()
		}
		d.Log.Error("hand over", "err", err)
		d.reply(conn, wire.Response{Err: fault.New(fault.Failed, "the running daemon cannot hand over: %w", err)})
		_ = conn.Close()
		return nil
	}
	return &offer{unix, ports, files}
}

// give sends all of it. Nothing is done here any more; where it fails the sockets close, and the next client starts a daemon.
func (o *offer) give(d *Daemon, listener *socket.Listener) {
	defer func() { _ = o.conn.Close() }()
	lock, file := listener.Give()
	files := append([]*os.File{lock, file}, o.files...)
	defer func() {
		for _, f := range o.files {
			_ = f.Close()
		}
	}()
	line, err := wire.EncodeResponse(wire.Response{Version: d.Version,
		Takeover: &wire.Takeover{Ports: o.ports, Locked: d.Broker.Locked()}})
	if err == nil {
		_ = o.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
		err = writeFiles(o.conn, line, files)
	}
	if err != nil {
		d.Log.Error("hand over", "err", err)
		return
	}
	d.Log.Info("handed over")
}

// TakeOver asks the daemon at the socket of p to end, and returns what it leaves, for a Config. With no
// daemon there the error is dial.ErrNobody; where it is too old it is ErrNotAsked, and pid says whose socket it is. Until the
// daemon has answered it goes on as if nothing had been asked.
func TakeOver(ctx context.Context, p paths.Paths, version string) (left *Takeover, pid int, err error) {
	ctx, cancel := context.WithTimeout(ctx, takeOverTimeout)
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
		return fault.New(fault.Failed, "the running daemon (pid %d) does not hand over, and was left as it is: %w", peer.PID, err).WithHint("broker status")
	}
	_ = conn.SetTimeout(takeOverTimeout)
	line, err := wire.EncodeRequest(wire.Request{Verb: wire.Handover, Client: version, Registry: p.Registry,
		State: p.State, Keyring: p.Keyring, Home: paths.Home()})
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
			err = fmt.Errorf("no answer within %v; is it stopped?", takeOverTimeout)
		}
		return nil, peer.PID, stays(err)
	}
	resp, err := wire.DecodeResponse(answer)
	switch {
	case errors.Is(err, wire.ErrStranger): // a variable may have named the socket of any program
		closeAll()
		return nil, peer.PID, stays(err)
	case err != nil, resp.Err != nil && resp.Err.Kind == fault.Usage:
		closeAll()
		return nil, peer.PID, ErrNotAsked
	case resp.Err != nil:
		closeAll()
		return nil, peer.PID, resp.Err
	case resp.Takeover == nil, len(files) != 2+len(resp.Takeover.Ports):
		closeAll()
		return nil, peer.PID, fault.New(fault.Failed, "what the running daemon handed over is not whole")
	}
	left = &Takeover{Takeover: *resp.Takeover, listeners: map[int]net.Listener{}}
	for i, f := range files[2:] {
		// A socket that is not one is bound again, as after any other end.
		if l, err := net.FileListener(f); err == nil {
			left.listeners[left.Ports[i]] = l
		}
		_ = f.Close()
	}
	if left.Listener, err = socket.Inherit(p.Socket, files[0], files[1]); err != nil {
		return nil, peer.PID, err
	}
	return left, peer.PID, nil
}

// readLine reads one line and the files that come with it.
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
			err = errors.New("it ended without an answer")
		}
		if err != nil {
			return nil, files, err
		}
	}
	return nil, files, wire.ErrTooLong
}

// inherit makes what was taken over ours, before anybody is answered. It returns the sockets of endpoints by port.
func (d *Daemon) inherit() map[int]net.Listener {
	if d.Takeover == nil {
		return nil
	}
	if d.Takeover.Locked {
		d.Broker.Lock()
		// The one before may not have been able to write it down. What we cannot either, saveLatch does later.
		if err := d.Latch.Lock(); err != nil {
			d.Log.Error("lock", "err", err)
		}
	}
	return d.Takeover.listeners
}
