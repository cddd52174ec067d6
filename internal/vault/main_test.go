package vault

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
	"syscall"
	"testing"
	"time"

	"broker/internal/exchange"
	"broker/internal/fault"
	"broker/internal/profiles"
	"broker/internal/secret"
	"broker/internal/session"
)

// The test binary is the vault process too, as the shipped binary is.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "vault" {
		// Not os.Exit, with which a binary of the race detector sleeps for a second.
		syscall.Exit(vaultProcess())
	}
	if len(os.Args) == 2 && os.Args[1] == "print-bus" {
		syscall.Exit(printBus())
	}
	if len(os.Args) == 3 && os.Args[1] == "hardened" {
		syscall.Exit(hardened(os.Args[2]))
	}
	lost = loseAnswer()
	os.Exit(m.Run())
}

func printBus() int {
	if address, ok := os.LookupEnv("DBUS_SESSION_BUS_ADDRESS"); ok {
		fmt.Println("set:" + address)
	} else {
		fmt.Println("unset")
	}
	return 0
}

// vaultProcess is Main with a scripted STS, or one of the ways to be a bad vault.
func vaultProcess() int {
	script := os.Getenv("BROKER_TEST_VAULT")
	if script == "" {
		return serve(os.Stdin, os.Stdout, newScriptedSTS, os.Stderr)
	}
	name, arg, _ := strings.Cut(script, "=")
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
		fmt.Print(`{"fault":{"kind":"` + strings.Repeat("x", 2*maxMessage) + `"}}`)
	case "kill":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	case "panic":
		panic("the seed is " + arg)
	case "exit":
		fmt.Fprint(os.Stderr, "wJalrXUtnFEMI\n")
		return 3
	case "grandchild":
		// It holds stdout and outlives the vault.
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
		closeInherited() // as Main does
		open, _ := os.ReadDir("/proc/self/fd")
		var fds []string
		for _, e := range open {
			to, _ := os.Readlink("/proc/self/fd/" + e.Name())
			fds = append(fds, to)
		}
		data, _ := json.Marshal(map[string]any{"env": os.Environ(), "args": os.Args, "fds": fds, "pgid": syscall.Getpgrp(), "pid": os.Getpid()})
		_ = os.WriteFile(arg, data, 0o600)
		fmt.Print("{}\n")
	case "count":
		// How many run at this moment.
		mark := filepath.Join(arg, fmt.Sprint(os.Getpid()))
		_ = os.WriteFile(mark, nil, 0o600)
		time.Sleep(150 * time.Millisecond)
		now, _ := os.ReadDir(arg)
		_ = os.Remove(mark)
		fmt.Printf(`{"info":{"access_key_id":"%d"}}`, len(now))
	}
	return 0
}

// scriptedSTS is AWS in a vault process. The name of the role decides what happens. Where BROKER_TEST_CALLS names a
// file, a line is added to it for each call, and the sessions are issued now, by a clock that is BROKER_TEST_OFFSET ahead.
type scriptedSTS struct{ offset time.Duration }

func newScriptedSTS(q *request) sts {
	return &scriptedSTS{time.Duration(q.OffsetMS) * time.Millisecond}
}

func (s *scriptedSTS) Call(ctx context.Context, keys exchange.Keys, call session.Call, code secret.String) (session.Credentials, error) {
	switch call.RoleARN {
	case "leak":
		return session.Credentials{}, fault.New(fault.Denied, "signed with %s and %s", keys.Secret.Reveal(), code.Reveal())
	case "too-long":
		return session.Credentials{}, &fault.Error{Kind: fault.Failed, Message: "too long", Err: exchange.ErrDurationTooLong}
	case "hang":
		select {}
	}
	if path := os.Getenv("BROKER_TEST_CALLS"); path != "" {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return session.Credentials{}, err
		}
		defer func() { _ = f.Close() }()
		_, _ = fmt.Fprintln(f, call.Operation, len(code.Reveal()))
		s.offset, _ = time.ParseDuration(os.Getenv("BROKER_TEST_OFFSET"))
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

func (s *scriptedSTS) Identity(ctx context.Context, keys exchange.Keys, endpoint profiles.Endpoint) (exchange.Identity, error) {
	arn := "arn:aws:iam::111122223333:user/paul"
	if endpoint.Region != "" {
		arn = endpoint.Region
	}
	return exchange.Identity{Account: "111122223333", ARN: arn, UserID: "AIDAEXAMPLE"}, nil
}

func (s *scriptedSTS) Devices(context.Context, exchange.Keys, profiles.Endpoint) ([]string, error) {
	return []string{"arn:aws:iam::111122223333:mfa/paul"}, nil
}

func (s *scriptedSTS) ServerOffset() time.Duration { return s.offset }

// fileCaller is a Caller on a file keyring of its own, with a passphrase and the keyring made.
func fileCaller(t *testing.T) *Caller {
	t.Helper()
	c := freshCaller(t)
	if err := c.Create(t.Context(), secret.New(testPassphrase)); err != nil {
		t.Fatal(err)
	}
	return c
}

func freshCaller(t *testing.T) *Caller {
	t.Helper()
	home := t.TempDir()
	return &Caller{
		Exe:      testExe(t),
		Backend:  func() string { return File },
		Dir:      filepath.Join(home, "keyring"),
		StateDir: filepath.Join(home, "state"),
		Timeout:  20 * time.Second,
	}
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

func testKey(name string) Key {
	return Key{Name: name, AccessKeyID: testKeyID, Secret: secret.New(testSecret)}
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

// lost is what package exchange says where the server went away before it answered.
var lost error

func loseAnswer() error {
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	defer server.Close()
	call := mfaCall()
	call.Endpoint.URL = server.URL
	_, err := exchange.New(exchange.Options{}).Call(context.Background(),
		exchange.Keys{AccessKeyID: testKeyID, Secret: secret.New(testSecret)}, call, secret.New("123456"))
	if !answerLost(err) {
		panic(fmt.Sprintf("exchange does not call a lost answer one: %v", err))
	}
	return err
}
