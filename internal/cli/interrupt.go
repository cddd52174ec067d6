package cli

import (
	"context"
	"os"
	"os/signal"
	"sync"

	"broker/internal/fault"
	"broker/internal/tty"
)

// interruption decides how a signal ends a command. Until catch is called, the signals of tty.NotifyEnd end the
// process, as they end any program: a command that only asks the daemon has nothing to clean up, and catching
// signals takes a third of the time of `broker exec`. Prompts on the terminal and child processes call catch. From
// then on the signals end the context.
type interruption struct {
	context.Context
	catch func()
}

// newInterruption returns an interruption. The first signal ends the context and calls end; the second one ends the
// process.
func newInterruption(end func()) interruption {
	ctx, cancel := context.WithCancelCause(context.Background())
	return interruption{ctx, sync.OnceFunc(func() {
		signals := make(chan os.Signal, 1)
		tty.NotifyEnd(signals)
		go func() {
			<-signals
			cancel(fault.ErrInterrupted)
			end()
			signal.Stop(signals) // the next signal ends the process
		}()
	})}
}
