package cli

import (
	"context"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"broker/internal/fault"
	"broker/internal/lazyregexp"
	"broker/internal/wire"
)

// adHocFlags are the flags for a role that no profile names, and for overriding a profile's role in one request.
func adHocFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "role-arn", Usage: "instead of a profile, assume the role `ARN` or ACCOUNT:ROLE"},
		&cli.StringFlag{Name: "source", Usage: "with --role-arn: assume it from `SOURCE`, a source or profile (default: the only source)"},
		&cli.StringFlag{Name: "external-id", Usage: "send the external `ID` that the role requires"},
		spanFlag("duration", "request a session of this length, such as `30m`", 0),
		&cli.StringFlag{Name: "session-name", Usage: "use `NAME` as the role session name in CloudTrail"},
		&cli.StringFlag{Name: "session-policy", Usage: "restrict the session with a policy: `JSON` or the name of a file"},
		&cli.StringSliceFlag{Name: "session-tag", Usage: "add the session tag `KEY=VALUE`; may be repeated"},
	}
}

// adHoc returns the role that the flags describe, or nil if no flag is set.
func (p *program) adHoc(c *cli.Context) (*wire.Role, error) {
	usage := func(format string, args ...any) error {
		return fault.New(fault.Usage, format, args...).WithHint("%s --help", typed(c))
	}
	if c.NumFlags() == 0 { // IsSet searches all flags
		return nil, nil
	}
	given := false
	for _, f := range adHocFlags() {
		given = given || c.IsSet(f.Names()[0])
	}
	switch {
	case !given:
		return nil, nil
	case c.IsSet("source") && !c.IsSet("role-arn"):
		return nil, usage("--source needs --role-arn; a profile names its own source")
	case c.IsSet("role-arn") && c.String("role-arn") == "":
		return nil, usage("--role-arn is empty")
	}
	if d := spanOf(c, "duration"); c.IsSet("duration") && (d < wire.MinRole || d > wire.MaxRole) {
		return nil, usage("--duration must be from 15m to 12h, the limits of AWS")
	}
	role := &wire.Role{
		ARN: c.String("role-arn"), ExternalID: c.String("external-id"), SessionName: c.String("session-name"),
		Seconds: int(spanOf(c, "duration") / time.Second), Policy: c.String("session-policy"),
	}
	if role.Policy != "" && !strings.HasPrefix(strings.TrimSpace(role.Policy), "{") {
		text, err := os.ReadFile(role.Policy)
		if err != nil {
			return nil, fault.New(fault.Failed, "read the session policy: %w", err)
		}
		role.Policy = string(text)
	}
	for _, tag := range c.StringSlice("session-tag") {
		key, value, ok := strings.Cut(tag, "=")
		if !ok {
			return nil, usage("%.60q is not a session tag of the form KEY=VALUE", tag)
		}
		role.Tags = append(role.Tags, wire.Tag{Key: key, Value: value})
	}
	return role, nil
}

// wanted names whose credentials a command should use, as they were typed.
type wanted struct {
	profile string     // a profile or source; empty if none was named, and the directory has none
	also    []string   // further profiles; only for exec and shell
	role    *wire.Role // see adHoc
	source  string     // source of a role given by ARN; empty if none was named
}

// byARN reports whether a role was named by its ARN, and not by a profile.
func (w wanted) byARN() bool { return w.role != nil && w.role.ARN != "" }

// none reports whether nothing was named, so that a person can choose.
func (w wanted) none() bool { return w.profile == "" && !w.byARN() }

// shown returns what was named as an argument of a hint: the names, or a Hint.
func (w wanted) shown() any {
	switch {
	case w.byARN():
		return fault.Hintf("--role-arn %s", w.role.ARN)
	case w.profile == "":
		return fault.Hint("PROFILE")
	}
	return w.names()
}

// names returns all profiles that were named.
func (w wanted) names() []string { return append([]string{w.profile}, w.also...) }

// wanted reads the flags that belong to the named profiles, or that replace a profile. If there is nothing of the
// kind, it is the profile of the working directory.
func (p *program) wanted(c *cli.Context, names ...string) (wanted, error) {
	role, err := p.adHoc(c)
	w := wanted{role: role, source: c.String("source")}
	if len(names) > 0 {
		w.profile, w.also = names[0], names[1:]
	}
	usage := func(format string, args ...any) error {
		return fault.New(fault.Usage, format, args...).WithHint("%s --help", typed(c))
	}
	switch {
	case err != nil:
	case w.byARN() && strings.Join(w.names(), "") != "":
		err = usage("with --role-arn, %s takes no profile", c.Command.Name)
	case len(w.also) > 0 && slices.Contains(w.names(), ""):
		err = usage("the name of a profile is empty")
	case len(w.also) > 0 && c.IsSet("external-id"):
		err = usage("--external-id applies to one role, but %s are several profiles; set external_id in each profile instead", strings.Join(w.names(), ", "))
	case len(names) == 0 && !w.byARN():
		w.profile, err = p.directoryProfile()
	}
	return w, err
}

// wantedArgument is wanted for a command that takes at most one argument, the profile.
func (p *program) wantedArgument(c *cli.Context) (wanted, error) {
	if c.Args().Len() > 1 || c.Args().Len() == 1 && c.Args().First() == "" {
		return wanted{}, fault.New(fault.Usage, "%s needs one profile", c.Command.Name).WithHint("%s PROFILE", typed(c))
	}
	return p.wanted(c, c.Args().Slice()...)
}

// exactName returns the exact name of the requested profile or source. If nothing was named, a person at the
// terminal chooses one; without a terminal the error is noProfile.
func (p *program) exactName(ctx context.Context, w wanted, noProfile error) (string, error) {
	switch {
	case w.byARN():
		return p.roleSource(w.source, w.role)
	case w.profile == "":
		return p.pickProfile(ctx, noProfile)
	}
	return p.find(w.profile)
}

// exactNames is exactName for a command that takes several profiles.
func (p *program) exactNames(ctx context.Context, w wanted, noProfile error) ([]string, error) {
	if len(w.also) == 0 {
		name, err := p.exactName(ctx, w, noProfile)
		return []string{name}, err
	}
	return p.exactList(w.names(), nil)
}

// accountRole matches ACCOUNT:ROLE.
var accountRole = lazyregexp.New(`^([0-9]{12}):([^:]+)$`)

// roleSource returns the name of the source that assumes the role. It completes the ARN of the role, in the
// partition of the source. If there is exactly one source, it need not be named.
func (p *program) roleSource(typed string, role *wire.Role) (string, error) {
	set, err := p.set()
	if err != nil {
		return "", err
	}
	if sources := set.Sources(); typed == "" {
		switch {
		case len(sources) == 1:
			typed = sources[0].Name
		case len(sources)+len(set.LoginSources()) == 0:
			return "", fault.New(fault.NotFound, "there is no source yet").WithHint("broker setup")
		}
	}
	if typed == "" {
		return "", fault.New(fault.Usage, "--role-arn needs --source, unless there is exactly one source").
			WithHint("broker profiles list")
	}
	name, err := set.Find(typed)
	if err != nil {
		return "", err
	}
	chain, err := set.Resolve(name)
	if err != nil {
		return "", err
	}
	if m := accountRole.FindStringSubmatch(role.ARN); m != nil {
		partition, _ := chain.Account()
		role.ARN = "arn:" + partition + ":iam::" + m[1] + ":role/" + m[2]
	}
	return name, nil
}

// roleCredential is credential with role, which no profile names. With a nil role it is the same as credential.
func (p *program) roleCredential(
	ctx context.Context,
	name string,
	role *wire.Role,
	minTTL time.Duration,
) (wire.Credential, error) {
	if role == nil {
		return p.credential(ctx, name, minTTL)
	}
	resp, err := p.ask(ctx, wire.Request{Verb: wire.Get, Profile: name, MinTTL: minTTL, Role: role})
	if err != nil {
		return wire.Credential{}, err
	}
	if err := ofRole(resp, role.ARN); err != nil {
		return wire.Credential{}, err
	}
	p.warn(resp.Warnings)
	if role.ARN != "" {
		resp.Credential.Profile = role.ARN
	}
	return *resp.Credential, nil
}

// ofRole refuses the answer of an older daemon, which ignores the role and returns the session of the source or
// profile itself.
func ofRole(resp wire.Response, arn string) error {
	if c := resp.Credential; c == nil || c.Role == "" || arn != "" && c.Role != arn {
		return fault.New(fault.Unreachable, "the daemon is older than this program, and did not assume the role").WithHint("broker service restart")
	}
	return nil
}
