package daemon

import (
	"context"
	"net"
	"sync"
	"time"
)

// connections are the open connections of one socket.
type connections struct {
	mu    sync.Mutex
	conns map[net.Conn]*visit
	done  sync.WaitGroup
	ended bool // no more are added
}

// visit is the state of one connection.
type visit struct {
	busy  bool      // a request is running
	asked bool      // it has sent a request
	since time.Time // when it was accepted, or when busy changed

	cancel context.CancelFunc // ends its request; nil if only the end of the daemon does
}

// add adds a connection that was accepted, and reports how many there are now. It is 0 after the end.
func (c *connections) add(conn net.Conn, cancel context.CancelFunc) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return 0
	}
	c.conns[conn] = &visit{since: time.Now(), cancel: cancel}
	return len(c.conns)
}

// mark records whether a request runs on a connection. It returns false if the connection was closed meanwhile.
func (c *connections) mark(conn net.Conn, busy bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	v := c.conns[conn]
	if v == nil {
		return false
	}
	v.busy, v.asked, v.since = busy, true, time.Now()
	return true
}

func (c *connections) forget(conn net.Conn) {
	c.mu.Lock()
	delete(c.conns, conn)
	c.mu.Unlock()
	_ = conn.Close()
}

// closeLocked closes a connection, and ends its request.
func (c *connections) closeLocked(conn net.Conn, v *visit) {
	delete(c.conns, conn)
	if v.cancel != nil {
		v.cancel()
	}
	_ = conn.Close()
}

// closeIdle closes connections on which no request runs and which have been idle too long: for grace if they have
// sent no request yet, for rest otherwise.
func (c *connections) closeIdle(grace, rest time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	for conn, v := range c.conns {
		limit := grace
		if v.asked {
			limit = rest
		}
		if !v.busy && now.Sub(v.since) >= limit {
			c.closeLocked(conn, v)
		}
	}
}

// closeLongestIdle closes the connection that has been idle longest. It returns false if a request runs on each.
func (c *connections) closeLongestIdle() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	var longest net.Conn
	for conn, v := range c.conns {
		if !v.busy && (longest == nil || v.since.Before(c.conns[longest].since)) {
			longest = conn
		}
	}
	if longest != nil {
		c.closeLocked(longest, c.conns[longest])
	}
	return longest != nil
}

// cut closes all connections, and ends the requests that have a cancel function. If it is the end, no more are added.
func (c *connections) cut(end bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = c.ended || end
	for conn, v := range c.conns {
		c.closeLocked(conn, v)
	}
}

// drain lets running requests finish, and then closes the remaining connections.
func (c *connections) drain(patience time.Duration) {
	c.closeIdle(greeting, 0)
	finished := make(chan struct{})
	go func() {
		c.done.Wait()
		close(finished)
	}()
	// Connections that become idle during the drain are closed too.
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for limit := time.After(patience); ; {
		select {
		case <-finished:
			return
		case <-tick.C:
			c.closeIdle(greeting, 0)
		case <-limit:
			c.mu.Lock()
			for conn := range c.conns {
				_ = conn.Close()
			}
			c.mu.Unlock()
			return
		}
	}
}
