package cli

import (
	"github.com/urfave/cli/v2"

	"broker/internal/fault"
	"broker/internal/mfa"
	"broker/internal/profiles"
	"broker/internal/secret"
)

func (p *program) mfaCommand() *cli.Command {
	return &cli.Command{
		Name:      "mfa",
		Usage:     "enroll, replace, set or remove the MFA device of a source",
		UsageText: "broker mfa enroll security\nbroker mfa set security",
		Subcommands: []*cli.Command{
			p.mfaEnrollCommand(),
			p.mfaReplaceCommand(),
			{
				Name:  "set",
				Usage: "set the MFA device of a source, and store its TOTP seed",
				UsageText: "broker mfa set security\n" +
					"broker mfa set security --serial ARN\n" +
					"broker mfa set work --process 'pass otp aws'",
				ArgsUsage:    "SOURCE",
				BashComplete: p.completeSources,
				Description: "Without an option, asks for the seed on the terminal. A code comes from the stored seed, else\n" +
					"from the program of --process, else from you. With a stored seed nobody is asked for a code, but key and\n" +
					"seed are then in one keyring: anybody who opens it has both factors.",
				Flags: []cli.Flag{
					&cli.StringFlag{Name: "serial", Usage: "the `ARN` of the device"},
					&cli.StringFlag{Name: "process", Usage: "get each code from `COMMAND`, such as 'ykman oath accounts code -s aws'"},
					&cli.BoolFlag{Name: "seed-stdin", Usage: "read the seed from stdin, in base32 or as an otpauth:// URI"},
				},
				Action: p.mfaSet,
			},
			{
				Name:  "remove",
				Usage: "remove the MFA device of a source, and its seed",
				UsageText: "broker mfa remove security\n" +
					"broker mfa remove security --seed-only",
				ArgsUsage:    "SOURCE",
				BashComplete: p.completeSources,
				Flags: []cli.Flag{
					&cli.BoolFlag{Name: "seed-only",
						Usage: "delete only the seed, and ask you for codes from then on"},
					&cli.BoolFlag{Name: "yes", Aliases: []string{"y"}, Usage: "do not ask before deleting the seed"},
				},
				Action: p.mfaRemove,
			},
		},
	}
}

func (p *program) mfaSet(c *cli.Context) error {
	name, set, source, err := p.sourceArg(c)
	if err != nil {
		return err
	}
	serial := c.String("serial")
	wantsSeed := c.Bool("seed-stdin") || serial == "" && !c.IsSet("process") && hasTerminal()
	switch {
	case serial == "" && !wantsSeed && !c.IsSet("process"):
		return fault.New(fault.Usage, "mfa set needs --serial, --seed-stdin or --process").
			WithHint("broker mfa set %s --serial ARN", name)
	case serial == "" && source.MFASerial == "":
		return fault.New(fault.Usage, "source %q has no MFA device yet; give its serial too", name).
			WithHint("broker mfa set %s --serial ARN", name)
	case serial == "":
		serial = source.MFASerial
	}
	if err := profiles.CheckSource(name, serial); err != nil {
		return err
	}
	section := []profiles.KeyValue{{Key: "mfa_serial", Value: serial}}
	drop := []string{}
	command := ""
	if c.IsSet("process") {
		if command, err = set.AbsoluteCommand(c.String("process")); err != nil {
			return fault.New(fault.Usage, "--process %w", err)
		}
		section = append(section, profiles.KeyValue{Key: "mfa_process", Value: command})
	}
	switch {
	case wantsSeed:
		seed, err := p.readSeed(c, name)
		if err != nil {
			return err
		}
		if _, err := mfa.ParseSeed(seed.Reveal()); err != nil {
			return fault.New(fault.Usage, "%w", err).WithHint("broker mfa set %s --seed-stdin < FILE", name)
		}
		if err := p.changeSeed(c, set, name, seed); err != nil {
			return err
		}
		section = append(section, profiles.KeyValue{Key: "mfa_seed", Value: "keyring"})
	case serial != source.MFASerial && source.HasSeed:
		// The stored seed belongs to the old device and would make wrong codes for the new one.
		if err := p.changeSeed(c, set, name, secret.String{}); err != nil {
			return err
		}
		drop = append(drop, "mfa_seed")
	}
	err = p.editRegistry(func(src []byte) ([]byte, error) {
		src, err := profiles.SetSection(src, profiles.SectionSource, name, section)
		if err != nil || len(drop) == 0 {
			return src, err
		}
		return profiles.RemoveKeys(src, profiles.SectionSource, name, drop...)
	})
	if err != nil {
		return err
	}
	switch {
	case wantsSeed:
		p.say("%s: device %s, with its seed; nobody is asked for a code", name, serial)
	case c.IsSet("process"):
		p.say("%s: device %s; %q prints its codes", name, serial, command)
	default:
		p.say("%s: device %s", name, serial)
	}
	return nil
}

func (p *program) mfaRemove(c *cli.Context) error {
	name, set, source, err := p.sourceArg(c)
	if err != nil {
		return err
	}
	seedOnly := c.Bool("seed-only")
	if seedOnly && !source.HasSeed {
		p.say("%s has no stored seed", name)
		return nil
	}
	if source.HasSeed {
		if !c.Bool("yes") {
			question := "Delete the stored seed of " + name + "? This cannot be undone."
			if err := p.confirm(c.Context, question); err != nil {
				return err
			}
		}
		if err := p.changeSeed(c, set, name, secret.String{}); err != nil {
			return err
		}
	}
	keys := []string{"mfa_seed"}
	if !seedOnly {
		keys = append(keys, "mfa_serial", "mfa_process")
	}
	err = p.editRegistry(func(src []byte) ([]byte, error) {
		return profiles.RemoveKeys(src, profiles.SectionSource, name, keys...)
	})
	if err != nil {
		return err
	}
	if seedOnly {
		p.say("%s: the seed is deleted; you are asked for codes of %s", name, source.MFASerial)
		return nil
	}
	p.say("%s: no MFA device", name)
	return nil
}

// changeSeed stores the seed of a source, or removes it if seed is empty.
func (p *program) changeSeed(c *cli.Context, set *profiles.Set, name string, seed secret.String) error {
	ring, err := p.openKeyring(c.Context, set)
	if err != nil {
		return err
	}
	return ring.with(c.Context, func() error {
		if seed.IsZero() {
			return ring.RemoveSeed(c.Context, name)
		}
		return ring.SetSeed(c.Context, name, seed)
	})
}

// sourceArg returns the one argument of a command, which names an existing source.
func (p *program) sourceArg(c *cli.Context) (string, *profiles.Set, profiles.Source, error) {
	typed, err := one(c, "source")
	if err != nil {
		return "", nil, profiles.Source{}, err
	}
	set, err := p.set()
	if err != nil {
		return "", nil, profiles.Source{}, err
	}
	source, err := exactSource(set, typed)
	return source.Name, set, source, err
}
