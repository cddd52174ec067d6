package session

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"

	"broker/internal/secret"
)

// Prompt is a prompt for the next code of a device.
type Prompt struct {
	Device string // MFA serial
	Source string
	Reason string // why the last code failed; empty for the first prompt
	// Endpoint is where the code is sent; empty for AWS's own endpoint of the region.
	Endpoint string
}

// Prompter is a place where a person can be prompted: the terminal of a request, or a window.
type Prompter interface {
	// Ask prompts once and returns the code. It returns ErrGone if nobody can be prompted there, and ErrCancelled
	// if the person declined. When ctx ends, Ask removes the prompt and returns the error of ctx.
	Ask(ctx context.Context, q Prompt) (secret.String, error)
	// Seat names the place, such as "pts/1". An answer given there counts for all requests of that place. who is
	// the program that asks, for display. seat is empty if the system does not report the terminal, and for a
	// program that answers without a person.
	Seat() (seat, who string)
}

// Terminal is an Prompter that can be told where the prompt is open, and can take it over.
type Terminal interface {
	Prompter
	// Offer tells the person at this terminal that q is open at seat, where the program named by who needs the code.
	// It returns when the person wants to be prompted here, or when ctx ends. It may return the code itself. The
	// errors are those of Ask.
	Offer(ctx context.Context, q Prompt, seat, who string) (secret.String, error)
}

// Client is the client that waits for the answer to a request.
type Client interface {
	// Watch calls gone, from its own goroutine, if the client disconnects before ctx ends.
	Watch(ctx context.Context, gone func())
}

// Errors that an Prompter returns instead of a code.
var (
	ErrGone      = errors.New("nobody can be asked for a code")
	ErrCancelled = errors.New("the prompt was canceled")
)

// device is an MFA device, with the key that it belongs to and the endpoint that gets its code. A code that was
// given for AWS is never sent to the endpoint of another request.
type device struct{ keyID, serial, endpoint string }

// waiter is a request that waits for a code of a device. It may have a place to prompt at, or bring a code.
type waiter struct {
	terminal Terminal      // nil for none
	window   Prompter      // nil for none
	code     secret.String // cleared when it is taken: a code is for one call
	first    bool          // the person wants the prompt here: typed a login, or took the prompt over
	source   string
	tell     func(line string) // nil if no client listens
	client   Client            // nil if it cannot disconnect, and once it is watched: from the first prompt on
	waiting  context.Context
	end      context.CancelCauseFunc
}

// place is where a code can be had: from a program, or from one of the waiters.
type place struct {
	program Prompter
	of      func(*waiter) Prompter
}

func (g *waiter) atTerminal() Prompter {
	if g.terminal == nil {
		return nil
	}
	return g.terminal
}

func (g *waiter) atWindow() Prompter { return g.window }

// prompts holds the requests that wait for a code. For all of them it shows one prompt, at one terminal, and tells
// the other terminals where. The prompt moves to the next place if the first disconnects or declines, and to a
// terminal at which a person takes it over. A code that another request brings meanwhile (`broker login --code`)
// answers the prompt.
type prompts struct {
	mu     sync.Mutex
	queues map[device]*queue
}

// queue holds the requests that wait for one device.
type queue struct {
	waiters []*waiter
	changed chan struct{} // signaled when a waiter comes, leaves, brings a code or wants the prompt
	source  string        // of the prompt; empty before the first one
	turn    chan struct{} // holds one token: the fetch that has it may prompt
	asking  int           // fetches that have the token or wait for it
}

// wait adds a request to the waiters until leave is called. The context ends with ErrCancelled as its cause if the
// person of that request declines.
func (d *prompts) wait(ctx context.Context, dev device, g *waiter) (waiting context.Context, leave func()) {
	g.waiting, g.end = context.WithCancelCause(ctx)
	d.mu.Lock()
	defer d.mu.Unlock()
	q := d.queueLocked(dev)
	q.waiters = append(q.waiters, g)
	q.signal()
	return g.waiting, func() {
		g.end(nil)
		d.mu.Lock()
		defer d.mu.Unlock()
		q.dropLocked(g)
		d.tidyLocked(dev, q)
	}
}

// dropLocked removes a waiter.
func (q *queue) dropLocked(g *waiter) {
	q.waiters = slices.DeleteFunc(q.waiters, func(other *waiter) bool { return other == g })
	q.signal()
}

func (q *queue) signal() {
	select {
	case q.changed <- struct{}{}:
	default:
	}
}

func (d *prompts) queueLocked(dev device) *queue {
	q := d.queues[dev]
	if q == nil {
		if d.queues == nil {
			d.queues = make(map[device]*queue)
		}
		q = &queue{changed: make(chan struct{}, 1), turn: make(chan struct{}, 1)}
		d.queues[dev] = q
	}
	return q
}

func (d *prompts) tidyLocked(dev device, q *queue) {
	if len(q.waiters) == 0 && q.asking == 0 {
		delete(d.queues, dev)
	}
}

// take returns a code that a waiter brought. It returns each code once.
func (d *prompts) take(q *queue) (secret.String, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, g := range q.waiters {
		if code := g.code; !code.IsZero() {
			g.code = secret.String{}
			return code, true
		}
	}
	return secret.String{}, false
}

// next returns the place to prompt at next, or nil if none is left. If the prompt moved, next prefers a terminal
// that wants it.
func (d *prompts) next(q *queue, order []place, asked map[Prompter]bool, moved bool) Prompter {
	d.mu.Lock()
	defer d.mu.Unlock()
	if moved {
		for _, g := range q.waiters {
			if g.wants(asked) {
				asked[g.terminal] = true
				return g.terminal
			}
		}
	}
	for _, at := range order {
		all := []Prompter{at.program}
		if at.of != nil {
			all = all[:0]
			for _, g := range q.waiters {
				all = append(all, at.of(g))
			}
		}
		for _, who := range all {
			if who != nil && !asked[who] {
				asked[who] = true
				return who
			}
		}
	}
	return nil
}

// wants reports whether the person at the waiter's terminal wants the prompt and has not had it yet.
func (g *waiter) wants(asked map[Prompter]bool) bool {
	return g.first && g.terminal != nil && !asked[g.terminal]
}

// code gets one code of a device: a code that a waiter brought, or else one from the places, in order. If no place
// is left, the error is ErrCancelled if a person declined, else ErrGone. It is ErrGone too if no request waits any
// more.
func (d *prompts) code(ctx context.Context, dev device, prompt Prompt, order []place) (secret.String, error) {
	d.mu.Lock()
	q := d.queueLocked(dev)
	q.asking++
	q.source = prompt.Source
	d.mu.Unlock()
	defer func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		q.asking--
		d.tidyLocked(dev, q)
	}()
	select {
	case q.turn <- struct{}{}:
		defer func() { <-q.turn }()
	case <-ctx.Done():
		return secret.String{}, ctx.Err()
	}
	asked, failed := map[Prompter]bool{}, ErrGone
	for moved := false; ; {
		if code, ok := d.take(q); ok {
			return code, nil
		}
		who := d.next(q, order, asked, moved)
		if who == nil {
			return secret.String{}, failed
		}
		code, err := d.put(ctx, q, who, prompt, asked)
		moved = errors.Is(err, errMoved)
		switch {
		case errors.Is(err, ErrCancelled):
			failed = ErrCancelled
			d.mu.Lock()
			q.refuseLocked(who, asked)
			d.mu.Unlock()
		case !moved && !errors.Is(err, ErrGone):
			return code, err
		}
	}
}

// errMoved means that the prompt moves to a terminal that wants it.
var errMoved = errors.New("the prompt moves")

// put prompts at one place. It stops early if a waiter brings the code or wants the prompt elsewhere.
func (d *prompts) put(
	ctx context.Context, q *queue, who Prompter, prompt Prompt, asked map[Prompter]bool,
) (secret.String, error) {
	var offers sync.WaitGroup
	defer offers.Wait() // a terminal shows one prompt at a time
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type answer struct {
		code secret.String
		err  error
	}
	answered := make(chan answer, 1)
	go func() {
		code, err := who.Ask(ctx, prompt)
		answered <- answer{code, err}
	}()
	seat, program := who.Seat()
	person := seat != "" || program != ""
	told := map[string]bool{seat: true}
	for {
		d.watch(q)
		if person {
			d.offer(ctx, q, who, prompt, asked, told, &offers)
		}
		select {
		case a := <-answered:
			return a.code, a.err
		case <-q.changed:
			code, ok := d.take(q)
			gone := person && !d.here(q, who)
			if !ok && !gone && !d.wanted(q, asked) {
				continue
			}
			cancel()
			<-answered // wait until the prompt is off the screen
			switch {
			case ok:
				return code, nil
			case gone:
				return secret.String{}, ErrGone
			}
			d.mu.Lock()
			delete(asked, who) // it was not answered there, so it may come back
			for _, g := range q.waiters {
				g.first = g.first && g.terminal != who
			}
			d.mu.Unlock()
			return secret.String{}, errMoved
		}
	}
}

// watch starts to watch the waiting clients, and removes those that disconnect.
func (d *prompts) watch(q *queue) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, g := range q.waiters {
		if g.client == nil {
			continue
		}
		client := g.client
		g.client = nil
		client.Watch(g.waiting, func() {
			d.mu.Lock()
			defer d.mu.Unlock()
			g.end(ErrGone)
			q.dropLocked(g)
		})
	}
}

// here reports whether a place belongs to a request that still waits.
func (d *prompts) here(q *queue, who Prompter) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.ContainsFunc(q.waiters, func(g *waiter) bool { return g.atTerminal() == who || g.window == who })
}

// wanted reports whether a person wants the prompt at another terminal.
func (d *prompts) wanted(q *queue, asked map[Prompter]bool) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.ContainsFunc(q.waiters, func(g *waiter) bool { return g.wants(asked) })
}

// offer tells each terminal that was not told yet where the prompt is open. Each offer lasts until ctx ends.
func (d *prompts) offer(
	ctx context.Context, q *queue, who Prompter, prompt Prompt, asked map[Prompter]bool, told map[string]bool,
	offers *sync.WaitGroup,
) {
	d.mu.Lock()
	defer d.mu.Unlock()
	at, program := who.Seat()
	for _, g := range q.waiters {
		if g.terminal == nil || g.first || asked[g.terminal] {
			continue
		}
		seat, _ := g.terminal.Seat()
		if seat == "" || told[seat] {
			continue
		}
		told[seat] = true
		offers.Go(func() {
			code, err := g.terminal.Offer(ctx, prompt, at, program)
			d.mu.Lock()
			defer d.mu.Unlock()
			switch {
			case errors.Is(err, ErrCancelled):
				q.refuseLocked(g.terminal, asked)
			case err != nil:
				return
			default:
				g.code, g.first = code, true
				delete(asked, g.terminal)
			}
			q.signal()
		})
	}
}

// refuseLocked ends the requests that the person declined: those of the same terminal, and those of the same
// window that have no other terminal to prompt at.
func (q *queue) refuseLocked(who Prompter, asked map[Prompter]bool) {
	seat, _ := who.Seat()
	at := func(a Prompter) bool {
		if a == nil {
			return false
		}
		its, _ := a.Seat()
		return a == who || seat != "" && its == seat
	}
	q.waiters = slices.DeleteFunc(q.waiters, func(g *waiter) bool {
		no := at(g.atTerminal()) || at(g.window) && (g.terminal == nil || asked[g.terminal])
		if no {
			g.end(ErrCancelled)
		}
		return no
	})
}

// waiting lists the devices whose codes requests wait for, sorted by source.
func (d *prompts) waiting() []Waiting {
	d.mu.Lock()
	defer d.mu.Unlock()
	var list []Waiting
	for dev, q := range d.queues {
		if q.asking > 0 {
			list = append(list, Waiting{Source: q.source, Device: dev.serial, Requests: len(q.waiters)})
		}
	}
	slices.SortFunc(list, func(a, b Waiting) int { return cmp.Compare(a.Source, b.Source) })
	return list
}

// listeners returns the Tell functions of the requests that wait for a source.
func (d *prompts) listeners(source string) []func(string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var all []func(string)
	for _, q := range d.queues {
		for _, g := range q.waiters {
			if g.source == source && g.tell != nil {
				all = append(all, g.tell)
			}
		}
	}
	return all
}

// brought reports whether a waiter has brought a code of the device.
func (d *prompts) brought(dev device) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	q := d.queues[dev]
	return q != nil && slices.ContainsFunc(q.waiters, func(g *waiter) bool { return !g.code.IsZero() })
}

// open reports whether a fetch waits for a code of the device.
func (d *prompts) open(dev device) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	q := d.queues[dev]
	return q != nil && q.asking > 0
}
