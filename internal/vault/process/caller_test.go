package process

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"broker/internal/exchange"
	"broker/internal/fault"
	"broker/internal/mfa"
	"broker/internal/profiles"
	"broker/internal/secret"
	"broker/internal/vault"
	"broker/internal/version"
)

func TestLifeOfASource(t *testing.T) {
	t.Parallel()
	c, ctx := fileCaller(t), t.Context()
	began := time.Now().Truncate(time.Second)
	if _, err := c.Open(ctx, testSource("security"), plainCall(), secret.String{}); !fault.Is(err, fault.NotFound) {
		t.Fatalf("open before put: %v", err)
	}
	who, err := c.Put(ctx, testKey("security"), profiles.Endpoint{}, true)
	if err != nil || who.ARN != "arn:aws:iam::111122223333:user/paul" || who.Account != "111122223333" {
		t.Fatalf("put: %+v, %v", who, err)
	}
	if _, err := c.Put(ctx, testKey("security"), profiles.Endpoint{}, false); err != nil {
		t.Fatalf("the same key again: %v", err)
	}
	otherSecret, otherKey := testKey("security"), testKey("security")
	otherSecret.Secret, otherKey.AccessKeyID = secret.New("another/secret/key/that/nobody/confirmed"), "AKIAANOTHERKEY000000"
	for what, key := range map[string]vault.Key{"another key": otherKey, "another secret, unconfirmed": otherSecret} {
		if _, err := c.Put(ctx, key, profiles.Endpoint{}, false); !errors.Is(err, vault.ErrExists) {
			t.Fatalf("put %s over a key without Replace: %v", what, err)
		}
	}
	creds, err := c.Open(ctx, testSource("security"), plainCall(), secret.String{})
	if err != nil {
		t.Fatal(err)
	}
	if creds.AccessKeyID != "ASIAEXAMPLE" || creds.SecretAccessKey.Reveal() != "session-secret" || creds.SessionToken.Reveal() != "session-token" ||
		!creds.Expires.Equal(time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)) ||
		creds.Issued.IsZero() ||
		creds.Subject != testKeyID+"/wJal/0" {
		t.Errorf("open: %+v %s", creds, creds.Subject)
	}

	_, err = c.Open(ctx, testSource("security"), mfaCall(), secret.String{})
	if !fault.Is(err, fault.LoginNeeded) || !strings.Contains(err.Error(), testSerial) || fault.Of(err).Hint != "broker login security --code 123456" {
		t.Errorf("open without code and seed: %v, hint %q", err, fault.Of(err).Hint)
	}
	if creds, err = c.Open(ctx, testSource("security"), mfaCall(), secret.New("123 456")); err != nil || !strings.HasSuffix(creds.Subject, "/6") {
		t.Errorf("open with a code: %v", err)
	}
	_, err = c.Open(ctx, testSource("security"), mfaCall(), secret.New("123456"))
	var spent *mfa.SpentError
	if !fault.Is(err, fault.CodeRejected) || !errors.As(err, &spent) || time.Until(spent.Next) > mfa.Period {
		t.Errorf("the same code again: %v", err)
	}

	if err := c.SetSeed(ctx, "security", secret.New("JBSW Y3DP")); !fault.Is(err, fault.Usage) {
		t.Errorf("bad seed: %v", err)
	}
	if err := c.SetSeed(ctx, "security", secret.New(testSeed)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Put(ctx, testKey("security"), profiles.Endpoint{}, true); err != nil {
		t.Fatalf("put the same again: %v", err)
	}
	if info, err := c.Describe(ctx, "security"); err != nil || info.AccessKeyID != testKeyID || !info.HasSeed ||
		info.Created.Before(began) ||
		info.Created.After(time.Now()) {
		t.Errorf("describe: %+v, %v", info, err)
	}
	if creds, err = c.Open(ctx, testSource("security"), mfaCall(), secret.String{}); err != nil ||
		!strings.HasSuffix(creds.Subject, "/6") {
		t.Errorf("open with the seed: %v", err)
	}
	other := mfaCall()
	other.MFASerial = "arn:aws:iam::111122223333:mfa/another"
	if _, err = c.Open(ctx, testSource("security"), other, secret.String{}); !fault.Is(err, fault.LoginNeeded) {
		t.Errorf("the seed was used for another device: %v", err)
	}

	key := testKey("security")
	key.AccessKeyID, key.Replace, key.KeepSeed = "AKIAIOSFODNN7REPLACE", true, true
	if _, err := c.Put(ctx, key, profiles.Endpoint{}, false); err != nil {
		t.Fatal(err)
	}
	if info, err := c.Describe(ctx, "security"); err != nil || info.AccessKeyID != "AKIAIOSFODNN7REPLACE" || !info.HasSeed {
		t.Errorf("describe after replace: %+v, %v", info, err)
	}
	if _, err = c.Open(ctx, testSource("security"), plainCall(), secret.String{}); !errors.Is(err, vault.ErrKeyChanged) ||
		!fault.Is(err, fault.Config) {
		t.Errorf("open with the old key id: %v", err)
	}
	if err := c.RemoveSeed(ctx, "security"); err != nil {
		t.Fatal(err)
	}
	if info, _ := c.Describe(ctx, "security"); info.HasSeed {
		t.Error("the seed is still there")
	}
	if err := c.Remove(ctx, "security"); err != nil {
		t.Fatal(err)
	}
	if err := c.Remove(ctx, "security"); !fault.Is(err, fault.NotFound) {
		t.Errorf("second remove: %v", err)
	}
}

func TestPutRefuses(t *testing.T) {
	t.Parallel()
	c := fileCaller(t)
	for name, tc := range map[string]struct {
		key    vault.Key
		region string // the ARN that the scripted STS returns
		verify bool
		kind   fault.Kind
		text   string
	}{
		"session key":    {vault.Key{Name: "a", AccessKeyID: "ASIAIOSFODNN7EXAMPLE", Secret: secret.New("x")}, "", false, fault.Usage, "of a session"},
		"no key id":      {vault.Key{Name: "a", Secret: secret.New("x")}, "", false, fault.Usage, "access key id"},
		"lower case":     {vault.Key{Name: "a", AccessKeyID: "akiaiosfodnn7example", Secret: secret.New("x")}, "", false, fault.Usage, "access key id"},
		"no secret":      {vault.Key{Name: "a", AccessKeyID: testKeyID}, "", false, fault.Usage, "secret access key"},
		"broken secret":  {vault.Key{Name: "a", AccessKeyID: testKeyID, Secret: secret.New("a\nb")}, "", false, fault.Usage, "secret access key"},
		"bad seed":       {vault.Key{Name: "a", AccessKeyID: testKeyID, Secret: secret.New("x"), Seed: secret.New("123456")}, "", false, fault.Usage, "seed"},
		"no name":        {vault.Key{AccessKeyID: testKeyID, Secret: secret.New("x")}, "", false, fault.Usage, "empty"},
		"long name":      {testKey(strings.Repeat("n", 1025)), "", false, fault.Usage, "longer"},
		"huge name":      {testKey(strings.Repeat("n", 1<<20)), "", false, fault.Usage, "larger"},
		"root user":      {testKey("a"), "arn:aws:iam::111122223333:root", true, fault.Failed, "root user"},
		"assumed role":   {testKey("a"), "arn:aws:sts::111122223333:assumed-role/x/y", true, fault.Failed, "not to an IAM user"},
		"federated user": {testKey("a"), "arn:aws:sts::111122223333:federated-user/x", true, fault.Failed, "not to an IAM user"},
		"no arn":         {testKey("a"), "hello", true, fault.BadAnswer, "not an ARN"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := c.Put(t.Context(), tc.key, profiles.Endpoint{Region: tc.region}, tc.verify)
			if !fault.Is(err, tc.kind) || !strings.Contains(err.Error(), tc.text) {
				t.Errorf("got %v (%s)", err, fault.Of(err).Kind)
			}
		})
	}
	if entries, _ := os.ReadDir(c.Dir); len(entries) != 4 { // lock, check item, and two files with the key
		t.Errorf("something was stored: %v", entries)
	}
}

func TestNoSecretInErrors(t *testing.T) {
	t.Parallel()
	c := fileCaller(t)
	if _, err := c.Put(t.Context(), testKey("security"), profiles.Endpoint{}, false); err != nil {
		t.Fatal(err)
	}
	call := mfaCall()
	call.RoleARN = "leak"
	_, err := c.Open(t.Context(), testSource("security"), call, secret.New("654321"))
	if !fault.Is(err, fault.Denied) || err.Error() != "signed with [redacted] and [redacted]" {
		t.Errorf("got %v", err)
	}
	call.RoleARN = "too-long"
	if _, err := c.Open(t.Context(), testSource("security"), call, secret.New("654322")); !errors.Is(err, exchange.ErrDurationTooLong) {
		t.Errorf("the reason got lost: %v", err)
	}
}

func TestBadVault(t *testing.T) {
	for name, tc := range map[string]struct {
		kind fault.Kind
		text string
	}{
		"silent":               {fault.Keyring, "ended with exit status 0"},
		"garbage":              {fault.Keyring, "gave no answer"},
		"two":                  {fault.Keyring, "gave no answer"},
		"unknown":              {fault.Keyring, "gave no answer"},
		"huge":                 {fault.Internal, "more than"},
		"kill":                 {fault.Keyring, "ended with signal: killed"},
		"panic=JBSWY3DPEHPK3P": {fault.Keyring, "ended with exit status 2"},
		"exit":                 {fault.Keyring, "ended with exit status 3"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("BROKER_TEST_VAULT", name)
			c := freshCaller(t)
			_, err := c.Describe(t.Context(), "security")
			if !fault.Is(err, tc.kind) || !strings.Contains(err.Error(), tc.text) {
				t.Errorf("got %v (%s)", err, fault.Of(err).Kind)
			}
			for _, leak := range []string{"JBSW", "wJal"} {
				if err != nil && strings.Contains(err.Error(), leak) {
					t.Errorf("the error shows a secret from stderr: %v", err)
				}
			}
		})
	}
}

// TestHangingVault: a process that hangs before it reads its own deadline is killed.
func TestHangingVault(t *testing.T) {
	c := freshCaller(t)
	c.Exe = with(t, c.Exe, "BROKER_TEST_VAULT=hang")
	t.Parallel()
	c.Timeout = 2 * time.Second
	_, err := c.Describe(t.Context(), "security")
	if !fault.Is(err, fault.Keyring) || !strings.Contains(err.Error(), "ended after 2s without an answer") {
		t.Errorf("got %v", err)
	}
}

func TestInnerDeadline(t *testing.T) {
	t.Parallel()
	c := fileCaller(t)
	if _, err := c.Put(t.Context(), testKey("security"), profiles.Endpoint{}, false); err != nil {
		t.Fatal(err)
	}
	call := plainCall()
	call.RoleARN = "hang"
	err := eventually(c, unanswered, func() error {
		_, err := c.Open(t.Context(), testSource("security"), call, secret.String{})
		return err
	})
	if !fault.Is(err, fault.Network) || !strings.Contains(err.Error(), "AWS did not answer") {
		t.Errorf("the vault process did not answer itself: %v", err)
	}
}

// TestGrandchild: processes that the vault process started die with it, and cannot block the caller by holding
// stdout open.
func TestGrandchild(t *testing.T) {
	for _, linger := range []string{"", "yes"} {
		pidFile := filepath.Join(t.TempDir(), "pid")
		t.Setenv("BROKER_TEST_VAULT", "grandchild="+pidFile)
		t.Setenv("BROKER_TEST_LINGER", linger)
		c := freshCaller(t)
		ctx, cancel := context.WithCancel(t.Context())
		pids := make(chan int, 1)
		go func() { // the lingering vault process is killed once the grandchild exists
			defer cancel()
			pid := 0
			for give := time.Now().Add(patience / 2); pid == 0 && time.Now().Before(give); time.Sleep(5 * time.Millisecond) {
				data, _ := os.ReadFile(pidFile)
				_, _ = fmt.Sscan(string(data), &pid)
			}
			pids <- pid
			if linger == "" {
				<-ctx.Done()
			}
		}()
		_, err := c.Describe(ctx, "security")
		cancel()
		if err == nil || linger == "" && errors.Is(err, context.Canceled) {
			t.Errorf("linger %q: an empty answer must not be a description: %v", linger, err)
		}
		pid := <-pids
		if pid == 0 {
			t.Fatal("no grandchild was started: the test proves nothing")
		}
		gone := false
		for give := time.Now().Add(patience / 2); !gone && time.Now().Before(give); time.Sleep(5 * time.Millisecond) {
			gone = processGone(pid)
		}
		if !gone {
			t.Errorf("linger %q: the grandchild is alive", linger)
			killProcess(pid)
		}
	}
}

// processGone reports whether a process has ended, even if nobody has waited for it yet.
func processGone(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(stat), ") Z ")
}

func TestEnvironment(t *testing.T) {
	out := filepath.Join(t.TempDir(), "environ")
	t.Setenv("BROKER_TEST_VAULT", "environ="+out)
	t.Setenv("AWS_SECRET_ACCESS_KEY", "must-not-pass")
	t.Setenv("AWS_PROFILE", "must-not-pass")
	t.Setenv("AWS_CA_BUNDLE", "/must-not-pass")
	t.Setenv("LD_PRELOAD", "")
	t.Setenv("https_proxy", "http://must-not-pass")
	t.Setenv("GODEBUG", "")
	// A descriptor without close-on-exec, as a careless library would leave it.
	fd, err := syscall.Open("/etc/hostname", syscall.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Close(fd) }()
	c := freshCaller(t)
	c.SetPassphrase(secret.New(testPassphrase))
	_ = c.Check(t.Context())
	data, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Env, Args, FDs []string
		PGID, PID      int
	}
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	if strings.Join(got.Args, " ") != "brokerd vault" {
		t.Errorf("args %q", got.Args)
	}
	env := strings.Join(got.Env, "\n")
	for _, bad := range []string{"must-not-pass", "LD_PRELOAD", "GODEBUG", testPassphrase} {
		if strings.Contains(env, bad) {
			t.Errorf("%q is in the environment", bad)
		}
	}
	for _, good := range []string{"PATH="} {
		if !strings.Contains(env, good) {
			t.Errorf("%q is not in the environment", good)
		}
	}
	if got.PGID != got.PID {
		t.Error("the vault is in the caller's process group")
	}
	for _, to := range got.FDs {
		if strings.Contains(to, "hostname") {
			t.Errorf("descriptors of the caller are open in the vault: %q", got.FDs)
		}
	}
}

func TestFourAtATime(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("BROKER_TEST_VAULT", "count="+dir)
	c := freshCaller(t)
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		most int
	)
	for range 12 {
		wg.Go(func() {
			info, err := c.Describe(t.Context(), "x")
			if err != nil {
				t.Error(err)
			}
			n := 0
			_, _ = fmt.Sscan(info.AccessKeyID, &n)
			mu.Lock()
			defer mu.Unlock()
			most = max(most, n)
		})
	}
	wg.Wait()
	if most != vault.MaxProcesses || vault.MaxProcesses != 4 {
		t.Errorf("%d at a time, want 4", most)
	}
}

func TestCallerGivesUp(t *testing.T) {
	t.Setenv("BROKER_TEST_VAULT", "hang")
	c := freshCaller(t)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := c.Check(ctx); !fault.Is(err, fault.Keyring) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestUnknownBackend(t *testing.T) {
	t.Parallel()
	for _, backend := range []string{"keychain", "wincred", "plain", "../file", "FILE"} {
		c := freshCaller(t)
		c.Backend = func() string { return backend }
		err := c.Check(t.Context())
		if !fault.Is(err, fault.Keyring) || !strings.Contains(err.Error(), "can be one of") || !strings.Contains(err.Error(), "file") {
			t.Errorf("%s: %v", backend, err)
		}
	}
}

func TestDefaultProgram(t *testing.T) {
	t.Parallel()
	c := fileCaller(t)
	c.Exe = ""
	if err := c.Check(t.Context()); err != nil {
		t.Errorf("the running program as the vault: %v", err)
	}
}

// TestOtherVersion: a request from a program of another version is refused, whatever else it contains.
func TestOtherVersion(t *testing.T) {
	for text, want := range map[string]string{
		`{"version":"9.9.9","op":"put","timeout_ms":1000,"from_the_future":true}`:  "version 9.9.9",
		`{"version":"` + version.String() + `","op":"put","from_the_future":true}`: "cannot be read",
	} {
		_, err := decodeRequest([]byte(text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}
