package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"broker/internal/fault"
	"broker/internal/harden"
	"broker/internal/wire"
)

func (p *program) execCommand() *cli.Command {
	return &cli.Command{
		Name:      "exec",
		Usage:     "run a command with the credentials of a profile",
		ArgsUsage: "[PROFILE] -- COMMAND [ARGUMENTS]",
		Description: "The command takes broker's place: same process, same terminal, same signals, its own\n" +
			"exit code. Its environment holds the session of the profile (--mode env), or where to get a\n" +
			"fresh one as long as it runs (--mode server), and no other AWS credential or profile\n" +
			"variable. Without a profile one is chosen on the terminal; without any argument\n" +
			"the command is your shell.",
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "mode", Value: "env", Usage: "how the command gets the credentials: " + modeNames()},
			&cli.DurationFlag{Name: "min-ttl", Usage: "how long they have to last at least, such as `2h`"},
			&cli.BoolFlag{Name: "token-file", Usage: "with --mode server: give the token in a file, not in the environment"},
		}, adHocFlags()...),
		BashComplete: p.completeProfiles,
		Action:       p.exec,
	}
}

// A handover is how the command gets its credentials.
type handover struct {
	name   string // exact name of the profile or source
	role   *wire.Role
	minTTL time.Duration
	// tokenFile wants the token of mode server in a file.
	tokenFile bool
}

// modes are the ways of exec. Each returns the environment of the command, which takes this very process's place.
var modes = map[string]func(p *program, ctx context.Context, h handover) ([]string, error){
	"env":    (*program).byEnvironment,
	"file":   (*program).byFile,
	"server": (*program).byServer,
}

func modeNames() string { return strings.Join(slices.Sorted(maps.Keys(modes)), ", ") }

func (p *program) exec(c *cli.Context) error {
	var profile string
	command := c.Args().Slice()
	if p.names > 0 {
		profile, command = command[0], command[1:]
	}
	role, err := p.adHoc(c)
	if err != nil {
		return err
	}
	byARN := role != nil && role.ARN != ""
	shown := profile // in hints
	switch {
	case byARN && profile != "":
		return fault.New(fault.Usage, "with --role-arn, exec wants no profile").WithHint("broker exec --role-arn %s -- COMMAND", fault.Word(role.ARN))
	case byARN:
		shown = "--role-arn " + fault.Word(role.ARN)
	case profile == "":
		shown = "PROFILE"
	}
	noProfile := fault.New(fault.Usage, "exec wants a profile").WithHint("broker exec PROFILE -- COMMAND")
	switch {
	case profile == "" && !byARN && !hasTerminal():
		return noProfile
	case profile == "" && !byARN && len(command) == 0:
		command = []string{userShell()}
	case len(command) == 0:
		return fault.New(fault.Usage, "exec wants a command").WithHint("broker exec %s -- COMMAND", shown)
	case modes[c.String("mode")] == nil:
		return fault.New(fault.Usage, "there is no mode %q, only %s", c.String("mode"), modeNames()).WithHint("broker exec %s --mode env -- COMMAND", shown)
	case c.Bool("token-file") && c.String("mode") != "server":
		return fault.New(fault.Usage, "--token-file goes with --mode server").WithHint("broker exec %s --mode server --token-file -- COMMAND", shown)
	case c.Duration("min-ttl") < 0:
		return fault.New(fault.Usage, "--min-ttl is how long, such as 2h").WithHint("broker exec --help")
	}
	if outer := os.Getenv("BROKER_PROFILE"); outer != "" {
		return fault.New(fault.Failed, "this shell already runs with the credentials of %s; leave it, or unset BROKER_PROFILE to nest on purpose", outer).
			WithHint("env -u BROKER_PROFILE broker exec %s -- %s", shown, command[0])
	}
	// Looked for before any credential is asked for.
	program, err := lookPath(command[0])
	if err != nil {
		return err
	}
	h := handover{role: role, minTTL: c.Duration("min-ttl"), tokenFile: c.Bool("token-file")}
	switch {
	case byARN:
		h.name, err = p.roleSource(c.String("source"), role)
	case profile == "":
		h.name, err = p.pickProfile(c.Context, noProfile)
	default:
		h.name, err = p.find(profile)
	}
	if err != nil {
		return err
	}
	env, err := modes[c.String("mode")](p, c.Context, h)
	if err != nil {
		return err
	}
	if err := harden.Release(); err != nil {
		return fault.New(fault.Failed, "exec: %w", err)
	}
	// What was ignored before us stays so: `nohup broker exec …` means the command.
	signal.Reset()
	err = syscall.Exec(program, command, env)
	_, _ = fmt.Fprintf(p.stderr, "broker: %s: %v\n", fault.Line(command[0]), err)
	return exitError(126)
}

// byEnvironment gives the session in the environment: for one command, and as long as it lasts.
func (p *program) byEnvironment(ctx context.Context, h handover) ([]string, error) {
	cred, err := p.roleCredential(ctx, h.name, h.role, h.minTTL)
	if err != nil {
		return nil, err
	}
	return childEnv(os.Environ(), credentialEnv(cred)), nil
}

// userShell is the person's own.
func userShell() string {
	if sh := os.Getenv("SHELL"); sh != "" {
		return sh
	}
	return "/bin/sh"
}

// credential gets the credentials of a profile by its exact name, which last so long at least.
func (p *program) credential(ctx context.Context, name string, minTTL time.Duration) (wire.Credential, error) {
	resp, err := p.ask(ctx, wire.Request{Verb: wire.Get, Profile: name, MinTTL: minTTL})
	if err != nil {
		return wire.Credential{}, err
	}
	if resp.Credential == nil {
		return wire.Credential{}, fault.New(fault.Unreachable, "the daemon's answer holds no credential")
	}
	p.warn(resp.Warnings)
	return *resp.Credential, nil
}

// lookPath finds a command as a shell does, with the shell's exit codes: 127
// where there is none, 126 where it cannot be run.
func lookPath(name string) (string, error) {
	program, err := exec.LookPath(name)
	if err == nil || errors.Is(err, exec.ErrDot) {
		return program, nil
	}
	code, what := 127, "command not found"
	if errors.Is(err, fs.ErrPermission) {
		code, what = 126, "permission denied"
	}
	_, _ = fmt.Fprintf(os.Stderr, "broker: %q: %s\n", name, what)
	return "", exitError(code)
}

// removed are the variables that exec takes out of the environment: whatever
// is a credential, names one, or says where to get one. Tools disagree on which of two
// wins, so only ours may be there.
// https://docs.aws.amazon.com/sdkref/latest/guide/settings-reference.html
var removed = map[string]bool{
	"AWS_ACCESS_KEY_ID": true, "AWS_SECRET_ACCESS_KEY": true, "AWS_SESSION_TOKEN": true,
	"AWS_ACCESS_KEY": true, "AWS_SECRET_KEY": true, "AWS_SECURITY_TOKEN": true, "AWS_DELEGATION_TOKEN": true,
	"AWS_CREDENTIAL_EXPIRATION": true, "AWS_CREDENTIAL_FILE": true, "AWS_ACCOUNT_ID": true,
	"AWS_PROFILE": true, "AWS_DEFAULT_PROFILE": true,
	"AWS_ROLE_ARN": true, "AWS_ROLE_SESSION_NAME": true, "AWS_WEB_IDENTITY_TOKEN_FILE": true,
	"AWS_CONTAINER_CREDENTIALS_FULL_URI": true, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": true,
	"AWS_CONTAINER_AUTHORIZATION_TOKEN": true, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": true,
	"BROKER_PROFILE": true, "BROKER_EXPIRATION": true,
}

// regionNames are removed only where the profile has a region to put there.
var regionNames = []string{"AWS_REGION", "AWS_DEFAULT_REGION"}

// credentialNames are the removed variables, in order.
func credentialNames() []string { return slices.Sorted(maps.Keys(removed)) }

// variable is one of the environment.
type variable struct{ name, value string }

// credentialEnv are the variables that hand a credential over, in `exec` and in `export`.
func credentialEnv(cred wire.Credential) []variable {
	expires := cred.Expiration.UTC().Format(time.RFC3339)
	set := []variable{
		{"BROKER_PROFILE", cred.Profile},
		{"BROKER_EXPIRATION", expires},
		{"AWS_ACCESS_KEY_ID", cred.AccessKeyID},
		{"AWS_SECRET_ACCESS_KEY", cred.SecretAccessKey.Reveal()},
		{"AWS_SESSION_TOKEN", cred.SessionToken.Reveal()},
		{"AWS_CREDENTIAL_EXPIRATION", expires},
	}
	return append(set, regionEnv(cred.Region)...)
}

// regionEnv are the variables of a profile's region.
func regionEnv(region string) []variable {
	var set []variable
	if region != "" {
		for _, name := range regionNames {
			set = append(set, variable{name, region})
		}
	}
	return set
}

// childEnv is the environment of the command: with these variables, and without any other way to credentials.
func childEnv(environ []string, set []variable) []string {
	var env []string
	for _, kv := range environ {
		name, _, _ := strings.Cut(kv, "=")
		if !removed[name] && !slices.ContainsFunc(set, func(v variable) bool { return v.name == name }) {
			env = append(env, kv)
		}
	}
	for _, v := range set {
		env = append(env, v.name+"="+v.value)
	}
	return env
}
