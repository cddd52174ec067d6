//go:build clients

package e2e

import (
	"bufio"
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
	"syscall"
	"testing"
	"time"
)

// machine is another machine, made of namespaces: it has its own mounts, processes and accounts, and shares the
// network, so that the simulator answers there too. Its one person is me, with the home directory /home/me.
type machine struct {
	dir  string // its files, as this machine sees them
	home string // /home/me, as this machine sees it
	init *exec.Cmd
}

// me is the uid of that person. This machine has no such account.
const me = 12345

// newMachine starts a machine. setup are more commands for its mounts, with the directory of the machine as $DIR.
func newMachine(t *testing.T, setup string) *machine {
	t.Helper()
	needRoot(t)
	m := &machine{dir: t.TempDir()}
	reachable(t, m.dir)
	m.home = filepath.Join(m.dir, "home")
	must(t, os.Mkdir(m.home, 0o700))
	must(t, os.Chown(m.home, me, me))
	for name, line := range map[string]string{
		"passwd": "me:*:12345:12345:me:/home/me:/bin/sh",
		"group":  "me:x:12345:",
		"subid":  "me:100000:65536",
	} {
		text := line + "\n"
		if name != "subid" {
			system, err := os.ReadFile("/etc/" + name)
			must(t, err)
			text = string(system) + text
		}
		must(t, os.WriteFile(filepath.Join(m.dir, name), []byte(text), 0o644))
	}
	m.init = exec.Command("/bin/sh", "-ec", `
mount -t proc proc /proc
mount -t tmpfs -o mode=755 none /run
mkdir -p -m 700 /run/user/12345
chown 12345:12345 /run/user/12345
mount -t tmpfs -o mode=755 none /home
mkdir -m 700 /home/me
mount --bind "$DIR/home" /home/me
mount --bind "$DIR/passwd" /etc/passwd
mount --bind "$DIR/group" /etc/group
`+setup+`
mount -t tmpfs -o mode=700 none /root
echo ready
exec cat`) // until the test ends, however it ends
	m.init.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "DIR=" + m.dir}
	m.init.SysProcAttr = &syscall.SysProcAttr{
		Setsid: true, Cloneflags: syscall.CLONE_NEWPID, Unshareflags: syscall.CLONE_NEWNS,
	}
	_, err := m.init.StdinPipe()
	must(t, err)
	var said strings.Builder
	m.init.Stderr = &said
	out, err := m.init.StdoutPipe()
	must(t, err)
	must(t, m.init.Start())
	t.Cleanup(m.off)
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "ready\n" {
		m.off()
		t.Fatalf("the machine did not start: %q %v: %s", line, err, said.String())
	}
	return m
}

// off ends the machine with everything that runs on it.
func (m *machine) off() {
	_ = m.init.Process.Kill() // the kernel ends all processes of the namespace
	_ = m.init.Wait()
}

// root prepares a command that root of this machine runs on the other one.
func (m *machine) root(name string, args ...string) *exec.Cmd {
	cmd := exec.Command("nsenter", append([]string{"-t", strconv.Itoa(m.init.Process.Pid), "-m", "-p", "--", name}, args...)...)
	cmd.Env = m.init.Env
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return cmd
}

// write writes a file of the person of the machine.
func (m *machine) write(t *testing.T, name, text string, mode os.FileMode) {
	t.Helper()
	path := filepath.Join(m.home, name)
	m.own(t, filepath.Dir(path))
	must(t, os.WriteFile(path, []byte(text), mode))
	must(t, os.Chown(path, me, me))
}

// own makes a directory of the person of the machine, with its parents.
func (m *machine) own(t *testing.T, dir string) {
	t.Helper()
	if dir == m.home {
		return
	}
	m.own(t, filepath.Dir(dir))
	must(t, os.MkdirAll(dir, 0o700))
	must(t, os.Chown(dir, me, me))
}

// put copies a program to the machine.
func (m *machine) put(t *testing.T, from, name string) {
	t.Helper()
	m.own(t, filepath.Join(m.home, filepath.Dir(name)))
	must(t, linkOrCopy(from, filepath.Join(m.home, name)))
	must(t, os.Chmod(filepath.Join(m.home, name), 0o755))
}

// need skips the test, or fails it in CI, unless all programs are installed.
func need(t *testing.T, programs ...string) {
	t.Helper()
	for _, name := range programs {
		if strings.HasPrefix(name, "/") {
			if !isFile(name) {
				missing(t, name)
			}
		} else if len(installed(name)) == 0 {
			missing(t, name)
		}
	}
}

// The profiles of doorHouse.
const (
	dev   = "product_dev_paul"
	stage = "product_stage_paul"
	prod  = "product_prod_paul"

	devAccount   = "222233334444"
	stageAccount = "333344445555"
)

// doorHouse returns a house with the profiles dev, stage and prod, and the source security.
func doorHouse(t *testing.T) *house {
	t.Helper()
	h := demo(t)
	must(t, h.write(h.awsConfig(), demoConfig+"\n[profile "+stage+"]\nrole_arn = "+
		strings.Replace(devRole, devAccount, stageAccount, 1)+"\nsource_profile = security\nregion = eu-west-1\n"))
	return h
}

// asking returns AWS profiles that run credproc.
func asking(credproc string, names ...string) (text string) {
	for _, name := range names {
		text += "[profile " + name + "]\ncredential_process = " + credproc + " " + name + "\nregion = eu-central-1\n\n"
	}
	return text
}

// verbLines returns a request for each verb of the protocol but ping and get. What a verb needs is in it, so that only
// the door can be the reason for a refusal.
func verbLines(t *testing.T) (lines []string) {
	t.Helper()
	text, err := os.ReadFile("../internal/wire/wire.go")
	must(t, err)
	_, rest, _ := strings.Cut(string(text), "\n// The verbs.\n")
	block, _, _ := strings.Cut(rest, "\n)\n")
	for _, m := range regexp.MustCompile(`(?m)^\t\w+ += "([a-z-]+)"`).FindAllStringSubmatch(block, -1) {
		if m[1] == "ping" || m[1] == "get" {
			continue
		}
		lines = append(lines, `{"v":1,"verb":"`+m[1]+`","profile":"`+dev+`","for_ms":600000,"reason":"because","code":"123456",`+
			`"also":["`+prod+`"],"door":{"name":"another"},"token":{"service":"eks","cluster":"main"},"rotation":{"step":"plan"},`+
			`"can_ask":true,"everywhere":true}`)
	}
	if len(lines) < 25 {
		t.Fatalf("found only %d verbs: the test is void", len(lines))
	}
	return lines
}

// lies returns requests for the profile dev that claim what a far side must not decide.
func lies() []string {
	var lines []string
	for _, lie := range []string{
		`"role":{"arn":"` + prodRole + `","source":"security"}`,
		`"role":{"policy":"{}","session_name":"somebody"}`,
		`"code":"123456"`,
		`"also":["` + prod + `","security"]`,
		`"aws_config_file":"/nowhere/config","aws_shared_credentials_file":"/nowhere/credentials"`,
		`"can_ask":true,"tty":"/dev/pts/0","desktop":"DISPLAY=:0"`,
		`"door":{"name":"prod","read_only":false,"container":true}`,
		`"elevate":true,"everywhere":true,"reason":"because","for_ms":99999999`,
		`"client":"` + strings.Repeat("9", 200) + `"`,
		`"passphrase":"` + passphrase + `","proof":"x"`,
		`"timeout_ms":9000000000000`,
		`"v":1,"verb":"get"`,
	} {
		lines = append(lines, `{"v":1,"verb":"get","profile":"`+dev+`",`+lie+`}`)
	}
	return lines
}

func init() {
	// raw prints what a socket answers to each line of its stdin, with a connection for each, ten at once.
	otherRoles["raw"] = func() int {
		text, err := io.ReadAll(os.Stdin)
		if err != nil {
			return 1
		}
		lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
		var all sync.WaitGroup
		slots := make(chan struct{}, 10)
		for i, line := range lines {
			slots <- struct{}{}
			all.Go(func() {
				lines[i] = answerTo(os.Args[1], line)
				<-slots
			})
		}
		all.Wait()
		fmt.Println(strings.Join(lines, "\n"))
		return 0
	}
	// impostor answers at a socket as a door does.
	otherRoles["impostor"] = func() int {
		_ = os.Mkdir(filepath.Dir(os.Args[1]), 0o755)
		l, err := net.Listen("unix", os.Args[1])
		if err == nil {
			err = os.Chmod(os.Args[1], 0o666)
		}
		fmt.Println("listens")
		for err == nil {
			var conn net.Conn
			if conn, err = l.Accept(); err == nil {
				_, _ = bufio.NewReader(conn).ReadString('\n')
				_, _ = conn.Write([]byte(`{"v":1,"credential":{"AccessKeyId":"ASIAIMPOSTOR","SecretAccessKey":"x",` +
					`"SessionToken":"x","Expiration":"2099-01-01T00:00:00Z"}}` + "\n"))
				_ = conn.Close()
			}
		}
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	// hold holds a connection on which it sends pings, until the other side cuts it.
	otherRoles["hold"] = func() int {
		conn, err := net.Dial("unix", os.Args[1])
		if err != nil {
			fmt.Println(err)
			return 1
		}
		answers := bufio.NewReader(conn)
		for n := 0; ; n++ {
			_, err := conn.Write([]byte(`{"v":1,"verb":"ping"}` + "\n"))
			if err == nil {
				_, err = answers.ReadString('\n')
			}
			switch {
			case err != nil && n == 0:
				fmt.Println(err)
				return 1
			case err != nil:
				fmt.Println("cut")
				return 0
			case n == 0:
				fmt.Println("holds")
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
}

// answerTo returns the first line that a socket answers.
func answerTo(socket, line string) string {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return "ERROR " + err.Error()
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(patience))
	_, _ = conn.Write([]byte(line + "\n"))
	answer, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return "ERROR " + err.Error()
	}
	return strings.TrimSpace(answer)
}

// answer is the part of the daemon's answer that these tests read.
type answer struct {
	Credential struct {
		AccessKeyID string `json:"AccessKeyId"`
		Account     string `json:"AccountId"`
	} `json:"credential"`
	Error struct{ Kind, Message, Hint string } `json:"error"`
}
