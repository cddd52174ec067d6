package cli

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/urfave/cli/v2"

	"broker/internal/fault"
	"broker/internal/mfa"
	"broker/internal/profiles"
	"broker/internal/secret"
	"broker/internal/wire"
)

func (p *program) loginCommand() *cli.Command {
	return &cli.Command{
		Name:  "login",
		Usage: "open sessions now, and ask for an MFA code if needed",
		UsageText: "broker login\n" +
			"broker login prod\n" +
			"broker login security --code 123456",
		ArgsUsage: "[PROFILE|SOURCE…]",
		Description: "With several profiles, asks for one code per MFA device, then assumes all roles at once. Without a\n" +
			"name, opens a session for each source in turn. Other requests that wait for the same code continue too.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "code", Usage: "use the six `DIGITS` that the MFA device shows; for scripts"},
			&cli.BoolFlag{Name: "pick", Usage: "choose a profile on the terminal"},
		},
		BashComplete: p.completeManyProfiles,
		Action: func(c *cli.Context) error {
			set, err := p.set()
			if err != nil {
				return err
			}
			var names []string
			for _, typed := range c.Args().Slice() {
				name, err := set.Find(typed)
				if err != nil {
					return err
				}
				names = append(names, name)
			}
			switch {
			case c.Bool("pick") && len(names) > 0:
				return fault.New(fault.Usage, "login takes names or --pick, not both").WithHint("broker login --pick")
			case c.Bool("pick"):
				name, err := p.pickProfile(c.Context, fault.New(fault.Usage, "there is no terminal to choose on").WithHint("broker login PROFILE"))
				if err != nil {
					return err
				}
				names = append(names, name)
			case len(names) == 0:
				for _, source := range set.Sources() {
					names = append(names, source.Name)
				}
			}
			if len(names) == 0 {
				return fault.New(fault.NotFound, "there is no source yet").WithHint("broker setup")
			}
			var code secret.String
			if c.IsSet("code") {
				if code, err = mfa.ParseCode(c.String("code")); err != nil {
					if c.Args().Present() {
						return fault.Of(err).WithHint("broker login %s --code 123456", names)
					}
					return fault.Of(err).WithHint("broker login --code 123456")
				}
			}
			return p.login(c.Context, set, names, code)
		},
	}
}

// login opens one session for each source in turn. If several profiles were named, it then assumes their roles, all
// at once.
func (p *program) login(ctx context.Context, set *profiles.Set, names []string, code secret.String) error {
	sources := map[string]bool{}
	var first []string // one name of each source, in the order given
	for _, name := range names {
		chain, err := set.Resolve(name)
		if err != nil {
			return err
		}
		if !sources[chain.Source.Name] {
			sources[chain.Source.Name] = true
			first = append(first, name)
		}
	}
	if len(first) > 1 && !code.IsZero() {
		return fault.New(fault.Usage, "these profiles use %d MFA devices, but a code is for one device", len(first)).WithHint("broker login %s --code 123456", first[0])
	}
	var failed []error
	for _, name := range first {
		resp, err := p.ask(ctx, wire.Request{Verb: wire.Login, Profile: name, Code: code})
		switch {
		case fault.Is(err, fault.Interrupted):
			return err // Ctrl-C ends the whole command, not only the first prompt
		case err != nil:
			failed = append(failed, err)
			continue
		}
		p.warn(resp.Warnings)
		for _, s := range resp.Status.Sessions {
			what := fault.Line(s.Source) + ": logged in"
			if s.Role != "" { // the code opened the session of this role only
				what = fault.Line(name) + ": session of the role " + fault.Line(shortARN(s.Role))
			}
			p.say("%s until %s", what, s.Expires.Local().Format(time.DateTime))
		}
	}
	if len(names) > 1 && len(failed) == 0 {
		failed = p.assumeAll(ctx, names)
	}
	return p.first(failed)
}

// assumeAll requests the sessions of all profiles at once, so that they are cached.
func (p *program) assumeAll(ctx context.Context, names []string) []error {
	errs := make([]error, len(names))
	var wg sync.WaitGroup
	stop := p.progress()
	for i, name := range names {
		wg.Go(func() {
			_, errs[i] = p.client.Do(ctx, wire.Request{Verb: wire.Get, Profile: name})
		})
	}
	wg.Wait()
	stop()
	var failed []error
	for i, err := range errs {
		if err == nil {
			p.say("%s: ready", names[i])
		} else {
			f := fault.Of(err)
			failed = append(failed, fault.New(f.Kind, "%s", under(names[i], err.Error())).WithHint("%s", f.Hint))
		}
	}
	return failed
}

// first prints all errors but the first on stderr, and returns the first.
func (p *program) first(failed []error) error {
	if len(failed) == 0 {
		return nil
	}
	for _, err := range failed[1:] {
		if !errors.Is(err, context.Canceled) {
			p.warn([]string{err.Error()})
		}
	}
	return failed[0]
}
