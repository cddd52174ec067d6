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

// recordFile is the content of the record.
type recordFile struct {
	Version int     `json:"version"` // 1
	Socket  string  `json:"socket"`  // of the daemon whose grants they are
	Boot    string  `json:"boot"`    // of the machine, when it was written
	Grants  []Grant `json:"grants"`
}

const (
	recordPrefix = "grants-"
	recordSuffix = ".json"
	maxRecord    = 16 << 20 // bytes
)

// record is the path of the record. Daemons of one home on several sockets have one each.
func (k *Keeper) record() string {
	sum := sha256.Sum256([]byte(k.Socket))
	return filepath.Join(k.StateDir, recordPrefix+hex.EncodeToString(sum[:4])+recordSuffix)
}

// saveLocked writes the record, or removes it if there is no grant. If that fails, look tries it again.
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

// readRecord reads a record. A missing one has no grants.
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

// check refuses what no Keeper writes.
func (g Grant) check() error {
	owned := g.Owner.PID > 0 && g.Owner.Start != ""
	switch {
	case !isID(g.ID) || len(g.Profiles) == 0:
		return errors.New("a grant has no id, or no profile")
	case g.Kind == Endpoint:
		if !owned || len(g.Token) != 2*sha256.Size || g.Port < 1024 || g.Port > 65535 {
			return errors.New("an endpoint has no owner, no token or no port")
		}
	case g.Kind == Files:
		if !owned || !isCommand(g.Dir) {
			return errors.New("the files of a command have no owner or no directory")
		}
	case g.Kind == Section:
		// A long-lived key (AKIA) was never published.
		if slices.ContainsFunc(g.Keys, func(id string) bool { return !strings.HasPrefix(id, "ASIA") }) {
			return errors.New("a section has a key of another kind")
		}
	default:
		return fmt.Errorf("it has a grant of the kind %q", g.Kind)
	}
	return nil
}

// isID reports whether a text may be the id of a grant.
func isID(text string) bool {
	id, err := hex.DecodeString(text)
	return err == nil && len(id) == 16
}

// adopt takes over the grants of the daemon before, and ends those that nobody can answer for any more. A record that
// cannot be read is set aside and named.
func (k *Keeper) adopt() {
	k.mu.Lock()
	if f, err := readRecord(k.record()); err != nil {
		aside, aerr := record.SetAside(k.record())
		k.Log.Error("the record of grants cannot be read", "file", k.record(), "set aside as", aside,
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
	k.tidy()
	k.takeOut(time.Now())
}

// adoptOthersLocked ends what daemons on other sockets left that have ended. It returns the directories of commands
// that those answer for which still run.
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
		if k.saveLocked() == nil { // or the next start finds that record again
			_ = record.Remove(path)
		}
	}
	return theirs
}

// adoptLocked takes over the grants of one record. Unless they go on they have ended.
func (k *Keeper) adoptLocked(f recordFile, goOn bool) {
	for _, g := range f.Grants {
		g.Ended = g.Ended || !goOn || g.Owner.PID != 0 && !g.Owner.Running()
		k.grants[g.ID] = &held{Grant: g}
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

// tidy removes what an edit of a file of the user left if it was cut short. It may hold other secrets of that file.
func (k *Keeper) tidy() {
	list := []string{k.Files.Config, k.Files.Credentials, k.Files.Registry}
	for _, h := range k.all(func(h *held) bool { return h.Kind == Section }) {
		list = append(list, h.files(k.Files).Credentials)
	}
	slices.Sort(list)
	for _, path := range slices.Compact(list) {
		if err := atomicfile.Tidy(path); err != nil {
			k.Log.Warn("what an edit that was cut short left beside a file was not removed", "file", path, "err", err)
		}
	}
}

// adoptOldLocked ends what an earlier version handed out: its sections are taken out, and its endpoints close.
func (k *Keeper) adoptOldLocked() {
	endpoints := k.Socket + ".endpoints" // a name that a variable may have chosen
	var leases struct {
		Version int               `json:"version"`
		Leases  []json.RawMessage `json:"leases"`
	}
	if text, err := record.Read(endpoints, maxRecord, record.Guarded); err == nil &&
		record.Decode(text, 1, &leases, nil) == nil {
		err := record.Remove(endpoints)
		k.Log.Warn("endpoints of an earlier version have ended; start their programs again", "file", endpoints, "err", err)
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
		k.Log.Error("the record of published sections cannot be read", "file", path, "set aside as", aside,
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
	// The record has them now, or the next start finds the old one again.
	if err := k.saveLocked(); err == nil {
		err = record.Remove(path)
		k.Log.Warn("sections that an earlier version published are taken out", "file", path, "err", err)
	}
}
