//go:build clients

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// startSystemd becomes the manager in a new control group, since it treats all processes of its own group as its
// own and limits them.
const startSystemd = `
for dir in /sys/fs/cgroup /sys/fs/cgroup/*; do
	[ -w "$dir/cgroup.procs" ] && mkdir "$dir/$1" && echo $$ >"$dir/$1/cgroup.procs"
done 2>/dev/null
grep -Eq "^(0:|[0-9]+:name=systemd):/$1\$" /proc/self/cgroup || exit 1
! grep -E "^(0:|[0-9]+:name=systemd):" /proc/self/cgroup | grep -v "/$1\$" || exit 1
mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/system && exec "$0" --user`

// systemd runs a separate user manager for the house: the real systemd, which believes that the system was booted
// with systemd because of /run in its mount namespace. It returns the manager's pid.
func (h *house) systemd(t *testing.T) int {
	t.Helper()
	needRoot(t)
	const manager = "/usr/lib/systemd/systemd"
	systemctl, err := exec.LookPath("systemctl")
	if err != nil {
		missing(t, "systemctl")
	}
	if _, err := os.Stat(manager); err != nil {
		missing(t, manager)
	}
	runtime, err := os.MkdirTemp("", "sd") // its sockets need a short path
	must(t, err)
	h.env = append(h.env, "XDG_RUNTIME_DIR="+runtime)
	group := filepath.Base(runtime)
	cmd := h.command("unshare", "--mount", "sh", "-c", startSystemd, manager, group)
	must(t, cmd.Start())
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(h.run("systemctl", "--user", "status", "broker.socket", "broker.service"))
		}
		must(t, h.stopDaemon())                 // its socket is there, too
		_ = cmd.Process.Signal(syscall.SIGTERM) // ends all its units
		_ = cmd.Wait()
		_ = os.RemoveAll(runtime)
		for _, pattern := range []string{"/sys/fs/cgroup/" + group, "/sys/fs/cgroup/*/" + group} {
			groups, _ := filepath.Glob(pattern)
			for _, dir := range groups {
				_ = exec.Command("find", dir, "-depth", "-type", "d", "-exec", "rmdir", "{}", ";").Run()
			}
		}
	})
	wrapper := fmt.Sprintf("#!/bin/sh\nexec nsenter --mount=/proc/%d/ns/mnt -- %s \"$@\"\n", cmd.Process.Pid, systemctl)
	must(t, os.WriteFile(filepath.Join(h.bin, "systemctl"), []byte(wrapper), 0o755))
	for limit := time.Now().Add(patience); h.run("systemctl", "--user", "is-system-running").stdout != "running\n"; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(limit) || !alive(cmd.Process.Pid) {
			missing(t, "what a systemd user manager needs (cgroups that can be written)")
		}
	}
	return cmd.Process.Pid
}

// unit returns a property of a unit.
func (h *house) unit(t testing.TB, unit, property string) string {
	t.Helper()
	return strings.TrimSpace(h.ok(t, "systemctl", "--user", "show", "--value", "--property="+property, unit))
}

// TestClientsSystemd tests the units with the real systemd: installed, started by a connection, killed, restarted
// under load, stopped and removed.
func TestClientsSystemd(t *testing.T) {
	h := demo(t)
	manager := h.systemd(t)
	h.credentials(t, "product_prod_paul")
	before := h.daemonPID(t)
	if out := h.ok(t, "broker", "service", "install"); !strings.Contains(out, "broker.socket") {
		t.Error(out)
	}
	until(t, "the earlier daemon is replaced", func() bool { return !alive(before) })

	var status struct {
		Installed, Running bool
		Enabled, Active    string
		PID                int    `json:"pid"`
		StartedBy          string `json:"started_by"`
	}
	look := func() {
		t.Helper()
		must(t, json.Unmarshal([]byte(h.ok(t, "broker", "service", "status", "--json")), &status))
	}
	// The next client starts the daemon as a child of systemd.
	serves := func() {
		t.Helper()
		h.credentials(t, "product_prod_paul")
		look()
		if status.PID != h.daemonPID(t) || strconv.Itoa(status.PID) != h.unit(t, "broker.service", "MainPID") || status.StartedBy != "socket activation" {
			t.Fatalf("%+v, and systemd's is %s", status, h.unit(t, "broker.service", "MainPID"))
		}
	}
	serves()
	if !status.Installed || status.Enabled != "enabled" || status.Active != "active" {
		t.Errorf("%+v", status)
	}
	if parent := parentOf(t, status.PID); parent != manager {
		t.Errorf("the daemon's parent is %d, systemd is %d", parent, manager)
	}
	hardened(t, status.PID)

	// Two programs that live through all of the following; they keep their endpoint and their files.
	server := h.holder(t, "product_prod_paul")
	_, file := h.hold(t, "file", "product_dev_paul", `echo "$AWS_SHARED_CREDENTIALS_FILE"`)
	still := func() {
		t.Helper()
		until(t, "the endpoint answers", func() bool { return answered(server.ask(t, uint32(os.Getuid()))) })
		if text, err := os.ReadFile(file); err != nil || !strings.Contains(string(text), "aws_session_token") {
			t.Errorf("the file of a command: %v", err)
		}
	}

	// A killed daemon is started again, and clients see one failure at most.
	for range 20 {
		pid := h.daemonPID(t)
		must(t, kill(pid))
		serves()
		if status.PID == pid {
			t.Error("the daemon was not killed")
		}
	}
	still()

	// During restarts under load the socket stays, and no request fails.
	stop := make(chan struct{})
	var crowd sync.WaitGroup
	var asked atomic.Int64
	for i := range 16 {
		argv := [][]string{{"credproc", "product_prod_paul"}, {"broker", "status", "--json"}}[i%2]
		crowd.Go(func() {
			for !isStopped(stop) {
				if err := h.failed(argv); err != nil {
					t.Error(err)
					return
				}
				asked.Add(1)
			}
		})
	}
	for range 5 {
		old := h.daemonPID(t)
		h.ok(t, "broker", "service", "restart")
		serves()
		if status.PID == old {
			t.Errorf("it is still the daemon %d", old)
		}
	}
	close(stop)
	crowd.Wait()
	still()
	t.Logf("%d requests while it was restarted", asked.Load())
	if asked.Load() < 50 {
		t.Error("there was no load: the test is void")
	}
	h.counted(t, "GetSessionToken", 1)

	// The lock outlives the daemon.
	h.ok(t, "broker", "lock")
	h.ok(t, "broker", "service", "restart")
	if err := checkFailure(h.run("credproc", "product_prod_paul"), "7", "credproc", nil); err != nil {
		t.Error(err)
	}
	h.ok(t, "broker", "unlock")

	// After a manual stop, a client starts the daemon again.
	h.ok(t, "systemctl", "--user", "stop", "broker.service")
	until(t, "it ends", func() bool { return h.unit(t, "broker.service", "ActiveState") == "inactive" })
	if result := h.unit(t, "broker.service", "Result"); result != "success" {
		t.Errorf("the daemon ended with %s", result)
	}
	serves()
	// systemd counts no failures except the kills.
	if state := h.unit(t, "broker.socket", "Result"); state != "success" {
		t.Errorf("the socket: %s", state)
	}

	// If the daemon dies at every start, systemd gives up and closes the socket. Commands then start a daemon
	// themselves, and restart repairs the unit.
	real := filepath.Join(h.bin, "brokerd")
	must(t, os.Rename(real, real+".away"))
	must(t, os.WriteFile(real, []byte("#!/bin/sh\nexit 1\n"), 0o755))
	h.ok(t, "systemctl", "--user", "kill", "--signal=KILL", "broker.service")
	for h.unit(t, "broker.socket", "ActiveState") != "failed" {
		h.run("credproc", "product_prod_paul")
	}
	must(t, os.Rename(real+".away", real))
	until(t, "a failed start is forgotten", func() bool { return h.run("credproc", "product_prod_paul").code == 0 })
	if by, _ := h.startedBy(t); by != "on demand" {
		t.Errorf("after systemd gave up it was started by %q", by)
	}
	if out := h.ok(t, "broker", "service", "status"); !strings.Contains(out, "socket enabled, failed; broker service restart\n") {
		t.Error(out)
	}
	again := func() {
		t.Helper()
		h.ok(t, "broker", "service", "restart")
		until(t, "systemd's daemon serves", func() bool {
			h.credentials(t, "product_prod_paul")
			by, _ := h.startedBy(t)
			return by == "socket activation"
		})
		serves()
	}
	again()
	// The same if the socket's file was replaced, so that nobody connects to systemd's socket.
	h.ok(t, "systemctl", "--user", "stop", "broker.service")
	path, _, _ := strings.Cut(h.unit(t, "broker.socket", "Listen"), " (Stream)")
	must(t, os.Remove(path))
	h.credentials(t, "product_prod_paul")
	if by, _ := h.startedBy(t); by != "on demand" {
		t.Errorf("without the socket it was started by %q", by)
	}
	again()

	h.ok(t, "broker", "service", "uninstall")
	until(t, "it ends", func() bool { return !alive(status.PID) })
	if left := h.run("systemctl", "--user", "list-unit-files", "--no-legend", "broker.*"); left.stdout != "" {
		t.Errorf("left: %v", left)
	}
	h.credentials(t, "product_prod_paul")
	if by, _ := h.startedBy(t); by != "on demand" {
		t.Errorf("after uninstall it was started by %q", by)
	}
}

// hardened checks what the kernel reports of a process that the unit restricts.
func hardened(t *testing.T, pid int) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	must(t, err)
	for _, want := range []string{"NoNewPrivs:\t1\n", "Seccomp:\t2\n", "Umask:\t0077\n"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the daemon's status does not contain %q:\n%s", want, text)
		}
	}
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", pid))
	must(t, err)
	if !slices.ContainsFunc(strings.Split(string(limits), "\n"), func(line string) bool {
		return slices.Equal(strings.Fields(line), []string{"Max", "core", "file", "size", "0", "0", "bytes"})
	}) {
		t.Errorf("cores are allowed:\n%s", limits)
	}
}

func parentOf(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	must(t, err)
	_, rest, _ := strings.Cut(string(text), "\nPPid:")
	parent, err := strconv.Atoi(strings.Fields(rest)[0])
	must(t, err)
	return parent
}

// TestClientsSystemdVerify checks that systemd accepts the units, even if the program's path has unusual
// characters, and that it finds the program there. If the program is missing, systemd must say so; otherwise the
// test would prove nothing.
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

// TestClientsSocketActivate starts the daemon with systemd's own systemd-socket-activate 20 times, also in place
// of a daemon that was started on demand. When told to stop, the daemon exits with 0 and leaves the socket's file.
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
		// It passes only the listed variables of its environment.
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
		must(t, os.Chmod(h.socket(), 0o600)) // in a unit, SocketMode= does this
		h.credentials(t, "product_prod_paul")
		if by, pid := h.startedBy(t); by != "socket activation" || pid != cmd.Process.Pid {
			t.Errorf("round %d: started by %q, pid %d, want %d", round, by, pid, cmd.Process.Pid)
		}
		if before != 0 {
			ended(t, before)
		}
		must(t, cmd.Process.Signal(syscall.SIGTERM))
		if err := cmd.Wait(); err != nil {
			t.Errorf("round %d: told to stop, the daemon ended with %v", round, err)
		}
		if _, err := os.Lstat(h.socket()); err != nil {
			t.Errorf("round %d: the socket was removed: %v", round, err)
		}
	}
	h.counted(t, "GetSessionToken", 1)

	// The daemon refuses the socket with its default mode, 0644.
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
