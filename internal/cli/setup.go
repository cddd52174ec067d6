package cli

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"broker/internal/fault"
	"broker/internal/profiles"
	"broker/internal/secret"
)

func (p *program) setupCommand() *cli.Command {
	return &cli.Command{
		Name:  "setup",
		Usage: "move plain-text keys into the keyring and link the profiles",
		UsageText: "broker setup --dry-run\n" +
			"broker setup",
		Description: "Shows what it found and what it will do, then asks once. Each step is a command that you can run\n" +
			"yourself. Steps that are already done are skipped, so you can run setup again at any time. To undo it, run\n" +
			"`broker profiles unlink --all`, then `broker import --undo`.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "dry-run", Usage: "show what it would do, and write nothing"},
			&cli.BoolFlag{Name: "yes", Usage: "do not ask"},
		},
		Action: func(c *cli.Context) error { return p.setUp(c.Context, c.Bool("dry-run"), c.Bool("yes")) },
	}
}

// step is one part of setup.
type step struct {
	what    string     // what the step does
	command fault.Hint // the command that does the same
	do      func(context.Context) error
	partly  bool // it handles each key or profile separately; if AWS denies one, setup continues with the others
}

// setUp is `broker setup`.
func (p *program) setUp(ctx context.Context, dryRun, yes bool) error {
	if !dryRun && !yes && !hasTerminal() {
		return fault.New(fault.NotConfirmed, "there is no terminal to ask on").WithHint("broker setup --yes")
	}
	found, steps, err := p.planSetup(ctx, yes)
	if err != nil {
		return err
	}
	for _, line := range found {
		p.say("%s", fault.Line(line))
	}
	p.say("")
	for i, s := range steps {
		p.say("%d. %s\n   %s", i+1, s.what, s.command)
	}
	if dryRun {
		return nil
	}
	each := false
	if !yes {
		if each, err = p.askSetup(ctx); err != nil {
			return err
		}
	}
	var failed error
	done := false
	for _, s := range steps {
		if failed != nil && !s.partly {
			break // the next setup continues here
		}
		if each {
			yes, stop, err := p.askStep(ctx, s.what)
			if err != nil {
				return err
			}
			if stop {
				p.say("stopped; broker setup goes on from here")
				break
			}
			if !yes {
				continue
			}
		}
		p.say("\n$ %s", s.command)
		done = true
		switch err := s.do(ctx); {
		case err != nil && s.partly && fault.Is(err, fault.Denied):
			p.caution(err.Error() + "; " + string(fault.Of(err).Hint))
			failed = err
		case err != nil:
			return err
		}
	}
	if !done {
		return errNo
	}
	return failed
}

// runs returns the do function of a step that runs a command of this program.
func (p *program) runs(args ...string) func(context.Context) error {
	return func(ctx context.Context) error { return p.command(ctx, args...) }
}

// askSetup asks for confirmation. each means that the person wants to be asked before each step.
func (p *program) askSetup(ctx context.Context) (each bool, err error) {
	answer, err := p.question(ctx, "\nGo on? [y/N, or s to be asked before each step] ")
	switch {
	case err != nil:
		return false, err
	case yesIs(answer):
		return false, nil
	case strings.EqualFold(answer, "s"):
		return true, nil
	}
	return false, errNo
}

// askStep asks whether to run a step. n, s and Enter skip it; q ends setup.
func (p *program) askStep(ctx context.Context, what string) (yes, stop bool, err error) {
	for {
		answer, err := p.question(ctx, what+"? [y/N, or q to stop] ")
		switch {
		case fault.Is(err, fault.NotConfirmed): // Ctrl-D
			return false, true, nil
		case err != nil:
			return false, false, err
		case yesIs(answer):
			return true, false, nil
		}
		switch strings.ToLower(answer) {
		case "", "n", "no", "s", "skip":
			return false, false, nil
		case "q", "quit":
			return false, true, nil
		}
	}
}

// planSetup returns what was found, as lines, and the steps to take. With yes it ignores the shell's environment,
// which a repository can set.
func (p *program) planSetup(ctx context.Context, yes bool) (found []string, steps []step, err error) {
	set, settings, err := p.settings()
	if err != nil {
		return nil, nil, err
	}
	plain, _, err := profiles.PlainKeys(p.files())
	if err != nil {
		return nil, nil, err
	}
	sources := set.Sources()
	if len(plain)+len(sources) == 0 {
		return nil, nil, fault.New(fault.NotFound, "%s and %s hold no long-lived key, and none is stored",
			p.paths.Credentials, p.paths.Config).WithHint("broker add SOURCE")
	}
	ring, err := p.openKeyring(ctx, set)
	if err != nil {
		return nil, nil, err
	}
	for _, l := range p.shellSettings(settings, ring.backend) {
		if yes {
			found = append(found, "variable  "+l.shown()+", which Broker reads only from its settings; "+string(l.command()))
			continue
		}
		found = append(found, "variable  "+l.shown())
		steps = append(steps, step{"keep " + l.variable + " of your shell in the settings, for all calls to AWS", l.command(),
			func(context.Context) error { return p.keepShell([]shellSetting{l}) }, false})
	}
	keys := (&importing{p: p, set: set}).sources(plain, "")
	bare := false // there is a key that AWS tools use if no profile is named
	for _, key := range keys {
		bare = bare || key.Profile == "default"
		found = append(found, fmt.Sprintf("key       %s of %s, in plain text in %s",
			secret.Tail(key.AccessKeyID), key.Profile, key.Origin))
	}
	for _, source := range sources {
		found = append(found, fmt.Sprintf("source    %s, whose key %s is in the keyring",
			source.Name, secret.Tail(source.AccessKeyID)))
	}
	if len(keys) > 0 {
		what := fmt.Sprintf("move %s into the keyring (%s) and out of the files",
			plural(len(keys), "key"), ring.backend)
		steps = append(steps, step{what, fault.Hintf("broker import --yes"), p.runs("import", "--yes"), true})
	}
	if err := p.samePrincipals(keys); err != nil {
		return nil, nil, err
	}
	out, err := p.planLinks(keys)
	if err != nil {
		return nil, nil, err
	}
	var linked []string
	fresh := 0
	for _, o := range out {
		if o.Err != nil {
			found = append(found, "profile   "+o.Name+", which stays as it is: "+o.Err.Error())
			continue
		}
		found = append(found, "profile   "+o.Name)
		linked = append(linked, o.Name)
		if o.State == profiles.Changed {
			fresh++
		}
	}
	if fresh > 0 {
		steps = append(steps, step{"have AWS tools ask Broker for " + plural(fresh, "profile"),
			fault.Hintf("broker profiles link --all"), p.runs("profiles", "link", "--all"), true})
	}
	if bare && !slices.Contains(linked, "default") { // link --all does not create it
		steps = append(steps, step{"have AWS tools ask Broker where no profile is named",
			fault.Hintf("broker profiles link default"), p.runs("profiles", "link", "default"), true})
	}
	profile := toTry(linked, keys, sources)
	steps = append(steps, step{"open a session, with a code of your MFA device if there is one",
		fault.Hintf("broker login %s", profile), p.runs("login", profile), false})
	if aws, err := exec.LookPath("aws"); err == nil && len(linked) > 0 {
		steps = append(steps, step{"have AWS say who you are",
			fault.Hintf("aws sts get-caller-identity --profile %s", profile),
			func(ctx context.Context) error { return p.prove(ctx, aws, profile) }, false})
	}
	return found, steps, nil
}

// planLinks returns what `broker profiles link --all` will do after these keys are moved.
func (p *program) planLinks(keys []found) ([]profiles.Outcome, error) {
	credproc, err := credprocProgram()
	if err != nil {
		return nil, err
	}
	docs, next, out, err := p.planned(func(docs profiles.Documents) (profiles.Documents, []profiles.Outcome, error) {
		docs, err := imported(docs, keys)
		if err != nil {
			return docs, nil, err
		}
		return profiles.Link(p.files(), docs, nil, credproc)
	})
	if err == nil {
		err = p.checkWrites(profiles.LinkOrder, docs, next)
	}
	return out, err
}

// toTry returns the profile that best shows that setup worked: the one in AWS_PROFILE, else the first profile with
// a role, else a source.
func toTry(linked []string, keys []found, sources []profiles.Source) (profile string) {
	plain := map[string]bool{}
	for _, source := range sources {
		plain[source.Name], profile = true, source.Name
	}
	for _, key := range keys {
		plain[key.source], plain[key.Profile], profile = true, true, key.source
	}
	for _, name := range linked {
		if strings.HasPrefix(name, "-") {
			continue // the commands would read it as a flag
		}
		if name == os.Getenv("AWS_PROFILE") {
			return name
		}
		if plain[profile] && !plain[name] {
			profile = name
		}
	}
	return profile
}

// prove runs the AWS CLI to show whose session it gets for a profile.
func (p *program) prove(ctx context.Context, aws, profile string) error {
	cmd := exec.CommandContext(ctx, aws, "sts", "get-caller-identity", "--profile", profile)
	cmd.Env = append(withoutCredentials(os.Environ()), "AWS_PAGER=")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, p.stdout, p.stderr
	p.echo.restore()
	if err := cmd.Run(); err != nil {
		return fault.New(fault.Failed, "aws: %w", err).WithHint("broker explain %s", profile)
	}
	return nil
}
