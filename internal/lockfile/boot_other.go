//go:build !linux

package lockfile

import "time"

func sinceBoot() (boot string, since time.Duration) { return sinceStart() }
