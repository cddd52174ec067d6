//go:build clients

package stssim

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// These tests run other projects' software against the simulator: `make test-clients`. A missing tool skips its test
// with a message, and fails it in CI.

func missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("MISSING, NOT PROVEN: %s; see `make deps-clients`", what)
	}
	t.Skipf("SKIPPED, NOT PROVEN: %s is not installed; see `make deps-clients`", what)
}

// tool runs a program with a home of its own, and returns what it prints.
func tool(t *testing.T, home string, environment []string, name string, args ...string) (string, error) {
	t.Helper()
	command := exec.CommandContext(t.Context(), name, args...)
	command.Env = append([]string{"HOME=" + home, "PATH=" + os.Getenv("PATH"), "AWS_EC2_METADATA_DISABLED=true",
		"AWS_PROFILE=dev", "AWS_STS_REGIONAL_ENDPOINTS=regional"}, environment...)
	command.Dir = home
	out, err := command.CombinedOutput()
	return string(out), err
}

// front is a proxy behind which every AWS host is the simulator.
type front struct {
	sim  *Sim
	ca   *x509.Certificate
	key  *ecdsa.PrivateKey
	mu   sync.Mutex
	made map[string]*tls.Certificate // by host
}

// startFront returns the variables of a program that uses AWS by way of the front.
func startFront(t *testing.T, sim *Sim) []string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	f := &front{sim: sim, key: key, made: make(map[string]*tls.Certificate)}
	f.ca = &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "front"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, f.ca, f.ca, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	bundle := filepath.Join(t.TempDir(), "ca.pem")
	writeFile(t, bundle, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	return []string{"HTTPS_PROXY=" + server.URL, "AWS_CA_BUNDLE=" + bundle}
}

// ServeHTTP answers CONNECT, and serves the simulator in the tunnel.
func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodConnect {
		http.Error(w, "only CONNECT", http.StatusMethodNotAllowed)
		return
	}
	socket, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	socket.Write([]byte("HTTP/1.1 200 OK\r\n\r\n"))
	listener := &oneSocket{tls.Server(socket, &tls.Config{GetCertificate: f.certificate}), make(chan struct{})}
	http.Serve(listener, f.sim)
}

func (f *front) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if made := f.made[hello.ServerName]; made != nil {
		return made, nil
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(int64(len(f.made) + 2)), DNSNames: []string{hello.ServerName},
		NotBefore: f.ca.NotBefore, NotAfter: f.ca.NotAfter,
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, f.ca, f.key.Public(), f.key)
	if err != nil {
		return nil, err
	}
	f.made[hello.ServerName] = &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: f.key}
	return f.made[hello.ServerName], nil
}

// oneSocket is a listener of one connection, which ends with it.
type oneSocket struct {
	net.Conn
	taken chan struct{}
}

func (s *oneSocket) Accept() (net.Conn, error) {
	select {
	case <-s.taken:
		return nil, net.ErrClosed
	default:
		close(s.taken)
		return s.Conn, nil
	}
}

func (s *oneSocket) Addr() net.Addr { return s.LocalAddr() }

// Close leaves the connection to its server.
func (s *oneSocket) Close() error { return nil }

// commandLine2 returns the AWS CLI 2, or nothing.
func commandLine2(t *testing.T) string {
	t.Helper()
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		name := filepath.Join(dir, "aws")
		if out, err := exec.Command(name, "--version").Output(); err == nil && strings.HasPrefix(string(out), "aws-cli/2.") {
			return name
		}
	}
	return ""
}

// TestClientsLoginOfTheCLI: `aws sso login` with a device code, a call with the role, a refresh, and a logout.
func TestClientsLoginOfTheCLI(t *testing.T) {
	cli := commandLine2(t)
	if cli == "" {
		missing(t, "the AWS CLI 2")
	}
	sim, home := newDemo(t), t.TempDir()
	environment := startFront(t, sim)
	writeFile(t, filepath.Join(home, ".aws", "config"), profileText)
	go func() { // the person
		for t.Context().Err() == nil {
			for _, waiting := range sim.Portal().Devices {
				sim.ApproveDevice(waiting.UserCode, "paul")
			}
			time.Sleep(10 * time.Millisecond)
		}
	}()
	login := []string{"sso", "login", "--no-browser"}
	if help, _ := tool(t, home, environment, cli, "sso", "login", "help"); strings.Contains(help, "--use-device-code") {
		login = append(login, "--use-device-code")
	}
	if out, err := tool(t, home, environment, cli, login...); err != nil || !strings.Contains(out, "Successfully logged into") {
		t.Fatalf("%v\n%s\n%+v", err, out, sim.Requests())
	}
	identity := func() {
		t.Helper()
		out, err := tool(t, home, environment, cli, "sts", "get-caller-identity")
		if err != nil || !strings.Contains(out, ":assumed-role/AWSReservedSSO_Admin_") {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	identity()

	// With an old token and without the role's credentials, the CLI has to refresh.
	text, err := os.ReadFile(tokenFile(home))
	if err != nil {
		t.Fatal(err)
	}
	var token map[string]any
	if err := json.Unmarshal(text, &token); err != nil {
		t.Fatal(err)
	}
	token["expiresAt"] = "2020-01-01T00:00:00Z"
	if text, err = json.Marshal(token); err != nil {
		t.Fatal(err)
	}
	writeFile(t, tokenFile(home), string(text))
	if err := os.RemoveAll(filepath.Join(home, ".aws", "cli")); err != nil {
		t.Fatal(err)
	}
	sim.ExpireAccessTokens()
	before := sim.Successes("CreateToken")
	identity()
	if n := sim.Successes("CreateToken") - before; n != 1 {
		t.Errorf("%d refreshes", n)
	}
	if out, err := tool(t, home, environment, cli, "sso", "logout"); err != nil || sim.Successes("Logout") != 1 {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestClientsTokenCache: boto3 and the SDK for JavaScript refresh the token of their cache.
func TestClientsTokenCache(t *testing.T) {
	for name, run := range map[string]func(*testing.T, *Sim, string) (string, error){"boto3": withBoto3, "js3": withJS3} {
		t.Run(name, func(t *testing.T) {
			sim := newDemo(t)
			out, err := run(t, sim, homeWithToken(t, sim))
			if err != nil || !strings.Contains(out, ":assumed-role/AWSReservedSSO_Admin_") {
				t.Fatalf("%v\n%s\n%+v", err, out, sim.Requests())
			}
			if sim.Successes("CreateToken") != 2 || sim.Successes("GetRoleCredentials") != 1 {
				t.Errorf("counts %+v", sim.Counts())
			}
		})
	}
}

func withBoto3(t *testing.T, sim *Sim, home string) (string, error) {
	python, err := exec.LookPath("python3")
	if err != nil || exec.Command(python, "-c", "import boto3").Run() != nil {
		missing(t, "boto3")
	}
	return tool(t, home, startFront(t, sim), python, "-c", "import boto3; print(boto3.client('sts').get_caller_identity()['Arn'])")
}

// withJS3 runs the SDK for JavaScript, with the packages of `make deps-clients`.
func withJS3(t *testing.T, sim *Sim, home string) (string, error) {
	packages := os.Getenv("BROKER_CLIENTS")
	if cache, err := os.UserCacheDir(); err == nil && packages == "" {
		packages = filepath.Join(cache, "broker-clients")
	}
	client := filepath.Join(packages, "node_modules", "@aws-sdk", "client-sts")
	if _, err := os.Stat(client); err != nil {
		missing(t, "the SDK for JavaScript")
	}
	server, err := sim.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	script := fmt.Sprintf("const s = require(%q); new s.STSClient({}).send(new s.GetCallerIdentityCommand({}))"+
		".then(r => console.log(r.Arn), e => { console.error(e); process.exit(1) })", client)
	return tool(t, home, []string{"AWS_ENDPOINT_URL=" + server.URL}, "node", "-e", script)
}

// TestClientsLoginCache: the SDK for JavaScript refreshes the credentials of `aws login` with a proof of its own.
func TestClientsLoginCache(t *testing.T) {
	sim, home := newDemo(t), t.TempDir()
	client := newLoginClient(t, sim)
	out := client.login()
	der, err := x509.MarshalECPrivateKey(client.key)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(map[string]any{
		"accessToken": map[string]string{
			"accessKeyId": "a", "secretAccessKey": "b", "sessionToken": "c", "accountId": "111122223333",
			"expiresAt": "2020-01-01T00:00:00Z",
		},
		"tokenType": "aws_sigv4", "clientId": sameDevice, "refreshToken": *out.RefreshToken, "idToken": *out.IdToken,
		"dpopKey":      string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})),
		"signInRegion": "eu-west-1",
	})
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(paulARN))
	writeFile(t, filepath.Join(home, ".aws", "login", "cache", hex.EncodeToString(sum[:])+".json"), string(text))
	writeFile(t, filepath.Join(home, ".aws", "config"), "[profile dev]\nlogin_session = "+paulARN+"\nregion = eu-central-1\n")
	printed, err := withJS3(t, sim, home)
	if err != nil || !strings.Contains(printed, paulARN) || sim.Successes("CreateOAuth2Token") != 2 {
		t.Fatalf("%v\n%s\n%+v", err, printed, sim.Requests())
	}
}

// TestClientsPages: a real browser posts the form, comes back with a code, and is let through without a question the
// second time.
func TestClientsPages(t *testing.T) {
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		missing(t, "chromium")
	}
	sim := newDemo(t)
	server, err := sim.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	client := browserClient(t, sim)
	var mu sync.Mutex
	var codes []string
	var again string
	back := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/oauth/callback" {
			http.NotFound(w, r)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		codes = append(codes, r.URL.Query().Get("code"))
		if len(codes) == 1 {
			http.Redirect(w, r, again, http.StatusFound)
			return
		}
		fmt.Fprint(w, "<html><body>logged in</body></html>")
	}))
	defer back.Close()
	request := client.authorization()
	request.Set("redirect_uri", back.URL+"/oauth/callback")
	again = server.URL + "/authorize?" + request.Encode()
	form := "<html><body><form method=post action=" + server.URL + "/authorize>"
	for name := range request {
		form += fmt.Sprintf("<input type=hidden name=%s value=%q>", name, request.Get(name))
	}
	form += "<button id=allow name=answer value=allow>Allow</button></form>" +
		"<script>document.getElementById('allow').click()</script>"
	home := t.TempDir()
	dom, err := tool(t, home, nil, chromium, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run",
		"--disable-background-networking", "--user-data-dir="+filepath.Join(home, "profile"), "--virtual-time-budget=5000",
		"--dump-dom", "data:text/html,"+url.PathEscape(form))
	mu.Lock()
	defer mu.Unlock()
	if err != nil || !strings.Contains(dom, "logged in") || len(codes) != 2 {
		t.Fatalf("%v, codes %v\n%s", err, codes, dom)
	}
	if _, err := client.redeem(codes[1], verifier, back.URL+"/oauth/callback"); err != nil {
		t.Error(err)
	}
}

// TestClientCLI uses the AWS CLI, an independent implementation of signing and parsing.
func TestClientCLI(t *testing.T) {
	path, err := exec.LookPath("aws")
	if err == nil {
		err = exec.Command(path, "--version").Run() // the name may be a shim for a tool that is not installed
	}
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("the AWS CLI is missing: %v", err)
		}
		t.Skipf("NOT TESTED against the AWS CLI, it is missing: %v", err)
	}
	sim := newDemo(t)
	server, err := sim.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	aws := func(keys aws.Credentials, args ...string) string {
		t.Helper()
		cmd := exec.Command(path, append([]string{"--endpoint-url", server.URL, "--output", "json"}, args...)...)
		cmd.Env = []string{
			"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "PYENV_ROOT=" + os.Getenv("PYENV_ROOT"),
			"AWS_ACCESS_KEY_ID=" + keys.AccessKeyID, "AWS_SECRET_ACCESS_KEY=" + keys.SecretAccessKey, "AWS_SESSION_TOKEN=" + keys.SessionToken,
			"AWS_DEFAULT_REGION=eu-west-1", "AWS_EC2_METADATA_DISABLED=true", "AWS_PAGER=", "AWS_MAX_ATTEMPTS=1",
		}
		out, err := cmd.CombinedOutput()
		if err != nil {
			return "error: " + string(out)
		}
		return string(out)
	}
	key := paul(sim).keys
	if out := aws(key, "sts", "get-caller-identity"); !strings.Contains(out, "arn:aws:iam::111122223333:user/paul") {
		t.Errorf("get-caller-identity: %s", out)
	}
	if out := aws(key, "iam", "list-access-keys"); !strings.Contains(out, key.AccessKeyID) {
		t.Errorf("list-access-keys: %s", out)
	}
	code := sim.FreshCode(paulSerial)
	out := aws(key, "sts", "get-session-token", "--serial-number", paulSerial, "--token-code", code)
	var opened struct {
		Credentials struct{ AccessKeyId, SecretAccessKey, SessionToken string }
	}
	if err := json.Unmarshal([]byte(out), &opened); err != nil {
		t.Fatalf("get-session-token: %s", out)
	}
	if out := aws(key, "sts", "get-session-token", "--serial-number", paulSerial, "--token-code", code); !strings.Contains(out, "An error occurred (AccessDenied) when calling the GetSessionToken operation: MultiFactorAuthentication failed with invalid MFA one time pass code.") {
		t.Errorf("the same code again: %s", out)
	}
	session := key
	session.AccessKeyID, session.SecretAccessKey, session.SessionToken = opened.Credentials.AccessKeyId,
		opened.Credentials.SecretAccessKey, opened.Credentials.SessionToken
	if out := aws(session, "sts", "assume-role", "--role-arn", devAdmin, "--role-session-name", "cli"); !strings.Contains(out, "assumed-role/allow-admin-from-security-account/cli") {
		t.Errorf("assume-role: %s", out)
	}
}
