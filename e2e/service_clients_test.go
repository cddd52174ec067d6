//go:build clients

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestClientsSystemdVerify: systemd itself takes the units, also with a program's path of odd letters, and finds the program there: once that
// is gone it says so, or the above would prove nothing.
func TestClientsSystemdVerify(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		missing(t, "systemd-analyze")
	}
	for _, name := range []string{"plain", "with space", "per%cent %h", "dollar $HOME ${HOME}", "ümläut €", "semi;colon # hash"} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t)
			bin := filepath.Join(h.dir, name)
			must(t, os.MkdirAll(bin, 0o755))
			for _, name := range []string{"broker", "brokerd"} {
				must(t, linkOrCopy(filepath.Join(binaries, name), filepath.Join(bin, name)))
			}
			run := filepath.Join(h.dir, "run")
			must(t, os.Mkdir(run, 0o700))
			h.env = append(h.env, "XDG_RUNTIME_DIR="+run, "BROKER_CONFIG="+filepath.Join(h.dir, name+` "q" \b`, "config"))
			h.ok(t, filepath.Join(bin, "broker"), "service", "install")
			units := filepath.Join(h.home, ".config/systemd/user")
			argv := []string{"verify", "--user", filepath.Join(units, "broker.service"), filepath.Join(units, "broker.socket")}
			if r := h.run(analyze, argv...); r.code != 0 || strings.Contains(r.stderr, "broker.") {
				t.Errorf("systemd-analyze verify: %v", r)
			}
			must(t, os.Remove(filepath.Join(bin, "brokerd")))
			if r := h.run(analyze, argv...); r.code == 0 || !strings.Contains(r.stderr, "not executable") {
				t.Errorf("without the program: %v", r)
			}
		})
	}
	h := newHouse(t)
	run := filepath.Join(h.dir, "run")
	must(t, os.Mkdir(run, 0o700))
	h.env = append(h.env, "XDG_RUNTIME_DIR="+run)
	h.ok(t, "broker", "service", "install")
	r := h.run(analyze, "security", "--offline=yes", "--user", "--no-pager", filepath.Join(h.home, ".config/systemd/user/broker.service"))
	lines := strings.Split(strings.TrimSpace(r.stdout), "\n")
	if r.code != 0 || !strings.Contains(lines[len(lines)-1], "exposure level") {
		t.Errorf("systemd-analyze security: %v", r)
	}
	t.Log(lines[len(lines)-1])
}

// TestClientsSocketActivate: systemd's own systemd-socket-activate starts the daemon for who connects, 20 times, also in the place of a daemon
// that was started on demand before; told to stop, it ends with 0 and leaves the socket's file.
func TestClientsSocketActivate(t *testing.T) {
	activate, err := exec.LookPath("systemd-socket-activate")
	if err != nil {
		missing(t, "systemd-socket-activate")
	}
	h := demo(t)
	h.credentials(t, "product_prod_paul")
	must(t, h.stopDaemon())
	must(t, os.MkdirAll(filepath.Dir(h.socket()), 0o700))
	for round := range 20 {
		before := 0
		if round%4 == 3 {
			h.credentials(t, "product_prod_paul")
			var by string
			if by, before = h.startedBy(t); by != "on demand" {
				t.Fatalf("started by %q", by)
			}
		}
		old, _ := os.Lstat(h.socket())
		// It passes nothing of its environment on but what it is told to.
		argv := []string{"--listen=" + h.socket()}
		for _, kv := range h.env {
			argv = append(argv, "--setenv="+kv)
		}
		cmd := h.command(activate, append(argv, filepath.Join(h.bin, "brokerd"))...)
		must(t, cmd.Start())
		until(t, "systemd-socket-activate listens", func() bool {
			now, err := os.Lstat(h.socket())
			return err == nil && (old == nil || !os.SameFile(old, now) || !old.ModTime().Equal(now.ModTime()))
		})
		must(t, os.Chmod(h.socket(), 0o600)) // SocketMode= is the unit's
		h.credentials(t, "product_prod_paul")
		if by, pid := h.startedBy(t); by != "socket activation" || pid != cmd.Process.Pid {
			t.Errorf("round %d: started by %q, pid %d, want %d", round, by, pid, cmd.Process.Pid)
		}
		if before != 0 {
			ended(t, before)
		}
		must(t, cmd.Process.Signal(syscall.SIGTERM))
		if err := cmd.Wait(); err != nil {
			t.Errorf("round %d: told to stop, it ended with %v", round, err)
		}
		if _, err := os.Lstat(h.socket()); err != nil {
			t.Errorf("round %d: the socket was removed: %v", round, err)
		}
	}
	h.counted(t, "GetSessionToken", 1)

	// With the mode that it gives by itself, 0644, the socket is refused.
	argv := []string{"--listen=" + h.socket()}
	for _, kv := range h.env {
		argv = append(argv, "--setenv="+kv)
	}
	must(t, os.Remove(h.socket()))
	cmd := h.command(activate, append(argv, filepath.Join(h.bin, "brokerd"))...)
	var said strings.Builder
	cmd.Stderr = &said
	must(t, cmd.Start())
	until(t, "systemd-socket-activate listens", func() bool {
		_, err := os.Lstat(h.socket())
		return err == nil
	})
	h.run("broker", "status")
	if err := cmd.Wait(); fmt.Sprint(err) != "exit status 1" || !strings.Contains(said.String(), "is not a socket of yours with mode 0600") {
		t.Errorf("%v: %s", err, said.String())
	}
}
