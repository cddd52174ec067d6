package session

import (
	"context"
	"errors"
	"time"

	"broker/internal/fault"
	"broker/internal/profiles"
	"broker/internal/secret"
)

// sourceKind opens the sessions of one kind of source.
type sourceKind interface {
	// open makes step i of a plan, its first. If quiet, no person is asked for a code.
	open(ctx context.Context, plan *Plan, i int, quiet bool) (Credentials, error)
}

func (b *Broker) kindOf(profiles.Source) sourceKind { return iamUser{b} }

// iamUser is a source whose long-lived key is in the keyring.
type iamUser struct{ *Broker }

// codeTries is how often a person is asked for a code before we give up.
const codeTries = 3

// open makes a call with the long-lived key. Without a code the vault has a kept
// session or a seed, or else somebody gives a code: one that a request brought, the
// source's program, a person. A rejected code is asked for again, with the reason.
func (u iamUser) open(ctx context.Context, plan *Plan, i int, quiet bool) (creds Credentials, err error) {
	step := plan.Steps[i]
	dev := device{plan.Source.AccessKeyID, step.MFASerial, step.Endpoint.URL}
	defer func() {
		// The vault knows the source alone.
		if f := fault.Of(err); f != nil && f.Hint == fault.Hintf("broker login %s --code 123456", plan.Source.Name) {
			err = f.WithHint("%s", codeHint(plan))
		}
	}()
	creds, err = u.openUnasked(ctx, plan, i, dev)
	if !fault.Is(err, fault.LoginNeeded) || quiet && !u.desk.brought(dev) {
		return creds, err
	}
	if u.cfg.Check != nil {
		if err := u.cfg.Check(step.Endpoint); err != nil {
			return Credentials{}, err
		}
	}
	question := Question{Device: step.MFASerial, Source: plan.Source.Name, Endpoint: step.Endpoint.URL}
	for _, w := range plan.Warnings { // such as an mfa_process that is not run
		u.Tell(plan.Source.Name, w.String())
	}
	for try := 1; ; try++ {
		code, askErr := u.ask(ctx, dev, question, u.order(plan))
		if err := u.refuseLocked(); err != nil {
			return Credentials{}, err // a code that was given is not spent
		}
		switch {
		case errors.Is(askErr, ErrGone):
			return Credentials{}, err
		case errors.Is(askErr, ErrCancelled):
			return Credentials{}, noCode(plan, &step)
		case ctx.Err() != nil:
			return Credentials{}, needCode(plan, "nobody gave a code of the MFA device %s in time", step.MFASerial)
		case askErr != nil:
			return Credentials{}, askErr
		}
		creds, err = u.cfg.Vault.Open(ctx, plan.Source, step.Call, code)
		if !fault.Is(err, fault.CodeRejected) || errors.Is(err, ErrWrongDevice) || try == codeTries {
			return creds, err
		}
		question.Reason = err.Error()
	}
}

// openUnasked opens a session for which no person is needed: of a source without an MFA device, with a seed, or one
// that the vault kept. It looks for a kept session once under the same settings, since this Broker made all later ones. It does not look while
// it holds one itself, nor if a request brought a code, which asks for a new session.
func (u iamUser) openUnasked(ctx context.Context, plan *Plan, i int, dev device) (Credentials, error) {
	step := plan.Steps[i]
	if step.NeedsPerson() {
		under, looked := u.looked.Load(plan.Key(i))
		looked = looked && under.(*profiles.Settings).Same(plan.settings) // other settings may name another keyring
		_, held := u.cache.current(plan.Key(i))
		if looked || held || u.desk.brought(dev) {
			return Credentials{}, needCode(plan, "%s needs a code of the MFA device %s",
				plan.Source.Name, step.MFASerial)
		}
	}
	creds, err := u.cfg.Vault.Open(ctx, plan.Source, step.Call, secret.String{})
	if step.NeedsPerson() && fault.Is(err, fault.LoginNeeded) {
		u.looked.Store(plan.Key(i), plan.settings)
	}
	return creds, err
}

// noCode says that a person gave no code.
func noCode(plan *Plan, step *Step) error {
	return needCode(plan, "%s: no code of the MFA device %s was given: %w",
		plan.Source.Name, step.MFASerial, ErrCancelled)
}

// needCode says that a person has to give a code, and how.
func needCode(plan *Plan, format string, args ...any) error {
	return fault.New(fault.LoginNeeded, format, args...).WithHint("%s", codeHint(plan))
}

// codeHint is how a person gives a code: for the MFA session of the source, or for the profile whose role itself takes
// the code.
func codeHint(plan *Plan) fault.Hint {
	name := plan.Source.Name
	if plan.Steps[0].Operation == AssumeRole {
		name = plan.Profile
	}
	return fault.Hintf("broker login %s --code 123456", name)
}

// order is where a code of a plan's device may be had: of its program, then of
// persons as the settings say.
func (u iamUser) order(plan *Plan) []place {
	var order []place
	if plan.MFAProcess != "" && u.cfg.Process != nil {
		order = append(order, place{program: &program{run: u.cfg.Process, command: plan.MFAProcess}})
	}
	for _, where := range plan.MFAPrompt {
		switch where {
		case "tty":
			order = append(order, place{of: (*guest).atTerminal})
		case "gui":
			order = append(order, place{of: (*guest).atWindow})
		}
	}
	return order
}

// program is a source's mfa_process as somebody who can be asked.
type program struct {
	run     func(ctx context.Context, command string) (secret.String, error)
	command string
}

// Ask runs the program. After a code that was rejected the next one comes with
// the next step of 30 seconds, so that is waited for.
func (p *program) Ask(ctx context.Context, q Question) (secret.String, error) {
	if q.Reason != "" {
		now := time.Now()
		select {
		case <-time.After(now.Truncate(codeStep).Add(codeStep).Sub(now)):
		case <-ctx.Done():
			return secret.String{}, ctx.Err()
		}
	}
	return p.run(ctx, p.command)
}

// Seat implements Asker.
func (p *program) Seat() (seat, who string) { return "", "" }

// codeStep is how long a device shows a code (RFC 6238).
const codeStep = 30 * time.Second
