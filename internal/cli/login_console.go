package cli

import (
	"context"
	"os"
	"time"

	"broker/internal/audit"
	"broker/internal/fault"
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
	} else if !fault.Is(err, fault.NotFound) {
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
	p.say("for AWS tools: %s", fault.Hintf("broker profiles link %s", name))
	return nil
}
