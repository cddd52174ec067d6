//go:build clients

package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// farHost is a machine with a real sshd, and what a person has there: the static helper and AWS profiles that run it.
type farHost struct {
	*machine
	h    *house
	name string // as ssh knows it
	port string

	mu    sync.Mutex
	conns []net.Conn
	sshds sync.WaitGroup
	log   *os.File
}

// newFarHost starts a far host that the ssh of the house knows by that name. options are more lines of sshd_config.
func newFarHost(t *testing.T, h *house, name, options string) *farHost {
	t.Helper()
	need(t, "ssh", "ssh-keygen", "/usr/sbin/sshd", "/usr/bin/aws")
	// Neither the files of the near side nor the programs that its person installed are there.
	f := &farHost{h: h, name: name, machine: newMachine(t, "mkdir -m 755 /run/sshd\nmkdir -m 1777 /run/shared\nmount -t tmpfs -o mode=755 none "+h.dir)}
	for _, key := range []string{"host", "person"} {
		out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(f.dir, key)).CombinedOutput()
		if err != nil {
			t.Fatalf("ssh-keygen: %v: %s", err, out)
		}
	}
	must(t, os.Rename(filepath.Join(f.dir, "person"), filepath.Join(h.dir, name+".key")))
	public, err := os.ReadFile(filepath.Join(f.dir, "person.pub"))
	must(t, err)
	f.write(t, ".ssh/authorized_keys", string(public), 0o600)
	f.write(t, ".profile", "PATH=/home/me/bin:$PATH\n", 0o644)
	f.put(t, filepath.Join(binaries, "credproc"), "bin/credproc")
	f.put(t, selfProgram(t), "bin/raw")
	must(t, os.WriteFile(filepath.Join(f.dir, "sshd_config"), []byte("HostKey "+filepath.Join(f.dir, "host")+
		"\nUsePAM no\nPasswordAuthentication no\nSetEnv PATH=/home/me/bin:/usr/bin:/bin\n"+options), 0o600))
	f.log, err = os.Create(filepath.Join(f.dir, "sshd.log"))
	must(t, err)
	t.Cleanup(func() {
		_ = f.log.Close()
		if text, err := os.ReadFile(f.log.Name()); err == nil && t.Failed() {
			t.Logf("sshd of %s:\n%s", name, tail(text, 4000))
		}
	})

	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	go f.serve(l)
	t.Cleanup(func() {
		_ = l.Close()
		f.off()
		f.cut()
		f.sshds.Wait()
	})
	_, f.port, err = net.SplitHostPort(l.Addr().String())
	must(t, err)
	// ssh reads no file of the person who runs the tests, and writes none.
	public, err = os.ReadFile(filepath.Join(f.dir, "host.pub"))
	must(t, err)
	known := filepath.Join(h.dir, name+".known")
	must(t, os.WriteFile(known, []byte("[127.0.0.1]:"+f.port+" "+string(public)), 0o600))
	config, err := os.OpenFile(filepath.Join(h.dir, "ssh_config"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	must(t, err)
	_, err = fmt.Fprintf(config, "Host %s\n HostName 127.0.0.1\n Port %s\n User me\n IdentityFile %s.key\n IdentitiesOnly yes\n"+
		" IdentityAgent none\n UserKnownHostsFile %s\n StrictHostKeyChecking yes\n",
		name, f.port, filepath.Join(h.dir, name), known)
	must(t, err)
	must(t, config.Close())
	must(t, os.WriteFile(filepath.Join(h.bin, "ssh"), fmt.Appendf(nil, "#!/bin/sh\nexec %s -F %s \"$@\"\n",
		installed("ssh")[0], config.Name()), 0o755))
	return f
}

// serve runs an sshd for each connection, as inetd does, and carries the bytes, so that a test can cut the connection.
func (f *farHost) serve(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		f.mu.Lock()
		f.conns = append(f.conns, conn)
		f.mu.Unlock()
		cmd := f.root("/usr/sbin/sshd", "-i", "-e", "-f", filepath.Join(f.dir, "sshd_config"))
		cmd.Stdout, cmd.Stderr = struct{ io.Writer }{conn}, f.log // a struct, or sshd would get the connection itself
		in, err := cmd.StdinPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			_, _ = fmt.Fprintln(f.log, err)
			_ = conn.Close()
			continue
		}
		go func() {
			_, _ = io.Copy(in, conn)
			_ = in.Close()
		}()
		f.sshds.Go(func() {
			_ = cmd.Wait() // after its last byte was carried
			_ = conn.Close()
		})
	}
}

// cut cuts all connections, as a network does: no side is told why.
func (f *farHost) cut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, conn := range f.conns {
		_ = conn.Close()
	}
	f.conns = nil
}

// run runs a command of the person on the far host.
func (f *farHost) run(command string) result { return f.h.run("ssh", f.name, command) }

// ok runs a command that must succeed, and returns its output.
func (f *farHost) ok(t *testing.T, command string) string {
	t.Helper()
	r := f.run(command)
	if r.code != 0 {
		t.Fatalf("%s: $ %s: %v", f.name, command, r)
	}
	return strings.TrimSpace(r.stdout)
}

// typist types into a shell that is elsewhere: on a far host at the end of an ssh connection, or in a container.
type typist struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
	err strings.Builder
}

// connect runs a line that begins with ssh and has no command for the far host. If ssh ends at once, it returns nil and
// what ssh said.
func (f *farHost) connect(t *testing.T, line string) (*typist, result) {
	t.Helper()
	return typing(t, f.h.command("/bin/sh", "-c", "exec "+strings.ReplaceAll(line, "HOST", f.name)))
}

// typing starts a command that leads to a shell elsewhere. If the command ends before, it returns nil and how it ended.
func typing(t *testing.T, cmd *exec.Cmd) (*typist, result) {
	t.Helper()
	s := &typist{t: t, cmd: cmd}
	s.cmd.Stderr = &s.err
	var err error
	s.in, err = s.cmd.StdinPipe()
	must(t, err)
	out, err := s.cmd.StdoutPipe()
	must(t, err)
	s.out = bufio.NewReader(out)
	must(t, s.cmd.Start())
	t.Cleanup(func() { _ = s.cmd.Process.Kill() })
	_, _ = io.WriteString(s.in, "echo connected\n")
	if hello, _ := s.out.ReadString('\n'); hello != "connected\n" {
		_ = s.cmd.Wait()
		return nil, result{hello, s.err.String(), exitCode(s.cmd.ProcessState)}
	}
	return s, result{}
}

// mustConnect is connect for a line that must succeed.
func (f *farHost) mustConnect(t *testing.T, line string) *typist {
	t.Helper()
	s, r := f.connect(t, line)
	if s == nil {
		t.Fatalf("$ %s: %v", line, r)
	}
	return s
}

// run runs a command in the shell.
func (s *typist) run(command string) (r result) {
	s.t.Helper()
	_, _ = io.WriteString(s.in, command+"\necho \"== $?\"\n")
	for {
		line, err := s.out.ReadString('\n')
		if code, ended := strings.CutPrefix(line, "== "); ended {
			r.code, _ = strconv.Atoi(strings.TrimSpace(code))
			return r
		}
		r.stdout += line
		if err != nil {
			s.t.Fatalf("the connection ended during %s: %v: %s", command, err, s.err.String())
		}
	}
}

// exit leaves the shell, and returns how ssh ended.
func (s *typist) exit() result {
	_ = s.in.Close()
	_ = s.cmd.Wait()
	return result{stderr: s.err.String(), code: exitCode(s.cmd.ProcessState)}
}

// forwardLines are the lines that `broker forward` prints, to be typed as they are.
type forwardLines struct {
	prepare, carry, clean string   // here
	use                   []string // on the far host
}

// forward opens a door, and returns the lines that broker prints for it.
func (h *house) forward(t *testing.T, args ...string) (l forwardLines) {
	t.Helper()
	out := h.ok(t, "broker", append([]string{"forward"}, args...)...)
	for line := range strings.Lines(out) {
		typed, is := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "  ")
		switch {
		case !is:
		case strings.Contains(typed, " mkdir "):
			l.prepare = typed
		case strings.Contains(typed, " -R "):
			l.carry = typed
		case strings.Contains(typed, " rm "):
			l.clean = typed
		case strings.HasPrefix(typed, "ssh "):
			t.Errorf("this test does not run %q", typed)
		default:
			l.use = append(l.use, typed)
		}
	}
	if l.prepare == "" || l.carry == "" || l.clean == "" || len(l.use) == 0 {
		t.Fatalf("broker forward prints\n%s", out)
	}
	return l
}

// typed runs a line of this machine.
func (f *farHost) typed(t *testing.T, line string) {
	t.Helper()
	f.h.ok(t, "/bin/sh", "-c", strings.ReplaceAll(line, "HOST", f.name))
}

const farDoor = "export BROKER_DOOR=~/.broker; "

// identity returns the command with which the AWS CLI shows whose session a profile gives.
func (h *house) identity(profile string) string {
	return "AWS_EC2_METADATA_DISABLED=true /usr/bin/aws sts get-caller-identity --output text --query Arn --profile " +
		profile + " --endpoint-url " + h.sim.url
}

const devARN = "arn:aws:sts::" + devAccount + ":assumed-role/allow-admin-from-security-account/"

// TestClientsFarHost checks the harness itself: the far host is another machine, without the files of this one.
func TestClientsFarHost(t *testing.T) {
	t.Parallel()
	h := demo(t)
	f := newFarHost(t, h, "far", "")
	if out := f.ok(t, "id -u; pwd; ls -A; which credproc"); out != "12345\n/home/me\n.profile\n.ssh\nbin\n/home/me/bin/credproc" {
		t.Errorf("the far host: %q", out)
	}
	for _, path := range []string{h.home, h.socket(), "/root/.ssh"} {
		if r := f.run("ls " + path); r.code == 0 {
			t.Errorf("the far host has %s", path)
		}
	}
}

// TestClientsForward carries a door to a far host with the lines that broker prints. The AWS CLI there gets the profile
// of the door, and nothing else, and the socket answers no other verb and believes no lie.
func TestClientsForward(t *testing.T) {
	t.Parallel()
	h := doorHouse(t)
	f := newFarHost(t, h, "far", "")
	lines := h.forward(t, dev, "--name", "dev", "--for", "8h", "--max-ttl", "15m")
	f.typed(t, lines.prepare)
	s := f.mustConnect(t, lines.carry)
	var last result
	for _, line := range lines.use {
		if last = s.run(line); last.code != 0 {
			t.Fatalf("$ %s: %v", line, last)
		}
	}
	d, err := parseDocument(last.stdout)
	if err != nil || d.AccountID != devAccount || time.Until(d.Expiration) > 15*time.Minute {
		t.Fatalf("%v, until %v: %v", err, d.Expiration, last)
	}

	// The AWS CLI, in any shell there.
	f.write(t, ".aws/config", asking("/home/me/bin/credproc", dev, prod, stage, "security", "nobody"), 0o600)
	if out := f.ok(t, farDoor+h.identity(dev)); !strings.HasPrefix(out, devARN) {
		t.Errorf("the far AWS CLI is %q", out)
	}
	said := map[string]bool{}
	for _, profile := range []string{prod, stage, "security", "nobody"} {
		r := f.run(farDoor + h.identity(profile))
		if r.code == 0 {
			t.Errorf("%s: %v", profile, r)
		}
		r = f.run(farDoor + "credproc " + profile)
		if err := checkFailure(r, "3", "credproc", nil); err != nil {
			t.Errorf("%s: %v", profile, err)
		}
		said[strings.ReplaceAll(r.stderr, profile, "NAME")] = true
	}
	if len(said) != 1 {
		t.Errorf("the refusals tell which profiles exist: %v", said)
	}
	// Without the variable there is nothing: no daemon, no registry.
	if r := f.run("credproc " + dev); r.code == 0 {
		t.Errorf("without BROKER_DOOR: %v", r)
	}

	// The socket itself, by a program that sends what it likes.
	asked := h.recorded(t)
	hostile := append(verbLines(t), lies()...)
	hostile = append(hostile, "", "{", "null", `{"v":2,"verb":"get","profile":"`+dev+`"}`, `{"v":1,"verb":"get"}`,
		`{"v":1,"verb":"get","profile":"../dev"}`, `{"v":1,"verb":"get","profile":"`+strings.Repeat("x", 60000)+`"}`,
		strings.Repeat("[", 30000), strings.Repeat("x", 200000), `{"v":1,"verb":"get","profile":"`+prod+`"}`,
		`{"v":1,"verb":"get","profile":"`+dev+`","min_ttl_ms":43200000}`, `{"v":1,"verb":"ping"}`)
	answers := f.answers(t, hostile)
	sessions := 0
	for i, line := range answers {
		what := hostile[i][:min(len(hostile[i]), 200)]
		var a answer
		if err := json.Unmarshal([]byte(line), &a); err != nil && !strings.HasPrefix(line, "ERROR ") {
			t.Errorf("%s: %s", what, line)
		}
		switch {
		case strings.Contains(what, `"verb":"ping"`):
			if a.Error.Kind != "" {
				t.Errorf("%s: %s", what, line)
			}
		case a.Credential.AccessKeyID != "":
			sessions++
			if a.Credential.AccessKeyID != d.AccessKeyID || a.Credential.Account != devAccount {
				t.Errorf("%s: got another session: %+v", what, a.Credential)
			}
		case a.Error.Kind == "" && !strings.HasPrefix(line, "ERROR "):
			t.Errorf("%s: %s", what, line)
		}
		for _, secret := range []string{h.dir, "/.broker", "/doors/", prod, "security", "AKIA"} {
			if strings.Contains(line, secret) && !strings.Contains(what, secret) {
				t.Errorf("%s: the answer has %q: %s", what, secret, line)
			}
		}
	}
	if sessions < len(lies())/2 {
		t.Errorf("only %d of %d lies were answered with the session: the test is void", sessions, len(lies()))
	}
	if now := h.recorded(t); now != asked {
		t.Errorf("the far side made the daemon ask AWS:\n%s, before\n%s", now, asked)
	}
	if s, err := h.status(); err != nil || s.Locked {
		t.Errorf("after all that: %+v, %v", s, err)
	}
	if out := f.ok(t, farDoor+h.identity(dev)); !strings.HasPrefix(out, devARN) {
		t.Errorf("after all that the far AWS CLI is %q", out)
	}
	list := h.ok(t, "broker", "forward", "list")
	if !strings.Contains(list, "dev") || strings.Count(list, "\n") != 2 {
		t.Errorf("the doors:\n%s", list)
	}
	if r := s.exit(); r.code != 0 {
		t.Errorf("ssh ended with %v", r)
	}
}

// recorded returns what the simulator was asked for, without calls that do not come from Broker.
func (h *house) recorded(t *testing.T) (text string) {
	t.Helper()
	requests, err := h.sim.requests()
	must(t, err)
	for _, r := range requests {
		if r.Action != "GetCallerIdentity" {
			text += fmt.Sprintln(r.Action, r.RoleARN, r.Outcome)
		}
	}
	return text
}

// answers sends lines to the socket on the far host, and returns the answer to each.
func (f *farHost) answers(t *testing.T, lines []string) []string {
	t.Helper()
	r := f.h.runWith(strings.Join(lines, "\n")+"\n", "ssh", f.name, "E2E_ROLE=raw raw .broker/socket")
	answers := strings.Split(strings.TrimSuffix(r.stdout, "\n"), "\n")
	if r.code != 0 || len(answers) != len(lines) {
		t.Fatalf("%d answers to %d lines: %v", len(answers), len(lines), r)
	}
	return answers
}

// TestClientsForwardCut cuts the connection in each way, and connects again. The server leaves its socket behind: the
// next connection needs it removed, or StreamLocalBindUnlink set in the server's config.
func TestClientsForwardCut(t *testing.T) {
	t.Parallel()
	h := doorHouse(t)
	keeps := newFarHost(t, h, "keeps", "")
	unlinks := newFarHost(t, h, "unlinks", "StreamLocalBindUnlink yes\n")
	lines := h.forward(t, dev, "--name", "dev", "--for", "8h")
	for _, f := range []*farHost{keeps, unlinks} {
		f.typed(t, lines.prepare)
		for _, cut := range []struct {
			name string
			do   func(s *typist)
		}{
			{"exit", func(s *typist) { s.exit() }},
			{"ssh is killed", func(s *typist) { _ = s.cmd.Process.Kill() }},
			{"the network is cut", func(*typist) { f.cut() }},
			{"sshd is killed", func(*typist) {
				_ = f.root("setpriv", "--reuid=12345", "--regid=12345", "--clear-groups", "sh", "-c", "kill -9 -1").Run()
			}},
			{"ssh is silent", func(s *typist) { must(t, halt(s.cmd.Process.Pid)) }},
		} {
			s := f.mustConnect(t, lines.carry)
			if r := s.run(farDoor + "credproc " + dev); r.code != 0 {
				t.Fatalf("%s: %v", cut.name, r)
			}
			cut.do(s)
			silent := cut.name == "ssh is silent"
			if !silent {
				until(t, "ssh ends", func() bool { return !alive(s.cmd.Process.Pid) })
			}
			if cut.name == "the network is cut" {
				r := f.run(farDoor + "credproc " + dev)
				if err := checkFailure(r, "5", "credproc", nil); err != nil || !strings.Contains(r.stderr, "nothing listens on /home/me/.broker/socket") {
					t.Errorf("%s, %s: %v %v", f.name, cut.name, err, r)
				}
			}
			again, r := f.connect(t, lines.carry)
			if f == keeps {
				if again != nil || r.code != 255 || !strings.Contains(r.stderr, "remote port forwarding failed for listen path") {
					t.Fatalf("with the old socket there, %s: %v", cut.name, r)
				}
				f.typed(t, lines.clean)
				again, r = f.connect(t, lines.carry)
			}
			if again == nil {
				t.Fatalf("%s, %s: %v", f.name, cut.name, r)
			}
			if r := again.run(farDoor + "credproc " + dev); r.code != 0 {
				t.Errorf("%s, %s: connected again: %v", f.name, cut.name, r)
			}
			if silent {
				must(t, kill(s.cmd.Process.Pid))
			}
			if r := again.exit(); r.code != 0 {
				t.Errorf("%s, %s: %v", f.name, cut.name, r)
			}
			f.typed(t, lines.clean)
		}
	}
	// Another user of that host cannot take the place of the server: not in a directory that is open to all, and not
	// in one that they made where everybody can make one.
	s := keeps.mustConnect(t, lines.carry)
	s.run("rm .broker/socket; chmod 711 .; chmod 777 .broker")
	for _, dir := range []string{"/home/me/.broker", "/run/shared/door"} {
		stranger := keeps.root("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "/home/me/bin/raw", dir+"/socket")
		stranger.Env = append(stranger.Env, "E2E_ROLE=impostor")
		out, err := stranger.StdoutPipe()
		must(t, err)
		must(t, stranger.Start())
		if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "listens\n" {
			t.Fatalf("the impostor: %q %v", line, err)
		}
		r := s.run("BROKER_DOOR=" + dir + " credproc " + dev + " 2>&1")
		if r.code != 5 || strings.Contains(r.stdout, "IMPOSTOR") || !strings.Contains(r.stdout, "is not trusted") {
			t.Errorf("another user listens in %s: %v", dir, r)
		}
	}
}

// holding starts a program on the far host that holds a connection to the door. The returned function waits until the
// connection is cut.
func (f *farHost) holding(t *testing.T) (cut func()) {
	t.Helper()
	cmd := f.h.command("ssh", f.name, "E2E_ROLE=hold raw .broker/socket")
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	lines := bufio.NewReader(out)
	if line, err := lines.ReadString('\n'); line != "holds\n" {
		t.Fatalf("the far side cannot hold a connection: %q %v", line, err)
	}
	return func() {
		t.Helper()
		late := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
		defer late.Stop()
		if line, _ := lines.ReadString('\n'); line != "cut\n" {
			t.Errorf("the far side still holds its connection: %q", line)
		}
		_ = cmd.Wait()
	}
}

// TestClientsForwardEnds ends a forward in each way, while the far side holds a connection. After a lock and a logout
// the door says why it hands out nothing, and it opens again.
func TestClientsForwardEnds(t *testing.T) {
	t.Parallel()
	h := doorHouse(t)
	f := newFarHost(t, h, "far", "StreamLocalBindUnlink yes\n")
	lines := h.forward(t, dev, "--name", "dev", "--for", "8h")
	f.typed(t, lines.prepare)
	s := f.mustConnect(t, lines.carry)
	for _, end := range []struct{ ends, opens, code, says string }{
		{"broker lock", "broker unlock", "7", "Broker is locked"},
		{"broker logout security", "broker login security", "4", "hint: broker login " + dev},
		{"broker logout", "broker login security", "4", "hint: broker login " + dev},
	} {
		cut := f.holding(t)
		h.ok(t, "/bin/sh", "-c", end.ends)
		cut()
		r := f.run(farDoor + "credproc " + dev)
		if err := checkFailure(r, end.code, "credproc", nil); err != nil || !strings.Contains(r.stderr, end.says) {
			t.Errorf("after %s: %v %v", end.ends, err, r)
		}
		if list := h.ok(t, "broker", "forward", "list"); !strings.Contains(list, "dev") {
			t.Errorf("after %s the door is gone:\n%s", end.ends, list)
		}
		must(t, h.freshCodes())
		h.ok(t, "/bin/sh", "-c", end.opens)
		if r := f.run(farDoor + "credproc " + dev); r.code != 0 {
			t.Errorf("after %s: %v", end.opens, r)
		}
	}
	// A daemon that is replaced goes on with the door, and the far side notices nothing.
	pid := h.daemonPID(t)
	h.ok(t, "broker", "daemon", "--replace", "--background")
	if now := h.daemonPID(t); now == pid {
		t.Fatal("the daemon was not replaced: the test is void")
	}
	if r := f.run(farDoor + "credproc " + dev); r.code != 0 {
		t.Errorf("after a restart: %v", r)
	}

	gone := func(what string) {
		t.Helper()
		r := f.run(farDoor + "credproc " + dev)
		if err := checkFailure(r, "5", "credproc", nil); err != nil {
			t.Errorf("after %s: %v", what, err)
		}
		if list := h.ok(t, "broker", "forward", "list"); strings.Contains(list, dev) {
			t.Errorf("after %s:\n%s", what, list)
		}
		if entries, _ := os.ReadDir(filepath.Join(filepath.Dir(h.socket()), "doors")); len(entries) != 0 {
			t.Errorf("after %s: %v is left", what, entries)
		}
	}
	cut := f.holding(t)
	h.ok(t, "broker", "forward", "close", "dev")
	cut()
	gone("close")
	// The same ssh connection carries the next door of that name.
	for long := 10 * time.Second; ; long *= 2 {
		h.forward(t, dev, "--name", "dev", "--for", long.String())
		opened := time.Now()
		if r := f.run(farDoor + "credproc " + dev); r.code != 0 {
			if time.Since(opened) < long {
				t.Fatalf("a door of that name again: %v", r)
			}
			continue // a slow machine
		}
		cut = f.holding(t)
		break
	}
	cut()
	gone("--for")
	if r := s.exit(); r.code != 0 {
		t.Errorf("ssh: %v", r)
	}
}

// TestClientsForwardTwoHosts carries two doors to two far hosts, and one of them to both. Each door hands out its own
// profile.
func TestClientsForwardTwoHosts(t *testing.T) {
	t.Parallel()
	h := doorHouse(t)
	one, two := newFarHost(t, h, "one", ""), newFarHost(t, h, "two", "")
	first, second := h.forward(t, dev, "--name", "dev", "--for", "8h"), h.forward(t, stage, "--name", "stage", "--for", "1h")
	var shells []*typist
	for _, at := range []struct {
		f    *farHost
		line string
	}{
		{one, first.carry}, {two, second.carry},
		{two, strings.Replace(first.carry, ".broker/", ".second/", 1)},
	} {
		at.f.typed(t, first.prepare)
		at.f.typed(t, strings.Replace(first.prepare, ".broker", ".second", 1))
		shells = append(shells, at.f.mustConnect(t, at.line))
	}
	for i, at := range []struct{ door, has, lacks string }{{".broker", dev, stage}, {".broker", stage, dev}, {".second", dev, stage}} {
		door := "BROKER_DOOR=~/" + at.door + " "
		if r := shells[i].run(door + "credproc " + at.has); r.code != 0 {
			t.Errorf("%d: %v", i, r)
		}
		if r := shells[i].run(door + "credproc " + at.lacks + " 2>&1"); r.code != 3 || strings.Contains(r.stdout, "SecretAccessKey") {
			t.Errorf("%d has %s: %v", i, at.lacks, r)
		}
	}
	h.ok(t, "broker", "forward", "close", "stage")
	for i, code := range []int{0, 5, 0} {
		door := []string{".broker", ".broker", ".second"}[i]
		if r := shells[i].run("BROKER_DOOR=~/" + door + " credproc " + []string{dev, stage, dev}[i] + " 2>&1"); r.code != code {
			t.Errorf("%d after the end of stage: %v", i, r)
		}
	}
}

// TestClientsForwardPage runs every line of docs/forward.md: here, and on a far host.
func TestClientsForwardPage(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/forward.md")
	must(t, err)
	h := doorHouse(t)
	f := newFarHost(t, h, "work", "")
	run := filepath.Dir(h.socket())
	here := func(text string) string { return strings.ReplaceAll(text, "/run/user/1000/broker", run) }
	var s *typist
	// blocks says for each kind of block, by its first word, what a person does with it.
	blocks := map[string]func(text string){
		"$": func(text string) {
			for _, line := range typedIn(text) {
				h.ok(t, "/bin/sh", "-c", line)
				if strings.HasPrefix(line, "broker forward close") { // the rest of the page has it open
					h.ok(t, "/bin/sh", "-c", typedIn(text)[0])
				}
			}
		},
		"ssh": func(text string) {
			prepare, carry, _ := strings.Cut(text, "\n")
			f.typed(t, prepare)
			s = f.mustConnect(t, here(carry))
		},
		"export": func(text string) {
			for _, line := range strings.Split(strings.TrimSpace(text), "\n") {
				if r := s.run(line); r.code != 0 {
					t.Errorf("there: $ %s: %v", line, r)
				}
			}
		},
		"[profile": func(text string) {
			f.write(t, ".aws/config", text, 0o600)
			f.write(t, ".profile", "PATH=/home/me/bin:$PATH\nexport BROKER_DOOR=~/.broker\n", 0o644)
			if out := f.ok(t, ". ~/.profile; "+h.identity(dev)); !strings.HasPrefix(out, devARN) {
				t.Errorf("the AWS CLI with the config of the page: %q", out)
			}
		},
		"Host": func(text string) {
			must(t, os.WriteFile(filepath.Join(h.dir, "more"), []byte(here(text)), 0o600))
			config := filepath.Join(h.dir, "ssh_config")
			old, err := os.ReadFile(config)
			must(t, err)
			s.exit()
			const clean = "ssh HOST rm -f .broker/socket"
			if !strings.Contains(string(page), "`"+clean+"`") {
				t.Errorf("the page does not say %s", clean)
			}
			f.typed(t, clean)
			must(t, os.WriteFile(config, append(old, here(text)...), 0o600))
			s = f.mustConnect(t, "ssh HOST")
			if r := s.run("credproc " + dev); r.code != 0 {
				t.Errorf("with the lines in ~/.ssh/config: %v", r)
			}
			must(t, os.WriteFile(config, old, 0o600))
		},
	}
	ran := map[string]bool{}
	for _, m := range regexp.MustCompile("(?ms)^```(?:console|text|ini)\n(.*?)^```").FindAllStringSubmatch(string(page), -1) {
		word := strings.Fields(m[1])[0]
		if blocks[word] == nil || ran[word] {
			t.Errorf("no test runs this block:\n%s", m[1])
			continue
		}
		ran[word] = true
		blocks[word](m[1])
	}
	if len(ran) != len(blocks) {
		t.Errorf("the page has only the blocks %v", ran)
	}
}
