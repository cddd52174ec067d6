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
	"sync"
	"time"

	"broker/internal/fault"
	"broker/internal/record"
	"broker/internal/socket"
)

// Ports are chosen below the range that systems use for outgoing connections (ip_local_port_range of ip(7); RFC
// 6335), so that no connection takes a port between the end of one daemon and the start of the next.
const (
	firstPort = 20000
	lastPort  = 32767
	portTries = 50
)

// portLocked returns a port on which we listen.
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
	return 0, fault.New(fault.Failed, "no free port on 127.0.0.1 for the endpoint: %w", err)
}

// listenLocked starts to serve on a port.
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
		_ = l.Close() // its program has ended meanwhile
		delete(e.inherited, port)
	}
	if err := e.sweep(); err != nil {
		e.k.Log.Warn("cannot remove the files of a killed daemon", "err", err)
	}
}

// sweep removes temporary files and tokens that a killed daemon left.
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

// look listens on the ports of the endpoints. A port that another program took is retried each second.
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
			continue // already logged
		}
		if e.taken[h.Port] = err != nil; err != nil {
			e.k.Log.Error("programs under `broker exec --mode server` get no credentials", "err", err)
		} else {
			e.k.Log.Info("programs under `broker exec --mode server` get credentials again", "port", h.Port)
		}
	}
}

// Stop closes the sockets of endpoints and doors. Running requests may take up to patience to finish. The grants stay
// for the next daemon.
func (k *Keeper) Stop(patience time.Duration) {
	var doors sync.WaitGroup
	doors.Go(func() { k.doors.stop(patience) })
	defer doors.Wait()
	e := &k.endpoints
	e.mu.Lock()
	e.stopped = true
	for _, l := range e.listeners {
		_ = l.Close()
	}
	e.mu.Unlock()
	// Do not use Server.Shutdown: it closes connections whose request it has not read yet, without an answer.
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

// Sockets returns the ports of the endpoints and their sockets, up to most of each. They stay open after Stop.
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
