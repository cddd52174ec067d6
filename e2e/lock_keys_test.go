package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// unlockWords is the passphrase for unlock in these tests.
const unlockWords = "a-passphrase-for-unlock-8812"

// imported returns a demo house whose key was imported from the credentials file, so that the keyring holds a
// sealed copy.
func imported(t *testing.T) *house {
	t.Helper()
	h := demo(t)
	must(t, h.write(h.awsCredentials(), plainKey))
	h.ok(t, "broker", "import", "--yes")
	if text, err := os.ReadFile(h.awsCredentials()); !os.IsNotExist(err) {
		t.Fatalf("import left something in its file: %q, %v", text, err)
	}
	return h
}

const plainKey = "[paul]\naws_access_key_id = " + keyID + "\naws_secret_access_key = " + keySecret + "\n"

// locked returns a locked house with an imported key and a passphrase for unlock.
func locked(t *testing.T) *house {
	t.Helper()
	h := imported(t)
	h.credentials(t, "product_prod_paul")
	if r := h.runWith(unlockWords+"\n", "broker", "lock", "--set-passphrase", "--stdin"); r.code != 0 {
		t.Fatal(r)
	}
	h.ok(t, "broker", "lock")
	return h
}

// with returns the house as seen by a shell with additional variables. If a daemon starts there, it ends with the
// test.
func (h *house) with(t *testing.T, env ...string) *house {
	t.Helper()
	other := *h
	other.env = append(slices.Clone(h.env), env...)
	t.Cleanup(func() {
		if err := other.stopDaemon(); err != nil {
			t.Error(err)
		}
	})
	return &other
}

// elsewhere returns the variables that move the daemon's directories.
func (h *house) elsewhere(name string) []string {
	dir := filepath.Join(h.dir, name)
	return []string{"BROKER_STATE_DIR=" + dir, "BROKER_RUNTIME_DIR=" + dir + "/run"}
}

// vaultRequest sends a request to the vault process, as any program of the uid can.
func (h *house) vaultRequest(op, source string, more map[string]any) string {
	q := map[string]any{"op": op, "backend": "file", "dir": filepath.Join(h.home, ".local/share/broker/keyring"),
		"timeout_ms": 30000, "endpoint": map[string]any{}, "passphrase": passphrase, "source": source}
	for k, v := range more {
		q[k] = v
	}
	text, err := json.Marshal(q)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// unharmed fails the test if the keyring, the registry or the AWS files changed.
func (h *house) unharmed(t *testing.T, before map[string]string) {
	t.Helper()
	for path, was := range before {
		now, err := os.ReadFile(path)
		if err != nil || string(now) != was {
			t.Errorf("%s was changed: %v", path, err)
		}
	}
	if now := h.precious(t); len(now) != len(before) {
		t.Errorf("there were %d files, now there are %d", len(before), len(now))
	}
}

// precious returns the files of the keyring, the registry and the AWS files, with their contents.
func (h *house) precious(t *testing.T) map[string]string {
	t.Helper()
	files := map[string]string{}
	for _, dir := range []string{".local/share/broker", ".config/broker", ".aws"} {
		must(t, filepath.WalkDir(filepath.Join(h.home, dir), func(path string, d os.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() || d.Name() == "lock" || strings.HasSuffix(d.Name(), ".lock") {
				return err
			}
			text, err := os.ReadFile(path)
			files[path] = string(text)
			return err
		}))
	}
	return files
}

// TestLockMeansLock checks that while Broker is locked, no program of the uid, whatever it types and whatever
// directories its environment names, makes Broker write a key in plain text, change an item of the keyring, sign a
// request or give out a session.
func TestLockMeansLock(t *testing.T) {
	t.Parallel()
	h := locked(t)
	// Variables of a program that knows where everything is.
	known := []string{
		"BROKER_CONFIG=" + h.registry(), "BROKER_KEYRING_DIR=" + filepath.Join(h.home, ".local/share/broker/keyring"),
		"AWS_CONFIG_FILE=" + h.awsConfig(), "AWS_SHARED_CREDENTIALS_FILE=" + h.awsCredentials(),
	}
	csv := filepath.Join(h.dir, "robot.csv")
	must(t, os.WriteFile(csv,
		[]byte("Access key ID,Secret access key\n"+robotKeyID+",fake/demo+secret/of+robot/fake/demo+3333\n"), 0o600))
	call := map[string]any{"call": map[string]any{"Operation": "AssumeRole", "RoleARN": devRole, "SessionName": "x",
		"Duration": 3600e9,
		"Endpoint": map[string]any{"URL": h.sim.url}}}
	for _, attack := range []struct {
		name  string
		env   []string
		stdin string
		argv  []string
	}{
		{"session, elsewhere", h.elsewhere("get"), "", []string{"credproc", "product_prod_paul"}},
		{"session, XDG", []string{"XDG_STATE_HOME=" + h.dir + "/xdg", "XDG_RUNTIME_DIR=" + h.dir}, "",
			[]string{"credproc", "product_prod_paul"}},
		{"exec, elsewhere", h.elsewhere("exec"), "", []string{"broker", "exec", "product_prod_paul", "--", "env"}},
		{"login, elsewhere", h.elsewhere("login"), "", []string{"broker", "login", "security"}},
		{"vault unseals", nil, h.vaultRequest("unseal", "import", nil), []string{"brokerd", "vault"}},
		{"vault signs", nil, h.vaultRequest("open", "security", call), []string{"brokerd", "vault"}},
		{"vault describes", h.elsewhere("vault"), h.vaultRequest("describe", "security", nil), []string{"brokerd", "vault"}},
		{"test", nil, "", []string{"broker", "keyring", "test"}},
		{"undo", nil, "", []string{"broker", "import", "--undo", "--yes"}},
		{"undo without the file that records the lock", h.elsewhere("undo"), "", []string{"broker", "import", "--undo", "--yes"}},
		{"undo, XDG", []string{"XDG_STATE_HOME=" + h.dir + "/xdg"}, "", []string{"broker", "import", "--undo", "--yes"}},
		{"forget", nil, "", []string{"broker", "import", "--forget", "--yes"}},
		{"seed", nil, seed + "\n", []string{"broker", "mfa", "set", "security", "--seed-stdin"}},
		{"device", nil, "", []string{"broker", "mfa", "set", "security", "--serial", serial + "2"}},
		{"program", nil, "", []string{"broker", "mfa", "set", "security", "--process", "true"}},
		{"no device", nil, "", []string{"broker", "mfa", "remove", "security"}},
		{"add", nil, "", []string{"broker", "add", "robot", "--csv", csv}},
		{"add, elsewhere", h.elsewhere("add"), "", []string{"broker", "add", "robot", "--csv", csv}},
		{"vault removes", known, h.vaultRequest("remove", "security", nil), []string{"brokerd", "vault"}},
		{"remove", nil, "", []string{"broker", "remove", "security", "--yes"}},
		{"remove, elsewhere", h.elsewhere("remove"), "", []string{"broker", "remove", "security", "--yes"}},
	} {
		t.Run(attack.name, func(t *testing.T) {
			must(t, h.freshCodes())
			before := h.precious(t)
			calls, err := h.sim.requests()
			must(t, err)
			r := h.with(t, attack.env...).runWith(attack.stdin, attack.argv[0], attack.argv[1:]...)
			if attack.argv[1] == "vault" {
				if !strings.Contains(r.stdout, `"kind":"locked"`) {
					t.Errorf("the vault process did it: %v", r)
				}
			} else if err := checkFailure(r, "7", attack.argv[0], attack.argv[1:]); err != nil {
				t.Errorf("%v: %v", err, r)
			} else if !strings.Contains(r.stderr, "Broker is locked") ||
				!strings.HasSuffix(r.stderr, "\nhint: broker unlock\n") {
				t.Errorf("the error does not say why: %v", r)
			}
			if strings.Contains(r.stdout+r.stderr, "ASIA") || strings.Contains(r.stdout+r.stderr, keySecret) {
				t.Error("something was given out")
			}
			h.unharmed(t, before)
			if after, err := h.sim.requests(); err != nil || len(after) != len(calls) {
				t.Errorf("AWS got %d requests, %v", len(after)-len(calls), err)
			}
		})
	}
	// Commands that forget sessions work, and after unlock all commands work again.
	h.ok(t, "broker", "logout")
	if r := h.runWith(unlockWords+"\n", "broker", "unlock", "--stdin"); r.code != 0 {
		t.Fatal(r)
	}
	must(t, h.freshCodes())
	h.credentials(t, "product_prod_paul")
	h.ok(t, "broker", "import", "--undo", "--yes")
	if text, err := os.ReadFile(h.awsCredentials()); err != nil || string(text) != plainKey {
		t.Errorf("the undo after unlock: %v", err)
	}
}

// TestLockHoldsForAnotherHome checks that a process with another HOME cannot evade the lock in the home that the
// system has for the user.
func TestLockHoldsForAnotherHome(t *testing.T) {
	t.Parallel()
	needRoot(t)
	if _, err := exec.LookPath("unshare"); err != nil {
		t.Fatal("unshare is missing; it is part of util-linux")
	}
	h := locked(t)
	passwd := filepath.Join(h.dir, "passwd")
	must(t, os.WriteFile(passwd, []byte(fmt.Sprintf("root:x:%d:0::%s:/bin/sh\n", os.Getuid(), h.home)), 0o644))
	other := filepath.Join(h.dir, "other")
	must(t, os.Mkdir(other, 0o700))
	env := []string{
		"BROKER_CONFIG=" + h.registry(), "BROKER_KEYRING_DIR=" + filepath.Join(h.home, ".local/share/broker/keyring"),
		"AWS_CONFIG_FILE=" + h.awsConfig(), "AWS_SHARED_CREDENTIALS_FILE=" + h.awsCredentials(), "HOME=" + other,
	}
	// It gets its own user table and its own process namespace, so that a daemon that it starts ends with it.
	inside := func(env []string, argv ...string) result {
		args := append([]string{"--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c",
			"mount --bind " + passwd + ` /etc/passwd && "$@"`, "sh"}, argv...)
		cmd := h.command("unshare", args...)
		cmd.Env = append(slices.Clone(h.env), env...)
		return finish(cmd)
	}
	before := h.precious(t)
	for _, argv := range [][]string{
		{"broker", "import", "--undo", "--yes"},
		{"broker", "remove", "security", "--yes"},
		{"credproc", "product_prod_paul"},
		{"env", "-u", "HOME", "BROKER_STATE_DIR=" + other, "broker", "import", "--undo", "--yes"},
	} {
		r := inside(env, argv...)
		if r.code != 7 || !strings.Contains(r.stderr, "Broker is locked") || strings.Contains(r.stdout, "ASIA") {
			t.Errorf("%v: %v", argv, r)
		}
	}
	h.unharmed(t, before)
	// The message names both homes, so that the person finds the one that locks.
	if r := inside(env, "broker", "unlock"); r.code != 7 || !strings.Contains(r.stderr, "HOME="+h.home+" broker unlock") {
		t.Errorf("unlock in another home: %v", r)
	}
	if r := inside(env, "broker", "status"); !strings.Contains(r.stdout, "locked    yes") {
		t.Errorf("status in another home: %v", r)
	}
}

// TestSecondDaemonObeysLock checks two daemons of one HOME: once one of them is told to lock, neither gives out
// anything, and what the other had put into files is gone.
func TestSecondDaemonObeysLock(t *testing.T) {
	t.Parallel()
	h := imported(t)
	second := h.with(t, h.elsewhere("second")...)
	h.credentials(t, "product_prod_paul")
	second.credentials(t, "product_prod_paul")
	second.credentials(t, "product_dev_paul")
	h.ok(t, "broker", "profiles", "link", "product_dev_paul")
	second.ok(t, "broker", "publish", "product_dev_paul")
	endpoint, overlay := second.holder(t, "product_dev_paul"), second.overlaid(t, "product_prod_paul")
	if h.daemonPID(t) == second.daemonPID(t) {
		t.Fatal("there is only one daemon")
	}
	if r := h.runWith(unlockWords+"\n", "broker", "lock", "--set-passphrase", "--stdin"); r.code != 0 {
		t.Fatal(r)
	}
	h.ok(t, "broker", "lock")
	// Before lock returned, the other daemon took back what it had given out.
	if _, err := os.Lstat(overlay); !os.IsNotExist(err) {
		t.Errorf("the file of a command of the other daemon: %v", err)
	}
	if text, err := os.ReadFile(h.awsCredentials()); !os.IsNotExist(err) {
		t.Errorf("a session that the other daemon published is still there: %v, %q", err, text)
	}
	if code, body := endpointAnswers(t, endpoint); code != 403 || !strings.Contains(body, `"code":"locked"`) {
		t.Errorf("the endpoint of the other daemon: %d %s", code, body)
	}
	calls, err := h.sim.requests()
	must(t, err)
	for _, way := range giving() {
		if r := second.run(way[0], way[1:]...); r.code != 7 || strings.Contains(r.stdout, "ASIA") {
			t.Errorf("%v: %v", way, r)
		}
	}
	if after, err := h.sim.requests(); err != nil || len(after) != len(calls) {
		t.Errorf("AWS got %d requests, %v", len(after)-len(calls), err)
	}
	// The second daemon's own unlock fails, too: it knows the passphrase for unlock, although that was set
	// elsewhere.
	if r := second.run("broker", "unlock"); r.code != 7 || !strings.Contains(r.stderr, "passphrase for unlock") {
		t.Errorf("the other daemon unlocks: %v", r)
	}
	if !isFile(h.state("lock.json")) {
		t.Fatal("the lock is missing")
	}
	if r := second.runWith(unlockWords+"\n", "broker", "unlock", "--stdin"); r.code != 0 {
		t.Fatal(r)
	}
	must(t, h.freshCodes())
	second.credentials(t, "product_prod_paul")
}

// TestStoppedDaemonObeysLock checks that lock reports a daemon that is stopped at that moment, and that this
// daemon gives nothing out when it continues.
func TestStoppedDaemonObeysLock(t *testing.T) {
	t.Parallel()
	h := imported(t)
	second := h.with(t, h.elsewhere("second")...)
	h.credentials(t, "product_prod_paul")
	second.credentials(t, "product_prod_paul")
	pid := second.daemonPID(t)
	must(t, halt(pid))
	t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGCONT) })
	cmd := second.command("credproc", "product_prod_paul") // sent before the lock, answered after it
	asked := make(chan result, 1)
	go func() { asked <- finish(cmd) }()
	if r := h.run("broker", "lock"); r.code != 1 || !strings.Contains(r.stderr, "Broker is locked, but another of your daemons") {
		t.Errorf("lock beside a daemon that is stopped: %v", r)
	}
	must(t, syscall.Kill(pid, syscall.SIGCONT))
	if r := <-asked; r.code != 7 || strings.Contains(r.stdout, "ASIA") {
		t.Errorf("it gave out what it held: %v", r)
	}
}

// TestOldLockIsFound checks that a lock.json that an earlier version wrote into a moved state directory takes
// effect, and is moved.
func TestOldLockIsFound(t *testing.T) {
	t.Parallel()
	h := imported(t)
	moved := h.with(t, h.elsewhere("moved")...)
	if r := moved.runWith(unlockWords+"\n", "broker", "lock", "--set-passphrase", "--stdin"); r.code != 0 {
		t.Fatal(r)
	}
	moved.ok(t, "broker", "lock")
	must(t, moved.stopDaemon())
	old := filepath.Join(h.dir, "moved/lock.json")
	if _, err := os.Lstat(old); os.IsNotExist(err) {
		must(t, os.Rename(h.state("lock.json"), old)) // where the version before had it
	}
	before := h.precious(t)
	if r := moved.run("broker", "import", "--undo", "--yes"); r.code != 7 {
		t.Errorf("the old lock has no effect: %v", r)
	}
	h.unharmed(t, before)
	if r := moved.run("credproc", "product_prod_paul"); r.code != 7 {
		t.Error(r)
	}
	if _, err := os.Lstat(old); !os.IsNotExist(err) {
		t.Errorf("the old lock was not moved: %v", err)
	}
	if r := h.run("broker", "import", "--undo", "--yes"); r.code != 7 {
		t.Errorf("the lock has no effect for shells without those variables: %v", r)
	}
	if r := h.run("broker", "unlock"); r.code != 7 || !strings.Contains(r.stderr, "passphrase for unlock") {
		t.Errorf("the passphrase of the lock is lost: %v", r)
	}
	if r := h.runWith(unlockWords+"\n", "broker", "unlock", "--stdin"); r.code != 0 {
		t.Error(r)
	}
}

// TestRemoveForgetsSealedCopy checks that removing a key also removes import's sealed copy of it, and nothing
// else.
func TestRemoveForgetsSealedCopy(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	must(t, h.startSim())
	must(t, h.settings(""))
	text := plainKey + "# robot's\n[robot]\naws_access_key_id = " + robotKeyID +
		"\naws_secret_access_key = fake/demo+secret/of+robot/fake/demo+3333\n"
	must(t, h.write(h.awsCredentials(), text))
	h.ok(t, "broker", "import", "--yes")

	// The prompt names the copy; a no changes nothing.
	if r := h.run("broker", "remove", "paul"); r.code != 8 {
		t.Fatal(r)
	}
	r := h.run("broker", "remove", "paul", "--yes")
	if r.code != 0 || !strings.Contains(r.stdout, "sealed copy") || !strings.Contains(r.stdout, h.awsCredentials()) {
		t.Errorf("remove does not say that the copy is gone: %v", r)
	}
	// The other key of that import can still be restored; this one cannot.
	h.ok(t, "broker", "import", "--undo", "--yes")
	now, err := os.ReadFile(h.awsCredentials())
	must(t, err)
	if strings.Contains(string(now), keySecret) || strings.Contains(string(now), keyID) {
		t.Errorf("the removed key is back:\n%s", now)
	}
	if !strings.Contains(string(now), "[robot]\naws_access_key_id = "+robotKeyID) {
		t.Errorf("the other key is lost:\n%s", now)
	}
	h.ok(t, "broker", "import", "--yes")
	if r := h.run("broker", "remove", "robot", "--yes"); r.code != 0 || !strings.Contains(r.stdout, "sealed copy") {
		t.Errorf("the last one: %v", r)
	}
	if r := h.run("broker", "import", "--undo", "--yes"); r.code != 3 ||
		!strings.Contains(r.stderr, "there is no import to undo") {
		t.Errorf("there is still something to undo: %v", r)
	}
	// The removed source can be imported again, and a key without a copy is removed as before.
	must(t, h.write(h.awsCredentials(), plainKey))
	h.ok(t, "broker", "import", "--yes")
	h.ok(t, "broker", "import", "--forget", "--yes")
	if r := h.run("broker", "remove", "paul", "--yes"); r.code != 0 || strings.Contains(r.stdout, "sealed copy") {
		t.Errorf("without a copy: %v", r)
	}
}

// commandTree returns all commands that the completion knows, such as "mfa set".
func (h *house) commandTree(t *testing.T) []string {
	t.Helper()
	var leaves []string
	var walk func(path []string)
	walk = func(path []string) {
		var below []string
		for line := range strings.Lines(h.ok(t, "broker", append(slices.Clone(path), "--generate-bash-completion")...)) {
			word, _, _ := strings.Cut(strings.TrimSpace(line), "\t")
			below = append(below, word)
		}
		groups := []string{"mfa", "profiles", "keyring", "service", "log", "policy", "accounts", "token"}
		if len(path) > 0 && !slices.Contains(groups, path[len(path)-1]) {
			leaves = append(leaves, strings.Join(path, " "))
			return
		}
		if len(below) < 2 {
			t.Fatalf("broker %v has no commands: the test is void", path)
		}
		for _, word := range below {
			walk(append(slices.Clone(path), word))
		}
	}
	walk(nil)
	return leaves
}

// TestEveryCommandWhileLocked checks each command of the command tree while Broker is locked. The command is
// either refused and changes nothing, or it neither gives out nor changes anything that the lock protects.
func TestEveryCommandWhileLocked(t *testing.T) {
	t.Parallel()
	h := locked(t)
	const prod = "product_prod_paul"
	csv := filepath.Join(h.dir, "robot.csv")
	must(t, os.WriteFile(csv,
		[]byte("Access key ID,Secret access key\n"+robotKeyID+",fake/demo+secret/of+robot/fake/demo+3333\n"), 0o600))
	refused := map[string][]string{
		"setup": {"--yes"}, "add": {"robot", "--csv", csv}, "import": {"--yes"}, "remove": {"security", "--yes"},
		"mfa set": {"security", "--process", "true"}, "mfa remove": {"security"}, "rotate": {"security"},
		"mfa enroll": {"security"}, "mfa replace": {"security"},
		"keyring test": nil, "keyring migrate": {"--to", "pass"},
		"login": {"security"}, "exec": {prod, "--", "env"}, "shell": {prod}, "export": {prod}, "publish": {prod},
		"console": {prod, "--print"},
		"forward": {prod, "--for", "1h", "--name", "x"},
		"allow":   {prod, "--reason", "x"}, "elevate": {prod, "--reason", "x"},
		"accounts list": {prod}, "accounts check": {},
		"token eks": {prod, "--cluster", "main"}, "token rds": {prod, "--host", "db:5432", "--user", "paul"},
		"token codeartifact": {prod, "--domain", "team"},
	}
	harmless := map[string][]string{
		"deny": {prod}, "lock": {}, "log": {}, "log verify": {}, "log who": nil, "logout": {}, "unpublish": {}, "status": {}, "doctor": {}, "explain": {prod}, "version": {}, "help": {},
		"completion":   {"bash"},
		"keyring list": {}, "config": {"list"}, "profiles trust": {"--list"}, "list": {}, "profiles list": {}, "profiles show": {prod},
		"profiles link": {"--all", "--dry-run"},
		"policy trust":  {}, "policy group": {}, "policy self-service": {}, "policy read-only": {},
		"service status": {},
		"token docker":   {"list"}, // for get, token.txtar
		// Commands that the test does not run: they would prompt, wait or leave something behind.
		"unlock": nil, "daemon": nil, "profiles unlink": nil, "profiles alias": nil, "profiles generate": nil,
		"profiles sync":   nil,
		"service install": nil, "service uninstall": nil, "service restart": nil, "service stop": nil,
	}
	before := h.precious(t)
	for _, name := range h.commandTree(t) {
		args, stops := refused[name]
		argv := append(strings.Fields(name), args...)
		if stops {
			if r := h.run("broker", argv...); checkFailure(r, "7", "broker", argv) != nil ||
				!strings.HasSuffix(r.stderr, "\nhint: broker unlock\n") {
				t.Errorf("broker %v: %v", argv, r)
			}
			continue
		}
		args, ok := harmless[name]
		if !ok {
			t.Errorf("broker %s: this test does not say what it does while Broker is locked", name)
			continue
		}
		if args == nil {
			continue
		}
		if r := h.run("broker", append(strings.Fields(name), args...)...); r.code == 7 {
			t.Errorf("broker %s is refused: %v", name, r)
		}
	}
	h.ok(t, "broker", "lock") // logout deletes only the stored session
	for path := range before {
		if strings.Contains(path, "/broker-session-") {
			delete(before, path)
		}
	}
	h.unharmed(t, before)
}

// TestLockInTheMiddle checks that a lock during a prompt of a command, or between two of its vault processes, ends
// the command. Nothing is lost and nothing is written; after unlock the same command completes.
func TestLockInTheMiddle(t *testing.T) {
	t.Parallel()
	t.Run("import", func(t *testing.T) {
		h, credentials := toImport(t)
		h.run("broker", "status") // lock would otherwise start the daemon
		must(t, h.sim.fault(`{"kind":"delay","action":"GetCallerIdentity","delay_seconds":2}`))
		cmd := h.command("broker", "import", "--yes")
		done := make(chan result, 1)
		go func() { done <- finish(cmd) }()
		h.reaches(t, "GetCallerIdentity", 1)
		h.ok(t, "broker", "lock")
		if r := <-done; r.code != 7 || !strings.Contains(r.stderr, "Broker is locked") {
			t.Error(r)
		}
		if text, err := os.ReadFile(credentials); err != nil || string(text) != plainKeys {
			t.Errorf("the file was changed: %v", err)
		}
		h.ok(t, "broker", "unlock")
		h.ok(t, "broker", "import", "--yes")
		h.credentials(t, "robot")
		h.ok(t, "broker", "import", "--undo", "--yes")
		if text, err := os.ReadFile(credentials); err != nil || string(text) != plainKeys {
			t.Errorf("a key is lost: %v", err)
		}
	})
	for _, argv := range [][]string{{"import", "--undo"}, {"import", "--forget"}, {"remove", "security"}} {
		t.Run(strings.Join(argv, " "), func(t *testing.T) {
			h := imported(t)
			before := h.precious(t)
			s := h.sit(t, "broker", argv...)
			s.waits("[y/N] ")
			h.ok(t, "broker", "lock")
			s.types("y")
			if r := s.ends(); r.code != 7 || !strings.Contains(r.stderr, "Broker is locked") {
				t.Error(r)
			}
			h.unharmed(t, before)
			h.ok(t, "broker", "unlock")
			h.ok(t, "broker", append(argv, "--yes")...)
		})
	}
}
