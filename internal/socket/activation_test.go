//go:build linux

package socket

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"broker/internal/dial"
)

// init adds the parts of this file to play.
func init() {
	parts["activated"] = func(args []string) int { // prints what was passed, and what a child would see of it
		file, err := Activated()
		fmt.Println("file", file != nil, "error", err != nil)
		out, err := exec.Command("/bin/sh", "-c", `env | grep -c ^LISTEN_; for fd in 3 4; do [ ! -S /proc/$$/fd/$fd ] || echo socket; done`).Output()
		if err != nil && len(out) == 0 {
			fmt.Println(err)
			return 1
		}
		fmt.Println(strings.ReplaceAll(strings.TrimSpace(string(out)), "\n", " "))
		return 0
	}
	parts["hold"] = func(args []string) int { // an ordinary daemon: ends on SIGTERM
		l, err := Listen(args[0])
		if err != nil {
			fmt.Println(err)
			return 1
		}
		go greet(l)
		fmt.Println("ready")
		time.Sleep(10 * time.Minute)
		return 0
	}
}

// managed creates a socket like a service manager.
func managed(t *testing.T, path string) *os.File {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	_ = os.Remove(path)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	t.Cleanup(func() { _ = l.Close() })
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestActivated(t *testing.T) {
	exe := part(t)
	dir := t.TempDir()
	run := func(files []*os.File, env string) string {
		t.Helper()
		// $$ of sh stays the pid after exec.
		cmd := exec.Command("/bin/sh", "-c", env+` exec "$0" play activated x`, exe)
		cmd.ExtraFiles = files
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return strings.TrimSpace(string(out))
	}
	f := managed(t, filepath.Join(dir, "a", "s"))
	defer f.Close()
	const clean = "\n0" // no variables, and no socket
	tests := []struct {
		name, env, want string
		files           []*os.File
	}{
		{"one", `LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=broker.socket`, "file true error false" + clean, []*os.File{f}},
		{"none", ``, "file false error false" + clean, nil},
		{"for another process", `LISTEN_PID=1 LISTEN_FDS=1`, "file false error false\n0 socket", []*os.File{f}},
		{"two", `LISTEN_PID=$$ LISTEN_FDS=2`, "file false error true" + clean, []*os.File{f, f}},
		{"nonsense", `LISTEN_PID=$$ LISTEN_FDS=-7`, "file false error true" + clean, nil},
		{"too many sockets", `LISTEN_PID=$$ LISTEN_FDS=999999999999`, "file false error true" + clean, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			env := tt.env
			if env != "" {
				env = "export " + env + ";"
			}
			if got := run(tt.files, env); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// TestAdopt: an activated socket is served, and still exists after the end.
func TestAdopt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d", "s")
	f := managed(t, path)
	for range 3 {
		dup, err := syscall.Dup(int(f.Fd()))
		if err != nil {
			t.Fatal(err)
		}
		l, err := Adopt(t.Context(), path, os.NewFile(uintptr(dup), "s"))
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() { greet(l); close(ended) }()
		if err := greeted(path); err != nil {
			t.Fatal(err)
		}
		conn, err := dial.Dial(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
		if _, err := Listen(path); !errors.Is(err, ErrTaken) {
			t.Errorf("the lock is free: %v", err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		<-ended
		if _, err := os.Lstat(path); err != nil {
			t.Errorf("the service manager's socket was removed: %v", err)
		}
		// The service manager listens, so no other process may take its place.
		if _, err := Listen(path); !errors.Is(err, ErrTaken) {
			t.Errorf("a daemon that was started by a client: %v", err)
		}
	}

	// If it was removed, it is bound again, and then we may remove it.
	l, err := Adopt(t.Context(), path, f)
	if err != nil {
		t.Fatal(err)
	}
	go greet(l)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the first leaves it
		if err := l.Restore(); err != nil {
			t.Fatal(err)
		}
	}
	if err := greeted(path); err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Error("its own socket was not removed")
	}
}

func TestAdoptRefuses(t *testing.T) {
	tests := []struct {
		name string
		make func(t *testing.T, path string) *os.File
		want string
	}{
		{"a file", func(t *testing.T, path string) *os.File {
			f, err := os.Create(filepath.Join(t.TempDir(), "f"))
			if err != nil {
				t.Fatal(err)
			}
			return f
		}, "not a socket"},
		{"a TCP socket", func(t *testing.T, path string) *os.File {
			l, err := net.Listen("tcp4", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = l.Close() })
			f, err := l.(*net.TCPListener).File()
			if err != nil {
				t.Fatal(err)
			}
			return f
		}, "not a unix socket"},
		{"a datagram socket", func(t *testing.T, path string) *os.File {
			l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = l.Close() })
			f, err := l.File()
			if err != nil {
				t.Fatal(err)
			}
			return f
		}, "not a stream socket"},
		{"a socket that does not listen", func(t *testing.T, path string) *os.File {
			fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
			if err != nil {
				t.Fatal(err)
			}
			if err := syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}); err != nil {
				t.Fatal(err)
			}
			return os.NewFile(uintptr(fd), "s")
		}, "does not listen"},
		{"a socket at another path", func(t *testing.T, path string) *os.File { return managed(t, path+"2") }, "bound to"},
		{"a socket that all users may use", func(t *testing.T, path string) *os.File {
			f := managed(t, path)
			if err := os.Chmod(path, 0o666); err != nil {
				t.Fatal(err)
			}
			return f
		}, "mode 0600"},
		{"a socket in a directory that all users may read", func(t *testing.T, path string) *os.File {
			f := managed(t, path)
			if err := os.Chmod(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			return f
		}, "can be read by others"},
		{"a socket that was replaced by a file", func(t *testing.T, path string) *os.File {
			f := managed(t, path)
			if err := errors.Join(os.Remove(path), os.WriteFile(path, nil, 0o600)); err != nil {
				t.Fatal(err)
			}
			return f
		}, "is not a socket of yours"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "d", "s")
			if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			l, err := Adopt(t.Context(), path, tt.make(t, path))
			if err == nil {
				_ = l.Close()
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

// TestAdoptForeign: a socket of another owner is refused, whatever its mode.
func TestAdoptForeign(t *testing.T) {
	needRoot(t)
	path := filepath.Join(t.TempDir(), "d", "s")
	f := managed(t, path)
	if err := os.Chown(path, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	if l, err := Adopt(t.Context(), path, f); err == nil {
		_ = l.Close()
		t.Error("a socket of another user was adopted")
	}
}

// TestMakeWay: a daemon that was there before the service manager's socket leaves that socket alone, and ends for
// the daemon that the service manager starts.
func TestMakeWay(t *testing.T) {
	exe := part(t)
	for round := range 20 {
		path := filepath.Join(t.TempDir(), "d", strconv.Itoa(round))
		cmd := exec.Command(exe, "play", "hold", path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := out.Read(make([]byte, 10)); err != nil {
			t.Fatal(err)
		}
		f := managed(t, path)
		l, err := Adopt(t.Context(), path, f)
		if err != nil {
			_ = cmd.Process.Kill()
			t.Fatal(err)
		}
		if err := cmd.Wait(); err == nil || !cmd.ProcessState.Sys().(syscall.WaitStatus).Signaled() {
			t.Errorf("the previous daemon ended with %v", err)
		}
		go greet(l)
		if err := greeted(path); err != nil {
			t.Error(err)
		}
		_ = l.Close()
	}
}

// TestRestoreKnocks: Restore leaves a service manager's socket in its place long enough.
func TestRestoreKnocks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d", "s")
	l := listen(t, path)
	go greet(l)
	f := managed(t, path)
	defer f.Close()
	theirs, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	for range knocks {
		if err := l.Restore(); err != nil {
			t.Fatal(err)
		}
		if now, err := os.Lstat(path); err != nil || !os.SameFile(now, theirs) {
			t.Fatal("the socket was replaced at once")
		}
	}
	// No daemon came for it.
	if err := l.Restore(); err != nil {
		t.Fatal(err)
	}
	if err := greeted(path); err != nil {
		t.Error(err)
	}
}

// TestRestoreUnfinished: Restore leaves a socket on which a service manager does not listen yet.
func TestRestoreUnfinished(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d", "s")
	l := listen(t, path)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Close(fd) }()
	if err := syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
	theirs, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	unchanged := func() {
		t.Helper()
		if err := l.Restore(); err != nil {
			t.Fatal(err)
		}
		if now, err := os.Lstat(path); err != nil || !os.SameFile(now, theirs) {
			t.Fatal("the socket was replaced")
		}
	}
	unchanged()
	if err := syscall.Listen(fd, 1); err != nil {
		t.Fatal(err)
	}
	unchanged()
}

// TestRestoreSwapped: who swaps the socket before each look keeps it for one look at a time, and who puts it back in
// between wins nothing: two looks after the last change, clients reach this daemon.
func TestRestoreSwapped(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d", "s")
	l := listen(t, path)
	go greet(l)
	restore := func() {
		t.Helper()
		if err := l.Restore(); err != nil {
			t.Fatal(err)
		}
	}
	swap := func(away bool) {
		t.Helper()
		var err error
		if away {
			err = os.Rename(path, path+".away")
		} else {
			err = os.Remove(path)
		}
		if err != nil {
			t.Fatal(err)
		}
		fake, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		fake.SetUnlinkOnClose(false)
		_ = fake.Close()
	}
	for i := range 40 {
		swap(false)
		restore()
		if i%2 == 1 && greeted(path) != nil {
			t.Fatalf("after %d looks the socket was not taken back", i+1)
		}
	}
	for range 10 {
		swap(true)
		restore()
		if err := os.Rename(path+".away", path); err != nil {
			t.Fatal(err)
		}
		restore()
		if err := greeted(path); err != nil {
			t.Fatal(err)
		}
	}
	swap(false)
	restore()
	restore()
	if err := greeted(path); err != nil {
		t.Fatal(err)
	}
}

// TestInherit: a socket is handed from daemon to daemon while clients connect, and every client is served.
func TestInherit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d", "s")
	l := listen(t, path)
	go greet(l)
	stop, failed := make(chan struct{}), make(chan error, 8)
	for range 8 {
		go func() {
			for {
				select {
				case <-stop:
					failed <- nil
					return
				default:
				}
				if err := greeted(path); err != nil {
					failed <- err
					return
				}
			}
		}()
	}
	for range 50 {
		if err := l.Hold(); err != nil {
			t.Fatal(err)
		}
		l.Stop()
		lock, file := l.Give()
		dup := func(f *os.File) *os.File {
			fd, err := syscall.Dup(int(f.Fd()))
			if err != nil {
				t.Fatal(err)
			}
			return os.NewFile(uintptr(fd), f.Name())
		}
		lock, file = dup(lock), dup(file)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := Listen(path); !errors.Is(err, ErrTaken) {
			t.Fatalf("the lock was free between two daemons: %v", err)
		}
		var err error
		if l, err = Inherit(path, lock, file); err != nil {
			t.Fatal(err)
		}
		if err := l.Restore(); err != nil {
			t.Fatal(err)
		}
		go greet(l)
	}
	close(stop)
	for range 8 {
		if err := <-failed; err != nil {
			t.Error(err)
		}
	}
	_ = l.Close()
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Error("the last daemon left the socket")
	}
}
