package daemon

import (
	"encoding/json"
	"path/filepath"

	"broker/internal/profiles"
	"broker/internal/record"
)

// Original returns the files that those of a command stand for, if they are in a directory that the daemon made below
// dir: so that a program within the command reads the profiles, and what they may say, as it does without.
func Original(dir string, files profiles.Files) profiles.Files {
	of := func(path, name string) (o owner, ok bool) {
		made := filepath.Dir(path)
		if filepath.Base(path) != name || filepath.Dir(made) != filepath.Clean(dir) {
			return o, false
		}
		text, err := record.Read(filepath.Join(made, ownerFile), maxOwner, record.Guarded)
		return o, err == nil && json.Unmarshal(text, &o) == nil
	}
	if o, ok := of(files.Config, configFile); ok && o.Config != "" {
		files.Config = o.Config
	}
	if o, ok := of(files.Credentials, credentialsFile); ok && o.Credentials != "" {
		files.Credentials = o.Credentials
	}
	return files
}
