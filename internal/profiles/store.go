package profiles

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"broker/internal/fault"
	"broker/internal/record"
	"broker/internal/system"
)

// Store caches what the files say and reads a file again when it has changed. The zero value is ready to use and
// safe for concurrent use.
type Store struct {
	mu    sync.Mutex
	slots map[Files]*slot
	uses  int64
}

// maxSlots limits how many combinations of files are cached. The caller chooses the files, so their number must be
// bounded.
const maxSlots = 16

// A slot holds the state of one combination of files.
type slot struct {
	used    int64 // guarded by Store.mu
	current atomic.Pointer[Set]
	mu      sync.Mutex // held while files are read
	states  [3]state   // guarded by mu; indexed by fileKind
}

// A state is what is known of one file. A Set keeps a copy of the three states that it was made of.
type state struct {
	path    string
	stamp   system.Stamp
	settled bool      // false: read the file again, whatever its stamp is
	rest    time.Time // do not read before this time, since the file is being rewritten without a pause
	table   *table    // the last good content; nil if there never was any
	real    string    // for the registry: the path of that content without symbolic links
	trouble *Warning  // why table is not the file's present content
	notices []Warning // about the file itself, such as who may write to it
}

// quiet is how long a file must be unchanged before it counts as complete. A test sets it higher.
var quiet = 50 * time.Millisecond

const (
	// longQuiet is the same for a file that looks truncated: empty, or without a final newline. A file looks so
	// between truncation and the last write.
	longQuiet = 400 * time.Millisecond
	// maxWait limits the wait for both.
	maxWait = 500 * time.Millisecond
	// restTime is how long the last good state is used after a wait that reached maxWait.
	restTime = 100 * time.Millisecond
	// coarse is the resolution of time stamps on file systems that store whole seconds only.
	coarse = 2 * time.Second
)

// Load returns what the files say now. If no file has changed since the last call, it costs three stat calls. Load
// waits for a file that was changed within the last 50 ms, for at most half a second. While an AWS file is half
// written, broken or refused, Load uses its last good state, and Set.Warnings says so.
//
// A missing file counts as empty. Errors are fault.Config, with file and line, for a registry that cannot be used,
// and for an AWS file that cannot be used if there is no last good state; and fault.Usage for a relative path.
func (s *Store) Load(files Files) (*Set, error) {
	for _, path := range []string{files.Config, files.Credentials, files.Registry} {
		if path != "" && !filepath.IsAbs(path) {
			return nil, fault.New(fault.Usage, "the path %q is not absolute", path)
		}
	}
	usual := s.usual(files)
	slot := s.slot(files)
	if set := slot.current.Load(); set != nil && set.usual == usual && set.fresh() {
		return set, nil
	}
	return slot.load(files, usual)
}

// usual returns what the usual AWS files say if a variable names others, or else nil.
func (s *Store) usual(files Files) *Set {
	usual := files
	usual.Config, usual.Credentials = filepath.Join(files.AWS, "config"), filepath.Join(files.AWS, "credentials")
	if files.AWS == "" || usual == files {
		return nil
	}
	set, err := s.Load(usual)
	if err != nil {
		return nil // they say nothing
	}
	return set
}

// load reads the files that have changed.
func (slot *slot) load(files Files, usual *Set) (*Set, error) {
	slot.mu.Lock()
	defer slot.mu.Unlock()
	// Another caller may have loaded the files in the meantime.
	if set := slot.current.Load(); set != nil && set.usual == usual && set.fresh() {
		return set, nil
	}
	deadline := time.Now().Add(maxWait)
	for i, path := range []string{files.Config, files.Credentials, files.Registry} {
		st := &slot.states[i]
		st.path = path
		if st.fresh() {
			continue
		}
		if err := st.read(files, fileKind(i), deadline); err != nil {
			return nil, err
		}
	}
	set := newSet(files, slot.states)
	set.usual = usual
	slot.current.Store(set)
	return set, nil
}

func (s *Store) slot(files Files) *slot {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.uses++
	sl := s.slots[files]
	if sl == nil {
		if s.slots == nil {
			s.slots = make(map[Files]*slot)
		}
		if len(s.slots) >= maxSlots {
			oldest := Files{}
			for f, other := range s.slots {
				if o := s.slots[oldest]; o == nil || other.used < o.used {
					oldest = f
				}
			}
			delete(s.slots, oldest)
		}
		sl = &slot{}
		s.slots[files] = sl
	}
	sl.used = s.uses
	return sl
}

// fresh reports whether the file is unchanged since it was read.
func (st *state) fresh() bool {
	if st.table == nil {
		return false
	}
	if !st.settled {
		return time.Now().Before(st.rest)
	}
	now, err := stampOf(st.path)
	return err == nil && now == st.stamp
}

// read updates the state, or keeps the last good one.
func (st *state) read(files Files, file fileKind, deadline time.Time) error {
	real := ""
	if file == registryFile {
		real = system.RealPath(st.path)
	}
	src, stable, err := st.settle(deadline)
	defer clear(src) // the credentials file may contain secrets
	if err == nil && !stable && st.table != nil {
		st.rest = time.Now().Add(restTime)
		st.trouble = &Warning{Origin{st.path, 0}, "is being rewritten without a pause; its last state is used"}
		return nil
	}
	var t *table
	if err == nil {
		st.notices, err = refuse(st.stamp, st.path, file)
	}
	if err == nil {
		t, err = newTable(st.path, src, file, files.provenance(file, st.path, st.stamp))
	}
	if err != nil && file == registryFile {
		// Other users may have written the last good state, and a command that starts now would not have it. So
		// serve nothing.
		st.table = nil
		return err
	}
	switch {
	case err == nil:
		st.table, st.real, st.trouble = t, real, nil
		return nil
	case st.table == nil:
		return err
	default:
		st.trouble = &Warning{Origin{st.path, 0}, "its last good state is used, because " + err.Error()}
		return nil
	}
}

// settle reads the file once it has been unchanged for long enough, or when the deadline has come. It reports
// which of the two, and sets stamp and settled.
func (st *state) settle(deadline time.Time) (src []byte, stable bool, err error) {
	start := time.Now()
	for {
		// The age of the file is measured when it is read, not when the read ends.
		looked := time.Now()
		src, now, err := readFile(st.path)
		st.stamp, st.settled = now, true
		if err != nil {
			return nil, true, err
		}
		age, need := looked.Sub(time.Unix(0, now.Changed)), quiet
		switch {
		case now == system.Stamp{}:
			age, need = looked.Sub(start), 0
			if st.table != nil && len(st.table.blocks) > 0 {
				need = longQuiet // an editor may be between unlink and rename
			}
		case len(src) == 0 || src[len(src)-1] != '\n':
			need = longQuiet
		}
		if age < -coarse {
			age = coarse // the time stamp is in the future, so the age is unknown
		}
		if age >= need {
			st.settled = now == system.Stamp{} || age >= coarse || now.Changed%int64(time.Second) != 0
			return src, true, nil
		}
		left := time.Until(deadline)
		if left <= 0 {
			st.settled = false
			return src, false, nil
		}
		clear(src)
		time.Sleep(min(need-age, quiet, left))
	}
}

// stampOf returns the stamp of a file and follows links. A missing file has the zero stamp.
func stampOf(path string) (system.Stamp, error) {
	if path == "" || path == os.DevNull { // people set AWS_CONFIG_FILE=/dev/null to mean "none"
		return system.Stamp{}, nil
	}
	return system.StampOfPath(path, true)
}

// ReadFile reads the registry or an AWS file. A missing file is empty. It waits for no pipe, and the error is a
// fault.Config for what is not a file or is too large. It may hold secrets: wipe it after use.
func ReadFile(path string) ([]byte, error) {
	src, _, err := readFile(path)
	return src, err
}

// readFile reads a regular file of limited size; it never blocks on a fifo or a device. The stamp belongs to the
// returned bytes. A missing file is empty.
func readFile(path string) ([]byte, system.Stamp, error) {
	if path == "" || path == os.DevNull {
		return nil, system.Stamp{}, nil
	}
	f, fi, err := system.OpenRegular(path, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, system.Stamp{}, nil
	case errors.Is(err, system.ErrNotRegular) && fi != nil:
		return nil, system.StampOf(fi), fault.New(fault.Config, "%s is not a file but a %s", path, modeName(fi.Mode()))
	case errors.Is(err, fs.ErrPermission):
		return nil, system.Stamp{}, fault.New(fault.Config, "%s cannot be read: %w", path, reason(err)).
			WithHint("%s", record.Unreadable(path))
	case err != nil:
		return nil, system.Stamp{}, fault.New(fault.Config, "%s cannot be read: %w", path, reason(err))
	}
	defer func() { _ = f.Close() }()
	before := system.StampOf(fi)
	if fi.Size() > maxFile {
		return nil, before, fault.New(fault.Config, "%s has %d MB; at most %d MB are read", path, fi.Size()>>20, maxFile>>20)
	}
	src := make([]byte, fi.Size()+1) // one more, to notice that it grows
	n, err := io.ReadFull(io.NewSectionReader(f, 0, int64(len(src))), src)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return nil, before, fault.New(fault.Config, "%s cannot be read: %w", path, reason(err))
	}
	if fi, err = f.Stat(); err == nil && system.StampOf(fi) == before && int64(n) == before.Size {
		return src[:n], before, nil
	}
	// The file changed during the read. A change time of now makes the caller wait and read again.
	before.Changed, before.Size = time.Now().UnixNano(), -1
	return src[:n], before, nil
}

// reason returns the cause without the path, since the message already has the path.
func reason(err error) error {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return pe.Err
	}
	return err
}

func modeName(mode fs.FileMode) string {
	switch {
	case mode.IsDir():
		return "directory"
	case mode&fs.ModeNamedPipe != 0:
		return "fifo"
	case mode&fs.ModeSocket != 0:
		return "socket"
	case mode&fs.ModeDevice != 0:
		return "device"
	}
	return "special file"
}

// CheckRegistry returns the error with which Load would refuse this registry because others can change it. The
// registry need not exist yet.
func CheckRegistry(path string) error {
	stamp, err := stampOf(path)
	if err != nil {
		return fault.New(fault.Config, "%s cannot be read: %w", path, reason(err))
	}
	_, err = refuse(stamp, path, registryFile)
	return err
}

// refuse reports who else could have written a file. A file of another user, or a registry that others can change,
// is an error; an AWS file that others can change gets a warning. For a registry that does not exist yet, the
// directories on the way to it are checked, so that Broker creates no registry that it would refuse later.
func refuse(s system.Stamp, path string, file fileKind) ([]Warning, error) {
	if s.Owner < 0 || s == (system.Stamp{}) && (file != registryFile || path == "" || path == os.DevNull) {
		return nil, nil
	}
	if s.Owner != 0 && s.Owner != os.Geteuid() {
		return nil, fault.New(fault.Config, "%s belongs to another user (uid %d)", path, s.Owner).
			WithHint("%s", (&exposure{Path: path}).hint())
	}
	e := exposed(path)
	switch {
	case e == nil:
		return nil, nil
	case file == registryFile:
		return nil, fault.New(fault.Config, "%s", e.of(path, path)).WithHint("%s", e.hint())
	}
	text := "counts as another user's file, since " + e.of(path, "it")
	if hint := e.mend(); hint != "" {
		text += "; to end that: " + string(hint)
	}
	return []Warning{{Origin{path, 0}, text}}, nil
}
