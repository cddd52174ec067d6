package cli

import (
	"context"
	"os"

	"broker/internal/fault"
	"broker/internal/profiles"
	"broker/internal/wire"
)

// byServer gets an endpoint from the daemon, for programs that run longer than a session lasts. The endpoint
// belongs to this process, which the command replaces.
func (p *program) byServer(ctx context.Context, d delivery) ([]string, error) {
	if d.minTTL > 0 {
		return nil, fault.New(fault.Usage, "--min-ttl has no effect with --mode server, which renews sessions").
			WithHint("broker exec %s --mode server -- COMMAND", d.words())
	}
	files, err := p.withoutDefault(ctx, d)
	if err != nil {
		return nil, err
	}
	resp, err := p.ask(ctx, wire.Request{Verb: wire.Serve, Profile: d.name, Role: d.role, TokenFile: d.tokenFile})
	if err != nil {
		return nil, err
	}
	e := resp.Endpoint
	if e == nil || d.tokenFile && e.TokenFile == "" ||
		d.role != nil && (e.Role == "" || d.role.ARN != "" && e.Role != d.role.ARN) {
		return nil, fault.New(fault.Unreachable, "the daemon and this program differ in version, and the daemon did not return the endpoint that was asked for").
			WithHint("broker service restart")
	}
	p.warn(resp.Warnings)
	profile := e.Profile
	if d.role != nil && d.role.ARN != "" {
		profile = d.role.ARN
	}
	set := append(files, variable{"BROKER_PROFILE", profile}, variable{"AWS_CONTAINER_CREDENTIALS_FULL_URI", e.URL})
	if d.tokenFile {
		set = append(set, variable{"AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", e.TokenFile})
	} else {
		set = append(set, variable{"AWS_CONTAINER_AUTHORIZATION_TOKEN", e.Token.Reveal()})
	}
	return childEnv(os.Environ(), append(set, regionEnv(e.Region)...)), nil
}

// words returns the profile or role as it was asked for, for hints.
func (d delivery) words() fault.Hint {
	if d.role != nil && d.role.ARN != "" {
		return fault.Hintf("--role-arn %s", d.role.ARN)
	}
	return fault.Word(d.name)
}

// withoutDefault gets files for the command in which the default profile has no credentials, if the person's own
// files have them there. The SDKs look at the default profile before they ask an endpoint, so the command would
// work in another account than requested. withoutDefault returns the variables that name the files.
// https://docs.aws.amazon.com/sdkref/latest/guide/standardized-credentials.html
func (p *program) withoutDefault(ctx context.Context, d delivery) ([]variable, error) {
	set, err := new(profiles.Store).Load(p.files()) // warnings were printed when the name was looked up
	if err != nil {
		return nil, err
	}
	at, leads := set.WayOf("default")
	if !leads {
		return nil, nil
	}
	resp, err := p.ask(ctx, wire.Request{Verb: wire.PrivateFiles, Profile: d.name, Role: d.role, MaskDefault: true})
	if err != nil {
		return nil, err
	}
	made := resp.Files
	if made == nil || !made.MaskDefault {
		return nil, fault.New(fault.Unreachable, "the daemon is older than this program, and cannot hide the default "+
			"profile (%s), which AWS tools would take", at).
			WithHint("broker service restart")
	}
	now := p.files()
	now.Credentials = made.Credentials
	vars := []variable{{"AWS_SHARED_CREDENTIALS_FILE", made.Credentials}}
	if made.Config != "" {
		now.Config = made.Config
		vars = append(vars, variable{"AWS_CONFIG_FILE", made.Config})
	}
	if set, err = new(profiles.Store).Load(now); err != nil {
		return nil, err
	}
	if _, leads := set.WayOf("default"); leads {
		return nil, fault.New(fault.Config, "AWS tools would take the default profile (%s) before they ask the "+
			"endpoint of --mode server", at).
			WithHint("broker exec %s --mode env -- COMMAND", d.words())
	}
	return vars, nil
}
