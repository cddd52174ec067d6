package cli

import (
	"slices"

	"github.com/urfave/cli/v2"

	"broker/internal/fault"
	"broker/internal/profiles"
	"broker/internal/wire"
)

func (p *program) logoutCommand() *cli.Command {
	return &cli.Command{
		Name:  "logout",
		Usage: "forget the sessions of a source, or of all sources",
		UsageText: "broker logout\n" +
			"broker logout security\n" +
			"broker logout my-sso",
		ArgsUsage: "[SOURCE]",
		Description: "Also ends the session of an IAM Identity Center portal. Sessions that were already handed out stay valid\n" +
			"in AWS until they expire.",
		BashComplete: p.completeLoginSources,
		Action: func(c *cli.Context) error {
			if c.Args().Len() > 1 {
				return fault.New(fault.Usage, "logout needs one source or none").WithHint("broker logout SOURCE")
			}
			source := c.Args().First()
			if c.Args().Present() { // an empty name is a mistake in a script and does not mean all sources
				set, err := p.set()
				if err != nil {
					return err
				}
				if source, err = findLogout(set, source); err != nil {
					return err
				}
			}
			// This starts a daemon if none is running, because the keyring may keep a session.
			resp, err := p.ask(c.Context, wire.Request{Verb: wire.Logout, Profile: source})
			if err != nil {
				return err
			}
			p.say("forgot %s; sessions that were handed out stay valid in AWS until they expire", plural(resp.Count, "session"))
			return nil
		},
	}
}

// findLogout returns the name of the source that a person means. A profile does not stand for its source, because a
// logout concerns other profiles too; only the profile of a console login has the name of its source.
func findLogout(set *profiles.Set, typed string) (string, error) {
	found, err := set.FindSource(typed)
	if err == nil {
		return found.Name, nil
	}
	for _, source := range set.LoginSources() {
		if source.Name == typed || source.Kind == profiles.Portal && source.Name == profiles.StartURL(typed) {
			return source.Name, nil
		}
	}
	if name, ferr := set.FindLogin(typed); ferr == nil {
		if source, ok, _ := set.LoginSource(name); ok {
			if source.Name == name {
				return name, nil
			}
			return "", fault.Of(err).WithHint("broker logout %s", source.Name)
		}
	}
	if chain, cerr := set.Resolve(typed); cerr == nil {
		if kind := chain.Source.Kind; kind == profiles.WebIdentity || kind == profiles.OtherProgram {
			return "", fault.New(fault.NotFound, "%q has no login to end; its sessions end by themselves, or with all others", typed).
				WithHint("broker logout")
		}
		err = fault.Of(err).WithHint("broker logout %s", chain.Source.Name)
	}
	return "", err
}

// exactSource finds a source for a command that deletes without confirmation: only by its full name or an alias.
func exactSource(set *profiles.Set, typed string) (profiles.Source, error) {
	source, err := set.FindSource(typed)
	if err != nil || source.Name == typed ||
		slices.ContainsFunc(set.Aliases(), func(a profiles.Alias) bool { return a.Name == typed }) {
		return source, err
	}
	return profiles.Source{}, fault.New(fault.NotFound, "there is no source %q; did you mean %q?", typed, source.Name).WithHint("broker profiles list")
}
