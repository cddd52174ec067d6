package daemon

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"broker/internal/fault"
	"broker/internal/peer"
	"broker/internal/profiles"
	"broker/internal/record"
	"broker/internal/session"
	"broker/internal/system"
	"broker/internal/wire"
)

// overlays are the private AWS files of commands that run under `exec --mode file`. Each is a directory in the
// runtime directory, 0700, with files of 0600, and goes when its process ends. Who it is for stands beside the
// files, so that a daemon that comes after a crash knows what to watch and what to remove.
type overlays struct {
	dir string
	log *slog.Logger

	mu   sync.Mutex
	live map[string]*overlay // by directory
}

// overlay is one of them.
type overlay struct {
	dir   string
	owner owner

	mu sync.Mutex // nothing is written while it is removed or emptied, nor afterwards: it would stay
	// What the copies are made of; nil in one that was emptied, or taken over from a daemon before us.
	sessions []profiles.Overlaid
	stamps   [2]stamp // of the originals
	gone     bool
}

// owner is what stands in the file of that name: whose it is, and which files it stands for. No secret is in it.
type owner struct {
	Version int `json:"version"` // 1; Broker 0.1.0 wrote none
	peer.Process
	Config      string `json:"aws_config_file"`
	Credentials string `json:"aws_shared_credentials_file"`

	Profiles []string  `json:"profiles,omitempty"`
	Since    time.Time `json:"since,omitzero"`
}

const (
	ownerFile       = profiles.OwnerFile
	configFile      = profiles.ConfigFile
	credentialsFile = profiles.CredentialsFile
	maxOwner        = profiles.MaxOwner
)

// stamp tells one state of a file from another.
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

func newOverlays(dir string, log *slog.Logger) *overlays {
	return &overlays{dir: dir, log: log, live: map[string]*overlay{}}
}

// openOverlays opens the directory of all overlays, in a runtime directory that is ours alone.
func openOverlays(path string) (*record.Dir, error) {
	run, err := record.Open(filepath.Dir(path), record.Private)
	if err != nil {
		return nil, err
	}
	defer func() { _ = run.Close() }()
	return run.Sub(filepath.Base(path))
}

// open opens the directory of an overlay.
func (v *overlay) open() (*record.Dir, error) {
	all, err := openOverlays(filepath.Dir(v.dir))
	if err != nil {
		return nil, err
	}
	defer func() { _ = all.Close() }()
	return all.Sub(filepath.Base(v.dir))
}

// adopt takes over what an earlier daemon left: what still runs is watched, the rest removed. What is not known to be
// an overlay stays, and is named.
func (o *overlays) adopt(ctx context.Context) {
	dir, err := openOverlays(o.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	var names []string
	if err == nil {
		defer func() { _ = dir.Close() }()
		names, err = dir.Names()
	}
	if err != nil {
		o.log.Error("the AWS files of commands cannot be taken over", "err", err)
		return
	}
	for _, name := range names {
		v := &overlay{dir: filepath.Join(o.dir, name)}
		switch err := v.adopt(dir); {
		case err != nil:
			o.log.Error("it stands among the AWS files of commands, and is left alone", "path", v.dir, "err", err)
		case v.gone:
		case v.owner.Running():
			o.watch(ctx, v)
		default:
			o.remove(v)
		}
	}
}

// overlayName begins the name of each overlay; a number follows.
const overlayName = "exec-"

// adopt reads whose an overlay is. One that a daemon had just begun to make is removed.
func (v *overlay) adopt(all *record.Dir) error {
	name := filepath.Base(v.dir)
	number, ours := strings.CutPrefix(name, overlayName)
	if _, err := strconv.ParseUint(number, 10, 64); !ours || err != nil {
		return errors.New("Broker makes nothing of this name")
	}
	dir, err := all.Sub(name)
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }()
	text, err := dir.Read(ownerFile, maxOwner, record.Private)
	if errors.Is(err, fs.ErrNotExist) {
		v.gone = true
		return errors.Join(dir.Sweep(), all.Remove(name)) // which removes an empty one
	}
	if err != nil {
		return err
	}
	if err := record.Decode(text, 1, &v.owner, &v.owner); err != nil {
		return fmt.Errorf("%s is damaged: %w", ownerFile, err)
	}
	if v.owner.PID <= 0 || v.owner.Start == "" {
		return fmt.Errorf("%s is damaged: it names no process", ownerFile)
	}
	return nil
}

// watch keeps an overlay until its process ends.
func (o *overlays) watch(ctx context.Context, v *overlay) {
	o.mu.Lock()
	o.live[v.dir] = v
	o.mu.Unlock()
	go func() {
		if v.owner.Ended(ctx) == nil {
			o.remove(v)
		} // else look is what notices
	}()
}

// look removes the overlays of processes that ended, and brings copies up to date whose originals changed.
func (o *overlays) look() {
	for _, v := range o.all() {
		if !v.owner.Running() {
			o.remove(v)
		} else if err := v.refresh(); err != nil {
			o.log.Warn("the AWS files of a command were not brought up to date", "err", err)
		}
	}
}

// all are those that there are now.
func (o *overlays) all() []*overlay {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Collect(maps.Values(o.live))
}

func (o *overlays) remove(v *overlay) {
	o.mu.Lock()
	delete(o.live, v.dir)
	o.mu.Unlock()
	v.mu.Lock()
	defer v.mu.Unlock()
	v.gone = true
	dir, err := openOverlays(o.dir)
	if err == nil {
		err = dir.RemoveTree(filepath.Base(v.dir))
		_ = dir.Close()
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		o.log.Error("the AWS files of a command that ended were not removed", "dir", v.dir, "err", err)
	}
}

// empty takes the sessions out of all overlays. What tells whose they are stays, so that credproc and broker still know their way within a
// command; its tools get nothing until it is started anew.
func (o *overlays) empty() error {
	var failed error
	for _, v := range o.all() {
		if err := v.empty(); err != nil {
			failed = errors.Join(failed, fmt.Errorf("a session is still in the files of a command: %w", err))
		}
	}
	if failed != nil {
		return fault.New(fault.Failed, "%w", failed)
	}
	return nil
}

func (v *overlay) empty() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.sessions = nil
	dir, err := v.open()
	if errors.Is(err, fs.ErrNotExist) { // the command ended
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }()
	names, err := dir.Names()
	for _, name := range names {
		if name != ownerFile && name != configFile {
			err = errors.Join(err, dir.RemoveTree(name))
		}
	}
	return err
}

// original returns the files that a request is about: those that an overlay was made of, where it names an
// overlay's, so that credproc and broker know every profile within a command as they do without.
func (o *overlays) original(files profiles.Files) profiles.Files {
	o.mu.Lock()
	defer o.mu.Unlock()
	for dir, v := range o.live {
		if files.Config == filepath.Join(dir, configFile) {
			files.Config = v.owner.Config
		}
		if files.Credentials == filepath.Join(dir, credentialsFile) {
			files.Credentials = v.owner.Credentials
		}
	}
	return files
}

// add makes the files for a process, unless it is locked. The error is of the kind failed or locked.
func (o *overlays) add(ctx context.Context, v *overlay, locked func() bool) error {
	bad := func(err error) error { return fault.New(fault.Failed, "make files for the command: %w", err) }
	if err := o.make(v); err != nil {
		if v.dir != "" {
			o.remove(v)
		}
		return bad(err)
	}
	// A lock that comes from here on finds it, and one that came before is seen: none is answered while a session is here.
	o.watch(ctx, v)
	var err error
	if !locked() {
		err = v.write()
	}
	if err == nil && (locked() || v.emptied()) {
		o.remove(v)
		return lockedFault()
	}
	if err != nil {
		o.remove(v)
		return bad(err)
	}
	return nil
}

// make makes the directory, with the file that says whose it is.
func (o *overlays) make(v *overlay) error {
	run, err := record.Make(filepath.Dir(o.dir), record.Private)
	if err != nil {
		return err
	}
	defer func() { _ = run.Close() }()
	all, err := run.MakeSub(filepath.Base(o.dir))
	if err != nil {
		return err
	}
	defer func() { _ = all.Close() }()
	name, dir, err := all.NewSub(overlayName)
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }()
	v.dir, v.owner.Version = filepath.Join(o.dir, name), 1
	text, err := json.Marshal(v.owner)
	if err != nil {
		return err
	}
	return dir.Replace(ownerFile, text)
}

// emptied reports whether a lock took the sessions out.
func (v *overlay) emptied() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.sessions == nil
}

func (v *overlay) now() [2]stamp {
	return [2]stamp{stampOf(v.owner.Config), stampOf(v.owner.Credentials)}
}

// write makes the copies.
func (v *overlay) write() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.writeLocked()
}

// refresh brings the copies up to date where an original changed. Those that an earlier daemon made stay as they are.
func (v *overlay) refresh() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.sessions == nil || v.stamps == v.now() {
		return nil
	}
	return v.writeLocked()
}

// writeLocked makes the copies, unless the command ended or they were emptied. One of the config is made only where tools would take something of it before the session, or
// where there is none: the SDK for JavaScript 2 fails without the file that AWS_SDK_LOAD_CONFIG has it read.
func (v *overlay) writeLocked() error {
	if v.gone || v.sessions == nil {
		return nil
	}
	v.stamps = v.now()
	src, err := readOriginal(v.owner.Credentials)
	if err != nil {
		return err
	}
	defer clear(src)
	dst, err := profiles.OverlayCredentials(src, v.sessions)
	if err != nil {
		return err
	}
	dir, err := v.open()
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }()
	if err := dir.Replace(credentialsFile, dst); err != nil {
		return err
	}
	if src, err = readOriginal(v.owner.Config); err != nil {
		return err
	}
	if dst, err = profiles.OverlayConfig(src, v.sessions); err != nil {
		return err
	}
	if len(dst) == len(src) && v.stamps[0] != (stamp{}) && v.config() == "" {
		return nil
	}
	return dir.Replace(configFile, dst)
}

// config is the path of its config, empty where there is none.
func (v *overlay) config() string {
	path := filepath.Join(v.dir, configFile)
	if _, err := os.Lstat(path); err != nil {
		return ""
	}
	return path
}

// maxOriginal is more than the store takes.
const maxOriginal = 64 << 20

// readOriginal reads a file that may be another than the one that the store has read: it waits on no fifo, since
// a lock has to wait for us.
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

// overlay gives a process files with the sessions of one profile or more: of all that it asks for, or none. They are its
// own from its start to its end, whichever program it becomes.
func (d *Daemon) overlay(ctx context.Context, c call) (wire.Response, error) {
	if c.req.Role != nil && c.req.Role.ARN != "" {
		return wire.Response{}, fault.New(fault.Usage, "a role that no profile names has no name in a file")
	}
	process, err := peer.Find(c.peer.PID)
	if err != nil {
		return wire.Response{}, fault.New(fault.Failed, "the process %d cannot be watched: %w", c.peer.PID, err)
	}
	answers, err := d.answers(ctx, c)
	if err != nil {
		return wire.Response{}, err
	}
	files := d.request(c).Files
	set, err := d.Store.Load(files)
	if err != nil {
		return wire.Response{}, err
	}
	v := &overlay{owner: owner{Process: process, Config: files.Config, Credentials: files.Credentials,
		Since: time.Now().Truncate(time.Second)}}
	made := &wire.Files{Profile: answers[0].Profile, Expires: answers[0].Expires}
	for _, a := range answers {
		v.sessions = append(v.sessions, profiles.Overlaid{Names: namesOf(set, a.Profile), Session: published(a), Region: a.Region})
		v.owner.Profiles = append(v.owner.Profiles, a.Profile)
		made.Region = cmp.Or(made.Region, a.Region)
		if a.Expires.Before(made.Expires) {
			made.Expires = a.Expires
		}
	}
	if len(c.req.Also) > 0 {
		made.Profiles = v.owner.Profiles
	}
	if err := d.overlays.add(d.life, v, d.Broker.Locked); err != nil {
		return wire.Response{}, err
	}
	d.answered.Add(1)
	d.lastUse.Store(time.Now().Unix())
	made.Credentials, made.Config = filepath.Join(v.dir, credentialsFile), v.config()
	return wire.Response{Files: made, Warnings: lines(answers[0].Warnings)}, nil // which are of the files, and so the same for all
}

// answers are the sessions of all profiles that a request names, one after the other: what a person is asked for the first
// serves the rest, where they share the device. Where one is refused the error says which, and none is given.
func (d *Daemon) answers(ctx context.Context, c call) ([]session.Answer, error) {
	var calls []call
	var answers []session.Answer
	for _, name := range append([]string{c.req.Profile}, c.req.Also...) {
		one := c
		one.req.Profile = name
		r := d.request(one)
		r.AdHoc = adHoc(c.req.Role)
		answer, err := d.Broker.Credentials(ctx, r)
		if err != nil {
			_ = d.record("given", one, answer, err)
			if len(c.req.Also) > 0 {
				err = fmt.Errorf("%s: %w", fault.Line(name), err)
			}
			return nil, err
		}
		calls, answers = append(calls, one), append(answers, answer)
	}
	for i, answer := range answers {
		if err := d.giving("given", calls[i], answer, nil); err != nil {
			return nil, err
		}
	}
	return answers, nil
}

// namesOf are the exact name of a profile and its aliases.
func namesOf(set *profiles.Set, profile string) []string {
	names := []string{profile}
	for _, a := range set.Aliases() {
		if a.Target == profile && a.Problem == "" {
			names = append(names, a.Name)
		}
	}
	return names
}

// published is a session as it stands in a credentials file.
func published(a session.Answer) profiles.Published {
	return profiles.Published{Profile: a.Profile, AccessKeyID: a.AccessKeyID, Secret: a.SecretAccessKey, Token: a.SessionToken}
}
