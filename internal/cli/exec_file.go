package cli

import (
	"context"
	"os"
	"slices"
	"strings"

	"broker/internal/fault"
	"broker/internal/wire"
)

// byFile puts the sessions in a credentials file that only the command uses. It is for tools that read nothing
// else, and for several profiles. Each session is under the name and the aliases of its profile, after the contents
// of the person's own file. The daemon creates the file, and removes it when this process ends, which by then is
// the command.
func (p *program) byFile(ctx context.Context, d delivery) ([]string, error) {
	if d.role != nil && d.role.ARN != "" {
		return nil, fault.New(fault.Usage, "--mode file needs a named profile").
			WithHint("broker exec --mode env --role-arn %s -- COMMAND", d.role.ARN)
	}
	resp, err := p.ask(
		ctx,
		wire.Request{Verb: wire.PrivateFiles, Profile: d.name, Also: d.also, Role: d.role, MinTTL: d.minTTL},
	)
	if err != nil {
		return nil, err
	}
	if resp.Files == nil {
		return nil, fault.New(fault.Unreachable, "the daemon's answer names no file")
	}
	names := []string{resp.Files.Profile}
	if len(d.also) > 0 {
		if names = resp.Files.Profiles; len(names) != 1+len(d.also) {
			// This process ends now, and then the daemon removes the files that it made.
			return nil, fault.New(fault.Unreachable, "the daemon is older than this program, and made files for one profile only").WithHint("broker service restart")
		}
	}
	p.warn(resp.Warnings)
	return fileEnv(os.Environ(), *resp.Files, names), nil
}

// fileEnv returns the environment of a command with its own files, which hold the sessions of the profiles in
// names.
func fileEnv(environ []string, files wire.Files, names []string) []string {
	set := []variable{
		{"BROKER_PROFILE", strings.Join(names, ",")},
		// A command that names no profile gets the first one, and never the default profile of this machine.
		{"AWS_PROFILE", files.Profile},
		{"AWS_SHARED_CREDENTIALS_FILE", files.Credentials},
		// Without it the SDK for JavaScript 2 ignores AWS_SHARED_CREDENTIALS_FILE (lib/util.js,
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
		// Each profile has its own region, which the variables would override.
		environ = without(environ, func(name string) bool { return slices.Contains(regionNames, name) })
	}
	return childEnv(environ, set)
}
