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
		Description: "Also ends the session of an IAM Identity Center portal, even if its [sso-session] was renamed or\n" +
			"removed. Sessions that were already handed out stay valid in AWS until they expire.",
		BashComplete: p.completeLoginSources,
		Action: func(c *cli.Context) error {
			if c.Args().Len() > 1 {
				return fault.New(fault.Usage, "logout needs one source or none").WithHint("broker logout SOURCE")
			}
			source, unknown := "", error(nil)
			if c.Args().Present() { // an empty name is a mistake in a script and does not mean all sources
				set, err := p.set()
				if err != nil {
					return err
				}
				if source, unknown = findLogout(set, c.Args().First()); source == "" {
					return unknown
				}
			}
			// This starts a daemon if none is running, because the keyring may keep a session.
			resp, err := p.ask(c.Context, wire.Request{Verb: wire.Logout, Profile: source})
			if unknown != nil && (err == nil && resp.Count == 0 || fault.Is(err, fault.Keyring)) {
				err = unknown // also if the keyring cannot be used: the name is probably mistyped
			}
			if err != nil {
				return err
			}
			p.warn(resp.Warnings)
			if resp.Count == 0 {
				of, keeps := "", ", and the keyring keeps none now"
				if len(resp.Warnings) > 0 {
					keeps = ""
				}
				if source != "" {
					of = fault.Line(source) + ": "
				}
				p.say("%sno session was in memory%s", of, keeps)
				return nil
			}
			p.say("forgot %s; sessions that were handed out stay valid in AWS until they expire", plural(resp.Count, "session"))
			return nil
		},
	}
}

// findLogout returns the name of the source that a person means. A profile does not stand for its source, because a
// logout concerns other profiles too, unless it is the source itself. An error with a name means that no file has the
// source, but the keyring may still have a login of that name.
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
	name, missing := set.FindLogin(typed)
	if source, ok, _ := set.LoginSource(name); missing == nil && ok {
		if source.Name == name {
			return name, nil
		}
		err = fault.Of(err).WithHint("broker logout %s", source.Name)
	}
	if chain, cerr := set.Resolve(typed); cerr == nil {
		if chain.Source.Name == typed { // a web identity, or another program
			return typed, nil
		}
		return "", fault.Of(err).WithHint("broker logout %s", chain.Source.Name)
	}
	if !fault.Is(err, fault.NotFound) {
		return "", err
	}
	if fault.Is(missing, fault.NotFound) {
		err = missing // it knows the names of portals too
	}
	return profiles.StartURL(typed), err
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
