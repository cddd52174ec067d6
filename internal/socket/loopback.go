package socket

import (
	"errors"
	"net"
	"sync"
	"time"

	"broker/internal/peer"
)

const (
	// maxLookups is how many connections may wait for the lookup of their owner. The next connection is accepted
	// when a lookup is done, so that a flood fills the kernel's queue and not our descriptors.
	maxLookups = 64
	// acceptPause is the pause after a failed accept, such as with too many open files.
	acceptPause = 5 * time.Millisecond
)

// guarded accepts loopback connections of admitted users.
type guarded struct {
	net.Listener
	admit    func(uid int, err error) bool
	admitted chan net.Conn // closed when no more connections come
	err      error         // why no more come; read after admitted is closed
}

// Guard accepts connections from a loopback listener until it is closed. It calls admit, concurrently, with the
// result of peer.LoopbackUID for each connection. Accept returns admitted connections. All others are reset before
// any byte of them is read. No connection waits for the lookup of another, unless 64 lookups are pending. After
// Close, Accept returns the connections that were accepted before, and then an error.
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

// look reports whether a connection is admitted, and resets it if not. A reset leaves nothing in the kernel; an
// orderly close would leave a socket for a minute.
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
