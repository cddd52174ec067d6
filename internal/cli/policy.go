package cli

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"broker/internal/fault"
	"broker/internal/lazyregexp"
	"broker/internal/partition"
	"broker/internal/policy"
	"broker/internal/profiles"
)

func (p *program) policyCommand() *cli.Command {
	return &cli.Command{
		Name:  "policy",
		Usage: "print the IAM policies that roles with MFA need, for review",
		UsageText: "broker policy trust 111122223333 > trust.json\n" +
			"broker policy group > group.json",
		Subcommands: []*cli.Command{
			{
				Name:  "trust",
				Usage: "print the trust policy of a role that needs MFA",
				UsageText: "broker policy trust 111122223333\n" +
					"broker policy trust 111122223333 --mfa-age 12h",
				ArgsUsage: "[ACCOUNT]",
				Description: "ACCOUNT is the account of the users, such as a security account (default: the account of the only\n" +
					"source). Nothing is applied: give the policy to `aws iam create-role` or to Terraform.",
				Flags: []cli.Flag{
					spanFlag("mfa-age", "refuse sessions whose code is as old as this, such as `12h`", 0),
					&cli.StringFlag{Name: "external-id", Usage: "require the external `ID`"},
					&cli.StringFlag{Name: "source-identity",
						Usage: "require the source identity `NAME`; '*' for any, '" + policy.UserName + "' for the user's own"},
					&cli.StringSliceFlag{Name: "session-tag", Usage: "accept the session tag `KEY`; may be repeated"},
					partitionFlag(), formatFlag(),
				},
				Action: p.policyTrust,
			},
			{
				Name:  "group",
				Usage: "print the policy with which users assume their roles",
				UsageText: "broker policy group\n" +
					"broker policy group prod 222233334444:team/admin",
				ArgsUsage: "[SOURCE|PROFILE|ARN|ACCOUNT:ROLE]…",
				Description: "Without arguments, the policy allows the roles of all profiles, which must have one source. For a SOURCE,\n" +
					"it allows those of its profiles. Of a profile with several roles, it allows the first: the others are\n" +
					"assumed from that role.",
				Flags:        []cli.Flag{partitionFlag(), formatFlag()},
				BashComplete: p.completeManyProfiles,
				Action:       p.policyGroup,
			},
			{
				Name:      "self-service",
				Usage:     "print the policy for users to manage their key and MFA",
				UsageText: "broker policy self-service\nbroker policy self-service --format terraform",
				Description: "Without MFA, a user can only open an MFA session. A user with the tag `" + policy.EnrollTag +
					"` = `true` can\nalso enroll a device: set it for the first device, and remove it then.",
				Flags: []cli.Flag{partitionFlag(), formatFlag()},
				Action: func(c *cli.Context) error {
					of, err := p.policyPartition(c)
					if err != nil {
						return err
					}
					return p.printPolicy(c)(policy.SelfService(of))
				},
			},
			{
				Name:      "read-only",
				Usage:     "print the policy that keeps a read-only role from assuming others",
				UsageText: "broker policy read-only\nbroker policy read-only --format terraform",
				Description: "Attach it to the read-only role of a production account, beside ReadOnlyAccess. Its sessions can then assume\n" +
					"no other role, and change no user or role, whatever else is allowed.",
				Flags:  []cli.Flag{formatFlag()},
				Action: func(c *cli.Context) error { return p.printPolicy(c)(policy.ReadOnly()) },
			},
		},
	}
}

// accountStart matches the start of ACCOUNT:ROLE.
var accountStart = lazyregexp.New(`^[0-9]{12}:`)

// policyFormats are the values of --format.
var policyFormats = []string{"json", "terraform"}

func partitionFlag() cli.Flag {
	return &cli.StringFlag{Name: "partition",
		Usage: "write ARNs of the partition `ID` (default: that of the only source, or aws)"}
}

func formatFlag() cli.Flag {
	return &cli.StringFlag{Name: "format", Value: policyFormats[0],
		Usage: "print `FORMAT`: json, or terraform for a data source"}
}

func (p *program) policyTrust(c *cli.Context) error {
	if c.Args().Len() > 1 {
		_, err := one(c, "account")
		return err
	}
	of, account, err := p.onlySource()
	if err != nil {
		return err
	}
	if c.Args().Present() {
		account = c.Args().First()
	}
	if account == "" {
		return fault.New(fault.Usage, "%s needs the account of the users: there is not exactly one source with an ARN",
			named(c)).WithHint("%s 111122223333", typed(c))
	}
	if c.IsSet("partition") {
		of = c.String("partition")
	}
	// An empty value, such as that of a variable that is not set, must not drop the condition.
	for name, empty := range map[string]bool{"mfa-age": spanOf(c, "mfa-age") == 0,
		"external-id": c.String("external-id") == "", "source-identity": c.String("source-identity") == ""} {
		if c.IsSet(name) && empty {
			return fault.New(fault.Usage, "--%s needs a value; without the option, the policy has no such condition", name).
				WithHint("%s --help", typed(c))
		}
	}
	return p.printPolicy(c)(policy.Trust(policy.Trusting{
		Partition:      of,
		Account:        account,
		MFAAge:         spanOf(c, "mfa-age"),
		ExternalID:     c.String("external-id"),
		SourceIdentity: c.String("source-identity"),
		Tags:           c.StringSlice("session-tag"),
	}))
}

func (p *program) policyGroup(c *cli.Context) error {
	of, err := p.policyPartition(c)
	if err != nil {
		return err
	}
	set, err := p.set()
	if err != nil {
		return err
	}
	var roles []string
	if !c.Args().Present() {
		if roles, err = p.rolesOf(set, ""); err != nil {
			return err
		}
	}
	for _, arg := range c.Args().Slice() {
		named := []string{arg}
		if !accountStart.MatchString(arg) && !strings.HasPrefix(arg, "arn:") {
			if named, err = p.rolesNamed(set, arg); err != nil {
				return err
			}
		}
		roles = append(roles, named...)
	}
	var arns []string
	for _, role := range roles {
		arn, err := policy.RoleARN(of, role)
		if err != nil {
			return fault.New(fault.Usage, "%.120q %w", role, err).WithHint("%s --help", typed(c))
		}
		arns = append(arns, arn)
	}
	if len(arns) == 0 {
		return fault.New(fault.Usage, "there is no profile with a role").WithHint("%s ACCOUNT:ROLE", typed(c))
	}
	return p.printPolicy(c)(policy.Group(arns))
}

// rolesOf returns the roles that the user of a source assumes for profiles. If the source is empty, all profiles must
// have one source. A profile that is wrong is left out, with a warning.
func (p *program) rolesOf(set *profiles.Set, source string) (arns []string, err error) {
	only := source
	for _, s := range set.List() {
		if s.Kind != profiles.KindRole {
			continue
		}
		chain, err := set.Resolve(s.Name)
		if err != nil {
			p.warn([]string{"left out: " + s.Name + ": " + fault.Of(err).Error()})
			continue
		}
		switch of := chain.Source.Name; {
		case only == "":
			only = of
		case of == only:
		case source == "":
			return nil, fault.New(fault.Usage, "there are profiles of the sources %q and %q, whose users may be in different "+
				"groups; choose one", only, of).WithHint("broker policy group %s", only)
		default:
			continue
		}
		arns = append(arns, chain.Roles[0].ARN)
	}
	return arns, nil
}

// rolesNamed returns the role that a profile's user assumes, or those of all profiles of a source.
func (p *program) rolesNamed(set *profiles.Set, typed string) ([]string, error) {
	name, err := set.Find(typed)
	if err != nil {
		return nil, err
	}
	chain, err := set.Resolve(name)
	switch {
	case err != nil:
		return nil, err
	case len(chain.Roles) > 0:
		return []string{chain.Roles[0].ARN}, nil
	}
	return p.rolesOf(set, chain.Source.Name)
}

// policyPartition returns the partition of the ARNs that a command writes.
func (p *program) policyPartition(c *cli.Context) (string, error) {
	if c.IsSet("partition") {
		return c.String("partition"), nil
	}
	of, _, err := p.onlySource()
	return of, err
}

// onlySource returns the partition and the account of the only source. Without one they are "aws" and "".
func (p *program) onlySource() (of, account string, err error) {
	set, err := p.set()
	if err != nil {
		return "", "", err
	}
	sources := set.Sources()
	if len(sources) != 1 {
		return partition.Default, "", nil
	}
	of, account = profiles.Chain{Source: sources[0]}.Account()
	return of, account, nil
}

// printPolicy returns what prints a policy in the format of the flag.
func (p *program) printPolicy(c *cli.Context) func(policy.Document, error) error {
	return func(d policy.Document, err error) error {
		format := c.String("format")
		if !slices.Contains(policyFormats, format) {
			return fault.New(fault.Usage, "%.30q is not a format: it is json or terraform", format).
				WithHint("%s --format terraform", typed(c))
		}
		if err != nil {
			return fault.New(fault.Usage, "%w", err).WithHint("%s --help", typed(c))
		}
		text := d.JSON()
		if format == "terraform" {
			text = d.Terraform(strings.ReplaceAll(c.Command.Name, "-", "_"))
		}
		p.raw(strings.TrimSuffix(string(text), "\n"))
		return nil
	}
}
