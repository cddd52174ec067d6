package audit

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"broker/internal/record"
)

// recentTail is how many bytes of the log Recent reads: some thousand answers.
const recentTail = 256 << 10

// Recent returns the profiles whose credentials were handed out recently, by the names that were asked for, each
// once, the latest first. It reads the end of the log, and of the previous log if this one is short. It skips a
// missing log and unreadable lines.
func Recent(path string) []string {
	rest := int64(recentTail)
	var names []string
	seen := map[string]bool{}
	for _, p := range []string{path, fmt.Sprintf("%s.%d", path, 1)} {
		lines := bytes.Split(tail(p, rest), []byte("\n"))
		for i := len(lines) - 1; i >= 0; i-- {
			rest -= int64(len(lines[i]) + 1)
			var e Event
			if json.Unmarshal(lines[i], &e) == nil && e.Event == "given" && !seen[e.Profile] {
				seen[e.Profile] = true
				names = append(names, e.Profile)
			}
		}
		if rest <= 0 {
			break
		}
	}
	return names
}

// tail reads the last n bytes of a file.
func tail(path string, n int64) []byte {
	f, err := record.OpenFile(path, os.O_RDONLY, record.Guarded)
	if err != nil {
		return nil
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil
	}
	b, err := io.ReadAll(io.NewSectionReader(f, max(0, info.Size()-n), n))
	if err != nil {
		return nil
	}
	return b
}
