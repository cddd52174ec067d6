//go:build clients

package e2e

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestClientsTokenDocument: the whole output of `broker token eks` and `broker token rds` is, byte for byte, that of
// the AWS CLI with the same session at the same time.
func TestClientsTokenDocument(t *testing.T) {
	t.Parallel()
	clis := installed("aws")
	if _, err := exec.LookPath("faketime"); err != nil || len(clis) == 0 {
		missing(t, "the AWS CLI or faketime")
	}
	h := tokenHouse(t)
	doc := h.credentials(t, "product_prod_paul")
	// frozen is the output of an AWS CLI at the time of a signed URL. Keys and time come from Broker.
	frozen := func(cli, signed, info string, args ...string) string {
		u, err := url.Parse(signed)
		must(t, err)
		at, err := time.Parse("20060102T150405Z", u.Query().Get("X-Amz-Date"))
		must(t, err)
		command := exec.CommandContext(t.Context(), "faketime", append([]string{"-f", at.Format(time.DateTime), cli}, args...)...)
		command.Env = append(h.env, "TZ=UTC", "AWS_ACCESS_KEY_ID="+doc.AccessKeyID, "AWS_SECRET_ACCESS_KEY="+doc.SecretAccessKey,
			"AWS_SESSION_TOKEN="+doc.SessionToken, "AWS_ENDPOINT_URL_STS="+h.sim.url, "AWS_EC2_METADATA_DISABLED=true",
			"KUBERNETES_EXEC_INFO="+info, "PYENV_ROOT="+os.Getenv("PYENV_ROOT"))
		var problems bytes.Buffer
		command.Stderr = &problems
		out, err := command.Output()
		if err != nil {
			t.Fatalf("%s: %v\n%s", args, err, problems.String())
		}
		return string(out)
	}
	whole := 0
	for _, cli := range clis {
		for _, version := range []string{"", "v1beta1", "v1"} {
			info := ""
			if version != "" {
				info = `{"kind":"ExecCredential","apiVersion":"client.authentication.k8s.io/` + version + `","spec":{"interactive":false}}`
			}
			r := h.in([]string{"KUBERNETES_EXEC_INFO=" + info}, "broker", "token", "eks", "product_prod_paul", "--cluster", "main_1")
			if r.code != 0 || r.stderr != "" {
				t.Fatal(r)
			}
			signed := signedURL(t, tokenIn(t, r.stdout))
			want := frozen(cli, signed, info, "eks", "get-token", "--cluster-name", "main_1", "--region", "eu-west-1")
			if !strings.HasPrefix(want, "{\n") { // Debian 12's writes one line, and knows no AWS_ENDPOINT_URL_STS
				t.Logf("NOT TESTED: the form that %s writes is not that of today", cli)
				continue
			}
			if whole++; r.stdout != want {
				t.Errorf("%s %s writes\n%s\nbroker writes\n%s", cli, version, want, r.stdout)
			}
		}
		out := h.ok(t, "broker", "token", "rds", "product_prod_paul", "--host", "db.example.com:5432", "--user", "paul")
		want := frozen(cli, "https://"+strings.TrimSpace(out), "", "rds", "generate-db-auth-token", "--hostname",
			"db.example.com", "--port", "5432", "--username", "paul", "--region", "eu-west-1")
		if out != want {
			t.Errorf("%s writes\n%s\nbroker writes\n%s", cli, want, out)
		}
	}
	if whole == 0 {
		missing(t, "an AWS CLI of today")
	}
}

// tokenHouse returns a house with a profile and a running daemon.
func tokenHouse(t *testing.T) *house {
	t.Helper()
	h := demo(t)
	must(t, h.write(h.awsConfig(), demoConfig))
	h.credentials(t, "product_prod_paul")
	return h
}

// tokenIn returns the token in an ExecCredential.
func tokenIn(t *testing.T, text string) string {
	t.Helper()
	var document struct{ Status struct{ Token string } }
	must(t, json.Unmarshal([]byte(text), &document))
	return document.Status.Token
}

// signedURL returns the request in a token for EKS.
func signedURL(t *testing.T, token string) string {
	t.Helper()
	text, ok := strings.CutPrefix(token, "k8s-aws-v1.")
	signed, err := base64.RawURLEncoding.DecodeString(text)
	if !ok || err != nil {
		t.Fatalf("%q is not a token for EKS: %v", token, err)
	}
	return string(signed)
}

// TestClientsKubectl: kubectl runs broker as in docs/tokens.md, and a cluster learns from STS whose role it is.
func TestClientsKubectl(t *testing.T) {
	t.Parallel()
	kubectl := installed("kubectl")
	if len(kubectl) == 0 {
		missing(t, "kubectl")
	}
	h := tokenHouse(t)
	var mu sync.Mutex
	var seen []string
	// The authenticator of EKS sends the request that is in the token, with the name of its cluster.
	cluster := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer k8s-aws-v1.")
		signed, err := base64.RawURLEncoding.DecodeString(token)
		ask, askErr := http.NewRequestWithContext(r.Context(), http.MethodGet, string(signed), nil)
		if !ok || err != nil || askErr != nil || !strings.HasPrefix(string(signed), h.sim.url+"/?Action=GetCallerIdentity&") {
			http.Error(w, "no token of EKS", http.StatusUnauthorized)
			return
		}
		ask.Header.Set("x-k8s-aws-id", "main")
		answer, err := http.DefaultClient.Do(ask)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer func() { _ = answer.Body.Close() }()
		body, _ := io.ReadAll(answer.Body)
		_, arn, _ := strings.Cut(string(body), "<Arn>")
		arn, _, _ = strings.Cut(arn, "</Arn>")
		mu.Lock()
		seen = append(seen, fmt.Sprint(answer.StatusCode, " ", arn))
		mu.Unlock()
		if answer.StatusCode != http.StatusOK {
			http.Error(w, "STS does not know you", http.StatusUnauthorized)
			return
		}
		_, _ = io.WriteString(w, arn)
	}))
	t.Cleanup(cluster.Close)
	ca := base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cluster.Certificate().Raw}))
	user := exampleAfter(t, "docs/tokens.md", "~/.kube/config")
	for _, tt := range []struct{ cluster, says string }{{"main", prodSession}, {"other", "provide credentials"}} {
		file := filepath.Join(h.dir, tt.cluster+".kubeconfig")
		must(t, os.WriteFile(file, []byte(`apiVersion: v1
kind: Config
current-context: x
clusters:
- name: main
  cluster: {server: "`+cluster.URL+`", certificate-authority-data: "`+ca+`"}
contexts:
- name: x
  context: {cluster: main, user: main}
`+user), 0o600))
		if tt.cluster != "main" {
			text, err := os.ReadFile(file)
			must(t, err)
			must(t, os.WriteFile(file, bytes.Replace(text, []byte("--cluster, main"), []byte("--cluster, other"), 1), 0o600))
		}
		r := h.in([]string{"KUBECONFIG=" + file}, kubectl[0], "get", "--raw", "/whoami")
		if !strings.Contains(r.stdout+r.stderr, tt.says) || (r.code == 0) != (tt.cluster == "main") {
			t.Errorf("%s: %v", tt.cluster, r)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if len(seen) < 2 || !strings.HasPrefix(seen[0], "200 "+prodSession) || strings.HasPrefix(seen[len(seen)-1], "200") {
		t.Errorf("the cluster saw %q", seen)
	}
}

const prodSession = "arn:aws:sts::444455556666:assumed-role/allow-admin-from-security-account/"

// exampleAfter returns the first block of a page after a text.
func exampleAfter(t *testing.T, page, text string) string {
	t.Helper()
	all, err := os.ReadFile(filepath.Join("..", page))
	must(t, err)
	_, rest, found := strings.Cut(string(all), text)
	_, rest, begins := strings.Cut(rest, "\n```")
	_, rest, _ = strings.Cut(rest, "\n")
	block, _, ends := strings.Cut(rest, "```")
	if !found || !begins || !ends {
		t.Fatalf("%s has no block after %q", page, text)
	}
	return block
}

// TestClientsRegistry: crane pushes an image to a registry of ECR and pulls it again, with docker-credential-broker and
// the lines of docs/tokens.md. The registry accepts nothing but tokens that the simulator issued.
func TestClientsRegistry(t *testing.T) {
	t.Parallel()
	crane := filepath.Join(clientsDir, "bin", "crane")
	if _, err := os.Stat(crane); err != nil {
		missing(t, "crane")
	}
	h := tokenHouse(t)
	const host = "444455556666.dkr.ecr.eu-west-1.amazonaws.com"
	r := startRegistry(t, h, crane, host)
	docker := exampleAfter(t, "docs/tokens.md", "~/.docker/config.json")
	must(t, h.write(filepath.Join(h.home, ".docker", "config.json"), docker))
	env := []string{"HTTPS_PROXY=" + r.proxy, "SSL_CERT_FILE=" + r.ca}

	layer := filepath.Join(h.dir, "layer.tar")
	var text bytes.Buffer
	w := tar.NewWriter(&text)
	must(t, w.WriteHeader(&tar.Header{Name: "hello", Mode: 0o644, Size: 5}))
	_, err := w.Write([]byte("hello"))
	must(t, err)
	must(t, w.Close())
	must(t, os.WriteFile(layer, text.Bytes(), 0o600))

	image := host + "/team/app:1"
	if got := h.in(env, crane, "append", "--new_layer", layer, "--new_tag", image); got.code != 0 {
		t.Fatal(got)
	}
	if got := h.in(env, crane, "pull", image, filepath.Join(h.dir, "image.tar")); got.code != 0 {
		t.Error(got)
	}
	got := h.in(env, crane, "export", image, "-")
	if got.code != 0 || !strings.Contains(got.stdout, "hello") {
		t.Error(got)
	}
	t.Run("docker", func(t *testing.T) { // its own command line needs no daemon for this
		clis := installed("docker")
		if len(clis) == 0 {
			missing(t, "docker")
		}
		for _, cli := range clis {
			got := h.in(env, cli, "manifest", "inspect", image)
			if got.code != 0 || !strings.Contains(got.stdout, "layers") {
				t.Errorf("%s: %v", cli, got)
			}
		}
	})
	r.mu.Lock()
	if r.admitted == 0 || r.refused["AWS"] > 0 {
		t.Errorf("admitted %d requests, refused %v", r.admitted, r.refused)
	}
	r.mu.Unlock()

	// Without the helper the registry refuses, and so it does once Broker is locked. Then crane shows why.
	must(t, os.WriteFile(filepath.Join(h.home, ".docker", "config.json"), []byte("{}"), 0o600))
	if got := h.in(env, crane, "manifest", image); got.code == 0 || !strings.Contains(got.stderr, "401") {
		t.Errorf("without a helper: %v", got)
	}
	must(t, os.WriteFile(filepath.Join(h.home, ".docker", "config.json"), []byte(docker), 0o600))
	h.ok(t, "broker", "lock")
	if got := h.in(env, crane, "manifest", image); got.code == 0 || !strings.Contains(got.stderr, "Broker is locked") {
		t.Errorf("locked: %v", got)
	}
	h.ok(t, "broker", "unlock")
	if got := h.in(env, crane, "manifest", image); got.code != 0 {
		t.Error(got)
	}
}

// ecrRegistry is `crane registry serve` behind the name, the certificate and the password of ECR.
type ecrRegistry struct {
	proxy string // URL of a proxy that leads to it, whatever name is asked for
	ca    string // file

	mu       sync.Mutex
	admitted int
	refused  map[string]int // by user
}

func startRegistry(t *testing.T, h *house, crane, host string) *ecrRegistry {
	t.Helper()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	address := free.Addr().String()
	must(t, free.Close())
	store := exec.CommandContext(context.Background(), crane, "registry", "serve", "--address", address)
	must(t, store.Start())
	t.Cleanup(func() {
		_ = store.Process.Kill()
		_ = store.Wait()
	})
	until(t, "the registry listens", func() bool {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})

	r := &ecrRegistry{ca: filepath.Join(h.dir, "registry-ca.pem"), refused: map[string]int{}}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	certificate := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: host},
		DNSNames: []string{host}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, certificate, certificate, key.Public(), key)
	must(t, err)
	must(t, os.WriteFile(r.ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))

	to, err := url.Parse("http://" + address)
	must(t, err)
	behind := &httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) {
		p.SetURL(to)
		p.Out.Header.Del("Authorization")
		p.Out.Host = p.In.Host
	}}
	front := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
		user, password, _ := req.BasicAuth()
		if !r.admits(h, user, password) {
			w.Header().Set("WWW-Authenticate", `Basic realm="https://`+host+`/",service="ecr.amazonaws.com"`)
			http.Error(w, "401 no token of ECR", http.StatusUnauthorized)
			return
		}
		behind.ServeHTTP(w, req)
	}))
	front.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	front.StartTLS()
	t.Cleanup(front.Close)
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Method != http.MethodConnect || req.Host != host+":443" {
			http.Error(w, "not the registry", http.StatusForbidden)
			return
		}
		out, err := net.Dial("tcp", front.Listener.Addr().String())
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		in, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			_ = out.Close()
			return
		}
		_, _ = io.WriteString(in, "HTTP/1.1 200 OK\r\n\r\n")
		go func() {
			_, _ = io.Copy(out, in)
			_ = out.Close()
		}()
		_, _ = io.Copy(in, out)
		_ = in.Close()
	}))
	t.Cleanup(proxy.Close)
	r.proxy = proxy.URL
	return r
}

// admits asks the simulator whether it issued a password for the registry.
func (r *ecrRegistry) admits(h *house, user, password string) bool {
	var issued []struct{ Service, Token, Region, Caller string }
	err := h.sim.call(http.MethodGet, "tokens", "", &issued)
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, token := range issued {
		if err == nil && user == "AWS" && token.Service == "ecr" && token.Token == password && token.Region == "eu-west-1" &&
			strings.HasPrefix(token.Caller, prodSession) {
			r.admitted++
			return true
		}
	}
	r.refused[user]++
	return false
}
