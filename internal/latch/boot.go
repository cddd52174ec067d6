package latch

import (
	"crypto/rand"
	"sync"
	"time"
)

var (
	process = sync.OnceValue(rand.Text) // not at the start of each command
	started = time.Now()
)

// sinceStart is for systems that name no boot: each process counts as one, so a wait starts over with it.
func sinceStart() (boot string, since time.Duration) { return process(), time.Since(started) }
