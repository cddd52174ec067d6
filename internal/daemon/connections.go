package daemon

import (
	"net"
	"time"
)

// mark records whether a request runs on a connection. It returns false if the connection was closed meanwhile.
func (d *Daemon) mark(conn net.Conn, busy bool) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	v := d.conns[conn]
	if v == nil {
		return false
	}
	*v = visit{busy: busy, asked: true, since: time.Now()}
	return true
}

func (d *Daemon) forget(conn net.Conn) {
	d.mu.Lock()
	delete(d.conns, conn)
	d.mu.Unlock()
	_ = conn.Close()
}

// closeIdle closes connections on which no request runs and which have been idle too long: for grace if they have
// sent no request yet, for rest otherwise.
func (d *Daemon) closeIdle(grace, rest time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	for conn, v := range d.conns {
		limit := grace
		if v.asked {
			limit = rest
		}
		if !v.busy && now.Sub(v.since) >= limit {
			delete(d.conns, conn)
			_ = conn.Close()
		}
	}
}

// drain lets running requests finish, then closes the remaining connections.
func (d *Daemon) drain() {
	d.closeIdle(greeting, 0)
	finished := make(chan struct{})
	go func() {
		d.done.Wait()
		close(finished)
	}()
	// Connections that become idle during the drain are closed too.
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for limit := time.After(d.patience); ; {
		select {
		case <-finished:
			return
		case <-tick.C:
			d.closeIdle(greeting, 0)
		case <-limit:
			d.mu.Lock()
			for conn := range d.conns {
				_ = conn.Close()
			}
			d.mu.Unlock()
			return
		}
	}
}
