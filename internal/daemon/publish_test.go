//go:build linux

package daemon

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"broker/internal/fault"
	"broker/internal/paths"
	"broker/internal/peer"
	"broker/internal/profiles"
	"broker/internal/secret"
	"broker/internal/session"
	"broker/internal/wire"
)

// publishingHouse is a daemon whose registry names profiles to keep published, and its credentials file.
func publishingHouse(t *testing.T, more string) (h *house, file string) {
	t.Helper()
	dir := t.TempDir()
	h = build(t, dir, registry+more)
	file = filepath.Join(dir, "credentials")
	h.Files.Credentials = file
	return h, file
}

// always is a profile for standing to follow.
const always = `
[profile always]
role_arn = arn:aws:iam::444455556666:role/always
source_profile = security
`

const standing = "publish = true\n" // of the last profile

func (h *house) publishes(t *testing.T, profile, file string) wire.Response {
	t.Helper()
	return h.ask(t, wire.Request{Verb: wire.Publish, Profile: profile, AWSCredentials: file})
}

// becomes waits until a file has a text, or has it no more.
func becomes(t *testing.T, file, text string, want bool) {
	t.Helper()
	for limit := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		got, err := os.ReadFile(file)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		if strings.Contains(string(got), text) == want {
			return
		}
		if time.Now().After(limit) {
			t.Fatalf("%q in the file is not %v:\n%s", text, want, got)
		}
	}
}

// TestNothingIsPublishedAfter: what was on its way when the broker was locked, or the source logged out, never arrives.
func TestNothingIsPublishedAfter(t *testing.T) {
	for _, verb := range []string{wire.Lock, wire.Logout} {
		t.Run(verb, func(t *testing.T) {
			h, file := publishingHouse(t, "\n[profile always]\nrole_arn = arn:aws:iam::444455556666:role/always\nsource_profile = security\n"+standing)
			gate := make(chan struct{})
			h.aws.set(func(a *aws) { a.gate = gate })
			h.run(t)
			for limit := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
				if _, assumed := h.aws.calls(); assumed > 0 {
					break
				}
				if time.Now().After(limit) {
					t.Fatal("it was never tried")
				}
			}
			if resp := h.ask(t, wire.Request{Verb: verb}); resp.Err != nil {
				t.Fatal(resp.Err)
			}
			h.aws.set(func(a *aws) { a.gate = nil })
			close(gate)
			time.Sleep(3 * publishLook / 2) // it would be there by now
			if text, err := os.ReadFile(file); err == nil && len(text) > 0 {
				t.Errorf("published all the same:\n%s", text)
			}
			// Until somebody wants it again.
			h.ask(t, wire.Request{Verb: wire.Unlock})
			if resp := h.get(t, "dev"); resp.Err != nil {
				t.Fatal(resp.Err)
			}
			becomes(t, file, "[always]", true)
			h.stop()
			becomes(t, file, "[always]", false)
		})
	}
}

// TestPublishedStaysBehind: where a session cannot be taken out that is said, it is locked all the same, and it is tried until it can.
func TestPublishedStaysBehind(t *testing.T) {
	h, file := publishingHouse(t, "")
	h.run(t)
	if err := os.WriteFile(file, []byte("[mine]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if resp := h.publishes(t, "dev", file); resp.Err != nil || len(resp.Status.Published) != 1 {
		t.Fatalf("%+v", resp)
	}
	becomes(t, file, sessionToken, true)
	if err := os.Chmod(file, 0o400); err != nil {
		t.Fatal(err)
	}
	resp := h.ask(t, wire.Request{Verb: wire.Lock})
	if resp.Err == nil || !strings.Contains(resp.Err.Message, "still in the file") ||
		string(resp.Err.Hint) != "chmod u+w "+file || !h.Broker.Locked() {
		t.Errorf("%+v", resp)
	}
	if err := os.Chmod(file, 0o600); err != nil {
		t.Fatal(err)
	}
	becomes(t, file, sessionToken, false)
	if text, _ := os.ReadFile(file); string(text) != "[mine]\n" {
		t.Errorf("%q", text)
	}
	if resp := h.ask(t, wire.Request{Verb: wire.Lock}); resp.Err != nil {
		t.Errorf("once more: %+v", resp)
	}
}

// TestPublishedWantsACode: nobody is asked for one in the background; it is published when somebody logged in.
func TestPublishedWantsACode(t *testing.T) {
	h, file := publishingHouse(t, "\n[profile always]\nrole_arn = arn:aws:iam::444455556666:role/always\nsource_profile = typed\n"+standing)
	h.run(t)
	for limit := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		list := h.ask(t, wire.Request{Verb: wire.State}).Status.Published
		if len(list) == 1 &&
			(strings.Contains(list[0].Error, "needs a code") || strings.Contains(list[0].Error, "a code is needed")) {
			break
		}
		if time.Now().After(limit) {
			t.Fatalf("%+v", list)
		}
	}
	if resp := h.ask(t, wire.Request{Verb: wire.Login, Profile: "typed", Code: secret.New(code)}); resp.Err != nil {
		t.Fatal(resp.Err)
	}
	becomes(t, file, "[always]", true)
}

// TestTakenOutOutlivesARewrite: what was unpublished, or whose source was logged out, is not published again because an
// editor empties the registry before it writes it. Seen to fail where the line takes the entry with it.
func TestTakenOutOutlivesARewrite(t *testing.T) {
	for _, verb := range []string{wire.Unpublish, wire.Logout} {
		t.Run(verb, func(t *testing.T) {
			h, file := publishingHouse(t, always+standing)
			h.run(t)
			becomes(t, file, "[always]", true)
			if r := h.ask(t, wire.Request{Verb: verb}); r.Err != nil {
				t.Fatal(r.Err)
			}
			entry := func() (e entry) {
				h.publishing.rouse() // need not wait a second
				h.publishing.mu.Lock()
				defer h.publishing.mu.Unlock()
				if p := h.publishing.entries[place{file, "always"}]; p != nil {
					return *p
				}
				return entry{gone: true}
			}
			write := func(text string) {
				if err := os.WriteFile(h.Files.Registry, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			write("")
			until(t, "the daemon has seen it empty", func() bool { return entry().gone })
			if list := h.ask(t, wire.Request{Verb: wire.State}).Status.Published; len(list) > 0 {
				t.Errorf("status lists %+v", list)
			}
			write(registry + always + standing)
			until(t, "the daemon has seen it whole", func() bool { return !entry().gone })
			if e := entry(); e.wanted(time.Now()) {
				t.Errorf("it is to be published: %+v", e)
			}
			// It is not forbidden for that: also while no line names it, and then for as long as is said.
			write(registry + always)
			until(t, "the daemon has seen it without the line", func() bool { return entry().gone })
			if r := h.publishes(t, "always", file); r.Err != nil || r.Status.Published[0].Until == nil {
				t.Errorf("%+v", r)
			}
			becomes(t, file, "[always]", true)
			if e := entry(); e.gone || !e.wanted(time.Now()) {
				t.Errorf("it was published by hand: %+v", e)
			}
		})
	}
}

// TestTakeOverBesideDamagedNote: what is not to be published is told by the daemon before, whatever the note says. Seen
// to fail where a damaged note ends the inheritance.
func TestTakeOverBesideDamagedNote(t *testing.T) {
	h, file := publishingHouse(t, always+standing)
	h.run(t)
	becomes(t, file, "[always]", true)
	if r := h.ask(t, wire.Request{Verb: wire.Unpublish}); r.Err != nil {
		t.Fatal(r.Err)
	}
	left, _, err := TakeOver(t.Context(), paths.Paths{Socket: h.path}, "test")
	if err != nil {
		t.Fatal(err)
	}
	n := build(t, filepath.Dir(file), registry+always+standing)
	n.Files.Credentials, n.Listener, n.Heritage = file, left.Listener, left
	if err := os.WriteFile(n.Published, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	n.run(t)
	n.publishing.round(t.Context())
	if list := n.ask(t, wire.Request{Verb: wire.State}).Status.Published; len(list) > 0 {
		t.Errorf("published again: %+v", list)
	}
}

// TestOverlays: files of a process that lives are kept and stand for the originals; all others go, at the start too.
func TestOverlays(t *testing.T) {
	dir := t.TempDir()
	h := build(t, dir, registry+"\n[alias]\nd = dev\n")
	self, err := peer.Find(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "run"), 0o700); err != nil {
		t.Fatal(err)
	}
	left := func(name string, text string) string {
		d := filepath.Join(h.Overlays, name)
		if err := os.MkdirAll(d, 0o700); err != nil {
			t.Fatal(err)
		}
		for file, text := range map[string]string{ownerFile: text, credentialsFile: "[dev]\n"} {
			if err := os.WriteFile(filepath.Join(d, file), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return d
	}
	as := func(o owner) string { b, _ := json.Marshal(o); return string(b) }
	gone := []string{left("exec-1", as(owner{Process: peer.Process{PID: self.PID, Start: "1"}})),
		left("exec-2", as(owner{Version: 1, Process: peer.Process{PID: 1 << 30, Start: self.Start}}))}
	foreign := []string{left("exec-3", ""), left("exec-4", as(owner{Version: 1, Process: peer.Process{PID: -1}})),
		left("exec-6", as(owner{Version: 2, Process: peer.Process{PID: 1 << 30, Start: self.Start}})),
		left("exec-x", as(owner{Version: 1, Process: peer.Process{PID: 1 << 30, Start: self.Start}}))}
	own := filepath.Join(dir, "own")
	kept := left("exec-5", fmt.Sprintf(
		`{"version": 1, "pid": %d, "start": %q, "aws_config_file": "", "aws_shared_credentials_file": %q}`,
		self.PID, self.Start, own)) // as each version has written it
	h.run(t)
	for _, d := range gone {
		if _, err := os.Stat(d); err == nil {
			t.Errorf("%s is still there", d)
		}
	}
	for _, d := range append(foreign, kept) {
		if _, err := os.Stat(filepath.Join(d, credentialsFile)); err != nil {
			t.Error(err)
		}
	}
	if resp := h.ask(t, wire.Request{Verb: wire.Get, Profile: "dev", AWSCredentials: filepath.Join(kept, credentialsFile)}); resp.Err != nil {
		t.Error(resp.Err)
	}

	defer syscall.Umask(syscall.Umask(0))
	if err := os.WriteFile(own, []byte("[mine]\nregion = x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	resp := h.ask(t, wire.Request{Verb: wire.Overlay, Profile: "d", AWSCredentials: own})
	if resp.Err != nil || resp.Files.Profile != "dev" || resp.Credential != nil {
		t.Fatalf("%+v", resp)
	}
	text, err := os.ReadFile(resp.Files.Credentials)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"[mine]\nregion = x\n", "[dev]\naws_access_key_id = ASIA", "[d]\naws_access_key_id = ASIA", sessionToken} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	for path, want := range map[string]os.FileMode{resp.Files.Credentials: 0o600, filepath.Dir(resp.Files.Credentials): 0o700 | os.ModeDir, h.Overlays: 0o700 | os.ModeDir} {
		if info, err := os.Stat(path); err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
	// Several: each under its own name and with its own session; it ends when the first of them does.
	both := h.ask(t, wire.Request{Verb: wire.Overlay, Profile: "d", Also: []string{"security"}, AWSCredentials: own})
	if both.Err != nil || strings.Join(both.Files.Profiles, " ") != "dev security" || both.Files.Profile != "dev" || !both.Files.Expires.Equal(resp.Files.Expires) {
		t.Fatalf("%+v", both)
	}
	text, err = os.ReadFile(both.Files.Credentials)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"[mine]\nregion = x\n", "[dev]\naws_access_key_id = ASIA", "[d]\naws_access_key_id = ASIA", "[security]\naws_access_key_id = ASIA"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	// One that is refused: nothing is made, nothing counts as given, and the error says which.
	made, err := os.ReadDir(h.Overlays)
	if err != nil {
		t.Fatal(err)
	}
	given := len(h.trail.all())
	if resp := h.ask(t, wire.Request{Verb: wire.Overlay, Profile: "dev", Also: []string{"denied"}}); resp.Err == nil || resp.Files != nil || !strings.HasPrefix(resp.Err.Message, "denied: ") {
		t.Errorf("%+v", resp)
	}
	if after, err := os.ReadDir(h.Overlays); err != nil || len(after) != len(made) {
		t.Errorf("%d directories, %d before, %v", len(after), len(made), err)
	}
	if events := h.trail.all()[given:]; len(events) != 1 || events[0].Event != "refused" || events[0].Profile != "denied" {
		t.Errorf("%+v", events)
	}
	// What the person changes meanwhile is there, too.
	if err := os.WriteFile(own, []byte("[later]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	becomes(t, resp.Files.Credentials, "[later]", true)
	becomes(t, resp.Files.Credentials, "[dev]", true)
	for _, refused := range []wire.Request{
		{Verb: wire.Overlay, Profile: "denied"},
		{Verb: wire.Overlay, Profile: "nobody"},
		{Verb: wire.Overlay, Profile: "security", Role: &wire.Role{ARN: "arn:aws:iam::444455556666:role/x"}},
	} {
		if resp := h.ask(t, refused); resp.Err == nil || resp.Err.Kind == fault.Internal {
			t.Errorf("%+v: %+v", refused, resp)
		}
	}
	// A directory that others can enter is no place for it.
	if err := os.Chmod(h.Overlays, 0o755); err != nil {
		t.Fatal(err)
	}
	if resp := h.ask(t, wire.Request{Verb: wire.Overlay, Profile: "dev"}); resp.Err == nil {
		t.Error("made in a directory that others can read")
	}
	if resp := h.ask(t, wire.Request{Verb: wire.State}); strings.Contains(fmt.Sprintf("%+v", resp), sessionToken) {
		t.Error("a token in the status")
	}
}

// TestOverlayRemovedWhileWritten: the copies may be brought up to date at the moment in which their command ends. Seen to leave
// directories behind without the mutex.
func TestOverlayRemovedWhileWritten(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run", "overlays")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	original := filepath.Join(dir, "original")
	if err := os.WriteFile(original, []byte("[mine]\nregion = x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	o := newOverlays(dir, slog.New(slog.DiscardHandler))
	for i := range 50 {
		v := &overlay{dir: filepath.Join(dir, fmt.Sprint("exec-", i)), owner: owner{Credentials: original},
			sessions: []profiles.Overlaid{{Names: []string{"dev"}, Session: profiles.Published{AccessKeyID: "ASIA", Secret: secret.New(secretKey), Token: secret.New(sessionToken)}}}}
		if err := os.Mkdir(v.dir, 0o700); err != nil {
			t.Fatal(err)
		}
		var writing sync.WaitGroup
		begun := make(chan struct{})
		writing.Go(func() {
			for n := range 20 {
				if err := v.write(); n == 0 {
					close(begun)
				} else if err != nil {
					return
				}
			}
		})
		<-begun
		o.remove(v)
		writing.Wait()
		if _, err := os.Lstat(v.dir); err == nil {
			t.Fatalf("round %d: the directory is still there", i)
		}
	}
}

// TestNoteIsKept: without its note the next daemon would take a session that we left for the user's.
func TestNoteIsKept(t *testing.T) {
	h, file := publishingHouse(t, "")
	h.run(t)
	if resp := h.publishes(t, "dev", file); resp.Err != nil {
		t.Fatal(resp.Err)
	}
	becomes(t, file, sessionToken, true)
	before, err := os.ReadFile(h.Published)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(h.Published); err != nil {
		t.Fatal(err)
	}
	becomes(t, h.Published, string(before), true)
}

// TestPublishBesideUnpublish: what another client just had taken out is not the user's own section.
func TestPublishBesideUnpublish(t *testing.T) {
	h, file := publishingHouse(t, "")
	p := h.publishing
	one := profiles.Published{Profile: "dev", AccessKeyID: "ASIAIOSFODNN7EXAMPLE", Secret: secret.New(secretKey), Token: secret.New(sessionToken)}
	section, _, err := profiles.SetPublished(nil, func(string, string) bool { return true }, []profiles.Published{one})
	if err != nil {
		t.Fatal(err)
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() { // in and out, as flushLocked has it
		defer close(stopped)
		for {
			for _, text := range [][]byte{section, nil} {
				p.mu.Lock()
				if err := os.WriteFile(file, text, 0o600); err != nil {
					t.Error(err)
				}
				if delete(p.wrote, file); text != nil {
					p.wrote[file] = map[string][]string{"dev": {one.AccessKeyID}}
				}
				p.mu.Unlock()
			}
			select {
			case <-stop:
				return
			default:
			}
		}
	}()
	files := h.Files
	files.Credentials = file
	for range 2000 {
		if err := p.check(file, session.Request{Profile: "dev", Files: files}); err != nil {
			t.Error(err)
			break
		}
	}
	close(stop)
	<-stopped
}

// TestEditorWritesBack: a section that an editor read before a renewal, and wrote back after it, is still ours.
func TestEditorWritesBack(t *testing.T) {
	h, file := publishingHouse(t, "")
	p := h.publishing
	publish := func(id string) {
		t.Helper()
		p.mu.Lock()
		defer p.mu.Unlock()
		p.writeLocked(file, []profiles.Published{{Profile: "dev", AccessKeyID: id, Secret: secret.New(secretKey),
			Token: secret.New(sessionToken)}})
		if f, failed := p.failed[file]; failed {
			t.Fatal(f.err)
		}
	}
	publish("ASIAIOSFODNN7EXAMPL1")
	read, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	publish("ASIAIOSFODNN7EXAMPL2")
	if err := os.WriteFile(file, append(read, "[mine]\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	for i := range 2 * noteIDs {
		publish(fmt.Sprintf("ASIAIOSFODNN7EXAM%03d", i))
	}
	becomes(t, file, fmt.Sprintf("ASIAIOSFODNN7EXAM%03d", 2*noteIDs-1), true)
	if n := len(p.wrote[file]["dev"]); n != noteIDs {
		t.Errorf("%d ids are noted, not %d", n, noteIDs)
	}
	p.mu.Lock()
	p.writeLocked(file, nil)
	p.mu.Unlock()
	if text, err := os.ReadFile(file); err != nil || string(text) != "[mine]\n" {
		t.Errorf("the file is %q, %v", text, err)
	}
}
