//go:build unix && !linux

package child

// await also reaps the program, because waiting without reaping is not reliable on this system. Until end, the
// group is signaled by an ID that may be free; IDs are assigned in sequence, so another process hardly has it.
func (g *group) await() { _ = g.cmd.Wait() }

func (g *group) reap() {}
