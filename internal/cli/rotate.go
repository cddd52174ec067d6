package cli

import (
	"errors"
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"broker/internal/client"
	"broker/internal/fault"
	"broker/internal/profiles"
	"broker/internal/secret"
	"broker/internal/wire"
)

// rotationWait is how long a rotation may take: a prompt for a code, AWS until it knows the new key, and the requests
// that still use the old one.
const rotationWait = 15 * time.Minute

// answerWait is how long a running daemon may take to answer at all. A stopped process never answers, and nobody
// should wait rotationWait for it.
const answerWait = 30 * time.Second

func (p *program) rotateCommand() *cli.Command {
	return &cli.Command{
		Name:  "rotate",
		Usage: "replace the access key of a source by a new one",
		UsageText: "broker rotate security\n" +
			"broker rotate security --grace 7d\n" +
			"broker rotate security --resume --grace 0\n" +
			"broker rotate security --undo",
		ArgsUsage: "SOURCE",
		Description: "Creates a second key, waits until AWS knows it, uses it from then on, and deactivates the old key. The daemon\n" +
			"deletes the old key after the grace period. Sessions go on, and running programs notice nothing. The secret\n" +
			"of the new key goes straight into the keyring. If a rotation stops halfway, both keys work.",
		Flags: []cli.Flag{
			spanFlag("grace", "delete the old key after this time, such as `24h` or 7d", 24*time.Hour),
			&cli.BoolFlag{Name: "resume", Usage: "continue a rotation that has stopped; with --grace, set when the old key is deleted"},
			&cli.BoolFlag{Name: "undo", Usage: "use the old key again, and delete the new one"},
			&cli.BoolFlag{Name: "dry-run", Usage: "show the keys and what would happen"},
			&cli.BoolFlag{Name: "yes", Aliases: []string{"y"},
				Usage: "deactivate the old key even if another machine uses it"},
		},
		BashComplete: p.completeSources,
		Action: func(c *cli.Context) error {
			name, err := one(c, "source")
			if err != nil {
				return err
			}
			step, err := rotationStep(c, name)
			if err != nil {
				return err
			}
			return p.rotate(c, name, step)
		},
	}
}

// rotationStep returns what the options ask for: one of them at most.
func rotationStep(c *cli.Context, name string) (string, error) {
	step := wire.RotateStart
	given := 0
	for option, means := range map[string]string{
		"resume": wire.RotateResume, "undo": wire.RotateUndo, "dry-run": wire.RotatePlan,
	} {
		if c.Bool(option) {
			step, given = means, given+1
		}
	}
	switch {
	case given > 1:
		return "", fault.New(fault.Usage, "--resume, --undo and --dry-run cannot be given together").
			WithHint("broker rotate --help")
	case c.IsSet("grace") && step == wire.RotateUndo:
		return "", fault.New(fault.Usage, "--grace and --undo cannot be given together").
			WithHint("broker rotate %s --undo", name)
	case c.IsSet("grace") && step == wire.RotateResume:
		return wire.RotateGrace, nil
	}
	return step, nil
}

func (p *program) rotate(c *cli.Context, typed, step string) error {
	set, err := p.set()
	if err != nil {
		return err
	}
	source, err := exactSource(set, typed)
	if err != nil {
		return err
	}
	name := source.Name
	if step != wire.RotateUndo {
		if err := p.namePlainCopy(source, step == wire.RotatePlan || c.Bool("yes")); err != nil {
			return err
		}
	}
	p.interrupts.catch()
	running := p.client
	running.NoStart, running.Wait = true, answerWait
	if _, err := running.Do(c.Context, wire.Request{Verb: wire.Ping}); fault.Is(err, fault.Unreachable) &&
		!errors.Is(err, client.ErrNone) {
		return err
	}
	p.client.Wait = rotationWait
	resp, err := p.ask(c.Context, wire.Request{Verb: wire.Rotate, Profile: name, Rotation: &wire.Rotation{
		Step: step, Grace: int(spanOf(c, "grace") / time.Second), Yes: c.Bool("yes"),
	}})
	if errors.Is(err, client.ErrLeft) && step != wire.RotatePlan {
		p.caution("the daemon goes on with the rotation; to see where it is: broker status")
	}
	if err != nil {
		return err
	}
	for _, line := range resp.Lines {
		p.say("%s: %s", fault.Line(name), fault.Line(line))
	}
	p.warn(resp.Warnings)
	return nil
}

// namePlainCopy says if an AWS file has the key of a source too: whatever reads it there stops working. Unless that is
// accepted, it is an error.
func (p *program) namePlainCopy(source profiles.Source, accepted bool) error {
	keys, _, err := profiles.PlainKeys(p.files())
	if err != nil {
		return err
	}
	for _, key := range keys {
		if key.AccessKeyID != source.AccessKeyID {
			continue
		}
		text := fmt.Sprintf("profile %s has the key %s in plain text, and stops working when Broker deactivates it: %s",
			key.Profile, secret.Tail(key.AccessKeyID), key.Origin)
		if !accepted {
			return fault.New(fault.NotConfirmed, "%s; nothing was changed", text).WithHint("broker import %s", key.Profile)
		}
		p.caution(text)
	}
	return nil
}
