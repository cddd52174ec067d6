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
	// Seat names the place, such as "pts/1": what was said there is said for all requests of that place. who is the
	// program that asks, for people. The seat is empty if the system does not tell, and for what is no person.
	Seat() (seat, who string)
}

// Terminal is an Asker that can be told where the question stands, and take it over.
type Terminal interface {
	Asker
	// Offer says that q stands at another seat, where the program who asks, until the person here wants to be asked, or
	// ctx ends. It may return the code itself. The errors are those of Ask.
	Offer(ctx context.Context, q Question, seat, who string) (secret.String, error)
}

// Client is who waits for the answer to a request.
type Client interface {
	// Watch calls gone, from a goroutine of its own, if the client goes away before ctx ends.
	Watch(ctx context.Context, gone func())
}

// What an Asker says instead of a code.
var (
	ErrGone      = errors.New("nobody is there to be asked")
	ErrCancelled = errors.New("the question was cancelled")
)

// device is an MFA device, the key that it goes with, and where its code goes: one that was given for AWS is never sent
// to the endpoint of another request.
type device struct{ keyID, serial, endpoint string }

// guest is a request that waits for a device: it may have somebody to ask, or bring a code.
type guest struct {
	terminal Terminal      // nil for none
	window   Asker         // nil for none
	code     secret.String // emptied when it is taken: a code is for one call
	first    bool          // the person wants to be asked here: has typed a login, or taken the question over
	source   string
	tell     func(line string) // nil for nobody
	client   Client            // nil where nobody can go, and once it is watched: at the first question
	waiting  context.Context
	end      context.CancelCauseFunc
}

// place is where a code may be had: of a program, or of one of those who wait.
type place struct {
	program Asker
	of      func(*guest) Asker
}

func (g *guest) atTerminal() Asker {
	if g.terminal == nil {
		return nil
	}
	return g.terminal
}

func (g *guest) atWindow() Asker { return g.window }

// desk is where the requests stand that wait for a code. It puts one question for all of them, at one terminal, and
// tells the other terminals where. It goes to the next place where the first goes away or says no, and to a terminal at
// which somebody takes it over. A code that somebody brings meanwhile (`broker login --code`) answers it.
type desk struct {
	mu     sync.Mutex
	queues map[device]*queue
}

// queue is one device that somebody waits for.
type queue struct {
	guests  []*guest
	changed chan struct{} // signalled when a guest has come or gone, brought a code, or wants to be asked
	source  string        // of the question; empty while none is open
	turn    chan struct{} // holds one token: who has it may ask
	asking  int           // fetches that have it, or wait for it
}

// wait lets a request stand at the desk until leave is called. The context ends with ErrCancelled as its cause if the
// person of that request says no.
func (d *desk) wait(ctx context.Context, dev device, g *guest) (waiting context.Context, leave func()) {
	g.waiting, g.end = context.WithCancelCause(ctx)
	d.mu.Lock()
	defer d.mu.Unlock()
	q := d.queueLocked(dev)
	q.guests = append(q.guests, g)
	q.signal()
	return g.waiting, func() {
		g.end(nil)
		d.mu.Lock()
		defer d.mu.Unlock()
		q.dropLocked(g)
		d.tidyLocked(dev, q)
	}
}

// dropLocked lets a guest go.
func (q *queue) dropLocked(g *guest) {
	q.guests = slices.DeleteFunc(q.guests, func(other *guest) bool { return other == g })
	q.signal()
}

func (q *queue) signal() {
	select {
	case q.changed <- struct{}{}:
	default:
	}
}

func (d *desk) queueLocked(dev device) *queue {
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

// next is who is asked next, if there is anybody left. If the question moved, it is who wants it.
func (d *desk) next(q *queue, order []place, asked map[Asker]bool, moved bool) Asker {
	d.mu.Lock()
	defer d.mu.Unlock()
	if moved {
		for _, g := range q.guests {
			if g.wants(asked) {
				asked[g.terminal] = true
				return g.terminal
			}
		}
	}
	for _, at := range order {
		all := []Asker{at.program}
		if at.of != nil {
			all = all[:0]
			for _, g := range q.guests {
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

// wants reports whether the person at the terminal of a guest wants to be asked there and was not yet.
func (g *guest) wants(asked map[Asker]bool) bool {
	return g.first && g.terminal != nil && !asked[g.terminal]
}

// code gets one code of a device: one that was brought, else of the places in their order. The error is ErrCancelled
// if there is nobody left and a person said no, ErrGone if nobody could be asked, or nobody waits any more.
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
	asked, failed := map[Asker]bool{}, ErrGone
	for moved := false; ; {
		if code, ok := d.take(q); ok {
			return code, nil
		}
		who := d.next(q, order, asked, moved)
		if who == nil {
			return secret.String{}, failed
		}
		code, err := d.put(ctx, q, who, question, asked)
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

// errMoved: the question goes to a terminal at which somebody wants it.
var errMoved = errors.New("the question moves")

// put asks one person, unless somebody brings the code meanwhile, or wants to be asked elsewhere.
func (d *desk) put(
	ctx context.Context, q *queue, who Asker, question Question, asked map[Asker]bool,
) (secret.String, error) {
	var offers sync.WaitGroup
	defer offers.Wait() // a terminal has one question at a time
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
	seat, program := who.Seat()
	person := seat != "" || program != ""
	told := map[string]bool{seat: true}
	for {
		d.watch(q)
		if person {
			d.offer(ctx, q, who, question, asked, told, &offers)
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
			<-answered // so that the question is off the screen
			switch {
			case ok:
				return code, nil
			case gone:
				return secret.String{}, ErrGone
			}
			d.mu.Lock()
			delete(asked, who) // it was not answered there, and can come back
			for _, g := range q.guests {
				g.first = g.first && g.terminal != who
			}
			d.mu.Unlock()
			return secret.String{}, errMoved
		}
	}
}

// watch notices when a client goes away that waits.
func (d *desk) watch(q *queue) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, g := range q.guests {
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

// here reports whether a place is one of somebody who waits.
func (d *desk) here(q *queue, who Asker) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.ContainsFunc(q.guests, func(g *guest) bool { return g.atTerminal() == who || g.window == who })
}

// wanted reports whether somebody wants to be asked elsewhere.
func (d *desk) wanted(q *queue, asked map[Asker]bool) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.ContainsFunc(q.guests, func(g *guest) bool { return g.wants(asked) })
}

// offer tells each terminal that was not told yet where the question stands, until ctx ends.
func (d *desk) offer(
	ctx context.Context, q *queue, who Asker, question Question, asked map[Asker]bool, told map[string]bool,
	offers *sync.WaitGroup,
) {
	d.mu.Lock()
	defer d.mu.Unlock()
	at, program := who.Seat()
	for _, g := range q.guests {
		if g.terminal == nil || g.first || asked[g.terminal] {
			continue
		}
		seat, _ := g.terminal.Seat()
		if seat == "" || told[seat] {
			continue
		}
		told[seat] = true
		offers.Go(func() {
			code, err := g.terminal.Offer(ctx, question, at, program)
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

// refuseLocked ends the requests for which a person said no: those of the same terminal, and those of the same window
// that have no terminal left to be asked at.
func (q *queue) refuseLocked(who Asker, asked map[Asker]bool) {
	seat, _ := who.Seat()
	at := func(a Asker) bool {
		if a == nil {
			return false
		}
		its, _ := a.Seat()
		return a == who || seat != "" && its == seat
	}
	q.guests = slices.DeleteFunc(q.guests, func(g *guest) bool {
		no := at(g.atTerminal()) || at(g.window) && (g.terminal == nil || asked[g.terminal])
		if no {
			g.end(ErrCancelled)
		}
		return no
	})
}

// waiting lists the devices whose code is being waited for, by source.
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
