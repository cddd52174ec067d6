//go:build unix && !linux

package child

// await reaps the program too, because waiting without reaping cannot be relied on here. Until end, its group
// is signalled by a number that may be free again; numbers are given out in turn, so hardly another's.
func (g *group) await() { _ = g.cmd.Wait() }

func (g *group) reap() {}
