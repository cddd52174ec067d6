//go:build !linux

package latch

import "time"

func sinceBoot() (boot string, since time.Duration) { return sinceStart() }
