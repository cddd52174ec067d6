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
		Name:  "mfa",
		Usage: "the MFA device of a source",
		Subcommands: []*cli.Command{
			{
				Name:      "set",
				Usage:     "name the device of a source, and store its TOTP seed",
				ArgsUsage: "SOURCE",
				Description: "A code is made from the stored seed, else printed by the program of --process, else asked\n" +
					"for. With a stored seed nobody is asked for a code. Key and seed then lie in one keyring:\n" +
					"anybody who opens it has both factors.",
				Flags: []cli.Flag{
					&cli.StringFlag{Name: "serial", Usage: "`ARN` of the device"},
					&cli.StringFlag{Name: "process", Usage: "`COMMAND` that prints a code, such as 'ykman oath accounts code -s aws'"},
					&cli.BoolFlag{Name: "seed-stdin", Usage: "the seed from stdin: base32, or an otpauth:// URI"},
				},
				Action: p.mfaSet,
			},
			{
				Name:      "remove",
				Usage:     "forget the device of a source, and its seed",
				ArgsUsage: "SOURCE",
				Action:    p.mfaRemove,
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
	switch {
	case serial == "" && !c.Bool("seed-stdin") && !c.IsSet("process"):
		return fault.New(fault.Usage, "mfa set needs --serial, --seed-stdin or --process").
			WithHint("broker mfa set %s --serial ARN", name)
	case serial == "" && source.MFASerial == "":
		return fault.New(fault.Usage, "source %s has no MFA device yet; give its serial too", name).
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
	case c.Bool("seed-stdin"):
		seed, err := readSeed(p.stdin)
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
		// The stored seed is of the old device; for the new one it would make wrong codes.
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
	case c.Bool("seed-stdin"):
		p.say("%s: device %s, with its seed; nobody is asked for a code", name, serial)
	case c.IsSet("process"):
		p.say("%s: device %s, whose codes %q prints", name, serial, command)
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
	if source.HasSeed {
		if err := p.changeSeed(c, set, name, secret.String{}); err != nil {
			return err
		}
	}
	err = p.editRegistry(func(src []byte) ([]byte, error) {
		return profiles.RemoveKeys(src, profiles.SectionSource, name, "mfa_serial", "mfa_seed", "mfa_process")
	})
	if err != nil {
		return err
	}
	p.say("%s: no MFA device", name)
	return nil
}

// changeSeed stores the seed of a source, or removes it where it is empty.
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

// sourceArg reads the one argument of a command about a source that exists.
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
