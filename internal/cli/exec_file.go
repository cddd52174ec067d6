package cli

import (
	"context"
	"os"
	"time"

	"broker/internal/fault"
	"broker/internal/wire"
)

// byFile gives the session in a credentials file that is the command's own, for tools that read nothing else: under
// the profile's name and its aliases, behind all that the person's own file has. The daemon makes it, and
// removes it when this process ends, which by then is the command.
func (p *program) byFile(ctx context.Context, h handover) ([]string, error) {
	if h.role != nil && h.role.ARN != "" {
		return nil, fault.New(fault.Usage, "--mode file wants a profile: a role that none names has no name in a file").
			WithHint("broker exec --mode env --role-arn %s -- COMMAND", fault.Word(h.role.ARN))
	}
	resp, err := p.ask(ctx, wire.Request{Verb: wire.Overlay, Profile: h.name, Role: h.role, MinTTL: h.minTTL})
	if err != nil {
		return nil, err
	}
	if resp.Files == nil {
		return nil, fault.New(fault.Unreachable, "the daemon's answer names no file")
	}
	p.warn(resp.Warnings)
	p.warn([]string{"the session of " + resp.Files.Profile + " is not renewed in the file; it ends at " +
		resp.Files.Expires.Local().Format(time.TimeOnly) + ", in " + time.Until(resp.Files.Expires).Round(time.Second).String()})
	return fileEnv(os.Environ(), *resp.Files), nil
}

// fileEnv is the environment of a command with files of its own.
func fileEnv(environ []string, files wire.Files) []string {
	set := []variable{
		{"BROKER_PROFILE", files.Profile},
		{"BROKER_EXPIRATION", files.Expires.UTC().Format(time.RFC3339)},
		{"AWS_PROFILE", files.Profile},
		{"AWS_SHARED_CREDENTIALS_FILE", files.Credentials},
		// Without it the SDK for JavaScript 2 leaves AWS_SHARED_CREDENTIALS_FILE out of account (lib/util.js,
		// getProfilesFromSharedConfig).
		{"AWS_SDK_LOAD_CONFIG", "1"},
	}
	if files.Config != "" {
		set = append(set, variable{"AWS_CONFIG_FILE", files.Config})
	}
	if files.Region != "" {
		for _, name := range regionNames {
			set = append(set, variable{name, files.Region})
		}
	}
	return childEnv(environ, set)
}
