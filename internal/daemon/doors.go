package daemon

import (
	"context"
	"errors"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"broker/internal/fault"
	"broker/internal/grant"
	"broker/internal/peer"
	"broker/internal/secret"
	"broker/internal/session"
	"broker/internal/wire"
)

// Limits of one door. A far side may hold connections and send what it likes, and must not use up the descriptors of
// the daemon, nor its time.
const (
	doorConns   = 64               // connections; for one more, the longest idle is closed
	doorIdle    = 10 * time.Second // closes a connection that sends no request
	doorWork    = 16               // requests at work at once; more wait
	doorTimeout = time.Minute      // of one request

	// After doorBurst requests for a session, there is one each doorPause: each has a line in the audit log. A request
	// that would have to wait longer than doorQueue is refused.
	doorBurst = 500
	doorPause = 500 * time.Millisecond
	doorQueue = 10 * time.Second

	// doorQuiet is how long a door asks nobody after a person said no: a far side must not wear that person out.
	doorQuiet = time.Minute
	// doorLull is the same after a prompt that nobody answered: a far side that leaves its prompts must not flood a person
	// with new ones.
	doorLull = 10 * time.Second
)

// doorways are the sockets of the doors. It implements grant.Doorman.
type doorways struct {
	d *Daemon

	mu         sync.Mutex
	open       map[*doorway]bool
	attendants map[string][]*attendant // by the id of the door, the newest last
}

// doorway is the socket of one door. It implements grant.Visits.
type doorway struct {
	connections
	d        *Daemon
	id, name string
	anybody  bool          // processes of any uid are served
	work     chan struct{} // has a token for each request at work

	pacing sync.Mutex
	next   time.Time // when the next request for a session could be answered if there had been no burst
	quiet  time.Time // until when nobody is asked
}

// turn returns how long a request for a session that comes now must wait. It returns false if that is too long.
func (w *doorway) turn(now time.Time) (wait time.Duration, ok bool) {
	w.pacing.Lock()
	defer w.pacing.Unlock()
	if first := now.Add(-doorBurst * doorPause); w.next.Before(first) {
		w.next = first
	}
	if wait = w.next.Add(doorPause).Sub(now); wait > doorQueue {
		return 0, false
	}
	w.next = w.next.Add(doorPause)
	return wait, true
}

// hush lets the door ask nobody for a while.
func (w *doorway) hush(long time.Duration) {
	w.pacing.Lock()
	defer w.pacing.Unlock()
	if end := time.Now().Add(long); end.After(w.quiet) {
		w.quiet = end
	}
}

// isQuiet reports whether nobody is asked now.
func (w *doorway) isQuiet() bool {
	w.pacing.Lock()
	defer w.pacing.Unlock()
	return time.Now().Before(w.quiet)
}

// Serve implements grant.Doorman.
func (all *doorways) Serve(ctx context.Context, id, name string, anybody bool, l *net.UnixListener) grant.Visits {
	w := &doorway{connections: connections{conns: map[net.Conn]*visit{}}, d: all.d, id: id, name: name, anybody: anybody,
		work: make(chan struct{}, doorWork)}
	all.mu.Lock()
	if all.open == nil {
		all.open = map[*doorway]bool{}
	}
	all.open[w] = true
	all.mu.Unlock()
	w.done.Go(func() {
		w.accept(ctx, l)
		all.mu.Lock()
		delete(all.open, w)
		all.mu.Unlock()
	})
	return w
}

// closeIdle closes the idle connections of all doors.
func (all *doorways) closeIdle() {
	all.mu.Lock()
	defer all.mu.Unlock()
	for w := range all.open {
		w.closeIdle(doorIdle, doorIdle)
	}
}

// Cut implements grant.Visits.
func (w *doorway) Cut() { w.cut(false) }

// End implements grant.Visits.
func (w *doorway) End() { w.cut(true) }

// Drain implements grant.Visits.
func (w *doorway) Drain(patience time.Duration) { w.drain(patience) }

// accept accepts connections until the listener is closed.
func (w *doorway) accept(ctx context.Context, l *net.UnixListener) {
	for {
		conn, err := l.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // most likely out of file descriptors
			w.closeIdle(0, 0)
			time.Sleep(20 * time.Millisecond)
			continue
		}
		who, err := peer.Unix(conn)
		if err != nil || !w.anybody && who.UID != os.Getuid() {
			_ = conn.Close()
			continue
		}
		visit, cancel := context.WithCancel(ctx)
		switch n := w.add(conn, cancel); {
		case n == 0: // the door has just ended
			_ = conn.Close()
		case n > doorConns:
			w.closeLongestIdle() // at the latest this connection, which has no request yet
		}
		w.done.Go(func() {
			defer cancel()
			defer w.forget(conn)
			w.d.serve(visit, &w.connections, conn, callerOf(conn, who), w)
		})
	}
}

// overDoor returns what counts of a request over a door, whatever else its client says.
func overDoor(said *wire.Request) *wire.Request {
	timeout := doorTimeout
	if said.Timeout > 0 {
		timeout = min(said.Timeout, doorTimeout)
	}
	return &wire.Request{Verb: said.Verb, Profile: said.Profile, MinTTL: said.MinTTL, Agent: said.Agent, Timeout: timeout}
}

// errVerb is the answer to all other verbs over a door.
var errVerb = grant.ForDoor(fault.New(fault.Usage, "a door answers ping and get, and nothing else"))

var errCrowded = grant.ForDoor(fault.New(fault.Throttled, "too many requests come over this door; try again later"))

// lend answers a get over a door.
func (d *Daemon) lend(ctx context.Context, c call) error {
	wait, ok := c.door.turn(time.Now())
	if !ok {
		return d.grants.Refuse(c.door.id, "", c.peer, errCrowded)
	}
	turn := time.NewTimer(wait)
	defer turn.Stop()
	select {
	case <-turn.C:
	case <-ctx.Done():
		return errCrowded
	}
	select {
	case c.door.work <- struct{}{}:
		defer func() { <-c.door.work }()
	case <-ctx.Done():
		return errCrowded
	}
	d.lockIfUnused()
	lent, err := d.grants.Lend(c.door.id, c.req, c.peer)
	if err != nil {
		return err
	}
	r := &lent.Requests[0]
	c.req.Profile, c.req.Desktop = r.Profile, lent.Desktop
	c.program = lent.Program
	if r.Quiet = c.door.isQuiet(); !r.Quiet {
		c.attends = d.doors.attendant(c.door.id)
		d.askFor(c, r)
		lent.Person = person{c, d}
	}
	return d.give(ctx, c, lent.Request)
}

// closeDoor implements the verb.
func (d *Daemon) closeDoor(_ context.Context, c call) error {
	if err := d.grants.CloseDoor(c.req.Profile); err != nil {
		return err
	}
	return c.reply(wire.Response{})
}

// attendant is a client at whose terminal the prompts of a door appear. They cannot appear over the door: the far side
// would see them, and could answer.
type attendant struct {
	call
	asks chan func() // each shows a prompt, and returns once that is answered
	left chan struct{}
}

// attendDoor implements the verb. It returns when the door has ended, the client leaves, or the daemon ends.
func (d *Daemon) attendDoor(ctx context.Context, c call) error {
	id, owner, ended, err := d.grants.DoorOf(c.req.Profile)
	if err == nil {
		err = mayAttend(c.peer, owner)
	}
	if err != nil {
		return err
	}
	a := &attendant{call: c, asks: make(chan func()), left: make(chan struct{})}
	defer close(a.left)
	defer d.doors.attend(id, a)()
	lines := c.talk.listen()
	if err := c.reply(wire.Response{More: true}); err != nil { // from now on, prompts appear there
		return err
	}
	for {
		select {
		case show := <-a.asks:
			show()
		case _, open := <-lines: // an answer that came too late
			if !open {
				return errGone
			}
		case <-ended:
			return c.reply(wire.Response{})
		case <-d.stopping:
			return fault.New(fault.Unreachable, "the daemon is stopping; try again")
		case <-ctx.Done():
			return fault.New(fault.Unreachable, "the request timed out; try again")
		}
	}
}

// mayAttend returns an error unless a process belongs to the door of a process: it is below the owner, or at its
// terminal. Otherwise a command in another terminal could take over the prompts by mistake. It is no protection against
// a program of this user that means it: such a program can open a door itself.
func mayAttend(who grant.Caller, owner peer.Process) error {
	terminal := owner.Terminal()
	if owner.PID == 0 || who.Process == owner || terminal != "" && who.Terminal() == terminal {
		return nil
	}
	for parent := range who.Parents() {
		if parent == owner {
			return nil
		}
	}
	return fault.New(fault.Denied, "this door belongs to another program (pid %d), at another terminal", owner.PID).
		WithHint("broker forward list")
}

// attend adds an attendant to a door, until leave is called.
func (all *doorways) attend(id string, a *attendant) (leave func()) {
	all.mu.Lock()
	defer all.mu.Unlock()
	if all.attendants == nil {
		all.attendants = map[string][]*attendant{}
	}
	all.attendants[id] = append(all.attendants[id], a)
	return func() {
		all.mu.Lock()
		defer all.mu.Unlock()
		all.attendants[id] = slices.DeleteFunc(all.attendants[id], func(other *attendant) bool { return other == a })
		if len(all.attendants[id]) == 0 {
			delete(all.attendants, id)
		}
	}
}

// attendant returns the newest attendant of a door, or nil.
func (all *doorways) attendant(id string) *attendant {
	all.mu.Lock()
	defer all.mu.Unlock()
	if list := all.attendants[id]; len(list) > 0 {
		return list[len(list)-1]
	}
	return nil
}

// ask shows a prompt at the attendant's terminal. When ctx ends, it removes the prompt.
func (a *attendant) ask(ctx context.Context, prompt wire.Prompt) (secret.String, error) {
	var code secret.String
	err, shown := error(nil), make(chan struct{})
	show := func() {
		defer close(shown)
		if code, err = a.talk.ask(ctx, prompt); ctx.Err() != nil {
			a.talk.tell("the prompt was closed: nobody waits for the answer any more")
		} else {
			_ = a.reply(wire.Response{More: true}) // a client waits for a line after each prompt
		}
	}
	select {
	case a.asks <- show:
		<-shown
		return code, err
	case <-a.left:
		return secret.String{}, session.ErrGone
	case <-ctx.Done():
		return secret.String{}, ctx.Err()
	}
}
