package cli

import (
	"bufio"
	"context"
	"io"
	"strings"

	"github.com/urfave/cli/v2"

	"broker/internal/fault"
	"broker/internal/lockfile"
	"broker/internal/secret"
	"broker/internal/stretch"
	"broker/internal/vault"
	"broker/internal/wire"
)

func (p *program) lockCommand() *cli.Command {
	return &cli.Command{
		Name:  "lock",
		Usage: "drop all sessions and hand out nothing until you unlock",
		UsageText: "broker lock\n" +
			"broker lock --set-passphrase",
		Description: "The lock survives a restart of the daemon and of the machine. With --set-passphrase or\n" +
			"--remove-passphrase the command does not lock; it changes the passphrase that unlock asks for.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "set-passphrase", Usage: "set the passphrase that unlock asks for"},
			&cli.BoolFlag{Name: "remove-passphrase", Usage: "remove the passphrase, so that unlock asks for none"},
			&cli.BoolFlag{Name: "stdin", Usage: "read the passphrases from stdin, one per line: the current one, then the new one"},
		},
		Action: func(c *cli.Context) error {
			set, remove := c.Bool("set-passphrase"), c.Bool("remove-passphrase")
			switch {
			case set && remove:
				return fault.New(fault.Usage, "--set-passphrase and --remove-passphrase cannot be combined").WithHint("broker lock --help")
			case set || remove:
				return p.changePassphrase(c.Context, set, c.Bool("stdin"))
			case c.Bool("stdin"):
				return fault.New(fault.Usage, "--stdin only works with --set-passphrase or --remove-passphrase").WithHint("broker lock")
			}
			resp, err := p.do(c.Context, wire.Request{Verb: wire.Lock})
			p.warn(resp.Warnings)
			if err != nil {
				return err
			}
			p.say("locked")
			return nil
		},
	}
}

func (p *program) unlockCommand() *cli.Command {
	return &cli.Command{
		Name:        "unlock",
		Usage:       "end the lock and open the keyring",
		UsageText:   "broker unlock",
		Description: "Asks for the passphrase that `broker lock --set-passphrase` set, then for the passphrase of a file keyring.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "stdin", Usage: "read the passphrases from stdin, one per line, in the order of the prompts"},
		},
		Action: func(c *cli.Context) error {
			req := wire.Request{Verb: wire.Unlock}
			resp, err := p.do(c.Context, req)
			if err := p.unlock(c.Context, p.prompter(c.Bool("stdin")), req, resp, err); err != nil {
				return err
			}
			p.say("unlocked")
			return nil
		},
	}
}

// passphraseTries is how often a passphrase is asked for.
const passphraseTries = 3

// The prompts for the two passphrases. The passphrase for unlock and the passphrase of the keyring are different.
const (
	unlockQuestion  = "Passphrase for unlock: "
	keyringQuestion = "Passphrase of the keyring: "
)

// unlockDaemon prompts for the passphrase of the file keyring and gives the daemon the key. The daemon keeps the
// key until the next lock.
func (p *program) unlockDaemon(ctx context.Context, refused error) error {
	return p.unlock(ctx, p.prompter(false), wire.Request{Verb: wire.Unlock, StayLocked: true}, wire.Response{}, refused)
}

// unlock prompts for what the daemon's last answer requires, until it requires nothing more: at most three times
// each.
func (p *program) unlock(ctx context.Context, from prompter, req wire.Request, resp wire.Response, err error) error {
	if from == nil && resp.Challenge != nil {
		return fault.Of(err).WithHint("broker unlock --stdin")
	}
	if from == nil && !req.StayLocked && fault.Is(err, fault.KeyringLocked) && p.mayBeFile() { // for broker unlock itself
		return fault.New(fault.KeyringLocked, "%w, and there is no terminal to ask on", err).WithHint("broker unlock --stdin")
	}
	for proofs, passphrases := 0, 0; from != nil; {
		var typed secret.String // never sent to the daemon
		var aerr error
		switch {
		case resp.Challenge != nil && proofs < from.tries():
			if proofs++; proofs > 1 {
				p.caution(err.Error())
			}
			req.Proof, aerr = proofOf(ctx, from, *resp.Challenge)
		case fault.Is(err, fault.KeyringLocked) && p.mayBeFile() && passphrases < from.tries():
			if passphrases++; passphrases > 1 {
				p.caution(err.Error())
			}
			if typed, aerr = from.hidden(ctx, keyringQuestion); aerr != nil {
				return aerr
			}
			if req.Passphrase, err = p.keyringKey(ctx, typed); err != nil {
				continue
			}
		default:
			p.warn(resp.Warnings)
			return err
		}
		if aerr != nil {
			return aerr
		}
		resp, err = p.do(ctx, req)
	}
	p.warn(resp.Warnings)
	return err
}

// mayBeFile reports whether the keyring may be the file keyring. Only that one has a passphrase that is asked for
// here.
func (p *program) mayBeFile() bool {
	backend := p.store.Latest(p.paths.Registry)().KeyringBackend
	return backend == "" || backend == vault.File
}

// proofOf prompts for the passphrase for unlock and computes its proof. The computation runs here, so the daemon
// neither learns the passphrase nor spends the memory.
func proofOf(ctx context.Context, from prompter, challenge wire.Stretch) (secret.String, error) {
	s := lockfile.Stretch(challenge)
	if err := s.Check(); err != nil {
		return secret.String{}, fault.New(fault.Failed, "%w", err)
	}
	typed, err := from.hidden(ctx, unlockQuestion)
	if err != nil || typed.IsZero() {
		return secret.String{}, err
	}
	return s.Proof(typed), nil
}

// changePassphrase sets or removes the passphrase for unlock. The current passphrase has to be given first.
func (p *program) changePassphrase(ctx context.Context, set, stdin bool) error {
	from := p.prompter(stdin)
	if from == nil {
		return fault.New(fault.Failed, "there is no terminal to ask on; use --stdin to give the passphrase").WithHint("broker lock --help")
	}
	req := wire.Request{Verb: wire.Passphrase}
	state, err := p.client.Do(ctx, wire.Request{Verb: wire.State})
	if err != nil {
		return err
	}
	for try := 1; ; try++ {
		if state.Challenge != nil {
			if req.Proof, err = proofOf(ctx, from, *state.Challenge); err != nil {
				return err
			}
		}
		if set && req.Verifier == nil {
			fresh, err := from.fresh(ctx)
			if err != nil {
				return err
			}
			if why := stretch.Weak(fresh.Reveal()); why != "" && stdin { // the prompt already warned
				p.warn([]string{"the passphrase for unlock is weak: " + why})
			}
			s := lockfile.NewStretch()
			v := s.Verifier(s.Proof(fresh))
			req.Verifier = &wire.Verifier{Stretch: wire.Stretch(v.Stretch), Sum: v.Sum}
		}
		resp, err := p.client.Do(ctx, req)
		if err == nil {
			break
		}
		if resp.Challenge == nil || try >= from.tries() {
			return err
		}
		p.caution(err.Error())
		state.Challenge = resp.Challenge
	}
	if !set {
		p.say("unlock no longer asks for a passphrase")
		return nil
	}
	p.say("unlock now asks for this passphrase; broker lock locks")
	return nil
}

// prompter is the source of passphrases.
type prompter interface {
	// hidden asks for an existing passphrase, fresh for a new one.
	hidden(ctx context.Context, question string) (secret.String, error)
	fresh(ctx context.Context) (secret.String, error)
	// tries is how often it makes sense to ask for the same passphrase.
	tries() int
}

// prompter returns stdin if that is requested, or else the terminal. It is nil if nobody can be asked.
func (p *program) prompter(stdin bool) prompter {
	switch {
	case stdin:
		return script{bufio.NewReader(io.LimitReader(p.stdin, 3*maxAnswer))}
	case hasTerminal():
		return person{p}
	}
	return nil
}

// person prompts on the terminal, and opens it for each prompt.
type person struct{ *program }

func (p person) hidden(ctx context.Context, question string) (secret.String, error) {
	t, err := p.openTerminal()
	if err != nil {
		return secret.String{}, err
	}
	defer func() { _ = t.Close() }()
	return t.hidden(ctx, question)
}

func (p person) fresh(ctx context.Context) (secret.String, error) {
	t, err := p.openTerminal()
	if err != nil {
		return secret.String{}, err
	}
	defer func() { _ = t.Close() }()
	return t.fresh(ctx)
}

func (person) tries() int { return passphraseTries }

// script reads each answer from a line of stdin.
type script struct{ lines *bufio.Reader }

func (s script) hidden(context.Context, string) (secret.String, error) {
	line, err := s.lines.ReadString('\n')
	// Trim blanks, as on the terminal, where nobody sees them.
	typed := secret.New(strings.TrimSpace(line))
	if typed.IsZero() {
		return typed, fault.New(fault.Usage, "stdin has no line with the passphrase")
	}
	if err != nil && err != io.EOF {
		return secret.String{}, fault.New(fault.Failed, "read stdin: %w", err)
	}
	return typed, nil
}

func (s script) fresh(ctx context.Context) (secret.String, error) { return s.hidden(ctx, "") }

func (script) tries() int { return 1 }
