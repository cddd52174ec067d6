package profiles

import (
	"encoding/json"
	"path/filepath"
	"strings"

	"broker/internal/record"
)

// The files that the daemon makes for a command (`exec --mode file`), in one directory per command.
const (
	OwnerFile       = "owner.json" // records which command the files belong to, and which files they replace
	ConfigFile      = "config"
	CredentialsFile = "credentials"

	MaxOwner = 1 << 20 // bytes; the largest OwnerFile that is read
)

// Original returns the files that a command's private files replace, if those are in a directory that the daemon
// made below dir. A program inside the command then uses the same profiles and rules as outside.
func Original(dir string, files Files) Files {
	if dir = filepath.Clean(dir); !strings.HasPrefix(files.Config, dir) && !strings.HasPrefix(files.Credentials, dir) {
		return files // this runs for every request
	}
	type originals struct {
		Config      string `json:"aws_config_file"`
		Credentials string `json:"aws_shared_credentials_file"`
	}
	of := func(path, name string) (o originals) {
		made := filepath.Dir(path)
		if filepath.Base(path) != name || filepath.Dir(made) != dir {
			return originals{}
		}
		text, err := record.Read(filepath.Join(made, OwnerFile), MaxOwner, record.Guarded)
		if err != nil || json.Unmarshal(text, &o) != nil {
			return originals{}
		}
		return o
	}
	if path := of(files.Config, ConfigFile).Config; path != "" {
		files.Config = path
	}
	if path := of(files.Credentials, CredentialsFile).Credentials; path != "" {
		files.Credentials = path
	}
	return files
}
