package grant

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"broker/internal/audit"
	"broker/internal/fault"
	"broker/internal/peer"
	"broker/internal/profiles"
	"broker/internal/record"
	"broker/internal/session"
	"broker/internal/wire"
)

// commands writes the private AWS files of commands that run under `exec --mode file`. Each command has a
// directory (mode 0700) below the runtime directory, with files of mode 0600.
type commands struct {
	k  *Keeper
	mu sync.Mutex // held while files are written

	stamps map[string][2]stamp // of the originals that the copies were made from, by grant id
}

const (
	commandPrefix   = "exec-" // prefix of each directory's name; a number follows
	noteFile        = profiles.OwnerFile
	configFile      = profiles.ConfigFile
	credentialsFile = profiles.CredentialsFile
)

// stamp identifies a state of a file.
type stamp struct {
	modified time.Time
	size     int64
}

func stampOf(path string) stamp {
	info, err := os.Stat(path)
	if err != nil {
		return stamp{}
	}
	return stamp{info.ModTime(), info.Size()}
}

// Command gives a process its own AWS files with the sessions that it asks for: all of them, or none. The files
// exist until the process ends, whichever program it executes.
func (k *Keeper) Command(ctx context.Context, a Request, req *wire.Request, reply func(wire.Response) error) error {
	if req.Role != nil && req.Role.ARN != "" && !req.MaskDefault {
		return fault.New(fault.Usage, "--mode file needs a named profile")
	}
	process, err := peer.Find(a.By.PID)
	if err != nil {
		return fault.New(fault.Failed, "cannot watch process %d: %w", a.By.PID, err)
	}
	a.Delivery = audit.PrivateFile
	files := a.Requests[0].Files
	a.confirmed = req.MaskDefault // these files hold no session
	return k.Give(ctx, a, func(answers []session.Answer) error {
		h := &held{Grant: Grant{ID: randomHex(16), Kind: Files, Owner: process, Role: req.Role, Since: wholeSeconds(),
			Program:   programOf(a.Requests[0]),
			Agent:     answers[0].Agent,
			Masks:     req.MaskDefault,
			AWSConfig: files.Config, AWSCredentials: files.Credentials}}
		made := &wire.Files{Profile: answers[0].Profile, Expires: answers[0].Expires, MaskDefault: h.Masks}
		for _, answer := range answers {
			h.Profiles, h.Sources = append(h.Profiles, answer.Profile), append(h.Sources, answer.Source)
			made.Region = cmp.Or(made.Region, answer.Region)
			made.Expires = earlier(made.Expires, answer.Expires)
		}
		if len(answers) > 1 {
			made.Profiles = h.Profiles
		}
		err := k.commands.make(h)
		if err != nil {
			err = fault.New(fault.Failed, "write the AWS files of the command: %w", err)
		} else {
			err = k.add(h)
		}
		if err == nil {
			err = k.commands.put(h, 0, answers)
			k.took(h, 0, answers, err)
		}
		if err != nil {
			if h.Dir != "" {
				_ = k.end(h) // the loop retries
			}
			return err
		}
		made.Credentials, made.Config = filepath.Join(h.Dir, credentialsFile), h.config()
		// The warnings are about the files, so they are the same for all profiles.
		return reply(wire.Response{Files: made, Warnings: Lines(answers[0].Warnings)})
	})
}

// wholeSeconds returns the current time as it is shown to people.
func wholeSeconds() time.Time { return time.Now().Truncate(time.Second) }

// make creates the directory of a command, with the note that names its owner.
func (c *commands) make(h *held) error {
	all, err := makeAll(c.k.CommandsDir)
	if err != nil {
		return err
	}
	defer func() { _ = all.Close() }()
	name, dir, err := all.NewSub(commandPrefix)
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }()
	h.Dir = filepath.Join(c.k.CommandsDir, name)
	text, err := json.Marshal(note{Version: 1, Process: h.Owner, Config: h.AWSConfig, Credentials: h.AWSCredentials,
		Profiles: h.Profiles, Since: h.Since})
	if err != nil {
		return err
	}
	return dir.Replace(noteFile, text)
}

// makeAll makes and opens the directory of all commands or of all doors, in a runtime directory that only we can enter.
func makeAll(dir string) (*record.Dir, error) {
	run, err := record.Make(filepath.Dir(dir), record.Private)
	if err != nil {
		return nil, err
	}
	defer func() { _ = run.Close() }()
	return run.MakeSub(filepath.Base(dir))
}

// openAll is makeAll for a directory that exists.
func openAll(dir string) (*record.Dir, error) {
	run, err := record.Open(filepath.Dir(dir), record.Private)
	if err != nil {
		return nil, err
	}
	defer func() { _ = run.Close() }()
	return run.Sub(filepath.Base(dir))
}

// removeDir removes the directory of a grant. Like that of every adopted grant, it may be in the runtime directory of a
// daemon that has ended.
func (g *Grant) removeDir() error {
	all, err := openAll(filepath.Dir(g.Dir))
	if err == nil {
		err = all.RemoveTree(filepath.Base(g.Dir))
		_ = all.Close()
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// open opens the directory of one command.
func (c *commands) open(h *held) (*record.Dir, error) {
	all, err := openAll(filepath.Dir(h.Dir))
	if err != nil {
		return nil, err
	}
	defer func() { _ = all.Close() }()
	return all.Sub(filepath.Base(h.Dir))
}

// put implements delivery.
func (c *commands) put(h *held, revision int, sessions []session.Answer) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.k.mu.Lock()
	if h.revision != revision {
		c.k.mu.Unlock()
		return errShut
	}
	h.sessions, h.Expires = sessions, sessions[0].Expires
	for _, s := range sessions {
		h.Expires = earlier(h.Expires, s.Expires)
	}
	err := c.k.saveLocked()
	if err != nil {
		h.sessions = nil
	}
	c.k.mu.Unlock()
	if err == nil {
		if err = c.write(h); err != nil {
			c.k.mu.Lock()
			h.sessions = nil // so that it is retried
			c.k.mu.Unlock()
		}
	}
	if err != nil {
		return fault.New(fault.Failed, "write the AWS files of the command: %w", err)
	}
	return nil
}

// follow removes sessions from the copies after they were removed from the shared file. It also empties files of
// the previous daemon whose session this daemon does not have.
func (c *commands) follow() error {
	c.mu.Lock() // before listing: once we have the lock, a grant that is being written has its session
	err := c.clearLocked(c.k.all(func(h *held) bool { return h.Kind == Files && h.sessions == nil }))
	c.mu.Unlock()
	c.look()
	return err
}

// look rewrites the copies whose originals changed.
func (c *commands) look() {
	for _, h := range c.k.all(func(h *held) bool { return h.Kind == Files && h.sessions != nil }) {
		c.mu.Lock()
		var err error
		if c.stamps[h.ID] != stampsOf(h) {
			err = c.write(h)
		}
		c.mu.Unlock()
		if err == nil {
			continue
		}
		c.k.mu.Lock()
		isNew := h.err == nil || h.err.Error() != err.Error()
		h.err = err
		c.k.mu.Unlock()
		if isNew {
			c.k.Log.Warn("cannot update the AWS files of a command", "err", err)
		}
	}
}

func stampsOf(h *held) [2]stamp { return [2]stamp{stampOf(h.AWSConfig), stampOf(h.AWSCredentials)} }

// write writes the copies, unless the sessions are gone. The config is copied only if it would override the
// session, or if there is no config: the SDK for JavaScript 2 fails without the file that AWS_SDK_LOAD_CONFIG
// makes it read.
func (c *commands) write(h *held) error {
	c.k.mu.Lock()
	sessions := h.sessions
	c.k.mu.Unlock()
	if sessions == nil {
		return nil
	}
	stamps := stampsOf(h)
	set, err := c.k.Store.Load(h.files(c.k.Files))
	if err != nil {
		return err
	}
	var list []profiles.PrivateSession
	if h.Masks {
		list, sessions = []profiles.PrivateSession{{Names: []string{"default"}}}, nil
	}
	for _, s := range sessions {
		list = append(list, profiles.PrivateSession{Names: namesOf(set, s.Profile), Session: published(s), Region: s.Region})
	}
	src, err := readOriginal(h.AWSCredentials)
	if err != nil {
		return err
	}
	defer clear(src)
	dst, err := profiles.PrivateCredentials(src, list)
	if err != nil {
		return err
	}
	dir, err := c.open(h)
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }()
	if err := dir.Replace(credentialsFile, dst); err != nil {
		return err
	}
	if src, err = readOriginal(h.AWSConfig); err != nil {
		return err
	}
	if dst, err = profiles.PrivateConfig(src, list); err != nil {
		return err
	}
	if len(dst) != len(src) || stamps[0] == (stamp{}) || h.config() != "" {
		if err := dir.Replace(configFile, dst); err != nil {
			return err
		}
	}
	if c.stamps == nil {
		c.stamps = map[string][2]stamp{}
	}
	c.stamps[h.ID] = stamps
	return nil
}

// config returns the path of the command's config, or "" if the command uses the original.
func (h *held) config() string {
	path := filepath.Join(h.Dir, configFile)
	if _, err := os.Lstat(path); err != nil {
		return ""
	}
	return path
}

// clear implements delivery. It keeps the note, so that credproc and broker still find the original files within
// the command.
func (c *commands) clear(list []*held) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.clearLocked(list)
}

func (c *commands) clearLocked(list []*held) error {
	var failed error
	for _, h := range list {
		c.k.mu.Lock()
		present := !h.Expires.IsZero()
		h.sessions = nil
		c.k.mu.Unlock()
		if !present {
			continue
		}
		err := c.empty(h)
		c.k.mu.Lock()
		if err != nil {
			err = fmt.Errorf("AWS files of a command: %w", err)
			h.err, h.retry = err, time.Now().Add(writePause)
		} else {
			h.Expires = time.Time{}
		}
		_ = c.k.saveLocked()
		c.k.mu.Unlock()
		failed = errors.Join(failed, err)
	}
	return failed
}

// empty removes everything but the note and the config.
func (c *commands) empty(h *held) error {
	dir, err := c.open(h)
	if errors.Is(err, fs.ErrNotExist) { // already removed
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }()
	names, err := dir.Names()
	for _, name := range names {
		if name != noteFile && name != configFile {
			err = errors.Join(err, dir.RemoveTree(name))
		}
	}
	return err
}

// remove removes the files of a command that has ended.
func (c *commands) remove(h *held) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.stamps, h.ID)
	return h.removeDir()
}

// namesOf returns the exact name of a profile and its aliases.
func namesOf(set *profiles.Set, profile string) []string {
	names := []string{profile}
	for _, a := range set.Aliases() {
		if a.Target == profile && a.Problem == "" {
			names = append(names, a.Name)
		}
	}
	return names
}
