//go:build clients

package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// chromium is a running Chromium that a test steers through a pipe.
// https://chromedevtools.github.io/devtools-protocol/
type chromium struct {
	t        *testing.T
	commands *os.File
	answers  *bufio.Reader
	id       int
}

// tab is one tab of it.
type tab struct {
	*chromium
	session string
}

func (h *house) chromium(t *testing.T) *chromium {
	t.Helper()
	program := append(installed("chromium"), "")[0]
	if program == "" {
		missing(t, "chromium")
	}
	childIn, in, err := os.Pipe()
	must(t, err)
	out, childOut, err := os.Pipe()
	must(t, err)
	// Chromium runs without a sandbox, because root cannot have one.
	cmd := h.command(program, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run",
		"--disable-background-networking", "--user-data-dir="+filepath.Join(h.dir, "chromium"), "--remote-debugging-pipe")
	cmd.ExtraFiles = []*os.File{childIn, childOut}
	must(t, cmd.Start())
	_, _ = childIn.Close(), childOut.Close()
	t.Cleanup(func() { endBrowser(cmd, in, out) })
	return &chromium{t: t, commands: in, answers: bufio.NewReader(out)}
}

// endBrowser lets Chromium end by itself, which also ends its helpers.
func endBrowser(cmd *exec.Cmd, in, out *os.File) {
	_, _ = in.WriteString(`{"id":1000000,"method":"Browser.close"}` + "\x00")
	kill := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	_ = cmd.Wait()
	kill.Stop()
	_, _ = in.Close(), out.Close()
}

// call runs one command, for a tab if session is not empty.
func (c *chromium) call(session, method string, params map[string]any, into any) error {
	c.t.Helper()
	c.id++
	request := map[string]any{"id": c.id, "method": method, "params": params}
	if session != "" {
		request["sessionId"] = session
	}
	text, err := json.Marshal(request)
	must(c.t, err)
	_, err = c.commands.Write(append(text, 0))
	must(c.t, err)
	for {
		line, err := c.answers.ReadBytes(0)
		must(c.t, err)
		var answer struct {
			ID     int
			Result json.RawMessage
			Error  *struct{ Message string }
		}
		must(c.t, json.Unmarshal(bytes.TrimSuffix(line, []byte{0}), &answer))
		switch {
		case answer.ID != c.id: // an event
		case answer.Error != nil:
			return errors.New(answer.Error.Message)
		default:
			return json.Unmarshal(answer.Result, into)
		}
	}
}

// open opens an address in a tab of its own.
func (c *chromium) open(address string) *tab {
	c.t.Helper()
	var target struct {
		ID string `json:"targetId"`
	}
	must(c.t, c.call("", "Target.createTarget", map[string]any{"url": address}, &target))
	var attached struct {
		ID string `json:"sessionId"`
	}
	must(c.t, c.call("", "Target.attachToTarget", map[string]any{"targetId": target.ID, "flatten": true}, &attached))
	return &tab{c, attached.ID}
}

// eval returns the value of an expression in the page, or "" while another page is loading.
func (t *tab) eval(expression string) string {
	t.t.Helper()
	var out struct {
		Result struct{ Value any }
	}
	if err := t.call(t.session, "Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true}, &out); err != nil {
		return ""
	}
	return fmt.Sprint(out.Result.Value)
}

// shows waits until the page shows a text.
func (t *tab) shows(text string) {
	t.t.Helper()
	var page string
	for limit := time.Now().Add(patience); !strings.Contains(page, text); time.Sleep(20 * time.Millisecond) {
		page = t.eval("location.href + ' ' + document.title + ' ' + (document.body ? document.body.innerText : '')")
		if time.Now().After(limit) {
			t.t.Fatalf("the browser never showed %q, but %q", text, page)
		}
	}
}

// clicks clicks a button of the page.
func (t *tab) clicks(id string) {
	t.t.Helper()
	if got := t.eval(fmt.Sprintf("document.getElementById(%q).click(), 'clicked'", id)); got != "clicked" {
		t.t.Fatalf("the page has no button %q: %q", id, got)
	}
}

// waitingLogin is a `broker login` that waits for the browser.
type waitingLogin struct {
	ended    chan result
	output   string // file
	page     string // at AWS
	callback string
	opened   string // the address that the browser was started with
}

// loginInBrowser starts `broker login my-sso` and waits until it has opened the browser.
func (h *house) loginInBrowser(t *testing.T, args ...string) *waitingLogin {
	t.Helper()
	must(t, os.RemoveAll(h.opened()))
	output, err := os.CreateTemp(h.dir, "login")
	must(t, err)
	l := &waitingLogin{ended: make(chan result, 1), output: output.Name()}
	cmd := h.command("broker", append([]string{"login", "my-sso"}, args...)...)
	cmd.Stdout, cmd.Stderr = output, output
	must(t, cmd.Start())
	go func() {
		_ = cmd.Wait()
		text, _ := os.ReadFile(l.output)
		l.ended <- result{stdout: string(text), code: exitCode(cmd.ProcessState)}
	}()
	until(t, "a browser is opened", func() bool {
		text, err := os.ReadFile(h.opened())
		l.opened = strings.TrimSpace(string(text))
		return err == nil && strings.HasSuffix(string(text), "\n")
	})
	text, err := os.ReadFile(l.output)
	must(t, err)
	l.page = regexp.MustCompile(`(?m)^http\S+/authorize\?\S+$`).FindString(string(text))
	port := regexp.MustCompile(`redirect_uri=http%3A%2F%2F127\.0\.0\.1%3A(\d+)%2Foauth%2Fcallback`).FindStringSubmatch(l.page)
	if port == nil {
		t.Fatalf("no page with a redirect to loopback in %s", text)
	}
	l.callback = "http://127.0.0.1:" + port[1]
	return l
}

// waits fails the test if the login has ended.
func (l *waitingLogin) waits(t *testing.T, after string) {
	t.Helper()
	select {
	case r := <-l.ended:
		t.Fatalf("%s ended the login: %v", after, r)
	default:
	}
}

// TestClientsPortalInBrowser logs in with a real browser. Before the person clicks, the browser asks for a favicon, a
// tab of an older login comes back with its stale state, and a website sends the browser here. A second login and a
// second tab of the first one are open all the time: each login gets its own code, and the second tab changes nothing.
func TestClientsPortalInBrowser(t *testing.T) {
	t.Parallel()
	h := portal(t)
	browser := h.chromium(t)
	first := h.loginInBrowser(t)
	second := h.loginInBrowser(t, "--browser", filepath.Join(h.bin, "browser")+" {url}")
	if first.callback == second.callback || strings.Contains(first.opened, "state=") {
		t.Errorf("opened %s and %s", first.opened, second.opened)
	}

	for _, path := range []string{"/favicon.ico", "/", "/oauth/callback", "/oauth/callback?code=old&state=stale",
		"/oauth/callback?error=access_denied&state=stale"} {
		browser.open(first.callback + path).shows("HTTP ERROR 404")
		first.waits(t, path)
	}
	website := browser.open("data:text/html,<title>website</title>")
	website.shows("</title> website") // what runs before the page is there ends with it
	website.eval("fetch('" + first.callback + "/oauth/callback?code=planted&state=planted', {mode: 'no-cors'})" +
		".finally(() => { document.title = 'fetched' })")
	website.shows("fetched")
	first.waits(t, "a website")

	person, other, copied := browser.open(first.opened), browser.open(second.opened), browser.open(first.page)
	for _, page := range []*tab{person, other, copied} {
		page.shows("Allow")
	}
	person.clicks("allow")
	person.shows("You can close this tab; Broker goes on in the terminal.")
	if href := person.eval("location.href"); !strings.HasPrefix(href, first.callback+"/oauth/callback?") {
		t.Errorf("the browser ended at %s", href)
	}
	if r := <-first.ended; r.code != 0 || !strings.Contains(r.stdout, "my-sso: logged in; ") {
		t.Fatal(r)
	}
	h.counted(t, "CreateToken", 1)
	key := h.credentials(t, "dev-admin")
	// The second tab of the first login comes too late.
	copied.clicks("allow")
	until(t, "the second tab leads nowhere", func() bool {
		return strings.HasPrefix(copied.eval("location.href"), "chrome-error:")
	})
	second.waits(t, "a tab of the first login")
	if again := h.credentials(t, "dev-admin"); again != key {
		t.Error("the second tab changed the session")
	}
	other.clicks("allow")
	other.shows("You can close this tab")
	if r := <-second.ended; r.code != 0 {
		t.Fatal(r)
	}
	h.counted(t, "CreateToken", 2)
	h.credentials(t, "dev-read")
}

// TestClientsPortalInTmux logs in over ssh: the person compares the code on the screen, and no browser opens on the
// machine, although it has a display.
func TestClientsPortalInTmux(t *testing.T) {
	t.Parallel()
	h := portal(t)
	h.env = append(h.env, "SSH_CONNECTION=192.0.2.1 50000 192.0.2.2 22")
	m := h.tmux(t)
	m.types("broker login dev-admin")
	screen := strings.Join(strings.Fields(m.waits("confirm only if they are equal")), " ")
	shown := regexp.MustCompile(`compare the code (\S+) with that on the page`).FindStringSubmatch(screen)
	if shown == nil || !strings.Contains(screen, "my-sso: log in on any device, at the portal demo.awsapps.com") ||
		!strings.Contains(screen, h.sim.url+"/device?user_code="+shown[1]) {
		t.Fatalf("the screen shows %s", screen)
	}
	// The login goes on when the person only thinks.
	h.reaches(t, "CreateToken", 2)
	if code := h.confirms(t); code != shown[1] {
		t.Errorf("the page shows %s, the screen %s", code, shown[1])
	}
	m.waits("my-sso: logged in; Broker renews the login until AWS ends it")
	m.waits("ready> ")
	h.credentials(t, "dev-admin")

	h.ok(t, "broker", "logout", "my-sso")
	m.clean()
	m.types("broker login dev-admin")
	m.waits("confirm only if they are equal")
	m.run("send-keys", "C-c")
	m.types("echo over: $((40+1))")
	m.waits("over: 41")
	// Nobody waits any more, even if the person confirms now.
	h.confirms(t)
	if r := h.run("credproc", "dev-admin"); r.code != 4 {
		t.Error(r)
	}
	h.noPage(t)
}
