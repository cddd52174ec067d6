//go:build linux

package daemon

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"broker/internal/client"
	"broker/internal/dial"
	"broker/internal/fault"
	"broker/internal/lockfile"
	"broker/internal/paths"
	"broker/internal/socket"
	"broker/internal/wire"
)

// next starts a daemon that takes over from h.
func (h *house) next(t testing.TB, dir string) *house {
	t.Helper()
	left, pid, err := Replace(t.Context(), paths.Paths{Socket: h.path}, "test")
	if err != nil || pid != os.Getpid() {
		t.Fatalf("take over: pid %d, %v", pid, err)
	}
	n := build(t, dir, registry)
	n.Listener, n.Replaced = left.Listener, left
	return n.run(t)
}

// ends waits for the end of a replaced daemon.
func (h *house) ends(t testing.TB) {
	t.Helper()
	select {
	case err := <-h.ended:
		if err != nil {
			t.Errorf("the daemon ended with %v", err)
		}
		h.ended <- nil
	case <-time.After(patience):
		t.Fatal("timed out waiting for the end")
	}
}

// TestReplace: daemons replace each other repeatedly while clients ask. No client starts a daemon, and the lock
// is never free.
func TestReplace(t *testing.T) {
	check := calm(t)
	dir := t.TempDir()
	h := build(t, dir, registry).run(t)
	c := client.Client{Paths: paths.Paths{Socket: h.path}, Version: "test", NoStart: true}
	stop := make(chan struct{})
	var crowd sync.WaitGroup
	for range 16 {
		crowd.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := c.Do(t.Context(), wire.Request{Verb: wire.Get, Profile: "dev"}); err != nil {
					t.Errorf("%v (%v)", err, fault.Of(err).Kind)
					return
				}
			}
		})
	}
	for round := range 20 {
		n := h.next(t, dir)
		h.ends(t)
		if _, err := socket.Listen(h.path); !errors.Is(err, socket.ErrTaken) {
			t.Fatalf("round %d: the lock is free: %v", round, err)
		}
		h = n
	}
	close(stop)
	crowd.Wait()
	h.stop()
	h.ends(t)
	if _, err := os.Lstat(h.path); err == nil {
		t.Error("the last daemon left its socket")
	}
	check()
}

// TestReplaceLocked: a locked daemon stays locked when it is replaced, so that nothing leaves.
func TestReplaceLocked(t *testing.T) {
	dir := t.TempDir()
	h := build(t, dir, registry).run(t)
	h.get(t, "dev")
	h.ask(t, wire.Request{Verb: wire.Lock})
	n := h.next(t, dir)
	if r := n.get(t, "dev"); r.Err == nil || r.Err.Kind != fault.Locked {
		t.Errorf("got %+v", r)
	}
	if r := n.ask(t, wire.Request{Verb: wire.State}); r.Status == nil || !r.Status.Locked {
		t.Errorf("got %+v", r)
	}
}

// TestReplaceLockedUnwritten: a lock that could not be saved survives the restart: the next daemon saves it.
func TestReplaceLockedUnwritten(t *testing.T) {
	dir := t.TempDir()
	state := filepath.Join(dir, "state")
	file := filepath.Join(state, "lock.json")
	h := build(t, dir, registry)
	h.LockFile = lockfile.New(file)
	h.run(t)
	if r := h.ask(t, wire.Request{Verb: wire.Lock}); r.Err == nil {
		t.Fatalf("%+v", r)
	}
	left, _, err := Replace(t.Context(), paths.Paths{Socket: h.path}, "test")
	if err != nil {
		t.Fatal(err)
	}
	n := build(t, dir, registry)
	n.Listener, n.Replaced, n.LockFile = left.Listener, left, lockfile.New(file)
	n.run(t)
	refused(t, "get", n.get(t, "dev"))
	if err := os.Mkdir(state, 0o700); err != nil {
		t.Fatal(err)
	}
	until(t, "it is written", func() bool { return lockfile.Peek(file) })
}

// TestReplaceDrains: a running request is answered by the daemon that received it.
func TestReplaceDrains(t *testing.T) {
	dir := t.TempDir()
	h := build(t, dir, registry).run(t)
	gate := make(chan struct{})
	h.aws.set(func(a *aws) { a.gate = gate })
	slow := connect(t, h.path)
	slow.send(t, wire.Request{Verb: wire.Get, Profile: "dev"})
	until(t, "the call is under way", func() bool { _, n := h.aws.calls(); return n == 1 })
	idle := h.idle(t)
	taken := make(chan *house)
	go func() { taken <- h.next(t, dir) }()
	h.drains(t, idle)
	late := connect(t, h.path) // waits for the next daemon
	late.send(t, wire.Request{Verb: wire.Ping})
	close(gate)
	if r := slow.read(t); r.Credential == nil {
		t.Errorf("the running request: %+v", r)
	}
	n := <-taken
	h.ends(t)
	if r := late.read(t); r.Version != "test" {
		t.Errorf("a client between the two daemons: %+v", r)
	}
	n.alive(t)
}

func TestReplaceRefused(t *testing.T) {
	t.Run("nobody", func(t *testing.T) {
		nowhere := paths.Paths{Socket: filepath.Join(t.TempDir(), "s")}
		if _, _, err := Replace(t.Context(), nowhere, "test"); !errors.Is(err, dial.ErrNobody) {
			t.Errorf("got %v", err)
		}
	})
	for _, by := range []string{wire.ByService, wire.ByActivity} {
		t.Run(by, func(t *testing.T) {
			h := build(t, t.TempDir(), registry)
			h.StartedBy = by
			h.run(t)
			_, _, err := Replace(t.Context(), paths.Paths{Socket: h.path}, "test")
			if err == nil || fault.Of(err).Hint != "broker service restart" {
				t.Errorf("got %v", err)
			}
			h.alive(t)
		})
	}
	t.Run("another home", func(t *testing.T) {
		h := build(t, t.TempDir(), registry)
		h.Home = t.TempDir()
		h.run(t)
		if _, _, err := Replace(t.Context(), paths.Paths{Socket: h.path}, "test"); err == nil ||
			errors.Is(err, ErrNotAsked) || !strings.Contains(err.Error(), "uses the home") {
			t.Errorf("got %v", err)
		}
		h.alive(t)
	})
	// Whatever else answers as a daemon: an older one, another protocol. Its pid is told, so that it can be ended.
	for name, answer := range map[string]string{
		"older":          `{"v":1,"error":{"kind":"usage","message":"the daemon knows no verb \"handover\"; it is version 0.1.0"},"version":"0.1.0"}`,
		"newer protocol": `{"v":2,"whatever":[1]}`,
	} {
		t.Run(name, func(t *testing.T) {
			path := play(t, answer+"\n")
			_, pid, err := Replace(t.Context(), paths.Paths{Socket: path}, "test")
			if !errors.Is(err, ErrNotAsked) || pid != os.Getpid() {
				t.Errorf("pid %d, %v", pid, err)
			}
		})
	}
	for name, answer := range map[string]string{
		"no word":         "",
		"no files":        `{"v":1,"heritage":{"ports":[]}}` + "\n",
		"no heritage":     `{"v":1}` + "\n",
		"half a line":     `{"v":1,"heri`,
		"another program": "HTTP/1.1 400 Bad Request\r\n",
		"another's JSON":  `{"error":"what?"}` + "\n",
		"an endless one":  strings.Repeat("x", wire.MaxLine+1),
	} {
		t.Run(name, func(t *testing.T) {
			if _, _, err := Replace(t.Context(), paths.Paths{Socket: play(t, answer)}, "test"); err == nil ||
				errors.Is(err, ErrNotAsked) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// play is a daemon that always gives the same answer.
func play(t *testing.T, answer string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "d", "s")
	l, err := socket.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, _, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Read(make([]byte, 1024))
			_, _ = conn.Write([]byte(answer))
			_ = conn.Close()
		}
	}()
	return path
}

// TestNextDaemonDies: the next daemon dies before it receives anything. The old daemon ends, and its socket is free for
// another one.
func TestNextDaemonDies(t *testing.T) {
	for range 20 {
		h := start(t)
		gate := make(chan struct{})
		h.aws.set(func(a *aws) { a.gate = gate })
		slow := connect(t, h.path)
		slow.send(t, wire.Request{Verb: wire.Get, Profile: "dev"})
		until(t, "the call is under way", func() bool { _, n := h.aws.calls(); return n == 1 })
		idle, next := h.idle(t), connect(t, h.path)
		next.send(t, wire.Request{Verb: wire.Replace})
		h.drains(t, idle)
		_ = next.Close()
		close(gate)
		if r := slow.read(t); r.Credential == nil {
			t.Errorf("the running request: %+v", r)
		}
		h.ends(t)
		n, err := socket.Listen(h.path)
		if err != nil {
			t.Fatalf("the socket is not free: %v", err)
		}
		_ = n.Close()
	}
}

// idle is a connection that has sent a request.
func (h *house) idle(t *testing.T) line {
	t.Helper()
	l := connect(t, h.path)
	l.send(t, wire.Request{Verb: wire.Ping})
	l.read(t)
	return l
}

// drains waits until a daemon accepts no more connections: then it closes the idle ones.
func (h *house) drains(t *testing.T, idle line) {
	t.Helper()
	if err := idle.ended(); err != nil {
		t.Fatal(err)
	}
}

// TestEndpointAskedLate: a program whose connection to its endpoint was accepted before the end is answered,
// although it sends its request after the end. It is tried 20 times. With http.Server.Shutdown, such connections
// were seen to be closed without an answer.
func TestEndpointAskedLate(t *testing.T) {
	for range 20 {
		h := start(t)
		e := h.lend(t, wire.Request{Profile: "dev"})
		host, _ := home(e)
		early, err := net.Dial("tcp", host)
		if err != nil {
			t.Fatal(err)
		}
		_ = early.SetDeadline(time.Now().Add(patience))
		// Connections are accepted in order, so the earlier one was accepted once this one is answered.
		if status, _ := h.call(t, e); status != 200 {
			t.Fatalf("status %d", status)
		}
		h.stop()
		until(t, "it stops accepting", func() bool {
			conn, err := net.Dial("tcp", host)
			if err == nil {
				_ = conn.Close()
			}
			return err != nil
		})
		time.Sleep(5 * time.Millisecond) // time for a wrong close to happen
		if _, err := early.Write([]byte(request(e))); err != nil {
			t.Fatal(err)
		}
		answer, _ := io.ReadAll(early)
		if status, _ := parts(string(answer)); status != 200 {
			t.Errorf("status %d: %q", status, answer)
		}
		_ = early.Close()
		h.ends(t)
	}
}
