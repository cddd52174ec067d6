package grant

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"broker/internal/agent"
	"broker/internal/audit"
	"broker/internal/fault"
	"broker/internal/paths"
	"broker/internal/peer"
	"broker/internal/profiles"
	"broker/internal/session"
	"broker/internal/wire"
)

// Terms are the terms of a door, in the form of the record.
type Terms struct {
	Name      string `json:"name"`
	ReadOnly  bool   `json:"read_only,omitempty"`
	MaxTTL    int    `json:"max_ttl_seconds,omitempty"`
	Container bool   `json:"container,omitempty"`
	Region    string `json:"region,omitempty"` // of the first profile
	// Desktop is where a window of the door appears, as in wire.Request.
	Desktop string `json:"desktop,omitempty"`
	// UntilBoot is Until on the clock since boot, which a change of the wall clock does not move.
	UntilBoot time.Duration `json:"until_boot_ns,omitempty"`
}

const (
	// maxName and maxDesktop are in bytes.
	maxName    = 64
	maxDesktop = 1 << 10
	// maxDoors and maxLent limit the doors of a daemon, and the profiles of a door.
	maxDoors = 50
	maxLent  = 100
	// maxAddress is the longest path of a socket to which all systems can connect: sun_path of unix(7) on macOS, without
	// the final NUL.
	maxAddress = 103
	// forwarded is the program of a door that belongs to no process.
	forwarded = "forward"
	// ownedPrefix begins the names of doors that belong to a process.
	ownedPrefix = "exec-"
)

// isDoorName reports whether a text may be the name of a door, which is also the name of its directory.
func isDoorName(name string) bool {
	letter := func(r rune) bool { return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' }
	return name != "" && len(name) <= maxName && letter(rune(name[0])) &&
		!strings.ContainsFunc(name, func(r rune) bool { return !letter(r) && !strings.ContainsRune("_.-", r) })
}

// OpenDoor opens a door for the sessions of the profiles of the request. It fetches the sessions first, which may
// prompt for a code, and hands out none of them.
func (k *Keeper) OpenDoor(ctx context.Context, a Request, req *wire.Request, reply func(wire.Response) error) error {
	if runtime.GOOS == "windows" {
		return fault.New(fault.Failed, "Broker opens no door on Windows, where it cannot tell which user connects")
	}
	h, err := k.newDoor(&a, req)
	if err != nil {
		return err
	}
	a.Event, a.Delivery, a.Door = "door", audit.Door, h.Door.Name
	a.Get = k.withoutSession
	return k.Give(ctx, a, func(answers []session.Answer) error {
		h.Sources, h.Door.Region = sources(nil, answers), answers[0].Region
		for i := range answers {
			h.Agent = cmp.Or(h.Agent, answers[i].Agent)
		}
		if err := k.doors.open(h); err != nil {
			return err
		}
		door := k.door(h)
		err := reply(wire.Response{Door: &door, Warnings: Lines(answers[0].Warnings)})
		if err != nil {
			_ = k.end(h) // the loop retries
		}
		return err
	})
}

// newDoor returns the door that a request asks for, and narrows the sessions of the request to what the door lends.
func (k *Keeper) newDoor(a *Request, req *wire.Request) (*held, error) {
	terms := wire.DoorTerms{}
	if req.Door != nil {
		terms = *req.Door
	}
	if err := checkTerms(terms, req.For); err != nil {
		return nil, err
	}
	first := a.Requests[0]
	h := &held{Grant: Grant{ID: randomHex(16), Kind: Door, Since: wholeSeconds(), Program: forwarded,
		AWSConfig: first.Files.Config, AWSCredentials: first.Files.Credentials,
		Door: &Terms{Name: terms.Name, ReadOnly: terms.ReadOnly, MaxTTL: terms.MaxTTL, Container: terms.Container}},
		next: time.Now().Add(renewInterval), over: make(chan struct{}), said: new(refusals)}
	if len(req.Desktop) <= maxDesktop {
		h.Door.Desktop = req.Desktop
	}
	if req.For > 0 {
		h.Until, h.Door.UntilBoot = time.Now().Add(req.For).Round(0), k.BootTime()+req.For
	}
	if terms.Name == "" {
		owner, err := peer.Find(a.By.PID)
		if err != nil {
			return nil, fault.New(fault.Failed, "find the process that asks for a door: %w", err)
		}
		h.Owner, h.Program = owner, cmp.Or(peer.ToolOf(owner.Arguments()), programOf(first), "a program")
		h.Door.Name = k.doors.nameFor(owner.PID)
	}
	h.Dir = filepath.Join(k.DoorsDir, h.Door.Name)
	if err := k.doors.check(h); err != nil {
		return nil, err
	}
	set, err := k.Store.Load(first.Files)
	if err != nil {
		return nil, err
	}
	var requests []session.Request
	for _, r := range a.Requests {
		chain, err := set.Resolve(r.Profile)
		if err == nil {
			err = lends(chain)
		}
		if err != nil {
			return nil, err
		}
		if slices.Contains(h.Profiles, chain.Profile) {
			continue
		}
		h.Profiles = append(h.Profiles, chain.Profile)
		r.Profile, r.MinTTL, r.AdHoc = chain.Profile, 0, nil
		h.narrow(&r)
		requests = append(requests, r)
	}
	if a.Requests = requests; len(requests) > maxLent {
		return nil, fault.New(fault.Usage, "a door lends at most %d profiles", maxLent)
	}
	return h, k.doors.readyFor(h)
}

// checkTerms checks what a client may say about a door.
func checkTerms(terms wire.DoorTerms, lasts time.Duration) error {
	ttl := time.Duration(terms.MaxTTL) * time.Second
	switch {
	case terms.Name != "" && !isDoorName(terms.Name):
		return fault.New(fault.Usage,
			"%q cannot be the name of a door; use at most %d letters, digits and _.-, and begin with a letter or a digit",
			fault.Short(terms.Name, maxName), maxName)
	case strings.HasPrefix(terms.Name, ownedPrefix):
		return fault.New(fault.Usage, "a door's name must not begin with %q", ownedPrefix)
	case terms.MaxTTL != 0 && (terms.MaxTTL < int(wire.MinRole.Seconds()) || terms.MaxTTL > int(wire.MaxRole.Seconds())):
		return fault.New(fault.Usage, "AWS gives sessions for 15m to 12h, not for %s", profiles.FormatDuration(ttl))
	case lasts < 0 || lasts > wire.MaxDoorFor:
		return fault.New(fault.Usage, "a door can be open for at most %s", profiles.FormatDuration(wire.MaxDoorFor))
	case lasts == 0 && terms.Name != "":
		return fault.New(fault.Usage, "a door with a name needs a time for which it is open, such as --for 8h")
	}
	return nil
}

// lends returns why a door cannot lend the session of a profile. The session of a source has all rights of its user,
// and with it anybody could assume the other roles of that user.
func lends(chain profiles.Chain) error {
	if len(chain.Roles) > 0 || chain.Assignment != nil {
		return nil
	}
	return fault.New(fault.Usage, "a door lends role sessions only, and %s has no role", fault.Line(chain.Profile)).
		WithHint("broker profiles show %s", chain.Profile)
}

// narrow sets what the terms of a door say about a session.
func (g *Grant) narrow(r *session.Request) {
	r.Limit = session.Limit{ReadOnly: g.Door.ReadOnly, RoleOnly: true, MaxTTL: g.maxTTL(), For: g.Program}
	r.Agent = cmp.Or(g.Agent, r.Agent)
	r.Program = func() string { return g.Program }
}

func (g *Grant) maxTTL() time.Duration { return time.Duration(g.Door.MaxTTL) * time.Second }

// Lent is a request over a door.
type Lent struct {
	Request
	Desktop string // where a window appears; may be empty
	Program string // for whom the session is, in the words of a prompt
}

// Lend returns the Request for a client of the door with this id, which asks for a profile. Of what the client says,
// only the profile, the least lifetime and the agent count. The error is for the client; it is recorded.
func (k *Keeper) Lend(id string, req *wire.Request, by Caller) (Lent, error) {
	h := k.doors.find(id)
	if h == nil {
		return Lent{}, errClosed
	}
	a := Request{Event: "given", By: by, Delivery: audit.Door, Door: h.Door.Name, door: h}
	r := session.Request{Profile: req.Profile, Files: h.files(k.Files), MinTTL: max(req.MinTTL, 0),
		Agent: agent.Named(req.Agent)}
	h.narrow(&r)
	a.Requests = []session.Request{r}
	exact, lasts, err := k.lent(h, req.Profile)
	if limit := min(cmp.Or(h.maxTTL(), wire.MaxRole), lasts); err == nil && r.MinTTL > limit {
		err = forDoor(fault.New(fault.Usage, "this door lends sessions of at most %s", profiles.FormatDuration(limit)))
	}
	if err != nil {
		return Lent{}, k.Refuse(id, req.Profile, by, err)
	}
	a.Requests[0].Profile = exact
	program := h.Program
	if h.Owner.PID == 0 {
		program = "the door " + h.Door.Name
	}
	return Lent{a, h.Door.Desktop, program}, nil
}

// Refuse records that a request over a door was refused, and returns err.
func (k *Keeper) Refuse(id, profile string, by Caller, err error) error {
	h := k.doors.find(id)
	if h == nil {
		return err
	}
	a := Request{By: by, Delivery: audit.Door, Door: h.Door.Name, door: h,
		Requests: []session.Request{{Profile: fault.Short(profile, maxName)}}}
	return k.refuse(&a, 0, new(session.Answer), err)
}

// lent returns the exact name of a profile that a door lends, and how long its sessions last at most: the far side must
// not choose a duration. The error does not say whether other profiles exist.
func (k *Keeper) lent(h *held, name string) (exact string, lasts time.Duration, err error) {
	exact, lasts = name, wire.MaxRole
	set, err := k.Store.Load(h.files(k.Files))
	if err == nil {
		var chain profiles.Chain
		if chain, err = set.Resolve(name); err == nil {
			exact, err = chain.Profile, lends(chain)
		}
		if n := len(chain.Roles); n > 0 {
			lasts = cmp.Or(chain.Roles[n-1].Duration, time.Hour)
		}
	}
	if !slices.Contains(h.Profiles, exact) {
		return "", 0, forDoor(fault.New(fault.NotFound, "this door lends %s, and nothing else",
			fault.Line(strings.Join(h.Profiles, ", "))))
	}
	return exact, lasts, err
}

// outsider is an error whose text was made for the far side of a door.
type outsider struct{ made *fault.Error }

func (o outsider) Error() string { return o.made.Error() }

func (o outsider) Unwrap() error { return o.made }

// ForDoor marks an error whose text may leave over a door.
func ForDoor(err error) error {
	f := *fault.Of(err)
	f.Hint = ""
	return forDoor(&f)
}

func forDoor(err *fault.Error) error { return outsider{err} }

var errClosed = forDoor(fault.New(fault.Unreachable, "this door is closed"))

// Outside returns the error that the far side of a door gets for err. The profile is the one that it asked for. Texts
// of other packages may hold paths, names and addresses of this machine, so they stay here, in the audit log.
func Outside(err error, profile string) *fault.Error {
	if o, ok := errors.AsType[outsider](err); ok {
		return o.made
	}
	f := fault.Of(err)
	profile = fault.Short(profile, maxName)
	say := func(text string) *fault.Error { return fault.New(f.Kind, "%s", text) }
	switch f.Kind {
	case fault.Locked:
		return say("Broker is locked").WithHint("broker unlock")
	case fault.LoginNeeded, fault.CodeRejected, fault.ExpiredSession:
		return say("the session needs a code or a login").WithHint("broker login %s", profile)
	case fault.NotConfirmed:
		return say(fmt.Sprintf("the session of %s needs a confirmation", fault.Line(profile))).
			WithHint("broker allow %s --for 15m --everywhere --reason WHY", profile)
	case fault.Denied:
		return say(fmt.Sprintf("the session of %s was denied", fault.Line(profile))).WithHint("broker log")
	}
	return say(fmt.Sprintf("there is no session of %s now", fault.Line(profile))).WithHint("broker log")
}

// closed returns why a door hands out nothing now, or nil. Without a door it is nil.
func (k *Keeper) closed(h *held) error {
	if h == nil {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case h.Ended || k.isOver(h, time.Now()):
		return errClosed
	case len(h.LoggedOut) > 0:
		return loggedOut(h.LoggedOut[0])
	}
	return nil
}

// handsOut records that a door is about to hand out sessions.
func (k *Keeper) handsOut(h *held, answers []session.Answer) {
	if h == nil {
		return
	}
	k.serves(h, answers)
	k.mu.Lock()
	h.given++
	k.mu.Unlock()
}

// isOver reports whether the time of a grant is over, by the wall clock or, for a door, by the clock since boot.
func (k *Keeper) isOver(h *held, now time.Time) bool {
	return !h.Until.IsZero() && !now.Before(h.Until) ||
		h.Door != nil && h.Door.UntilBoot != 0 && k.BootTime() >= h.Door.UntilBoot
}

// CloseDoor closes the door of a name.
func (k *Keeper) CloseDoor(name string) error {
	h := k.doors.named(name)
	if h == nil {
		return noDoor(name)
	}
	return k.end(h)
}

func noDoor(name string) error {
	return fault.New(fault.NotFound, "there is no door %q", fault.Short(name, maxName)).WithHint("broker forward list")
}

// DoorOf returns the id of the door of a name, its owner, which is zero for none, and a channel that is closed when the
// door has ended.
func (k *Keeper) DoorOf(name string) (id string, owner peer.Process, ended <-chan struct{}, err error) {
	h := k.doors.named(name)
	if h == nil {
		return "", peer.Process{}, nil, noDoor(name)
	}
	return h.ID, h.Owner, h.over, nil
}

// Doors returns the doors that are open, sorted by name.
func (k *Keeper) Doors() (list []wire.Door) {
	for _, h := range k.copies() {
		if h.Kind == Door && !h.Ended {
			list = append(list, k.door(&h))
		}
	}
	slices.SortFunc(list, func(a, b wire.Door) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// door returns what clients get to know about a door.
func (k *Keeper) door(h *held) wire.Door {
	d := wire.Door{Name: h.Door.Name, Dir: h.Dir, Profiles: h.Profiles, Region: h.Door.Region, ReadOnly: h.Door.ReadOnly,
		MaxTTL: h.Door.MaxTTL, Container: h.Door.Container, PID: h.Owner.PID, Program: fault.Line(h.Program),
		Since: h.Since, Given: h.given}
	if !h.Until.IsZero() {
		d.Until = &h.Until
	}
	switch {
	case len(h.LoggedOut) > 0:
		d.Error = "logged out"
	case h.broken != nil:
		d.Error = fault.Line(h.broken.Error())
	case h.err != nil:
		d.Error = fault.Line(h.err.Error())
	}
	return d
}

// recordClosed records the end of a door, and lets those know who attend it.
func (k *Keeper) recordClosed(h *held) {
	if h.over != nil {
		close(h.over)
	}
	reason := "closed"
	switch {
	case h.abandoned():
		reason = "its program has ended"
	case k.isOver(h, time.Now()):
		reason = "its time is over"
	}
	_ = k.Audit.Record(audit.Event{Event: "door_closed", Profile: strings.Join(h.Profiles, ","), Delivery: audit.Door,
		UID: os.Getuid(), PID: os.Getpid(), Door: h.Door.Name, Reason: reason})
}

// isDoorDir reports whether the directory of a door has the door's name, in a directory of doors.
func (g *Grant) isDoorDir() bool {
	return filepath.IsAbs(g.Dir) && filepath.Clean(g.Dir) == g.Dir && filepath.Base(g.Dir) == g.Door.Name &&
		filepath.Base(filepath.Dir(g.Dir)) == filepath.Base(paths.Paths{}.Doors())
}
