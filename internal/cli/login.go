package cli

import (
	"context"
	"errors"
	"slices"
	"strings"
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
			"broker login security --code 123456\n" +
			"broker login my-sso --device\n" +
			"broker login --console paul --region eu-west-1",
		ArgsUsage: "[PROFILE|SOURCE…]",
		Description: "With several profiles, asks for one code per MFA device, then assumes all roles at once. Without a\n" +
			"name, opens a session for each IAM user in turn. Other requests that wait for the same code continue too.\n" +
			"For IAM Identity Center and console logins, opens a browser unless the login still works. Only this command\n" +
			"does. Over ssh, in WSL, and without a display or BROWSER it shows a code. For a console login, asks whether\n" +
			"to take over the login of aws login, and whether to link the profile, so that AWS tools use the login.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "code", Usage: "use the six `DIGITS` that the MFA device shows; for scripts"},
			&cli.BoolFlag{Name: "pick", Usage: "choose a profile on the terminal"},
			&cli.BoolFlag{Name: "device", Usage: "show a code of Identity Center to confirm on any device, and open no browser"},
			&cli.StringFlag{Name: "console", Usage: "sign in to the AWS console and keep the login as the new source `NAME`"},
			&cli.StringFlag{Name: "region", Usage: "sign in to `REGION` with --console; otherwise AWS_REGION of your shell"},
			&cli.BoolFlag{Name: "remote", Usage: "read the text that a console login shows in a browser on another machine"},
			&cli.BoolFlag{Name: "yes", Usage: "take over the login of aws login and link its profile, without a question"},
			&cli.StringFlag{Name: "browser", Usage: "open the page with `COMMAND`, which can use {profile}, {account} and {url}"},
		},
		BashComplete: p.completeLogins,
		Action: func(c *cli.Context) error {
			set, err := p.set()
			if err != nil {
				return err
			}
			o := pageOptions{device: c.Bool("device"), remote: c.Bool("remote"), browser: browserOption(c),
				yes: c.Bool("yes")}
			switch {
			case c.IsSet("region") && !c.IsSet("console"):
				return fault.New(fault.Usage, "--region only works with --console").WithHint("broker login --help")
			case c.IsSet("console") && (c.Args().Present() || c.IsSet("code") || c.Bool("pick")):
				return fault.New(fault.Usage, "--console takes one name, and no code").
					WithHint("broker login --console %s", c.String("console"))
			case c.IsSet("console"):
				return p.firstConsoleLogin(c.Context, set, c.String("console"), c.String("region"), o)
			}
			var names []string
			for _, typed := range c.Args().Slice() {
				name, err := set.FindLogin(typed)
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
				if pages := set.LoginSources(); len(names) == 0 && len(pages) == 1 {
					names = append(names, pages[0].Name)
				} else if len(names) == 0 && len(pages) > 1 {
					var all []string
					for _, page := range pages {
						all = append(all, fault.Line(page.Name))
					}
					return fault.New(fault.Usage, "there are %d sources to log in to; name one of %s", len(pages),
						strings.Join(all, ", ")).WithHint("broker login %s", pages[0].Name)
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
			return p.login(c.Context, set, names, code, o)
		},
	}
}

// loginTarget is a source to log in to, and the name that the person gave.
type loginTarget struct {
	name   string
	source profiles.Source
}

// loginTargets returns one target for each source, in the order given.
func loginTargets(set *profiles.Set, names []string) ([]loginTarget, error) {
	seen := map[string]bool{}
	var list []loginTarget
	for _, name := range names {
		source, ok, err := set.LoginSource(name)
		if !ok && err == nil {
			chain, rerr := set.Resolve(name)
			source, err = chain.Source, rerr
		}
		if err != nil {
			return nil, err
		}
		if !seen[source.Name] {
			seen[source.Name] = true
			list = append(list, loginTarget{name, source})
		}
	}
	return list, nil
}

// login opens one session for each source in turn. If several profiles were named, it then assumes their roles, all
// at once.
func (p *program) login(
	ctx context.Context, set *profiles.Set, names []string, code secret.String, o pageOptions,
) error {
	targets, err := loginTargets(set, names)
	if err != nil {
		return err
	}
	pages := 0
	for _, t := range targets {
		if t.source.Kind.ByPage() {
			pages++
		}
	}
	switch {
	case len(targets) > 1 && !code.IsZero():
		return fault.New(fault.Usage, "these profiles use %d MFA devices, but a code is for one device", len(targets)).
			WithHint("broker login %s --code 123456", targets[0].name)
	case pages > 0 && !code.IsZero():
		return fault.New(fault.Usage, "%q takes no MFA code", targets[0].source.Name).
			WithHint("broker login %s", targets[0].name)
	case pages == 0 && o.given() != "":
		return fault.New(fault.Usage, "--%s is for a login on a web page, and %q has none", o.given(),
			targets[0].source.Name).WithHint("broker login %s", targets[0].name)
	}
	var failed []error
	for _, t := range targets {
		resp, fresh, err := p.loginTo(ctx, set, t, code, o)
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
				what = fault.Line(t.name) + ": session of the role " + fault.Line(shortARN(s.Role))
			}
			if s.Expires == nil {
				p.say("%s; Broker renews the login until AWS ends it", what)
				continue
			}
			p.say("%s until %s", what, s.Expires.Local().Format(time.DateTime))
		}
		if fresh && t.source.Kind == profiles.ConsoleLogin {
			if err := p.offerLink(ctx, t.source.Name, o.yes); err != nil {
				failed = append(failed, err)
			}
		}
	}
	sets := slices.DeleteFunc(slices.Clone(names), func(name string) bool {
		_, err := set.Resolve(name)
		return err != nil // an [sso-session]
	})
	if len(names) > 1 && len(sets) > 0 && len(failed) == 0 {
		failed = p.assumeAll(ctx, sets)
	}
	return p.first(failed)
}

// loginTo opens the session of one source. If a person has to log in on a page, it opens the page. fresh means that the
// person has just logged in there, or agreed to take over the login of another tool.
func (p *program) loginTo(
	ctx context.Context, set *profiles.Set, t loginTarget, code secret.String, o pageOptions,
) (resp wire.Response, fresh bool, err error) {
	var page *pageLogin
	if t.source.Kind.ByPage() {
		if page, err = p.newPageLogin(set, t.name, t.source, o); err != nil {
			return wire.Response{}, false, err
		}
	}
	resp, err = p.ask(ctx, wire.Request{Verb: wire.Login, Profile: t.name, Code: code})
	if page != nil && fault.Is(err, fault.LoginNeeded) {
		page, fresh = page.byDaemon(&resp), true
		var taken bool
		if taken, err = page.takeOver(ctx, o); err == nil && !taken {
			err = page.run(ctx)
		}
		if errors.Is(err, errNoPage) {
			fresh, err = false, nil
		}
	}
	if err == nil && resp.Status == nil {
		err = fault.New(fault.Unreachable, "the daemon's answer has no session")
	}
	return resp, fresh, err
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
		if !fault.Is(err, fault.Interrupted) {
			p.warn([]string{err.Error()})
		}
	}
	return failed[0]
}
