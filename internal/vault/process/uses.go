package process

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"time"

	"broker/internal/exchange"
	"broker/internal/record"
	"broker/internal/rotate"
)

// usesJSON is the file that says when Broker last signed a call with each long-lived key, by AWS's clock. A rotation
// compares that with what AWS saw. It is a note: a call does not fail if it cannot be written.
type usesJSON struct {
	Version int                  `json:"version"` // 1
	Used    map[string]time.Time `json:"used"`    // by a hash of the access key id, see useOf
	// Others has the last use of a key by something else that a look at the keys found: a later call by Broker hides
	// it from the next look.
	Others map[string]otherUse `json:"others,omitempty"`
}

// otherUse is what a rotate.Key says of a use that was not by Broker.
type otherUse struct {
	At      time.Time `json:"at"`
	Service string    `json:"service"`
	Region  string    `json:"region"`
	Ours    time.Time `json:"ours,omitzero"` // the last use by Broker before the look
}

const (
	usesName = "key-uses.json"
	usesLock = "key-uses.lock"
	maxUses  = 100
	// usesWait limits the wait for another vault process that writes the file.
	usesWait = time.Second
)

// useOf returns the name of a key in the file.
func useOf(keyID string) string { return hashedKey("", keyID) }

// signs says that AWS is called with keys. It notes the time for a long-lived key.
func (e *errand) signs(keys exchange.Keys) {
	e.calling.Store(true)
	if !keys.Token.IsZero() {
		return
	}
	now, key := e.now(0).UTC().Truncate(time.Second), useOf(keys.AccessKeyID)
	e.noteUse(func(f *usesJSON) bool {
		if now.Equal(f.Used[key]) {
			return false
		}
		f.Used[key] = now
		for id, at := range f.Used {
			if len(f.Used) > maxUses && now.Sub(at) > 365*24*time.Hour {
				delete(f.Used, id)
				delete(f.Others, id)
			}
		}
		return true
	})
}

// noteOther notes a use of a key by something else.
func (e *errand) noteOther(key rotate.Key) {
	e.noteUse(func(f *usesJSON) bool {
		use := otherUse{key.Used, key.Service, key.Region, key.Ours}
		if f.Others[useOf(key.ID)] == use {
			return false
		}
		f.Others[useOf(key.ID)] = use
		return true
	})
}

// noteUse edits the file, unless edit returns false.
func (e *errand) noteUse(edit func(*usesJSON) bool) {
	if e.StateDir == "" {
		return
	}
	dir, err := record.Make(e.StateDir, record.Guarded)
	if err != nil {
		return
	}
	defer func() { _ = dir.Close() }()
	ctx, cancel := context.WithTimeout(context.Background(), usesWait)
	defer cancel()
	held, err := dir.Lock(ctx, usesLock)
	if err != nil {
		return
	}
	defer func() { _ = held.Close() }()
	uses, err := readUses(dir)
	if err != nil || !edit(&uses) {
		return
	}
	if text, err := json.Marshal(uses); err == nil {
		_ = dir.Replace(usesName, text)
	}
}

// keyUses returns when each key was last used, as far as that is known.
func (e *errand) keyUses() usesJSON {
	if e.StateDir == "" {
		return usesJSON{}
	}
	dir, err := record.Open(e.StateDir, record.Guarded)
	if err != nil {
		return usesJSON{}
	}
	defer func() { _ = dir.Close() }()
	uses, _ := readUses(dir)
	return uses
}

// readUses reads the file. A missing or damaged one is empty.
func readUses(dir *record.Dir) (usesJSON, error) {
	text, err := dir.Read(usesName, 1<<20, record.Private)
	var f usesJSON
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return usesJSON{}, err
	case err == nil:
		if record.Decode(text, 1, &f, nil) != nil {
			f = usesJSON{}
		}
	}
	f.Version = 1
	if f.Used == nil {
		f.Used = map[string]time.Time{}
	}
	if f.Others == nil {
		f.Others = map[string]otherUse{}
	}
	return f, nil
}
