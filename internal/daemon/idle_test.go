//go:build linux

package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"broker/internal/client"
	"broker/internal/lockfile"
	"broker/internal/paths"
	"broker/internal/socket"
	"broker/internal/wire"
)

// tiny is how long a daemon may be idle in these tests before it exits.
const tiny = 20 * time.Millisecond

// TestExitWhenIdle: a locked daemon without requests exits.
func TestExitWhenIdle(t *testing.T) {
	h := build(t, t.TempDir(), registry)
	h.ExitAfter = tiny
	h.Broker.Lock()
	h.run(t)
	h.ends(t)
	if _, err := os.Lstat(h.path); err == nil {
		t.Error("the daemon left its socket")
	}
}

// TestNoExit: a daemon that is needed stays. In each case the daemon exits once the reason is gone; otherwise the
// case would prove nothing.
func TestNoExit(t *testing.T) {
	tests := []struct {
		name, registry string
		hold           func(t *testing.T, h *house) (release func())
	}{
		{"not locked", registry, func(t *testing.T, h *house) func() {
			h.Broker.Unlock()
			return h.Broker.Lock
		}},
		{"a client is connected", registry, func(t *testing.T, h *house) func() {
			l := connect(t, h.path)
			until(t, "it is accepted", func() bool { h.mu.Lock(); defer h.mu.Unlock(); return len(h.conns) > 0 })
			return func() { _ = l.Close() }
		}},
		{"a program has an endpoint", registry, ownerOf(wire.Serve)},
		{"a command has files", registry, ownerOf(wire.PrivateFiles)},
		{"something is published", registry, func(t *testing.T, h *house) func() {
			h.Broker.Unlock()
			if r := h.publishes(t, "dev", filepath.Join(t.TempDir(), "credentials")); r.Err != nil {
				t.Fatal(r.Err)
			}
			h.Broker.Lock()
			return func() {
				if _, _, _, err := h.grants.Withdraw(""); err != nil {
					t.Error(err)
				}
			}
		}},
		{"the lock is not saved", registry, func(t *testing.T, h *house) func() {
			dir := filepath.Dir(h.LockFile.Path())
			if err := os.Rename(dir, dir+".away"); err != nil {
				t.Fatal(err)
			}
			if h.LockFile.Lock() == nil {
				t.Fatal("it was")
			}
			return func() {
				if err := os.Rename(dir+".away", dir); err != nil {
					t.Error(err)
				}
			}
		}},
		{"a profile is kept published", registry + "\n[profile kept]\nrole_arn = arn:aws:iam::444455556666:role/dev\nsource_profile = security\npublish = true\n",
			func(t *testing.T, h *house) func() {
				return func() {
					if err := os.WriteFile(h.Files.Registry, []byte(registry), 0o600); err != nil {
						t.Error(err)
					}
				}
			}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := build(t, t.TempDir(), tt.registry)
			h.LockFile = lockfile.New(filepath.Join(t.TempDir(), "lock.json"))
			h.Broker.Lock()
			h.run(t)
			release := tt.hold(t, h)
			// Only now, so that the daemon cannot exit earlier.
			idle, ended := context.WithCancelCause(t.Context())
			over := make(chan struct{})
			go func() { defer close(over); h.exitWhenIdle(idle, tiny, ended) }()
			select {
			case <-over:
				t.Error("the daemon exited")
			case <-time.After(10 * tiny):
			}
			release()
			select {
			case <-over:
			case <-time.After(patience):
				t.Error("the daemon does not exit although it is not needed")
			}
			if !errors.Is(context.Cause(idle), errIdle) {
				t.Errorf("got %v", context.Cause(idle))
			}
		})
	}
}

// shortLife is how long these daemons live without a client, after the first client.
const shortLife = 5 * time.Millisecond

// playShortLived is a daemon that exits as soon as it has no client. It is started like the real one.
func playShortLived(args []string) int {
	path := os.Getenv("TEST_SOCKET")
	signal.Ignore(syscall.SIGHUP)
	if len(args) == 0 { // broker daemon --background
		self, err := os.Executable()
		if err != nil {
			return 1
		}
		cmd := exec.Command(self, "play-short-lived", "serve")
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		out, err := cmd.StdoutPipe()
		if err != nil || cmd.Start() != nil {
			return 1
		}
		_, _ = out.Read(make([]byte, 10)) // ready, or ended
		return 0
	}
	h := build(new(testing.B), filepath.Dir(filepath.Dir(path)), registry)
	h.Socket, h.Log = path, slog.New(slog.DiscardHandler)
	h.Broker.Lock()
	ctx, cancel := context.WithCancelCause(context.Background())
	go func() {
		for h.accepted.Load() == 0 { // the program that started it must find it
			time.Sleep(time.Millisecond)
		}
		h.exitWhenIdle(ctx, shortLife, cancel)
	}()
	err := h.Run(ctx, func() {
		if f, err := os.OpenFile(os.Getenv("TEST_STARTS"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600); err == nil {
			_, _ = fmt.Fprintln(f, os.Getpid())
			_ = f.Close()
		}
		fmt.Println("ready")
		null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
		if err == nil {
			_ = syscall.Dup3(int(null.Fd()), 1, 0)
		}
	})
	if err != nil && !errors.Is(err, socket.ErrTaken) {
		fmt.Println(err)
		return 1
	}
	return 0
}

// TestNoCallerMeetsTheExitLong: daemons exit again and again just when clients come, and every client is answered.
func TestNoCallerMeetsTheExitLong(t *testing.T) {
	dir := t.TempDir()
	bin := filepath.Join(dir, ".nix-profile/bin") // the daemon's PATH contains it
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	path, starts := filepath.Join(dir, "run", "s"), filepath.Join(dir, "starts")
	script := fmt.Appendf(nil, "#!/bin/sh\nexport TEST_SOCKET=%q TEST_STARTS=%q GORACE=atexit_sleep_ms=0\n"+
		"exec %q play-short-lived\n", path, starts, self)
	if err := os.WriteFile(filepath.Join(bin, "brokerd"), script, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("HOME", dir) // GORACE: otherwise each of these processes stays for a second
	c := client.Client{Paths: paths.Paths{Socket: path}, Version: "test"}
	const crowd, requests = 20, 50
	var all sync.WaitGroup
	for range crowd {
		all.Go(func() {
			for range requests {
				if resp, err := c.Do(t.Context(), wire.Request{Verb: wire.Ping}); err != nil || resp.Version != "test" {
					t.Errorf("%q, %v", resp.Version, err)
				}
				time.Sleep(rand.N(20 * shortLife)) // leave gaps in which it exits
			}
		})
	}
	all.Wait()
	list, err := os.ReadFile(starts)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, b := range list {
		if b == '\n' {
			n++
		}
	}
	t.Logf("%d daemons for %d requests", n, crowd*requests)
	if n < 10 {
		t.Error("too few daemons exited: the test proves nothing")
	}
	until(t, "the last one has ended", func() bool {
		l, err := socket.Listen(path)
		if err == nil {
			_ = l.Close()
		}
		return err == nil
	})
}

// ownerOf lets a process ask for a grant of its own.
func ownerOf(verb string) func(t *testing.T, h *house) func() {
	return func(t *testing.T, h *house) func() {
		h.Broker.Unlock()
		p := plays(t, "play-owner", h.path)
		if r := p.ask(t, wire.Request{Verb: verb, Profile: "dev"}); r.Err != nil {
			t.Fatal(r.Err)
		}
		h.Broker.Lock()
		return p.kill
	}
}
