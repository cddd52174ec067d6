package socket

import (
	"errors"
	"net"
	"sync"
	"time"

	"broker/internal/peer"
)

const (
	// maxLookups is how many connections may wait to be looked up. The next one is accepted when one of
	// them is done: a flood fills the kernel's queue of connections, and not our descriptors.
	maxLookups = 64
	// acceptPause is the pause after a failure to accept, such as too many open files.
	acceptPause = 5 * time.Millisecond
)

// guarded accepts the connections of some users over loopback.
type guarded struct {
	net.Listener
	admit    func(uid int, err error) bool
	admitted chan net.Conn // closed when no more come
	err      error         // why no more come; read after that
}

// Guard takes connections from a listener of loopback until that is closed. Each goes to admit with what
// peer.LoopbackUID says of it, several at a time: those admitted come out of Accept, all others are reset before a byte
// of them is read. No connection waits for the answer of another, unless 64 wait already. After Close, Accept returns
// what was accepted before, and then an error.
func Guard(l net.Listener, admit func(uid int, err error) bool) net.Listener {
	own := &guarded{Listener: l, admit: admit, admitted: make(chan net.Conn)}
	go own.run()
	return own
}

// Accept implements net.Listener.
func (l *guarded) Accept() (net.Conn, error) {
	if conn, ok := <-l.admitted; ok {
		return conn, nil
	}
	return nil, l.err
}

func (l *guarded) run() {
	var lookups sync.WaitGroup
	slots := make(chan struct{}, maxLookups)
	for {
		conn, err := l.Listener.Accept()
		if passing := interface{ Temporary() bool }(nil); errors.As(err, &passing) && passing.Temporary() {
			time.Sleep(acceptPause)
			continue
		}
		if err != nil {
			l.err = err
			break
		}
		slots <- struct{}{}
		lookups.Go(func() {
			ours := l.look(conn)
			<-slots
			if ours {
				l.admitted <- conn
			}
		})
	}
	lookups.Wait()
	close(l.admitted)
}

// look reports whether a connection is admitted, and resets it if not: a reset leaves nothing behind in the kernel,
// where an orderly end would leave a socket for a minute.
func (l *guarded) look(conn net.Conn) bool {
	tcp, ok := conn.(*net.TCPConn)
	if ok && l.admit(peer.LoopbackUID(tcp)) {
		return true
	}
	if ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
	return false
}
