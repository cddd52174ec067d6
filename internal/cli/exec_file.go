package cli

import (
	"context"
	"os"
	"slices"
	"strings"

	"broker/internal/fault"
	"broker/internal/wire"
)

// byFile gives the sessions in a credentials file that is the command's own, for tools that read nothing else, or need
// several: each under its profile's name and aliases, behind all that the person's own file has. The daemon makes it, and
// removes it when this process ends, which by then is the command.
func (p *program) byFile(ctx context.Context, d delivery) ([]string, error) {
	if d.role != nil && d.role.ARN != "" {
		return nil, fault.New(fault.Usage, "--mode file needs a named profile").
			WithHint("broker exec --mode env --role-arn %s -- COMMAND", d.role.ARN)
	}
	resp, err := p.ask(ctx, wire.Request{Verb: wire.Overlay, Profile: d.name, Also: d.also, Role: d.role, MinTTL: d.minTTL})
	if err != nil {
		return nil, err
	}
	if resp.Files == nil {
		return nil, fault.New(fault.Unreachable, "the daemon's answer names no file")
	}
	names := []string{resp.Files.Profile}
	if len(d.also) > 0 {
		if names = resp.Files.Profiles; len(names) != 1+len(d.also) {
			// What it made goes when we end, which is now.
			return nil, fault.New(fault.Unreachable, "the daemon is older than this program, and made files for one profile alone").WithHint("broker service restart")
		}
	}
	p.warn(resp.Warnings)
	return fileEnv(os.Environ(), *resp.Files, names), nil
}

// fileEnv is the environment of a command with files of its own, in which the sessions of these profiles stand.
func fileEnv(environ []string, files wire.Files, names []string) []string {
	set := []variable{
		{"BROKER_PROFILE", strings.Join(names, ",")},
		// A command that names no profile gets the first, and never what else is the default on this machine.
		{"AWS_PROFILE", files.Profile},
		{"AWS_SHARED_CREDENTIALS_FILE", files.Credentials},
		// Without it the SDK for JavaScript 2 leaves AWS_SHARED_CREDENTIALS_FILE out of account (lib/util.js,
		// getProfilesFromSharedConfig).
		{"AWS_SDK_LOAD_CONFIG", "1"},
	}
	if files.Config != "" {
		set = append(set, variable{"AWS_CONFIG_FILE", files.Config})
	}
	switch {
	case files.Region == "":
	case len(names) == 1:
		set = append(set, regionEnv(files.Region)...)
	default:
		// Each profile has its own, over which the variables would win.
		environ = without(environ, func(name string) bool { return slices.Contains(regionNames, name) })
	}
	return childEnv(environ, set)
}
