package grant

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"broker/internal/atomicfile"
	"broker/internal/audit"
	"broker/internal/fault"
	"broker/internal/profiles"
	"broker/internal/record"
	"broker/internal/session"
	"broker/internal/system"
	"broker/internal/wire"
)

const (
	// publishFor is how long a session is kept published by default: a working day.
	publishFor = 8 * time.Hour
	// maxKeys is how many access key ids are kept for a section.
	maxKeys = 32
)

// sections manages the sessions in shared credentials files. A section is ours if its key was in the record before
// it was written. So Broker never touches other sections, and the next daemon removes what a crash left.
type sections struct {
	k  *Keeper    // held while a file is written
	mu sync.Mutex // held while a file is written
}

// section returns the grant of a profile in a file, or nil.
func (k *Keeper) section(file, profile string) *held {
	list := k.all(func(h *held) bool {
		return h.Kind == Section && !h.Ended && h.Profiles[0] == profile && h.files(k.Files).Credentials == file
	})
	if len(list) == 0 {
		return nil
	}
	return list[0]
}

// Publish writes the session of a profile to the shared credentials file, and keeps it current there.
func (k *Keeper) Publish(ctx context.Context, a Request, req *wire.Request, reply func(wire.Response) error) error {
	a.Event, a.Get, a.Delivery = "published", k.sections.get, audit.Published
	at := a.Requests[0]
	if k.Locked() {
		return k.refuse(&a, 0, new(session.Answer), LockedFault())
	}
	// Check this before anybody is prompted for a code.
	if err := k.sections.check(at); err != nil {
		return err
	}
	lasts := cmp.Or(req.For, publishFor)
	return k.Give(ctx, a, func(answers []session.Answer) error {
		answer := answers[0]
		// Add time for the write, so that the section does not expire before it is written.
		until := time.Now().Add(lasts + renewTimeout)
		var h, added *held
		var revision int
		err := error(errShut)
		// Retry: the loop may remove the previous session, and an unpublish may end its grant.
		for errors.Is(err, errShut) {
			h = k.section(at.Files.Credentials, answer.Profile)
			if h == nil || !k.prolong(h, until) {
				h = &held{Grant: Grant{ID: randomHex(16), Kind: Section, Profiles: []string{answer.Profile},
					Sources: []string{answer.Source}, Since: wholeSeconds(), AWSConfig: at.Files.Config,
					AWSCredentials: at.Files.Credentials, Until: until, Program: programOf(at)}}
				if err := k.add(h); err != nil {
					return err
				}
				added = h
			}
			k.mu.Lock()
			revision = h.revision
			k.sourcesLocked(h, sources(h.Sources, answers))
			off, out := h.Off, h.LoggedOut
			h.Off, h.LoggedOut = false, nil // before it is written, or the loop would remove it again
			k.mu.Unlock()
			if err = k.sections.put(h, revision, answers); err != nil {
				k.mu.Lock()
				if h.revision == revision { // otherwise it was shut meanwhile, which counts
					h.Off, h.LoggedOut = off, out
				}
				k.mu.Unlock()
			}
		}
		if err != nil {
			if h == added {
				_ = k.end(h) // the loop retries
			}
			return err
		}
		k.mu.Lock()
		if h.Standing, h.gone = h.Standing && !h.gone, false; !h.Standing {
			h.Until = time.Now().Add(lasts)
		}
		until = h.Until
		_ = k.saveLocked()
		k.mu.Unlock()
		k.took(h, revision, answers, nil)
		k.rouse()
		w := wire.Published{Profile: answer.Profile, File: at.Files.Credentials, AccessKeyID: answer.AccessKeyID,
			Expires: &answer.Expires}
		if !until.IsZero() {
			w.Until = &until
		}
		return reply(wire.Response{Status: &wire.Status{Published: []wire.Published{w}}, Warnings: Lines(answer.Warnings)})
	})
}

// prolong makes a section last at least until the given time. It returns false if the section has ended.
func (k *Keeper) prolong(h *held, until time.Time) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !h.Ended && !h.Until.IsZero() && h.Until.Before(until) {
		h.Until = until
	}
	return !h.Ended
}

// check returns why a session could not be written to the file, as far as this can be known before there is a
// session.
func (s *sections) check(r session.Request) error {
	set, err := s.k.Store.Load(r.Files)
	if err != nil {
		return err
	}
	chain, err := set.Resolve(r.Profile)
	if err != nil {
		return err
	}
	file := r.Files.Credentials
	if err := private(file); err != nil {
		return err
	}
	if err := atomicfile.Check(file); err != nil {
		return unwritten(file, err)
	}
	s.mu.Lock()
	src, err := readOriginal(file)
	ours := s.ours(file)
	s.mu.Unlock()
	if err != nil {
		return fault.New(fault.Failed, "%w", err)
	}
	defer clear(src)
	_, taken, err := profiles.SetPublished(src, ours, nil)
	if err != nil {
		return fault.New(fault.Config, "%s: %w", file, err)
	}
	if line, is := taken[chain.Profile]; is {
		return takenError(file, chain.Profile, line)
	}
	return nil
}

// get returns the session of a profile. It fails if tools would not read the session from the credentials file.
func (s *sections) get(ctx context.Context, r session.Request) (session.Answer, error) {
	set, err := s.k.Store.Load(r.Files)
	if err != nil {
		return session.Answer{}, err
	}
	chain, err := set.Resolve(r.Profile)
	if err == nil {
		err = set.Preferred(chain.Profile)
	}
	var answer session.Answer
	if err == nil {
		answer, err = s.k.Broker.Credentials(ctx, r)
	}
	answer.Source = chain.Source.Name // also for a failure
	return answer, err
}

// put implements delivery.
func (s *sections) put(h *held, revision int, sessions []session.Answer) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	file, profile, id := h.files(s.k.Files).Credentials, h.Profiles[0], sessions[0].AccessKeyID
	if err := private(file); err != nil {
		return err
	}
	s.k.mu.Lock()
	if h.revision != revision {
		s.k.mu.Unlock()
		return errShut
	}
	before, had := h.Grant, h.sessions
	others := slices.DeleteFunc(slices.Clone(h.Keys), func(of string) bool { return of == id })
	others = others[:min(len(others), maxKeys-1)]
	h.Keys = append([]string{id}, others...)
	h.Expires = sessions[0].Expires
	err := s.k.saveLocked()
	if err == nil {
		h.sessions = sessions
	}
	s.k.mu.Unlock()
	if err != nil {
		err = fault.New(fault.Failed, "save the record of grants: %w", err).WithHint("%s", fault.Of(err).Hint)
	} else {
		var taken map[string]int
		taken, err = s.write(file, nil)
		if line, is := taken[profile]; is {
			before.Expires, had = time.Time{}, nil
			err = takenError(file, profile, line)
		}
	}
	if err != nil {
		s.k.mu.Lock()
		h.Expires, h.sessions = before.Expires, had
		h.Keys = append(others, id) // the file may contain it despite the error
		_ = s.k.saveLocked()
		s.k.mu.Unlock()
	}
	return err
}

// clear implements delivery.
func (s *sections) clear(list []*held) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var failed error
	files := map[string][]*held{}
	s.k.mu.Lock()
	for _, h := range list {
		if !h.Expires.IsZero() || len(h.Keys) > 0 { // an editor may have written it back
			h.sessions = nil
			file := h.files(s.k.Files).Credentials
			files[file] = append(files[file], h)
		}
	}
	s.k.mu.Unlock()
	for file, list := range files {
		_, err := s.write(file, list)
		failed = errors.Join(failed, err)
		s.k.mu.Lock()
		for _, h := range list {
			if err != nil {
				h.err, h.retry = err, time.Now().Add(writePause)
				continue
			}
			if id := h.key(); id != "" {
				_ = s.k.Audit.Record(audit.Event{Event: "unpublished", Profile: h.Profiles[0], KeyID: id,
					UID: os.Getuid(), PID: os.Getpid()})
			}
			h.Expires = time.Time{}
		}
		_ = s.k.saveLocked()
		s.k.mu.Unlock()
	}
	if len(files) > 0 {
		failed = errors.Join(failed, s.k.commands.follow())
	}
	return failed
}

// key returns the access key id of the session in a section.
func (g *Grant) key() string {
	if len(g.Keys) == 0 || g.Expires.IsZero() {
		return ""
	}
	return g.Keys[0]
}

// write writes the sessions of a file's grants, and removes the sections in cleared. Sections of the previous
// daemon stay until this daemon has a newer session. It returns the lines of other sections that have one of these
// names.
func (s *sections) write(file string, cleared []*held) (taken map[string]int, err error) {
	if err := s.move(file); err != nil {
		return nil, err
	}
	var sessions []profiles.Published
	stays := map[string]bool{}
	for _, h := range s.in(file) {
		if len(h.sessions) > 0 {
			p := published(h.sessions[0])
			p.Profile = h.Profiles[0]
			sessions = append(sessions, p)
			continue
		}
		isCleared := slices.ContainsFunc(cleared, func(c *held) bool { return c.ID == h.ID })
		if !h.Expires.IsZero() && !h.Ended && !isCleared {
			stays[h.Profiles[0]] = true
		}
	}
	for _, p := range sessions {
		delete(stays, p.Profile)
	}
	slices.SortFunc(sessions, func(a, b profiles.Published) int { return strings.Compare(a.Profile, b.Profile) })
	ours := s.ours(file)
	var refused error
	err = atomicfile.Edit(file, 0o600, nil, func(src []byte) (dst []byte, err error) {
		dst, taken, refused = profiles.SetPublished(src, func(profile, id string) bool {
			return !stays[profile] && ours(profile, id)
		}, sessions)
		return dst, refused
	})
	switch {
	case refused != nil:
		return nil, fault.New(fault.Config, "%s: %w", file, refused)
	case err != nil:
		return nil, unwritten(file, err)
	}
	s.k.mu.Lock()
	defer s.k.mu.Unlock()
	for _, h := range s.k.grants { // the user has made one of our sections their own
		line, is := taken[h.Profiles[0]]
		if is && h.Kind == Section && h.sessions != nil && h.files(s.k.Files).Credentials == file {
			h.sessions, h.Expires, h.err = nil, time.Time{}, takenError(file, h.Profiles[0], line)
		}
	}
	return taken, nil
}

// move removes sections from the files that a link pointed to earlier, and records where the link points now.
func (s *sections) move(file string) error {
	real, ours := system.RealPath(file), s.ours(file)
	for _, h := range s.in(file) {
		if h.At == "" || h.At == real {
			continue
		}
		if err := atomicfile.Edit(h.At, 0o600, nil, func(src []byte) ([]byte, error) {
			dst, _, err := profiles.SetPublished(src, ours, nil)
			return dst, err
		}); err != nil {
			return unwritten(h.At, err)
		}
	}
	s.k.mu.Lock()
	defer s.k.mu.Unlock()
	moved := false
	for _, h := range s.k.grants {
		if h.Kind == Section && h.At != real && h.files(s.k.Files).Credentials == file {
			h.At, moved = real, true
		}
	}
	if moved {
		_ = s.k.saveLocked()
	}
	return nil
}

// in returns copies of the grants of one file.
func (s *sections) in(file string) (list []held) {
	s.k.mu.Lock()
	defer s.k.mu.Unlock()
	for _, h := range s.k.grants {
		if h.Kind == Section && h.files(s.k.Files).Credentials == file {
			list = append(list, *h)
		}
	}
	return list
}

// ours returns a function that recognizes Broker's sections of a file by their access key ids.
func (s *sections) ours(file string) func(profile, id string) bool {
	list := s.in(file)
	return func(profile, id string) bool {
		return slices.ContainsFunc(list, func(h held) bool { return h.Profiles[0] == profile && slices.Contains(h.Keys, id) })
	}
}

func unwritten(file string, err error) error {
	if errors.Is(err, atomicfile.ErrReadOnly) {
		return fault.New(fault.Failed, "%w", err).WithHint("%s", record.Mend(file, fault.Hintf("chmod u+w %s", file)))
	}
	return fault.New(fault.Failed, "write %s: %w", file, err)
}

func takenError(file, name string, line int) error {
	return fault.New(fault.Config, "%s already has a section [%s] that Broker did not write",
		profiles.Origin{File: file, Line: line}, name).WithHint("broker profiles show %s", name)
}

// private refuses a file that others may read: an edit keeps the file's mode.
func private(file string) error {
	if info, err := os.Stat(file); err != nil || !info.Mode().IsRegular() {
		return nil
	}
	access, err := system.AccessOfPath(file)
	if err != nil {
		return fault.New(fault.Config, "%s: %w; no session is written to it", file, err)
	}
	if access.Perm&0o077 != 0 {
		return fault.New(fault.Config,
			"other users can read %s (mode %04o); no session is written to it", file, access.Perm).
			WithHint("%s", record.Mend(file, system.CloseToOthers(fault.Word(file), "600")))
	}
	return nil
}

// maxOriginal is more than profiles.Store accepts.
const maxOriginal = 64 << 20

// readOriginal reads a file that may have been replaced since the store read it. It does not block on a FIFO,
// because a lock may be waiting for us.
func readOriginal(path string) ([]byte, error) {
	if path == os.DevNull {
		return nil, nil
	}
	f, info, err := system.OpenRegular(path, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	if info.Size() > maxOriginal {
		return nil, fmt.Errorf("%s is larger than %d MB", path, maxOriginal>>20)
	}
	return io.ReadAll(io.LimitReader(f, maxOriginal))
}

// published converts a session to the form of a credentials file.
func published(a session.Answer) profiles.Published {
	return profiles.Published{Profile: a.Profile, AccessKeyID: a.AccessKeyID, Secret: a.SecretAccessKey,
		Token: a.SessionToken}
}
