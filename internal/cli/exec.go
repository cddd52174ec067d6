package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"broker/internal/client"
	"broker/internal/fault"
	"broker/internal/harden"
	"broker/internal/wire"
)

func (p *program) execCommand() *cli.Command {
	return &cli.Command{
		Name:  "exec",
		Usage: "run a command with the credentials of a profile",
		UsageText: "broker exec prod -- aws s3 ls\n" +
			"broker exec prod terraform plan\n" +
			"broker exec --mode server prod -- ./worker\n" +
			"broker exec dev prod -- ./copy.sh\n" +
			"broker exec --only dev,stage -- claude\n" +
			"broker exec --door dev -- docker compose up",
		ArgsUsage: "[PROFILE…] -- COMMAND [ARGUMENTS]",
		Description: "The command replaces the process of broker: same pid, terminal and signals, and its own exit\n" +
			"code. With --mode env, its environment holds the session of the profile. With --mode server, it holds an\n" +
			"endpoint that renews the session as long as the command runs. With --mode file, it names AWS files that only\n" +
			"this command uses. All other AWS credential and profile variables are removed. Without a profile it is the\n" +
			"first one of the nearest file .broker, or else you choose one on the terminal. Without any argument the command\n" +
			"is your shell. With several profiles, the AWS files hold each one under its name and its aliases, and\n" +
			"AWS_PROFILE is the first. With --only, the command has a door instead: it can get the sessions of these\n" +
			"profiles when it asks, and do nothing else with Broker. With --door, containers that mount $BROKER_DOOR\n" +
			"at /run/broker can.",
		Flags:        execFlags(),
		BashComplete: p.completeManyProfiles,
		Action:       p.exec,
	}
}

func (p *program) shellCommand() *cli.Command {
	return &cli.Command{
		Name:  "shell",
		Usage: "start your shell with the credentials of a profile",
		UsageText: "broker shell prod\n" +
			"broker shell --only dev",
		ArgsUsage: "[PROFILE…]",
		Description: "The same as exec with $SHELL. BROKER_PROFILE and BROKER_EXPIRATION tell a shell prompt whose\n" +
			"session it is and when it ends; `broker completion --prompt bash` prints a function that shows them.",
		Flags:        execFlags(),
		BashComplete: p.completeManyProfiles,
		Action:       p.shell,
	}
}

func execFlags() []cli.Flag {
	return slices.Concat([]cli.Flag{
		&cli.StringFlag{Name: "mode", Value: "env", DefaultText: "env; file for several profiles",
			Usage: "how the command gets the credentials: " + modeNames()},
		spanFlag("min-ttl", "require a session that lasts at least this long, such as `2h`", 0),
		&cli.BoolFlag{Name: "token-file", Usage: "with --mode server: pass the token in a file, not in the environment"},
	}, execDoorFlags(), additionFlags(), adHocFlags())
}

// A delivery is a request of exec: which sessions the command needs.
type delivery struct {
	name   string   // exact name of the profile or source
	also   []string // exact names of further profiles; only in mode file
	role   *wire.Role
	minTTL time.Duration
	// tokenFile means that mode server passes the token in a file.
	tokenFile bool
}

// modes are the delivery modes of exec. Each returns the environment of the command that replaces this process.
var modes = map[string]func(p *program, ctx context.Context, d delivery) ([]string, error){
	"env":    (*program).byEnvironment,
	"file":   (*program).byFile,
	"server": (*program).byServer,
}

func modeNames() string { return strings.Join(slices.Sorted(maps.Keys(modes)), ", ") }

func (p *program) exec(c *cli.Context) error {
	command := c.Args().Slice()
	if done, err := p.withDoor(c, command[:p.names], command[p.names:]); done {
		return err
	}
	w, err := p.wanted(c, command[:p.names]...)
	if err != nil {
		return err
	}
	command = command[p.names:]
	noProfile := fault.New(fault.Usage, "exec needs a profile").WithHint("broker exec PROFILE -- COMMAND")
	switch {
	case w.none() && !hasTerminal():
		return noProfile
	case p.names == 0 && !w.byARN() && len(command) == 0:
		command = []string{userShell()}
	case len(command) == 0:
		return fault.New(fault.Usage, "exec needs a command; broker shell starts your shell").
			WithHint("broker shell %s", w.shown())
	}
	env, program, err := p.deliver(c, w, command, noProfile)
	if err == exitError(127) && p.names > 0 && len(command) > 1 && !slices.Contains(p.typed, "--") {
		if name, err := p.find(command[0]); err == nil && name == command[0] {
			_, _ = fmt.Fprintf(p.stderr, "hint: %s\n", fault.Hintf("broker exec %s %s -- %s", w.shown(), name, command[1:]))
		}
	}
	if err != nil {
		return err
	}
	return p.become(program, command, env)
}

func (p *program) shell(c *cli.Context) error {
	command := []string{userShell()}
	if done, err := p.withDoor(c, c.Args().Slice(), command); done {
		return err
	}
	w, err := p.wanted(c, c.Args().Slice()...)
	if err != nil {
		return err
	}
	env, program, err := p.deliver(c, w, command, fault.New(fault.Usage, "shell needs a profile").WithHint("broker shell PROFILE"))
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintf(p.stderr, "%s%s; exit leaves it\n", fault.Line(lookUp(env, "BROKER_PROFILE")), until(lookUp(env, "BROKER_EXPIRATION")))
	return p.become(program, command, env)
}

// until returns when a session ends, in local time.
func until(expiration string) string {
	end, err := time.Parse(time.RFC3339, expiration)
	if err != nil {
		return ""
	}
	return fmt.Sprintf(" until %s (%s)", clock(end, time.Now(), hourMinute), client.Left(time.Until(end)))
}

// deliver finds the program of a command and makes its environment with the mode that the flags choose.
func (p *program) deliver(
	c *cli.Context,
	w wanted,
	command []string,
	noProfile error,
) (env []string, program string, err error) {
	rest := fault.Hint("")
	if c.Command.Name == "exec" {
		rest = " -- "
	}
	way := c.String("mode")
	if len(w.also) > 0 && !c.IsSet("mode") {
		way = "file"
	}
	mode := modes[way]
	switch {
	case mode == nil:
		if rest != "" {
			rest += "COMMAND"
		}
		return nil, "", fault.New(fault.Usage, "there is no mode %q, only %s", way, modeNames()).
			WithHint("%s %s --mode env%s", typed(c), w.shown(), rest)
	case len(w.also) > 0 && way != "file":
		if rest != "" {
			rest += "COMMAND"
		}
		return nil, "", fault.New(fault.Usage, "--mode %s delivers one session; several profiles need --mode file", way).
			WithHint("%s %s --mode file%s", typed(c), w.shown(), rest)
	case c.Bool("token-file") && way != "server":
		if rest != "" {
			rest += "COMMAND"
		}
		return nil, "", fault.New(fault.Usage, "--token-file needs --mode server").
			WithHint("%s %s --mode server --token-file%s", typed(c), w.shown(), rest)
	}
	add, err := readAdditions(c)
	if err != nil {
		return nil, "", err
	}
	if outer, ends := p.outerProfile(); outer != "" {
		if rest != "" {
			rest += fault.Word(command[0])
		}
		again := fault.Hintf("%s %s%s", typed(c), w.shown(), rest)
		if c.IsSet("mode") {
			again = fault.Hintf("%s %s --mode %s%s", typed(c), w.shown(), way, rest)
		}
		return nil, "", alreadyInside(outer, ends, again)
	}
	// Report a wrong name before a wrong command, because the name may be meant as the command. Report both before
	// prompting for anything.
	var names []string
	if !w.none() {
		if names, err = p.exactNames(c.Context, w, noProfile); err != nil {
			return nil, "", err
		}
	}
	if program, err = lookPath(command[0]); err != nil {
		return nil, "", err
	}
	if w.none() {
		if names, err = p.exactNames(c.Context, w, noProfile); err != nil {
			return nil, "", err
		}
	}
	d := delivery{role: w.role, minTTL: spanOf(c, "min-ttl"), tokenFile: c.Bool("token-file")}
	d.name, d.also = names[0], names[1:]
	if env, err = mode(p, c.Context, d); err != nil {
		return nil, "", err
	}
	return add.to(env, os.Environ()), program, nil
}

// outerProfile returns the profile whose session this shell has, and when the session ends. Both are empty without one,
// or if it has ended. The profiles of a door are no session: they are asked for one by one.
func (p *program) outerProfile() (outer, ends string) {
	outer, ends = os.Getenv("BROKER_PROFILE"), os.Getenv("BROKER_EXPIRATION")
	if end, err := time.Parse(time.RFC3339, ends); outer != "" && err == nil && time.Now().After(end) {
		p.warn([]string{"the credentials of " + outer + " in this shell expired at " +
			clock(end, time.Now(), hourMinute) + " and are ignored"})
		return "", ""
	}
	if p.paths.Door != "" && ends == "" {
		return "", ""
	}
	return outer, ends
}

// alreadyInside returns the error for a command in a shell that has the session of a profile. again is the command.
func alreadyInside(outer, ends string, again fault.Hint) error {
	leave := "or unset BROKER_PROFILE to nest on purpose"
	if ends != "" { // broker export may have set them
		leave = `or type eval "$(broker export --unset)"`
	}
	return fault.New(fault.Failed, "this shell already runs with the credentials of %s%s; leave it, %s",
		outer, until(ends), leave).
		WithHint("env -u BROKER_PROFILE %s", again)
}

// become replaces this process with a program. It returns only if that failed.
func (p *program) become(program string, command, env []string) error {
	if err := harden.Release(); err != nil {
		return fault.New(fault.Failed, "%s: %w", command[0], err)
	}
	p.echo.restore()
	err := replace(program, command, env)
	_, _ = fmt.Fprintf(p.stderr, "broker: %s: %v\n", fault.Line(command[0]), err)
	return exitError(126)
}

// byEnvironment puts the session in the environment: for one command, which must end before the session expires.
func (p *program) byEnvironment(ctx context.Context, d delivery) ([]string, error) {
	cred, err := p.roleCredential(ctx, d.name, d.role, d.minTTL)
	if err != nil {
		return nil, err
	}
	return childEnv(os.Environ(), credentialEnv(cred)), nil
}

// userShell returns the person's shell.
func userShell() string {
	if sh := os.Getenv("SHELL"); sh != "" {
		return sh
	}
	return defaultShell
}

// credential returns the credentials of a profile by its exact name. They last at least minTTL.
func (p *program) credential(ctx context.Context, name string, minTTL time.Duration) (wire.Credential, error) {
	resp, err := p.ask(ctx, wire.Request{Verb: wire.Get, Profile: name, MinTTL: minTTL})
	if err != nil {
		return wire.Credential{}, err
	}
	if resp.Credential == nil {
		return wire.Credential{}, fault.New(fault.Unreachable, "the daemon's answer has no credentials")
	}
	p.warn(resp.Warnings)
	return *resp.Credential, nil
}

// lookPath finds a command as a shell does, with the exit codes of a shell: 127 if it does not exist, 126 if it
// cannot be run.
func lookPath(name string) (string, error) {
	program, err := exec.LookPath(name)
	if err == nil || errors.Is(err, exec.ErrDot) {
		return program, nil
	}
	code, what := 127, "command not found"
	switch {
	case errors.Is(err, fs.ErrPermission):
		code, what = 126, "permission denied"
	case errors.Is(err, syscall.EISDIR):
		code, what = 126, "is a directory"
	}
	_, _ = fmt.Fprintf(os.Stderr, "broker: %q: %s\n", name, what)
	return "", exitError(code)
}

// removed are the variables that exec removes from the environment: credentials, names of credentials, and places
// to get them. Tools disagree on which of two variables wins, so only the variables of exec may be set.
// https://docs.aws.amazon.com/sdkref/latest/guide/settings-reference.html
var removed = []string{
	"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN",
	"AWS_ACCESS_KEY", "AWS_SECRET_KEY", "AWS_SECURITY_TOKEN", "AWS_DELEGATION_TOKEN",
	"AWS_CREDENTIAL_EXPIRATION", "AWS_CREDENTIAL_FILE", "AWS_ACCOUNT_ID",
	"AWS_PROFILE", "AWS_DEFAULT_PROFILE",
	"AWS_ROLE_ARN", "AWS_ROLE_SESSION_NAME", "AWS_WEB_IDENTITY_TOKEN_FILE",
	"AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
	"AWS_CONTAINER_AUTHORIZATION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
	"BROKER_PROFILE", "BROKER_EXPIRATION",
}

// regionNames are removed only if the profile has a region to replace them.
var regionNames = []string{"AWS_REGION", "AWS_DEFAULT_REGION"}

// credentialNames returns the names in removed, sorted.
func credentialNames() []string { return slices.Sorted(slices.Values(removed)) }

// variable is an environment variable.
type variable struct{ name, value string }

// credentialEnv returns the variables that hand over a credential, for `exec` and `export`.
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

// regionEnv returns the variables for the region of a profile.
func regionEnv(region string) []variable {
	var set []variable
	if region != "" {
		for _, name := range regionNames {
			set = append(set, variable{name, region})
		}
	}
	return set
}

// childEnv returns the environment of the command: environ with the variables in set and with no other credentials.
func childEnv(environ []string, set []variable) []string {
	return withVariables(withoutCredentials(environ), set)
}

// withoutCredentials returns environ without credentials and without variables that lead to credentials.
func withoutCredentials(environ []string) []string {
	return without(environ, func(name string) bool { return slices.Contains(removed, name) })
}

// withVariables returns environ with the variables in set, each of them once.
func withVariables(environ []string, set []variable) []string {
	env := without(environ, func(name string) bool {
		return slices.ContainsFunc(set, func(v variable) bool { return v.name == name })
	})
	for _, v := range set {
		env = append(env, v.name+"="+v.value)
	}
	return env
}

func without(environ []string, drop func(name string) bool) []string {
	var env []string
	for _, kv := range environ {
		if name, _, _ := strings.Cut(kv, "="); !drop(name) {
			env = append(env, kv)
		}
	}
	return env
}

// lookUp returns the value of a variable in environ, or "" if it is not set.
func lookUp(environ []string, name string) string {
	for _, kv := range environ {
		if value, ok := strings.CutPrefix(kv, name+"="); ok {
			return value
		}
	}
	return ""
}
