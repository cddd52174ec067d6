package grant

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"broker/internal/atomicfile"
	"broker/internal/dial"
	"broker/internal/record"
	"broker/internal/system"
)

// recordFile is the contents of the record.
type recordFile struct {
	Version int     `json:"version"` // 1
	Socket  string  `json:"socket"`  // of the daemon that wrote it
	Boot    string  `json:"boot"`    // boot id of the machine when it was written
	Grants  []Grant `json:"grants"`
}

const (
	recordPrefix = "grants-"
	recordSuffix = ".json"
	maxRecord    = 16 << 20 // bytes
)

// record returns the path of the record. If daemons of one home have several sockets, each has its own record.
func (k *Keeper) record() string {
	sum := sha256.Sum256([]byte(k.Socket))
	return filepath.Join(k.StateDir, recordPrefix+hex.EncodeToString(sum[:4])+recordSuffix)
}

// saveLocked writes the record, or removes it if there is no grant. If that fails, look retries.
func (k *Keeper) saveLocked() (err error) {
	if k.over {
		return nil
	}
	defer func() {
		if err != nil && !k.unsaved {
			k.Log.Error("cannot save the record of grants; the grants end with this daemon", "err", err)
		}
		k.unsaved = err != nil
	}()
	if len(k.grants) == 0 {
		return record.Remove(k.record())
	}
	f := recordFile{Version: 1, Socket: k.Socket, Boot: system.BootID()}
	for _, id := range slices.Sorted(maps.Keys(k.grants)) {
		f.Grants = append(f.Grants, k.grants[id].Grant)
	}
	text, err := json.Marshal(f)
	if err != nil {
		return err
	}
	return record.Replace(k.record(), text)
}

// readRecord reads a record. A missing record has no grants.
func readRecord(path string) (f recordFile, err error) {
	text, err := record.Read(path, maxRecord, record.Private)
	if errors.Is(err, fs.ErrNotExist) {
		return recordFile{}, nil
	}
	if err != nil {
		return recordFile{}, err
	}
	if err := record.Decode(text, 1, &f, nil); err != nil {
		return recordFile{}, fmt.Errorf("%s is damaged: %w", path, err)
	}
	for _, g := range f.Grants {
		if err := g.check(); err != nil {
			return recordFile{}, fmt.Errorf("%s is damaged: %w", path, err)
		}
	}
	return f, nil
}

// check returns an error for a grant that no Keeper would write.
func (g Grant) check() error {
	owned := g.Owner.PID > 0 && g.Owner.Start != ""
	switch {
	case !isID(g.ID) || len(g.Profiles) == 0:
		return errors.New("a grant has no id or no profile")
	case g.Kind == Endpoint:
		if !owned || len(g.Token) != 2*sha256.Size || g.Port < 1024 || g.Port > 65535 {
			return errors.New("an endpoint has no owner, no token or no port")
		}
	case g.Kind == Files:
		if !owned || !isCommand(g.Dir) {
			return errors.New("the files of a command have no owner or no directory")
		}
	case g.Kind == Section:
		// Broker never publishes a long-lived key (AKIA).
		if slices.ContainsFunc(g.Keys, func(id string) bool { return !strings.HasPrefix(id, "ASIA") }) {
			return errors.New("a section has a long-lived key")
		}
	case g.Kind == Door:
		if g.Door == nil || !isDoorName(g.Door.Name) || !g.isDoorDir() || !owned && g.Until.IsZero() {
			return errors.New("a door has no terms, no directory, or no end")
		}
	default:
		return fmt.Errorf("a grant has the unknown kind %q", g.Kind)
	}
	return nil
}

// isID reports whether a text may be the id of a grant.
func isID(text string) bool {
	id, err := hex.DecodeString(text)
	return err == nil && len(id) == 16
}

// adopt takes over the grants of the previous daemon, and ends those that cannot continue. A record that cannot be
// read is set aside, and its name is logged.
func (k *Keeper) adopt() {
	k.mu.Lock()
	if f, err := readRecord(k.record()); err != nil {
		aside, aerr := record.SetAside(k.record())
		k.Log.Error("cannot read the record of grants", "file", k.record(), "set aside as", aside,
			"err", errors.Join(err, aerr))
	} else {
		k.adoptLocked(f, f.Boot == system.BootID())
	}
	theirs := k.adoptOthersLocked()
	k.adoptOldLocked()
	_ = k.saveLocked()
	for _, h := range k.grants {
		k.watchLocked(h)
	}
	k.mu.Unlock()
	k.commands.sweep(theirs)
	k.doors.sweep(theirs)
	k.tidy()
	k.takeOut(time.Now())
}

// adoptOthersLocked ends the grants of ended daemons on other sockets. It returns the directories of commands and doors
// that belong to daemons that still run.
func (k *Keeper) adoptOthersLocked() (theirs []string) {
	entries, _ := os.ReadDir(k.StateDir)
	for _, entry := range entries {
		path := filepath.Join(k.StateDir, entry.Name())
		if path == k.record() || !strings.HasPrefix(entry.Name(), recordPrefix) ||
			!strings.HasSuffix(entry.Name(), recordSuffix) {
			continue
		}
		f, err := readRecord(path)
		if err != nil {
			continue
		}
		if !nobody(f.Socket) {
			for _, g := range f.Grants {
				theirs = append(theirs, g.Dir)
			}
			continue
		}
		k.adoptLocked(f, false)
		if k.saveLocked() == nil { // otherwise the next start finds that record again
			_ = record.Remove(path)
		}
	}
	return theirs
}

// adoptLocked takes over the grants of one record. If goOn is false, they are marked as ended.
func (k *Keeper) adoptLocked(f recordFile, goOn bool) {
	for _, g := range f.Grants {
		g.Ended = g.Ended || !goOn || g.abandoned()
		k.grants[g.ID] = &held{Grant: g, over: make(chan struct{}), said: new(refusals)}
	}
}

// nobody reports whether no daemon listens on a socket.
func nobody(socket string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	conn, err := dial.Dial(ctx, socket)
	if err == nil {
		_ = conn.Close()
	}
	return errors.Is(err, dial.ErrNobody)
}

// tidy removes temporary files that an interrupted edit left beside the user's files. They may hold other secrets
// of those files.
func (k *Keeper) tidy() {
	list := []string{k.Files.Config, k.Files.Credentials, k.Files.Registry}
	for _, h := range k.all(func(h *held) bool { return h.Kind == Section }) {
		list = append(list, h.files(k.Files).Credentials)
	}
	slices.Sort(list)
	for _, path := range slices.Compact(list) {
		if err := atomicfile.Tidy(path); err != nil {
			k.Log.Warn("cannot remove the temporary file of an interrupted edit", "file", path, "err", err)
		}
	}
}

// adoptOldLocked ends the grants of an earlier version: it removes their sections and closes their endpoints.
func (k *Keeper) adoptOldLocked() {
	endpoints := k.Socket + ".endpoints" // a variable may have chosen this name
	var leases struct {
		Version int               `json:"version"`
		Leases  []json.RawMessage `json:"leases"`
	}
	if text, err := record.Read(endpoints, maxRecord, record.Guarded); err == nil &&
		record.Decode(text, 1, &leases, nil) == nil {
		err := record.Remove(endpoints)
		k.Log.Warn("the endpoints of an earlier version have ended; restart their programs",
			"file", endpoints, "err", err)
	}
	path := filepath.Join(k.StateDir, "published.json")
	text, err := record.Read(path, maxRecord, record.Guarded)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	var old struct {
		Version int                            `json:"version"`
		Files   map[string]map[string][]string `json:"files"`
	}
	if err == nil {
		err = record.Decode(text, 1, &old, &old.Files)
	}
	if err != nil {
		aside, aerr := record.SetAside(path)
		k.Log.Error("cannot read the record of published sections", "file", path, "set aside as", aside,
			"err", errors.Join(err, aerr))
		return
	}
	for credentials, sections := range old.Files {
		for profile, keys := range sections {
			keys = slices.DeleteFunc(keys, func(id string) bool { return !strings.HasPrefix(id, "ASIA") })
			g := Grant{ID: randomHex(16), Kind: Section, Profiles: []string{profile}, AWSCredentials: credentials,
				Since: wholeSeconds(), Keys: keys, Expires: time.Now(), Ended: true}
			k.grants[g.ID] = &held{Grant: g}
		}
	}
	// The record has them now. Otherwise, the next start finds the old record again.
	if err := k.saveLocked(); err == nil {
		err = record.Remove(path)
		k.Log.Warn("removing the sections that an earlier version published", "file", path, "err", err)
	}
}
