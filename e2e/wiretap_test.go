package e2e

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// wiretap is a front of the simulator that collects the secrets of logins on web pages.
type wiretap struct {
	mu sync.Mutex
	// vault are the secrets that only the vault process and the keyring may hold: refresh tokens, secrets of registered
	// clients, and DPoP keys, by their public part, which is stored beside the private one. others are access tokens and
	// codes.
	vault, others map[string]string
	refresh       string // the last refresh token
}

// tapped returns the house of demo with a wiretap, the profiles of portalConfig, and a browser that
// confirms each page. The browser keeps a history, which is not Broker's: it is beside the programs.
func tapped(t testing.TB) (*house, *wiretap) {
	t.Helper()
	h := newHouse(t)
	must(t, h.startSim())
	w := h.tap(t)
	h.moveIn(t)
	must(t, h.write(h.awsConfig(), demoConfig+portalConfig))
	self, err := os.Executable()
	must(t, err)
	browser := filepath.Join(h.bin, "browser")
	must(t, os.WriteFile(browser, fmt.Appendf(nil, "#!/bin/sh\nE2E_ROLE=browser E2E_OUT=%s exec %s \"$@\"\n",
		filepath.Join(h.bin, "visited"), self), 0o755))
	h.env = append(h.env, "DISPLAY=:4711", "BROWSER="+browser)
	must(t, h.sim.post("pages", `{"answer":"allow"}`))
	return h, w
}

// tap puts a wiretap between the programs and the simulator. The simulator's own paths work through it, too.
func (h *house) tap(t testing.TB) *wiretap {
	t.Helper()
	to, err := url.Parse(h.sim.url)
	must(t, err)
	w := &wiretap{vault: map[string]string{}, others: map[string]string{}}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = to.Scheme, to.Host, r.In.Host // the Host header is signed
		},
		ModifyResponse: func(r *http.Response) error {
			body, err := io.ReadAll(r.Body)
			w.note(body)
			r.Body = io.NopCloser(bytes.NewReader(body))
			return err
		},
	}
	front := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		w.note(body)
		w.proof(r.Header.Get("DPoP"))
		r.Body = io.NopCloser(bytes.NewReader(body))
		proxy.ServeHTTP(out, r)
	}))
	t.Cleanup(front.Close)
	h.sim.url = front.URL
	return w
}

// note collects what a request or an answer of a login has.
func (w *wiretap) note(body []byte) {
	var m map[string]any
	if json.Unmarshal(body, &m) != nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for name, value := range m {
		text, _ := value.(string)
		if text == "" {
			continue
		}
		switch name {
		case "refreshToken":
			w.vault[name+" "+text[len(text)-6:]], w.refresh = text, text
		case "clientSecret":
			w.vault[name+" "+text[len(text)-6:]] = text
		case "accessToken", "deviceCode", "code", "codeVerifier":
			w.others[name+" "+text[len(text)-6:]] = text
		}
	}
}

// proof collects the public part of the key of a DPoP proof, as a stored key has it.
func (w *wiretap) proof(jwt string) {
	head, _, _ := strings.Cut(jwt, ".")
	text, err := base64.RawURLEncoding.DecodeString(head)
	if err != nil {
		return
	}
	var header struct{ JWK struct{ X, Y string } }
	if json.Unmarshal(text, &header) != nil || header.JWK.X == "" {
		return
	}
	x, _ := base64.RawURLEncoding.DecodeString(header.JWK.X)
	y, _ := base64.RawURLEncoding.DecodeString(header.JWK.Y)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.vault["DPoP key "+header.JWK.X[:6]] = string(x) + string(y)
}

// TestDPoPKeysAreFound checks that the search for the public part finds a stored key. Otherwise the searches for DPoP
// keys mean nothing.
func TestDPoPKeysAreFound(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	point, err := key.PublicKey.Bytes()
	must(t, err)
	x, y := base64.RawURLEncoding.EncodeToString(point[1:33]), base64.RawURLEncoding.EncodeToString(point[33:])
	w := &wiretap{vault: map[string]string{}}
	w.proof(base64.RawURLEncoding.EncodeToString([]byte(`{"jwk":{"x":"`+x+`","y":"`+y+`"}}`)) + ".e30.c2ln")
	der, err := x509.MarshalECPrivateKey(key)
	must(t, err)
	for _, stored := range [][]byte{der, []byte("key: " + base64.StdEncoding.EncodeToString(der))} {
		if kept, _ := w.secrets(); lookFor(kept).in(stored) == nil {
			t.Errorf("not found in %q", stored)
		}
	}
}

// secrets returns what the wiretap has collected: what only the vault may hold, and the rest.
func (w *wiretap) secrets() (vault, others map[string]string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.vault), maps.Clone(w.others)
}
