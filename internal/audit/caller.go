package audit

import (
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"strings"
	"sync"

	"broker/internal/agent"
	"broker/internal/fault"
	"broker/internal/peer"
)

const (
	// mostArguments, mostArgument and mostOfLine limit the arguments in a line: their number for each process, the
	// bytes of one, and the bytes of all processes together.
	mostArguments = 64
	mostArgument  = 256
	mostOfLine    = 4 << 10
)

// Process is what a line says about one process.
type Process struct {
	PID        int      `json:"pid,omitempty"`
	Start      string   `json:"start,omitempty"`      // see peer.Process
	Executable string   `json:"executable,omitempty"` // path, or only the name if the system hides the path
	Arguments  []string `json:"arguments,omitempty"`  // with the program's name first
}

// Caller is what a line says about the process that asked, in addition to its UID and PID. In the log, secrets in
// the arguments are replaced, see Redact, and all texts are cut and escaped. Do not change a Caller that is in an
// Event: it is encoded once, for all its lines.
type Caller struct {
	Start      string    `json:"start,omitempty"`
	Executable string    `json:"executable,omitempty"`
	Arguments  []string  `json:"arguments,omitempty"`
	Directory  string    `json:"directory,omitempty"` // of the process, or if that is hidden, of its nearest parent
	Terminal   string    `json:"terminal,omitempty"`  // controlling terminal
	Parents    []Process `json:"parents,omitempty"`   // the nearest first

	agent string
	once  sync.Once
	line  []byte
}

// Agent returns the coding agent that is the process or one of its parents, or "".
func (c *Caller) Agent() string {
	if c == nil {
		return ""
	}
	return c.agent
}

// CallerOf describes a process and its parents. It returns nil if the process has ended.
func CallerOf(p peer.Process) *Caller {
	list := p.Lineage()
	if len(list) == 0 {
		return nil
	}
	c := new(Caller)
	for i, d := range list {
		is := Process{d.PID, d.Start, cmp.Or(d.Executable, d.Name), d.Arguments}
		c.Directory = cmp.Or(c.Directory, d.Dir)
		c.agent = cmp.Or(c.agent, agent.Of(d.Arguments), agent.Of(peer.Known(d.Arguments)))
		if i == 0 {
			c.Start, c.Executable, c.Arguments, c.Terminal = is.Start, is.Executable, is.Arguments, d.Terminal
		} else {
			c.Parents = append(c.Parents, is)
		}
	}
	c.encoded() // not while the log is written
	return c
}

// encoded returns the fields as the end of a JSON object, from its comma on.
func (c *Caller) encoded() []byte {
	c.once.Do(func() {
		left := mostOfLine
		safe := &Caller{Start: fault.Line(c.Start), Executable: fault.Line(c.Executable), Directory: fault.Line(c.Directory),
			Terminal: fault.Line(c.Terminal), Arguments: arguments(c.Arguments, &left)}
		for _, p := range c.Parents[:min(len(c.Parents), peer.MaxLineage-1)] {
			safe.Parents = append(safe.Parents,
				Process{p.PID, fault.Line(p.Start), fault.Line(p.Executable), arguments(p.Arguments, &left)})
		}
		line, err := json.Marshal(safe)
		if err != nil || len(line) <= len("{}") {
			return
		}
		line[0] = ','
		c.line = line[:len(line)-1]
	})
	return c.line
}

// arguments returns arguments as they are written: without secrets, cut and escaped. left is how many bytes the
// line may still have.
func arguments(list []string, left *int) (out []string) {
	for i, arg := range safeArguments(list[:min(len(list), mostArguments+1)]) {
		if i == mostArguments || *left <= 0 {
			return append(out, "…")
		}
		*left -= len(arg)
		out = append(out, arg)
	}
	return out
}

// redacted remembers the arguments of processes as they are written, by their SHA-256. Tools ask again and again,
// with the same parents. It is emptied when it is full.
var redacted = struct {
	sync.Mutex
	of map[[sha256.Size]byte][]string
}{of: map[[sha256.Size]byte][]string{}}

const maxRedacted = 256

// safeArguments returns arguments without secrets, each cut and escaped. Do not change the result.
func safeArguments(list []string) []string {
	sum := sha256.Sum256([]byte(strings.Join(list, "\x00")))
	redacted.Lock()
	defer redacted.Unlock()
	out, known := redacted.of[sum]
	if !known {
		out = Redact(list)
		for i, arg := range out {
			out[i] = fault.Short(arg, mostArgument)
		}
		if len(redacted.of) >= maxRedacted {
			clear(redacted.of)
		}
		redacted.of[sum] = out
	}
	return out
}
