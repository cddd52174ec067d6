package cli

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"broker/internal/tty"
	"broker/internal/wire"
)

// progressAfter is how long a command takes in silence.
const progressAfter = time.Second

// progress says on the terminal that a command still waits, once that has taken a second, and for how long. Stop takes
// the line away, as p.silence does before anything else is shown; it may be called more than once. Nothing is said
// where stderr is no terminal, or one of a background job.
func (p *program) progress() (stop func()) {
	console, err := tty.Open()
	if err != nil {
		return func() {}
	}
	inFront := console.Foreground()
	console.Close()
	if !inFront || !obeys(p.problems) {
		return func() {}
	}
	ended, silent := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(silent)
		begun, shown := time.Now(), false
		for wait := time.NewTimer(progressAfter); ; wait.Reset(time.Second) {
			select {
			case <-wait.C:
				shown = true
				_, _ = fmt.Fprintf(p.problems, "\rstill waiting, %v\x1b[K", time.Since(begun).Round(time.Second))
			case <-ended:
				if shown {
					_, _ = io.WriteString(p.problems, "\r\x1b[K")
				}
				return
			}
		}
	}()
	p.silence = sync.OnceFunc(func() {
		close(ended)
		<-silent
	})
	return p.silence
}

// do sends a request, with a word on the terminal if that takes long.
func (p *program) do(ctx context.Context, req wire.Request) (wire.Response, error) {
	defer p.progress()()
	return p.client.Do(ctx, req)
}
