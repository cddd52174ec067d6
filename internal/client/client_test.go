//go:build linux

package client

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"broker/internal/fault"
	"broker/internal/paths"
	"broker/internal/record"
	"broker/internal/secret"
	"broker/internal/socket"
	"broker/internal/testproc"
	"broker/internal/wire"
)

// TestMain runs the tests, or plays the daemon that a fake brokerd starts.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "play-daemon" {
		os.Exit(playDaemon(os.Args[2]))
	}
	// Remove the settings of the machine that runs the tests.
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		if strings.HasPrefix(name, "AWS_") || strings.HasPrefix(name, "BROKER_") || strings.HasPrefix(name, "SUDO_") {
			_ = os.Unsetenv(name)
		}
	}
	startWait = time.Minute // long enough for a busy machine
	os.Exit(testproc.Run(m))
}

func playDaemon(path string) int {
	signal.Ignore(syscall.SIGHUP)
	l, err := socket.Listen(path)
	if err != nil {
		return 1
	}
	fmt.Println("ready")
	time.AfterFunc(5*time.Minute, func() { os.Exit(0) }) // even if the test does not end it
	for {
		conn, _, err := l.Accept()
		if err != nil {
			return 0
		}
		go answer(conn, whole)
	}
}

var expires = time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC)

// whole answers a get request as the daemon does.
func whole(wire.Request) []byte {
	line, err := wire.EncodeResponse(&wire.Response{Version: "test", Credential: &wire.Credential{
		AccessKeyID: "ASIAIOSFODNN7EXAMPLE", SecretAccessKey: secret.New("hush/key"), SessionToken: secret.New("hush/token"), Expiration: expires}})
	if err != nil {
		panic(err)
	}
	return line
}

// answer reads one request and writes the result of with; nil closes the connection without an answer.
func answer(conn net.Conn, with func(wire.Request) []byte) {
	defer conn.Close()
	line, err := wire.ReadLine(bufio.NewReader(conn))
	if err != nil {
		return
	}
	req, err := wire.DecodeRequest(line)
	if err != nil {
		return
	}
	_, _ = conn.Write(with(*req))
}

// serve runs a daemon that handles the nth connection with the nth function, and all later ones with the last
// function.
func serve(t *testing.T, path string, ways ...func(net.Conn)) (asked *atomic.Int64) {
	t.Helper()
	l, err := socket.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	asked = new(atomic.Int64)
	go func() {
		for {
			conn, _, err := l.Accept()
			if err != nil {
				return
			}
			n := int(asked.Add(1))
			go ways[min(n, len(ways))-1](conn)
		}
	}()
	return asked
}

func says(text string) func(net.Conn) {
	return func(conn net.Conn) { answer(conn, func(wire.Request) []byte { return []byte(text) }) }
}

func good(conn net.Conn) { answer(conn, whole) }

// silent never answers; it keeps the connection open, as a stopped daemon does.
func silent(conn net.Conn) { time.Sleep(time.Minute); conn.Close() }

func place(t *testing.T) Client {
	t.Helper()
	return Client{Paths: paths.Paths{Config: "/the/config", Credentials: "/the/credentials", Socket: filepath.Join(t.TempDir(), "d", "s")}, Version: "test"}
}

func TestDo(t *testing.T) {
	c := place(t)
	var got wire.Request
	serve(t, c.Paths.Socket, func(conn net.Conn) {
		answer(conn, func(req wire.Request) []byte { got = req; return whole(req) })
	})
	resp, err := c.Do(t.Context(), wire.Request{Verb: wire.Get, Profile: "p"})
	if err != nil || resp.Credential == nil || resp.Credential.SecretAccessKey.Reveal() != "hush/key" || resp.Version != "test" {
		t.Errorf("got %+v, %v", resp, err)
	}
	canAsk, tty := ownTerminal()
	if want := (wire.Request{Verb: wire.Get, Profile: "p", AWSConfig: "/the/config", AWSCredentials: "/the/credentials", Client: "test",
		Timeout: Deadline - time.Second, CanAsk: canAsk, TTY: tty, Desktop: desktop(),
		Home: paths.Home()}); !reflect.DeepEqual(got, want) {
		t.Errorf("sent %+v, want %+v", got, want)
	}
}

// TestOddAnswers covers wrong answers. If the daemon goes away, the request is sent again, three times. If the
// answer is wrong, it is not sent again.
func TestOddAnswers(t *testing.T) {
	const away = "the daemon went away before it answered"
	const foreign = "the program on the socket is not Broker's daemon"
	tests := []struct {
		name    string
		ways    []func(net.Conn)
		asked   int64
		message string // empty if the request succeeds
	}{
		{"gone once without a word", []func(net.Conn){says(""), good}, 2, ""},
		{"gone once in mid-answer", []func(net.Conn){says(`{"v":1,"credential":{"AccessKeyId":"AS`), good}, 2, ""},
		{"closed before it reads", []func(net.Conn){func(c net.Conn) { c.Close() }, good}, 2, ""},
		{"gone each time", []func(net.Conn){says("")}, 1 + maxRetries, away},
		{"partial line each time", []func(net.Conn){says(`{"v":1}`)}, 1 + maxRetries, away},
		{"garbage", []func(net.Conn){says("HTTP/1.1 400 Bad Request\r\n\r\n")}, 1, foreign},
		{"an empty line", []func(net.Conn){says("\n")}, 1, foreign},
		{"a line without end", []func(net.Conn){says(strings.Repeat("x", 2*wire.MaxLine))}, 1, foreign},
		{"a line too long", []func(net.Conn){says(strings.Repeat("x", 2*wire.MaxLine) + "\n")}, 1, foreign},
		{"a newer protocol", []func(net.Conn){says("{\"v\":2}\n")}, 1, "the daemon speaks protocol version 2, but this program speaks version 1"},
		{"half a credential", []func(net.Conn){says(`{"v":1,"credential":{"AccessKeyId":"A","SecretAccessKey":"hush"}}` + "\n")}, 1, "the daemon's answer is not a complete credential"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := place(t)
			asked := serve(t, c.Paths.Socket, tt.ways...)
			resp, err := c.Do(t.Context(), wire.Request{Verb: wire.Get, Profile: "p"})
			if n := asked.Load(); n != tt.asked {
				t.Errorf("asked %d times, want %d", n, tt.asked)
			}
			if tt.message == "" {
				if err != nil || resp.Credential == nil {
					t.Errorf("got %+v, %v", resp, err)
				}
				return
			}
			if f := fault.Of(err); f == nil || f.Kind != fault.Unreachable || f.Message != tt.message || resp.Credential != nil {
				t.Errorf("got %+v, %v", resp, err)
			}
		})
	}
}

func TestFaultsOfTheDaemonComeThrough(t *testing.T) {
	c := place(t)
	serve(t, c.Paths.Socket, says(`{"v":1,"error":{"kind":"denied","message":"AWS says no","hint":"ask"}}`+"\n"))
	_, err := c.Do(t.Context(), wire.Request{Verb: wire.Get})
	if f := fault.Of(err); f == nil || f.Kind != fault.Denied || f.Message != "AWS says no" || f.Hint != "ask" {
		t.Errorf("got %v", err)
	}
}

// TestNoAnswerAtAll checks that a client gives up at its deadline if a signal stopped the daemon. The kernel still
// accepts connections for a stopped process.
func TestNoAnswerAtAll(t *testing.T) {
	c := place(t)
	asked := serve(t, c.Paths.Socket, silent)
	for name, tt := range map[string]struct {
		end     func(after time.Duration) (context.Context, context.CancelFunc)
		kind    fault.Kind
		message string
	}{
		"deadline": {func(after time.Duration) (context.Context, context.CancelFunc) {
			return context.WithTimeout(t.Context(), after)
		}, fault.Unreachable, "the daemon did not answer within 50s; is it stopped?"},
		"given up": {func(after time.Duration) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(after, cancel)
			return ctx, cancel
		}, fault.Interrupted, "interrupted"},
	} {
		before := asked.Load()
		// If the client had no time to connect, try again with a longer time.
		var err error
		for after := 100 * time.Millisecond; asked.Load() == before && after < 40*time.Second; after *= 2 {
			ctx, cancel := tt.end(after)
			start := time.Now()
			_, err = c.Do(ctx, wire.Request{Verb: wire.Ping})
			cancel()
			if took := time.Since(start); took < after || took > 45*time.Second { // its own deadline is 50 s
				t.Errorf("%s: gave up after %v, not %v", name, took, after)
			}
		}
		f := fault.Of(err)
		if f == nil || f.Kind != tt.kind || f.Message != tt.message {
			t.Fatalf("%s: got %v", name, err)
		}
		if tt.kind == fault.Unreachable && f.Hint != "broker daemon --stop" { // status would not answer either
			t.Errorf("%s: hint %q", name, f.Hint)
		}
		if n := asked.Load() - before; n != 1 {
			t.Errorf("%s: asked %d times", name, n)
		}
	}
	if Deadline >= time.Minute || Deadline < 45*time.Second {
		t.Errorf("a deadline of %v: the SDKs wait for a minute, the vault takes up to 45 s", Deadline)
	}
}

func TestNoStart(t *testing.T) {
	c := place(t)
	runs := fakeBroker(t, "exit 0")
	c.NoStart = true
	_, err := c.Do(t.Context(), wire.Request{Verb: wire.Ping})
	if f := fault.Of(err); f == nil || f.Kind != fault.Unreachable || f.Message != "no daemon is running" || f.Hint != "broker daemon" {
		t.Errorf("got %v", err)
	}
	if n := runs(); n != 0 {
		t.Errorf("started it %d times", n)
	}
}

// arguments removes the arguments with which a client starts the daemon.
var arguments = strings.NewReplacer(Background+"\n", "", ReadyOnStdout+"\n", "")

// fakeBroker puts a script named brokerd on the daemon's PATH, in the nix profile of a new HOME. runs returns how
// often the script ran.
func fakeBroker(t *testing.T, script string) (runs func() int) {
	t.Helper()
	home := t.TempDir()
	dir := filepath.Join(home, ".nix-profile/bin")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	log := filepath.Join(dir, "runs")
	text := "#!/bin/sh\necho \"$@\" >> " + log + "\n" + script + "\n"
	if err := os.WriteFile(filepath.Join(dir, "brokerd"), []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("HOME", home)
	return func() int {
		b, err := os.ReadFile(log)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		if rest := arguments.Replace(string(b)); rest != "" {
			t.Errorf("run with other arguments: %q", rest)
		}
		return strings.Count(string(b), "\n")
	}
}

// crowd sends requests from a hundred clients at once. It calls all once each client waits for the start.
func crowd(t *testing.T, c Client, all func()) (errs []error) {
	t.Helper()
	errs = make([]error, 100)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() { _, errs[i] = c.Do(context.Background(), wire.Request{Verb: wire.Get, Profile: "p"}) })
	}
	if all != nil {
		for give := time.Now().Add(startWait); waitingClients(t, c) < len(errs); time.Sleep(time.Millisecond) {
			if time.Now().After(give) {
				t.Error("not all clients waited for the start in time")
				break
			}
		}
		all()
	}
	wg.Wait()
	return errs
}

// waitingClients returns how many clients of this process wait for a start.
func waitingClients(t *testing.T, c Client) (n int) {
	t.Helper()
	const descriptors = "/proc/self/fd"
	list, err := os.ReadDir(descriptors)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range list {
		if to, _ := os.Readlink(filepath.Join(descriptors, d.Name())); to == startLock(c) {
			n++
		}
	}
	return n
}

func startLock(c Client) string { return filepath.Join(filepath.Dir(c.Paths.Socket), "start.lock") }

// TestStartedOnce checks that one of the clients that find no daemon starts it, even over a stale socket. Without
// the flock this test did not end.
func TestStartedOnce(t *testing.T) {
	c := place(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	pid := filepath.Join(t.TempDir(), "pid")
	// The script behaves as brokerd.
	runs := fakeBroker(t, fmt.Sprintf(`case $1 in
--ready-on-stdout)
	echo $$ > %[4]s
	exec %[2]s play-daemon %[3]s 2> /dev/null;;
esac
mkfifo %[1]s
%[2]s play-daemon %[3]s > %[1]s 2> /dev/null &
echo $! > %[4]s
read word < %[1]s
rm %[1]s
test "$word" = ready`, filepath.Join(t.TempDir(), "ready"), self, c.Paths.Socket, pid))
	kill := func() {
		b, err := os.ReadFile(pid)
		if err != nil {
			t.Fatal(err)
		}
		var n int
		if _, err := fmt.Sscan(string(b), &n); err != nil {
			t.Fatal(err)
		}
		_ = syscall.Kill(n, syscall.SIGKILL)
		for socketAnswers(c.Paths.Socket) {
			time.Sleep(time.Millisecond)
		}
	}
	for round := 1; round <= 4; round++ { // all but the first over a stale socket
		c.Ends = round > 2
		for _, err := range crowd(t, c, nil) {
			if err != nil {
				t.Error(err)
			}
		}
		if n := runs(); n != round {
			t.Errorf("round %d: started %d times in all", round, n)
		}
		kill()
	}
}

func socketAnswers(path string) bool {
	conn, err := net.Dial("unix", path)
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}

// TestFailingStart checks that a failing start is tried once for all clients that wait at that moment, and that all
// get the same error. A later client tries again.
func TestFailingStart(t *testing.T) {
	long := "/" + strings.Repeat("d/", 500)
	tests := []struct {
		name, script, message string
		runs                  int // of the script, for all clients together
		hint                  string
	}{
		{"in many words", "echo 'brokerd: the keyring\x1b[31m is broken' >&2; echo 'hint: mend it' >&2; exit 1",
			`cannot start the daemon: the keyring\x1b[31m is broken`, 1, "mend it"},
		{"at once", "echo 'brokerd: no' >&2; exit 1", "cannot start the daemon: no", 1, "broker daemon"},
		{"with a long hint", "echo 'brokerd: no' >&2; echo 'hint: rm " + long + "' >&2; exit 1",
			"cannot start the daemon: no", 1, "rm " + long}, // a truncated hint would be another command
		{"without a word", "exit 3", "cannot start the daemon: it ended before it listened: exit status 3", 1, "broker daemon"},
		{"by a signal", "kill -9 $$", "cannot start the daemon: it ended before it listened: signal: killed", launches, "broker daemon"},
		{"by not listening", "sleep 0.1", "is missing", launches, "broker daemon"}, // the daemon may have been killed, so the start is retried
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := place(t)
			if tt.message == "is missing" {
				tt.message = "cannot start the daemon: " + c.Paths.Socket + ": no daemon listens on this socket"
			}
			all := filepath.Join(t.TempDir(), "all")
			runs := fakeBroker(t, "until test -e "+all+"; do sleep 0.01; done\n"+tt.script)
			for _, err := range crowd(t, c, func() {
				if err := os.WriteFile(all, nil, 0o600); err != nil {
					t.Error(err)
				}
			}) {
				f := fault.Of(err)
				if f == nil || f.Kind != fault.Unreachable || f.Kind.ExitCode() != 5 || f.Error() != tt.message ||
					string(f.Hint) != tt.hint {
					t.Fatalf("got %v, hint %v", err, f)
				}
			}
			if n := runs(); n != tt.runs {
				t.Errorf("run %d times for all, want %d", n, tt.runs)
			}
			// A later client retries at once, because a person may have fixed the cause.
			if _, err := c.Do(t.Context(), wire.Request{Verb: wire.Ping}); !fault.Is(err, fault.Unreachable) {
				t.Errorf("later: %v", err)
			}
			if n := runs(); n != 2*tt.runs {
				t.Errorf("not tried again later: %d runs", n)
			}
		})
	}
}

// TestFailureFromTheFuture checks that a failure with a time in the future, after the clock was set back, does not
// keep a client from starting the daemon.
func TestFailureFromTheFuture(t *testing.T) {
	c := place(t)
	runs := fakeBroker(t, "exit 3")
	lock := startLock(c)
	later := time.Now().Add(time.Hour)
	if err := errors.Join(os.Mkdir(filepath.Dir(lock), 0o700), os.WriteFile(lock, []byte("old"), 0o600),
		os.Chtimes(lock, later, later)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Do(t.Context(), wire.Request{Verb: wire.Ping}); !strings.Contains(fmt.Sprint(err), "exit status 3") || runs() != 1 {
		t.Errorf("%d runs, %v", runs(), err)
	}
}

// TestStartUnderAnyUmask checks that files created under an unusual umask can be used by the next client.
func TestStartUnderAnyUmask(t *testing.T) {
	for _, mask := range []int{0, 0o077, 0o777} {
		c := place(t)
		t.Setenv("HOME", t.TempDir())
		old := syscall.Umask(mask)
		_, _ = c.Do(t.Context(), wire.Request{Verb: wire.Ping})
		syscall.Umask(old)
		info, err := os.Stat(startLock(c))
		if err != nil || info.Mode() != 0o600 {
			t.Errorf("umask %o: %v, %v", mask, info.Mode(), err)
		}
	}
}

func TestNoBrokerOnThePath(t *testing.T) {
	c := place(t)
	bin := t.TempDir() // on the shell's PATH, which is ignored because the daemon also serves other shells
	if err := os.WriteFile(filepath.Join(bin, "brokerd"), []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("HOME", t.TempDir())
	t.Setenv("PATH", bin)
	_, err := c.Do(t.Context(), wire.Request{Verb: wire.Ping})
	if f := fault.Of(err); f == nil || f.Kind != fault.Unreachable || !strings.Contains(f.Message, "nor on the PATH of the daemon") {
		t.Errorf("got %v", err)
	}
}

// TestNoStartInADirectoryOfOthers checks that no daemon is started in a directory that other users can write to.
func TestNoStartInADirectoryOfOthers(t *testing.T) {
	c := place(t)
	runs := fakeBroker(t, "exit 0")
	dir := filepath.Dir(c.Paths.Socket)
	if err := errors.Join(os.Mkdir(dir, 0o700), os.Chmod(dir, 0o777)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Do(t.Context(), wire.Request{Verb: wire.Ping}); !errors.Is(err, record.ErrDirectory) ||
		!fault.Is(err, fault.Unreachable) {
		t.Errorf("got %v", err)
	}
	if n := runs(); n != 0 {
		t.Errorf("run %d times", n)
	}
}

// counting is a writer that counts its writes.
type counting struct {
	text   strings.Builder
	writes int
	err    error
}

func (c *counting) Write(b []byte) (int, error) {
	c.writes++
	if c.err != nil {
		return 0, c.err
	}
	return c.text.Write(b)
}

const document = `{"Version":1,"AccessKeyId":"ASIAIOSFODNN7EXAMPLE","SecretAccessKey":"hush/key","SessionToken":"hush/token","Expiration":"2026-01-02T15:04:05Z"}` + "\n"

func TestCredproc(t *testing.T) {
	denied := says(`{"v":1,"error":{"kind":"denied","message":"AWS says\nno","hint":"ask"}}` + "\n")
	const usage = "credproc: credproc needs one profile\nhint: credproc PROFILE\n"
	tests := []struct {
		name   string
		args   []string
		daemon func(net.Conn)
		code   int
		stdout string
		stderr string
	}{
		{"a name", []string{"p"}, good, 0, document, ""},
		{"a name after --", []string{"--", "-p"}, good, 0, document, ""},
		{"--profile", []string{"--profile", "p"}, good, 0, document, ""},
		{"--profile=", []string{"--profile=p"}, good, 0, document, ""},
		{"--profile of an odd name", []string{"--profile", "--version"}, good, 0, document, ""},
		{"nothing", nil, good, 2, "", usage},
		{"two names", []string{"p", "q"}, good, 2, "", usage},
		{"--profile without a name", []string{"--profile"}, good, 2, "", usage},
		{"-- without a name", []string{"--"}, good, 2, "", usage},
		{"an unknown flag", []string{"--json"}, good, 2, "", usage},
		{"a name and a flag", []string{"p", "--json"}, good, 2, "", usage},
		{"an empty name", []string{""}, good, 2, "", "credproc: the profile's name is empty\nhint: credproc PROFILE\n"},
		{"an empty --profile=", []string{"--profile="}, good, 2, "", "credproc: the profile's name is empty\nhint: credproc PROFILE\n"},
		{"--help", []string{"--help"}, good, 0, credprocUsage + "\n", ""},
		{"denied", []string{"p"}, denied, 6, "", "credproc: AWS says no\nhint: ask\n"},
		{"no such profile", []string{"p"}, says(`{"v":1,"error":{"kind":"not_found","message":"m"}}` + "\n"), 3, "", "credproc: m\nhint: broker profiles list\n"},
		{"login needed", []string{"p"}, says(`{"v":1,"error":{"kind":"login_needed","message":"m"}}` + "\n"), 4, "", "credproc: m\nhint: broker login\n"},
		{"locked", []string{"p"}, says(`{"v":1,"error":{"kind":"locked","message":"m"}}` + "\n"), 7, "", "credproc: m\nhint: broker unlock\n"},
		{"a kind of a newer daemon", []string{"p"}, says(`{"v":1,"error":{"kind":"novel","message":"m"}}` + "\n"), 1, "", "credproc: m\n"},
		{"no credential", []string{"p"}, says("{\"v\":1}\n"), 5, "", "credproc: the daemon's answer has no credentials\nhint: broker daemon\n"},
		{"half a credential", []string{"p"}, says(`{"v":1,"credential":{"AccessKeyId":"A","SecretAccessKey":"hush"}}` + "\n"), 5, "", "credproc: the daemon's answer is not a complete credential\nhint: broker daemon\n"},
		{"an error and a credential", []string{"p"},
			says(`{"v":1,"error":{"kind":"denied","message":"m"},"credential":{"AccessKeyId":"A","SecretAccessKey":"hush","SessionToken":"t","Expiration":"2026-01-02T15:04:05Z"}}` + "\n"), 6, "", "credproc: m\nhint: broker status\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			t.Setenv("HOME", dir)
			t.Setenv("BROKER_SOCKET", filepath.Join(dir, "d", "s"))
			serve(t, filepath.Join(dir, "d", "s"), tt.daemon)
			var stdout, stderr counting
			code := Credproc(tt.args, &stdout, &stderr)
			if code != tt.code || stdout.text.String() != tt.stdout || stderr.text.String() != tt.stderr {
				t.Errorf("exit %d, stdout %q, stderr %q", code, stdout.text.String(), stderr.text.String())
			}
			if want := min(1, len(tt.stdout)); stdout.writes != want {
				t.Errorf("%d writes to stdout, want %d", stdout.writes, want)
			}
		})
	}
}

func TestCredprocAsksForTheProfile(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("HOME", dir)
	t.Setenv("BROKER_SOCKET", filepath.Join(dir, "d", "s"))
	t.Setenv("AWS_CONFIG_FILE", "/other/config")
	var got wire.Request
	serve(t, filepath.Join(dir, "d", "s"), func(conn net.Conn) {
		answer(conn, func(req wire.Request) []byte { got = req; return whole(req) })
	})
	if code := Credproc([]string{"$(p)"}, io.Discard, io.Discard); code != 0 || got.Profile != "$(p)" ||
		got.Verb != wire.Get ||
		got.AWSConfig != "/other/config" {
		t.Errorf("exit %d, asked %+v", code, got)
	}
}

func TestCredprocThatCannotWrite(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("HOME", dir)
	t.Setenv("BROKER_SOCKET", filepath.Join(dir, "d", "s"))
	serve(t, filepath.Join(dir, "d", "s"), good)
	stdout := counting{err: syscall.ENOSPC}
	var stderr counting
	if code := Credproc([]string{"p"}, &stdout, &stderr); code != 1 || stderr.text.String() != "credproc: write the credentials: no space left on device\nhint: broker status\n" {
		t.Errorf("exit %d, %q", code, stderr.text.String())
	}
}

func TestCredprocRefusesSudo(t *testing.T) {
	t.Setenv("SUDO_UID", fmt.Sprint(os.Getuid()+1))
	var stdout, stderr counting
	t.Setenv("SUDO_USER", "paul")
	want := "credproc: sudo: running with another user's privileges; run it as paul, without sudo\n"
	if code := Credproc([]string{"p"}, &stdout, &stderr); code != 1 || stdout.writes != 0 || stderr.text.String() != want {
		t.Errorf("exit %d, %q", code, stderr.text.String())
	}
}
