package e2e

import (
	"fmt"
	"net"
	"os"
	"time"
)

// playRole is the test program in another part: a process of another uid, with nothing of ours in its hands.
func playRole(role string) int {
	switch role {
	case "stranger":
		// Says what comes back from the socket, for each line that it sends.
		path := os.Getenv("E2E_SOCKET")
		for _, line := range []string{"", `{"v":1,"verb":"ping"}`, `{"v":1,"verb":"state"}`, `{"v":1,"verb":"get","profile":"product_prod_paul"}`} {
			n, how := tryLine(path, line)
			fmt.Printf("%d bytes %s\n", n, how)
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
	_ = conn.SetDeadline(time.Now().Add(3 * time.Second))
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
		_ = conn.SetDeadline(time.Now().Add(2 * time.Second))
		n, _ := conn.Read(make([]byte, 4096))
		_, _ = fmt.Fprintf(note, "received %d\n", n)
		_ = conn.Close()
	}
}
