package grant

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"broker/internal/paths"
	"broker/internal/peer"
	"broker/internal/profiles"
	"broker/internal/record"
)

// note is the file in the directory of a command that names its owner and the original files. credproc and broker
// read it, and so does the next daemon if its record does not know the directory. It holds no secret.
type note struct {
	Version int `json:"version"` // 1; Broker 0.1.0 did not write it
	peer.Process
	Config      string `json:"aws_config_file"`
	Credentials string `json:"aws_shared_credentials_file"`

	Profiles []string  `json:"profiles,omitempty"`
	Since    time.Time `json:"since,omitzero"`
}

// isCommand reports whether a path may be the directory of a command, by its name and the name of its parent.
func isCommand(dir string) bool {
	number, ours := strings.CutPrefix(filepath.Base(dir), commandPrefix)
	_, err := strconv.ParseUint(number, 10, 64)
	return ours && err == nil && filepath.IsAbs(dir) &&
		filepath.Base(filepath.Dir(dir)) == filepath.Base(paths.Paths{}.PrivateFiles())
}

// sweep adopts directories that the record does not know, because a daemon was killed while it made them, or is of
// an earlier version. An entry that is not known to belong to a command is left alone and logged.
func (c *commands) sweep(theirs []string) {
	c.k.sweep(c.k.CommandsDir, "the AWS files of commands", theirs, c.adopt)
}

// sweep calls take for each entry of a directory below the runtime directory that belongs to no grant. Those in theirs
// belong to another daemon that is running. An entry that take refuses is logged; what says what the directory holds.
func (k *Keeper) sweep(dir, what string, theirs []string, take func(all *record.Dir, path string) error) {
	all, err := openAll(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	var names []string
	if err == nil {
		defer func() { _ = all.Close() }()
		names, err = all.Names()
	}
	if err != nil {
		k.Log.Error("cannot look for what a killed daemon left among "+what, "err", err)
		return
	}
	for _, name := range names {
		path := filepath.Join(dir, name)
		if slices.Contains(theirs, path) || len(k.all(func(h *held) bool { return h.Dir == path })) > 0 {
			continue
		}
		if err := take(all, path); err != nil {
			k.Log.Error("unknown entry among "+what+"; left alone", "path", path, "err", err)
		}
	}
}

// adopt makes a grant from the note in a directory. A directory without a note is removed if it is empty.
func (c *commands) adopt(all *record.Dir, path string) error {
	if !isCommand(path) {
		return errors.New("Broker does not use such a name")
	}
	dir, err := all.Sub(filepath.Base(path))
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }()
	text, err := dir.Read(noteFile, profiles.MaxOwner, record.Private)
	if errors.Is(err, fs.ErrNotExist) {
		return errors.Join(dir.Sweep(), all.Remove(filepath.Base(path)))
	}
	if err != nil {
		return err
	}
	var n note
	if err := record.Decode(text, 1, &n, &n); err != nil {
		return fmt.Errorf("%s is damaged: %w", noteFile, err)
	}
	if n.PID <= 0 || n.Start == "" {
		return fmt.Errorf("%s is damaged: it has no process", noteFile)
	}
	// The end of its sessions is unknown, so they are removed unless they are refreshed at once.
	h := &held{Grant: Grant{ID: randomHex(16), Kind: Files, Owner: n.Process, Profiles: n.Profiles, Since: n.Since,
		Dir: path, AWSConfig: n.Config, AWSCredentials: n.Credentials, Expires: time.Now(),
		Ended: len(n.Profiles) == 0 || !n.Running()}}
	set, err := c.k.Store.Load(h.files(c.k.Files))
	for _, profile := range n.Profiles {
		var chain profiles.Chain
		if err == nil {
			chain, err = set.Resolve(profile)
		}
		h.Sources = append(h.Sources, chain.Source.Name)
	}
	h.Ended = h.Ended || err != nil // a logout could not find the grant
	return c.k.add(h)
}
