//go:build clients

package e2e

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// signedInConsole plays the sign-in endpoint and the console for a browser, backed by the simulator. It records
// the browser's requests, and which processes had a secret in their arguments during them.
type signedInConsole struct {
	mu      sync.Mutex
	asked   []string
	exposed []string
}

func (c *signedInConsole) front(aws http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Host == "signin.aws.amazon.com" && r.Method == http.MethodGet:
			c.note("sign-in", r.FormValue("SigninToken"))
			answer := httptest.NewRecorder()
			aws.ServeHTTP(answer, r)
			for name, values := range answer.Header() {
				w.Header()[name] = values
			}
			if answer.Code == http.StatusFound {
				http.SetCookie(w, &http.Cookie{Name: "aws-creds", Value: "of-the-console", Domain: "aws.amazon.com", Path: "/",
					Secure: true, HttpOnly: true})
			}
			w.WriteHeader(answer.Code)
			_, _ = w.Write(answer.Body.Bytes())
		case r.Host == "console.aws.amazon.com":
			cookie, err := r.Cookie("aws-creds")
			if err != nil || r.Referer() != "" {
				c.note("a page without the cookie, or with a referrer "+r.Referer(), "")
				http.Error(w, "signed out", http.StatusForbidden)
				return
			}
			c.note("page "+r.URL.String(), cookie.Value)
			w.Header().Set("Content-Type", "text/html")
			_, _ = io.WriteString(w, "<html><head><link rel=icon href=\"data:,\"></head><body><h1>signed in</h1></body></html>")
		default:
			aws.ServeHTTP(w, r)
		}
	})
}

// note checks the arguments of all processes while the browser waits for its answer.
func (c *signedInConsole) note(what, secret string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked = append(c.asked, what)
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range files {
		args, err := os.ReadFile(file)
		text := strings.ReplaceAll(string(args), "\x00", " ")
		if err == nil && (secret != "" && strings.Contains(text, secret) || strings.Contains(text, "SigninToken=")) {
			c.exposed = append(c.exposed, text)
		}
	}
}

// TestClientsConsole opens the console in a real browser. The browser is redirected once and signed in by the
// sign-in endpoint's cookie, and no secret is in the arguments of a process.
func TestClientsConsole(t *testing.T) {
	browser := append(installed("chromium"), "")[0]
	if browser == "" {
		missing(t, "chromium")
	}
	h := demo(t)
	sim := h.sim
	t.Cleanup(func() { _ = sim.stop() })
	page := new(signedInConsole)
	proxy := startRecordingProxy(t, h.dir, sim.url,
		[]string{"sts.us-east-1.amazonaws.com", "sts.eu-west-1.amazonaws.com", "signin.aws.amazon.com", "console.aws.amazon.com"}, page.front)
	h.sim = nil // no sts_endpoint
	dom, script := filepath.Join(h.dir, "dom.html"), filepath.Join(h.dir, "browser")
	// Chromium runs without a sandbox, because root cannot have one.
	must(t, os.WriteFile(script, fmt.Appendf(nil, "#!/bin/sh\nexec %s --headless=new --no-sandbox --disable-gpu --user-data-dir=%s "+
		"--proxy-server=%s --ignore-certificate-errors --no-first-run --disable-background-networking --dump-dom \"$1\" >%s 2>%s.log\n",
		browser, filepath.Join(h.dir, "profile"), proxy.url, dom, dom), 0o755))
	h.more = "https_proxy = " + proxy.url + "\nca_bundle = " + proxy.ca + "\nbrowser = " + script + "\n"
	must(t, h.settings("[source security]\naccess_key_id = "+keyID+"\nmfa_serial = "+serial+"\nmfa_seed = keyring\n"+
		"[profile prod]\nrole_arn = "+prodRole+"\nsource_profile = security\nregion = eu-west-1\n"))
	if r := h.run("broker", "console", "prod", "--service", "s3"); r.code != 0 {
		t.Fatal(r)
	}
	until(t, "the page in the browser", func() bool {
		text, err := os.ReadFile(dom)
		return err == nil && strings.Contains(string(text), "</html>")
	})
	text, err := os.ReadFile(dom)
	must(t, err)
	if !strings.Contains(string(text), "<h1>signed in</h1>") {
		log, _ := os.ReadFile(dom + ".log")
		t.Errorf("the browser shows %s\n%s", text, tail(log, 2000))
	}
	page.mu.Lock()
	defer page.mu.Unlock()
	if want := "[sign-in page /s3/home?region=eu-west-1]"; fmt.Sprint(page.asked) != want {
		t.Errorf("the browser asked for %v, want %s", page.asked, want)
	}
	if len(page.exposed) > 0 {
		t.Errorf("arguments hold a secret: %q", page.exposed)
	}
}
