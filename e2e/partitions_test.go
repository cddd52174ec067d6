package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// recordingProxy is a proxy between the programs and AWS. It records the requested hosts, and lets the simulator
// answer for all of them.
type recordingProxy struct {
	url, ca string
	mu      sync.Mutex
	asked   []string // hosts with ports, without duplicates, in the order of their first call
}

func (p *recordingProxy) hosts() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.asked)
}

// startRecordingProxy starts a proxy with a certificate for these names. front wraps the simulator's handler.
func startRecordingProxy(
	t *testing.T, dir, simulator string, names []string, front func(http.Handler) http.Handler,
) *recordingProxy {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "CA of a test"}, DNSNames: names,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(t, err)
	p := &recordingProxy{ca: filepath.Join(dir, "recording-ca.pem")}
	must(t, os.WriteFile(p.ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))

	to, err := url.Parse(simulator)
	must(t, err)
	// Keep the Host header, since it is signed.
	aws := httptest.NewUnstartedServer(front(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = to.Scheme, to.Host, r.In.Host
	}}))
	aws.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	aws.Config.ErrorLog = log.New(io.Discard, "", 0) // ignore connections that a client opened without using them
	aws.StartTLS()
	t.Cleanup(aws.Close)
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		if !slices.Contains(p.asked, r.Host) {
			p.asked = append(p.asked, r.Host)
		}
		p.mu.Unlock()
		behind, err := net.Dial("tcp", aws.Listener.Addr().String())
		if r.Method != http.MethodConnect || err != nil {
			http.Error(w, "no", http.StatusBadGateway)
			return
		}
		before, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		_, _ = io.WriteString(before, "HTTP/1.1 200 OK\r\n\r\n")
		go func() {
			_, _ = io.Copy(behind, before)
			_ = behind.Close()
		}()
		_, _ = io.Copy(before, behind)
		_ = before.Close()
	}))
	t.Cleanup(proxy.Close)
	p.url = proxy.URL
	return p
}

// partitionOrg is an organization with one account and two users; paul has a device.
const partitionOrg = `[account main]
id = 111122223333
partition = %s
[user paul]
account = main
access_key_id = AKIAPAULFAKEFAKE2222
secret_access_key = fake/paul+secret/of+paul/fake/paul+22222
[mfa paul]
account = main
user = paul
seed = ABABABABABABABABABABABABABABABAB
[user robot]
account = main
access_key_id = AKIAROBOTFAKEFAKE333
secret_access_key = fake/robo+secret/of+robo/fake/robo+33333
[role admin]
accounts = main
trust = arn:%[1]s:iam::111122223333:root
`

// TestPartitions checks that add, import, login, roles and the console use only the hosts of the source's
// partition. The region comes from the shell, the profile or an ARN, and later from the source.
//
// TestPartitions uses two partitions, and TestPartitionsLong the others.
func TestPartitions(t *testing.T) { usePartitions(t, false) }

func TestPartitionsLong(t *testing.T) { usePartitions(t, true) }

func usePartitions(t *testing.T, long bool) {
	t.Helper()
	t.Parallel()
	for _, p := range []struct{ id, first, region, suffix, iam, signIn string }{
		{"aws", "us-east-1", "eu-west-1", "amazonaws.com", "iam.amazonaws.com", "signin.aws.amazon.com"},
		{"aws-us-gov", "us-gov-west-1", "us-gov-east-1", "amazonaws.com", "iam.us-gov.amazonaws.com",
			"signin.amazonaws-us-gov.com"},
		{"aws-cn", "cn-north-1", "cn-northwest-1", "amazonaws.com.cn", "iam.cn-north-1.amazonaws.com.cn",
			"signin.amazonaws.cn"},
		{"aws-eusc", "eusc-de-east-1", "eusc-de-east-1", "amazonaws.eu", "iam.eusc-de-east-1.amazonaws.eu",
			"eusc-de-east-1.signin.amazonaws-eusc.eu"},
	} {
		if quick := p.id == "aws" || p.id == "aws-cn"; quick == long {
			continue
		}
		t.Run(p.id, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			org := filepath.Join(h.dir, "org.ini")
			must(t, os.WriteFile(org, fmt.Appendf(nil, partitionOrg, p.id), 0o600))
			must(t, h.startSim("--org", org))
			sim := h.sim
			t.Cleanup(func() { _ = sim.stop() })
			sts := func(region string) string { return "sts." + region + "." + p.suffix }
			names := []string{sts(p.first), sts(p.region), p.iam, p.signIn}
			if p.id == "aws" {
				names = append(names, sts("ap-south-1"))
			}
			proxy := startRecordingProxy(t, h.dir, sim.url, names, func(aws http.Handler) http.Handler { return aws })
			h.sim = nil // no sts_endpoint, so the programs call AWS's own hosts
			h.more = "https_proxy = " + proxy.url + "\nca_bundle = " + proxy.ca + "\n"
			must(t, h.settings(""))

			arn := func(rest string) string { return "arn:" + p.id + ":iam::111122223333:" + rest }
			paul := `{"AccessKeyId":"AKIAPAULFAKEFAKE2222","SecretAccessKey":"fake/paul+secret/of+paul/fake/paul+22222"}`
			seen := func(what string, want ...string) {
				t.Helper()
				for _, host := range want {
					if !slices.Contains(proxy.hosts(), host+":443") {
						t.Errorf("%s: the proxy saw %v, but not %s", what, proxy.hosts(), host)
					}
				}
				for _, host := range proxy.hosts() {
					if !slices.Contains(names, strings.TrimSuffix(host, ":443")) {
						t.Errorf("%s: the proxy saw %s, which is not in %s", what, host, p.id)
					}
				}
			}
			add := func(env []string, args ...string) string {
				t.Helper()
				for limit := time.Now().Add(patience); ; {
					cmd := h.command("broker", append([]string{"add", "--stdin"}, args...)...)
					cmd.Env = append(cmd.Env, env...)
					cmd.Stdin = strings.NewReader(paul)
					r := finish(cmd)
					switch {
					case r.code == 0:
						return r.stdout
					case !strings.Contains(r.stderr, "no connection within") || time.Now().After(limit):
						t.Fatal(r)
					}
				}
			}

			// The region comes from the serial alone, even if the shell has a region of another partition.
			add([]string{"AWS_REGION=ap-south-1"}, "--mfa-serial", arn("mfa/paul"), "serial")
			if p.id == "aws" {
				seen("add by serial", sts("ap-south-1"))
			} else {
				seen("add by serial", sts(p.first))
			}
			// The region comes from the shell: the device is found there, and the source remembers it.
			if out := add([]string{"AWS_REGION=" + p.region}, "shell"); !strings.Contains(out, arn("mfa/paul")) {
				t.Errorf("the device was not found: %s", out)
			}
			seen("add", sts(p.region), p.iam)
			// The region comes from the profile that has the key.
			must(t, h.write(h.awsConfig(), "[profile robot]\nregion = "+p.region+"\n[profile admin]\nrole_arn = "+
				arn("role/admin")+"\nsource_profile = shell\n[profile long]\nrole_arn = "+arn("role/admin")+
				"\nsource_profile = robot\n"))
			must(t, h.write(filepath.Join(h.home, ".aws/credentials"), "[robot]\naws_access_key_id = AKIAROBOTFAKEFAKE333\n"+
				"aws_secret_access_key = fake/robo+secret/of+robo/fake/robo+33333\n"))
			h.ok(t, "broker", "import", "--yes", "robot")
			seen("import")
			if r := h.runWith("ABABABABABABABABABABABABABABABAB", "broker", "mfa", "set", "shell", "--seed-stdin"); r.code != 0 {
				t.Fatal(r)
			}
			h.ok(t, "broker", "login", "shell")
			h.credentials(t, "robot")
			h.credentials(t, "long")
			h.credentials(t, "admin")
			seen("login and roles")
			if out := h.ok(t, "broker", "console", "admin", "--print"); !strings.HasPrefix(out, "https://"+p.signIn+"/federation?") {
				t.Errorf("the console is at %s", out)
			}
			seen("console", p.signIn)
		})
	}
}
