package cli

import (
	"bytes"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"broker/internal/fault"
	"broker/internal/secret"
	"broker/internal/system"
)

const (
	// maxLooked is the most files and directories that are visited below the working directory.
	maxLooked = 20_000
	maxCopy   = 1 << 20
)

// others warns about other copies of long-lived keys: in the environment, in .env files below the working directory
// and in CSV files in the downloads. It changes nothing.
func (i *importing) others(stored []found) {
	seen := func(where, what string) {
		i.p.warn([]string{where + " holds " + what + " too; it was left there"})
	}
	if id := os.Getenv("AWS_ACCESS_KEY_ID"); id != "" && os.Getenv("AWS_SESSION_TOKEN") == "" {
		seen("the environment (AWS_ACCESS_KEY_ID)", "the key "+secret.Tail(id))
	}
	look := func(path string) {
		if what := keyIn(path, stored); what != "" {
			seen(path, what)
		}
	}
	if here, err := os.Getwd(); err == nil {
		looked := 0
		_ = filepath.WalkDir(here, func(path string, d fs.DirEntry, err error) error {
			if looked++; looked > maxLooked {
				return filepath.SkipAll
			}
			switch name := filepath.Base(path); {
			case err != nil:
			case d.IsDir() && (name == ".git" || name == "node_modules"):
				return filepath.SkipDir
			case d.Type().IsRegular() && (name == ".env" || strings.HasPrefix(name, ".env.") || strings.HasSuffix(name, ".env")):
				look(path)
			}
			return nil
		})
	}
	if home, err := os.UserHomeDir(); err == nil {
		downloads, _ := filepath.Glob(filepath.Join(home, "Downloads", "*.csv"))
		for _, path := range downloads {
			look(path)
		}
	}
}

// keyIn names the long-lived key in a small file: one of the stored keys, or text that looks like a key.
func keyIn(path string, stored []found) string {
	f, _, err := system.OpenRegular(path, 0)
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, maxCopy))
	if err != nil {
		return ""
	}
	defer clear(data)
	for _, key := range stored {
		if bytes.Contains(data, []byte(key.AccessKeyID)) {
			return "the key " + secret.Tail(key.AccessKeyID)
		}
	}
	if at := bytes.Index(data, []byte("AKIA")); at >= 0 && len(data) >= at+20 {
		id := string(data[at : at+20])
		if strings.Trim(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") == "" {
			return fault.Line("the key " + secret.Tail(id))
		}
	}
	return ""
}
