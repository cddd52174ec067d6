package process

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"broker/internal/exchange"
	"broker/internal/fault"
	"broker/internal/profiles"
	"broker/internal/secret"
	"broker/internal/session"
	"broker/internal/stretch"
	"broker/internal/system"
	"broker/internal/testproc"
	"broker/internal/vault"
)

// counters is the directory for the coverage counters of vault processes. `make cover` sets it with the linker,
// because their environment contains only what Broker passes on.
var counters string

// TestMain also runs as the vault process, as the shipped binary does.
func TestMain(m *testing.M) {
	if os.Getenv("BROKER_TEST_STRETCH") != "real" {
		newStretch = func() stretch.Params {
			p := stretch.New()
			p.Passes, p.MemoryKiB, p.Lanes = 1, 8, 1
			return p
		}
	}
	// Not os.Exit: with the race detector that sleeps for a second.
	exit := syscall.Exit
	if counters != "" {
		exit = func(code int) {
			_ = os.Setenv("GOCOVERDIR", counters)
			os.Exit(code) // writes the counters
		}
	}
	if len(os.Args) == 2 && os.Args[1] == "vault" {
		exit(vaultProcess())
	}
	if len(os.Args) == 2 && os.Args[1] == "print-bus" {
		exit(printBus())
	}
	if len(os.Args) == 4 && os.Args[1] == "hardened" {
		exit(hardened(os.Args[2], os.Args[3]))
	}
	if len(os.Args) == 4 && os.Args[1] == "play" {
		exit(systemVaults[os.Args[2]](os.Args[3]))
	}
	lost = loseAnswer()
	code := testproc.Run(m)
	_ = os.RemoveAll(plainDir)
	os.Exit(code)
}

// patience is the timeout for operations that take no time on an idle machine.
const patience = time.Minute

func printBus() int {
	if address, ok := os.LookupEnv("DBUS_SESSION_BUS_ADDRESS"); ok {
		fmt.Println("set:" + address)
	} else {
		fmt.Println("unset")
	}
	return 0
}

// systemVaults are the misbehaving vault processes of one system.
var systemVaults = map[string]func(arg string) int{}

// vaultProcess is Main with a scripted STS, or a vault process that misbehaves in one way.
func vaultProcess() int {
	script := os.Getenv("BROKER_TEST_VAULT")
	if script == "" {
		return serve(os.Stdin, os.Stdout, newScriptedSTS, os.Stderr)
	}
	name, arg, _ := strings.Cut(script, "=")
	if play := systemVaults[name]; play != nil {
		return play(arg)
	}
	switch name {
	case "main":
		return Main(os.Stdin, os.Stdout)
	case "hang":
		time.Sleep(time.Hour)
	case "silent":
		return 0
	case "garbage":
		fmt.Print("not json")
	case "two":
		fmt.Print("{}\n{}\n")
	case "unknown":
		fmt.Print(`{"surprise":1}`)
	case "huge":
		fmt.Print(`{"fault":{"kind":"` + strings.Repeat("x", 2*vault.MaxMessage) + `"}}`)
	case "kill":
		killProcess(os.Getpid())
	case "panic":
		panic("the seed is " + arg)
	case "exit":
		fmt.Fprint(os.Stderr, "wJalrXUtnFEMI\n")
		return 3
	case "grandchild":
		// It keeps stdout open and outlives the vault process.
		cmd := exec.Command("sleep", "3600")
		cmd.Stdout = os.Stdout
		if err := cmd.Start(); err != nil {
			return 9
		}
		_ = os.WriteFile(arg, fmt.Appendf(nil, "%d", cmd.Process.Pid), 0o600)
		if os.Getenv("BROKER_TEST_LINGER") != "" {
			time.Sleep(time.Hour)
		}
		fmt.Print("{}\n")
	case "environ":
		system.CloseInherited() // as Main does
		open, _ := os.ReadDir("/proc/self/fd")
		var fds []string
		for _, e := range open {
			to, _ := os.Readlink("/proc/self/fd/" + e.Name())
			fds = append(fds, to)
		}
		data, _ := json.Marshal(map[string]any{"env": os.Environ(), "args": os.Args, "fds": fds, "pgid": processGroup(), "pid": os.Getpid()})
		_ = os.WriteFile(arg, data, 0o600)
		fmt.Print("{}\n")
	case "count":
		// Measures how many run at a time: each waits until the allowed number is running, and then a little
		// longer for one more.
		mark, full := filepath.Join(arg, "runs-"+fmt.Sprint(os.Getpid())), filepath.Join(arg, "full")
		_ = os.WriteFile(mark, nil, 0o600)
		most := 0
		look := func() {
			now, _ := filepath.Glob(filepath.Join(arg, "runs-*"))
			most = max(most, len(now))
			time.Sleep(5 * time.Millisecond)
		}
		for give := time.Now().Add(patience / 2); most < vault.MaxProcesses && time.Now().Before(give); look() {
			if _, err := os.Stat(full); err == nil {
				break
			}
		}
		if most >= vault.MaxProcesses {
			_ = os.WriteFile(full, nil, 0o600)
		}
		for range 20 {
			look()
		}
		_ = os.Remove(mark)
		fmt.Printf(`{"info":{"access_key_id":"%d"}}`, most)
	}
	return 0
}

// scriptedSTS plays AWS in a vault process. The name of the role decides the result. If the file callsFile exists,
// each call adds a line to it, and sessions are issued now, by a clock that is ahead by the content of offsetFile.
// (Files, because tests that set variables cannot run in parallel.)
type scriptedSTS struct {
	sts    // the calls that it does not play
	offset time.Duration
	state  string
}

func newScriptedSTS(q *request) sts {
	return &scriptedSTS{offset: time.Duration(q.OffsetMS) * time.Millisecond, state: q.StateDir}
}

func callsFile(state string) string  { return filepath.Join(filepath.Dir(state), "calls") }
func offsetFile(state string) string { return filepath.Join(filepath.Dir(state), "offset") }

func (s *scriptedSTS) Call(
	ctx context.Context,
	keys exchange.Keys,
	call session.Call,
	code secret.String,
) (session.Credentials, error) {
	switch call.RoleARN {
	case "leak":
		return session.Credentials{}, fault.New(fault.Denied, "signed with %s and %s", keys.Secret.Reveal(), code.Reveal())
	case "too-long":
		return session.Credentials{}, &fault.Error{Kind: fault.Failed, Message: "too long", Err: exchange.ErrDurationTooLong}
	case "hang":
		select {}
	}
	if f, err := os.OpenFile(callsFile(s.state), os.O_APPEND|os.O_WRONLY, 0); err == nil {
		defer func() { _ = f.Close() }()
		_, _ = fmt.Fprintln(f, call.Operation, len(code.Reveal()))
		s.offset = 0
		if ahead, err := os.ReadFile(offsetFile(s.state)); err == nil {
			s.offset, _ = time.ParseDuration(string(ahead))
		}
		issued := time.Now().Add(s.offset).UTC().Truncate(time.Second)
		return session.Credentials{
			AccessKeyID: "ASIAKEPTEXAMPLE", SecretAccessKey: secret.New(keptSecret), SessionToken: secret.New(keptToken),
			Expires: issued.Add(call.Duration), Issued: issued,
		}, nil
	}
	return session.Credentials{
		AccessKeyID: "ASIAEXAMPLE", SecretAccessKey: secret.New("session-secret"), SessionToken: secret.New("session-token"),
		Expires: time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC), Issued: time.Date(2030, 1, 2, 2, 4, 5, 0, time.UTC),
		Subject: keys.AccessKeyID + "/" + keys.Secret.Reveal()[:4] + "/" + fmt.Sprint(len(code.Reveal())),
	}, nil
}

func (s *scriptedSTS) Identity(
	ctx context.Context,
	keys exchange.Keys,
	endpoint profiles.Endpoint,
) (exchange.Identity, error) {
	arn := "arn:aws:iam::111122223333:user/paul"
	if endpoint.Region != "" {
		arn = endpoint.Region
	}
	return exchange.Identity{Account: "111122223333", ARN: arn, UserID: "AIDAEXAMPLE"}, nil
}

func (s *scriptedSTS) Devices(context.Context, exchange.Keys, profiles.Endpoint) ([]string, error) {
	return []string{"arn:aws:iam::111122223333:mfa/paul"}, nil
}

func (s *scriptedSTS) RegisterClient(
	context.Context, profiles.Endpoint, string, []string, bool,
) (exchange.Registration, error) {
	return exchange.Registration{ID: "client", Secret: secret.New("CLIENTSECRET"),
		Expires: time.Now().Add(90 * 24 * time.Hour)}, nil
}

func (s *scriptedSTS) AuthorizeURL(
	profiles.Endpoint, exchange.Registration, string, string, string, []string,
) (string, error) {
	return "https://oidc.example/authorize", nil
}

func (s *scriptedSTS) EndPortal(context.Context, profiles.Endpoint, secret.String) error { return nil }

// CreateToken takes any code, and refreshes a token once: the file refreshFile has the refresh token that works. Each
// call adds a line to callsFile, and takes a while.
func (s *scriptedSTS) CreateToken(
	_ context.Context, _ profiles.Endpoint, _ exchange.Registration, g exchange.TokenGrant,
) (exchange.Token, error) {
	f, err := os.OpenFile(callsFile(s.state), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return exchange.Token{}, err
	}
	defer func() { _ = f.Close() }()
	_, _ = fmt.Fprintln(f, session.CreateToken)
	works, err := os.ReadFile(refreshFile(s.state))
	if err != nil {
		return exchange.Token{}, err
	}
	if g.Code.IsZero() && g.Refresh.Reveal() != string(works) {
		return exchange.Token{}, fault.New(fault.LoginNeeded, "the session has ended")
	}
	time.Sleep(100 * time.Millisecond) // so that others would send the same token meanwhile
	next := string(works) + "-next"
	if err := os.WriteFile(refreshFile(s.state), []byte(next), 0o600); err != nil {
		return exchange.Token{}, err
	}
	now := time.Now().UTC().Truncate(time.Second)
	return exchange.Token{Access: secret.New("ACCESSTOKEN-" + next), Refresh: secret.New(next), Issued: now,
		Expires: now.Add(time.Hour)}, nil
}

func refreshFile(state string) string { return filepath.Join(filepath.Dir(state), "refresh") }

func (s *scriptedSTS) ServerOffset() time.Duration { return s.offset }

// testRegistry is the registry of all callers, so that each may use what another stored. It does not exist.
var testRegistry = system.RealPath(homeRegistry())

// callerOn returns a Caller on a backend. The test sets Dir.
func callerOn(t *testing.T, backend, state string) *vault.Caller {
	t.Helper()
	return &vault.Caller{
		Exe: vaultExe(t), Backend: func() string { return backend },
		StateDir: state, Registry: testRegistry, Timeout: patience,
	}
}

// sibling returns a Caller on the same keyring that does not know what the first one learned.
func sibling(c *vault.Caller) *vault.Caller {
	return &vault.Caller{
		Exe: c.Exe, Backend: c.Backend, Dir: c.Dir,
		StateDir: c.StateDir, Registry: c.Registry, Timeout: c.Timeout,
	}
}

// fileCaller returns a Caller on its own file keyring, with the passphrase set and the keyring created.
func fileCaller(t *testing.T) *vault.Caller {
	t.Helper()
	c := freshCaller(t)
	if err := c.Create(t.Context(), secret.New(testPassphrase)); err != nil {
		t.Fatal(err)
	}
	return c
}

func freshCaller(t *testing.T) *vault.Caller {
	t.Helper()
	home := t.TempDir()
	return &vault.Caller{
		Exe:      vaultExe(t),
		Backend:  func() string { return vault.File },
		Dir:      filepath.Join(home, "keyring"),
		StateDir: filepath.Join(home, "state"),
		Registry: testRegistry,
		Timeout:  patience,
	}
}

// eventually makes a call with a short deadline of c. While tooSlow says by the error that the machine was too
// slow, it retries with longer deadlines.
func eventually(c *vault.Caller, tooSlow func(error) bool, call func() error) (err error) {
	for c.Timeout = 2 * time.Second; ; c.Timeout *= 3 {
		if err = call(); !tooSlow(err) || c.Timeout >= patience {
			c.Timeout = patience
			return err
		}
	}
}

// unanswered reports whether a vault process ran out of time.
func unanswered(err error) bool {
	return err != nil && (strings.Contains(err.Error(), "the keyring did not answer") || strings.Contains(err.Error(), "without an answer"))
}

// itself fails the test if the call had no answer of its own before the far deadline.
func itself(t *testing.T, call func() error) error {
	t.Helper()
	err := call()
	if unanswered(err) {
		t.Errorf("the call took all of its time: %v", err)
	}
	return err
}

var (
	instrumented bool // this binary has the race detector
	plainDir     string
	plain        = sync.OnceValues(func() (string, error) {
		var err error
		if plainDir, err = os.MkdirTemp("", "vault"); err != nil {
			return "", err
		}
		exe := filepath.Join(plainDir, "vault.test")
		out, err := exec.Command("go", "test", "-c", "-race=false", "-o", exe, ".").CombinedOutput()
		if err != nil {
			return "", fmt.Errorf("%w\n%s", err, out)
		}
		return exe, nil
	})
)

// vaultExe returns the program for vault processes: this one, without the race detector.
func vaultExe(t *testing.T) string {
	t.Helper()
	if !instrumented {
		return testExe(t)
	}
	exe, err := plain()
	if err != nil {
		t.Fatal(err)
	}
	return exe
}

// with returns a program that runs exe with a variable set. Unlike t.Setenv it allows parallel tests. Call it
// before t.Parallel, because a child of another test would hold the new file open.
func with(t *testing.T, exe, variable string) string {
	t.Helper()
	script := filepath.Join(t.TempDir(), "vault")
	must(t, os.WriteFile(script, []byte("#!/bin/sh\nexport '"+variable+"'\nexec '"+exe+"' \"$@\"\n"), 0o700))
	return script
}

func testExe(t *testing.T) string {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return exe
}

const (
	testPassphrase = "correct horse battery"
	testKeyID      = "AKIAIOSFODNN7EXAMPLE"
	testSecret     = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
	testSeed       = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
	testSerial     = "arn:aws:iam::111122223333:mfa/paul"
	keptSecret     = "kJ3sKEPTSECRETxLq0vExAmPlE"
	keptToken      = "FwoGZXIvYXdzKEPTTOKENExAmPlE"
)

func testKey(name string) vault.Key {
	return vault.Key{Name: name, AccessKeyID: testKeyID, Secret: secret.New(testSecret)}
}

func testSource(name string) profiles.Source {
	return profiles.Source{Name: name, AccessKeyID: testKeyID, MFASerial: testSerial}
}

func mfaCall() session.Call {
	return session.Call{Operation: session.GetSessionToken, MFASerial: testSerial, Duration: time.Hour}
}

func plainCall() session.Call {
	return session.Call{Operation: session.GetSessionToken, Duration: time.Hour}
}

// lost is the error of package exchange for a server that closed the connection before it answered.
var lost error

func loseAnswer() error {
	server := httptest.NewServer(
		http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }),
	)
	defer server.Close()
	call := mfaCall()
	call.Endpoint.URL = server.URL
	_, err := exchange.New(exchange.Options{}).Call(context.Background(),
		exchange.Keys{AccessKeyID: testKeyID, Secret: secret.New(testSecret)}, call, secret.New("123456"))
	if !answerLost(err) {
		panic(fmt.Sprintf("exchange does not treat this as a lost answer: %v", err))
	}
	return err
}

// putRequest, seedRequest and sealRequest return what a Caller sends.

func putRequest(key vault.Key, endpoint profiles.Endpoint, verify bool) *request {
	return &request{Op: vault.OpPut, Source: key.Name, KeyID: key.AccessKeyID, SecretKey: key.Secret.Reveal(),
		Seed: key.Seed.Reveal(), Replace: key.Replace, KeepSeed: key.KeepSeed, Verify: verify, Endpoint: endpoint}
}

func seedRequest(name string, seed secret.String) *request {
	return &request{Op: vault.OpSetSeed, Source: name, Seed: seed.Reveal()}
}

func sealRequest(name string, data secret.String) *request {
	return &request{Op: vault.OpSeal, Source: name, Sealed: data.Reveal()}
}
