//go:build linux

package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"broker/internal/audit"
	"broker/internal/fault"
	"broker/internal/grant"
	"broker/internal/lockfile"
	"broker/internal/secret"
	"broker/internal/session"
	"broker/internal/system"
	"broker/internal/wire"
)

// refused fails the test unless an answer is a Locked fault and nothing else.
func refused(t *testing.T, what string, r wire.Response) {
	t.Helper()
	if !refusedAs(r, fault.Locked) || r.Credential != nil || r.Endpoint != nil || r.Files != nil || r.SignIn != nil ||
		r.Accounts != nil || r.Assigned != nil || r.Token != nil ||
		r.Status != nil {
		t.Errorf("%s: %+v", what, r)
	}
}

// giving lists the verbs that hand something out.
var giving = []wire.Request{
	{Verb: wire.Get, Profile: "dev"},
	{Verb: wire.Get, Profile: "security"},
	{Verb: wire.Get, Profile: "security", Role: &wire.Role{ARN: "arn:aws:iam::444455556666:role/audit"}},
	{Verb: wire.Get, Profile: "security", Role: &wire.Role{Federate: true}},
	{Verb: wire.Serve, Profile: "dev"},
	{Verb: wire.PrivateFiles, Profile: "dev"},
	{Verb: wire.Publish, Profile: "dev"},
	{Verb: wire.Login, Profile: "dev"},
	{Verb: wire.Console, Profile: "dev"},
	aToken("dev"),
	{Verb: wire.Accounts, Profile: "dev"},
	{Verb: wire.Assigned, Profile: "my-sso"},
}

// handing returns the requests whose answer contains what they hand out.
func handing() []wire.Request {
	return slices.DeleteFunc(
		slices.Clone(giving),
		func(r wire.Request) bool { return r.Verb == wire.Publish || r.Verb == wire.Login },
	)
}

// lockHouse is a daemon with its own AWS credentials file. It is not started yet.
func lockHouse(t testing.TB, dir string) *house {
	t.Helper()
	h := build(t, dir, registry)
	h.Files.Credentials = filepath.Join(dir, "credentials")
	return h
}

// TestLockIsKept: however a daemon ended, the next one is locked until a person unlocks it.
func TestLockIsKept(t *testing.T) {
	dir := t.TempDir()
	h := lockHouse(t, dir).run(t)
	for _, req := range giving {
		if r := h.ask(t, req); r.Err != nil {
			t.Fatalf("%s: %v", req.Verb, r.Err)
		}
	}
	if r := h.ask(t, wire.Request{Verb: wire.Lock}); r.Err != nil || len(r.Warnings) > 0 {
		t.Fatalf("%+v", r)
	}
	h.stop()
	h.ended <- <-h.ended // keep the value for the end of the test
	next := lockHouse(t, dir).run(t)
	for _, req := range giving {
		refused(t, req.Verb, next.ask(t, req))
	}
	if s := next.ask(t, wire.Request{Verb: wire.State}); !s.Status.Locked || s.Status.Total != 0 {
		t.Errorf("%+v", s.Status)
	}
	if r := next.ask(t, wire.Request{Verb: wire.Unlock}); r.Err != nil {
		t.Fatal(r.Err)
	}
	if r := next.get(t, "dev"); r.Err != nil {
		t.Error(r.Err)
	}
	if l := lockfile.New(filepath.Join(dir, "lock.json")); l.Load() != nil || l.Locked() {
		t.Error("the file still says locked")
	}
}

// TestDamagedLock: a daemon with a damaged lock file is locked, and says why and which command helps. The command
// helps.
func TestDamagedLock(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "lock.json")
	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	h := build(t, dir, registry).run(t)
	refused(t, "get", h.get(t, "dev"))
	s := h.ask(t, wire.Request{Verb: wire.State}).Status
	if !s.Locked || len(s.Warnings) != 1 || !strings.Contains(s.Warnings[0], file+" is damaged") {
		t.Errorf("%+v", s)
	}
	r := h.ask(t, wire.Request{Verb: wire.Unlock})
	if refused(t, "unlock", r); string(r.Err.Hint) != "ls -ld "+file+" && broker unlock" {
		t.Errorf("hint %q", r.Err.Hint)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if r := h.ask(t, wire.Request{Verb: wire.Unlock}); r.Err != nil {
		t.Fatal(r.Err)
	}
	if r := h.get(t, "dev"); r.Err != nil {
		t.Error(r.Err)
	}
}

// TestLockThatCannotBeKept: a lock that cannot be saved still locks. The person is told, and it is saved once that
// is possible.
func TestLockThatCannotBeKept(t *testing.T) {
	h := build(t, t.TempDir(), registry)
	state := filepath.Join(t.TempDir(), "state")
	file := filepath.Join(state, "lock.json")
	h.LockFile = lockfile.New(file)
	h.run(t)
	r := h.ask(t, wire.Request{Verb: wire.Lock})
	if e := h.trail.all(); e[len(e)-1].Event != "lock" || e[len(e)-1].Reason != "asked" ||
		!strings.Contains(e[len(e)-1].Message, "the next one will not be") {
		t.Errorf("the audit line does not say it: %+v", e[len(e)-1])
	}
	if r.Err == nil || !strings.Contains(r.Err.Message, "this daemon is locked, but the next one will not be: write "+file) ||
		r.Err.Hint != fault.Hintf("ls -ld %s", state) {
		t.Errorf("%+v", r)
	}
	warnings := h.ask(t, wire.Request{Verb: wire.State}).Status.Warnings
	if !strings.Contains(strings.Join(warnings, "\n"), "cannot save whether Broker is locked") {
		t.Errorf("status: %q", warnings)
	}
	refused(t, "get", h.get(t, "dev"))
	if err := os.Mkdir(state, 0o700); err != nil {
		t.Fatal(err)
	}
	until(t, "it is written", func() bool { return lockfile.Peek(file) })
	until(t, "status is content", func() bool { return len(h.ask(t, wire.Request{Verb: wire.State}).Status.Warnings) == 0 })
}

// cheap is a stretch that takes no time.
func cheap() lockfile.Stretch {
	s := lockfile.NewStretch()
	s.Passes, s.MemoryKiB, s.Lanes = 1, 8, 1
	return s
}

func TestUnlockPassphrase(t *testing.T) {
	dir := t.TempDir()
	h := build(t, dir, registry).run(t)
	stretch := cheap()
	proof, wrong := stretch.Proof(secret.New("open sesame")), stretch.Proof(secret.New("a guess"))
	v := stretch.Verifier(proof)
	set := wire.Request{Verb: wire.Passphrase, Verifier: &wire.Verifier{Stretch: wire.Stretch(v.Stretch), Sum: v.Sum}}

	// The first passphrase must be set while unlocked, so that no program can lock the owner out.
	h.ask(t, wire.Request{Verb: wire.Lock})
	refused(t, "set while locked", h.ask(t, set))
	if r := h.ask(t, wire.Request{Verb: wire.Unlock}); r.Err != nil {
		t.Fatal(r.Err)
	}
	if r := h.ask(t, wire.Request{Verb: wire.Passphrase, Verifier: &wire.Verifier{}}); !refusedAs(r, fault.Usage) {
		t.Errorf("an empty verifier: %+v", r)
	}
	if r := h.ask(t, set); r.Err != nil {
		t.Fatal(r.Err)
	}
	if r := h.get(t, "dev"); r.Err != nil {
		t.Errorf("setting a passphrase locked the daemon: %v", r.Err)
	}
	h.ask(t, wire.Request{Verb: wire.Lock})

	// Neither the keyring's passphrase nor an empty one unlocks. The refusal says how to make the proof.
	for _, req := range []wire.Request{{}, {Passphrase: secret.New(passphrase)}, {Proof: wrong},
		{Proof: secret.New(passphrase)}} {
		req.Verb = wire.Unlock
		r := h.ask(t, req)
		if refused(t, "unlock", r); r.Challenge == nil && !strings.Contains(r.Err.Message, "try again in") ||
			r.Challenge != nil && string(r.Challenge.Salt) != string(stretch.Salt) {
			t.Errorf("%+v: challenge %+v", req, r.Challenge)
		}
	}
	// A command that sends the keyring's passphrase unlocks nothing, and the passphrase is not cached.
	refused(t, "stay locked", h.ask(t, wire.Request{Verb: wire.Unlock, Passphrase: secret.New(passphrase), StayLocked: true}))
	// The right passphrase for unlock, and then that of the keyring.
	if r := h.ask(t, wire.Request{Verb: wire.Unlock, Proof: proof, Passphrase: secret.New("not the keyring's")}); !refusedAs(
		r,
		fault.KeyringLocked,
	) {
		t.Errorf("%+v", r)
	}
	refused(t, "get", h.get(t, "dev"))
	if r := h.ask(t, wire.Request{Verb: wire.Unlock, Proof: proof, Passphrase: secret.New(passphrase)}); r.Err != nil {
		t.Fatal(r.Err)
	}
	if r := h.get(t, "dev"); r.Err != nil {
		t.Error(r.Err)
	}
	// While unlocked, the passphrase is only needed to remove it.
	if r := h.ask(t, wire.Request{Verb: wire.Unlock, Passphrase: secret.New(passphrase)}); r.Err != nil {
		t.Error(r.Err)
	}
	refused(t, "remove", h.ask(t, wire.Request{Verb: wire.Passphrase}))
	if r := h.ask(t, wire.Request{Verb: wire.Passphrase, Proof: proof}); r.Err != nil {
		t.Error(r.Err)
	}
	if r := h.ask(t, wire.Request{Verb: wire.Passphrase, Proof: proof}); !refusedAs(r, fault.Failed) {
		t.Errorf("removed twice: %+v", r)
	}
	h.ask(t, wire.Request{Verb: wire.Lock})
	if r := h.ask(t, wire.Request{Verb: wire.Unlock}); r.Err != nil {
		t.Error(r.Err)
	}
	var got []string
	for _, e := range h.trail.all() {
		if e.Reason != "" {
			got = append(got, e.Event+" "+e.Reason)
		}
	}
	want := "lock asked, refused set, refused set, passphrase set, lock asked, refused removed, passphrase removed, refused removed, lock asked"
	if strings.Join(got, ", ") != want {
		t.Errorf("the audit log has\n%s, want\n%s", strings.Join(got, ", "), want)
	}
}

// slowKeyring answers an unlock when it is told to.
type slowKeyring struct {
	asked, answer chan struct{}
	kept          atomic.Bool
}

func (k *slowKeyring) Unlock(context.Context, secret.String) error {
	close(k.asked)
	<-k.answer
	k.kept.Store(true)
	return nil
}

func (k *slowKeyring) Forget() { k.kept.Store(false) }

// TestLockOvertakesUnlock: a lock does not wait for an unlock that is asking the keyring, and wins.
func TestLockOvertakesUnlock(t *testing.T) {
	h := build(t, t.TempDir(), registry)
	k := &slowKeyring{asked: make(chan struct{}), answer: make(chan struct{})}
	h.Keyring = k
	h.run(t)
	h.ask(t, wire.Request{Verb: wire.Lock})
	l := connect(t, h.path)
	l.send(t, wire.Request{Verb: wire.Unlock, Passphrase: secret.New(passphrase)})
	<-k.asked
	if r := h.ask(t, wire.Request{Verb: wire.Lock}); r.Err != nil {
		t.Fatal(r.Err)
	}
	close(k.answer)
	refused(t, "unlock", l.read(t))
	refused(t, "get", h.get(t, "dev"))
	if k.kept.Load() {
		t.Error("locked, but the key of the keyring is still cached")
	}
}

// TestUnlockWithinLock: an unlock that comes when a lock has begun but is not in effect yet still needs the
// passphrase. Seen to fail without the mutex around the first check in tryUnlock.
func TestUnlockWithinLock(t *testing.T) {
	h := build(t, t.TempDir(), registry)
	h.comeUp()
	defer h.leave()
	k := &slowKeyring{asked: make(chan struct{}), answer: make(chan struct{})}
	close(k.answer)
	h.Keyring = k
	stretch := cheap()
	if err := h.LockFile.SetPassphrase(secret.String{}, stretch.Verifier(stretch.Proof(secret.New("open sesame")))); err != nil {
		t.Fatal(err)
	}
	h.locking.mu.Lock()
	h.locking.count.Add(1)
	answered := make(chan error)
	go func() {
		err := h.tryUnlock(t.Context(), call{req: &wire.Request{Verb: wire.Unlock}})
		answered <- err
	}()
	select {
	case <-k.asked: // it has passed the passphrase check
	case <-time.After(200 * time.Millisecond):
	}
	h.Broker.Lock()
	h.locking.mu.Unlock()
	if err := <-answered; !fault.Is(err, fault.Locked) || !h.Broker.Locked() {
		t.Errorf("unlocked without the passphrase: %v", err)
	}
}

// TestAnswerOvertakenByLock: a session that was fetched but not yet handed out when Broker is locked does not
// leave. Here another daemon of the home is locked, which this daemon has not noticed yet. Seen to fail without
// the check in Give.
func TestAnswerOvertakenByLock(t *testing.T) {
	lockElsewhere := func(h *house) {
		h.aws.set(func(a *aws) {
			a.fail = func(session.Call) error {
				return os.WriteFile(h.LockFile.Path(), []byte(`{"version":1,"locked":true}`), 0o600)
			}
		})
	}
	for _, req := range handing() {
		if req.Profile != "dev" {
			continue // no role, so nothing happens after the vault process, which checks the lock itself
		}
		t.Run(req.Verb, func(t *testing.T) {
			h := start(t)
			lockElsewhere(h)
			refused(t, req.Verb, h.ask(t, req))
			if left, _ := filepath.Glob(filepath.Join(h.CommandsDir, "*", "credentials")); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
			if e := h.trail.all(); e[len(e)-1].Event != "refused" || e[len(e)-1].Kind != fault.Locked {
				t.Errorf("the audit log ends with %+v", e[len(e)-1])
			}
		})
	}
	t.Run("endpoint", func(t *testing.T) {
		h := start(t)
		e := h.lend(t, wire.Request{Profile: "dev"})
		h.Broker.Lock()
		h.Broker.Unlock()
		lockElsewhere(h)
		status, body := h.call(t, e)
		if status != 403 || leaks(body) || !strings.Contains(body, `"code":"locked"`) {
			t.Errorf("%d %s", status, body)
		}
	})
}

// TestLockWaitsForWhatLeaves: a lock is answered only once no session is on its way out. Seen to fail without the
// gate in Shut.
func TestLockWaitsForWhatLeaves(t *testing.T) {
	h := start(t)
	leaving, left := make(chan struct{}), make(chan struct{})
	go func() {
		asked := grant.Request{Event: "given",
			Requests: []session.Request{{Profile: "dev", Files: h.Files}}}
		_ = h.grants.Give(context.Background(), asked, func([]session.Answer) error {
			close(leaving)
			<-left
			return nil
		})
	}()
	<-leaving
	l := connect(t, h.path)
	l.send(t, wire.Request{Verb: wire.Lock})
	answered := make(chan wire.Response, 1)
	go func() { answered <- l.read(t) }()
	until(t, "it is locked", h.Broker.Locked)
	h.alive(t)
	select {
	case r := <-answered:
		t.Errorf("the lock was answered before the delivery was done: %+v", r)
		answered <- r
	case <-time.After(100 * time.Millisecond):
	}
	close(left)
	if r := <-answered; r.Err != nil {
		t.Error(r.Err)
	}
}

// TestNothingLeavesOnceLocked: fifty clients ask in a loop, with each verb. After a lock was answered, no request
// gets anything.
func TestNothingLeavesOnceLocked(t *testing.T) { lockWhileServing(t, 1) }

func TestNothingLeavesOnceLockedLong(t *testing.T) { lockWhileServing(t, 5) }

func lockWhileServing(t *testing.T, rounds int) {
	t.Helper()
	h := start(t)
	handing := handing()
	e := h.lend(t, wire.Request{Profile: "dev"})
	host, _ := home(e)
	for range rounds {
		var locked, stop atomic.Bool
		var given, refusals atomic.Int64
		var wg sync.WaitGroup
		for i := range 50 {
			wg.Go(func() {
				for !stop.Load() {
					after := locked.Load()
					var got bool
					if i%10 == 0 {
						got = leaks(raw(t, host, request(e)))
					} else {
						r := h.ask(t, handing[i%len(handing)])
						got = r.Credential != nil || r.Endpoint != nil || r.Files != nil || r.SignIn != nil ||
							r.Accounts != nil || r.Assigned != nil || r.Token != nil
					}
					if got && after {
						t.Error("got something that was asked for once it was locked")
						return
					}
					if got {
						given.Add(1)
					} else if after {
						refusals.Add(1)
					}
				}
			})
		}
		until(t, "they are served", func() bool { return given.Load() > 100 })
		if r := h.ask(t, wire.Request{Verb: wire.Lock}); r.Err != nil {
			t.Error(r.Err)
		}
		locked.Store(true)
		until(t, "they are refused", func() bool { return refusals.Load() > 200 || t.Failed() })
		stop.Store(true)
		wg.Wait()
		if left, _ := filepath.Glob(filepath.Join(h.CommandsDir, "*", "credentials")); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
		if r := h.ask(t, wire.Request{Verb: wire.Unlock}); r.Err != nil {
			t.Fatal(r.Err)
		}
		e = h.lend(t, wire.Request{Profile: "dev"}) // the loop may have replaced it: each process has one
		host, _ = home(e)
	}
}

// TestFetchOvertakenByLock: a caller that waits for AWS during a lock fails at once, and nobody gets the late
// answer of AWS.
func TestFetchOvertakenByLock(t *testing.T) {
	for _, req := range giving {
		if req.Verb == wire.Login || req.Verb == wire.Assigned || req.Role != nil && req.Role.Federate ||
			req.Profile == "security" && req.Role == nil {
			continue // no AssumeRole call
		}
		t.Run(req.Verb, func(t *testing.T) {
			h := lockHouse(t, t.TempDir()).run(t)
			gate := make(chan struct{})
			h.aws.set(func(a *aws) { a.gate = gate })
			l := connect(t, h.path)
			l.send(t, req)
			until(t, "AWS is asked", func() bool { _, assumed := h.aws.calls(); return assumed == 1 })
			if r := h.ask(t, wire.Request{Verb: wire.Lock}); r.Err != nil {
				t.Fatal(r.Err)
			}
			refused(t, req.Verb, l.read(t)) // AWS has not answered yet
			h.aws.set(func(a *aws) { a.gate = nil })
			if r := h.ask(t, wire.Request{Verb: wire.Unlock}); r.Err != nil {
				t.Fatal(r.Err)
			}
			close(gate)
			if r := h.get(t, "dev"); r.Err != nil {
				t.Fatal(r.Err)
			}
			if _, assumed := h.aws.calls(); assumed != 2 {
				t.Errorf("AssumeRole was called %d times: the late session was kept", assumed)
			}
		})
	}
}

// asking is a request that waits for a code, and whose client shows a prompt.
func (h *house) asking(t *testing.T) line {
	t.Helper()
	l := connect(t, h.path)
	l.send(t, wire.Request{Verb: wire.Get, Profile: "typed", CanAsk: true})
	if r := l.read(t); r.Prompt == nil {
		t.Fatalf("no prompt: %+v", r)
	}
	return l
}

// TestPromptsEndWithLock: a lock removes an open prompt, and its request is refused.
func TestPromptsEndWithLock(t *testing.T) {
	h := start(t)
	l := h.asking(t)
	if r := h.ask(t, wire.Request{Verb: wire.Lock}); r.Err != nil {
		t.Fatal(r.Err)
	}
	refused(t, "get", l.read(t))
	until(t, "nobody is asked any more", func() bool { return len(h.Broker.Waiting()) == 0 })
	// A code that was typed too late is not used.
	if opened, _ := h.aws.calls(); opened != 0 {
		t.Errorf("AWS was asked %d times", opened)
	}
}

// TestPromptsEndWithLockAfterUnlock: an unlock of an unlocked daemon does not hide open prompts from the next
// lock. Seen to fail if Unlock does anything in that case.
func TestPromptsEndWithLockAfterUnlock(t *testing.T) {
	h := start(t)
	l := h.asking(t)
	for _, verb := range []string{wire.Unlock, wire.Lock} {
		if r := h.ask(t, wire.Request{Verb: verb}); r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	refused(t, "get", l.read(t))
	until(t, "nobody is asked any more", func() bool { return len(h.Broker.Waiting()) == 0 })
}

// TestLockEmptiesCommandFiles: a lock removes the session from the files of a running command until the unlock, and
// keeps the record of their owner.
func TestLockEmptiesCommandFiles(t *testing.T) {
	dir := t.TempDir()
	h := build(t, dir, registry)
	own := filepath.Join(dir, "credentials")
	h.Files.Credentials = own
	h.run(t)
	if err := os.WriteFile(own, []byte("[mine]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	resp := h.ask(t, wire.Request{Verb: wire.PrivateFiles, Profile: "dev", AWSCredentials: own})
	if resp.Err != nil {
		t.Fatal(resp.Err)
	}
	file := resp.Files.Credentials
	becomes(t, file, sessionToken, true)
	h.ask(t, wire.Request{Verb: wire.Lock})
	gone := func() {
		t.Helper()
		for path, want := range map[string]bool{file: false, filepath.Join(filepath.Dir(file), "owner.json"): true} {
			if _, err := os.Lstat(path); (err == nil) != want {
				t.Errorf("%s: %v", path, err)
			}
		}
	}
	gone()
	// A change of the original file does not bring the session back, but an unlock does.
	if err := os.WriteFile(own, []byte("[mine]\n[more]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	h.looked(t)
	gone()
	h.ask(t, wire.Request{Verb: wire.Unlock})
	becomes(t, file, sessionToken, true)
	becomes(t, file, "[more]", true)
	// Within the command, our own programs still find their files.
	if r := h.ask(t, wire.Request{Verb: wire.Publish, Profile: "dev", AWSCredentials: file}); r.Err != nil ||
		r.Status.Published[0].File != own {
		t.Errorf("%+v", r)
	}
	// Files left by a daemon that was killed before it could clean up.
	record, err := os.ReadFile(h.record(t))
	if err != nil {
		t.Fatal(err)
	}
	path := h.record(t)
	h.ask(t, wire.Request{Verb: wire.Lock})
	h.stop()
	h.ended <- <-h.ended
	if err := os.WriteFile(path, record, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("[dev]\naws_session_token = "+sessionToken+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	build(t, dir, registry).run(t)
	gone()
}

// TestLockWhileCommandFilesAreWritten: a lock that comes while the files of a command are written is answered once
// they hold no session. Seen to fail without the gate in Shut.
func TestLockWhileCommandFilesAreWritten(t *testing.T) {
	h := start(t)
	locked := make(chan wire.Response, 1)
	h.trail.before = func(e audit.Event) {
		if e.Event == "given" {
			l := connect(t, h.path)
			l.send(t, wire.Request{Verb: wire.Lock})
			go func() { locked <- l.read(t) }()
			until(t, "the lock is on its way", h.Broker.Locked)
		}
	}
	resp := h.ask(t, wire.Request{Verb: wire.PrivateFiles, Profile: "dev"})
	if resp.Err != nil {
		t.Fatal("the test proves nothing: ", resp.Err)
	}
	if r := <-locked; r.Err != nil {
		t.Error(r.Err)
	}
	if found, _ := filepath.Glob(filepath.Join(h.CommandsDir, "*", "credentials")); len(found) > 0 {
		t.Errorf("locked, but the files contain %s", found)
	}
}

// TestCommandFilesDoNotWaitForPublishing: a shared file that is busy does not keep a session in the files of a
// command. Seen to fail if Shut begins with the gate.
func TestCommandFilesDoNotWaitForPublishing(t *testing.T) {
	h := lockHouse(t, t.TempDir()).run(t)
	resp := h.ask(t, wire.Request{Verb: wire.PrivateFiles, Profile: "dev"})
	if resp.Err != nil {
		t.Fatal(resp.Err)
	}
	dir, err := os.Open(filepath.Dir(h.Files.Credentials))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = dir.Close() }()
	if err := system.TryLock(dir); err != nil { // like another program that edits the file
		t.Fatal(err)
	}
	publish, lock := connect(t, h.path), connect(t, h.path)
	publish.send(t, wire.Request{Verb: wire.Publish, Profile: "dev"})
	until(t, "it waits for the file", func() bool {
		return slices.ContainsFunc(h.trail.all(), func(e audit.Event) bool { return e.Event == "published" })
	})
	lock.send(t, wire.Request{Verb: wire.Lock})
	until(t, "the session leaves the files of the command", func() bool {
		_, err := os.Lstat(resp.Files.Credentials)
		return errors.Is(err, os.ErrNotExist)
	})
	_ = dir.Close()
	if r := lock.read(t); r.Err != nil {
		t.Error(r.Err)
	}
	if text, err := os.ReadFile(h.Files.Credentials); err == nil && leaks(string(text)) {
		t.Errorf("the shared file has %s", text)
	}
}

// TestLockBesideFifo: a lock empties the files of a command whose original became a FIFO without a writer. Seen to
// hang if the original is opened like a regular file.
func TestLockBesideFifo(t *testing.T) {
	dir := t.TempDir()
	h := build(t, dir, registry)
	own := filepath.Join(dir, "credentials")
	h.Files.Credentials = own
	h.run(t)
	if err := os.WriteFile(own, []byte("[mine]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	resp := h.ask(t, wire.Request{Verb: wire.PrivateFiles, Profile: "dev", AWSCredentials: own})
	if resp.Err != nil {
		t.Fatal(resp.Err)
	}
	if err := errors.Join(os.Remove(own), syscall.Mkfifo(own, 0o600)); err != nil {
		t.Fatal(err)
	}
	h.looked(t)
	if r := h.ask(t, wire.Request{Verb: wire.Lock}); r.Err != nil {
		t.Error(r.Err)
	}
	if _, err := os.Lstat(resp.Files.Credentials); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the session is still there: %v", err)
	}
}

// TestLockAfterSleep: sleep counts as time without use, whatever the wall clock was set to. The first request
// after it is refused.
func TestLockAfterSleep(t *testing.T) {
	h := build(t, t.TempDir(), "[settings]\nlock_after = 1h\n"+registry)
	var slept atomic.Int64
	began := time.Now()
	h.BootTime = func() time.Duration { return time.Since(began) + time.Duration(slept.Load()) }
	h.run(t)
	if r := h.get(t, "dev"); r.Err != nil {
		t.Fatal(r.Err)
	}
	h.lockIfUnused() // sees the use
	slept.Store(int64(50 * time.Minute))
	if r := h.get(t, "dev"); r.Err != nil {
		t.Fatalf("before lock_after: %v", r.Err)
	}
	h.grants.LastUse.Store(time.Now().Add(24 * time.Hour).Unix()) // the wall clock was a day ahead, and was corrected
	h.lockIfUnused()
	slept.Store(int64(111 * time.Minute))
	refused(t, "the first request", h.get(t, "dev"))
	e := h.trail.all()
	if i := slices.IndexFunc(e, func(e audit.Event) bool { return e.Event == "lock" }); i < 0 || e[i].Reason != "unused" ||
		!strings.Contains(e[i].Message, "1h1m") {
		t.Errorf("%+v", e)
	}
}

// TestBrokenSettings: unreadable settings do not turn lock_after off.
func TestBrokenSettings(t *testing.T) {
	h := build(t, t.TempDir(), "[settings]\nlock_after = 1h\n"+registry).run(t)
	if err := os.WriteFile(h.Files.Registry, []byte("[settings]\nlock_after = soon\n"+registry), 0o600); err != nil {
		t.Fatal(err)
	}
	until(t, "it is seen", func() bool {
		set, err := h.Store.Load(h.Files)
		if err == nil {
			_, err = set.Settings()
		}
		return err != nil
	})
	h.followSettings(t.Context())
	h.grants.LastUse.Store(time.Now().Add(-2 * time.Hour).Unix())
	refused(t, "get", h.get(t, "dev"))
}

// TestLockOn: the events of the current settings are watched, and none if the settings name none.
func TestLockOn(t *testing.T) {
	h := build(t, t.TempDir(), registry)
	type watch struct {
		on      string
		lock    func(string)
		trouble func(error)
		ctx     context.Context
	}
	watches := make(chan watch, 10)
	h.Events = func(ctx context.Context, on []string, lock func(string), trouble func(error)) {
		watches <- watch{strings.Join(on, ","), lock, trouble, ctx}
		<-ctx.Done()
	}
	h.run(t)
	set := func(line string) {
		t.Helper()
		if err := os.WriteFile(h.Files.Registry, []byte("[settings]\n"+line+"\n"+registry), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	set("# nothing is watched while it says nothing")
	set("lock_on = suspend")
	w := <-watches
	if w.on != "suspend" {
		t.Fatalf("watches %q", w.on)
	}
	w.trouble(errors.New("there is no bus"))
	if s := h.ask(t, wire.Request{Verb: wire.State}).Status; len(s.Warnings) != 1 || s.Warnings[0] != "lock_on does not work: there is no bus" {
		t.Errorf("%q", s.Warnings)
	}
	w.trouble(nil)
	if r := h.get(t, "dev"); r.Err != nil {
		t.Fatal(r.Err)
	}
	w.lock("suspend")
	refused(t, "get", h.get(t, "dev"))
	w.lock("suspend") // already locked
	h.ask(t, wire.Request{Verb: wire.Unlock})
	set("lock_on = suspend, screen")
	next := <-watches
	if next.on != "suspend,screen" {
		t.Fatalf("watches %q", next.on)
	}
	<-w.ctx.Done()
	next.lock("screen")
	refused(t, "get", h.get(t, "dev"))
	set("")
	<-next.ctx.Done()
	if s := h.ask(t, wire.Request{Verb: wire.State}).Status; len(s.Warnings) != 0 {
		t.Errorf("%q", s.Warnings)
	}
	var got []string
	for _, e := range h.trail.all() {
		if e.Event == "lock" {
			got = append(got, fmt.Sprint(e.Reason, " ", e.UID == os.Getuid(), e.PID == os.Getpid()))
		}
	}
	if strings.Join(got, ", ") != "suspend true true, screen true true" || len(watches) > 0 {
		t.Errorf("locked for %q", got)
	}
}

// TestOthersLock: a daemon follows the lock of another daemon of its home, and the other waits for that. An unlock
// at one does not unlock the other, and a passphrase that the other set is asked for.
func TestOthersLock(t *testing.T) {
	file := filepath.Join(t.TempDir(), "lock.json")
	first, second := build(t, t.TempDir(), registry), build(t, t.TempDir(), registry)
	first.LockFile, second.LockFile = lockfile.New(file), lockfile.New(file)
	first.run(t)
	second.run(t)
	if r := second.get(t, "dev"); r.Err != nil {
		t.Fatal(r.Err)
	}
	stretch := cheap()
	proof := stretch.Proof(secret.New("open sesame"))
	v := stretch.Verifier(proof)
	verifier := &wire.Verifier{Stretch: wire.Stretch(v.Stretch), Sum: v.Sum}
	if r := first.ask(t, wire.Request{Verb: wire.Passphrase, Verifier: verifier}); r.Err != nil {
		t.Fatal(r.Err)
	}
	if r := first.ask(t, wire.Request{Verb: wire.Lock}); r.Err != nil {
		t.Fatal(r.Err)
	}
	if !second.Broker.Locked() || len(second.Broker.Held()) > 0 {
		t.Error("the lock was answered before the other daemon had locked")
	}
	refused(t, "get", second.get(t, "dev"))
	refused(t, "unlock", second.ask(t, wire.Request{Verb: wire.Unlock}))
	if r := second.ask(t, wire.Request{Verb: wire.Unlock, Proof: proof}); r.Err != nil {
		t.Fatal(r.Err)
	}
	if r := second.get(t, "dev"); r.Err != nil {
		t.Error(r.Err)
	}
	refused(t, "get of the first", first.get(t, "dev"))
	if r := first.ask(t, wire.Request{Verb: wire.Unlock, Proof: proof}); r.Err != nil {
		t.Fatal(r.Err)
	}
	// Until the daemon has noticed the lock, the file refuses its requests, including unlock.
	if err := os.WriteFile(file, []byte(`{"version":1,"locked":true}`), 0o600); err != nil {
		t.Fatal(err)
	}
	refused(t, "get beside the file", first.get(t, "dev"))
	if err := second.LockFile.SetPassphrase(proof, v); err != nil || !lockfile.Peek(file) {
		t.Errorf("the lock of the other daemon was lost: %v", err)
	}
}

// TestOtherThatDoesNotLock: the caller is told of a daemon that does not lock in time.
func TestOtherThatDoesNotLock(t *testing.T) {
	file := filepath.Join(t.TempDir(), "lock.json")
	h := build(t, t.TempDir(), registry)
	h.LockFile = lockfile.New(file)
	h.run(t)
	attends := lockfile.New(file).Attend()
	if attends == nil {
		t.Fatal("Attend failed")
	}
	defer func() { _ = attends.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := lockfile.New(file).AwaitOthers(ctx); !fault.Is(err, fault.Failed) ||
		!strings.Contains(err.Error(), "another of your daemons") {
		t.Errorf("got %v", err)
	}
	r := h.ask(t, wire.Request{Verb: wire.Lock})
	if r.Err == nil || !strings.Contains(r.Err.Message, "Broker is locked, but another of your daemons") {
		t.Errorf("%+v", r)
	}
	refused(t, "get", h.get(t, "dev"))
}

// TestUnlockThatCannotBeKept: an unlock that cannot be saved is refused, and the lock stays.
func TestUnlockThatCannotBeKept(t *testing.T) {
	state := filepath.Join(t.TempDir(), "state")
	if err := os.Mkdir(state, 0o700); err != nil {
		t.Fatal(err)
	}
	h := build(t, t.TempDir(), registry)
	h.LockFile = lockfile.New(filepath.Join(state, "lock.json"))
	h.run(t)
	stretch := cheap()
	proof := stretch.Proof(secret.New("open sesame"))
	if err := h.LockFile.SetPassphrase(secret.String{}, stretch.Verifier(proof)); err != nil {
		t.Fatal(err)
	}
	if r := h.ask(t, wire.Request{Verb: wire.Lock}); r.Err != nil {
		t.Fatal(r.Err)
	}
	if err := os.Rename(state, state+".away"); err != nil {
		t.Fatal(err)
	}
	if r := h.ask(t, wire.Request{Verb: wire.Unlock, Proof: proof}); r.Err == nil {
		t.Errorf("%+v", r)
	}
	refused(t, "get", h.get(t, "dev"))
	if err := os.Rename(state+".away", state); err != nil {
		t.Fatal(err)
	}
	if r := h.ask(t, wire.Request{Verb: wire.Unlock, Proof: proof}); r.Err != nil {
		t.Error(r.Err)
	}
	if r := h.get(t, "dev"); r.Err != nil {
		t.Error(r.Err)
	}
}
