package e2e

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// otherRoles are those that only tests with a tag have.
var otherRoles = map[string]func() int{}

// playRole is the test program in another part: a process of another uid with nothing of ours in its hands, or a
// program that people run beside ours.
func playRole(role string) int {
	if play := otherRoles[role]; play != nil {
		return play()
	}
	switch role {
	case "stranger":
		// Says what comes back from the socket, for each line that it sends.
		path := os.Getenv("E2E_SOCKET")
		for _, line := range []string{"", `{"v":1,"verb":"ping"}`, `{"v":1,"verb":"state"}`, `{"v":1,"verb":"get","profile":"product_prod_paul"}`} {
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
	case "pager":
		return pagerRole()
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

// listenAsStranger writes down how much it is sent.
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

// herdRole starts E2E_N of a program at once in its own process group, as a build tool does, and leaves what each
// printed and its exit code in files.
func herdRole(argv []string) int {
	n, _ := strconv.Atoi(os.Getenv("E2E_N"))
	// Caught, not ignored: that the children would inherit.
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

// pagerRole does to the terminal what a pager does, and says in the file E2E_OUT what it read and whether the
// terminal was as it wanted it when its input had ended.
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
