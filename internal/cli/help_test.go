package cli

import (
	"bytes"
	"regexp"
	"strings"
	"testing"

	"github.com/rivo/uniseg"
	"github.com/urfave/cli/v2"

	"broker/internal/fault"
	"broker/internal/version"
	"broker/internal/wire"
)

// everyCommand calls check for the program itself and for each command.
func everyCommand(t *testing.T, check func(path []string, c *cli.Command)) {
	t.Helper()
	var walk func(path []string, commands []*cli.Command)
	checked := 0
	walk = func(path []string, commands []*cli.Command) {
		for _, c := range commands {
			at := append(path[:len(path):len(path)], c.Name)
			check(at, c)
			checked++
			walk(at, c.Subcommands)
		}
	}
	check(nil, nil)
	app := newProgram(strings.NewReader(""), new(bytes.Buffer), new(bytes.Buffer)).app()
	walk(nil, app.Commands)
	if checked < 40 {
		t.Fatalf("only %d commands were found: the test is void", checked)
	}
}

// TestHelpOfEveryCommand checks that each way to ask for help exits with 0 and prints the same text on stdout. No
// line is wider than 80 columns, the help of a command in a list is one line, and there is an example.
func TestHelpOfEveryCommand(t *testing.T) {
	everyCommand(t, func(path []string, c *cli.Command) {
		ways := [][]string{append(path[:len(path):len(path)], "--help"), append(path[:len(path):len(path)], "-h"),
			append([]string{"help"}, path...)}
		var first string
		for i, way := range ways {
			t.Setenv("HOME", "") // help does not need it
			var out, problems bytes.Buffer
			p := newProgram(strings.NewReader(""), &out, &problems)
			if code := p.main(append([]string{"broker"}, way...)); code != 0 || problems.Len() > 0 || out.Len() == 0 {
				t.Errorf("broker %s: exit code %d, %s", strings.Join(way, " "), code, problems.String())
			}
			if i == 0 {
				first = out.String()
			} else if out.String() != first {
				t.Errorf("broker %s differs from --help", strings.Join(way, " "))
			}
		}
		for line := range strings.Lines(first) {
			if wide := uniseg.StringWidth(strings.TrimSuffix(line, "\n")); wide > proseColumns {
				t.Errorf("%s: %d columns: %s", path, wide, line)
			}
		}
		if _, examples, found := strings.Cut(first, "\nExamples:\n  "); !found || !strings.Contains(examples, "broker ") {
			t.Errorf("%s: no example", path)
		}
		if c != nil && (len(c.Usage) > 65 || strings.ContainsAny(c.Usage, ".\n") || c.Usage == "") {
			t.Errorf("%s: not one line: %q", path, c.Usage)
		}
		if c != nil && len(path) == 1 && c.Category == "" {
			t.Errorf("%s: in no group", path)
		}
	})
}

// TestExamplesParse checks that each example is a command of Broker with existing options, and that it names
// arguments only if the command takes some.
func TestExamplesParse(t *testing.T) {
	inShell := regexp.MustCompile(`\((broker [^()]*)\)`)
	everyCommand(t, func(path []string, c *cli.Command) {
		if c == nil {
			return
		}
		for example := range strings.Lines(c.UsageText) {
			example = strings.TrimSpace(example)
			if len(example) > 58 {
				t.Errorf("%s: too wide for a terminal of 60 columns: %s", path, example)
			}
			command, _, _ := strings.Cut(example, " > ")
			if m := inShell.FindStringSubmatch(example); m != nil {
				command = m[1]
			}
			words := regexp.MustCompile(`'[^']*'|\S+`).FindAllString(command, -1)
			for i := range words {
				words[i] = strings.Trim(words[i], "'")
			}
			if words[0] != "broker" {
				t.Errorf("%s: not a command of broker: %s", path, example)
				continue
			}
			// The same command tree, with actions that do nothing.
			app := newProgram(strings.NewReader(""), new(bytes.Buffer), new(bytes.Buffer)).app()
			ran := false
			var silence func(commands []*cli.Command)
			silence = func(commands []*cli.Command) {
				for _, c := range commands {
					silence(c.Subcommands)
					if len(c.Subcommands) == 0 || acts(c) {
						c.Action = func(ctx *cli.Context) error {
							ran = true
							if ctx.Args().Present() && c.ArgsUsage == "" {
								t.Errorf("%s takes no argument: %s", c.Name, example)
							}
							return nil
						}
					}
				}
			}
			silence(app.Commands)
			in := read(app, words[1:])
			if err := app.Run(append([]string{"broker"}, in.ordered...)); err != nil || !ran {
				t.Errorf("%s: %s: %v", path, example, err)
			}
			if !strings.HasPrefix(strings.Join(in.path, " "), strings.Join(path, " ")) {
				t.Errorf("%s: the example belongs to %s", path, in.path)
			}
		}
	})
}

// TestDidYouMean checks that a misspelled command is answered with the nearest one.
func TestDidYouMean(t *testing.T) {
	for typed, want := range map[string]string{
		"statsu":                    `there is no command "statsu"; did you mean status?` + "\nhint: broker status\n",
		"lst":                       "did you mean list?\nhint: broker list\n",
		"profiles lnk":              "did you mean link?\nhint: broker profiles link\n",
		"help exce":                 "did you mean exec?\nhint: broker exec\n",
		"unlink x":                  `"unlink"; did you mean profiles unlink?` + "\nhint: broker profiles unlink\n",
		"trust":                     "did you mean profiles trust or policy trust?\nhint: broker profiles trust\n",
		"help link":                 "did you mean profiles link?\nhint: broker profiles link\n",
		"stop":                      "did you mean service stop?\nhint: broker service stop\n",
		"audit verify":              "did you mean log?\nhint: broker log\n",
		"delete":                    "did you mean remove?\nhint: broker remove\n",
		"token ecr":                 "did you mean docker?\nhint: broker token docker\n",
		"update":                    `there is no command "update"` + "\nhint: broker help\n",
		"nothing-like-it":           `there is no command "nothing-like-it"` + "\nhint: broker help\n",
		"config x":                  `there is no command "config x"` + "\nhint: broker config --help\n",
		"status --frob":             "there is no option --frob\nhint: broker status --help\n",
		"log --sine 2h":             "there is no option --sine; did you mean --since?\nhint: broker log --help\n",
		"log --since":               "--since needs a value\nhint: broker log --help\n",
		"allow x --for 1h --reason": "--reason needs a value\nhint: broker allow --help\n",
		"exec --role-arn -- ls":     "--role-arn needs a value\nhint: broker exec --help\n",
		"--frob":                    "there is no option --frob\nhint: broker help\n",
	} {
		out, problems, code := command(t, &scripted{}, "", strings.Fields(typed)...)
		if code != 2 || out != "" || !strings.HasSuffix(problems, want) {
			t.Errorf("%s: exit code %d\n%s%s", typed, code, out, problems)
		}
	}
}

// TestUsageErrorsNameTheHelp: an error without a hint of its own, such as one of the daemon, leads to the help of the
// command, not to that of all commands.
func TestUsageErrorsNameTheHelp(t *testing.T) {
	daemon := &scripted{answers: []any{wire.Response{Version: version.String(), Err: fault.New(fault.Usage, "prod has no guard")}}}
	_, problems, code := command(t, daemon, "", "allow", "prod", "--reason", "x")
	if code != 2 || problems != "broker: prod has no guard\nhint: broker allow --help\n" {
		t.Errorf("exit code %d\n%s", code, problems)
	}
}

// TestRead checks where flags end and the command of exec begins.
func TestRead(t *testing.T) {
	app := newProgram(strings.NewReader(""), new(bytes.Buffer), new(bytes.Buffer)).app()
	for typed, want := range map[string]string{
		"exec prod aws --version":              "exec -- prod aws --version/1",
		"exec prod aws -h":                     "exec -- prod aws -h/1",
		"exec prod -- aws --version":           "exec -- prod aws --version/1",
		"exec prod --mode server ./w --mode x": "exec --mode server -- prod ./w --mode x/1",
		"exec --mode env prod ls":              "exec --mode env -- prod ls/1",
		"exec dev prod -- ./copy.sh":           "exec -- dev prod ./copy.sh/2",
		"exec -- ls -l":                        "exec -- ls -l/0",
		"exec prod":                            "exec -- prod/1",
		"exec --source s --role-arn a -- ls":   "exec --source s --role-arn a -- ls/0",
		"login prod --code 123456":             "login --code 123456 -- prod/1",
		"ls --json":                            "list --json --/0",
		"profiles ls":                          "profiles list --/0",
	} {
		in := read(app, strings.Fields(typed))
		if got := strings.Join(in.ordered, " ") + "/" + string(rune('0'+len(in.words))); got != want || in.help {
			t.Errorf("%s: got %s, want %s", typed, got, want)
		}
	}
}
