package client

import (
	"os"
	"testing"
)

// TestInterruptAtTheEndOfAPrompt: Ctrl-C, which ends the request of a program that catches signals, may be seen there
// before it is seen at the prompt. Then it does not end the process, which would not say that it was interrupted.
func TestInterruptAtTheEndOfAPrompt(t *testing.T) {
	p := &terminal{signals: make(chan os.Signal, 1), done: make(chan struct{}), ended: make(chan struct{})}
	close(p.ended)
	p.signals <- os.Interrupt
	p.close()
}
