package cli

import (
	"context"
	"os"

	"broker/internal/fault"
	"broker/internal/profiles"
	"broker/internal/wire"
)

// byServer gives an endpoint of the daemon, for programs that run longer than a session lasts. It belongs to
// this process, whose place the command takes.
func (p *program) byServer(ctx context.Context, h handover) ([]string, error) {
	if h.minTTL > 0 {
		return nil, fault.New(fault.Usage, "--min-ttl is of no use with --mode server, which renews what ends").
			WithHint("broker exec %s --mode server -- COMMAND", h.words())
	}
	if err := p.nothingBefore(h); err != nil {
		return nil, err
	}
	resp, err := p.ask(ctx, wire.Request{Verb: wire.Serve, Profile: h.name, Role: h.role, TokenFile: h.tokenFile})
	if err != nil {
		return nil, err
	}
	e := resp.Endpoint
	if e == nil || h.tokenFile && e.TokenFile == "" || h.role != nil && (e.Role == "" || h.role.ARN != "" && e.Role != h.role.ARN) {
		return nil, fault.New(fault.Unreachable, "the daemon is not of this program's version, and did not give the endpoint that was asked for").WithHint("broker service restart")
	}
	p.warn(resp.Warnings)
	profile := e.Profile
	if h.role != nil && h.role.ARN != "" {
		profile = h.role.ARN
	}
	set := []variable{{"BROKER_PROFILE", profile}, {"AWS_CONTAINER_CREDENTIALS_FULL_URI", e.URL}}
	if h.tokenFile {
		set = append(set, variable{"AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", e.TokenFile})
	} else {
		set = append(set, variable{"AWS_CONTAINER_AUTHORIZATION_TOKEN", e.Token.Reveal()})
	}
	return childEnv(os.Environ(), append(set, regionEnv(e.Region)...)), nil
}

// words are how the profile or role was asked for, in hints.
func (h handover) words() string {
	if h.role != nil && h.role.ARN != "" {
		return "--role-arn " + fault.Word(h.role.ARN)
	}
	return fault.Word(h.name)
}

// nothingBefore refuses where a default profile would win: the SDKs look there before they ask an endpoint, and the
// command would work in another account than the one that was asked for.
// https://docs.aws.amazon.com/sdkref/latest/guide/standardized-credentials.html
func (p *program) nothingBefore(h handover) error {
	set, err := new(profiles.Store).Load(p.files()) // what is wrong with them was said when the name was looked up
	if err != nil {
		return err
	}
	if at, ok := set.WayOf("default"); ok {
		return fault.New(fault.Config, "AWS tools would take the default profile (%s) before they ask the endpoint of --mode server", at).
			WithHint("broker exec %s --mode env -- COMMAND", h.words())
	}
	return nil
}
