package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// diagnosis is what `broker doctor --json` prints.
type diagnosis struct {
	Errors   int
	Warnings int
	Findings []struct{ Group, Level, Text, Command string }
}

// find returns the level and the command of the first error or warning that matches.
func (d diagnosis) find(text string) (level, command string, found bool) {
	match := regexp.MustCompile(text)
	for _, f := range d.Findings {
		if f.Level != "ok" && match.MatchString(f.Text) {
			return f.Level, f.Command, true
		}
	}
	return "", "", false
}

func parseDiagnosis(t *testing.T, r result) (d diagnosis) {
	t.Helper()
	must(t, examine(r))
	if err := json.Unmarshal([]byte(r.stdout), &d); err != nil {
		t.Fatalf("broker doctor --json: %v: %v", err, r)
	}
	if want := min(d.Errors, 1); r.code != want {
		t.Errorf("exit code %d with %d errors", r.code, d.Errors)
	}
	return d
}

// ailment is one thing that can be wrong.
type ailment struct {
	name  string
	text  string // regular expression for the finding
	level string
	env   []string // of the shell
	// deep runs doctor with --deep.
	deep    bool
	provoke func()
	// typed is what a person types at the prompts of the command; without it there is no terminal.
	typed string
	again bool // the command may have to be repeated: Broker remembers a refusal for some seconds
	clock bool // the command sets the clock, which AWS's next answer shows
}

// TestDoctorMendsLong provokes each finding, runs the command that doctor prints for it in the same shell, and sees the
// finding gone. Some commands are those of others: `vi` removes the line that it is sent to, as a person would, and
// `timedatectl` sets the clock.
func TestDoctorMendsLong(t *testing.T) {
	t.Parallel()
	h := demo(t)
	script := func(name, text string) {
		must(t, os.WriteFile(filepath.Join(h.bin, name), []byte("#!/bin/sh\n"+text+"\n"), 0o755))
	}
	other := otherBuild(t, "new1234")
	script("vi", `exec sed -i "${1#+}d" "$2"`)
	script("sudo", `exec "$@"`)
	script("timedatectl", `rm "`+h.dir+`/clock-is-wrong"`)
	script("systemctl", `case "$*" in *show-environment) exit 0 ;; *is-active*) cat "`+h.dir+`/active" ;; *restart*) echo active >"`+h.dir+`/active" ;; esac`)
	must(t, os.WriteFile(filepath.Join(h.dir, "active"), []byte("active\n"), 0o600))
	h.ok(t, "broker", "profiles", "link", "--all")
	appendTo := func(path, text string) {
		src, err := os.ReadFile(path)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		must(t, os.WriteFile(path, append(src, text...), 0o600))
	}
	replaceIn := func(path, from, to string) {
		src, err := os.ReadFile(path)
		must(t, err)
		if !strings.Contains(string(src), from) {
			t.Fatalf("%s has no %q", path, from)
		}
		must(t, os.WriteFile(path, []byte(strings.Replace(string(src), from, to, 1)), 0o600))
	}
	chmod := func(path string, mode os.FileMode) func() { return func() { must(t, os.Chmod(path, mode)) } }
	unit := func(name string) string { return filepath.Join(h.home, ".config/systemd/user", name) }
	history := filepath.Join(h.home, ".bash_history")
	dotenv := filepath.Join(h.home, "src/app/.env")
	certificate, err := os.ReadFile(startProxy(t, h.dir).ca)
	must(t, err)
	otherCA := filepath.Join(h.dir, "other-ca.pem")
	must(t, os.WriteFile(otherCA, certificate, 0o600))
	words := filepath.Join(h.home, ".config/broker/passphrase")
	ca := filepath.Join(h.home, ".config/broker/ca.pem")
	otherHelper := filepath.Join(h.dir, "old/credproc")

	for _, a := range []ailment{
		{name: "an unknown key in the registry", level: "error", text: `unknown key "lock_aftr"`,
			provoke: func() { replaceIn(h.registry(), "[settings]\n", "[settings]\nlock_aftr = 8h\n") }},
		{name: "a bad value in the settings", level: "error", text: `lock_after`,
			provoke: func() { replaceIn(h.registry(), "[settings]\n", "[settings]\nlock_after = never ever\n") }},
		{name: "a line that is no setting", level: "warning", text: `\.aws/config:\d+: this line`,
			provoke: func() { appendTo(h.awsConfig(), "hello\n") }},
		{name: "a registry that others can change", level: "error", text: `can be written by others \(mode 0666\)`,
			provoke: chmod(h.registry(), 0o666)},
		{name: "an AWS file that others can change", level: "error", text: `config can be written by others`,
			provoke: chmod(h.awsConfig(), 0o666)},
		{name: "a directory that others can change", level: "error", text: `\.aws can be written by others`,
			provoke: chmod(filepath.Dir(h.awsConfig()), 0o777)},
		{name: "a state directory that others can change", level: "error", text: `state/broker .*mode 0777`,
			provoke: chmod(h.state("."), 0o777)},
		{name: "a directory of the socket that is open", level: "error", text: `run .*mode 0755`,
			provoke: func() { must(t, os.MkdirAll(filepath.Dir(h.socket()), 0o755)) }},
		{name: "a keyring directory that is open", level: "error", text: `keyring .*mode 0755`,
			provoke: chmod(h.keyring(), 0o755)},
		{name: "a passphrase that others can read", level: "error", text: `passphrase holds a secret, and others can read it`,
			env: []string{"BROKER_KEYRING_PASSPHRASE_FILE=" + words}, provoke: func() {
				must(t, os.WriteFile(words, []byte(passphrase+"\n"), 0o600))
				chmod(words, 0o644)()
			}},
		{name: "damaged records of link", level: "error", text: `linked\.json is damaged`,
			provoke: func() { must(t, os.WriteFile(h.state("linked.json"), []byte("x"), 0o600)) }},
		{name: "CAs that others can change", level: "error", text: `because of ca_bundle`, provoke: func() {
			must(t, os.WriteFile(ca, certificate, 0o600))
			h.ok(t, "broker", "config", "set", "ca_bundle", ca)
			must(t, os.Chmod(ca, 0o666))
		}},
		{name: "a CA file without a certificate", level: "error", text: `because of ca_bundle`,
			provoke: func() { must(t, os.WriteFile(ca, nil, 0o600)) }},

		{name: "a key in an AWS file", level: "error", text: `key …E333 of profile robot is in plain text`,
			provoke: func() {
				appendTo(h.awsCredentials(), "[robot]\naws_access_key_id = "+robotKeyID+"\naws_secret_access_key = "+robotSecret+"\n")
			}},
		{name: "a key in [default]", level: "error", text: `of profile default .*each tool that names no profile uses it`,
			provoke: func() {
				appendTo(h.awsCredentials(), "[default]\naws_access_key_id = "+robotKeyID+"\naws_secret_access_key = "+robotSecret+"\n")
			}},
		{name: "a key that others can read", level: "error", text: `credentials holds a secret, and others can read it`,
			provoke: func() {
				appendTo(h.awsCredentials(), "[other]\naws_access_key_id = ASIADEMOPAULFAKE3333\naws_secret_access_key = x\naws_session_token = x\n")
				chmod(h.awsCredentials(), 0o644)()
			}},
		{name: "a key in the environment", level: "error", text: `this shell has the long-lived key …E333`,
			env: []string{"AWS_ACCESS_KEY_ID=" + robotKeyID, "AWS_SECRET_ACCESS_KEY=" + robotSecret}},
		{name: "a session in the environment", level: "warning", text: `this shell has a session`,
			env: []string{"AWS_ACCESS_KEY_ID=ASIADEMOPAULFAKE3333", "AWS_SECRET_ACCESS_KEY=x", "AWS_SESSION_TOKEN=x"}},
		{name: "a profile in the environment that is gone", level: "warning", text: `AWS_PROFILE of this shell names the profile "gone"`,
			env: []string{"AWS_PROFILE=gone"}},
		{name: "an endpoint in the environment", level: "warning", text: `AWS_ENDPOINT_URL of this shell`,
			env: []string{"AWS_ENDPOINT_URL=http://127.0.0.1:9"}},
		{name: "a route of the shell", level: "warning", text: `your shell has NO_PROXY=example\.com`,
			env: []string{"NO_PROXY=example.com"}},
		{name: "a source without a device", level: "warning", text: `source "plain" has no MFA device`,
			provoke: func() {
				appendTo(h.registry(), "[source plain]\naccess_key_id = AKIADEMOPAULFAKE3333\n")
				appendTo(h.awsConfig(), "[profile plain-role]\nrole_arn = "+devRole+"\nsource_profile = plain\n"+
					"mfa_serial = arn:aws:iam::111122223333:mfa/plain\n")
			}},
		{name: "a key in the history of a shell", level: "error", deep: true, text: `\.bash_history has the secret of a key in line 2`,
			provoke: func() {
				appendTo(history, "ls\nexport AWS_SECRET_ACCESS_KEY="+keySecret+"\nexport AWS_ACCESS_KEY_ID="+keyID+"\nls -l\n")
			}},
		{name: "a key in a .env file", level: "error", deep: true, text: `\.env has the secret of a key`,
			provoke: func() {
				appendTo(dotenv, "A=1\nAWS_ACCESS_KEY_ID="+keyID+"\nAWS_SECRET_ACCESS_KEY=\""+keySecret+"\"\nB=2\n")
			}},

		{name: "a profile with a bad value", level: "error", text: `^long: .*duration_seconds`, provoke: func() {
			appendTo(h.registry(), "[profile long]\nrole_arn = "+devRole+"\nsource_profile = security\nduration_seconds = 1\n")
		}},
		{name: "an alias of nothing", level: "warning", text: `alias "x" stands for "nosuch"`,
			provoke: func() { appendTo(h.registry(), "[alias]\nx = nosuch\n") }},
		{name: "a helper that is gone", level: "error", text: `AWS tools run .*old/credproc, which cannot be run`,
			provoke: func() { replaceIn(h.awsConfig(), filepath.Join(h.bin, "credproc"), otherHelper) }},
		{name: "a helper of another Broker", level: "error", text: `AWS tools run .*old/credproc, which is not `,
			provoke: func() {
				must(t, os.MkdirAll(filepath.Dir(otherHelper), 0o755))
				must(t, os.WriteFile(otherHelper, []byte("#!/bin/sh\n"), 0o755))
				replaceIn(h.awsConfig(), filepath.Join(h.bin, "credproc"), otherHelper)
			}},
		{name: "a session that shadows a profile", level: "error", text: `product_prod_paul: .*uses the keys at .*credentials:\d+ instead`,
			provoke: func() {
				must(t, os.WriteFile(h.awsCredentials(), []byte("[product_prod_paul]\naws_access_key_id = ASIADEMOPAULFAKE3333\n"+
					"aws_secret_access_key = x\naws_session_token = x\n"), 0o600))
			}},
		{name: "a role that shadows a helper", level: "error", text: `product_prod_paul: AWS CLI.*reads the role_arn first`,
			provoke: func() {
				must(t, os.Remove(h.awsCredentials()))
				replaceIn(h.awsConfig(), "[profile product_prod_paul]\n", "[profile product_prod_paul]\nrole_arn = "+prodRole+"\nsource_profile = nosuch\n")
			}},
		{name: "a comment behind a helper", level: "error", text: `product_prod_paul: AWS CLI.*passes the comment`,
			provoke: func() {
				replaceIn(h.awsConfig(), "credproc product_prod_paul\n", "credproc product_prod_paul # of Broker\n")
			}},
		{name: "a role that was denied", level: "warning", again: true, text: `product_dev_paul: .*AWS denied it`,
			provoke: func() {
				h.ok(t, "broker", "logout")
				must(t, h.sim.fault(`{"kind":"error","action":"AssumeRole","code":"AccessDenied","message":"no","status":403,"times":1}`))
				if r := h.run("credproc", "product_dev_paul"); r.code != 6 {
					t.Fatal(r)
				}
			}},

		{name: "a rotation that has stopped", level: "error", text: `rotation of the key of source "security" has stopped`,
			provoke: func() {
				must(t, h.sim.fault(`{"kind":"error","action":"UpdateAccessKey","code":"AccessDenied","message":"no","status":403,"skip":1,"times":1}`))
				if r := h.run("broker", "rotate", "security", "--grace", "0"); r.code == 0 {
					t.Fatal(r)
				}
			}},
		{name: "an old key", level: "warning", text: `the key of source "security" is \d+ days old \(max_age = 90d\)`,
			provoke: func() {
				h.ok(t, "broker", "config", "set", "max_age", "90d")
				src, err := os.ReadFile(h.registry())
				must(t, err)
				src = regexp.MustCompile(`key_created = .*`).ReplaceAll(src, []byte("key_created = 2020-01-01"))
				must(t, h.write(h.registry(), string(src)))
			}},
		{name: "no audit log", level: "error", text: `the daemon runs, and there is no audit log`, provoke: func() {
			for _, name := range []string{"audit.log", "audit.head"} {
				must(t, os.Remove(h.state(name)))
			}
		}},
		{name: "a daemon of another version", level: "error", text: `the daemon has version new1234`,
			provoke: func() {
				must(t, h.stopDaemon())
				own := filepath.Join(h.bin, "brokerd")
				must(t, os.Remove(own))
				must(t, os.Symlink(filepath.Join(other, "brokerd"), own))
				h.ok(t, "broker", "logout")
				must(t, os.Remove(own))
				must(t, linkOrCopy(filepath.Join(binaries, "brokerd"), own))
			}},
		{name: "a clock that is an hour off", level: "error", text: `the clock of this machine is 1h behind AWS's`,
			provoke: func() {
				must(t, os.WriteFile(filepath.Join(h.dir, "clock-is-wrong"), nil, 0o600))
				must(t, h.sim.post("clock", `{"offset_seconds":3600}`))
				h.ok(t, "broker", "logout")
				must(t, h.freshCodes())
				h.credentials(t, "product_dev_paul")
			}, clock: true},
		{name: "a locked keyring", level: "warning", text: `file is locked`, typed: passphrase, provoke: func() {
			must(t, h.stopDaemon())
			h.env = slices.DeleteFunc(slices.Clone(h.env), func(kv string) bool { return strings.HasPrefix(kv, "BROKER_KEYRING_PASSPHRASE_FILE=") })
		}},
		{name: "a damaged lock", level: "error", text: `lock\.json`, provoke: func() {
			must(t, h.stopDaemon())
			must(t, os.WriteFile(h.state("lock.json"), []byte("x"), 0o600))
		}},

		{name: "a service in part", level: "error", text: `installed in part`, provoke: func() {
			h.ok(t, "broker", "service", "install")
			must(t, os.Remove(unit("broker.socket")))
		}},
		{name: "a service whose program is gone", level: "error", text: `the service starts .*/gone, which does not exist`,
			provoke: func() { replaceIn(unit("broker.service"), "/bin/brokerd\"", "/bin/gone\"") }},
		{name: "a socket that does not listen", level: "warning", text: `the socket of the service is failed`,
			provoke: func() { must(t, os.WriteFile(filepath.Join(h.dir, "active"), []byte("failed\n"), 0o600)) }},
	} {
		ok := t.Run(a.name, func(t *testing.T) {
			flags := ""
			if a.deep {
				flags = " --deep"
			}
			see := func(command string) diagnosis {
				return parseDiagnosis(t, h.in(a.env, "sh", "-c", command+"\nexec broker doctor --json"+flags))
			}
			if a.env == nil {
				if _, _, found := see("").find(a.text); found {
					t.Fatal("the finding is there before it is provoked")
				}
			}
			if a.provoke != nil {
				a.provoke()
			}
			d := see("")
			level, command, found := d.find(a.text)
			if !found || level != a.level || command == "" {
				t.Fatalf("want the %s %q; got level %q, command %q, of %+v", a.level, a.text, level, command, d)
			}
			t.Logf("$ %s", command)
			command = strings.NewReplacer(" VALUE", " 8h", " FILE", " "+otherCA).Replace(command)
			if a.typed != "" {
				s := h.shell(t, "sh", "-c", command)
				s.waits(": ")
				s.types(a.typed)
				s.ends()
				command = ""
			}
			if a.clock {
				if r := h.in(nil, "sh", "-c", command); r.code != 0 {
					t.Fatal(r)
				}
				if isFile(filepath.Join(h.dir, "clock-is-wrong")) {
					t.Fatalf("%s does not set the clock", command)
				}
				must(t, h.sim.post("clock", `{"offset_seconds":0}`))
				h.ok(t, "broker", "logout")
				must(t, h.freshCodes())
				h.credentials(t, "product_dev_paul")
				command = ""
			}
			if a.again {
				until(t, command, func() bool { return h.in(nil, "sh", "-c", command).code == 0 })
			}
			d = see(command + " >&2")
			if _, _, found := d.find(a.text); found {
				t.Errorf("%s did not mend it: %+v", command, d)
			}
		})
		if !ok {
			break // the next one needs a house in order
		}
	}
}
