package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

// The variables of an endpoint.
const (
	endpointURI   = "AWS_CONTAINER_CREDENTIALS_FULL_URI"
	endpointToken = "AWS_CONTAINER_AUTHORIZATION_TOKEN"
)

// askEndpoint sends a request to the endpoint in the environment; status 0 means no answer.
func askEndpoint() (bytes, status int) {
	req, err := http.NewRequest(http.MethodGet, os.Getenv(endpointURI), nil)
	if err != nil {
		return 0, 0
	}
	req.Header.Set("Authorization", os.Getenv(endpointToken))
	resp, err := (&http.Client{Timeout: patience}).Do(req)
	if err != nil {
		return 0, 0
	}
	defer func() { _ = resp.Body.Close() }()
	body, _ := io.ReadAll(resp.Body)
	return len(body), resp.StatusCode
}

// pollerRole is a program with the Go SDK that makes calls for the duration E2E_FOR and prints the result.
func pollerRole() int {
	length, err := time.ParseDuration(os.Getenv("E2E_FOR"))
	if err != nil {
		fmt.Println(err)
		return 1
	}
	ctx := context.Background()
	cfg, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	client := sts.NewFromConfig(cfg, func(o *sts.Options) { o.BaseEndpoint = aws.String(os.Getenv("E2E_STS")) })
	calls, keys := 0, map[string]bool{}
	for end := time.Now().Add(length); calls == 0 || time.Now().Before(end); calls++ {
		out, err := client.GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
		if err != nil {
			fmt.Printf("call %d failed: %v\n", calls, err)
			return 1
		}
		if arn := aws.ToString(out.Arn); !strings.HasPrefix(arn, os.Getenv("E2E_ARN")) {
			fmt.Printf("call %d is of %s\n", calls, arn)
			return 1
		}
		if creds, err := cfg.Credentials.Retrieve(ctx); err == nil {
			keys[creds.AccessKeyID] = true
		}
		time.Sleep(20 * time.Millisecond)
	}
	fmt.Printf("%d calls, %d sessions, none failed\n", calls, len(keys))
	return 0
}

// selfProgram copies this test program to a place where every uid can run it.
func selfProgram(t testing.TB) string {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	program := filepath.Join(binaries, "e2e.test")
	must(t, linkOrCopy(self, program))
	must(t, os.Chmod(program, 0o755))
	return program
}

// holder is a program under `broker exec` that runs until the test ends.
type holder struct {
	env []string // of its endpoint, with --mode server
	cmd *exec.Cmd
}

// holder starts a program with an endpoint.
func (h *house) holder(t testing.TB, profile string) *holder {
	t.Helper()
	o, told := h.hold(t, "server", profile, "env | grep ^AWS_CONTAINER")
	o.env = strings.Fields(told)
	return o
}

// hold starts a program, and waits for what a shell command reports of its environment.
func (h *house) hold(t testing.TB, mode, profile, command string) (o *holder, told string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "told")
	o = &holder{cmd: h.command("broker", "exec", profile, "--mode", mode, "--", "sh", "-c", command+` >"$0.new" && mv "$0.new" "$0" && exec sleep 1000`, file)}
	must(t, o.cmd.Start())
	t.Cleanup(o.end)
	until(t, "the program runs", func() bool {
		text, err := os.ReadFile(file)
		told = strings.TrimSpace(string(text))
		return err == nil
	})
	return o, told
}

// end ends the program if it still runs.
func (o *holder) end() {
	if o.cmd.ProcessState == nil {
		_ = o.cmd.Process.Kill()
		_ = o.cmd.Wait()
	}
}

// ask sends a request to the endpoint as a process of this uid.
func (o *holder) ask(t testing.TB, uid uint32) string {
	t.Helper()
	r := finish(other(t, uid, "asker", o.env...))
	if r.code != 0 {
		t.Fatal(r)
	}
	return strings.TrimSpace(r.stdout)
}

// answered reports whether a process that asked got an answer.
func answered(said string) bool { return strings.HasSuffix(said, "status 200") }

const noAnswer = "0 bytes, status 0"

// TestServerForOthers checks that another uid with the right token gets no byte, and that the same program with
// our uid is answered until the program ends for which the token was made.
func TestServerForOthers(t *testing.T) {
	t.Parallel()
	needRoot(t)
	h := demo(t)
	o := h.holder(t, "product_prod_paul")
	for range 3 {
		if said := o.ask(t, 65534); said != noAnswer {
			t.Errorf("another uid: %s", said)
		}
		if said := o.ask(t, uint32(os.Getuid())); !answered(said) {
			t.Errorf("ourselves: %s", said)
		}
	}
	log, err := os.ReadFile(h.state("audit.log"))
	must(t, err)
	if n := strings.Count(string(log), "a connection to an endpoint by another uid"); n != 1 || !strings.Contains(string(log), `"uid":65534`) {
		t.Errorf("recorded %d times within a minute, want 1:\n%s", n, log)
	}
	o.end()
	if said := o.ask(t, uint32(os.Getuid())); answered(said) {
		t.Errorf("after its end: %s", said)
	}
}

// TestServerRestart checks that a program that keeps an endpoint's address is answered there again, however the
// daemon ended and whichever program started the next one.
func TestServerRestart(t *testing.T) {
	t.Parallel()
	h := demo(t)
	o := h.holder(t, "product_prod_paul")
	uid := uint32(os.Getuid())
	next := map[string]func(){
		"credproc": func() { h.credentials(t, "product_prod_paul") },
		"login":    func() { h.ok(t, "broker", "login", "security") },
		"exec":     func() { h.ok(t, "broker", "exec", "product_dev_paul", "--", "true") },
	}
	for name, start := range next {
		for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
			pid := h.daemonPID(t)
			must(t, syscall.Kill(pid, sig))
			ended(t, pid)
			if said := o.ask(t, uid); said != noAnswer {
				t.Errorf("without a daemon: %s", said)
			}
			must(t, h.freshCodes())
			start()
			// What takes more than a second is fetched for the next attempt; the SDKs retry.
			for limit := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
				said := o.ask(t, uid)
				if answered(said) {
					break
				}
				if time.Now().After(limit) {
					t.Fatalf("after %v and %s: %s", sig, name, said)
				}
			}
		}
	}
}

// TestServerOutlivesLong checks that a program with the Go SDK works over more than five lifetimes of its sessions
// without a failed call.
func TestServerOutlivesLong(t *testing.T) {
	t.Parallel()
	h := robotHouse(t, "6s")
	h.env = append(h.env, "E2E_ROLE=poller", "E2E_FOR=34s", "E2E_STS="+h.sim.url, "E2E_ARN=arn:aws:sts::222233334444:assumed-role/build/", "AWS_EC2_METADATA_DISABLED=true")
	out := h.ok(t, "broker", "exec", "build", "--mode", "server", "--", selfProgram(t))
	var calls, sessions int
	if _, err := fmt.Sscanf(out, "%d calls, %d sessions, none failed", &calls, &sessions); err != nil || sessions < 5 {
		t.Errorf("want at least 5 sessions: %s", out)
	}
	t.Log(strings.TrimSpace(out))
}

// TestServerAsksNobody checks that a program whose profile needs a code is told what to type, at once and every
// time.
func TestServerAsksNobody(t *testing.T) {
	t.Parallel()
	h := seedless(t, "")
	code := strings.TrimSpace(h.ok(t, "stssim", "--org", "demo", "--print-code", serial))
	h.ok(t, "broker", "login", "security", "--code", code)
	o := h.holder(t, "product_prod_paul")
	h.ok(t, "broker", "logout")
	uid := uint32(os.Getuid())
	for range 3 {
		if said := o.ask(t, uid); !strings.HasSuffix(said, "status 403") {
			t.Errorf("got %s", said)
		}
	}
	must(t, h.freshCodes())
	code = strings.TrimSpace(h.ok(t, "stssim", "--org", "demo", "--print-code", serial))
	h.ok(t, "broker", "login", "security", "--code", code)
	if said := o.ask(t, uid); !answered(said) {
		t.Errorf("after login: %s", said)
	}
}
