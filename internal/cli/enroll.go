package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"broker/internal/audit"
	"broker/internal/fault"
	"broker/internal/mfa"
	"broker/internal/profiles"
	"broker/internal/secret"
	"broker/internal/session"
	"broker/internal/vault"
)

func (p *program) mfaEnrollCommand() *cli.Command {
	return &cli.Command{
		Name:  "enroll",
		Usage: "give the user of a source an MFA device",
		UsageText: "broker mfa enroll security\n" +
			"broker mfa enroll security --no-store-seed",
		ArgsUsage:    "SOURCE",
		BashComplete: p.completeSources,
		Description: "Creates a virtual MFA device in AWS, keeps its seed in the keyring, shows it once as a QR code for\n" +
			"your phone, enables the device and opens the first session. The seed is never shown again. If the command\n" +
			"is interrupted, run it again.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "no-store-seed", Usage: "keep the seed on your phone only, and ask you for codes"},
		},
		Action: func(c *cli.Context) error { return p.mfaEnroll(c, false) },
	}
}

func (p *program) mfaReplaceCommand() *cli.Command {
	return &cli.Command{
		Name:         "replace",
		Usage:        "enroll a new MFA device, then remove the old one",
		UsageText:    "broker mfa replace security",
		ArgsUsage:    "SOURCE",
		BashComplete: p.completeSources,
		Description: "Enrolls a new device, as `broker mfa enroll` does, opens a session with it, and only then removes the\n" +
			"old device from AWS. The seed is kept in the keyring if the old one was. Needs a code of the old device,\n" +
			"unless a session is open. If the command is interrupted, run it again.",
		Action: func(c *cli.Context) error { return p.mfaEnroll(c, true) },
	}
}

// enrollTime is how long a session must last at least to sign the calls of an enrollment.
const enrollTime = 10 * time.Minute

// enrollTries is how often codes are sent to AWS, each time other ones.
const enrollTries = 3

// enrollment is one run of a command that enrolls a device for a source.
type enrollment struct {
	p      *program
	ring   *keyring
	source profiles.Source
	vault.Enrollment
	again fault.Hint // the command that continues after an interruption
}

func (p *program) mfaEnroll(c *cli.Context, replace bool) error {
	ctx := c.Context
	name, set, source, err := p.sourceArg(c)
	if err != nil {
		return err
	}
	settings, err := set.Settings()
	if err != nil {
		return err
	}
	n := &enrollment{p: p, source: source, again: fault.Hintf("broker mfa enroll %s", name)}
	if c.Bool("no-store-seed") {
		n.again = fault.Hintf("broker mfa enroll %s --no-store-seed", name)
	}
	n.Source, n.KeyID, n.Endpoint = name, source.AccessKeyID, source.Endpoint.Replaced(settings.STSEndpoint)
	if source.NoSession {
		return fault.New(fault.Usage, "source %q has session = none, so no session would prove the new device", name).
			WithHint("broker mfa set %s --serial ARN", name)
	}
	if err := source.CheckIAM(); err != nil {
		return fault.Of(err).WithHint("broker mfa set %s --serial ARN", name)
	}
	if n.ring, err = p.openKeyring(ctx, set); err != nil {
		return err
	}
	var info vault.Info
	err = n.ring.with(ctx, func() (err error) {
		info, err = n.ring.Describe(ctx, name)
		return err
	})
	if err != nil {
		return err
	}
	named := info.Enrolling != "" && info.Enrolling == source.MFASerial // an unfinished enrollment is in the registry
	switch {
	case !replace && source.MFASerial != "" && !named:
		return fault.New(fault.Failed, "source %q has the MFA device %s already", name, source.MFASerial).
			WithHint("broker mfa replace %s", name)
	case replace && source.MFASerial == "":
		return fault.New(fault.Failed, "source %q has no MFA device to replace", name).
			WithHint("broker mfa enroll %s", name)
	case replace:
		n.again = fault.Hintf("broker mfa replace %s", name)
	}
	if named {
		n.Serial, n.Replaces = source.MFASerial, info.Replaces
		if err := n.finish(ctx); err != nil || !replace || n.Replaces != "" {
			return err
		}
	}
	n.Store = !c.Bool("no-store-seed")
	if replace {
		n.Replaces, n.Store = source.MFASerial, source.HasSeed
	}
	if err := n.enroll(ctx); err != nil {
		return err
	}
	return n.finish(ctx)
}

// enroll creates a device, or finds that of an earlier try, enables it, and writes it to the registry.
func (n *enrollment) enroll(ctx context.Context) error {
	p := n.p
	n.Show = hasTerminal()
	if !n.Show && !n.Store {
		return fault.New(fault.NotConfirmed, "there is no terminal to show the seed of the new device on, and the keyring does not keep it").
			WithHint("%s", n.again)
	}
	if n.source.MFASerial != "" {
		if err := n.signIn(ctx); err != nil {
			return err
		}
	}
	if err := n.record("create", ""); err != nil {
		return err
	}
	var device vault.NewDevice
	err := n.ring.with(ctx, func() (err error) {
		device, err = n.ring.MakeDevice(ctx, n.Enrollment)
		return p.explainRoute(err)
	})
	if err != nil {
		return err
	}
	n.Serial, n.Replaces = device.Serial, device.Replaces
	if !device.Enabled {
		err := n.record("created", n.Serial)
		if err == nil {
			err = n.enable(ctx, device)
		}
		if err != nil {
			return n.left(err, "the new device "+n.Serial+" is created but not enabled")
		}
	}
	if err := n.register(device.Stored); err != nil {
		return n.left(err, "the new device "+n.Serial+" is enabled, but the registry does not name it")
	}
	return nil
}

// signIn gets the MFA session that signs the calls.
func (n *enrollment) signIn(ctx context.Context) error {
	cred, err := n.p.credential(ctx, n.Source, enrollTime)
	if err != nil {
		return err
	}
	n.With = &session.Credentials{AccessKeyID: cred.AccessKeyID, SecretAccessKey: cred.SecretAccessKey,
		SessionToken: cred.SessionToken}
	return nil
}

// left prints what is left unfinished, and the command that goes on. A login would not go on.
func (n *enrollment) left(err error, what string) error {
	n.p.caution(fmt.Sprintf("%s; to go on: %s", what, n.again))
	if fault.Is(err, fault.CodeRejected) {
		return fault.Of(err).WithHint("%s", n.again)
	}
	return err
}

// record writes to the audit log what is about to happen to a device. If it fails, that must not happen.
func (n *enrollment) record(what, serial string) error {
	return n.p.record(audit.Event{Event: "device", Source: n.Source, Reason: what, Message: serial})
}

// enable shows the seed, and proves to AWS that the user has the device.
func (n *enrollment) enable(ctx context.Context, device vault.NewDevice) error {
	p := n.p
	ready := nextCode(p.now()) // from then on, the device has had two codes
	if n.Show {
		account := device.User + "@" + strings.Split(device.Serial, ":")[4]
		if err := p.showSeed(ctx, account, device.Seed); err != nil {
			return err
		}
	}
	for try := 1; ; try++ {
		var first, second secret.String
		var err error
		if device.Stored {
			err = p.countdown(ctx, ready, "the second code of the new device comes")
		} else {
			first, second, err = p.askTwoCodes(ctx)
		}
		if err != nil {
			return err
		}
		if err := n.record("enable", device.Serial); err != nil {
			return err
		}
		err = n.ring.with(ctx, func() error {
			return p.explainRoute(n.ring.EnableDevice(ctx, n.Enrollment, first, second))
		})
		retry := fault.Is(err, fault.CodeRejected) || errors.Is(err, vault.ErrNotThere)
		if !retry || try == enrollTries {
			return err
		}
		p.caution(err.Error())
		ready = nextCode(p.now()).Add(mfa.Period) // both codes are new
	}
}

// askTwoCodes asks for two codes in a row.
func (p *program) askTwoCodes(ctx context.Context) (first, second secret.String, err error) {
	t, err := p.openTerminal()
	if err != nil {
		return first, second, err
	}
	defer func() { _ = t.Close() }()
	ask := func(question string) (secret.String, error) {
		for {
			text, err := t.line(ctx, question)
			if err != nil {
				return secret.String{}, err
			}
			code, err := mfa.ParseCode(text)
			if err == nil {
				return code, nil
			}
			_, _ = fmt.Fprintln(t, fault.Line(err.Error()))
		}
	}
	if first, err = ask("Code that the new device shows now: "); err != nil {
		return first, second, err
	}
	if err = p.countdown(ctx, nextCode(p.now()), "the next code comes"); err != nil {
		return first, second, err
	}
	dropKeys()
	second, err = ask("Next code: ")
	return first, second, err
}

// nextCode returns when devices show the next code.
func nextCode(now time.Time) time.Time { return now.Truncate(mfa.Period).Add(mfa.Period) }

// register writes the device to the registry.
func (n *enrollment) register(stored bool) error {
	section, drop := []profiles.KeyValue{{Key: "mfa_serial", Value: n.Serial}}, []string{"mfa_process"}
	if stored {
		section = append(section, profiles.KeyValue{Key: "mfa_seed", Value: "keyring"})
	} else {
		drop = append(drop, "mfa_seed")
	}
	err := n.p.editRegistry(func(src []byte) ([]byte, error) {
		src, err := profiles.SetSection(src, profiles.SectionSource, n.Source, section)
		if err != nil {
			return src, err
		}
		return profiles.RemoveKeys(src, profiles.SectionSource, n.Source, drop...)
	})
	if err != nil {
		return err
	}
	if n.source.MFAProcess != "" {
		n.p.say("%s: mfa_process is removed, because it gives the codes of another device", n.Source)
	}
	if stored {
		n.p.say("%s: device %s, with its seed; nobody is asked for a code", n.Source, n.Serial)
	} else {
		n.p.say("%s: device %s", n.Source, n.Serial)
	}
	return nil
}

// finish opens the first session with the new device, and removes the one that it replaces.
func (n *enrollment) finish(ctx context.Context) error {
	if err := n.firstSession(ctx); err != nil {
		return n.left(err, "no session is open yet with the new device "+n.Serial)
	}
	end := func() error {
		return n.ring.with(ctx, func() error { return n.p.explainRoute(n.ring.KeepDevice(ctx, n.Enrollment)) })
	}
	if n.Replaces == "" {
		return end()
	}
	err := n.signIn(ctx)
	if err == nil {
		err = n.record("remove", n.Replaces)
	}
	if err == nil {
		err = end()
	}
	if err != nil {
		return n.left(err, "the new device works, but the old device "+n.Replaces+" is not removed yet")
	}
	n.p.say("%s: the old device %s is removed", n.Source, n.Replaces)
	return n.warnOfOldDevice()
}

// warnOfOldDevice names the lines in the registry and in AWS files that still name the removed device.
func (n *enrollment) warnOfOldDevice() error {
	set, err := n.p.set()
	if err != nil {
		return err
	}
	seen := map[profiles.Origin]bool{}
	for _, s := range set.List() {
		chain, err := set.Resolve(s.Name)
		if err != nil {
			continue // it gets no session anyway
		}
		for _, v := range chain.Values {
			if v.Key != "mfa_serial" || v.Text != n.Replaces || seen[v.Origin] {
				continue
			}
			seen[v.Origin] = true
			n.p.caution(fmt.Sprintf("profile %s still has the removed device, and so gets no session: %s; remove the line",
				v.Profile, v.Origin))
		}
	}
	return nil
}

// firstSession logs in. With a stored seed it waits until the device has a code that AWS has not seen.
func (n *enrollment) firstSession(ctx context.Context) error {
	for try := 1; ; try++ {
		set, err := n.p.set()
		if err != nil {
			return err
		}
		source, err := exactSource(set, n.Source)
		if err != nil {
			return err
		}
		if source.HasSeed {
			if err := n.p.countdown(ctx, nextCode(n.p.now()), "the code for the first session comes"); err != nil {
				return err
			}
		} else {
			n.p.say("%s: the first session needs another code: one that you have not typed yet", n.Source)
		}
		err = n.p.login(ctx, set, []string{n.Source}, secret.String{}, pageOptions{})
		if !source.HasSeed || !fault.Is(err, fault.CodeRejected) || try == enrollTries {
			return err
		}
		n.p.caution(err.Error())
	}
}
