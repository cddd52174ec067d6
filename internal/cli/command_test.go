package cli

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/urfave/cli/v2"

	"broker/internal/client"
	"broker/internal/fault"
	"broker/internal/lockfile"
	"broker/internal/secret"
	"broker/internal/wire"
)

// registryOfTests has a source, a profile and an alias.
const registryOfTests = `[settings]
keyring_backend = secret-service
[source security]
access_key_id = AKIADEMOPAULFAKE2222
mfa_serial = arn:aws:iam::111122223333:mfa/paul
[profile prod]
role_arn = arn:aws:iam::444455556666:role/admin
source_profile = security
region = eu-west-1
[alias]
p = prod
`

// scripted is a daemon that gives its answers in order and records the requests.
type scripted struct {
	answers []any // a wire.Response, or an error
	asked   []wire.Request
}

func (s *scripted) carry(_ context.Context, req *wire.Request) (*wire.Response, error) {
	s.asked = append(s.asked, *req)
	if len(s.answers) == 0 {
		return nil, errors.New("one request too many")
	}
	answer := s.answers[0]
	s.answers = s.answers[1:]
	if err, is := answer.(error); is {
		return nil, err
	}
	resp := answer.(wire.Response)
	return &resp, nil
}

// verbs returns the verbs of the requests, with their profiles.
func (s *scripted) verbs() string {
	var words []string
	for _, r := range s.asked {
		words = append(words, strings.TrimSpace(r.Verb+" "+r.Profile))
	}
	return strings.Join(words, ", ")
}

// aSession is the answer of a daemon to a get request.
func aSession() wire.Response {
	return wire.Response{Credential: &wire.Credential{AccessKeyID: "ASIAIOSFODNN7EXAMPLE",
		SecretAccessKey: secret.New("key/of+session"), SessionToken: secret.New("token=="),
		Expiration: time.Date(2099, 1, 2, 3, 4, 5, 0, time.UTC), Profile: "prod", Region: "eu-west-1"}}
}

// command runs broker in a home with registryOfTests.
func command(t *testing.T, daemon *scripted, stdin string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	return commandWith(t, daemon, stdin, nil, args...)
}

// commandWith is command with some of the variables of this process.
func commandWith(t *testing.T, daemon *scripted, stdin string, keep []string, args ...string) (
	stdout, stderr string, code int,
) {
	t.Helper()
	prepare(t, registryOfTests, keep...)
	var out, problems bytes.Buffer
	p := newProgram(strings.NewReader(stdin), &out, &problems)
	p.client.Transport = daemon.carry
	code = p.main(append([]string{"broker"}, args...))
	return out.String(), problems.String(), code
}

// prepare makes a home with a registry, and an environment with nothing of AWS or Broker but the variables in keep.
func prepare(t *testing.T, text string, keep ...string) {
	t.Helper()
	home := t.TempDir()
	registry := filepath.Join(home, ".config", "broker", "config")
	err := errors.Join(os.MkdirAll(filepath.Dir(registry), 0o700), os.WriteFile(registry, []byte(text), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		if slices.Contains(keep, name) {
			continue
		}
		if strings.HasPrefix(name, "BROKER_") || strings.HasPrefix(name, "AWS_") || strings.HasPrefix(name, "XDG_") {
			t.Setenv(name, "")
		}
	}
	t.Setenv("HOME", home)
}

// TestOptionsComeFromTheCommandLine: adHoc and doorOption take a command without options on its command line for one
// that sets none. So no option may come from the environment or a file.
func TestOptionsComeFromTheCommandLine(t *testing.T) {
	var check func(at string, list []*cli.Command)
	check = func(at string, list []*cli.Command) {
		for _, c := range list {
			for _, f := range c.Flags {
				fields := reflect.Indirect(reflect.ValueOf(f))
				if fields.FieldByName("EnvVars").Len() > 0 || fields.FieldByName("FilePath").Len() > 0 {
					t.Errorf("%s%s --%s is also read from elsewhere", at, c.Name, f.Names()[0])
				}
			}
			check(at+c.Name+" ", c.Subcommands)
		}
	}
	check("", new(program).app().Commands)
}

// TestAppBuildsTheNamedCommand: the name of each command in the tree builds that command alone, and a word that is not
// one of these names builds all.
func TestAppBuildsTheNamedCommand(t *testing.T) {
	all := new(program).app().Commands
	for _, c := range all {
		if built := new(program).app(c.Name).Commands; len(built) != 1 || built[0].Name != c.Name {
			t.Errorf("the name %s builds %d commands, the first of them %s", c.Name, len(built), built[0].Name)
		}
	}
	if built := new(program).app("ls").Commands; len(built) != len(all) {
		t.Errorf("the alias ls builds %d commands of %d", len(built), len(all))
	}
}

// TestCommands checks what each command asks the daemon, and what it prints for the answers.
func TestCommands(t *testing.T) {
	challenge := wire.Response{Err: fault.New(fault.Locked, "%w", lockfile.ErrWanted),
		Challenge: &wire.Stretch{Salt: make([]byte, 16), Passes: 1, MemoryKiB: 8, Lanes: 1}}
	denied := wire.Response{Err: fault.New(fault.Denied, "AWS said no").WithHint("broker explain prod")}
	none := fault.New(fault.Unreachable, "no daemon")
	until := time.Now().Add(time.Hour)
	published := wire.Response{Status: &wire.Status{
		Published: []wire.Published{{Profile: "prod", File: "/f", Until: &until}}}}
	opened := wire.Response{Status: &wire.Status{Sessions: []wire.Session{{Source: "security", Expires: &until}}}}
	ofRole := wire.Response{Status: &wire.Status{Sessions: []wire.Session{{Source: "security",
		Role: "arn:aws:iam::444455556666:role/admin", Expires: &until}}}}
	waiting := wire.Response{Status: &wire.Status{Waiting: []wire.Waiting{{Source: "security", Device: "arn:x", Requests: 1}}}}
	locked := wire.Response{Status: &wire.Status{PID: 7, Locked: true}}
	signIn := wire.Response{SignIn: &wire.SignIn{Endpoint: "https://signin.aws.amazon.com/federation",
		Token: secret.New("one-time"), Profile: "prod", Expiration: until}}
	warning := wire.Response{Warnings: []string{"a restarted daemon\x1b"}}
	ringLocked := wire.Response{Err: fault.New(fault.KeyringLocked, "the login keyring is locked").WithHint("unlock it")}
	left := wire.Response{Err: fault.New(fault.Failed, "a session is left")}
	type list = []any
	for name, tt := range map[string]struct {
		args, stdin    string
		answers        list
		asked          string // verbs and profiles
		stdout, stderr string // text that it must contain; if empty, it must be empty
		code           int
	}{
		"lock":                   {"lock", "", list{wire.Response{}}, "lock", "locked\n", "", 0},
		"lock with a warning":    {"lock", "", list{warning}, "lock", "locked\n", "warning: a restarted daemon\\x1b\n", 0},
		"lock leaves a session":  {"lock", "", list{left}, "lock", "", "broker: a session is left\n", 1},
		"lock takes no argument": {"lock prod", "", nil, "", "", "lock takes no argument", 2},
		"a map without --map": {"accounts check -- -a.ini", "", nil, "", "",
			"\nhint: broker accounts check --map -a.ini\n", 2},
		"unlock": {"unlock", "", list{wire.Response{}}, "unlock", "unlocked\n", "", 0},
		"unlock with proof": {"unlock --stdin", "pass\n", list{challenge, wire.Response{}}, "unlock, unlock",
			"unlocked\n", "", 0},
		"unlock without a line": {"unlock --stdin", "", list{challenge}, "unlock", "", "stdin has no line", 2},
		// No passphrase on stdin opens a keyring of the desktop.
		"unlock, keyring of the desktop": {"unlock --stdin", "a\nb\nc\n", list{ringLocked}, "unlock", "",
			"broker: the login keyring is locked\nhint: unlock it\n", 7},
		"logout all": {"logout", "", list{wire.Response{Count: 2}}, "logout", "forgot 2 sessions", "", 0},
		"logout of a source": {"logout security", "", list{wire.Response{Count: 1}}, "logout security",
			"forgot 1 session;", "", 0},
		"logout of what is closed": {"logout security", "", list{wire.Response{}}, "logout security",
			"security: no session was in memory, and the keyring keeps none now\n", "", 0},
		"logout of nothing open": {"logout", "", list{wire.Response{}}, "logout",
			"no session was in memory, and the keyring keeps none now\n", "", 0},
		"logout of what is open in a locked keyring": {"logout", "", list{wire.Response{Warnings: []string{"it is locked"}}},
			"logout", "no session was in memory\n", "warning: it is locked", 0},
		"logout of nobody": {"logout nobody", "", list{wire.Response{}}, "logout nobody", "", "broker profiles list", 3},
		"logout of a login that no file names": {"logout old-sso", "",
			list{wire.Response{Count: 1, Warnings: []string{"ended the login of old-sso"}}}, "logout old-sso",
			"forgot 1 session;", "warning: ended the login of old-sso", 0},
		"logout of nobody, locked": {"logout nobody", "", list{ringLocked}, "logout nobody", "", "hint: unlock it", 7},
		"logout of nothing":        {"logout ''", "", nil, "", "", "cannot be empty", 2},
		"login":                    {"login security --code 123456", "", list{opened}, "login security", "security", "", 0},
		"login is denied":          {"login security --code 123456", "", list{denied}, "login security", "", "said no\nhint: broker", 6},
		"publish by alias":         {"publish p", "", list{published}, "publish prod", "prod: published", "credentials of prod", 0},
		"publish for no time":      {"publish prod --for 0s", "", nil, "", "", "--for needs a duration", 2},
		"unpublish what is away": {"unpublish", "", list{wire.Response{Lines: []string{"dev", "prod"}}},
			"unpublish", "dev, prod: no longer published", "", 0},
		"unpublish":         {"unpublish", "", list{wire.Response{Count: 1}}, "unpublish", "1", "", 0},
		"export as text":    {"export prod --format env", "", list{aSession()}, "get prod", "AWS_SESSION_TOKEN=", "", 0},
		"export, no answer": {"export prod", "", list{wire.Response{}}, "get prod", "", "broker:", 5},
		"rotate": {"rotate security", "", list{client.ErrNone, client.ErrNone, wire.Response{Lines: []string{"done"}}},
			"state, ping, rotate security", "security: done\n", "", 0},
		"rotate, daemon is stopped": {"rotate security", "", list{none, none}, "state, ping", "", "broker: no daemon", 5},
		"status without daemon":     {"status", "", list{none}, "state", "", "broker:", 5},
		"status, none running":      {"status", "", list{client.ErrNone}, "state", "not running; it starts on demand\n", "", 0},
		"login opens a role": {"login prod --code 123456", "", list{ofRole}, "login prod",
			"prod: session of the role 444455556666:admin until ", "", 0},
		"one request waits":    {"status", "", list{waiting}, "state", "waiting   1 request for a code of arn:x, for security; ", "", 0},
		"status in JSON":       {"status --json", "", list{locked}, "state", `"locked": true`, "", 0},
		"short status, locked": {"status --short", "", list{locked}, "state", "locked\n", "", 0},
		"console, no answer":   {"console prod --print", "", list{wire.Response{}}, "console prod", "", "no sign-in", 5},
		"console":              {"console prod --print", "", list{signIn}, "console prod", "SigninToken=one-time", "", 0},
		"mode file, refused":   {"exec prod --mode file -- true", "", list{denied}, "overlay prod", "", "AWS said no", 6},
		"publish one of two": {"publish prod security", "", list{denied, published}, "publish prod, publish security",
			"published until", "AWS said no", 6},
		"export, an old daemon": {"export --role-arn arn:aws:iam::444455556666:role/other --source security", "",
			list{aSession()}, "get security", "", "broker service restart", 5},
	} {
		t.Run(name, func(t *testing.T) {
			daemon := &scripted{answers: tt.answers}
			args := strings.Fields(tt.args)
			if i := slices.Index(args, "''"); i >= 0 {
				args[i] = ""
			}
			stdout, stderr, code := command(t, daemon, tt.stdin, args...)
			if asked := daemon.verbs(); asked != tt.asked || code != tt.code || len(daemon.answers) > 0 {
				t.Errorf("asked %q, exit code %d; want %q and %d\n%s%s", asked, code, tt.asked, tt.code, stdout, stderr)
			}
			for got, want := range map[string]string{stdout: tt.stdout, stderr: tt.stderr} {
				if !strings.Contains(got, want) || want == "" && got != "" {
					t.Errorf("got %q, want %q", got, want)
				}
			}
		})
	}
}

// TestPassphraseStaysHere checks that the passphrase for unlock is not sent, but only its proof.
func TestPassphraseStaysHere(t *testing.T) {
	challenge := wire.Response{Err: fault.New(fault.Locked, "%w", lockfile.ErrWanted),
		Challenge: &wire.Stretch{Salt: make([]byte, 16), Passes: 1, MemoryKiB: 8, Lanes: 1}}
	daemon := &scripted{answers: []any{challenge, wire.Response{}}}
	if _, stderr, code := command(t, daemon, "the words\n", "unlock", "--stdin"); code != 0 || len(daemon.asked) != 2 {
		t.Fatal(code, stderr)
	}
	for _, req := range daemon.asked {
		line, err := wire.EncodeRequest(&req)
		if err != nil || strings.Contains(string(line), "the words") {
			t.Errorf("sent %s, %v", line, err)
		}
	}
	if proof := daemon.asked[1].Proof.Reveal(); len(proof) != 64 {
		t.Errorf("the proof is %q", proof)
	}
}
