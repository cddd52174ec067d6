package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"broker/internal/atomicfile"
	"broker/internal/audit"
	"broker/internal/fault"
	"broker/internal/grant"
	"broker/internal/profiles"
	"broker/internal/rotate"
	"broker/internal/secret"
	"broker/internal/session"
	"broker/internal/wire"
)

// realClock is the clock of the machine. Time in which the machine sleeps counts.
type realClock struct{}

func (realClock) Now() time.Time { return time.Now().Round(0) }

func (realClock) Wait(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return fault.New(fault.Failed, "stopped while waiting: %w", context.Cause(ctx))
	}
}

// rotate replaces the key of a source. It goes on if the client leaves: a rotation that stops halfway leaves two keys.
func (d *Daemon) rotate(ctx context.Context, c call) error {
	if d.Vault == nil || c.req.Rotation == nil {
		return fault.New(fault.Usage, "this daemon cannot rotate keys").WithHint("broker service restart")
	}
	if d.Broker.Locked() {
		return grant.LockedFault()
	}
	name := c.req.Profile
	s := &rotating{d: d, source: name, by: &c, yes: c.req.Rotation.Yes}
	if _, err := s.registered(); err != nil {
		return err
	}
	seconds := int64(c.req.Rotation.Grace)
	if seconds < 0 || seconds > int64(wire.MaxGrace/time.Second) {
		return fault.New(fault.Usage, "the grace period is at most %s", profiles.FormatDuration(wire.MaxGrace)).
			WithHint("broker rotate --help")
	}
	grace := time.Duration(seconds) * time.Second
	var lines []string
	var created time.Time
	var err error
	step := c.req.Rotation.Step
	if step == wire.RotateStart && c.req.Rotation.Again && d.rotator.Begun(name) {
		step = wire.RotateResume
	}
	switch step {
	case wire.RotateStart:
		err = d.rotator.Start(ctx, name, s, grace)
	case wire.RotateGrace:
		err = d.rotator.ResumeIn(ctx, name, s, grace)
	case wire.RotateResume:
		err = d.rotator.Resume(ctx, name, s)
	case wire.RotateUndo:
		err = d.rotator.Undo(ctx, name, s)
	case wire.RotatePlan, wire.RotateLook:
		if step == wire.RotateLook {
			s.by = nil
		}
		lines, created, err = d.rotator.Plan(ctx, name, s, inDays(grace))
	default:
		err = fault.New(fault.Usage, "this daemon does not know that step of a rotation").WithHint("broker service restart")
	}
	if err != nil {
		return err
	}
	if lines == nil {
		state, err := d.rotator.State(name, s, step == wire.RotateUndo)
		if err != nil {
			return err
		}
		lines = []string{state}
	}
	return c.reply(wire.Response{Lines: lines, KeyCreated: created})
}

// inDays formats a grace period. From two days on it is in days, as people write it.
func inDays(d time.Duration) string {
	if day := 24 * time.Hour; d > day && d%day == 0 {
		return fmt.Sprintf("%dd", d/day)
	}
	return profiles.FormatDuration(d)
}

// deleteOldKeys deletes the old keys of rotations when their time has come. Nothing happens while Broker is locked.
func (d *Daemon) deleteOldKeys(ctx context.Context) {
	ticker := time.NewTicker(watchInterval)
	defer ticker.Stop()
	for d.Vault != nil {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if !d.Broker.Locked() {
			d.rotator.Due(ctx, func(source string) rotate.Source { return &rotating{d: d, source: source} })
		}
	}
}

// rotationStatus adds the rotations to the status.
func (d *Daemon) rotationStatus(status *wire.Status) {
	pending, err := d.rotator.Pending()
	if err != nil {
		status.Warnings = append(status.Warnings, fault.Line(err.Error()))
	}
	for _, p := range pending {
		r := wire.Rotating{Source: p.Source, Old: p.Old, Undo: p.Undo, Running: p.Running, State: fault.Line(p.State)}
		if !p.DeleteAt.IsZero() {
			r.DeleteAt = &p.DeleteAt
		}
		if p.Err != nil {
			r.Error, r.Hint = fault.Line(p.Err.Error()), fault.Of(p.Err).Hint
		}
		status.Rotations = append(status.Rotations, r)
	}
}

// rotating is one source during a rotation. It implements rotate.Source.
type rotating struct {
	d      *Daemon
	source string
	by     *call // nil if the daemon itself makes the step
	yes    bool
}

// registered returns the source as the registry has it.
func (r *rotating) registered() (profiles.Source, error) {
	set, err := r.d.Store.Load(r.d.Files)
	if err != nil {
		return profiles.Source{}, err
	}
	if source, ok := set.Source(r.source); ok {
		if err := source.CheckIAM(); err != nil {
			return source, err
		}
		if other := set.SharesKey(r.source, source.AccessKeyID); other != "" {
			return source, fault.New(fault.Failed, "source %q has the same key %s, and would lose it; keep one of the two sources",
				other, secret.Tail(source.AccessKeyID)).WithHint("broker remove %s", other)
		}
		return source, nil
	}
	chain, err := set.Resolve(r.source)
	if err != nil {
		return profiles.Source{}, err
	}
	return profiles.Source{}, fault.New(fault.NotFound, "%q is a profile; the key belongs to its source", r.source).
		WithHint("broker rotate %s", chain.Source.Name)
}

// signer returns the source, and the MFA session if its user has a device. The daemon itself asks nobody for a code.
func (r *rotating) signer(ctx context.Context) (rotate.Signer, error) {
	source, err := r.registered()
	if err != nil {
		return rotate.Signer{}, err
	}
	set, err := r.d.Store.Load(r.d.Files)
	if err != nil {
		return rotate.Signer{}, err
	}
	settings, err := set.Settings()
	if err != nil {
		return rotate.Signer{}, err
	}
	sign := rotate.Signer{Source: source, Endpoint: source.Endpoint.Global().Replaced(settings.STSEndpoint)}
	if source.MFASerial == "" || source.NoSession {
		return sign, nil
	}
	ask := session.Request{Profile: r.source, Files: r.d.Files, Quiet: true}
	if r.by != nil {
		ask = r.d.request(*r.by)
		ask.Files = r.d.Files
	}
	answer, err := r.d.Broker.Credentials(ctx, ask)
	if err != nil {
		return rotate.Signer{}, err
	}
	sign.With = &answer.Credentials
	return sign, nil
}

// InUse implements rotate.Source.
func (r *rotating) InUse() (string, error) {
	source, err := r.registered()
	return source.AccessKeyID, err
}

// Keys implements rotate.Source.
func (r *rotating) Keys(ctx context.Context) (rotate.Keys, error) {
	sign, err := r.signer(ctx)
	if err != nil {
		return rotate.Keys{}, err
	}
	keys, err := r.d.Vault.Keys(ctx, sign)
	if err != nil {
		return rotate.Keys{}, err
	}
	keys.Session = sign.With != nil
	set, err := r.d.Store.Load(r.d.Files)
	if err != nil {
		return rotate.Keys{}, err
	}
	for i := range keys.Listed {
		keys.Listed[i].Other = set.SharesKey(r.source, keys.Listed[i].ID)
	}
	return keys, nil
}

// Create implements rotate.Source.
func (r *rotating) Create(ctx context.Context) (string, error) {
	sign, err := r.signer(ctx)
	if err != nil {
		return "", err
	}
	return r.d.Vault.CreateKey(ctx, sign)
}

// signed makes a call with the signer of the source.
func (r *rotating) signed(ctx context.Context, call func(rotate.Signer) error) error {
	sign, err := r.signer(ctx)
	if err != nil {
		return err
	}
	return call(sign)
}

// Try implements rotate.Source.
func (r *rotating) Try(ctx context.Context, id string) error {
	return r.signed(ctx, func(s rotate.Signer) error { return r.d.Vault.TryKey(ctx, s, id) })
}

// SetActive implements rotate.Source.
func (r *rotating) SetActive(ctx context.Context, id string, active bool) error {
	return r.signed(ctx, func(s rotate.Signer) error { return r.d.Vault.SetKeyActive(ctx, s, id, active) })
}

// Delete implements rotate.Source.
func (r *rotating) Delete(ctx context.Context, id string) error {
	return r.signed(ctx, func(s rotate.Signer) error { return r.d.Vault.DeleteKey(ctx, s, id) })
}

// Forget implements rotate.Source.
func (r *rotating) Forget(ctx context.Context, id string) error {
	return r.signed(ctx, func(s rotate.Signer) error { return r.d.Vault.ForgetKey(ctx, s, id) })
}

// Use implements rotate.Source.
func (r *rotating) Use(ctx context.Context, from, to string, created time.Time) error {
	registry := r.d.Files.Registry
	return r.d.Broker.Rekey(ctx, r.source, from, to, func() error {
		if err := profiles.CheckRegistry(registry); err != nil {
			return err
		}
		err := atomicfile.Edit(registry, 0o600, nil, func(src []byte) ([]byte, error) {
			return profiles.SwapKey(src, r.source, from, to, created)
		})
		if f := (*fault.Error)(nil); err == nil || errors.As(err, &f) {
			return err
		}
		return fault.New(fault.Failed, "write %s: %w", registry, err).WithHint("ls -l %s", registry)
	})
}

// Confirm implements rotate.Source.
func (r *rotating) Confirm(ctx context.Context, lines []string) error {
	if r.yes {
		return nil
	}
	err := session.ErrGone
	if r.by != nil && r.by.req.CanAsk {
		answer, asked := r.by.talk.ask(ctx, wire.Prompt{Lines: lines, Text: "Go on? y = yes, Enter = no: ", Choice: true})
		if err = asked; err == nil && strings.EqualFold(strings.TrimSpace(answer.Reveal()), "y") {
			return nil
		}
	}
	if errors.Is(err, session.ErrGone) {
		return fault.New(fault.NotConfirmed, "nobody can be asked here")
	}
	return fault.New(fault.NotConfirmed, "not confirmed")
}

// Tell implements rotate.Source.
func (r *rotating) Tell(line string) {
	r.d.Log.Info("rotation", "source", r.source, "step", line)
	if r.by != nil && r.by.req.CanAsk {
		r.by.talk.tell(line)
	}
}

// Record implements rotate.Source.
func (r *rotating) Record(step, id string, failed error) error {
	e := audit.Event{Event: "rotated", UID: os.Getuid(), PID: os.Getpid()}
	if r.by != nil {
		e = r.d.line("rotated", *r.by, session.Answer{}, nil)
	}
	e.Profile, e.Source, e.Reason, e.KeyID = "", r.source, step, id
	if failed != nil {
		f := fault.Of(failed)
		e.Event, e.Kind, e.Message = "refused", f.Kind, f.Error()
		return r.d.Audit.Record(e)
	}
	if err := r.d.grants.Record(e); err != nil {
		return fault.New(fault.Failed, "no key is changed: %w", err).WithHint("broker status")
	}
	return nil
}
