package grant

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"broker/internal/fault"
	"broker/internal/record"
	"broker/internal/socket"
	"broker/internal/wire"
)

// Doorman answers the clients of doors. It is implemented by the daemon.
type Doorman interface {
	// Serve answers the connections of a door until its listener is closed, and returns at once. With anybody,
	// processes of any uid are served. Requests end with ctx.
	Serve(ctx context.Context, id, name string, anybody bool, l *net.UnixListener) Visits
}

// Visits are the connections of one door.
type Visits interface {
	// Cut closes all connections, and ends their requests.
	Cut()
	// End is Cut after the listener was closed for good.
	End()
	// Drain waits for running requests, at most this long, and then closes all connections. Call it once the listener is
	// closed.
	Drain(patience time.Duration)
}

// doors holds the sockets of all doors. Each door has a directory of its own below the runtime directory. The directory
// stays the same for the life of the door, because a container may have mounted it.
type doors struct {
	k *Keeper

	mu        sync.Mutex
	stopped   bool
	served    map[string]*doorway          // by the id of the grant
	inherited map[string]*net.UnixListener // the same, from the previous daemon, until we serve on them
}

// doorway is the socket of one door.
type doorway struct {
	listener *net.UnixListener
	bound    fs.FileInfo // the socket file as it was when we began to serve
	visits   Visits
}

func (d *doors) init(k *Keeper) {
	d.k, d.served = k, map[string]*doorway{}
}

// find returns the door with an id, unless it has ended.
func (d *doors) find(id string) *held {
	d.k.mu.Lock()
	defer d.k.mu.Unlock()
	if h := d.k.grants[id]; h != nil && h.Kind == Door && !h.Ended {
		return h
	}
	return nil
}

// named returns the door of a name, or nil.
func (d *doors) named(name string) *held {
	list := d.k.all(func(h *held) bool { return h.Kind == Door && !h.Ended && h.Door.Name == name })
	if len(list) == 0 {
		return nil
	}
	return list[0]
}

// nameFor returns a name for a door of a process.
func (d *doors) nameFor(pid int) string {
	name := ownedPrefix + strconv.Itoa(pid)
	for n := 2; d.taken(name); n++ {
		name = fmt.Sprintf("%s%d-%d", ownedPrefix, pid, n)
	}
	return name
}

// taken reports whether a door has the name, or something else its directory.
func (d *doors) taken(name string) bool {
	_, err := os.Lstat(filepath.Join(d.k.DoorsDir, name))
	return err == nil || d.named(name) != nil
}

// check returns why a door cannot be opened, before anybody is asked for a code.
func (d *doors) check(h *held) error {
	if path := filepath.Join(h.Dir, wire.DoorSocket); len(path) > maxAddress {
		return fault.New(fault.Usage,
			"the path of the door's socket has %d bytes, and some programs cannot connect to more than %d: %s; "+
				"choose a shorter name, or a shorter BROKER_RUNTIME_DIR", len(path), maxAddress, fault.Line(path))
	}
	switch {
	case d.named(h.Door.Name) != nil:
		return fault.New(fault.Failed, "there is a door %s already; close it, or choose another name with --name",
			h.Door.Name).
			WithHint("broker forward close %s", h.Door.Name)
	case d.taken(h.Door.Name):
		return fault.New(fault.Failed, "%s exists, but it is not a door of this daemon", h.Dir).WithHint("ls -la %s", h.Dir)
	case len(d.k.all(func(h *held) bool { return h.Kind == Door })) >= maxDoors:
		return fault.New(fault.Failed, "%d doors are open, which is the limit; close one first", maxDoors).
			WithHint("broker forward list")
	}
	return nil
}

// open makes the directory of a door, listens there, and adds the door to the grants.
func (d *doors) open(h *held) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stopped {
		return fault.New(fault.Failed, "the daemon is stopping; try again")
	}
	if err := d.check(h); err != nil { // again: a person may have been asked meanwhile
		return err
	}
	err := d.makeLocked(h)
	if err == nil {
		if err = d.k.add(h); err == nil {
			if err = d.listenLocked(h); err == nil {
				return nil
			}
		}
	}
	d.k.mu.Lock()
	delete(d.k.grants, h.ID)
	if h.unwatch != nil {
		h.unwatch()
	}
	_ = d.k.saveLocked()
	d.k.mu.Unlock()
	return errors.Join(fault.New(fault.Failed, "open the door: %w", err), h.removeDir())
}

// makeLocked makes the directory of a door, with its files.
func (d *doors) makeLocked(h *held) error {
	all, err := makeAll(filepath.Dir(h.Dir))
	if err != nil {
		return err
	}
	defer func() { _ = all.Close() }()
	dir, err := all.AddSub(filepath.Base(h.Dir))
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }()
	if h.Door.Container {
		if err := dir.File().Chmod(0o755); err != nil {
			return err
		}
	}
	return d.furnish(h, dir)
}

// listenLocked begins to serve on the socket of a door.
func (d *doors) listenLocked(h *held) error {
	all, err := openAll(filepath.Dir(h.Dir))
	if err != nil {
		return err
	}
	defer func() { _ = all.Close() }()
	deny, mode := record.Private, fs.FileMode(0o600)
	if h.Door.Container {
		deny, mode = record.Guarded, 0o666
	}
	dir, err := all.SubWith(filepath.Base(h.Dir), deny)
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }()
	w := &doorway{listener: d.inherited[h.ID]}
	delete(d.inherited, h.ID)
	if w.listener != nil {
		if w.bound, err = dir.Lstat(wire.DoorSocket); err != nil { // it was removed, so no client could find it
			_ = w.listener.Close()
			w.listener = nil
		}
	}
	if w.listener == nil {
		if w.listener, w.bound, err = socket.Bind(dir, filepath.Join(h.Dir, wire.DoorSocket), mode); err != nil {
			return err
		}
	}
	w.visits = d.k.Doorman.Serve(d.k.life, h.ID, h.Door.Name, h.Door.Container, w.listener)
	d.served[h.ID] = w
	return nil
}

// inPlace reports whether clients find our socket.
func (w *doorway) inPlace(h *held) bool {
	found, err := os.Lstat(filepath.Join(h.Dir, wire.DoorSocket))
	// Inode numbers are reused soon; creation times are not.
	return err == nil && os.SameFile(w.bound, found) && w.bound.ModTime().Equal(found.ModTime())
}

// begin serves the doors that were adopted.
func (d *doors) begin(inherited map[string]*net.UnixListener) {
	d.mu.Lock()
	d.inherited = inherited
	d.mu.Unlock()
	d.look()
	d.mu.Lock()
	defer d.mu.Unlock()
	for id, l := range d.inherited {
		_ = l.Close() // the door has ended meanwhile
		delete(d.inherited, id)
	}
}

// look listens for each door whose socket is missing. It retries each second.
func (d *doors) look() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stopped {
		return
	}
	for _, h := range d.k.all(func(h *held) bool { return h.Kind == Door && !h.Ended }) {
		w := d.served[h.ID]
		if w != nil && w.inPlace(h) {
			continue
		}
		if w != nil {
			_ = w.listener.Close()
			w.visits.End()
		}
		_, err := os.Lstat(h.Dir)
		if errors.Is(err, fs.ErrNotExist) {
			err = d.makeLocked(h)
		}
		if err == nil {
			err = d.listenLocked(h)
		}
		d.k.mu.Lock()
		isNew := err != nil && (h.broken == nil || h.broken.Error() != err.Error())
		h.broken = err
		d.k.mu.Unlock()
		if isNew {
			d.k.Log.Error("a door cannot be used", "door", h.Door.Name, "err", err)
		}
	}
}

// cut closes the connections of the doors that match.
func (d *doors) cut(match func(*held) bool) {
	list := d.k.all(func(h *held) bool { return h.Kind == Door && match(h) })
	d.mu.Lock()
	var visits []Visits
	for _, h := range list {
		if w := d.served[h.ID]; w != nil {
			visits = append(visits, w.visits)
		}
	}
	d.mu.Unlock()
	for _, v := range visits {
		v.Cut()
	}
}

// remove closes a door that has ended, and removes its directory.
func (d *doors) remove(h *held) error {
	d.mu.Lock()
	w := d.served[h.ID]
	delete(d.served, h.ID)
	d.mu.Unlock()
	if w != nil {
		_ = w.listener.Close()
		w.visits.End()
	}
	return h.removeDir()
}

// stop closes all sockets. Running requests may take up to patience to finish. The doors stay for the next daemon.
func (d *doors) stop(patience time.Duration) {
	d.mu.Lock()
	d.stopped = true
	var visits sync.WaitGroup
	for _, w := range d.served {
		_ = w.listener.Close()
		visits.Go(func() { w.visits.Drain(patience) })
	}
	d.mu.Unlock()
	visits.Wait()
}

// DoorSockets returns the ids of the doors and their sockets, up to most of each. They stay open after Stop.
func (k *Keeper) DoorSockets(most int) (ids []string, files []*os.File, err error) {
	d := &k.doors
	d.mu.Lock()
	defer d.mu.Unlock()
	for id, w := range d.served {
		if len(ids) == most {
			break
		}
		f, err := w.listener.File()
		if err != nil {
			return nil, files, err
		}
		ids, files = append(ids, id), append(files, f)
	}
	return ids, files, nil
}

// sayable reports whether a refusal of a door may be recorded again.
func (h *held) sayable(profile string, kind fault.Kind) bool {
	text := string(kind)
	if slices.Contains(h.Profiles, profile) { // the far side can choose any other text
		text += " " + profile
	}
	return h.said.sayable(text)
}

// sweep removes the directories of doors that no record knows: a daemon was killed while it opened or closed them.
// Anything that a daemon would not have left stays, and is logged.
func (d *doors) sweep(theirs []string) {
	d.k.sweep(d.k.DoorsDir, "the doors", theirs, func(all *record.Dir, path string) error {
		if err := d.isLeft(all, filepath.Base(path)); err != nil {
			return err
		}
		return all.RemoveTree(filepath.Base(path))
	})
}

// isLeft returns why a directory is not one that a daemon left.
func (d *doors) isLeft(all *record.Dir, name string) error {
	if !isDoorName(name) {
		return errors.New("Broker does not use such a name")
	}
	dir, err := all.SubWith(name, record.Guarded)
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }()
	if err := dir.Sweep(); err != nil {
		return err
	}
	names, err := dir.Names()
	if err != nil {
		return err
	}
	for _, name := range names {
		if name != wire.DoorSocket && !slices.Contains(doorFiles, name) {
			return fmt.Errorf("it holds %q", name)
		}
	}
	if slices.Contains(names, wire.DoorSocket) && !nobody(filepath.Join(d.k.DoorsDir, name, wire.DoorSocket)) {
		return errors.New("another process listens there")
	}
	return nil
}
