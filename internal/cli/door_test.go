package cli

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/urfave/cli/v2"

	"broker/internal/fault"
	"broker/internal/wire"
)

// aDoor is the answer of a daemon that opened a door.
func aDoor(until *time.Time) wire.Response {
	return wire.Response{Door: &wire.Door{Name: "prod", Dir: "/run/user/1000/broker/doors/prod", Profiles: []string{"prod"},
		Until: until, ReadOnly: true, MaxTTL: 900}}
}

// TestForward checks what forward asks the daemon, and what it prints.
func TestForward(t *testing.T) {
	until := time.Date(2099, 1, 2, 3, 4, 5, 0, time.Local)
	doors := wire.Response{Status: &wire.Status{Doors: []wire.Door{
		{Name: "prod", Profiles: []string{"prod"}, Until: &until, Given: 3, Error: "Broker is locked"},
		{Name: "x1", Profiles: []string{"prod", "dev"}, PID: 7, Program: "claude\x1b", MaxTTL: 900},
		{Name: "x2", Profiles: []string{"prod"}, PID: 8, Program: "docker", Container: true},
	}}}
	for name, tt := range map[string]struct {
		args           string
		answers        []any
		asked          string
		stdout, stderr string
		code           int
	}{
		"opens": {"forward p --for 8h --read-only --max-ttl 15m", []any{aDoor(&until)}, "open-door prod",
			"prod: open until 2099-01-02 03:04:05, for prod, read-only, at most 15m each\n", "", 0},
		"the line for ssh": {"forward p --for 8h", []any{aDoor(&until)}, "open-door prod",
			"/home/%r/.broker/socket:/run/user/1000/broker/doors/prod/socket", "", 0},
		"no time":            {"forward p", nil, "", "", "hint: broker forward p --for 8h\n", 2},
		"no time at all":     {"forward p --for 0s", nil, "", "", "--for must be longer than 0", 2},
		"a misspelled list":  {"forward lst", nil, "", "", `"lst"`, 3},
		"a time before":      {"forward p --for -8h", nil, "", "", "is not a duration", 2},
		"no profile":         {"forward --for 8h", nil, "", "", "hint: broker forward PROFILE --for 8h\n", 2},
		"an unknown profile": {"forward nobody --for 8h", nil, "", "", `"nobody"`, 3},
		"an empty name":      {"forward '' --for 8h", nil, "", "", "the name of a profile is empty", 2},
		"a name twice":       {"forward p prod --for 8h", nil, "", "", "hint: broker forward p --for 8h\n", 2},
		"and its limits": {"forward p p --for 2d --name x --read-only --max-ttl 15m", nil, "", "",
			"prod is named twice; name each profile once\nhint: broker forward p --for 2d --name x --read-only --max-ttl 15m\n", 2},
		"too long": {"forward p --for 30d --name x", nil, "", "",
			"a door can be open for at most 7d\nhint: broker forward p --for 7d --name x\n", 2},
		"twice and too long": {"forward p prod --for 30d", nil, "", "", "hint: broker forward p --for 7d\n", 2},
		"too short":          {"forward p --for 8h --max-ttl 5m", nil, "", "", "the least that AWS gives", 2},
		"an odd answer":      {"forward p --for 8h", []any{wire.Response{}}, "open-door prod", "", "does not say where the door is", 5},
		"lists none":         {"forward list", []any{wire.Response{Status: &wire.Status{}}}, "state", "no door is open\n", "", 0},
		"lists none as JSON": {"forward list --json", []any{wire.Response{Status: &wire.Status{}}}, "state", "[]\n", "", 0},
		"lists":              {"forward list", []any{doors}, "state", "claude\\x1b, pid 7", "", 0},
		"lists why not":      {"forward list", []any{doors}, "state", "note: prod: Broker is locked\n", "", 0},
		"lists as JSON":      {"forward list --json", []any{doors}, "state", `"given": 3`, "", 0},
		"is in status":       {"status", []any{doors}, "state", "docker, pid 8, containers", "", 0},
		"closes":             {"forward close prod", []any{wire.Response{}}, "close-door prod", "prod: closed;", "", 0},
		"closes none":        {"forward close", nil, "", "", "hint: broker forward list\n", 2},
		"closes all":         {"forward close --all", []any{wire.Response{}, doors, wire.Response{}}, "ping, state, close-door prod", "prod: closed;", "", 0},
		"closes too much":    {"forward close --all prod", nil, "", "", "takes no name", 2},
	} {
		daemon := &scripted{answers: tt.answers}
		words := strings.Fields(tt.args)
		for i := range words {
			words[i] = strings.Trim(words[i], "'")
		}
		out, problems, code := command(t, daemon, "", words...)
		if code != tt.code || daemon.verbs() != tt.asked || !strings.Contains(out, tt.stdout) || tt.stdout == "" && out != "" ||
			!strings.Contains(problems, tt.stderr) || tt.stderr == "" && problems != "" {
			t.Errorf("%s: exit code %d, asked %q\n%s%s", name, code, daemon.verbs(), out, problems)
		}
	}
	daemon := &scripted{answers: []any{aDoor(&until)}}
	_, _, _ = command(t, daemon, "", "forward", "p", "--for", "2h", "--name", "work", "--max-ttl", "1h", "--read-only")
	if r := daemon.asked[0]; r.For != 2*time.Hour || *r.Door != (wire.DoorTerms{Name: "work", ReadOnly: true, MaxTTL: 3600}) {
		t.Errorf("asked %+v, %+v", r, r.Door)
	}
}

// TestDoorNames checks that names made of profiles are names of files, and short.
func TestDoorNames(t *testing.T) {
	for names, want := range map[string]string{
		"dev": "dev", "dev stage": "dev-stage", "product_dev_paul": "product_dev_paul", "a/../b": "a----b", "é": "",
		".hidden": "hidden", strings.Repeat("x", 100): strings.Repeat("x", maxDoorName),
	} {
		if got := doorName(strings.Fields(names)); got != want {
			t.Errorf("%s: %q, want %q", names, got, want)
		}
	}
}

// TestPathForSSH checks the characters that ssh -R reads as something else.
func TestPathForSSH(t *testing.T) {
	if got, want := forSSH(`/run/a:b/50%\x`), `/run/a\:b/50%%\\x`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// TestDoorEnvironment checks what a command with a door finds in its environment.
func TestDoorEnvironment(t *testing.T) {
	environ := []string{"AWS_PROFILE=old", "AWS_SECRET_ACCESS_KEY=old", "AWS_REGION=old", "AWS_CONFIG_FILE=/old", "PATH=/bin",
		"BROKER_SOCKET=/full"}
	one := doorEnv(environ, wire.Door{Dir: "/d", Profiles: []string{"dev"}, Region: "eu-west-1"})
	slices.Sort(one)
	if got, want := strings.Join(one, " "), "AWS_CONFIG_FILE=/d/config AWS_DEFAULT_REGION=eu-west-1 AWS_PROFILE=dev "+
		"AWS_REGION=eu-west-1 AWS_SDK_LOAD_CONFIG=1 AWS_SHARED_CREDENTIALS_FILE=/d/credentials BROKER_PROFILE=dev "+
		"BROKER_SOCKET=/full PATH=/bin"; got != want {
		t.Errorf("one profile: %s\nwant %s", got, want)
	}
	two := doorEnv(environ, wire.Door{Dir: "/d", Profiles: []string{"dev", "stage"}, Region: "eu-west-1"})
	if lookUp(two, "AWS_REGION") != "" || lookUp(two, "BROKER_PROFILE") != "dev,stage" || lookUp(two, "AWS_PROFILE") != "dev" {
		t.Errorf("two profiles: %s", two)
	}
	tool := doorEnv(environ, wire.Door{Dir: "/d", Profiles: []string{"dev"}, Region: "eu-west-1", Container: true})
	slices.Sort(tool)
	if got, want := strings.Join(tool, " "), "AWS_CONFIG_FILE=/old AWS_REGION=old BROKER_PROFILE=dev BROKER_SOCKET=/full PATH=/bin"; got != want {
		t.Errorf("containers: %s\nwant %s", got, want)
	}
}

// TestOptionsOfADoor checks what is refused beside --only and --door, before anything is asked.
func TestOptionsOfADoor(t *testing.T) {
	for line, want := range map[string]string{
		"exec --only p --door p -- true":              "use either --only or --door",
		"exec --only p prod -- true":                  "hint: broker exec --only p,prod -- true\n",
		"exec --only p --mode env -- true":            "--mode has no effect with --only",
		"exec --only p --min-ttl 1h -- true":          "--min-ttl has no effect",
		"exec --only p --token-file -- true":          "--token-file has no effect",
		"exec --only p --duration 1h -- true":         "--duration has no effect",
		"exec --door p --role-arn arn:aws:iam -- sh":  "--role-arn has no effect with --door",
		"exec --only p,,p -- true":                    "--only has an empty name",
		"exec --only  -- true":                        "--only needs a value",
		"exec --only p,prod -- true":                  "prod is named twice",
		"exec --only p,prod --read-only -- true":      "hint: broker exec --only p --read-only -- true\n",
		"exec p --only p --max-ttl 15m -- true":       "hint: broker exec --only p --max-ttl 15m -- true\n",
		"exec --only p":                               "hint: broker exec --only p -- COMMAND\n",
		"exec --only nobody -- true":                  `"nobody"`,
		"exec --only p --max-ttl 1m -- true":          "the least that AWS gives",
		"exec p --read-only -- true":                  "--read-only needs --only or --door",
		"exec p --max-ttl 15m -- true":                "--max-ttl needs --only or --door",
		"exec --only p -- no-such-command-anywhere":   "command not found",
		"exec --only p no-such-command-anywhere --is": "command not found",
		"shell --only p prod":                         "hint: broker shell --only p,prod\n",
		"shell --only p --mode file":                  "hint: broker shell --only p\n",
	} {
		daemon := new(scripted)
		out, problems, code := command(t, daemon, "", strings.Fields(line)...)
		if code == 0 || out != "" && !strings.Contains(want, "command not found") || len(daemon.asked) > 0 {
			t.Errorf("%s: exit code %d, asked %q: %s%s", line, code, daemon.verbs(), out, problems)
		}
		if want == "command not found" && code != 127 || want != "command not found" && !strings.Contains(problems, want) {
			t.Errorf("%s: exit code %d: %s", line, code, problems)
		}
	}
}

// TestCommandsThroughADoor checks that in a shell with a door, each command but the few of throughDoor is refused
// before it asks or reads anything, and that those few ask the door for sessions only.
func TestCommandsThroughADoor(t *testing.T) {
	t.Setenv("BROKER_DOOR", filepath.Join(t.TempDir(), "door"))
	at := t.TempDir()
	left, refused := map[string]bool{}, 0
	for _, name := range throughDoor {
		left[name] = true
	}
	everyCommand(t, func(path []string, c *cli.Command) {
		name := strings.Join(path, " ")
		if c == nil || slices.Contains(throughDoor, name) || len(c.Subcommands) > 0 && !acts(c) {
			delete(left, name)
			return
		}
		daemon := new(scripted)
		out, problems, code := inDoor(t, daemon, at, path...)
		if code != 2 || out != "" || !strings.Contains(problems, "this shell has a door") || len(daemon.asked) > 0 ||
			!strings.Contains(problems, "hint: broker "+name+"\n") {
			t.Errorf("broker %s: exit code %d, asked %q: %s%s", name, code, daemon.verbs(), out, problems)
		}
		refused++
	})
	if refused < 40 || len(left) > 0 {
		t.Errorf("%d commands were refused, %v are no commands", refused, left)
	}
	daemon := &scripted{answers: []any{aSession()}}
	if out, problems, code := inDoor(t, daemon, at, "export", "not-in-the-registry"); code != 0 || daemon.verbs() != "get not-in-the-registry" {
		t.Errorf("export: exit code %d, asked %q: %s%s", code, daemon.verbs(), out, problems)
	}
	for line, want := range map[string]string{
		"exec dev --mode server -- true":  `hint: broker exec dev --mode server -- true\n`,
		"exec dev --mode file -- true":    `hint: broker exec dev --mode file -- true\n`,
		"exec --only dev -- true":         `hint: broker exec --only dev -- true\n`,
		"exec dev --duration 15m -- true": "leave out the options for roles",
		"exec dev stage -- true":          `hint: broker exec dev stage -- true\n`,
		"shell dev stage":                 `hint: broker shell dev stage\n`,
	} {
		daemon := &scripted{answers: []any{fault.New(fault.Failed, "the daemon was asked")}}
		out, problems, code := inDoor(t, daemon, at, strings.Fields(line)...)
		if code == 0 || len(daemon.asked) > 0 || !regexp.MustCompile(want).MatchString(problems) {
			t.Errorf("%s: exit code %d, asked %q: %s%s", line, code, daemon.verbs(), out, problems)
		}
	}
}

// inDoor is command, but keeps BROKER_DOOR.
func inDoor(t *testing.T, daemon *scripted, door string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	t.Setenv("BROKER_DOOR", door)
	return commandWith(t, daemon, "", []string{"BROKER_DOOR"}, args...)
}
