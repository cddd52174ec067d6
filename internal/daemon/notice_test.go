//go:build linux

package daemon

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"broker/internal/secret"
	"broker/internal/session"
	"broker/internal/wire"
)

// noticed is a daemon whose clock can be put forward, on a desktop whose notices never close.
type noticed struct {
	*house
	ahead atomic.Int64 // of the clock since boot
	shown chan string
}

func newNoticed(t *testing.T, settings, more string) *noticed {
	t.Helper()
	n := &noticed{shown: make(chan string, 100)}
	n.house = build(t, t.TempDir(), settings+registry+
		"[profile work]\nrole_arn = arn:aws:iam::444455556666:role/work\nsource_profile = typed\n"+more)
	n.Files.Credentials = filepath.Join(n.StateDir, "credentials")
	n.BootTime = func() time.Duration { return time.Since(n.started) + time.Duration(n.ahead.Load()) }
	n.Broker = session.New(t.Context(), session.Config{Profiles: n.Store, Vault: n.aws, STS: n.aws,
		Who: session.Who{User: "paul", Host: "host"}, BootTime: n.BootTime})
	n.Notify = func(ctx context.Context, title, text string) error {
		n.shown <- title + ": " + text
		<-ctx.Done()
		return ctx.Err()
	}
	n.run(t)
	return n
}

// login opens a session that needs a code, and returns how status shows its end.
func (n *noticed) login(t *testing.T) string {
	t.Helper()
	if r := n.ask(t, wire.Request{Verb: wire.Login, Profile: "typed", Code: secret.New(code)}); r.Err != nil {
		t.Fatal(r.Err)
	}
	for _, s := range n.ask(t, wire.Request{Verb: wire.State}).Status.Sessions {
		if s.Source == "typed" && s.Role == "" {
			return s.Expires.Local().Format("15:04")
		}
	}
	t.Fatal("there is no session")
	return ""
}

// passes lets 11 hours and 51 minutes of the session's 12 hours pass.
func (n *noticed) passes() { n.ahead.Add(int64(11*time.Hour + 51*time.Minute)) }

// watched waits until the daemon has looked for sessions that end. It looks after it has restored the socket.
func (n *noticed) watched(t *testing.T) {
	t.Helper()
	for range 2 {
		if err := os.Remove(n.path); err != nil {
			t.Fatal(err)
		}
		until(t, "the daemon looks", func() bool { // the path is there before the socket listens
			conn, err := net.Dial("unix", n.path)
			if err == nil {
				_ = conn.Close()
			}
			return err == nil
		})
	}
}

func (n *noticed) ending(t *testing.T) string {
	t.Helper()
	list := slices.DeleteFunc(n.ask(t, wire.Request{Verb: wire.State}).Status.Warnings, func(s string) bool {
		return !strings.Contains(s, " ends at ")
	})
	return strings.Join(list, "\n")
}

// TestNoticeBeforeASessionEnds: one notice for each session that a grant depends on, and a line in status.
func TestNoticeBeforeASessionEnds(t *testing.T) {
	n := newNoticed(t, "", standing)
	end := n.login(t)
	for _, req := range []wire.Request{
		{Verb: wire.PrivateFiles, Profile: "work"},
		{Verb: wire.PrivateFiles, Profile: "dev"},                                             // its source has a seed
		{Verb: wire.Publish, Profile: "work", AWSCredentials: n.Files.Credentials + ".other"}, // ends earlier
	} {
		if r := n.ask(t, req); r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	n.watched(t)
	if got := n.ending(t); got != "" || len(n.shown) != 0 {
		t.Errorf("early: %q, and %d notices", got, len(n.shown))
	}
	for range 2 {
		n.passes()
		want := fmt.Sprintf("the session of typed ends at %s; daemon.test (pid %d) and the published profile work use it; "+
			"to renew it: broker login typed", end, os.Getpid())
		if got := <-n.shown; got != "AWS session: "+want {
			t.Errorf("the notice says %q, want %q", got, want)
		}
		if got := n.ending(t); got != want {
			t.Errorf("status says %q, want %q", got, want)
		}
		n.watched(t)
		if len(n.shown) != 0 {
			t.Errorf("another notice: %q", <-n.shown)
		}
		end = n.login(t)
		if got := n.ending(t); got != "" {
			t.Errorf("after the login, status says %q", got)
		}
	}
}

// TestNoNoticeWithoutAUser: a session that nothing uses ends quietly.
func TestNoNoticeWithoutAUser(t *testing.T) {
	n := newNoticed(t, "", "")
	n.login(t)
	n.passes()
	n.watched(t)
	if got := n.ending(t); got != "" || len(n.shown) != 0 {
		t.Errorf("%q, and %d notices", got, len(n.shown))
	}
}

// TestNoticesOff: with notices = off, only status warns.
func TestNoticesOff(t *testing.T) {
	n := newNoticed(t, "[settings]\nnotices = off\n", "")
	n.login(t)
	if r := n.ask(t, wire.Request{Verb: wire.PrivateFiles, Profile: "work"}); r.Err != nil {
		t.Fatal(r.Err)
	}
	n.passes()
	n.watched(t)
	if got := n.ending(t); !strings.Contains(got, "daemon.test (pid") || len(n.shown) != 0 {
		t.Errorf("%q, and %d notices", got, len(n.shown))
	}
}
