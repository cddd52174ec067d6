package e2e

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf16"
)

// forms returns the encodings in which a secret could be in a file or in memory.
func forms(secret string) map[string][]byte {
	escaped, _ := json.Marshal(secret)
	wide := utf16.Encode([]rune(secret))
	little, big := make([]byte, 0, 2*len(wide)), make([]byte, 0, 2*len(wide))
	for _, u := range wide {
		little = append(little, byte(u), byte(u>>8))
		big = append(big, byte(u>>8), byte(u))
	}
	m := map[string][]byte{
		"raw":       []byte(secret),
		"hex":       []byte(hex.EncodeToString([]byte(secret))),
		"HEX":       []byte(strings.ToUpper(hex.EncodeToString([]byte(secret)))),
		"query":     []byte(url.QueryEscape(secret)),
		"path":      []byte(url.PathEscape(secret)),
		"json":      bytes.Trim(escaped, `"`),
		"slashes":   []byte(strings.ReplaceAll(secret, "/", `\/`)),
		"utf-16":    little,
		"utf-16 be": big,
	}
	// In a longer base64 text the encoding depends on the offset of the secret. For each of the three alignments,
	// take the part that contains only the secret.
	for shift := range 3 {
		padded := append(make([]byte, shift), secret...)
		text := base64.StdEncoding.EncodeToString(padded)
		from := (shift*8 + 5) / 6
		to := len(padded) * 8 / 6
		m[fmt.Sprintf("base64+%d", shift)] = []byte(text[from:to])
		web := base64.URLEncoding.EncodeToString(padded)
		m[fmt.Sprintf("base64url+%d", shift)] = []byte(web[from:to])
	}
	return m
}

// wanted is a set of secrets in all forms to search for.
type wanted map[string][]byte

func lookFor(secrets map[string]string) wanted {
	w := wanted{}
	for name, secret := range secrets {
		for form, text := range forms(secret) {
			w[name+" ("+form+")"] = text
		}
	}
	return w
}

// in returns the names of the secrets that it finds, without showing them.
func (w wanted) in(data []byte) []string {
	var found []string
	for name, text := range w {
		if bytes.Contains(data, text) {
			found = append(found, name)
		}
	}
	return found
}

// TestFormsAreFound checks that the search finds planted secrets. Otherwise the tests below mean nothing.
func TestFormsAreFound(t *testing.T) {
	w := lookFor(map[string]string{"key": keySecret})
	for _, planted := range []string{
		"a" + keySecret + "b",
		base64.StdEncoding.EncodeToString([]byte("x" + keySecret + "yz")),
		base64.URLEncoding.EncodeToString([]byte(`{"k":"` + keySecret + `"}`)),
		hex.EncodeToString([]byte(keySecret)),
		"?k=" + url.QueryEscape(keySecret),
		strings.Join(strings.Split(keySecret, ""), "\x00") + "\x00",
	} {
		if len(w.in([]byte(planted))) == 0 {
			t.Errorf("not found in %q", planted)
		}
	}
	if found := w.in([]byte("fake/demo+secret/of+somebody/else")); found != nil {
		t.Errorf("found in a text without secrets: %v", found)
	}
}

// TestSecretsStayInTheirPlace checks after a complete scenario that no secret is in any file of HOME, the state,
// runtime or temporary directory, except encrypted in the keyring.
func TestSecretsStayInTheirPlace(t *testing.T) {
	t.Parallel()
	h, tap := tapped(t)
	h.env = append(h.env, "BROKER_RUNTIME_DIR="+filepath.Join(h.dir, "run"))
	given := h.logins(t, tap)
	maps.Copy(given, h.scenario(t))
	must(t, h.stopDaemon())
	kept, passed := tap.secrets()
	maps.Copy(given, kept)
	maps.Copy(given, passed)
	given["key secret"], given["seed"], given["passphrase"] = keySecret, seed, passphrase
	for name, secret := range maps.Clone(given) { // half a secret must not leak either
		given["first half of "+name], given["second half of "+name] = secret[:len(secret)/2], secret[len(secret)/2:]
	}
	w := lookFor(given)
	files := 0
	must(t, filepath.WalkDir(h.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		// File names can leak, too.
		if found := w.in([]byte(path)); found != nil {
			t.Errorf("the name of a file contains %v", found)
		}
		if !d.Type().IsRegular() || filepath.Dir(path) == h.bin || path == filepath.Join(h.dir, "passphrase") {
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		files++
		for _, name := range w.in(data) {
			t.Errorf("%s holds: %s", strings.TrimPrefix(path, h.dir), name)
		}
		return nil
	}))
	if files < 6 {
		t.Errorf("only %d files were looked at", files)
	}
	// The search must find the passphrase in the file in which it is allowed.
	if data, err := os.ReadFile(filepath.Join(h.dir, "passphrase")); err != nil || w.in(data) == nil {
		t.Errorf("the passphrase was not found in its own file: %v", err)
	}
	t.Logf("%d files, %d texts", files, len(w))
}

// logins logs in on web pages in each way, renews the logins, and logs out. It returns the secrets that were given out.
func (h *house) logins(t *testing.T, tap *wiretap) map[string]string {
	t.Helper()
	given := map[string]string{}
	keep := func(name string) {
		d := h.credentials(t, name)
		given["secret of "+name], given["token of "+name] = d.SecretAccessKey, d.SessionToken
	}
	h.ok(t, "broker", "login", "my-sso")
	keep("dev-admin")
	must(t, h.sim.post("sso/tokens/expire", ""))
	keep("dev-read")
	h.counted(t, "CreateToken", 2)
	// AWS, or its simulator, repeats what it was sent.
	tap.mu.Lock()
	refresh := tap.refresh
	tap.mu.Unlock()
	must(t, h.sim.post("sso/tokens/expire", ""))
	must(t, h.sim.fault(`{"kind":"error","action":"CreateToken","code":"AccessDeniedException","message":"no: `+refresh+`"}`))
	if r := h.run("credproc", "stage-admin"); r.code != 6 || strings.Contains(r.stderr, refresh[len(refresh)/2:]) {
		t.Errorf("refused with a refresh token in the text: %v", r)
	}
	h.ok(t, "broker", "login", "my-sso")
	keep("stage-read")
	h.ok(t, "broker", "logout", "my-sso")
	h.logsIn(t, "my-sso")
	keep("mgmt-admin")

	must(t, h.sim.post("lives", `{"login_keys_seconds":2}`))
	h.ok(t, "broker", "login", "--console", "signed-in", "--region", "eu-west-1")
	must(t, h.sim.post("lives", `{}`))
	until(t, "the console login is renewed", func() bool {
		h.credentials(t, "signed-in")
		n, err := h.sim.count("CreateOAuth2Token")
		must(t, err)
		return n > 1
	})
	keep("signed-in")
	h.ok(t, "broker", "status", "--json")
	h.ok(t, "broker", "explain", "dev-admin")
	h.ok(t, "broker", "logout", "signed-in")

	kept, _ := tap.secrets()
	found := map[string]int{}
	for name := range kept {
		found[strings.Fields(name)[0]]++
	}
	if found["refreshToken"] < 5 || found["clientSecret"] < 2 || found["DPoP"] < 1 {
		t.Errorf("void: only %v were seen", found)
	}
	return given
}

// scenario uses every feature once, with failures, and returns the secrets that were given out.
func (h *house) scenario(t *testing.T) map[string]string {
	t.Helper()
	given := map[string]string{}
	keep := func(name string) {
		d := h.credentials(t, name)
		given["secret of "+name], given["token of "+name] = d.SecretAccessKey, d.SessionToken
	}
	keep("product_prod_paul")
	keep("product_dev_paul")
	keep("security")
	h.ok(t, "broker", "exec", "product_prod_paul", "--", "true")
	_, env, _ := strings.Cut(h.ok(t, "broker", "exec", "product_prod_paul", "--mode", "server", "--", "env"), endpointToken+"=")
	given["token of an endpoint"], _, _ = strings.Cut(env, "\n")
	h.ok(t, "broker", "status", "--json")
	h.ok(t, "broker", "explain", "product_prod_paul")
	h.ok(t, "broker", "profiles", "list", "--json")
	h.run("credproc", "nobody")
	h.runWith(`{"AccessKeyId":"`+keyID+`","SecretAccessKey":"`+keySecret+`x"}`, "broker", "add", "other", "--stdin")
	h.runWith(`{"AccessKeyId":"`+robotKeyID+`","SecretAccessKey":"`+keySecret+`"}`, "broker", "add", "other", "--stdin")
	h.runWith(seed+"1", "broker", "mfa", "set", "security", "--seed-stdin")
	// AWS, or its simulator, repeats what it was sent.
	must(t, h.write(h.awsConfig(), demoConfig+"[profile third]\nrole_arn = "+devRole+"\nsource_profile = security\nrole_session_name = third\n"))
	must(t, h.sim.fault(`{"kind":"error","action":"AssumeRole","code":"AccessDenied","message":"no: `+given["token of security"]+` and `+given["secret of security"]+`"}`))
	if r := h.run("credproc", "third"); r.code != 6 || strings.Contains(r.stderr, given["token of security"]) {
		t.Errorf("denied with a token in the text: %v", r)
	}
	h.ok(t, "broker", "logout")
	h.ok(t, "broker", "lock")
	h.run("credproc", "product_prod_paul")
	h.ok(t, "broker", "unlock")
	if pid := h.daemonProcess(); pid != 0 { // a crash, too
		_ = kill(pid)
	}
	must(t, h.freshCodes())
	keep("product_prod_paul")
	h.runWith(seed, "broker", "mfa", "set", "security", "--seed-stdin")
	return given
}

// TestMemory reads the daemon's memory as root while it works. It never contains the long-lived secret or the seed, nor
// a refresh token, the secret of a registered client, or a DPoP key. It does contain the session that the daemon gives
// out, which shows that the reading works.
func TestMemory(t *testing.T) { readWhileItWorks(t, time.Second) }

func TestMemoryLong(t *testing.T) { readWhileItWorks(t, 6*time.Second) }

// readWhileItWorks reads the daemon's memory again and again for a while.
func readWhileItWorks(t *testing.T, while time.Duration) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED, NOT PROVEN: only root can read the daemon's memory")
	}
	h, tap := tapped(t)
	h.ok(t, "broker", "login", "my-sso")
	h.ok(t, "broker", "login", "--console", "signed-in", "--region", "eu-west-1")
	first := h.credentials(t, "product_prod_paul")
	pid := h.daemonPID(t)
	long := map[string]string{"key secret": keySecret, "seed": seed}
	token, name := wanted{"token": []byte(first.SessionToken)}, wanted{"name": []byte("product_prod_paul")}

	stop := make(chan struct{})
	worked := make(chan int)
	go func() {
		n := 0
		for {
			select {
			case <-stop:
				worked <- n
				return
			default:
			}
			h.run("credproc", "product_prod_paul")
			if n%5 == 0 { // a login starts a vault process, with key, seed and code
				h.run("broker", "logout")
				_ = h.freshCodes()
				h.run("broker", "login", "security")
				h.run("broker", "login", "my-sso")
				_ = h.sim.post("sso/tokens/expire", "")
				h.run("credproc", portalProfiles[n%len(portalProfiles)])
				h.run("broker", "login", "signed-in")
			}
			n++
		}
	}()
	tokens, reads := 0, 0
	for end := time.Now().Add(while); time.Now().Before(end) || reads < 5; reads++ {
		memory, err := readMemory(pid)
		must(t, err)
		secrets := lookFor(long)
		kept, _ := tap.secrets()
		for name, value := range kept {
			secrets[name] = []byte(value)
		}
		for _, part := range memory {
			for _, name := range secrets.in(part) {
				t.Errorf("the daemon's memory contains the %s", name)
			}
		}
		if !inAny(memory, name) {
			t.Fatal("void: the name of the profile was not found in the memory")
		}
		if inAny(memory, token) {
			tokens++
		}
		if t.Failed() {
			break
		}
	}
	close(stop)
	n := <-worked
	// In all forms, once.
	kept, _ := tap.secrets()
	memory, err := readMemory(pid)
	must(t, err)
	for _, part := range memory {
		for _, name := range lookFor(kept).in(part) {
			t.Errorf("the daemon's memory contains the %s", name)
		}
	}
	if tokens == 0 {
		t.Error("void: not even the session's token was ever found in the memory")
	}
	t.Logf("%d readings during %d requests; the first token was found in %d", reads, n, tokens)
}

func inAny(memory [][]byte, w wanted) bool {
	return slices.ContainsFunc(memory, func(part []byte) bool { return w.in(part) != nil })
}

// readMemory reads all writable mappings, as far as they can be read.
func readMemory(pid int) ([][]byte, error) {
	maps, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/maps")
	if err != nil {
		return nil, err
	}
	mem, err := os.Open("/proc/" + strconv.Itoa(pid) + "/mem")
	if err != nil {
		return nil, err
	}
	defer func() { _ = mem.Close() }()
	var memory [][]byte
	for l := range strings.Lines(string(maps)) {
		var from, to int64
		var mode string
		if _, err := fmt.Sscanf(l, "%x-%x %s", &from, &to, &mode); err != nil || !strings.HasPrefix(mode, "rw") || to-from > 256<<20 {
			continue // larger mappings are reserved, not used
		}
		part := make([]byte, to-from)
		if n, _ := mem.ReadAt(part, from); n > 0 {
			memory = append(memory, bytes.TrimRight(part[:n], "\x00")) // the end of a heap is large and unused
		}
	}
	return memory, nil
}
