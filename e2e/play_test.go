package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/godbus/dbus"
	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// otherRoles are roles that only tests with a build tag have.
var otherRoles = map[string]func() int{}

// playRole runs the test program in another role: a process of another uid without access to our files, or a
// program that people run next to Broker's.
func playRole(role string) int {
	if play := otherRoles[role]; play != nil {
		return play()
	}
	switch role {
	case "stranger":
		// Print how much the socket answers to each line.
		path := os.Getenv("E2E_SOCKET")
		for _, line := range []string{"", `{"v":1,"verb":"ping"}`, `{"v":1,"verb":"state"}`, `{"v":1,"verb":"get","profile":"product_prod_paul"}`} {
			if line == "" && os.Getuid() == 0 {
				continue // an idle connection of our own stays open for a minute
			}
			n, how := tryLine(path, line)
			fmt.Printf("%d bytes %s\n", n, how)
		}
		return 0
	case "asker":
		n, status := askEndpoint()
		fmt.Printf("%d bytes, status %d\n", n, status)
		return 0
	case "poller":
		return pollerRole()
	case "herd":
		return herdRole(os.Args[1:])
	case "browser":
		if err := browserRole(os.Args[len(os.Args)-1], os.Getenv("E2E_OUT")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return 0
	case "confirmation": // prints the text of the page of a console login
		text, err := confirmed(os.Args[1])
		fmt.Println(text)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return 0
	case "aws-login":
		arn, err := awsLogin(os.Args[1], os.Args[2])
		fmt.Println(arn)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return 0
	case "pager":
		return pagerRole()
	case "aws-vault":
		if err := keepAsAWSVault("work", os.Getenv("E2E_ITEM")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return 0
	case "server":
		if err := listenAsStranger(os.Getenv("E2E_SOCKET"), os.Getenv("E2E_OUT")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return 2
}

func tryLine(path, line string) (int, string) {
	conn, err := net.Dial("unix", path)
	if err != nil {
		return 0, "not connected: " + err.Error()
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(patience))
	if line != "" {
		_, _ = conn.Write([]byte(line + "\n"))
	}
	n, err := conn.Read(make([]byte, 4096))
	if ne, ok := err.(net.Error); ok && ne.Timeout() {
		return n, "left open"
	}
	return n, "connected"
}

// listenAsStranger records how much it is sent.
func listenAsStranger(path, out string) error {
	note, err := os.OpenFile(out, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	if err := os.Chmod(path, 0o777); err != nil {
		return err
	}
	_, _ = note.WriteString("listening\n")
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		_ = conn.SetDeadline(time.Now().Add(patience))
		n, _ := conn.Read(make([]byte, 4096))
		_, _ = fmt.Fprintf(note, "received %d\n", n)
		_ = conn.Close()
	}
}

// herdRole starts E2E_N processes of a program at once in its own process group, as a build tool does. It writes
// the output and exit code of each to files.
func herdRole(argv []string) int {
	n, _ := strconv.Atoi(os.Getenv("E2E_N"))
	// Catch the signal instead of ignoring it, since children would inherit an ignored signal.
	signal.Notify(make(chan os.Signal, 1), os.Interrupt)
	failed := false
	var wg sync.WaitGroup
	for i := range n {
		file := func(what string) *os.File {
			f, err := os.Create(filepath.Join(os.Getenv("E2E_OUT"), fmt.Sprintf("%s.%d", what, i)))
			if err != nil {
				fmt.Println(err)
				failed = true
			}
			return f
		}
		cmd := exec.Command(argv[0], argv[1:]...)
		cmd.Stdout, cmd.Stderr = file("out"), file("err")
		code := file("code")
		if err := cmd.Start(); err != nil {
			fmt.Println(err)
			return 1
		}
		wg.Go(func() {
			_ = cmd.Wait()
			_, _ = fmt.Fprintln(code, exitCode(cmd.ProcessState))
		})
	}
	wg.Wait()
	if failed {
		return 1
	}
	return 0
}

// pagerRole changes the terminal's mode as a pager does. It writes to the file E2E_OUT what it read, and whether
// the terminal was in its mode when the input ended.
func pagerRole() int {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fd := int(tty.Fd())
	before, err := term.MakeRaw(fd)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	wanted, _ := unix.IoctlGetTermios(fd, unix.TCGETS)
	_ = os.WriteFile(os.Getenv("E2E_OUT")+".ready", nil, 0o600)
	text, _ := io.ReadAll(os.Stdin)
	now, _ := unix.IoctlGetTermios(fd, unix.TCGETS)
	said := "raw\n"
	if *now != *wanted {
		said = fmt.Sprintf("changed: %+v, was %+v\n", *now, *wanted)
	}
	_ = term.Restore(fd, before)
	if err := os.WriteFile(os.Getenv("E2E_OUT"), append([]byte(said), text...), 0o600); err != nil {
		return 1
	}
	return 0
}

// keepAsAWSVault stores an item in the login collection of the Secret Service, in the format of aws-vault's
// library.
func keepAsAWSVault(name, data string) error {
	bus, err := dbus.SessionBus()
	if err != nil {
		return err
	}
	const service, collection = "org.freedesktop.secrets", "/org/freedesktop/secrets/collection/login"
	var none dbus.Variant
	var session dbus.ObjectPath
	if err := bus.Object(service, "/org/freedesktop/secrets").Call("org.freedesktop.Secret.Service.OpenSession", 0, "plain", dbus.MakeVariant("")).Store(&none, &session); err != nil {
		return err
	}
	text, err := json.Marshal(map[string]any{"Key": name, "Data": []byte(data), "Label": "aws-vault (" + name + ")"})
	if err != nil {
		return err
	}
	return bus.Object(service, collection).Call("org.freedesktop.Secret.Collection.CreateItem", 0, map[string]dbus.Variant{
		"org.freedesktop.Secret.Item.Label":      dbus.MakeVariant(name),
		"org.freedesktop.Secret.Item.Attributes": dbus.MakeVariant(map[string]string{"profile": name}),
	}, struct {
		Session     dbus.ObjectPath
		Parameters  []byte
		Value       []byte
		ContentType string
	}{session, []byte{}, text, "application/json"}, true).Err
}

// browserRole follows an address to the page behind the sign-in as a browser does, also tries what it must not
// get, and records what it saw.
func browserRole(address, out string) error {
	var said strings.Builder
	client := &http.Client{
		Timeout:       patience,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	ask := func(method, to, host string) (*http.Response, error) {
		req, err := http.NewRequest(method, to, nil)
		if err != nil {
			return nil, err
		}
		req.Host = host
		resp, err := client.Do(req)
		if err == nil {
			_ = resp.Body.Close()
		}
		return resp, err
	}
	for _, bad := range []struct{ what, method, to, host string }{
		{"wrong path", "GET", address + "x", ""},
		{"wrong host", "GET", address, "localhost"},
		{"posted", "POST", address, ""},
	} {
		resp, err := ask(bad.method, bad.to, bad.host)
		if err != nil {
			return err
		}
		_, _ = fmt.Fprintf(&said, "%s: %d\n", bad.what, resp.StatusCode)
	}
	for to := address; strings.HasPrefix(to, "http://"); {
		// Whatever a browser sends besides the answer of a login page does not end the login.
		if base, query, ok := strings.Cut(to, "/oauth/callback?"); ok {
			for _, bad := range []struct{ what, method, to, host string }{
				{"favicon", "GET", base + "/favicon.ico", ""},
				{"stale state", "GET", base + "/oauth/callback?code=stale&state=stale", ""},
				{"declined elsewhere", "GET", base + "/oauth/callback?error=access_denied&state=stale", ""},
				{"callback posted", "POST", to, ""},
				{"callback of another host", "GET", to, "localhost"},
				{"callback elsewhere", "GET", base + "/?" + query, ""},
			} {
				resp, err := ask(bad.method, bad.to, bad.host)
				if err != nil {
					return err
				}
				_, _ = fmt.Fprintf(&said, "%s: %d\n", bad.what, resp.StatusCode)
			}
			if u, err := url.Parse(to); err == nil {
				_, _ = fmt.Fprintf(&said, "state in arguments: %v\n", inArguments(u.Query().Get("state")))
			}
		}
		resp, err := ask("GET", to, "")
		if err != nil {
			return err
		}
		if to == address {
			_, _ = fmt.Fprintf(&said, "%s %s\n", resp.Header.Get("Referrer-Policy"), resp.Header.Get("Cache-Control"))
		}
		to = resp.Header.Get("Location")
		_, _ = fmt.Fprintf(&said, "%d %s\n", resp.StatusCode, to)
	}
	if _, token, ok := strings.Cut(said.String(), "SigninToken="); ok {
		_, _ = fmt.Fprintf(&said, "in arguments: %v\n", inArguments(token[:40]))
	}
	if resp, err := ask("GET", address, ""); err == nil {
		_, _ = fmt.Fprintf(&said, "again: %d\n", resp.StatusCode)
	} else {
		said.WriteString("again: gone\n")
	}
	if err := os.WriteFile(out+".part", []byte(said.String()), 0o600); err != nil {
		return err
	}
	return os.Rename(out+".part", out) // renamed, so that a reader finds a complete file
}

// inArguments reports whether a text is in the arguments of any process.
func inArguments(text string) bool {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range files {
		if line, err := os.ReadFile(file); err == nil && bytes.Contains(line, []byte(text)) {
			return true
		}
	}
	return false
}
