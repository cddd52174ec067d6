package session

import (
	"sync"
	"time"

	"broker/internal/lazyregexp"
)

const (
	// maxPrograms is how many programs a profile tells apart. A program chooses its own name, and each name costs a
	// call to AWS and a session.
	maxPrograms = 16
	// otherProgram is the name of all further programs.
	otherProgram = "other"
	// longestProgram is the longest name in characters. A longer one would push the rest out of a session's name.
	longestProgram = 20
)

// notInProgram are the characters that no program may put into its name: with those that templates have between
// placeholders, it could look like another user.
var notInProgram = lazyregexp.New(`[^\p{L}\p{Z}\p{N}_.-]+`)

// programWord returns the name of a program as AWS gets it.
func programWord(name string) string {
	word := []rune(notInProgram.ReplaceAllString(name, "-"))
	return string(word[:min(len(word), longestProgram)])
}

// programs are the names of the programs of each profile, with the time since boot at which each was first seen. A
// name is forgotten after longestRole, when its first session is over. The zero value is ready to use.
type programs struct {
	mu   sync.Mutex
	seen map[string]map[string]time.Duration
}

// admit returns the name for a program of a profile: its own, or otherProgram if there are too many.
func (p *programs) admit(profile, program string, now time.Duration) string {
	word := programWord(program)
	p.mu.Lock()
	defer p.mu.Unlock()
	names := p.seen[profile]
	if names == nil {
		if p.seen == nil {
			p.seen = map[string]map[string]time.Duration{}
		}
		names = map[string]time.Duration{}
		p.seen[profile] = names
	}
	for name, first := range names {
		if now-first > longestRole {
			delete(names, name)
		}
	}
	if _, known := names[word]; !known {
		if len(names) == maxPrograms {
			return otherProgram
		}
		names[word] = now
	}
	return word
}
