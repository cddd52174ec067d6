package e2e

import (
	"bufio"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestSeveralOfAnOlderDaemon: one that knows nothing of several profiles serves the first alone; that is not taken for all.
func TestSeveralOfAnOlderDaemon(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	must(t, h.settings(""))
	must(t, h.write(h.awsConfig(), demoConfig))
	must(t, os.MkdirAll(filepath.Dir(h.socket()), 0o700))
	l, err := net.Listen("unix", h.socket())
	must(t, err)
	defer func() { _ = l.Close() }()
	must(t, os.Chmod(h.socket(), 0o600))
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			if line, err := bufio.NewReader(conn).ReadString('\n'); err == nil && strings.Contains(line, `"also":["product_prod_paul"]`) {
				_, _ = conn.Write([]byte(`{"v":1,"version":"0.0.1","overlay":{"profile":"product_dev_paul","expires":"2099-01-02T15:04:05Z","aws_shared_credentials_file":"/nowhere/credentials"}}` + "\n"))
			}
			_ = conn.Close()
		}
	}()
	args := []string{"exec", "product_dev_paul", "product_prod_paul", "--", "env"}
	r := h.run("broker", args...)
	if err := checkFailure(r, "5", "broker", args); err != nil {
		t.Error(err)
	}
	if !strings.Contains(r.stderr, "the daemon is older than this program, and made files for one profile alone\nhint: broker service restart\n") {
		t.Error(r)
	}
}

// TestSeveralAskOnce: one code serves all profiles of a device, and is asked for where the command was typed.
func TestSeveralAskOnce(t *testing.T) {
	t.Parallel()
	h := seedless(t, "")
	s := h.shell(t, "broker", "exec", "product_dev_paul", "product_prod_paul", "--", "sh", "-c", `grep -c ASIA "$AWS_SHARED_CREDENTIALS_FILE"`)
	s.waits("MFA code for security (" + serial + "), sent to " + h.sim.url + ", asked by broker: ")
	s.types(h.code(t, serial))
	s.waits("2")
	if r := s.ends(); r.code != 0 {
		t.Errorf("exit code %d:\n%s", r.code, s.shown())
	}
	s.asked(1)
	s.asItWas()
	h.counted(t, "GetSessionToken", 1)
	h.counted(t, "AssumeRole", 2)
}
