//go:build unix

package profiles

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"broker/internal/fault"
)

// TestGuardOfChain: the strictest guard of a chain counts.
func TestGuardOfChain(t *testing.T) {
	for name, c := range map[string]struct {
		source, inner, outer string
		want                 Guard
	}{
		"no guard":               {"", "", "", Guard{}},
		"production":             {"", "", "production = true\n", Guard{Confirm: First, Production: true}},
		"production, never":      {"", "", "production = true\nconfirm = never\n", Guard{Production: true}},
		"not production":         {"", "", "production = false\n", Guard{}},
		"of the source":          {"confirm = always\n", "", "confirm = first\n", Guard{Confirm: Always}},
		"of a profile within":    {"", "confirm = Always\n", "production = true\n", Guard{Confirm: Always, Production: true}},
		"never after production": {"", "production = true\n", "confirm = never\n", Guard{Confirm: First, Production: true}},
	} {
		registry := sourceSection + c.source + "[profile inner]\nrole_arn = " + account + "a\nsource_profile = security\n" + c.inner +
			"[profile outer]\nrole_arn = " + account + "b\nsource_profile = inner\n" + c.outer
		chain, err := load(t, "", "", registry).Resolve("outer")
		if err != nil || chain.Guard != c.want {
			t.Errorf("%s: %+v, %v", name, chain.Guard, err)
		}
	}
	// AWS tools ignore the keys in their own files; Broker does not.
	config := "[profile dev]\nrole_arn = " + account + "a\nsource_profile = security\nproduction = true\n"
	if chain, err := load(t, config, "", sourceSection).Resolve("dev"); err != nil || !chain.Guard.Production {
		t.Errorf("in the config: %+v, %v", chain.Guard, err)
	}
}

// TestAgentsAddUp: what each profile, source and file of a chain says about agents counts, and none removes it.
func TestAgentsAddUp(t *testing.T) {
	const role = "role_arn = " + account + "a\nsource_profile = "
	for name, c := range map[string]struct {
		config, credentials, source, inner, outer string
		want                                      string
	}{
		"nothing":            {"", "", "", "", "", ""},
		"read-only":          {"", "", "", "", "agents = read-only\n", "read-only"},
		"in capitals":        {"", "", "", "", "agents = Deny\n", "deny"},
		"of the source":      {"", "", "agents = ask\n", "", "", "ask"},
		"of a profile below": {"", "", "", "agents = deny\n", "agents = read-only\n", "deny, read-only"},
		"of each file":       {"agents = ask\n", "agents = deny\n", "", "", "agents = read-only\n", "deny, ask, read-only"},
		"beside a guard":     {"", "", "confirm = first\n", "", "agents = ask\n", "ask"},
	} {
		for _, place := range []Place{InDefault, InOther} {
			set := placed(t, place, "[profile outer]\n"+c.config, "[outer]\n"+c.credentials, sourceSection+c.source+
				"[profile inner]\n"+role+"security\n"+c.inner+"[profile outer]\n"+role+"inner\n"+c.outer)
			chain, err := set.Resolve("outer")
			if err != nil || chain.Guard.Agents.String() != c.want {
				t.Errorf("%s, %v: %q, %v", name, place, chain.Guard.Agents, err)
			}
		}
	}
	_, err := load(t, "", "", sourceSection+"[profile dev]\n"+role+"security\nagents = readonly\n").Resolve("dev")
	if !fault.Is(err, fault.Config) || !strings.Contains(err.Error(), "agents is not read-only or ask or deny") {
		t.Errorf("of a wrong value: %v", err)
	}
	_, err = load(t, "", "", sourceSection+"[profile dev]\n"+role+"security\nagents = ask\npublish = true\n").Resolve("dev")
	if !fault.Is(err, fault.Config) || !strings.Contains(err.Error(), "agents cannot have publish = true") {
		t.Errorf("published: %v", err)
	}
	set := placed(t, InDefault, corpSession+"agents = deny\n"+corpAdmin, "", "")
	if chain, err := set.Resolve("admin"); err != nil || !chain.Guard.Agents.Deny {
		t.Errorf("of an sso-session: %+v, %v", chain.Guard, err)
	}
}

// TestGuardsOfAllFiles: each file may add a guard, and none removes one of another file.
func TestGuardsOfAllFiles(t *testing.T) {
	const role = "role_arn = " + account + "a\nsource_profile = security\n"
	const strict, lenient = "read_only = true\nconfirm = always\n", "read_only = false\nconfirm = never\n"
	for name, c := range map[string]struct {
		config, credentials, registry string
		want                          Guard
		readOnly                      bool
	}{
		"only in the config":           {role + "read_only = true\n", "", "", Guard{}, true},
		"only in the credentials":      {role, "read_only = TRUE\n", "", Guard{}, true},
		"config of a registry profile": {"read_only = true\n", "", role, Guard{}, true},
		"removed by the config":        {lenient, "", role + strict, Guard{Confirm: Always}, true},
		"removed by the registry":      {strict, "", role + lenient, Guard{Confirm: Always}, true},
		"removed by the credentials":   {role + strict, lenient, "", Guard{Confirm: Always}, true},
		"off":                          {role + "read_only = false\n", "", "", Guard{}, false},
	} {
		for _, place := range []Place{InDefault, InOther} {
			section := func(header, text string) string {
				if text == "" {
					return ""
				}
				return header + "\n" + text
			}
			set := placed(t, place, section("[profile dev]", c.config), section("[dev]", c.credentials),
				sourceSection+section("[profile dev]", c.registry))
			trust, err := set.Trust("dev")
			if err != nil || trust.Chain.Guard != c.want || trust.Chain.Roles[0].ReadOnly != c.readOnly {
				t.Errorf("%s, %v: %+v, %v", name, place, trust.Chain, err)
			}
		}
	}
	for text, want := range map[string]string{"read_only = yes\n": "read_only", "read_only = true\n": ""} {
		_, err := load(t, "[profile dev]\n"+role+text, "", sourceSection).Resolve("dev")
		if want == "" && err != nil || want != "" && (!fault.Is(err, fault.Config) || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v", text, err)
		}
	}
	// A guard that can have no effect is an error and not ignored.
	_, err := load(t, "[profile security]\nread_only = true\n", "", sourceSection).Resolve("security")
	if !fault.Is(err, fault.Config) || !strings.Contains(err.Error(), "read_only needs a role_arn") {
		t.Errorf("of a source: %v", err)
	}
}

// TestGuardOfSourceInProfileSection: a guard of the section [profile NAME] of a source counts, in each file, for the
// source and for every role that is assumed from it.
func TestGuardOfSourceInProfileSection(t *testing.T) {
	const role = "[profile dev]\nrole_arn = " + account + "a\nsource_profile = security\n"
	const section = "[profile security]\nconfirm = always\nproduction = true\n"
	for name, files := range map[string][3]string{
		"config":      {role + section, "", sourceSection},
		"credentials": {role, "[security]\nconfirm = always\nproduction = true\n", sourceSection},
		"registry":    {role, "", sourceSection + section},
		"added up":    {role + "[profile security]\nconfirm = always\n", "", sourceSection + "production = true\nconfirm = never\n"},
	} {
		set := load(t, files[0], files[1], files[2])
		for _, profile := range []string{"dev", "security"} {
			if chain, err := set.Resolve(profile); err != nil || chain.Guard != (Guard{Confirm: Always, Production: true}) {
				t.Errorf("%s: %s: %+v, %v", name, profile, chain.Guard, err)
			}
		}
	}
	_, err := load(t, role+"[profile security]\nproduction = yes\n", "", sourceSection).Resolve("dev")
	if !fault.Is(err, fault.Config) || !strings.Contains(err.Error(), "production is not true or false") {
		t.Errorf("of a wrong value: %v", err)
	}
}

// TestReadOnlyNeedsAWS: a server that is not AWS's may ignore the policy of a session.
func TestReadOnlyNeedsAWS(t *testing.T) {
	source := strings.Replace(sourceSection, "\n", "\nsts_compatible = true\nendpoint_url = https://sts.example\n", 1)
	const role = "[profile dev]\nrole_arn = " + account + "a\nsource_profile = security\n"
	for _, files := range [][2]string{{"", role + "read_only = true\n"}, {role + "read_only = true\n", ""}} {
		_, err := load(t, files[0], "", source+files[1]).Resolve("dev")
		if !fault.Is(err, fault.Config) || !strings.Contains(err.Error(), "may ignore") ||
			!strings.HasPrefix(fault.Of(err).ShownHint(), "vi +") {
			t.Errorf("%v", err)
		}
	}
	if _, err := load(t, "", "", source+role+"read_only = false\n").Resolve("dev"); err != nil {
		t.Error(err)
	}
}

// TestCommandPatterns: a pattern finds its command behind wrappers and options, in a script of a shell, and nothing
// else.
func TestCommandPatterns(t *testing.T) {
	for command, want := range map[string]string{
		"terraform destroy":                           "terraform destroy",
		"/usr/bin/terraform -chdir=x destroy -auto":   "terraform destroy",
		"sudo -E terraform destroy":                   "terraform destroy",
		"terraform apply -destroy":                    "terraform apply -destroy",
		"tofu apply --destroy=true":                   "tofu apply -destroy",
		"terraform plan":                              "",
		"terraform-docs destroy":                      "",
		"destroy terraform":                           "",
		"node /usr/lib/node_modules/.bin/sls remove":  "sls remove",
		"aws ec2 --region x delete-vpc --vpc-id v":    "aws delete-*",
		"/opt/aws/bin/aws s3 rm s3://b/k --recursive": "aws s3 rm",
		"aws s3 ls":                               "",
		"aws s3 sync . s3://b --delete":           "aws s3 sync --delete",
		"aws s3 sync . s3://b":                    "",
		"terraform state rm aws_vpc.v":            "terraform state rm",
		"kubectl --context prod delete pod x":     "kubectl delete",
		"broker exec prod -- kubectl delete -f x": "kubectl delete",
		"": "",
		strings.Repeat("x ", 1<<19) + "terraform destroy": "terraform destroy",
	} {
		patterns, err := parseCommands("default")
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, p := range patterns {
			if p.Matches(strings.Fields(command)) {
				got = p.String()
				break
			}
		}
		if got != want {
			t.Errorf("%.60q matches %q, want %q", command, got, want)
		}
		script := []string{"sh", "-c", command}
		for _, p := range patterns {
			if p.String() == want && !p.Matches(script) {
				t.Errorf("a shell's %.60q does not match %q", command, want)
			}
		}
	}
	if own := (CommandPattern{"rm", "*prod*"}); !own.Matches([]string{"rm", "-rf", "infra/prod/x"}) || own.Matches([]string{"rm", "x"}) {
		t.Error("rm *prod* does not match what it should")
	}
	for text, want := range map[string]string{
		"": "empty pattern", "a,,b": "empty pattern", "rm [": "is not valid", " , ": "empty pattern",
		"defaults, terraform apply": "did you mean default?", "x, Default": "did you mean default?",
	} {
		if _, err := parseCommands(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
	if list, err := parseCommands("x, default, y z"); err != nil || len(list) != strings.Count(GuardedCommands, ",")+3 ||
		list[0].String() != "x" || list[len(list)-1].String() != "y z" {
		t.Errorf("%v, %v", list, err)
	}
}

// TestGuardedCommandsPage: docs/guards.md prints the default of guard_commands.
func TestGuardedCommandsPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/guards.md")
	if err != nil {
		t.Fatal(err)
	}
	if text := strings.Join(strings.Fields(string(page)), " "); !strings.Contains(text, "```text "+GuardedCommands+" ```") {
		t.Errorf("the page does not print %s", GuardedCommands)
	}
}

// TestGuardsOfTheUsualFiles: a shell that names other AWS files, or none, does not remove what ~/.aws says.
func TestGuardsOfTheUsualFiles(t *testing.T) {
	home := t.TempDir()
	files := Files{Registry: filepath.Join(home, "registry"), AWS: filepath.Join(home, "aws")}
	usual := filepath.Join(files.AWS, "config")
	write := func(path, text string) {
		t.Helper()
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	const role = "[profile dev]\nrole_arn = " + account + "a\nsource_profile = security\n"
	write(files.Registry, sourceSection+role)
	write(usual, "[profile dev]\nread_only = true\nconfirm = always\n")
	write(filepath.Join(home, "other"), "[profile dev]\nconfirm = never\nread_only = false\n")
	store := new(Store)
	for _, config := range []string{usual, filepath.Join(home, "other"), filepath.Join(home, "missing"), os.DevNull, ""} {
		files.Config = config
		set, err := store.Load(files)
		if err != nil {
			t.Fatal(err)
		}
		chain, err := set.Resolve("dev")
		if err != nil || chain.Guard.Confirm != Always || !chain.Roles[0].ReadOnly {
			t.Errorf("with %q: %+v, %v", config, chain, err)
		}
	}
	write(usual, "[profile security]\nproduction = true\n")
	set, err := store.Load(files)
	if err != nil {
		t.Fatal(err)
	}
	if chain, err := set.Resolve("dev"); err != nil || chain.Guard != (Guard{Confirm: First, Production: true}) {
		t.Errorf("after a change: %+v, %v", chain.Guard, err)
	}
}
