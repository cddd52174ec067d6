package grant

import (
	"sync"
	"time"
)

// sayInterval is how often the same refusal is recorded. Any user of the machine can connect to an endpoint, and a far
// side to its door. They must not be able to fill the log.
const sayInterval = time.Minute

// refusals knows which refusals were recorded lately.
type refusals struct {
	mu   sync.Mutex           // a mutex of its own, so that no refusal waits for a write of the record
	last map[string]time.Time // when a refusal was last recorded, by its text
}

// sayable reports whether a refusal may be recorded again.
func (r *refusals) sayable(text string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if last, ok := r.last[text]; ok && time.Since(last) < sayInterval {
		return false
	}
	if r.last == nil {
		r.last = map[string]time.Time{}
	}
	r.last[text] = time.Now()
	return true
}
