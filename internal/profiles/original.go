package profiles

import (
	"encoding/json"
	"path/filepath"
	"strings"

	"broker/internal/record"
)

// The files that the daemon makes for a command (`exec --mode file`), in a directory for each command.
const (
	OwnerFile       = "owner.json" // whose they are, and which files they stand for
	ConfigFile      = "config"
	CredentialsFile = "credentials"

	MaxOwner = 1 << 20 // bytes of OwnerFile
)

// Original returns the files that those of a command stand for, if they are in a directory that the daemon made below
// dir. So a program within the command reads the profiles, and what they may say, as it does without.
func Original(dir string, files Files) Files {
	if dir = filepath.Clean(dir); !strings.HasPrefix(files.Config, dir) && !strings.HasPrefix(files.Credentials, dir) {
		return files // each request is looked at
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
