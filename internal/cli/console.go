package cli

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"broker/internal/console"
	"broker/internal/fault"
	"broker/internal/profiles"
	"broker/internal/secret"
	"broker/internal/wire"
)

func (p *program) consoleCommand() *cli.Command {
	return &cli.Command{
		Name:  "console",
		Usage: "open the AWS console for a profile",
		UsageText: "broker console prod\n" +
			"broker console prod --service s3",
		ArgsUsage: "[PROFILE]",
		Description: "Opens the console in a browser, signed in. For a source, the console is read-only\n" +
			"(ViewOnlyAccess), within what the user may do; --session-policy sets another policy. The setting browser names\n" +
			"the browser, or else BROWSER of your shell. In the registry each profile can have its own,\n" +
			"such as browser = firefox -P {profile}",
		Flags: append([]cli.Flag{
			&cli.BoolFlag{Name: "print", Usage: "print the URL and open nothing; the URL signs in anybody who has it"},
			&cli.StringFlag{Name: "service", Usage: "open the page of `SERVICE`, such as ec2"},
			&cli.StringFlag{Name: "destination", Usage: "open the page at `URL` in the same console"},
			&cli.StringFlag{Name: "region", Usage: "open the page in `REGION`, not in the profile's region"},
			&cli.StringFlag{Name: "browser", Usage: "open the URL with `COMMAND`, which can use {profile}, {account} and {url}"},
		}, adHocFlags()...),
		BashComplete: p.completeProfiles,
		Action:       p.console,
	}
}

func (p *program) console(c *cli.Context) error {
	w, err := p.wantedArgument(c)
	if err != nil {
		return err
	}
	name, err := p.exactName(c.Context, w, fault.New(fault.Usage, "console needs a profile").WithHint("broker console PROFILE"))
	if err != nil {
		return err
	}
	v, err := p.newVisit(c, name, w)
	if err != nil {
		return err
	}
	address, sign, err := p.signIn(c.Context, name, v)
	if err != nil {
		return err
	}
	if v.role != nil && v.role.Federate && v.role.Policy == "" {
		p.warn([]string{"the console of a source is read-only (ViewOnlyAccess), within what its user may do; --session-policy sets another policy"})
	}
	if c.Bool("print") {
		if isTerminal(p.stdout) {
			p.warn([]string{"for 15 minutes this URL signs in anybody who has it, and your terminal may keep it in its history"})
		}
		_, err := p.stdout.Write([]byte(address.Reveal() + "\n"))
		return err
	}
	if err := v.open(c.Context, address); err != nil {
		return err
	}
	p.say("%s: the console opens in the browser, signed in%s", fault.Line(sign.Profile),
		until(sign.Expiration.Format(time.RFC3339)))
	return nil
}

// visit is one sign-in to the console.
type visit struct {
	role        *wire.Role // of the request for credentials
	destination string
	browser     console.Browser
	printed     fault.Hint // the command that prints the address instead, for hints
}

// newVisit checks everything that can be wrong before a person is asked for a code.
func (p *program) newVisit(c *cli.Context, name string, w wanted) (visit, error) {
	set, settings, err := p.settings()
	if err != nil {
		return visit{}, err
	}
	chain, err := set.Resolve(name)
	if err != nil {
		return visit{}, err
	}
	v := visit{role: w.role, printed: fault.Hintf("broker console %s --print", name)}
	v.browser.Profile = name
	asked := name
	switch {
	case w.byARN():
		chain.Roles = []profiles.Role{{ARN: w.role.ARN}} // only the last role counts here
		v.browser.Profile = w.role.ARN[strings.LastIndexByte(w.role.ARN, '/')+1:]
		v.printed = fault.Hintf("broker console %s --print", w.shown())
		asked = "" // the role does not use the browser of its source
	case len(chain.Roles) == 0 && chain.Source.Kind == profiles.IAMUser:
		v.role = &wire.Role{}
		if w.role != nil {
			*v.role = *w.role
		}
		v.role.Federate = true
	}
	var partition string
	partition, v.browser.Account = chain.Account()
	page := console.Page{Partition: partition, Service: c.String("service"), Destination: c.String("destination"), Region: c.String("region")}
	for _, flag := range []string{"service", "destination", "region"} {
		if c.IsSet(flag) && c.String(flag) == "" {
			return visit{}, fault.New(fault.Usage, "--%s is empty", flag).WithHint("broker console --help")
		}
	}
	if page.Region == "" && (console.Page{Partition: partition, Region: chain.Region}).Valid() {
		page.Region = chain.Region
	}
	if v.destination, err = page.URL(); err != nil {
		return visit{}, fault.Of(err).WithHint("broker console --help")
	}
	if c.Bool("print") {
		return v, nil
	}
	if v.browser.Words, err = set.Browser(asked); err != nil {
		return visit{}, err
	}
	if v.browser, err = p.findBrowser(v.browser, browserOption(c), settings, v.printed); err != nil {
		return visit{}, err
	}
	return v, nil
}

// signIn returns the URL that signs in, and the daemon's answer that it was made from.
func (p *program) signIn(ctx context.Context, name string, v visit) (secret.String, wire.SignIn, error) {
	resp, err := p.ask(ctx, wire.Request{Verb: wire.Console, Profile: name, Role: v.role})
	if err != nil {
		return secret.String{}, wire.SignIn{}, err
	}
	if resp.SignIn == nil {
		return secret.String{}, wire.SignIn{}, fault.New(fault.Unreachable, "the daemon's answer has no sign-in")
	}
	p.warn(resp.Warnings)
	if v.role != nil && v.role.ARN != "" {
		resp.SignIn.Profile = v.role.ARN
	}
	return console.SignIn(resp.SignIn.Endpoint, v.destination, resp.SignIn.Token), *resp.SignIn, nil
}

// open makes a browser go to the URL without passing the URL as an argument, which others could read.
func (v visit) open(ctx context.Context, address secret.String) error {
	redirect, err := console.NewRedirect(address)
	if err != nil {
		return fault.New(fault.Failed, "listen on loopback for the browser: %w", err).WithHint("%s", v.printed)
	}
	command, err := v.browser.Command(redirect.URL())
	if err != nil {
		return fault.Of(err).WithHint("%s", v.printed)
	}
	// The started program, such as xdg-open, would run BROWSER without a check.
	env := without(os.Environ(), func(name string) bool { return slices.Contains(removed, name) || name == "BROWSER" })
	ended, err := console.Start(command, env, v.browser.Dir)
	if err == nil {
		err = redirect.Wait(ctx, ended)
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, console.ErrNobody):
		return fault.New(fault.Failed, "%s was started, but no browser opened the URL within %v", command[0], console.Patience).WithHint("%s", v.printed)
	case ctx.Err() != nil:
		return fault.New(fault.Failed, "interrupted before the browser opened the URL").WithHint("%s", v.printed)
	}
	return fault.Of(err).WithHint("%s", v.printed)
}
