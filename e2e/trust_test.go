package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func init() { otherRoles["fake STS"] = fakeSTSRole }

// fakeSTSRole listens on loopback like an STS endpoint and records what it is sent: first its own address, then
// the body of each request.
func fakeSTSRole() int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 1
	}
	note := func(line string) {
		f, err := os.OpenFile(os.Getenv("E2E_OUT"), os.O_APPEND|os.O_WRONLY, 0)
		if err == nil {
			_, _ = fmt.Fprintln(f, line)
			_ = f.Close()
		}
	}
	note(l.Addr().String())
	_ = http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(io.LimitReader(r.Body, 1<<16))
		note(fmt.Sprintf("%s %s", body, r.Header.Get("Authorization")))
		const role = "arn:aws:sts::444455556666:assumed-role/allow-admin-from-security-account/thief"
		_, _ = fmt.Fprintf(w, `<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult>`+
			`<AssumedRoleUser><Arn>%s</Arn><AssumedRoleId>AROATHIEFTHIEFTHIEF12:thief</AssumedRoleId></AssumedRoleUser>`+
			`<Credentials><AccessKeyId>ASIATHIEFTHIEFTHIEF1</AccessKeyId>`+
			`<SecretAccessKey>thiefthiefthiefthiefthiefthiefthiefthief</SecretAccessKey><SessionToken>thief</SessionToken>`+
			`<Expiration>%s</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>`,
			role, time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
	}))
	return 0
}

// thief starts a listener of this uid. stolen returns what it was sent.
func (h *house) thief(t *testing.T, uid uint32) (url string, stolen func() string) {
	t.Helper()
	out := filepath.Join(t.TempDir(), "stolen")
	must(t, os.WriteFile(out, nil, 0o600))
	must(t, os.Chown(out, int(uid), int(uid)))
	reachable(t, filepath.Dir(out))
	cmd := other(t, uid, "fake STS", "E2E_OUT="+out)
	must(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	text := func() string {
		b, err := os.ReadFile(out)
		must(t, err)
		return string(b)
	}
	until(t, "the thief listens", func() bool { return strings.HasSuffix(text(), "\n") })
	address, _, _ := strings.Cut(text(), "\n")
	return "http://" + address, func() string {
		_, rest, _ := strings.Cut(text(), "\n")
		return rest
	}
}

// ownRegistry returns a house whose source and profile own_prod use the simulator, without a setting for all
// endpoints.
func ownRegistry(t *testing.T, withSeed bool) *house {
	t.Helper()
	h := newHouse(t)
	must(t, h.startSim())
	must(t, h.settings(""))
	must(t, h.furnish(withSeed))
	text, err := os.ReadFile(h.registry())
	must(t, err)
	must(t, h.write(h.registry(), strings.Replace(strings.Replace(string(text), "sts_endpoint = "+h.sim.url+"\n", "", 1),
		"[source security]\n", "[source security]\nendpoint_url = "+h.sim.url+"\n", 1)+`
[profile own_prod]
role_arn = `+prodRole+`
source_profile = security
endpoint_url = `+h.sim.url+"\n"))
	return h
}

// TestForeignFileSendsNothing checks that a file that AWS_CONFIG_FILE or AWS_SHARED_CREDENTIALS_FILE names, or
// that another uid could write, cannot send a signed call, a code or a session to its own endpoint.
func TestForeignFileSendsNothing(t *testing.T) {
	t.Parallel()
	needRoot(t)
	role := "role_arn = " + prodRole + "\nsource_profile = security\n"
	for _, row := range []struct {
		name     string
		config   string // content for AWS_CONFIG_FILE; URL stands for the thief's
		creds    string // content for AWS_SHARED_CREDENTIALS_FILE
		ask      string // the profile to ask for
		says     string
		code     string
		standard func(t *testing.T, h *house, config string)
	}{
		{name: "long-lived key and code", config: "[profile long]\n" + role + "duration_seconds = 7200\nendpoint_url = URL\n",
			ask: "long", says: "endpoint_url", code: "1"},
		{name: "MFA session", config: "[profile short]\n" + role + "endpoint_url = URL\n", ask: "short",
			says: "endpoint_url", code: "1"},
		{name: "services", config: "[profile svc]\n" + role + "services = s\n[services s]\nsts =\n  endpoint_url = URL\n",
			ask: "svc", says: "services", code: "1"},
		{name: "credentials file", creds: "[shared]\n" + role + "duration_seconds = 7200\nendpoint_url = URL\n",
			ask: "shared", says: "endpoint_url", code: "1"},
		{name: "own profile", config: "[profile own_prod]\nendpoint_url = URL\nservices = s\n[services s]\nsts =\n  " +
			"endpoint_url = URL\n", ask: "own_prod", code: "1"},
		{name: "chain to an own profile", config: "[profile far]\nrole_arn = " + devRole +
			"\nsource_profile = own_prod\nendpoint_url = URL\n", ask: "far", says: "endpoint_url", code: "1"},
		{name: "ca_bundle", config: "[profile own_prod]\nca_bundle = /tmp/ca.pem\n", ask: "own_prod",
			says: "ca_bundle", code: "1"},
		{name: "a role alone", config: "[profile far]\nrole_arn = " + devRole + "\nsource_profile = own_prod\n", ask: "far",
			says: "broker profiles trust far", code: "8"},
		{name: "an own profile under another name", config: "[profile staging]\ncredential_process = credproc own_prod\n",
			ask: "staging", says: "broker profiles trust staging", code: "8"},
		{name: "a default file that anyone may write", ask: "long", says: "endpoint_url", code: "1",
			standard: func(t *testing.T, h *house, config string) {
				must(t, h.write(h.awsConfig(), "[default]\nregion = eu-west-1\n"))
				must(t, os.Chmod(h.awsConfig(), 0o666))
				reachable(t, filepath.Dir(h.awsConfig()))
				asStranger(t, "cat >>"+h.awsConfig()+" <<'X'\n"+config+"X\n")
			}, config: "[profile long]\n" + role + "duration_seconds = 7200\nendpoint_url = URL\n"},
		{name: "a default file in a directory that anyone may write", ask: "long", says: "endpoint_url", code: "1",
			standard: func(t *testing.T, h *house, config string) {
				must(t, h.write(h.awsConfig(), "[default]\nregion = eu-west-1\n"))
				reachable(t, h.home)
				must(t, os.Chmod(filepath.Dir(h.awsConfig()), 0o777))
				repo := filepath.Join(h.dir, "repo")
				must(t, h.write(repo, config)) // our own file, in a repository that we cloned
				asStranger(t, "rm -f "+h.awsConfig()+"; ln -s "+repo+" "+h.awsConfig())
			}, config: "[profile long]\n" + role + "duration_seconds = 7200\nendpoint_url = URL\n"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			h := ownRegistry(t, true)
			url, stolen := h.thief(t, 65534)
			config := strings.ReplaceAll(row.config, "URL", url)
			switch {
			case row.standard != nil:
				row.standard(t, h, config)
			case row.creds != "":
				file := filepath.Join(h.dir, "awscredentials")
				must(t, h.write(file, strings.ReplaceAll(row.creds, "URL", url)))
				h.env = append(h.env, "AWS_SHARED_CREDENTIALS_FILE="+file)
			default:
				file := filepath.Join(h.dir, "awsconfig")
				must(t, h.write(file, config))
				h.env = append(h.env, "AWS_CONFIG_FILE="+file)
			}
			r := h.run("credproc", row.ask)
			if got := stolen(); got != "" {
				t.Errorf("the other uid was sent %.300s", got)
			}
			if err := checkFailure(r, row.code, "credproc", nil); err != nil {
				t.Error(err)
			}
			if !strings.Contains(r.stderr, row.says) {
				t.Errorf("it does not say %q: %v", row.says, r)
			}
		})
	}
}

// TestForeignFileRunsNothing checks that Broker runs only the registry's mfa_process.
func TestForeignFileRunsNothing(t *testing.T) {
	t.Parallel()
	needRoot(t)
	for _, name := range []string{"AWS_CONFIG_FILE", "default", "mode 0666"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := seedless(t, "")
			ran := filepath.Join(h.dir, "ran")
			config := strings.Replace(demoConfig, "source_profile = security\n",
				"source_profile = security\nmfa_process = /bin/sh "+filepath.Join(h.dir, "program")+"\n", 1)
			must(t, h.write(filepath.Join(h.dir, "program"),
				"touch "+ran+"; exec "+filepath.Join(h.bin, "stssim")+" --print-code "+serial+"\n"))
			switch name {
			case "AWS_CONFIG_FILE":
				file := filepath.Join(h.dir, "awsconfig")
				must(t, h.write(file, config))
				h.env = append(h.env, "AWS_CONFIG_FILE="+file)
			case "default":
				must(t, h.write(h.awsConfig(), config))
			default:
				must(t, h.write(h.awsConfig(), ""))
				must(t, os.Chmod(h.awsConfig(), 0o666))
				reachable(t, filepath.Dir(h.awsConfig()))
				asStranger(t, "cat >>"+h.awsConfig()+" <<'X'\n"+config+"X\n")
			}
			r := h.run("credproc", "product_prod_paul")
			if isFile(ran) {
				t.Error("the program named in the file was run")
			}
			if r.code == 0 {
				t.Errorf("without a code: %v", r)
			}
		})
	}
}

// TestForeignRegistry checks that a running daemon uses its own registry, whatever BROKER_CONFIG a client has.
func TestForeignRegistry(t *testing.T) {
	t.Parallel()
	needRoot(t)
	h := ownRegistry(t, true)
	h.credentials(t, "own_prod")
	must(t, h.stopDaemon())
	must(t, h.freshCodes())
	daemon := h.command("broker", "daemon")
	must(t, daemon.Start())
	defer func() {
		_ = daemon.Process.Signal(syscall.SIGTERM)
		_ = daemon.Wait()
	}()
	until(t, "the daemon listens", func() bool { return isSocket(h.socket()) })
	url, stolen := h.thief(t, 65534)
	file := filepath.Join(h.dir, "registry")
	must(t, h.write(file, "[settings]\nkeyring_backend = file\nsts_endpoint = "+url+"\n\n[source security]\n"+
		"access_key_id = "+keyID+"\nmfa_serial = "+serial+"\nmfa_seed = keyring\n"))
	h.env = append(h.env, "BROKER_CONFIG="+file)
	_ = h.run("credproc", "own_prod")
	_ = h.run("credproc", "security")
	// A new key is neither used there nor stored for that registry.
	must(t, h.write(h.awsCredentials(), plainKeys))
	for _, store := range [][]string{{"add", "new", "--from-env"}, {"import", "robot", "--yes"}} {
		cmd := h.command("broker", store...)
		cmd.Env = append(cmd.Env, "AWS_ACCESS_KEY_ID="+robotKeyID,
			"AWS_SECRET_ACCESS_KEY=fake/demo+secret/of+robot/fake/demo+3333")
		if r := finish(cmd); r.code != 8 || !strings.Contains(r.stderr, h.registry()) {
			t.Errorf("%q: %v", store, r)
		}
	}
	if got := stolen(); got != "" {
		t.Errorf("the other uid was sent %.300s", got)
	}
}

func isSocket(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode()&os.ModeSocket != 0
}

// localProfile is what a user of LocalStack has in ~/.aws/config.
func localProfile(url string) string {
	return "[profile local]\nrole_arn = " + prodRole + "\nsource_profile = security\nendpoint_url = " + url + "\n"
}

// TestTrustOnce checks that an endpoint in the default file takes effect after one confirmation, until any part of
// it changes. Every place where a person or an auditor looks shows it.
func TestTrustOnce(t *testing.T) {
	t.Parallel()
	h := ownRegistry(t, true)
	must(t, h.write(h.awsConfig(), localProfile(h.sim.url)))
	refused := func(when, says string) {
		t.Helper()
		r := h.run("credproc", "local")
		if err := checkFailure(r, "8", "credproc", nil); err != nil {
			t.Errorf("%s: %v", when, err)
		}
		if !strings.Contains(r.stderr, says) || !strings.Contains(r.stderr, "hint: broker profiles trust local\n") {
			t.Errorf("%s: %v", when, r)
		}
	}
	refused("before", "takes effect only once you trust it")
	if r := h.run("broker", "profiles", "trust", "local"); r.code != 8 {
		t.Errorf("without a terminal and --yes: %v", r)
	}
	out := h.ok(t, "broker", "profiles", "trust", "local", "--yes")
	for _, want := range []string{"security", prodRole, "444455556666", h.sim.url, h.awsConfig() + ":4",
		"local is trusted"} {
		if !strings.Contains(out, want) {
			t.Errorf("trust does not show %q:\n%s", want, out)
		}
	}
	h.credentials(t, "local")
	if out := h.ok(t, "broker", "explain", "local"); !strings.Contains(out, h.sim.url) {
		t.Errorf("explain:\n%s", out)
	}
	if out := h.ok(t, "broker", "status"); !strings.Contains(out, "444455556666:allow-admin-from-security-account, from "+h.sim.url) {
		t.Errorf("status:\n%s", out)
	}
	log, err := os.ReadFile(h.state("audit.log"))
	must(t, err)
	if !strings.Contains(string(log), `"sts_endpoint":"`+h.sim.url+`"`) {
		t.Errorf("the audit log does not name the endpoint:\n%s", log)
	}
	must(t, h.write(h.awsConfig(), "# a comment\n\n"+localProfile(h.sim.url)))
	h.credentials(t, "local")
	for _, change := range []string{
		localProfile(h.sim.url + "/x"), strings.Replace(localProfile(h.sim.url), prodRole, devRole, 1),
		localProfile(h.sim.url) + "duration_seconds = 7200\n", localProfile(h.sim.url) + "external_id = x1\n",
		localProfile(h.sim.url) + "services = s\n[services s]\nsts =\n  endpoint_url = " + h.sim.url + "/y\n",
	} {
		must(t, h.write(h.awsConfig(), change))
		refused(change, "changed since you trusted it")
	}
	other := strings.Replace(localProfile(h.sim.url), "local]", "other]", 1)
	must(t, h.write(h.awsConfig(), other+localProfile(h.sim.url)))
	h.credentials(t, "local")
	if r := h.run("credproc", "other"); r.code != 8 {
		t.Errorf("the trust of one profile is in effect for another: %v", r)
	}
	if out := h.ok(t, "broker", "profiles", "trust", "--list"); !strings.Contains(out, "local") ||
		strings.Contains(out, "other") {
		t.Errorf("list:\n%s", out)
	}
	h.ok(t, "broker", "profiles", "trust", "--remove", "local")
	refused("removed", "takes effect only once you trust it")
}

// TestTrustShowsWhereCallsGo checks that the prompt shows the address of each signed call, including the one with
// the code, even if the registry overrides the file's address.
func TestTrustShowsWhereCallsGo(t *testing.T) {
	t.Parallel()
	h := ownRegistry(t, true)
	file := filepath.Join(h.dir, "awsconfig")
	h.env = append(h.env, "AWS_CONFIG_FILE="+file)
	must(t, h.write(file, "[profile far]\nrole_arn = "+prodRole+"\nsource_profile = security\nregion = eu-west-1\n"))
	endpoints := func(profile string) string {
		t.Helper()
		r := h.run("broker", "profiles", "trust", profile) // prints the endpoints, prompts, and fails without a terminal
		if r.code != 8 {
			t.Fatalf("%s: %v", profile, r)
		}
		var list []string
		for line := range strings.Lines(r.stdout) {
			if where, ok := strings.CutPrefix(line, "  endpoint"); ok {
				list = append(list, strings.TrimSpace(where))
			}
		}
		return strings.Join(list, "; ")
	}
	if got, want := endpoints("far"), h.sim.url+"; STS of eu-west-1"; got != want {
		t.Errorf("the endpoints are %q, want %q", got, want)
	}
	h.ok(t, "broker", "config", "set", "sts_endpoint", h.sim.url+"/all")
	for _, profile := range []string{"far", "local"} {
		must(t, h.write(h.awsConfig(), localProfile(h.sim.url)))
		if profile == "local" {
			h.env = append(h.env, "AWS_CONFIG_FILE=")
		}
		line := h.sim.url + "/all, by sts_endpoint in " + h.registry() + ":"
		if got := endpoints(profile); strings.Count(got, line) != 2 || strings.Contains(got, "STS of") {
			t.Errorf("%s: the endpoints are %q, want %s… twice", profile, got, line)
		}
	}
}

// TestOwnFilesCount checks that typical files of one's own need no confirmation: a home with umask 002, dotfiles
// behind a link, and a config that AWS_CONFIG_FILE names, too.
func TestOwnFilesCount(t *testing.T) {
	t.Parallel()
	for name, prepare := range map[string]func(t *testing.T, h *house){
		"umask 002": func(t *testing.T, h *house) {
			for _, path := range []string{h.home, filepath.Dir(h.awsConfig()), h.awsConfig(), filepath.Dir(h.registry()),
				h.registry()} {
				info, err := os.Stat(path)
				must(t, err)
				must(t, os.Chmod(path, info.Mode().Perm()|0o020))
			}
		},
		"dotfiles": func(t *testing.T, h *house) {
			target := filepath.Join(h.home, "src/dotfiles/aws.ini")
			must(t, os.MkdirAll(filepath.Dir(target), 0o755))
			must(t, os.Rename(h.awsConfig(), target))
			must(t, os.Symlink("../src/dotfiles/aws.ini", h.awsConfig()))
		},
		"AWS_CONFIG_FILE and a link": func(t *testing.T, h *house) {
			target := filepath.Join(h.home, ".config/aws/config")
			must(t, os.MkdirAll(filepath.Dir(target), 0o755))
			must(t, os.Rename(h.awsConfig(), target))
			must(t, os.Symlink(target, h.awsConfig()))
			h.env = append(h.env, "AWS_CONFIG_FILE="+target)
		},
		"AWS_CONFIG_FILE and broker profiles link": func(t *testing.T, h *house) {
			target := filepath.Join(h.home, ".config/aws/config")
			must(t, os.MkdirAll(filepath.Dir(target), 0o755))
			must(t, os.Rename(h.awsConfig(), target))
			h.env = append(h.env, "AWS_CONFIG_FILE="+target)
			if r := h.run("credproc", "product_prod_paul"); r.code != 8 {
				t.Errorf("before it is linked: %v", r)
			}
			if r := h.run("broker", "profiles", "link", "--all"); r.code != 8 ||
				!strings.Contains(r.stdout, target+":2: role_arn = "+prodRole) {
				t.Errorf("link without a confirmation: %v", r)
			}
			h.ok(t, "broker", "profiles", "link", "--all", "--yes")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := demo(t)
			prepare(t, h)
			r := h.run("broker", "export", "product_prod_paul", "--format", "json")
			if r.code != 0 || strings.Contains(r.stderr, "warning") {
				t.Error(r)
			}
			h.credentials(t, "product_dev_paul")
		})
	}
}

// TestLinkTakesOver checks that link asks before it makes an mfa_process take effect, shows it in a dry run, and
// writes the program's absolute path.
func TestLinkTakesOver(t *testing.T) {
	t.Parallel()
	h := seedless(t, "")
	program := filepath.Join(h.bin, "device")
	must(t, os.WriteFile(program, []byte("#!/bin/sh\nexec "+filepath.Join(h.bin, "stssim")+" --print-code "+serial+"\n"),
		0o755))
	must(t, h.write(h.awsConfig(), strings.Replace(demoConfig, "source_profile = security\n",
		"source_profile = security\nmfa_process = device -s aws\n", 1)))
	r := h.run("credproc", "product_prod_paul")
	if r.code != 4 || !strings.Contains(r.stderr, h.awsConfig()+":4: mfa_process has no effect here") ||
		!strings.Contains(r.stderr, "broker profiles link product_prod_paul") {
		t.Errorf("before: %v", r)
	}
	if r := h.run("broker", "profiles", "link", "product_prod_paul"); r.code != 8 ||
		!strings.Contains(r.stdout, "mfa_process = device -s aws") {
		t.Errorf("without a confirmation: %v", r)
	}
	if r := h.run("broker", "profiles", "link", "--dry-run", "product_prod_paul"); r.code != 0 ||
		!strings.Contains(r.stdout, "+mfa_process = "+program+" -s aws") {
		t.Errorf("dry run: %v", r)
	}
	h.ok(t, "broker", "profiles", "link", "--yes", "product_prod_paul")
	h.credentials(t, "product_prod_paul")
	h.ok(t, "broker", "profiles", "unlink", "product_prod_paul")
	if text, err := os.ReadFile(h.awsConfig()); err != nil ||
		!strings.Contains(string(text), "mfa_process = device -s aws\n") {
		t.Errorf("unlink: %v\n%s", err, text)
	}
}

// TestTrustWithinACommand checks that inside exec --mode file, whose AWS files are copies, every profile has the
// same trust as outside.
func TestTrustWithinACommand(t *testing.T) {
	t.Parallel()
	h := demo(t)
	h.ok(t, "broker", "exec", "--mode", "file", "product_prod_paul", "--", "sh", "-ec",
		"broker explain product_dev_paul; broker explain product_prod_paul; credproc product_dev_paul >/dev/null")
}
