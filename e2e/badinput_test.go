package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestBadInput checks bad input: each row has its exit code, one line with a hint, nothing on stdout and no
// secret, and the daemon keeps running.
func TestBadInput(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", 120<<10) // the longest argument that Linux allows
	rows := []struct {
		name string
		prep func(t *testing.T, h *house) // prepares a house of its own, which has a key and a seed
		args []string                     // default: credproc product_prod_paul
		code string
		says string
	}{
		{name: "unknown profile", args: []string{"credproc", "nobody"}, code: "3", says: `"nobody"`},
		{name: "empty name", args: []string{"credproc", ""}, code: "2", says: "empty"},
		{name: "empty name, exec", args: []string{"broker", "exec", "", "--", "env"}, code: "2"},
		{name: "huge name", args: []string{"credproc", long}, code: "2"},
		{name: "huge name, exec", args: []string{"broker", "exec", long, "--", "env"}, code: "2"},
		{name: "huge name, explain", args: []string{"broker", "explain", long}, code: "2"},
		{name: "newline", args: []string{"credproc", "prod\nuct"}, code: "2"},
		{name: "escape", args: []string{"credproc", "\x1b[2Jprod"}, code: "2"},
		{name: "not utf-8", args: []string{"credproc", "\xff\xfe"}, code: "3"},
		{name: "path", args: []string{"credproc", "../../etc/passwd"}, code: "3"},
		{name: "shell", args: []string{"credproc", "$(touch hacked)"}, code: "3"},
		{name: "source with a newline", args: []string{"broker", "add", "a\nb", "--from-env"}, code: "2"},
		{name: "login of a name with an escape", args: []string{"broker", "login", "\x1b]0;x\x07"}, code: "2"},
		{name: "logout of an unknown name", args: []string{"broker", "logout", "no\nbody"}, code: "2"},

		{name: "no AWS files", prep: func(t *testing.T, h *house) { must(t, os.RemoveAll(filepath.Join(h.home, ".aws"))) }, code: "3"},
		{name: "config is a directory", prep: func(t *testing.T, h *house) {
			must(t, os.Remove(h.awsConfig()))
			must(t, os.Mkdir(h.awsConfig(), 0o755))
		}, code: "1", says: "is not a file but a directory"},
		{name: "config is a fifo", prep: func(t *testing.T, h *house) {
			must(t, os.Remove(h.awsConfig()))
			must(t, syscall.Mkfifo(h.awsConfig(), 0o600))
		}, code: "1", says: "is not a file but a fifo"},
		{name: "config is a device", prep: func(t *testing.T, h *house) {
			must(t, os.Remove(h.awsConfig()))
			must(t, os.Symlink("/dev/zero", h.awsConfig()))
		}, code: "1", says: "is not a file but a device"},
		{name: "config is a link to itself", prep: func(t *testing.T, h *house) {
			must(t, os.Remove(h.awsConfig()))
			must(t, os.Symlink("config", h.awsConfig()))
		}, code: "1", says: "cannot be read"},
		{name: "config is binary", prep: func(t *testing.T, h *house) {
			data, err := os.ReadFile(filepath.Join(h.bin, "credproc"))
			must(t, err)
			must(t, h.write(h.awsConfig(), string(data)))
		}, code: "1", says: "config:1: this line "},
		{name: "config of 50 MB", prep: func(t *testing.T, h *house) {
			must(t, h.write(h.awsConfig(), demoConfig+strings.Repeat("# "+strings.Repeat("x", 1022)+"\n", 50<<10)))
		}, code: "1", says: "MB"},
		{name: "a line of 1 MB", prep: func(t *testing.T, h *house) {
			must(t, h.write(h.awsConfig(), "[profile product_prod_paul]\nrole_arn = "+strings.Repeat("x", 1<<20)+"\nsource_profile = security\n"))
		}, code: "1", says: "config:2: "},
		{name: "registry is a directory", prep: func(t *testing.T, h *house) {
			must(t, os.Remove(h.registry()))
			must(t, os.Mkdir(h.registry(), 0o755))
		}, code: "1", says: "is not a file but a directory"},
		{name: "registry that others may write", prep: func(t *testing.T, h *house) {
			must(t, os.Chmod(h.registry(), 0o666))
		}, code: "1", says: "can be written by others"},
		{name: "number that is invalid", prep: edit("source_profile = security", "source_profile = security\nduration_seconds = abc"), code: "1", says: "config:4: duration_seconds"},

		{name: "wrong secret", prep: func(t *testing.T, h *house) {
			h.ok(t, "broker", "remove", "security", "--yes")
			storeKey(t, h, keyID, "wrong/"+keySecret[6:])
		}, code: "6", says: "secret of access key …2222 is wrong"},
		{name: "deleted key", prep: func(t *testing.T, h *house) {
			must(t, h.sim.post("keys/disable", `{"access_key_id":"`+keyID+`"}`))
		}, code: "6", says: "does not know access key …2222"},
		{name: "wrong seed", prep: func(t *testing.T, h *house) {
			if r := h.runWith("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "broker", "mfa", "set", "security", "--seed-stdin"); r.code != 0 {
				t.Fatal(r)
			}
		}, code: "4", says: "MFA code"},
		{name: "wrong serial", prep: func(t *testing.T, h *house) {
			if r := h.runWith(seed, "broker", "mfa", "set", "security", "--seed-stdin", "--serial", serial+"x"); r.code != 0 {
				t.Fatal(r)
			}
		}, code: "4", says: "MFA device"},
		{name: "denied role", prep: edit("allow-admin-from", "nobody-trusts"), code: "6", says: "AWS denied it"},

		{name: "no daemon, and no program to start one", prep: func(t *testing.T, h *house) {
			// credproc starts the brokerd next to it, or else the one on the PATH.
			brokerd := filepath.Join(h.bin, "brokerd")
			must(t, os.Rename(brokerd, brokerd+".away"))
			t.Cleanup(func() { must(t, os.Rename(brokerd+".away", brokerd)) })
			h.env = append(h.env, "PATH=/nowhere")
		}, code: "5", says: "nor on the PATH of the daemon"},
		{name: "a daemon that cannot start", prep: func(t *testing.T, h *house) {
			must(t, os.WriteFile(filepath.Join(h.dir, "file"), nil, 0o600))
			h.env = append(h.env, "BROKER_STATE_DIR="+filepath.Join(h.dir, "file"), "BROKER_RUNTIME_DIR="+filepath.Join(h.dir, "run"))
		}, code: "5", says: "cannot start the daemon: "},
		{name: "runtime directory that is open to others", prep: func(t *testing.T, h *house) {
			must(t, os.Mkdir(filepath.Join(h.dir, "run"), 0o777))
			must(t, os.Chmod(filepath.Join(h.dir, "run"), 0o777))
			h.env = append(h.env, "BROKER_RUNTIME_DIR="+filepath.Join(h.dir, "run"))
		}, code: "5", says: "can be written by others"},

		{name: "keyring locked", prep: func(t *testing.T, h *house) {
			must(t, os.WriteFile(filepath.Join(h.dir, "passphrase"), []byte("not the passphrase\n"), 0o600))
		}, code: "7", says: "passphrase"},
		{name: "keyring without a passphrase", prep: func(t *testing.T, h *house) {
			h.env = append(h.env, "BROKER_KEYRING_PASSPHRASE_FILE=")
		}, code: "7", says: "passphrase"},
		{name: "passphrase file open to others", prep: func(t *testing.T, h *house) {
			must(t, os.Chmod(filepath.Join(h.dir, "passphrase"), 0o644))
		}, code: "1", says: "is open to others"},
		{name: "keyring absent", prep: func(t *testing.T, h *house) {
			h.env = append(h.env, "DBUS_SESSION_BUS_ADDRESS=unix:path="+h.dir+"/nowhere")
			registry("keyring_backend = file", "keyring_backend = secret-service")(t, h)
		}, code: "1", says: "no session bus for the keyring secret-service"},
		{name: "keyring unknown", prep: registry("keyring_backend = file", "keyring_backend = shoebox"), code: "1", says: "shoebox"},
		{name: "keyring gone", prep: func(t *testing.T, h *house) {
			must(t, os.RemoveAll(filepath.Join(h.home, ".local/share/broker/keyring")))
		}, code: "3", says: "there is no file keyring in"},

		{name: "garbage for a role", prep: faulty(`{"kind":"garbage","action":"AssumeRole"}`), code: "1", says: "not an answer of STS"},
		{name: "empty 200 for a role", prep: faulty(`{"kind":"empty","action":"AssumeRole"}`), code: "1", says: "answered 200 with nothing"},
		{name: "web page for a role", prep: faulty(`{"kind":"status","status":200,"body":"<html>hotel</html>","action":"AssumeRole"}`), code: "1", says: "captive portal"},
		{name: "huge answer for a role", prep: faulty(`{"kind":"huge","action":"AssumeRole"}`), code: "1", says: "1 MiB"},
		{name: "half an answer for a role", prep: faulty(`{"kind":"missing","fields":["SessionToken"],"action":"AssumeRole"}`), code: "1", says: "SessionToken"},
		{name: "STS down", prep: func(t *testing.T, h *house) { must(t, h.sim.stop()) }, code: "1", says: "cannot reach"},
		{name: "plain http to another machine", prep: registry("sts_endpoint = http://127.0.0.1", "sts_endpoint = http://192.0.2.1"), code: "1", says: "sts_endpoint"},
	}
	shared := demo(t)
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			h := shared
			if row.prep != nil {
				h = demo(t)
				row.prep(t, h)
			}
			args := row.args
			if args == nil {
				args = []string{"credproc", "product_prod_paul"}
			}
			r := h.run(args[0], args[1:]...)
			if err := checkFailure(r, row.code, args[0], args[1:]); err != nil {
				t.Error(err)
			}
			if len(r.stderr) > 2000 {
				t.Errorf("%d bytes on stderr", len(r.stderr))
			}
			if !strings.Contains(r.stderr, row.says) {
				t.Errorf("stderr does not say %q: %s", row.says, r.stderr)
			}
			if err := examine(r); err != nil {
				t.Error(err)
			}
			if code := h.run("broker", "status").code; row.code != "5" && code != 0 && code != 5 {
				t.Errorf("broker status exits with %d afterwards", code)
			}
		})
	}
}

func edit(from, to string) func(*testing.T, *house) {
	return func(t *testing.T, h *house) {
		must(t, h.write(h.awsConfig(), strings.ReplaceAll(demoConfig, from, to)))
	}
}

func registry(from, to string) func(*testing.T, *house) {
	return func(t *testing.T, h *house) {
		text, err := os.ReadFile(h.registry())
		must(t, err)
		must(t, h.write(h.registry(), strings.Replace(string(text), from, to, 1)))
	}
}

func faulty(fault string) func(*testing.T, *house) {
	return func(t *testing.T, h *house) { must(t, h.sim.fault(fault)) }
}

func storeKey(t *testing.T, h *house, id, secret string) {
	t.Helper()
	if r := h.runWith(fmt.Sprintf(`{"AccessKeyId":%q,"SecretAccessKey":%q}`, id, secret), "broker", "add", "security", "--stdin", "--no-verify", "--mfa-serial", serial); r.code != 0 {
		t.Fatal(r)
	}
	if r := h.runWith(seed, "broker", "mfa", "set", "security", "--seed-stdin"); r.code != 0 {
		t.Fatal(r)
	}
}

// TestBadWire sends requests to the daemon's socket that Broker's clients would never send.
func TestBadWire(t *testing.T) {
	t.Parallel()
	h := demo(t)
	h.credentials(t, "product_prod_paul")
	name := func(s string) string {
		b, err := json.Marshal(map[string]any{"v": 1, "verb": "get", "profile": s})
		must(t, err)
		return string(b)
	}
	rows := []struct{ name, line, kind string }{
		{"a name of 1 MB", name(strings.Repeat("a", 1<<20)), "usage"},
		{"a name of 60 KB", name(strings.Repeat("a", 60<<10)), "usage"},
		{"NUL", name("a\x00b"), "usage"},
		{"newline", name("a\nb"), "usage"},
		{"escape", name("\x1b[31ma"), "usage"},
		{"empty", name(""), "usage"},
		{"no JSON", "hello", "usage"},
		{"nothing", "", "usage"},
		{"a list", "[1,2,3]", "usage"},
		{"deep", strings.Repeat("[", 30000), "usage"},
		{"an unknown verb", `{"v":1,"verb":"give-me-the-key"}`, "usage"},
		{"no verb", `{"v":1}`, "usage"},
		{"another version", `{"v":99,"verb":"get","profile":"product_prod_paul"}`, "failed"},
		{"an invalid code", `{"v":1,"verb":"login","profile":"security","code":"123 456; DROP"}`, ""},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			conn, err := net.Dial("unix", h.socket())
			must(t, err)
			defer func() { _ = conn.Close() }()
			_ = conn.SetDeadline(time.Now().Add(patience))
			// The daemon may refuse before all of the request is written.
			_, _ = conn.Write([]byte(row.line + "\n"))
			answer, err := bufio.NewReader(conn).ReadString('\n')
			if err != nil {
				// The daemon closed the connection while the test was still writing. The answer may be lost only
				// if the line is too long.
				if len(row.line) < 64<<10 {
					t.Fatalf("no answer: %v", err)
				}
				return
			}
			var a struct {
				Error      *struct{ Kind, Message string }
				Credential any
			}
			must(t, json.Unmarshal([]byte(answer), &a))
			if a.Error == nil && row.kind != "" || a.Credential != nil ||
				a.Error != nil && row.kind != "" && a.Error.Kind != row.kind {
				t.Errorf("answered with %.300s", answer)
			}
			if bytes.ContainsAny([]byte(answer), "\x1b\x00") {
				t.Errorf("a control character came back: %.300q", answer)
			}
		})
	}
	h.credentials(t, "product_prod_paul")
	h.counted(t, "AssumeRole", 1)
}

// TestNoHome checks that without HOME the programs print one line that says so.
func TestNoHome(t *testing.T) {
	h := newHouse(t)
	for _, name := range []string{"broker", "credproc"} {
		cmd := exec.Command(filepath.Join(h.bin, name), map[string]string{"broker": "status", "credproc": "x"}[name])
		cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
		if err := checkFailure(finish(cmd), "1", name, nil); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestNamesOfEveryCharacter checks that a profile's name may have any printable ASCII character, even as its
// first. Such a profile is listed, explained, served and linked under that name, or refused with file and line.
func TestNamesOfEveryCharacter(t *testing.T) {
	t.Parallel()
	h := demo(t)
	var text strings.Builder
	var names []string
	for c := ' ' + 1; c <= '~'; c++ {
		for _, name := range []string{string(c) + "first", "mid" + string(c) + "dle"} {
			quote := `"`
			if strings.ContainsRune(name, '"') || strings.ContainsRune(name, '\\') {
				quote = "'"
			}
			fmt.Fprintf(&text, "[profile %s%s%s]\nrole_arn = %s\nsource_profile = security\n", quote, name, quote, prodRole)
			names = append(names, name)
		}
	}
	must(t, appendTo(h.awsConfig(), text.String()))
	var list []struct{ Name, Problem string }
	r := h.run("broker", "list", "--json")
	if err := json.Unmarshal([]byte(r.stdout), &list); err != nil || r.code != 0 {
		t.Fatal(r, err)
	}
	listed := map[string]bool{}
	for _, one := range list {
		if listed[one.Name] = true; one.Problem != "" {
			t.Errorf("%q: %s", one.Name, one.Problem)
		}
	}
	refused := 0
	for _, name := range names {
		r := h.run("broker", "explain", "--", name)
		switch {
		case !listed[name]:
			if refused++; r.code == 0 {
				t.Errorf("%q is explained but not listed", name)
			}
		case r.code != 0 || !strings.HasPrefix(r.stdout, name+"\n"):
			t.Errorf("%q: %v", name, r)
		}
	}
	if refused > 4 {
		t.Errorf("%d of %d names cannot be used", refused, len(names))
	}
	for _, name := range []string{"-first", "mid'dle", "mid$dle", "`first", "mid|dle", "mid%dle"} {
		if d, err := parseDocument(h.ok(t, "credproc", "--", name)); err != nil || d.AccessKeyID == "" {
			t.Errorf("credproc %q: %v", name, err)
		}
	}
	before, err := os.ReadFile(h.awsConfig())
	must(t, err)
	h.ok(t, "broker", "profiles", "link", "--all")
	h.ok(t, "broker", "profiles", "unlink", "--all")
	if after, err := os.ReadFile(h.awsConfig()); err != nil || string(after) != string(before) {
		t.Errorf("link and unlink did not restore the same bytes: %v", err)
	}
}
