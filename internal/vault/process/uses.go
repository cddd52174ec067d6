package process

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"time"

	"broker/internal/exchange"
	"broker/internal/record"
)

// usesJSON is the file that says when Broker last signed a call with each long-lived key, by AWS's clock. A rotation
// compares that with what AWS saw. It is a note: a call does not fail if it cannot be written.
type usesJSON struct {
	Version int                  `json:"version"` // 1
	Used    map[string]time.Time `json:"used"`    // by a hash of the access key id, see useOf
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
	if e.StateDir == "" || !keys.Token.IsZero() {
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
	if err != nil {
		return
	}
	now := e.now(0).UTC().Truncate(time.Second)
	key := useOf(keys.AccessKeyID)
	if now.Equal(uses[key]) {
		return
	}
	uses[key] = now
	for id, at := range uses {
		if len(uses) > maxUses && now.Sub(at) > 365*24*time.Hour {
			delete(uses, id)
		}
	}
	if text, err := json.Marshal(usesJSON{1, uses}); err == nil {
		_ = dir.Replace(usesName, text)
	}
}

// keyUses returns when each key was last used, as far as that is known.
func (e *errand) keyUses() map[string]time.Time {
	if e.StateDir == "" {
		return nil
	}
	dir, err := record.Open(e.StateDir, record.Guarded)
	if err != nil {
		return nil
	}
	defer func() { _ = dir.Close() }()
	uses, _ := readUses(dir)
	return uses
}

// readUses reads the file. A missing or damaged one is empty.
func readUses(dir *record.Dir) (map[string]time.Time, error) {
	text, err := dir.Read(usesName, 1<<20, record.Private)
	var f usesJSON
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, err
	case err == nil:
		if record.Decode(text, 1, &f, nil) != nil {
			f = usesJSON{}
		}
	}
	if f.Used == nil {
		f.Used = map[string]time.Time{}
	}
	return f.Used, nil
}
