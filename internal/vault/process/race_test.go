//go:build race

package process

// What the race detector finds in a child nobody reads, and with it a child takes five times as long to open an item.
func init() { instrumented = true }
