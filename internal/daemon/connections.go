package daemon

import (
	"net"
	"time"
)

// mark says whether a request is under way. It returns false if the connection was closed meanwhile.
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

// closeIdle closes the connections that have had no request under way for so long: grace is for those that have asked
// nothing yet, rest for the others.
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

// drain lets requests under way finish, then closes what is left.
func (d *Daemon) drain() {
	d.closeIdle(greeting, 0)
	finished := make(chan struct{})
	go func() {
		d.done.Wait()
		close(finished)
	}()
	// Those that become idle while draining are closed as well.
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
