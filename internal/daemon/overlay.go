package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"broker/internal/atomicfile"
	"broker/internal/dial"
	"broker/internal/fault"
	"broker/internal/profiles"
	"broker/internal/session"
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

	// What the copies are made of; a nil names is one that was taken over from a daemon before us.
	names   []string
	session profiles.Published
	region  string
	stamps  [2]stamp // of the originals
}

// owner is what stands in the file of that name: whose it is, and which files it stands for. No secret is in it.
type owner struct {
	PID         int    `json:"pid"`
	Start       string `json:"start"` // of the process, in the kernel's words
	Config      string `json:"aws_config_file"`
	Credentials string `json:"aws_shared_credentials_file"`
}

const (
	ownerFile       = "owner.json"
	configFile      = "config"
	credentialsFile = "credentials"
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

// adopt takes over what an earlier daemon left: what still runs is watched, the rest removed.
func (o *overlays) adopt(ctx context.Context) {
	names, err := os.ReadDir(o.dir)
	if err != nil {
		return // there is none, most likely
	}
	for _, n := range names {
		v := &overlay{dir: filepath.Join(o.dir, n.Name())}
		text, err := os.ReadFile(filepath.Join(v.dir, ownerFile))
		if err == nil {
			err = json.Unmarshal(text, &v.owner)
		}
		if err != nil || !isRunning(v.owner.PID, v.owner.Start) {
			o.remove(v)
			continue
		}
		o.watch(ctx, v)
	}
}

// watch keeps an overlay until its process ends.
func (o *overlays) watch(ctx context.Context, v *overlay) {
	o.mu.Lock()
	o.live[v.dir] = v
	o.mu.Unlock()
	go func() {
		if processEnds(ctx, v.owner.PID) == nil && !isRunning(v.owner.PID, v.owner.Start) {
			o.remove(v)
		} // else look is what notices
	}()
}

// look removes the overlays of processes that ended, and brings copies up to date whose originals changed.
func (o *overlays) look() {
	o.mu.Lock()
	all := slices.Collect(maps.Values(o.live))
	o.mu.Unlock()
	for _, v := range all {
		if !isRunning(v.owner.PID, v.owner.Start) {
			o.remove(v)
		} else if err := o.refresh(v); err != nil {
			o.log.Warn("the AWS files of a command were not brought up to date", "err", err)
		}
	}
}

func (o *overlays) remove(v *overlay) {
	o.mu.Lock()
	delete(o.live, v.dir)
	o.mu.Unlock()
	if err := os.RemoveAll(v.dir); err != nil {
		o.log.Error("the AWS files of a command that ended were not removed", "dir", v.dir, "err", err)
	}
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

// add makes the files for a process. The error is of the kind failed.
func (o *overlays) add(ctx context.Context, v *overlay) error {
	bad := func(err error) error { return fault.New(fault.Failed, "make files for the command: %w", err) }
	for _, dir := range []string{filepath.Dir(o.dir), o.dir} {
		f, err := dial.OpenDir(dir)
		if err != nil {
			return bad(err)
		}
		_ = f.Close()
	}
	var err error
	if v.dir, err = os.MkdirTemp(o.dir, "exec-"); err != nil {
		return bad(err)
	}
	err = os.Chmod(v.dir, 0o700) // whatever the umask
	if err == nil {
		var text []byte
		if text, err = json.Marshal(v.owner); err == nil {
			err = atomicfile.Write(filepath.Join(v.dir, ownerFile), text, 0o600)
		}
	}
	if err == nil {
		err = v.write()
	}
	if err != nil {
		o.remove(v)
		return bad(err)
	}
	o.watch(ctx, v)
	return nil
}

func (v *overlay) now() [2]stamp {
	return [2]stamp{stampOf(v.owner.Config), stampOf(v.owner.Credentials)}
}

// write makes the copies. One of the config is made only where tools would take something of it before the session, or
// where there is none: the SDK for JavaScript 2 fails without the file that AWS_SDK_LOAD_CONFIG has it read.
func (v *overlay) write() error {
	v.stamps = v.now()
	src, err := readOriginal(v.owner.Credentials)
	if err != nil {
		return err
	}
	defer clear(src)
	dst, err := profiles.OverlayCredentials(src, v.names, v.session, v.region)
	if err != nil {
		return err
	}
	if err := atomicfile.Write(filepath.Join(v.dir, credentialsFile), dst, 0o600); err != nil {
		return err
	}
	if src, err = readOriginal(v.owner.Config); err != nil {
		return err
	}
	if dst, err = profiles.OverlayConfig(src, v.names); err != nil {
		return err
	}
	if len(dst) == len(src) && v.stamps[0] != (stamp{}) && v.config() == "" {
		return nil
	}
	return atomicfile.Write(filepath.Join(v.dir, configFile), dst, 0o600)
}

// config is the path of its config, empty where there is none.
func (v *overlay) config() string {
	path := filepath.Join(v.dir, configFile)
	if _, err := os.Lstat(path); err != nil {
		return ""
	}
	return path
}

// readOriginal reads a file that the store has read just before, so that it is a regular one of bounded size.
func readOriginal(path string) ([]byte, error) {
	src, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return src, err
}

// overlay gives a process files with the session of a profile. They are its own from its start to its end,
// whichever program it becomes.
func (d *Daemon) overlay(ctx context.Context, c call) (wire.Response, error) {
	r := d.request(c)
	r.AdHoc = adHoc(c.req.Role)
	if c.req.Role != nil && c.req.Role.ARN != "" {
		return wire.Response{}, fault.New(fault.Usage, "a role that no profile names has no name in a file")
	}
	start, err := startOf(c.peer.PID)
	if err != nil {
		return wire.Response{}, fault.New(fault.Failed, "the process %d cannot be watched: %w", c.peer.PID, err)
	}
	answer, err := d.Broker.Credentials(ctx, r)
	d.record("given", c, answer, err)
	if err != nil {
		return wire.Response{}, err
	}
	set, err := d.Store.Load(r.Files)
	if err != nil {
		return wire.Response{}, err
	}
	v := &overlay{
		owner:   owner{c.peer.PID, start, r.Files.Config, r.Files.Credentials},
		names:   []string{answer.Profile},
		session: published(answer),
		region:  answer.Region,
	}
	for _, a := range set.Aliases() {
		if a.Target == answer.Profile && a.Problem == "" {
			v.names = append(v.names, a.Name)
		}
	}
	if err := d.overlays.add(d.life, v); err != nil {
		return wire.Response{}, err
	}
	if d.Broker.Locked() { // it may have been locked while we wrote
		d.overlays.remove(v)
		return wire.Response{}, fault.New(fault.Locked, "the broker is locked").WithHint("broker unlock")
	}
	d.answered.Add(1)
	d.lastUse.Store(time.Now().Unix())
	return wire.Response{
		Files: &wire.Files{
			Profile: answer.Profile, Region: answer.Region, Expires: answer.Expires,
			Credentials: filepath.Join(v.dir, credentialsFile), Config: v.config(),
		},
		Warnings: lines(answer.Warnings),
	}, nil
}

// published is a session as it stands in a credentials file.
func published(a session.Answer) profiles.Published {
	return profiles.Published{Profile: a.Profile, AccessKeyID: a.AccessKeyID, Secret: a.SecretAccessKey, Token: a.SessionToken}
}
