package cli

import (
	"cmp"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"time"

	"broker/internal/atomicfile"
	"broker/internal/audit"
	"broker/internal/fault"
	"broker/internal/paths"
	"broker/internal/profiles"
	"broker/internal/secret"
	"broker/internal/session"
	"broker/internal/system"
	"broker/internal/vault"
	"broker/internal/wire"
)

// firstConsoleLogin signs a person in to the console and writes a source for who that is. The daemon cannot do it,
// because the source is not in the registry before AWS has said who signed in. A source that exists is logged in as
// any other.
func (p *program) firstConsoleLogin(ctx context.Context, set *profiles.Set, name, region string, o pageOptions) error {
	if err := p.refuseLocked(ctx); err != nil {
		return err
	}
	if source, ok, err := set.LoginSource(name); err == nil && ok && source.Kind == profiles.ConsoleLogin {
		return p.login(ctx, set, []string{name}, secret.String{}, o)
	} else if !fault.Is(err, fault.NotFound) && !errors.Is(err, profiles.ErrOnlySettings) {
		if err == nil {
			err = fault.New(fault.Usage, "%q is not a console login; choose another name", name)
		}
		return fault.Of(err).WithHint("broker explain %s", name)
	}
	if err := profiles.CheckSource(name, ""); err != nil {
		return err
	}
	for _, variable := range []string{"AWS_REGION", "AWS_DEFAULT_REGION"} {
		if region == "" {
			region = os.Getenv(variable)
		}
	}
	if region == "" {
		return fault.New(fault.Usage, "a console login needs the region to sign in to").
			WithHint("broker login --console %s --region us-east-1", name)
	}
	settings, err := set.Settings()
	if err == nil { // before a person signs in, and the login is in the keyring without a source
		err = writeFault(p.paths.Registry, atomicfile.Check(p.paths.Registry))
	}
	if err != nil {
		return err
	}
	ring, err := p.openKeyring(ctx, set)
	if err != nil {
		return err
	}
	ring.makes = true
	source := profiles.Source{Name: name, Kind: profiles.ConsoleLogin, Registry: system.RealPath(p.paths.Registry),
		Endpoint: profiles.Endpoint{Region: region}.Replaced(settings.STSEndpoint)}
	l, err := p.newPageLogin(set, name, source, o)
	if err != nil {
		return err
	}
	l.printed = fault.Hintf("broker login --console %s --remote --region %s", name, region)
	l.begin = func(ctx context.Context, redirect string) (page wire.Page, err error) {
		err = ring.with(ctx, func() error {
			login, err := ring.BeginLogin(ctx, source, redirect)
			page = wire.Page(login)
			return err
		})
		return page, err
	}
	var who vault.Identity
	var until time.Time
	l.finish = func(ctx context.Context, page wire.Page, code secret.String) (*wire.Page, error) {
		return nil, ring.with(ctx, func() (err error) {
			who, until, err = ring.FinishSignIn(ctx, source, session.Login(page), code)
			return err
		})
	}
	if err := p.record(audit.Event{Event: "login_begun", Profile: name, Source: name}); err != nil {
		return err
	}
	if err := l.run(ctx); err != nil {
		return err
	}
	if err := ring.keep(); err != nil {
		return err
	}
	if err := p.record(audit.Event{Event: "login", Profile: name, Source: name, Message: who.ARN}); err != nil {
		return err
	}
	err = p.editRegistry(func(src []byte) ([]byte, error) {
		return profiles.SetSection(src, profiles.SectionSource, name, []profiles.KeyValue{
			{Key: "login_session", Value: who.ARN}, {Key: "region", Value: region}})
	})
	if err != nil {
		return err
	}
	p.say("%s: logged in until %s as %s", fault.Line(name), until.Local().Format(time.DateTime), fault.Line(who.ARN))
	return p.offerLink(ctx, name, o.yes)
}

// takeOver asks whether to take over the login that `aws login` has for a source, and does so. It reports false if
// there is no such login, or if the person wants to log in on the page.
func (l *pageLogin) takeOver(ctx context.Context, o pageOptions) (bool, error) {
	if l.source.Kind != profiles.ConsoleLogin || l.source.ARN == "" || o.given() != "" {
		return false, nil
	}
	cache := cmp.Or(os.Getenv("AWS_LOGIN_CACHE_DIRECTORY"), filepath.Join(paths.Home(), ".aws", "login", "cache"))
	file := filepath.Join(cache, vault.SignInFile(l.source.ARN))
	if _, err := os.Stat(file); err != nil || !filepath.IsAbs(file) {
		return false, nil
	}
	name := fault.Line(l.source.Name)
	agreed := o.yes
	if !agreed && hasTerminal() {
		const question = "Take over the login of aws login? After that, the AWS CLI has to log in again."
		err := l.confirm(ctx, name+": "+question)
		if err != nil && !fault.Is(err, fault.NotConfirmed) {
			return false, err
		}
		agreed = err == nil
	}
	if !agreed {
		return false, nil
	}
	switch _, err := l.finish(ctx, wire.Page{Adopt: cache}, secret.String{}); {
	case fault.Is(err, fault.LoginNeeded): // that login has ended
		l.warn([]string{fault.Of(err).Message})
		return false, nil
	case err != nil:
		return false, err
	}
	l.say("%s: took over the login of aws login as %s", name, fault.Line(l.source.ARN))
	return true, nil
}

// offerLink asks whether to link the profile of a console login that was just made, so that all AWS tools use it.
// Otherwise they prefer the login_session of the profile, or do not know the profile.
func (p *program) offerLink(ctx context.Context, name string, yes bool) error {
	set, err := p.set()
	if err != nil {
		return err
	}
	if slices.ContainsFunc(set.List(), func(s profiles.Summary) bool { return s.Name == name && s.Linked }) {
		return nil
	}
	credproc, err := credprocProgram()
	agreed := yes
	if err == nil && !yes && hasTerminal() {
		err = p.confirm(ctx, "Link "+fault.Line(name)+", so that all AWS tools use this login?")
		agreed = err == nil
	}
	switch {
	case agreed && err == nil:
		// A yes here is not one to lines that count only in the registry. link asks about them.
		if err = p.link(ctx, []string{name}, credproc, linkOptions{}); !fault.Is(err, fault.NotConfirmed) {
			return err
		}
	}
	switch {
	case yes && fault.Is(err, fault.NotConfirmed):
		return fault.New(fault.NotConfirmed, "%q is logged in, but it is not linked without your yes to these lines", name).
			WithHint("broker profiles link %s", name)
	case yes, fault.Is(err, fault.Interrupted):
		return err
	}
	p.say("AWS tools do not use this login yet: %s", fault.Hintf("broker profiles link %s", name))
	return nil
}
