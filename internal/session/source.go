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
	// open makes step i, the first step of a plan. If quiet, no person is prompted for a code.
	open(ctx context.Context, plan *Plan, i int, quiet bool) (Credentials, error)
	// logout removes all that is kept of a source, without its long-lived key.
	logout(ctx context.Context, source profiles.Source) error
}

func (b *Broker) kindOf(source profiles.Source) sourceKind {
	switch source.Kind {
	case profiles.Portal, profiles.ConsoleLogin:
		return pageLogin{b}
	case profiles.WebIdentity:
		return webIdentity{b}
	case profiles.OtherProgram:
		return trustedProgram{b}
	}
	return iamUser{b}
}

// iamUser is a source whose long-lived key is in the keyring.
type iamUser struct{ *Broker }

// codeTries is how often a person is prompted for a code before open fails.
const codeTries = 3

// open makes a call with the long-lived key. Without a code, the vault uses a kept session or a seed. Otherwise
// the code comes from a waiting request, from the source's mfa_process, or from a prompt. After a rejected code,
// open asks for another and gives the reason.
func (u iamUser) open(ctx context.Context, plan *Plan, i int, quiet bool) (creds Credentials, err error) {
	step := plan.Steps[i]
	dev := device{plan.Source.AccessKeyID, step.MFASerial, step.Endpoint.URL}
	defer func() {
		// The vault knows only the source, so it cannot name the profile in its hint.
		if f := fault.Of(err); f != nil && f.Hint == fault.Hintf("broker login %s --code 123456", plan.Source.Name) {
			err = f.WithHint("%s", codeHint(plan))
		}
	}()
	creds, err = u.openUnasked(ctx, plan, i, dev)
	if !fault.Is(err, fault.LoginNeeded) || quiet && !u.prompts.brought(dev) {
		return creds, err
	}
	if u.cfg.Check != nil {
		if err := u.cfg.Check(step.Endpoint); err != nil {
			return Credentials{}, err
		}
	}
	prompt := Prompt{Device: step.MFASerial, Source: plan.Source.Name, Endpoint: step.Endpoint.URL}
	for _, w := range plan.Warnings { // such as an mfa_process that is not run
		u.Tell(plan.Source.Name, w.String())
	}
	for try := 1; ; try++ {
		code, askErr := u.ask(ctx, dev, prompt, u.order(plan))
		if err := u.refuseLocked(); err != nil {
			return Credentials{}, err // do not use up the code
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
		creds, err = u.cfg.Vault.Open(ctx, plan.Source, step.at(u.cache.now().wall), code)
		if !fault.Is(err, fault.CodeRejected) || errors.Is(err, ErrWrongDevice) || try == codeTries {
			return creds, err
		}
		prompt.Reason = err.Error()
	}
}

func (u iamUser) logout(ctx context.Context, source profiles.Source) error {
	ctx, cancel := context.WithTimeout(ctx, dropTimeout)
	defer cancel()
	return u.cfg.Vault.Drop(ctx, source.Name, "")
}

// openUnasked opens a session without asking a person: for a source without an MFA device, with a stored seed, or
// with a session that the vault kept. It asks the vault for a kept session only once per settings, because this
// Broker opens all later sessions itself. It does not ask while this Broker holds the session. Nor does it ask if a
// request brought a code, because a code asks for a new session.
func (u iamUser) openUnasked(ctx context.Context, plan *Plan, i int, dev device) (Credentials, error) {
	step := plan.Steps[i]
	if step.NeedsPerson() {
		under, looked := u.looked.Load(plan.Key(i))
		looked = looked && under.(*profiles.Settings).Same(plan.settings) // other settings may name another keyring
		_, held := u.cache.current(plan.Key(i))
		if looked || held || u.prompts.brought(dev) {
			return Credentials{}, needCode(plan, "%s needs a code of the MFA device %s",
				plan.Source.Name, step.MFASerial)
		}
	}
	creds, err := u.cfg.Vault.Open(ctx, plan.Source, step.at(u.cache.now().wall), secret.String{})
	if step.NeedsPerson() && fault.Is(err, fault.LoginNeeded) {
		u.looked.Store(plan.Key(i), plan.settings)
	}
	return creds, err
}

// noCode returns the error for a prompt that a person declined.
func noCode(plan *Plan, step *Step) error {
	return needCode(plan, "%s: no code of the MFA device %s was given: %w",
		plan.Source.Name, step.MFASerial, ErrCancelled)
}

// needCode returns a LoginNeeded error with the command that gives a code.
func needCode(plan *Plan, format string, args ...any) error {
	return fault.New(fault.LoginNeeded, format, args...).WithHint("%s", codeHint(plan))
}

// codeHint returns the command that gives a code.
func codeHint(plan *Plan) fault.Hint {
	return fault.Hintf("broker login %s --code 123456", plan.login())
}

// login returns the name that `broker login` takes for the plan's code: the source, or the profile whose role takes
// the code itself.
func (p *Plan) login() string {
	if p.Steps[0].Operation == AssumeRole {
		return p.Profile
	}
	return p.Source.Name
}

// order returns where a code of a plan's device can be had: first from its program, then from people, in the order
// of the settings.
func (u iamUser) order(plan *Plan) []place {
	var order []place
	if plan.MFAProcess != "" && u.cfg.Process != nil {
		order = append(order, place{program: &program{run: u.cfg.Process, command: plan.MFAProcess}})
	}
	for _, where := range plan.MFAPrompt {
		switch where {
		case "tty":
			order = append(order, place{of: (*waiter).atTerminal})
		case "gui":
			order = append(order, place{of: (*waiter).atWindow})
		}
	}
	return order
}

// program is the mfa_process of a source as an Prompter.
type program struct {
	run     func(ctx context.Context, command string) (secret.String, error)
	command string
}

// Ask runs the program. After a rejected code it waits for the next period of 30 seconds, in which the program
// gives another code.
func (p *program) Ask(ctx context.Context, q Prompt) (secret.String, error) {
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

// Seat implements Prompter.
func (p *program) Seat() (seat, who string) { return "", "" }

// codeStep is how long a device shows a code (RFC 6238).
const codeStep = 30 * time.Second
