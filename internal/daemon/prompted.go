package daemon

import (
	"context"
	"errors"

	"broker/internal/secret"
	"broker/internal/session"
)

// What came of a prompt, as the reason of its audit line.
const (
	reasonAnswered = "answered"
	reasonDeclined = "declined"
	reasonGone     = "gone"   // the client ended before an answer
	reasonClosed   = "closed" // it moved to another place, was answered elsewhere, or the time was over
	reasonInvalid  = "invalid"
)

// recordedTerminal is a terminal that records its prompts.
type recordedTerminal struct {
	*terminal
	d *Daemon
}

// Ask implements session.Prompter.
func (t *recordedTerminal) Ask(ctx context.Context, q session.Prompt) (secret.String, error) {
	code, err := t.terminal.Ask(ctx, q)
	t.d.recordPrompt(t.call, t, q, err)
	return code, err
}

// Offer implements session.Terminal. An offer that only moves the prompt here is not recorded; the prompt will be.
func (t *recordedTerminal) Offer(ctx context.Context, q session.Prompt, seat, who string) (secret.String, error) {
	code, err := t.terminal.Offer(ctx, q, seat, who)
	if !code.IsZero() || errors.Is(err, session.ErrCancelled) {
		t.d.recordPrompt(t.call, t, q, err)
	}
	return code, err
}

// recordedWindow is a window that records its prompts.
type recordedWindow struct {
	*window
	d *Daemon
}

// Ask implements session.Prompter. Without a desktop, nobody was asked.
func (w *recordedWindow) Ask(ctx context.Context, q session.Prompt) (secret.String, error) {
	code, err := w.window.Ask(ctx, q)
	if !errors.Is(err, session.ErrGone) {
		w.d.recordPrompt(w.call, w, q, err)
	}
	return code, err
}

// recordPrompt writes the audit line of a prompt for a code: where a person was asked, and what came of it.
func (d *Daemon) recordPrompt(c call, where session.Prompter, q session.Prompt, err error) {
	reason := reasonAnswered
	switch {
	case err == nil:
	case errors.Is(err, session.ErrCancelled):
		reason = reasonDeclined
		if c.door != nil {
			c.door.hush(doorQuiet)
		}
	case errors.Is(err, session.ErrGone):
		reason = reasonGone
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		reason = reasonClosed
		if c.door != nil {
			c.door.hush(doorLull)
		}
	default:
		reason = reasonInvalid
	}
	line := d.line("prompted", c, session.Answer{Source: q.Source, Endpoints: q.Endpoint}, nil)
	line.Message, _ = where.Seat()
	line.Reason = reason
	_ = d.Audit.Record(line)
}
