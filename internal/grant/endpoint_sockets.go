package grant

import (
	"crypto/rand"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"broker/internal/fault"
	"broker/internal/record"
	"broker/internal/socket"
)

// The ports that are tried lie below those that the systems give to outgoing connections (ip_local_port_range of ip(7);
// RFC 6335), so that one is not taken while a daemon ends and the next begins.
const (
	firstPort = 20000
	lastPort  = 32767
	portTries = 50
)

// portLocked is a port that we listen on.
func (e *endpoints) portLocked() (int, error) {
	for port := range e.listeners {
		return port, nil
	}
	var err error
	for range portTries {
		n, _ := rand.Int(rand.Reader, big.NewInt(lastPort-firstPort+1))
		port := firstPort + int(n.Int64())
		if err = e.listenLocked(port); err == nil {
			return port, nil
		}
	}
	return 0, fault.New(fault.Failed, "no port of 127.0.0.1 is free for the endpoint: %w", err)
}

// listenLocked begins to serve on a port.
func (e *endpoints) listenLocked(port int) error {
	l := e.inherited[port]
	if delete(e.inherited, port); l == nil {
		var err error
		if l, err = net.Listen("tcp4", "127.0.0.1:"+strconv.Itoa(port)); err != nil {
			return err
		}
	}
	e.listeners[port] = l
	e.serving.Go(func() { _ = e.server.Serve(socket.Guard(l, e.own)) })
	return nil
}

// begin listens on the ports of adopted endpoints.
func (e *endpoints) begin(inherited map[int]net.Listener) {
	e.mu.Lock()
	e.inherited = inherited
	e.mu.Unlock()
	e.look()
	e.mu.Lock()
	defer e.mu.Unlock()
	for port, l := range e.inherited {
		_ = l.Close() // of a program that has ended meanwhile
		delete(e.inherited, port)
	}
	if err := e.sweep(); err != nil {
		e.k.Log.Warn("what a daemon left that was killed was not removed", "err", err)
	}
}

// sweep removes the drafts and tokens that a daemon left which was killed.
func (e *endpoints) sweep() error {
	dir, err := record.Open(filepath.Dir(e.k.Socket), record.Private)
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }()
	names, err := dir.Names()
	for _, name := range names {
		id, is := strings.CutPrefix(name, filepath.Base(e.tokenFile("")))
		if !is || !isID(id) {
			continue
		}
		if known := e.k.all(func(h *held) bool { return h.ID == id }); len(known) == 0 {
			err = errors.Join(err, dir.Remove(name))
		}
	}
	return errors.Join(err, dir.Sweep())
}

// look listens on the ports that programs hold on to. One that was taken meanwhile is tried again
// each second.
func (e *endpoints) look() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.stopped {
		return
	}
	for _, h := range e.k.all(func(h *held) bool { return h.Kind == Endpoint && !h.Ended }) {
		if e.listeners[h.Port] != nil {
			continue
		}
		err := e.listenLocked(h.Port)
		if (err != nil) == e.taken[h.Port] {
			continue // it was said
		}
		if e.taken[h.Port] = err != nil; err != nil {
			e.k.Log.Error("programs under `broker exec --mode server` get no credentials", "err", err)
		} else {
			e.k.Log.Info("programs under `broker exec --mode server` get credentials again", "port", h.Port)
		}
	}
}

// Stop ends the endpoints' sockets; requests under way may finish, for as long as patience. The grants stay for the
// next daemon.
func (k *Keeper) Stop(patience time.Duration) {
	e := &k.endpoints
	e.mu.Lock()
	e.stopped = true
	for _, l := range e.listeners {
		_ = l.Close()
	}
	e.mu.Unlock()
	// Not by Shutdown, which closes unanswered whose request it has not read yet.
	e.serving.Wait()
	answered := make(chan struct{})
	go func() {
		e.requests.Wait()
		close(answered)
	}()
	select {
	case <-answered:
	case <-time.After(patience):
	}
	_ = e.server.Close()
}

// Sockets returns the sockets of the endpoints, at most so many, which stay open after Stop.
func (k *Keeper) Sockets(most int) (ports []int, files []*os.File, err error) {
	e := &k.endpoints
	e.mu.Lock()
	defer e.mu.Unlock()
	for port, l := range e.listeners {
		tcp, ok := l.(*net.TCPListener)
		if !ok || len(ports) == most {
			continue
		}
		f, err := tcp.File()
		if err != nil {
			return nil, files, err
		}
		ports, files = append(ports, port), append(files, f)
	}
	return ports, files, nil
}
