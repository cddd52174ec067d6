package cli

import (
	"context"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"broker/internal/fault"
)

// interruption is how Ctrl-C ends a command. Until catch is called SIGINT, SIGTERM and SIGHUP end the process, as those
// of any program: whoever only asks the daemon has nothing to clean up, and to catch signals takes a third of the time
// of `broker exec`. A question at the terminal and a child process call catch, and then the signals end the context.
type interruption struct {
	context.Context
	catch func()
}

func newInterruption() interruption {
	ctx, cancel := context.WithCancelCause(context.Background())
	return interruption{ctx, sync.OnceFunc(func() {
		signals := make(chan os.Signal, 1)
		for _, s := range []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
			if !signal.Ignored(s) { // by nohup, or as a job in the background
				signal.Notify(signals, s)
			}
		}
		go func() {
			<-signals
			cancel(fault.ErrInterrupted)
		}()
	})}
}
