package session

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"

	"broker/internal/secret"
)

// Question is what a person is asked: the next code of a device.
type Question struct {
	Device string // MFA serial
	Source string
	Reason string // why it is asked again; empty at first
	// Endpoint is where the code goes; empty for AWS's own of the region.
	Endpoint string
}

// Asker is a person who can be asked: at the terminal of a request, or at a window.
type Asker interface {
	// Ask puts one question and returns the code. It returns ErrGone where nobody can be
	// asked there (any more) and ErrCancelled where the person said no. When ctx ends it gives
	// up with the error of ctx and leaves no question behind.
	Ask(ctx context.Context, q Question) (secret.String, error)
}

// What an Asker says instead of a code.
var (
	ErrGone      = errors.New("nobody is there to be asked")
	ErrCancelled = errors.New("the question was cancelled")
)

// device is an MFA device and the key that it goes with.
type device struct{ keyID, serial string }

// guest is a request that waits for a device: it may have somebody to ask, or bring a code.
type guest struct {
	terminal Asker         // nil for none
	window   Asker         // nil for none
	code     secret.String // emptied when it is taken: a code is for one call
	first    bool          // a login that was just typed: the person sits there, so he is asked there
	source   string
	tell     func(line string) // nil for nobody
}

// place is where a code may be had: of a program, or of one of those who wait.
type place struct {
	program Asker
	of      func(*guest) Asker
}

func (g *guest) atTerminal() Asker { return g.terminal }
func (g *guest) atWindow() Asker   { return g.window }

// desk is where the requests stand that wait for a code. It puts one question
// for all of them, at one terminal; at the next one where that goes away; and a
// code that somebody brings meanwhile (`broker login --code`) answers it.
type desk struct {
	mu     sync.Mutex
	queues map[device]*queue
}

// queue is one device that somebody waits for.
type queue struct {
	guests  []*guest
	arrived chan struct{} // signalled when a code was brought, or a login was typed
	source  string        // of the question; empty while none is open
	turn    chan struct{} // holds one token: who has it may ask
	asking  int           // fetches that have it, or wait for it
}

// wait lets a request stand at the desk until the returned function is called.
func (d *desk) wait(dev device, g *guest) (leave func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	q := d.queueLocked(dev)
	q.guests = append(q.guests, g)
	if !g.code.IsZero() || g.first {
		select {
		case q.arrived <- struct{}{}:
		default:
		}
	}
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		q.guests = slices.DeleteFunc(q.guests, func(other *guest) bool { return other == g })
		d.tidyLocked(dev, q)
	}
}

func (d *desk) queueLocked(dev device) *queue {
	q := d.queues[dev]
	if q == nil {
		if d.queues == nil {
			d.queues = make(map[device]*queue)
		}
		q = &queue{arrived: make(chan struct{}, 1), turn: make(chan struct{}, 1)}
		d.queues[dev] = q
	}
	return q
}

func (d *desk) tidyLocked(dev device, q *queue) {
	if len(q.guests) == 0 && q.asking == 0 {
		delete(d.queues, dev)
	}
}

// take returns a code that somebody brought, once.
func (d *desk) take(q *queue) (secret.String, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, g := range q.guests {
		if code := g.code; !code.IsZero() {
			g.code = secret.String{}
			return code, true
		}
	}
	return secret.String{}, false
}

// next is the first of those who wait that can be asked there and was not yet.
func (d *desk) next(q *queue, at place, asked map[Asker]bool) Asker {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, g := range q.guests {
		who := at.program
		if at.of != nil {
			who = at.of(g)
		}
		if who != nil && !asked[who] {
			return who
		}
	}
	return nil
}

// code gets one code of a device: one that was brought, else of the places in
// their order. Where nobody can be asked, or nobody waits any more, the error is ErrGone.
func (d *desk) code(ctx context.Context, dev device, question Question, order []place) (secret.String, error) {
	d.mu.Lock()
	q := d.queueLocked(dev)
	q.asking++
	q.source = question.Source
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
	if code, ok := d.take(q); ok {
		return code, nil
	}
	asked := map[Asker]bool{}
	for _, at := range order {
		for who := d.next(q, at, asked); who != nil; who = d.next(q, at, asked) {
			asked[who] = true
			code, err := d.put(ctx, q, who, question, asked)
			for errors.Is(err, errMoved) {
				if who = d.login(q, asked); who == nil {
					err = ErrGone // it left at once
					break
				}
				asked[who] = true
				code, err = d.put(ctx, q, who, question, asked)
			}
			if !errors.Is(err, ErrGone) {
				return code, err
			}
		}
	}
	// Somebody may have come while the last one was being asked.
	if code, ok := d.take(q); ok {
		return code, nil
	}
	return secret.String{}, ErrGone
}

// errMoved: the question goes to a terminal at which somebody has just typed a login.
var errMoved = errors.New("the question moves")

// put asks one person, unless somebody brings the code meanwhile, or types a login elsewhere.
func (d *desk) put(ctx context.Context, q *queue, who Asker, question Question, asked map[Asker]bool) (secret.String, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type answer struct {
		code secret.String
		err  error
	}
	answered := make(chan answer, 1)
	go func() {
		code, err := who.Ask(ctx, question)
		answered <- answer{code, err}
	}()
	for {
		select {
		case a := <-answered:
			return a.code, a.err
		case <-q.arrived:
			code, ok := d.take(q)
			if !ok && d.login(q, asked) == nil {
				continue
			}
			cancel()
			<-answered // so that the question is off the screen
			if !ok {
				return secret.String{}, errMoved
			}
			return code, nil
		}
	}
}

// login is the terminal of a login that was typed and not asked yet.
func (d *desk) login(q *queue, asked map[Asker]bool) Asker {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, g := range q.guests {
		if g.first && !asked[g.terminal] {
			return g.terminal
		}
	}
	return nil
}

// waiting lists the devices of which a code is being waited for, by source.
func (d *desk) waiting() []Waiting {
	d.mu.Lock()
	defer d.mu.Unlock()
	var list []Waiting
	for dev, q := range d.queues {
		if q.asking > 0 {
			list = append(list, Waiting{Source: q.source, Device: dev.serial, Requests: len(q.guests)})
		}
	}
	slices.SortFunc(list, func(a, b Waiting) int { return cmp.Compare(a.Source, b.Source) })
	return list
}

// listeners are those who wait for a source and can be told why.
func (d *desk) listeners(source string) []func(string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var all []func(string)
	for _, q := range d.queues {
		for _, g := range q.guests {
			if g.source == source && g.tell != nil {
				all = append(all, g.tell)
			}
		}
	}
	return all
}

// brought reports whether somebody stands there with a code.
func (d *desk) brought(dev device) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	q := d.queues[dev]
	return q != nil && slices.ContainsFunc(q.guests, func(g *guest) bool { return !g.code.IsZero() })
}

// open reports whether a code of the device is being waited for.
func (d *desk) open(dev device) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	q := d.queues[dev]
	return q != nil && q.asking > 0
}
