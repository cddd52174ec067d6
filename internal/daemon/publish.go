package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"broker/internal/atomicfile"
	"broker/internal/audit"
	"broker/internal/fault"
	"broker/internal/peer"
	"broker/internal/profiles"
	"broker/internal/record"
	"broker/internal/session"
	"broker/internal/system"
	"broker/internal/wire"
)

const (
	// publishFor is how long a session is kept published where nobody says: a working day.
	publishFor = 8 * time.Hour
	// publishLook bounds how late a change of the registry or the end of a session is noticed.
	publishLook = time.Second
	// publishPause is how long a file is left alone that could not be written, or that has the user's own section.
	publishPause = 5 * time.Second
	// publishRetry is how long it is left alone what failed for a reason that may pass.
	publishRetry = 30 * time.Second
	// publishTimeout bounds one renewal.
	publishTimeout = time.Minute
)

// publishing keeps sessions in the shared credentials files. What it wrote there is noted, before, in a file of
// the state directory, by access key ids alone: so the next daemon takes out what a crash left, and no section
// is ever touched that was not written here.
type publishing struct {
	d      *Daemon
	path   string // of the note
	wake   chan struct{}
	behind atomic.Bool // somebody's session is missing that a login could bring

	mu      sync.Mutex
	entries map[place]*entry
	wrote   notes
	failed  map[string]failure // by file
}

// failure is why a file could not be written, and when that is tried again.
type failure struct {
	err   error
	again time.Time
}

// notes are the access key ids that may stand in files, by path and profile. The first is the one that was written
// last. The earlier ones are kept because an editor may write back what it read before a renewal.
type notes map[string]map[string][]string

// noteIDs bounds how many ids are kept for a profile.
const noteIDs = 32

// place is one section of one file.
type place struct{ file, profile string }

// entry is a profile that is kept published, or should be.
type entry struct {
	profile  string
	files    profiles.Files
	until    time.Time // zero for one that the registry names
	source   string    // empty until it is known
	paused   bool      // its source was logged out: until somebody uses it again
	off      bool      // it was unpublished: until the daemon ends
	gone     bool      // the registry does not name it now: kept only because it is paused or off
	waits    bool      // for a person to do something
	session  *session.Answer
	err      error
	next     time.Time // no look before this
	revision int       // of paused and off: what was asked for before is not written after
}

func newPublishing(d *Daemon, path string) *publishing {
	return &publishing{d: d, path: path, wake: make(chan struct{}, 1), entries: map[place]*entry{}, wrote: notes{}, failed: map[string]failure{}}
}

// recover takes out what a daemon before us left, unless it was left to us.
func (p *publishing) recover(left *Heritage) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if left != nil {
		p.keptLocked(left.Kept) // whatever becomes of the note
	}
	wrote, err := readNotes(p.path)
	if err != nil {
		p.d.setAside("what was published before is not known", p.path, err)
		return
	}
	p.wrote = wrote
	p.tidyLocked()
	if left == nil { // else what is in the files stays there until the first round has something newer
		p.flushLocked()
	}
}

// noteFile is the content of the note. Broker 0.1.0 wrote the files alone.
type noteFile struct {
	Version int   `json:"version"` // 1
	Files   notes `json:"files"`
}

// maxNote bounds the note.
const maxNote = 4 << 20

// readNotes reads the note. A missing one says that nothing is published.
func readNotes(path string) (notes, error) {
	text, err := record.Read(path, maxNote, record.Guarded)
	if errors.Is(err, fs.ErrNotExist) {
		return notes{}, nil
	}
	if err != nil {
		return nil, err
	}
	file := noteFile{Files: notes{}}
	if err := record.Decode(text, 1, &file, &file.Files); err != nil {
		return nil, fmt.Errorf("%s is damaged: %w", path, err)
	}
	for _, sections := range file.Files { // a long-lived key (AKIA) was never published
		for name, ids := range sections {
			sections[name] = slices.DeleteFunc(ids, func(id string) bool { return !strings.HasPrefix(id, "ASIA") })
		}
	}
	return file.Files, nil
}

// tidyLocked removes what an edit of a file of the user left if it was cut short. It may hold other secrets of that
// file.
func (p *publishing) tidyLocked() {
	files := slices.Collect(maps.Keys(p.wrote))
	for _, file := range append(files, p.d.Files.Config, p.d.Files.Credentials, p.d.Files.Registry) {
		if err := atomicfile.Tidy(file); err != nil {
			p.d.Log.Warn("what an edit that was cut short left beside a file was not removed", "file", file, "err", err)
		}
	}
}

// run renews until ctx ends.
func (p *publishing) run(ctx context.Context) {
	for {
		wait := p.round(ctx)
		select {
		case <-ctx.Done():
			return
		case <-p.wake:
		case <-time.After(wait):
		}
	}
}

// nudge looks after everything at once.
func (p *publishing) nudge() {
	p.mu.Lock()
	for _, e := range p.entries {
		e.next = time.Time{}
	}
	p.mu.Unlock()
	p.rouse()
}

// used says that a source gave something: what waited for it need not wait any more.
func (p *publishing) used(source string) {
	if !p.behind.Load() {
		return
	}
	p.mu.Lock()
	found := false
	for _, e := range p.entries {
		if (e.source == source || e.source == "") && (e.paused || e.waits) {
			e.paused, e.next, found = false, time.Time{}, true
		}
	}
	p.mu.Unlock()
	if found {
		p.rouse()
	}
}

// rouse ends the pause of run.
func (p *publishing) rouse() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// round renews what is due and writes what changed. It returns how long there is nothing to do.
func (p *publishing) round(ctx context.Context) time.Duration {
	if p.d.Broker.Locked() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.flushLocked() // what could not be taken out
		return publishLook
	}
	p.standing()
	type due struct {
		at       place
		entry    *entry
		revision int
		request  session.Request
	}
	var todo []due
	now := time.Now()
	p.mu.Lock()
	for at, e := range p.entries {
		if e.wanted(now) && !now.Before(e.next) {
			todo = append(todo, due{at, e, e.revision, session.Request{Profile: e.profile, Files: e.files}})
		}
	}
	p.mu.Unlock()
	var renewals sync.WaitGroup
	for _, t := range todo {
		renewals.Go(func() {
			// Nobody can be asked here: where that is needed the session is left to end.
			ctx, cancel := context.WithTimeout(ctx, publishTimeout)
			defer cancel()
			answer, err := p.get(ctx, t.request)
			p.mu.Lock()
			defer p.mu.Unlock()
			if p.entries[t.at] == t.entry && t.entry.revision == t.revision && ctx.Err() == nil {
				if err == nil && (t.entry.session == nil || t.entry.session.AccessKeyID != answer.AccessKeyID) {
					err = p.d.giving("given", p.call(t.request), answer, nil)
				}
				t.entry.took(answer, err)
			}
		})
	}
	renewals.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keepNoteLocked()
	if ctx.Err() == nil && !p.d.Broker.Locked() {
		p.flushLocked()
	}
	wait, behind := publishLook, false
	for _, e := range p.entries {
		if e.wanted(time.Now()) {
			wait = min(wait, time.Until(e.next))
		}
		behind = behind || !e.off && (e.paused || e.waits)
	}
	p.behind.Store(behind)
	return max(wait, 50*time.Millisecond)
}

// call is a request of ours: no client asks for a renewal.
func (p *publishing) call(r session.Request) call {
	self := peer.Peer{UID: os.Getuid(), Process: peer.Process{PID: os.Getpid()}}
	return call{req: wire.Request{Profile: r.Profile}, peer: caller{self, self.Program}}
}

// get is the session of a profile, if it is one that tools would read in the credentials file.
func (p *publishing) get(ctx context.Context, r session.Request) (session.Answer, error) {
	set, err := p.d.Store.Load(r.Files)
	if err != nil {
		return session.Answer{}, err
	}
	chain, err := set.Resolve(r.Profile)
	if err == nil {
		err = set.Preferred(chain.Profile)
	}
	var answer session.Answer
	if err == nil {
		answer, err = p.d.Broker.Credentials(ctx, r)
	}
	answer.Source = chain.Source.Name // of a failure, too
	return answer, err
}

// wanted reports whether the session is to be in the file.
func (e *entry) wanted(now time.Time) bool {
	return !e.paused && !e.off && (e.until.IsZero() || now.Before(e.until))
}

// took notes what a renewal brought.
func (e *entry) took(answer session.Answer, err error) {
	e.err, e.waits, e.source = err, false, answer.Source
	if err == nil {
		e.session = &answer
		left := time.Until(answer.Expires)
		e.next = time.Now().Add(min(max(left/10, 100*time.Millisecond), publishRetry))
		return
	}
	e.next = time.Now().Add(publishRetry)
	switch fault.Of(err).Kind {
	case fault.LoginNeeded, fault.CodeRejected, fault.KeyringLocked, fault.NotConfirmed:
		// Somebody has to do something, and used or nudge tell of it.
		e.waits, e.next = true, time.Now().Add(publishFor)
	case fault.Config, fault.NotFound:
		e.next = time.Now().Add(publishLook) // a file may be mended at any moment
	}
}

// keepNoteLocked writes the note anew where somebody removed it: a daemon whose directory was taken away did, as its last act.
func (p *publishing) keepNoteLocked() {
	if _, err := os.Lstat(p.path); len(p.wrote) == 0 || !errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err := p.note(); err != nil {
		p.d.Log.Warn("the note of what is published was not written again", "err", err)
	}
}

// standing brings the entries in line with what the registry says to keep published. One that is paused or off is not
// forgotten with its line: an editor may empty the file before it writes it again.
func (p *publishing) standing() {
	set, err := p.d.Store.Load(p.d.Files)
	if err != nil {
		return
	}
	names := set.Standing()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, name := range names {
		at := place{p.d.Files.Credentials, name}
		if p.entries[at] == nil {
			p.entries[at] = &entry{profile: name, files: p.d.Files}
		}
	}
	for at, e := range p.entries {
		e.gone = e.until.IsZero() && !slices.Contains(names, e.profile)
		if e.gone && !e.paused && !e.off {
			delete(p.entries, at)
		}
	}
}

// flushLocked writes the files as they have to be now.
func (p *publishing) flushLocked() {
	now := time.Now()
	files := map[string][]profiles.Published{}
	for file := range p.wrote {
		files[file] = nil
	}
	for at, e := range p.entries {
		if !e.until.IsZero() && !now.Before(e.until) {
			delete(p.entries, at)
			continue
		}
		if e.session != nil && !now.Before(e.session.Expires) {
			e.session = nil
		}
		if e.wanted(now) && e.session != nil {
			s := published(*e.session)
			s.Profile = at.profile
			files[at.file] = append(files[at.file], s)
		}
	}
	for file := range p.failed {
		if _, matters := files[file]; !matters {
			delete(p.failed, file)
		}
	}
	for file, sessions := range files {
		slices.SortFunc(sessions, func(a, b profiles.Published) int { return strings.Compare(a.Profile, b.Profile) })
		f, failed := p.failed[file]
		if failed && !now.Before(f.again) || !failed && !p.wrote.equal(file, sessions) {
			p.writeLocked(file, sessions)
		}
	}
}

// equal reports whether a file has these sessions and nothing else of ours.
func (n notes) equal(file string, sessions []profiles.Published) bool {
	if len(n[file]) != len(sessions) {
		return false
	}
	for _, s := range sessions {
		if ids := n[file][s.Profile]; len(ids) == 0 || ids[0] != s.AccessKeyID {
			return false
		}
	}
	return true
}

// writeLocked makes a file have these sessions and no others of ours.
func (p *publishing) writeLocked(file string, sessions []profiles.Published) {
	before := p.wrote[file]
	both, after := map[string][]string{}, map[string][]string{}
	for name, ids := range before {
		both[name] = slices.Clone(ids)
	}
	for _, s := range sessions {
		earlier := slices.DeleteFunc(slices.Clone(before[s.Profile]), func(id string) bool { return id == s.AccessKeyID })
		both[s.Profile] = append(earlier, s.AccessKeyID)
		after[s.Profile] = append([]string{s.AccessKeyID}, earlier[:min(len(earlier), noteIDs-1)]...)
	}
	taken, err := p.edit(file, both, sessions)
	if err != nil {
		if old := p.failed[file].err; old == nil || old.Error() != err.Error() {
			p.d.Log.Error("the published sessions could not be written", "file", file, "err", err)
		}
		p.failed[file] = failure{err, time.Now().Add(publishPause)}
		p.setErrLocked(file, sessions, func(string) error { return err })
		return
	}
	delete(p.failed, file)
	for name := range taken {
		delete(after, name)
	}
	p.setErrLocked(file, sessions, func(name string) error {
		if line, is := taken[name]; is {
			return takenError(file, name, line)
		}
		return nil
	})
	for _, name := range slices.Sorted(maps.Keys(after)) {
		if !slices.Contains(before[name], after[name][0]) {
			p.audit("published", name, after[name][0])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(before)) {
		if after[name] == nil {
			p.audit("unpublished", name, before[name][0])
		}
	}
	if p.wrote[file] = after; len(after) == 0 {
		delete(p.wrote, file)
	}
	if err := p.note(); err != nil {
		p.d.Log.Warn("the note of what is published was not brought up to date", "err", err)
	}
}

func (p *publishing) audit(event, name, keyID string) {
	_ = p.d.Audit.Record(audit.Event{Event: event, Profile: name, KeyID: keyID, UID: os.Getuid(), PID: os.Getpid()})
}

// setErrLocked says of each of these sessions why it is not in the file; one that is there keeps the error of its renewal.
func (p *publishing) setErrLocked(file string, sessions []profiles.Published, why func(name string) error) {
	for _, s := range sessions {
		if e := p.entries[place{file, s.Profile}]; e != nil {
			if err := why(s.Profile); err != nil {
				e.err, e.session = err, nil
				e.next = time.Now().Add(publishPause)
			}
		}
	}
}

func takenError(file, name string, line int) error {
	return fault.New(fault.Config, "%s: a section [%s] that is not the broker's stands here already", profiles.Origin{File: file, Line: line}, name).
		WithHint("broker profiles show %s", name)
}

// edit changes one file, after it has been noted which keys may stand there.
func (p *publishing) edit(file string, ids map[string][]string, sessions []profiles.Published) (taken map[string]int, err error) {
	if len(sessions) > 0 {
		if err := private(file); err != nil {
			return nil, err
		}
		old := p.wrote[file]
		p.wrote[file] = ids
		if err := p.note(); err != nil {
			if p.wrote[file] = old; old == nil {
				delete(p.wrote, file)
			}
			return nil, fault.New(fault.Failed, "note what is published: %w", err)
		}
	}
	ours := func(name, id string) bool { return slices.Contains(ids[name], id) }
	var refused error
	err = atomicfile.Edit(file, 0o600, "", func(src []byte) (dst []byte, err error) {
		dst, taken, refused = profiles.SetPublished(src, ours, sessions)
		return dst, refused
	})
	switch {
	case refused != nil:
		return nil, fault.New(fault.Config, "%s: %w", file, refused)
	case errors.Is(err, atomicfile.ErrReadOnly):
		return nil, fault.New(fault.Failed, "%w", err).WithHint("chmod u+w %s", file)
	case err != nil:
		return nil, fault.New(fault.Failed, "write %s: %w", file, err)
	}
	return taken, nil
}

// private refuses a file that others may read: an edit keeps its mode.
func private(file string) error {
	if info, err := os.Stat(file); err != nil || !info.Mode().IsRegular() {
		return nil
	}
	access, err := system.AccessOfPath(file)
	if err != nil {
		return fault.New(fault.Config, "%s: %w; no session is put there", file, err)
	}
	if access.Perm&0o077 != 0 {
		return fault.New(fault.Config, "%s may be read by others (mode %04o); no session is put there", file, access.Perm).
			WithHint("%s", system.CloseToOthers(fault.Word(file), "600"))
	}
	return nil
}

// note writes down which keys may stand in which files.
func (p *publishing) note() error {
	if len(p.wrote) == 0 {
		return record.Remove(p.path)
	}
	text, err := json.Marshal(noteFile{Version: 1, Files: p.wrote})
	if err != nil {
		return err
	}
	return record.Replace(p.path, text)
}

// end takes out the sessions that match: for good where a person asked for them, else until more says otherwise.
// The error is of a file that could not be written; it is tried again.
func (p *publishing) end(match func(*entry) bool, more func(*entry)) (n int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for at, e := range p.entries {
		if !match(e) {
			continue
		}
		if e.session != nil {
			n++
		}
		e.session, e.next = nil, time.Time{}
		e.revision++
		if more(e); !e.until.IsZero() {
			delete(p.entries, at)
		}
	}
	p.behind.Store(true)
	for file := range p.failed {
		p.failed[file] = failure{err: p.failed[file].err} // at once
	}
	p.flushLocked()
	for file, f := range p.failed {
		if len(p.wrote[file]) == 0 {
			continue
		}
		err = fault.New(fault.Failed, "a published session is still in the file: %w", f.err).WithHint("%s", fault.Of(f.err).Hint)
	}
	return n, err
}

// endAll takes out everything.
func (p *publishing) endAll() error {
	_, err := p.end(func(*entry) bool { return true }, func(*entry) {})
	return err
}

// state lists what is published, or should be.
func (p *publishing) state() []wire.Published {
	p.mu.Lock()
	defer p.mu.Unlock()
	var list []wire.Published
	for at, e := range p.entries {
		if e.off || e.gone {
			continue
		}
		w := wire.Published{Profile: at.profile, File: at.file}
		if e.session != nil && p.wrote[at.file][at.profile] != nil {
			w.AccessKeyID, w.Expires = e.session.AccessKeyID, &e.session.Expires
		}
		if !e.until.IsZero() {
			w.Until = &e.until
		}
		switch {
		case e.err != nil:
			w.Error = fault.Line(e.err.Error())
		case e.paused:
			w.Error = "logged out"
		}
		list = append(list, w)
	}
	slices.SortFunc(list, func(a, b wire.Published) int {
		return strings.Compare(a.Profile+"\x00"+a.File, b.Profile+"\x00"+b.File)
	})
	return list
}

// publish puts the session of a profile into the shared credentials file, and keeps it there.
func (d *Daemon) publish(ctx context.Context, c call) (wire.Response, error) {
	p, r := d.publishing, d.request(c)
	if d.Broker.Locked() {
		return wire.Response{}, d.giving("given", c, session.Answer{}, lockedFault())
	}
	// Before anybody is asked for a code.
	if err := p.check(r.Files.Credentials, r); err != nil {
		return wire.Response{}, err
	}
	answer, err := p.get(ctx, r)
	if err := d.giving("given", c, answer, err); err != nil {
		return wire.Response{}, err
	}
	d.answered.Add(1)
	d.lastUse.Store(time.Now().Unix())
	length := c.req.For
	if length <= 0 {
		length = publishFor
	}
	at := place{r.Files.Credentials, answer.Profile}
	p.mu.Lock()
	defer p.mu.Unlock()
	if d.Broker.Locked() {
		return wire.Response{}, lockedFault()
	}
	e := p.entries[at]
	if e == nil || e.gone {
		e = &entry{profile: answer.Profile, files: r.Files, until: time.Now().Add(length)}
	} else if !e.until.IsZero() {
		e.until = time.Now().Add(length)
	}
	e.off, e.paused = false, false
	e.took(answer, nil)
	p.entries[at] = e
	delete(p.failed, at.file) // not left alone any longer
	p.flushLocked()
	if err := e.err; err != nil {
		if !e.until.IsZero() {
			delete(p.entries, at)
		}
		return wire.Response{}, err
	}
	p.rouse()
	w := wire.Published{Profile: at.profile, File: at.file, AccessKeyID: answer.AccessKeyID, Expires: &answer.Expires}
	if until := e.until; !until.IsZero() {
		w.Until = &until
	}
	return wire.Response{Status: &wire.Status{Published: []wire.Published{w}}, Warnings: lines(answer.Warnings)}, nil
}

// check says whether a session could be put into a file, as far as that can be told before there is one.
func (p *publishing) check(file string, r session.Request) error {
	set, err := p.d.Store.Load(r.Files)
	if err != nil {
		return err
	}
	chain, err := set.Resolve(r.Profile)
	if err != nil {
		return err
	}
	if err := private(file); err != nil {
		return err
	}
	switch err := atomicfile.Check(file); {
	case errors.Is(err, atomicfile.ErrReadOnly):
		return fault.New(fault.Failed, "%w", err).WithHint("chmod u+w %s", file)
	case err != nil:
		return fault.New(fault.Failed, "%w", err)
	}
	// Both at one moment: what others have taken out between the two would look like the user's.
	p.mu.Lock()
	src, err := readOriginal(file)
	ids := p.wrote[file]
	p.mu.Unlock()
	if err != nil {
		return fault.New(fault.Failed, "%w", err)
	}
	defer clear(src)
	_, taken, err := profiles.SetPublished(src, func(name, id string) bool { return slices.Contains(ids[name], id) }, nil)
	if err != nil {
		return fault.New(fault.Config, "%s: %w", file, err)
	}
	if line, is := taken[chain.Profile]; is {
		return takenError(file, chain.Profile, line)
	}
	return nil
}

// unpublish takes sessions out of the shared credentials files.
func (d *Daemon) unpublish(_ context.Context, c call) (wire.Response, error) {
	name, found := c.req.Profile, false
	var comeBack []string
	n, err := d.publishing.end(func(e *entry) bool {
		match := !e.off && !e.gone && (name == "" || e.profile == name)
		found = found || match
		return match
	}, func(e *entry) {
		if e.off = true; e.until.IsZero() {
			comeBack = append(comeBack, e.profile+" is back when the daemon starts anew, since the registry says publish = true")
		}
	})
	d.publishing.mu.Lock()
	d.publishing.tidyLocked()
	d.publishing.mu.Unlock()
	_ = d.record("unpublish", c, session.Answer{}, err)
	switch {
	case err != nil:
		return wire.Response{}, err
	case name != "" && !found:
		return wire.Response{}, fault.New(fault.NotFound, "%q is not published", name).WithHint("broker status")
	}
	slices.Sort(comeBack)
	return wire.Response{Count: n, Warnings: comeBack}, nil
}

// logout takes out the sessions of a source, of all where it is empty. What the registry names is back when
// the source is used again, not before: who logs out wants it gone.
func (p *publishing) logout(source string) error {
	_, err := p.end(func(e *entry) bool { return source == "" || e.source == source || e.source == "" }, func(e *entry) { e.paused = true })
	return err
}
