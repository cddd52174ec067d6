package e2e

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// remoteSTS is an endpoint that does not exist: a request that reaches it went through a proxy.
const remoteSTS = "https://sts.broker.invalid"

// listeningProxy is a proxy that answers for remoteSTS itself, with a certificate of its own CA.
type listeningProxy struct {
	url, ca  string
	connects atomic.Int64 // CONNECT requests
	read     atomic.Int64 // signed requests that it could decrypt
}

func startProxy(t *testing.T, dir string) *listeningProxy {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "not a CA of yours"},
		DNSNames:  []string{"sts.broker.invalid"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(t, err)
	p := &listeningProxy{ca: filepath.Join(dir, "proxy-ca.pem")}
	must(t, os.WriteFile(p.ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	config := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { _ = l.Close() })
	p.url = "http://" + l.Addr().String()
	go answerAll(l, func(conn net.Conn) { go p.serve(conn, config) })
	return p
}

func (p *listeningProxy) serve(conn net.Conn, config *tls.Config) {
	defer func() { _ = conn.Close() }()
	if _, err := http.ReadRequest(bufio.NewReader(conn)); err != nil {
		return
	}
	p.connects.Add(1)
	if _, err := conn.Write([]byte("HTTP/1.1 200 OK\r\n\r\n")); err != nil {
		return
	}
	inner := tls.Server(conn, config)
	req, err := http.ReadRequest(bufio.NewReader(inner))
	if err == nil && req.Header.Get("Authorization") != "" {
		p.read.Add(1)
	}
	_, _ = inner.Write([]byte("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"))
}

// in returns a function that runs a program of the house with additional environment variables.
func (h *house) in(env []string, name string, args ...string) result {
	cmd := h.command(name, args...)
	cmd.Env = append(append([]string{}, h.env...), env...)
	return finish(cmd)
}

// TestShellLendsNoProxy checks that a daemon started from a shell with a proxy and a CA uses neither, for that
// shell's request or for a clean shell's. The error names the difference.
func TestShellLendsNoProxy(t *testing.T) {
	t.Parallel()
	h := demo(t)
	must(t, h.stopDaemon())
	registry(h.sim.url, remoteSTS)(t, h)
	p := startProxy(t, h.dir)
	withPassword := strings.Replace(p.url, "http://", "http://paul:proxy-password@", 1)
	hostile := []string{"HTTPS_PROXY=" + withPassword, "https_proxy=" + withPassword, "AWS_CA_BUNDLE=" + p.ca,
		"SSL_CERT_FILE=" + p.ca}
	r := h.in(hostile, "credproc", "product_prod_paul")
	if r.code == 0 || !strings.Contains(r.stderr, "your shell has HTTPS_PROXY, Broker uses none") ||
		!strings.Contains(r.stderr, "\nhint: broker config set https_proxy ") ||
		strings.Contains(r.stderr, "proxy-password") {
		t.Errorf("in that shell: %v", r)
	}
	r = h.run("credproc", "product_prod_paul")
	if r.code == 0 || strings.Contains(r.stderr, "your shell") {
		t.Errorf("in a clean shell: %v", r)
	}
	if n, m := p.connects.Load(), p.read.Load(); n != 0 || m != 0 {
		t.Errorf("the shell's proxy got %d requests, and read %d signed ones", n, m)
	}
}

// TestShellLendsNoRegistry checks that a clean shell is served by its own registry, even if a shell with another
// registry started the daemon.
func TestShellLendsNoRegistry(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"registry", "XDG", "HOME", "moved keyring"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := demo(t)
			must(t, h.stopDaemon())
			evil := filepath.Join(h.dir, "evil")
			file := filepath.Join(evil, "broker/config")
			text, err := os.ReadFile(h.registry())
			must(t, err)
			profile := "\n[profile product_prod_paul]\nrole_arn = " + devRole + "\nsource_profile = security\n"
			must(t, h.write(file, string(text)+profile))
			var env []string
			switch name {
			case "registry":
				env = []string{"BROKER_CONFIG=" + file}
			case "XDG":
				env = []string{"XDG_CONFIG_HOME=" + evil}
			case "HOME": // and a keyring that does not depend on HOME
				must(t, os.MkdirAll(filepath.Join(evil, ".config"), 0o700))
				must(t, os.Rename(filepath.Join(evil, "broker"), filepath.Join(evil, ".config/broker")))
				file = filepath.Join(evil, ".config/broker/config")
				env = []string{"HOME=" + evil, "BROKER_KEYRING_DIR=" + filepath.Join(h.home, ".local/share/broker/keyring")}
			case "moved keyring": // moved by the user on purpose
				dir := filepath.Join(h.dir, "keyring")
				must(t, os.Rename(filepath.Join(h.home, ".local/share/broker/keyring"), dir))
				h.env = append(h.env, "BROKER_KEYRING_DIR="+dir)
				env = []string{"BROKER_CONFIG=" + file}
			}
			r := h.in(env, "credproc", "product_prod_paul")
			if r.code != 8 || !strings.Contains(r.stderr, "hint: env BROKER_CONFIG="+h.registry()+" broker config "+
				"set registry "+file) {
				t.Errorf("a registry that was not confirmed: %v", r)
			}
			t.Cleanup(func() {
				h.in(env, "broker", "daemon", "--stop")
			})
			served := func(want string) {
				t.Helper()
				requests, err := h.sim.requests()
				must(t, err)
				if last := requests[len(requests)-1]; last.RoleARN != want {
					t.Errorf("served %s, want %s", last.RoleARN, want)
				}
			}
			h.ok(t, "credproc", "product_prod_paul")
			served(prodRole)
			allow := []string{"BROKER_CONFIG=" + h.registry(), "broker", "config", "set", "registry", file}
			before, err := os.ReadFile(h.registry())
			must(t, err)
			r = h.run("env", allow...)
			after, err := os.ReadFile(h.registry())
			must(t, err)
			if r.code != 8 || !bytes.Equal(before, after) || !strings.Contains(r.stdout, "decides to which endpoints the keys of") {
				t.Errorf("without a terminal and without a confirmation: %v", r)
			}
			h.ok(t, "env", append(allow, "--yes")...)
			if r := h.in(env, "credproc", "product_prod_paul"); r.code != 0 {
				t.Errorf("a registry that was confirmed: %v", r)
			}
			served(devRole)
		})
	}
}

// dumpEnv makes an mfa_process that writes its environment to a file, and fails.
func (h *house) dumpEnv(t *testing.T) (file string) {
	t.Helper()
	file = filepath.Join(h.dir, "environ")
	must(t, os.WriteFile(filepath.Join(h.dir, "code"), []byte("#!/bin/sh\nenv >"+file+"\nexit 1\n"), 0o755))
	registry("mfa_serial = ", "mfa_process = "+filepath.Join(h.dir, "code")+"\nmfa_serial = ")(t, h)
	return file
}

// TestShellLendsNoEnvironment checks which variables of the shell that started the daemon reach the daemon's
// children.
func TestShellLendsNoEnvironment(t *testing.T) {
	t.Parallel()
	h := seedless(t, "")
	must(t, h.stopDaemon())
	file := h.dumpEnv(t)
	bin := filepath.Join(h.dir, "node_modules/.bin")
	marker := filepath.Join(h.dir, "ran")
	must(t, os.MkdirAll(bin, 0o755))
	for _, name := range []string{"pinentry", "zenity", "kdialog", "gpgconf"} {
		must(t, os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\necho "+name+" >>"+marker+"\nexit 1\n"), 0o755))
	}
	hostile := []string{
		"PATH=node_modules/.bin:" + bin + ":" + os.Getenv("PATH"), "LD_PRELOAD=/tmp/evil.so", "LD_LIBRARY_PATH=" + bin,
		"DBUS_SESSION_BUS_ADDRESS=unixexec:path=" + bin + "/zenity", "DBUS_SYSTEM_BUS_ADDRESS=tcp:host=127.0.0.1,port=1",
		"GODEBUG=x509sha1=1", "SSL_CERT_FILE=/tmp/evil.pem", "SSL_CERT_DIR=/tmp", "SSLKEYLOGFILE=/tmp/keys",
		"PYTHONPATH=" + bin,
		"GIT_SSH_COMMAND=" + bin, "GTK_MODULES=evil", "GTK_PATH=" + bin, "BASH_ENV=" + bin, "ENV=" + bin, "GNUPGHOME=" + bin,
		"PASSWORD_STORE_DIR=" + bin, "AWS_PROFILE=evil", "LANG=/tmp/evil", "LC_ALL=../evil", "DISPLAY=evil.example.com:0",
		"WAYLAND_DISPLAY=../evil", "XAUTHORITY=relative", "ANYTHING=else", "BROKER_OUTER_BUS=evil", "PERL5LIB=" + bin,
		"NODE_OPTIONS=--require evil",
	}
	r := h.in(hostile, "credproc", "product_prod_paul")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(r)
	}
	must(t, err)
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		switch {
		case name == "PATH" && !strings.Contains(value, "node_modules") && strings.HasPrefix(value, "/"):
		case name == "HOME" && value == h.home, name == "PWD", name == "_", name == "SHLVL", name == "OLDPWD":
		default:
			t.Errorf("a child of the daemon got %s", line)
		}
	}
	// A clean shell gets a window.
	registry("mfa_process = "+filepath.Join(h.dir, "code"), "")(t, h)
	registry("[settings]", "[settings]\nmfa_prompt = gui")(t, h)
	h.in([]string{"DISPLAY=:4711"}, "credproc", "product_prod_paul")
	if names, err := os.ReadFile(marker); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("programs from that shell's PATH ran: %s", names)
	}
}

// descriptors lists the files that a process has open.
func descriptors(t *testing.T, pid int) (files []string) {
	t.Helper()
	names, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	must(t, err)
	for _, name := range names {
		if file, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", pid, name.Name())); err == nil {
			files = append(files, file)
		}
	}
	return files
}

// TestDaemonInheritsNoDescriptor checks that the daemon inherits no open file of the client that starts it: no
// pipe, whose reader would wait forever, and no lock, which would never be released.
func TestDaemonInheritsNoDescriptor(t *testing.T) {
	t.Parallel()
	needRoot(t) // the daemon is not dumpable: only root may see its open files
	h := demo(t)
	for _, argv := range [][]string{{"credproc", "product_prod_paul"},
		{"broker", "exec", "product_prod_paul", "--", "true"},
		{"broker", "daemon", "--background"}} {
		must(t, h.stopDaemon())
		locked := filepath.Join(h.dir, "locked")
		f, err := os.OpenFile(locked, os.O_RDWR|os.O_CREATE, 0o600)
		must(t, err)
		must(t, syscall.Flock(int(f.Fd()), syscall.LOCK_EX))
		reader, writer, err := os.Pipe()
		must(t, err)
		cmd := h.command(argv[0], argv[1:]...)
		cmd.ExtraFiles = []*os.File{nil, f, writer}
		if r := finish(cmd); r.code != 0 {
			t.Fatal(r)
		}
		pipe := fmt.Sprintf("pipe:[%d]", inode(t, writer))
		must(t, errors.Join(f.Close(), writer.Close()))
		for _, open := range descriptors(t, h.daemonPID(t)) {
			if open == locked || open == pipe {
				t.Errorf("%v: the daemon has %s", argv, open)
			}
		}
		again, err := os.OpenFile(locked, os.O_RDWR, 0)
		must(t, err)
		// A process that another test is just starting holds the descriptor until it calls exec.
		until(t, fmt.Sprintf("the lock is free after %v", argv), func() bool {
			return syscall.Flock(int(again.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil
		})
		must(t, errors.Join(again.Close(), reader.Close()))
	}
	// The command of exec inherits all of them.
	out := filepath.Join(h.dir, "nine")
	h.ok(t, "sh", "-c", `broker exec product_prod_paul -- sh -c 'echo hi >&9' 9>`+out)
	if text, err := os.ReadFile(out); err != nil || string(text) != "hi\n" {
		t.Errorf("%q, %v", text, err)
	}
}

func inode(t *testing.T, f *os.File) uint64 {
	t.Helper()
	info, err := f.Stat()
	must(t, err)
	return info.Sys().(*syscall.Stat_t).Ino
}

// TestAnothersHome checks what happens after root used the HOME of a user and left directories there. The first
// command tells the user whose they are and what to type. Under sudo, Broker creates nothing at all.
func TestAnothersHome(t *testing.T) {
	t.Parallel()
	needRoot(t)
	h := newHouse(t)
	must(t, errors.Join(h.settings(""), os.RemoveAll(filepath.Join(h.home, ".local"))))
	h.give(t, nobody)
	if r := h.in([]string{"SUDO_UID=65534"}, "credproc", "product_prod_paul"); r.code == 0 ||
		!strings.Contains(r.stderr, "sudo") {
		t.Errorf("under sudo: %v", r)
	}
	if _, err := os.Stat(filepath.Join(h.home, ".local")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("under sudo Broker created something: %v", err)
	}
	// Without sudo, as in a container, root may use the HOME; status reports it.
	h.run("credproc", "product_prod_paul")
	if r := h.run("broker", "status"); r.code != 0 ||
		!strings.Contains(r.stderr, "which belongs to uid 65534, but this is root") {
		t.Errorf("as root: %v", r)
	}
	must(t, h.stopDaemon())
	for _, args := range [][]string{{"credproc", "product_prod_paul"}, {"broker", "status"}, {"broker", "daemon"},
		{"broker", "unlock"}} {
		r := h.asOther(t, nobody, args[0], args[1:]...)
		if r.code != 5 || r.stdout != "" || !strings.Contains(r.stderr, " belongs to another user (uid 0)") ||
			!strings.Contains(r.stderr, "\nhint: sudo chown -R 65534 "+h.home) {
			t.Errorf("%v: %v", args, r)
		}
	}
	// The HOME belongs to a third user.
	must(t, os.Chown(h.home, 12345, 12345))
	if r := h.asOther(t, nobody, "credproc", "product_prod_paul"); r.code != 5 ||
		!strings.Contains(r.stderr, "HOME is "+h.home+", which belongs to another user (uid 12345)") {
		t.Errorf("another's HOME: %v", r)
	}
}

// TestRootMakesNoUselessRegistry checks that root with the HOME of another user is refused before Broker stores a
// key or a setting, in the words of every later command. The hint leads back to root's own home.
func TestRootMakesNoUselessRegistry(t *testing.T) {
	t.Parallel()
	needRoot(t)
	h := newHouse(t)
	must(t, os.Chown(h.home, nobody, nobody))
	key := []string{"AWS_ACCESS_KEY_ID=" + keyID, "AWS_SECRET_ACCESS_KEY=" + keySecret}
	for _, args := range [][]string{{"add", "security", "--from-env", "--no-verify"},
		{"config", "set", "lock_after", "8h"}, {"profiles", "list"}} {
		r := h.in(key, "broker", args...)
		if r.code != 1 || !strings.Contains(r.stderr, "config is reached through "+h.home+", which belongs to another user") ||
			!strings.Contains(r.stderr, "\nhint: export HOME=") {
			t.Errorf("%v: %v", args, r)
		}
	}
	for _, path := range []string{h.registry(), h.keyring()} {
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s was created: %v", path, err)
		}
	}
}

// TestUselessRegistry checks that commands that write the registry refuse one that others can write, that is
// damaged or that cannot be read. No hint leads to the same failure, and status does not claim that no keyring was
// chosen.
func TestUselessRegistry(t *testing.T) {
	t.Parallel()
	h := demo(t)
	h.credentials(t, "product_prod_paul")
	text, err := os.ReadFile(h.registry())
	must(t, err)
	must(t, os.Chmod(h.registry(), 0o666))
	for _, args := range [][]string{{"profiles", "list"}, {"config", "set", "lock_after", "8h"}} {
		r := h.run("broker", args...)
		if want := "broker: " + h.registry() + " can be written by others (mode 0666)\nhint: chmod go-w " + h.registry() +
			"\n"; r.code != 1 || r.stderr != want {
			t.Errorf("%v: %v", args, r)
		}
	}
	if r := h.run("broker", "status"); !strings.Contains(r.stdout, "\nkeyring   unknown, ") {
		t.Errorf("status: %v", r)
	}
	must(t, os.Chmod(h.registry(), 0o600))
	for _, line := range []string{"[source x\n", "nonsense\n", "\x00\n"} {
		must(t, os.WriteFile(h.registry(), append([]byte(line), text...), 0o600))
		r := h.run("broker", "profiles", "list")
		if r.code != 1 || !strings.HasPrefix(r.stderr, "broker: "+h.registry()+":1: this line ") ||
			strings.Contains(r.stderr, "ignored") || strings.Contains(r.stderr, "hint: broker") {
			t.Errorf("%q: %v", line, r)
		}
	}
}

// TestOtherPaths checks that a client with another registry, state directory or keyring than the daemon is told
// so, and is not served. Nor can it replace the daemon by its own.
func TestOtherPaths(t *testing.T) {
	t.Parallel()
	h := demo(t)
	h.credentials(t, "product_prod_paul")
	pid := h.daemonPID(t)
	for _, variable := range []string{"BROKER_CONFIG", "BROKER_STATE_DIR", "BROKER_KEYRING_DIR", "XDG_CONFIG_HOME",
		"XDG_DATA_HOME"} {
		other := filepath.Join(h.dir, "other")
		env := []string{variable + "=" + other, "BROKER_SOCKET=" + h.socket()}
		for _, args := range [][]string{{"credproc", "product_prod_paul"},
			{"broker", "exec", "product_prod_paul", "--", "env"}, {"broker", "login", "security"},
			{"broker", "daemon", "--replace"},
			{"broker", "logout"}, {"broker", "unlock"}} {
			r := h.in(env, args[0], args[1:]...)
			named := strings.Contains(r.stderr, "the daemon on this socket uses the ") ||
				strings.Contains(r.stderr, "is called")
			if r.code == 0 || !named || !strings.Contains(r.stderr, "\nhint: ") || strings.Contains(r.stderr, "kill") {
				t.Errorf("%s, %v: %v", variable, args, r)
			}
			if args[1] == "unlock" && !strings.HasSuffix(r.stderr, "\nhint: unset BROKER_SOCKET\n") {
				t.Errorf("%s: %v", variable, r)
			}
		}
		// Everybody may look and lock.
		if r := h.in(env, "broker", "status"); r.code != 0 || !strings.Contains(r.stdout, "\nregistry  "+h.registry()+"\n") {
			t.Errorf("%s: status: %v", variable, r)
		}
	}
	// For another HOME, the message names the HOME, and the hint leads back to it.
	home := filepath.Join(h.dir, "h3")
	must(t, os.Mkdir(home, 0o700))
	elsewhere := []string{"HOME=" + home, "BROKER_SOCKET=" + h.socket()}
	differs := "the daemon on this socket uses the home " + h.home + ", but this shell uses " + home + "\n"
	for _, args := range [][]string{{"credproc", "product_prod_paul"}, {"broker", "unlock"}} {
		r := h.in(elsewhere, args[0], args[1:]...)
		if want := args[0] + ": " + differs + "hint: HOME=" + h.home + " broker status\n"; r.code != 1 || r.stderr != want {
			t.Errorf("HOME, %v: %v", args, r)
		}
	}
	if r := h.in(elsewhere, "broker", "status"); r.code != 0 || r.stderr != "warning: "+differs {
		t.Errorf("HOME, status: %v", r)
	}
	// The same files under another name are the same files.
	must(t, os.Symlink(h.registry(), filepath.Join(h.dir, "name")))
	same := []string{"BROKER_CONFIG=" + filepath.Join(h.dir, "name"), "BROKER_SOCKET=" + h.socket()}
	if r := h.in(same, "credproc", "product_prod_paul"); r.code != 0 {
		t.Error(r)
	}
	if now := h.daemonPID(t); now != pid {
		t.Errorf("another daemon: %d, %d", pid, now)
	}
}

// TestSettingsOfTheWay checks that the daemon, the vault process and the commands use the proxy and the CA of the
// settings, and that a change takes effect at once.
func TestSettingsOfTheWay(t *testing.T) {
	t.Parallel()
	h := demo(t)
	registry(h.sim.url, remoteSTS)(t, h)
	p := startProxy(t, h.dir)
	withPassword := strings.Replace(p.url, "http://", "http://paul:proxy-password@", 1)
	registry("[settings]", "[settings]\nhttps_proxy = "+withPassword+"\nca_bundle = "+p.ca)(t, h)
	if r := h.run("credproc", "product_prod_paul"); r.code == 0 || !strings.Contains(r.stderr, "it answered 503") ||
		p.read.Load() == 0 {
		t.Errorf("the vault process: %v, %d requests", r, p.read.Load())
	}
	before := p.read.Load()
	robot := fmt.Sprintf(`{"AccessKeyId":%q,"SecretAccessKey":%q}`, robotKeyID, keySecret)
	if r := h.runWith(robot, "broker", "add", "robot", "--stdin"); r.code == 0 || p.read.Load() == before {
		t.Errorf("a command: %v", r)
	}
	out := h.ok(t, "broker", "status") + h.ok(t, "broker", "status", "--json")
	if strings.Contains(out, "proxy-password") || !strings.Contains(out, "\nproxy     "+p.url+"\nCAs       "+p.ca+"\n") ||
		!strings.Contains(out, `"https_proxy": "`+p.url+`"`) {
		t.Errorf("status: %s", out)
	}
	// With another CA the proxy's certificate is no longer trusted. The error names a file that is missing or is
	// not a CA.
	for _, row := range []struct{ ca, says string }{{"/nowhere/ca.pem", "read ca_bundle of [settings]: "},
		{h.registry(), "holds no certificate in PEM form"}} {
		registry("ca_bundle = ", "ca_bundle = "+row.ca+"\n#")(t, h)
		must(t, h.freshCodes())
		before := p.connects.Load()
		for _, r := range []result{h.run("credproc", "product_prod_paul"),
			h.runWith(robot, "broker", "add", "robot", "--stdin")} {
			if r.code == 0 || !strings.Contains(r.stderr, row.says) || p.connects.Load() != before {
				t.Errorf("%s: %v", row.ca, r)
			}
		}
	}
	registry("https_proxy = "+withPassword, "https_proxy = paul:proxy-password@proxy")(t, h)
	if r := h.run("credproc", "product_prod_paul"); r.code == 0 ||
		!strings.Contains(r.stderr, "https_proxy is not a URL") || strings.Contains(r.stderr, "proxy-password") {
		t.Errorf("no URL: %v", r)
	}
}

// TestHintFitsFailure checks that in a shell with another proxy and another CA bundle the hint names the cause of
// the failed call. Once the user typed it, the next request makes a new call, instead of returning the earlier
// failure.
func TestHintFitsFailure(t *testing.T) {
	t.Parallel()
	h := demo(t)
	registry(h.sim.url, remoteSTS)(t, h)
	p := startProxy(t, h.dir)
	h.ok(t, "broker", "config", "set", "https_proxy", "http://127.0.0.1:1")
	shell := []string{"HTTPS_PROXY=" + p.url, "AWS_CA_BUNDLE=" + p.ca}
	for _, row := range []struct{ says, hint string }{
		{"cannot reach the proxy", "broker config set https_proxy " + p.url},
		{"cannot trust ", "broker config set ca_bundle " + p.ca},
		{"it answered 503", "broker explain product_prod_paul"},
	} {
		must(t, h.freshCodes())
		r := h.in(shell, "credproc", "product_prod_paul")
		if r.code == 0 || !strings.Contains(r.stderr, row.says) || !strings.Contains(r.stderr, "\nhint: "+row.hint+"\n") {
			t.Fatalf("want %q and the hint %q: %v", row.says, row.hint, r)
		}
		typed := strings.Fields(row.hint)
		h.ok(t, typed[0], typed[1:]...)
	}
	if p.read.Load() == 0 {
		t.Error("no call came through the proxy")
	}
}

// TestOfferShell checks that add offers to store the proxy and CA of its shell. Without a terminal it says what to
// type. It shows no password.
func TestOfferShell(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	must(t, h.startSim())
	must(t, h.settings(""))
	ca := startProxy(t, h.dir).ca
	env := []string{"https_proxy=paul:proxy-password@proxy.example.com:3128", "NO_PROXY=.internal", "AWS_CA_BUNDLE=" + ca}
	key := fmt.Sprintf(`{"AccessKeyId":%q,"SecretAccessKey":%q}`, keyID, keySecret)
	cmd := h.command("broker", "add", "security", "--stdin")
	cmd.Env, cmd.Stdin = append(append([]string{}, h.env...), env...), strings.NewReader(key)
	r := finish(cmd)
	for _, want := range []string{"broker config set https_proxy ", "broker config set no_proxy .internal",
		"broker config set ca_bundle " + ca} {
		if r.code != 0 || !strings.Contains(r.stderr, want) || strings.Contains(r.stderr, "proxy-password") {
			t.Errorf("%s: %v", want, r)
		}
	}
	// An invalid proxy is reported, without its password, and not offered.
	for _, wrong := range []string{"http://paul:hunter#word@proxy", "http://paul:hunter/word@proxy",
		"http://proxy:3128/hunter", "hunter#word@x"} {
		cmd = h.command("broker", "add", "security", "--stdin")
		cmd.Env, cmd.Stdin = append(append([]string{}, h.env...), "HTTPS_PROXY="+wrong), strings.NewReader(key)
		r := finish(cmd)
		if r.code != 0 || !strings.Contains(r.stderr, "HTTPS_PROXY of this shell ") || strings.Contains(r.stderr, "hunter") {
			t.Errorf("%s: %v", wrong, r)
		}
	}
	cmd = h.command("broker", "add", "security")
	cmd.Env = append(append([]string{}, h.env...), env...)
	r, shown, err := converse(cmd, []line{{false, "Access key ID: "}, {true, keyID}, {false, "Secret access key: "},
		{true, keySecret},
		{false, "Keep it in the settings, for all calls to AWS? [y/N] "}, {true, "y"}})
	must(t, err)
	if r.code != 0 || strings.Contains(shown, "proxy-password") {
		t.Errorf("%v, shown %s", r, shown)
	}
	text, err := os.ReadFile(h.registry())
	must(t, err)
	for _, want := range []string{"https_proxy = http://paul:proxy-password@proxy.example.com:3128\n",
		"no_proxy = .internal\n", "ca_bundle = " + ca + "\n"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
}

// TestProcessOnBuiltPath checks that mfa set stores the absolute path of a program, searches for it where the
// daemon does, and refuses a program that others may replace.
func TestProcessOnBuiltPath(t *testing.T) {
	t.Parallel()
	h := seedless(t, "")
	program := filepath.Join(h.bin, "printcode")
	must(t, os.WriteFile(program, []byte("#!/bin/sh\nexec stssim --print-code "+serial+"\n"), 0o755))
	evil := filepath.Join(h.dir, "evil")
	must(t, os.Mkdir(evil, 0o755))
	must(t, os.WriteFile(filepath.Join(evil, "printcode"), []byte("#!/bin/sh\necho 000000\n"), 0o755))
	path := []string{"PATH=" + evil + ":" + os.Getenv("PATH")}
	if r := h.in(path, "broker", "mfa", "set", "security", "--process", "printcode --now"); r.code != 0 {
		t.Fatal(r)
	}
	text, err := os.ReadFile(h.registry())
	must(t, err)
	if !strings.Contains(string(text), "mfa_process = "+program+" --now\n") {
		t.Errorf("%s", text)
	}
	// The daemon that this shell starts also finds it by its base name.
	registry("mfa_process = "+program, "mfa_process = printcode")(t, h)
	if r := h.in([]string{"PATH=" + evil}, "credproc", "product_prod_paul"); r.code != 0 {
		t.Error(r)
	}
	must(t, os.Chmod(evil, 0o777))
	for _, argument := range []string{filepath.Join(evil, "printcode"), "nosuchprogram", "./printcode"} {
		if r := h.run("broker", "mfa", "set", "security", "--process", argument); r.code == 0 {
			t.Errorf("%s: %v", argument, r)
		}
	}
	registry("mfa_process = printcode", "mfa_process = "+filepath.Join(evil, "printcode"))(t, h)
	h.ok(t, "broker", "logout")
	if r := h.run("credproc", "product_prod_paul"); r.code == 0 ||
		!strings.Contains(r.stderr, evil+" can be written by others") {
		t.Error(r)
	}
}

// startAsUnit starts the daemon as systemd does, with additional environment variables.
func (h *house) startAsUnit(t *testing.T, env ...string) {
	t.Helper()
	cmd := h.command("sh", "-c", `SYSTEMD_EXEC_PID=$$ exec "$0" daemon`, filepath.Join(h.bin, "broker"))
	cmd.Env = append(append([]string{}, h.env...), env...)
	must(t, cmd.Start())
	done := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(done)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-done
	})
	until(t, "the daemon listens", func() bool {
		s, err := h.status()
		return err == nil && s.Running
	})
}

// TestUnitLends checks that the daemon takes the proxy and the CAs from its unit, which it does not take from a
// shell, unless the settings name others. Everything else is the same as without a unit.
func TestUnitLends(t *testing.T) {
	t.Parallel()
	h := demo(t)
	must(t, h.stopDaemon())
	registry(h.sim.url, remoteSTS)(t, h)
	p := startProxy(t, h.dir)
	h.startAsUnit(t, "https_proxy="+p.url, "AWS_CA_BUNDLE="+p.ca, "GODEBUG=x509sha1=1", "PATH=relative:"+os.Getenv("PATH"))
	if r := h.run("credproc", "product_prod_paul"); r.code == 0 || !strings.Contains(r.stderr, "it answered 503") ||
		p.read.Load() == 0 {
		t.Errorf("%v: %d requests", r, p.read.Load())
	}
	out := h.ok(t, "broker", "status")
	for _, want := range []string{", started by service\n", "\nproxy     " + p.url + "\n", "\nCAs       " + p.ca + "\n",
		"\nnote      GODEBUG was ignored: "} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing: %s", want, out)
		}
	}
	// Another duration makes another request, so that the earlier failure is not the answer.
	registry("[settings]", "[settings]\nsession_duration = 11h\nhttps_proxy = http://127.0.0.1:1")(t, h)
	before := p.connects.Load()
	must(t, h.freshCodes())
	if r := h.run("credproc", "product_prod_paul"); r.code == 0 ||
		!strings.Contains(r.stderr, "the proxy http://127.0.0.1:1 (https_proxy) for sts.broker.invalid") || p.connects.Load() != before {
		t.Errorf("the settings do not override the unit: %v", r)
	}
}
