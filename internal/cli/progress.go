package cli

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"broker/internal/fault"
	"broker/internal/tty"
	"broker/internal/wire"
)

// progressAfter is how long a command may take before progress shows a line.
const progressAfter = time.Second

// progress shows on the terminal that a command is still waiting, and for how long, once that took a second. Stop
// removes the line, and so does p.silence before other output; stop may be called more than once. progress shows
// nothing if stderr is not a terminal, or if this is a background job. While another program prompts on the terminal,
// progress writes nothing: the prompt would be overwritten.
func (p *program) progress() (stop func()) {
	console, err := tty.Open()
	if err != nil {
		return func() {}
	}
	if !console.Foreground() || !obeys(p.problems) {
		console.Close()
		return func() {}
	}
	ended, silent := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(silent)
		defer console.Close()
		begun, shown := time.Now(), false
		for wait := time.NewTimer(progressAfter); ; wait.Reset(time.Second) {
			select {
			case <-wait.C:
				if console.Reads() {
					shown = false // the prompt has replaced the line
					continue
				}
				shown = true
				_, _ = fmt.Fprintf(p.problems, "\rstill waiting, %v\x1b[K", time.Since(begun).Round(time.Second))
			case <-ended:
				if shown && !console.Reads() {
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

// countdown waits until a time. On a terminal it shows what for, and for how long.
func (p *program) countdown(ctx context.Context, until time.Time, what string) error {
	shows := obeys(p.problems)
	if shows {
		defer func() { _, _ = io.WriteString(p.problems, "\r\x1b[K") }()
	}
	for {
		left := until.Sub(p.now())
		if left <= 0 {
			return nil
		}
		if shows {
			_, _ = fmt.Fprintf(p.problems, "\r%s in %v\x1b[K", what, left.Round(time.Second))
		}
		if err := p.pause(ctx, min(left, time.Second)); err != nil {
			return err
		}
	}
}

// pause waits, unless ctx ends before that.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return fault.ErrInterrupted
	}
}

// do sends a request, and shows progress if it takes long.
func (p *program) do(ctx context.Context, req wire.Request) (wire.Response, error) {
	defer p.progress()()
	return p.client.Do(ctx, req)
}
