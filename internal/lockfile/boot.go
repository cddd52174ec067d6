package lockfile

import (
	"crypto/rand"
	"sync"
	"time"
)

var (
	process = sync.OnceValue(rand.Text) // made on demand, not at the start of each command
	started = time.Now()
)

// sinceStart replaces sinceBoot on systems without a boot id. Each process counts as a boot, so a wait starts over
// with each process.
func sinceStart() (boot string, since time.Duration) { return process(), time.Since(started) }
