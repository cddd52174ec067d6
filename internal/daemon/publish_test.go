//go:build linux

package daemon

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"broker/internal/fault"
	"broker/internal/peer"
	"broker/internal/secret"
	"broker/internal/wire"
)

// publishingHouse is a daemon whose registry keeps profiles published, with its credentials file.
func publishingHouse(t *testing.T, more string) (h *house, file string) {
	t.Helper()
	dir := t.TempDir()
	h = build(t, dir, registry+more)
	file = filepath.Join(dir, "credentials")
	h.Files.Credentials = file
	return h, file
}

const standing = "publish = true\n" // for the last profile

func (h *house) publishes(t *testing.T, profile, file string) wire.Response {
	t.Helper()
	return h.ask(t, wire.Request{Verb: wire.Publish, Profile: profile, AWSCredentials: file})
}

// becomes waits until a file contains a text, or no longer contains it.
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

// TestNothingIsPublishedAfter: a session that was on its way at a lock, or at a logout of its source, is never
// published.
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
					t.Fatal("the write was never tried")
				}
			}
			if resp := h.ask(t, wire.Request{Verb: verb}); resp.Err != nil {
				t.Fatal(resp.Err)
			}
			h.aws.set(func(a *aws) { a.gate = nil })
			close(gate)
			h.looked(t)
			if text, err := os.ReadFile(file); err == nil && len(text) > 0 {
				t.Errorf("published nevertheless:\n%s", text)
			}
			// Until it is asked for again.
			h.ask(t, wire.Request{Verb: wire.Unlock})
			if resp := h.ask(t, wire.Request{Verb: wire.Login, Profile: "security"}); resp.Err != nil {
				t.Fatal(resp.Err)
			}
			becomes(t, file, "[always]", true)
			h.stop()
			becomes(t, file, "[always]", false)
		})
	}
}

// TestPublishedStaysBehind: if a session cannot be removed from the file, the lock says so and still locks.
// Removal is retried until it works.
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
	if resp.Err == nil || !strings.Contains(resp.Err.Message, "could not be removed") ||
		string(resp.Err.Hint) != "ls -ld "+file || !h.Broker.Locked() {
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
		t.Errorf("again: %+v", resp)
	}
}

// TestPublishedNeedsACode: nobody is prompted in the background; the profile is published after a login.
func TestPublishedNeedsACode(t *testing.T) {
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

// TestCommandFiles: the files of a living process are kept and replace the originals. All other such files are
// removed, also at the start.
func TestCommandFiles(t *testing.T) {
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
		d := filepath.Join(h.CommandsDir, name)
		if err := os.MkdirAll(d, 0o700); err != nil {
			t.Fatal(err)
		}
		for file, text := range map[string]string{"owner.json": text, "credentials": "[dev]\n"} {
			if err := os.WriteFile(filepath.Join(d, file), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return d
	}
	as := func(version, pid int, start string) string {
		return fmt.Sprintf(`{"version": %d, "pid": %d, "start": %q, "aws_config_file": "", "aws_shared_credentials_file": ""}`,
			version, pid, start)
	}
	gone := []string{left("exec-1", as(0, self.PID, "1")),
		left("exec-2", as(1, 1<<30, self.Start))}
	foreign := []string{left("exec-3", ""), left("exec-4", as(1, -1, "")),
		left("exec-6", as(2, 1<<30, self.Start)),
		left("exec-x", as(1, 1<<30, self.Start))}
	own := filepath.Join(dir, "own")
	kept := left("exec-5", fmt.Sprintf(
		`{"version": 1, "pid": %d, "start": %q, "aws_config_file": "", "aws_shared_credentials_file": %q, "profiles": ["dev"]}`,
		self.PID, self.Start, own)) // in the formats of all versions
	h.run(t)
	for _, d := range gone {
		if _, err := os.Stat(d); err == nil {
			t.Errorf("%s still exists", d)
		}
	}
	for _, d := range foreign {
		if _, err := os.Stat(filepath.Join(d, "credentials")); err != nil {
			t.Error(err)
		}
	}
	becomes(t, filepath.Join(kept, "credentials"), sessionToken, true) // it is refreshed
	if resp := h.ask(t, wire.Request{Verb: wire.Get, Profile: "dev", AWSCredentials: filepath.Join(kept, "credentials")}); resp.Err != nil {
		t.Error(resp.Err)
	}

	defer syscall.Umask(syscall.Umask(0))
	if err := os.WriteFile(own, []byte("[mine]\nregion = x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	resp := h.ask(t, wire.Request{Verb: wire.PrivateFiles, Profile: "d", AWSCredentials: own})
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
	for path, want := range map[string]os.FileMode{resp.Files.Credentials: 0o600,
		filepath.Dir(resp.Files.Credentials): 0o700 | os.ModeDir, h.CommandsDir: 0o700 | os.ModeDir} {
		if info, err := os.Stat(path); err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
	// Several profiles: each has its own name and session. The grant expires with the first of them.
	both := h.ask(t, wire.Request{Verb: wire.PrivateFiles, Profile: "d", Also: []string{"security"}, AWSCredentials: own})
	if both.Err != nil || strings.Join(both.Files.Profiles, " ") != "dev security" || both.Files.Profile != "dev" ||
		!both.Files.Expires.Equal(resp.Files.Expires) {
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
	// One profile is refused: no file is written, nothing counts as given, and the error names the profile.
	made, err := os.ReadDir(h.CommandsDir)
	if err != nil {
		t.Fatal(err)
	}
	given := len(h.trail.all())
	if resp := h.ask(t, wire.Request{Verb: wire.PrivateFiles, Profile: "dev", Also: []string{"denied"}}); resp.Err == nil ||
		resp.Files != nil ||
		!strings.HasPrefix(resp.Err.Message, "denied: ") {
		t.Errorf("%+v", resp)
	}
	if after, err := os.ReadDir(h.CommandsDir); err != nil || len(after) != len(made) {
		t.Errorf("%d directories, %d before, %v", len(after), len(made), err)
	}
	if events := h.trail.all()[given:]; len(events) != 1 || events[0].Event != "refused" || events[0].Profile != "denied" {
		t.Errorf("%+v", events)
	}
	// Changes that the user makes meanwhile appear too.
	if err := os.WriteFile(own, []byte("[later]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	becomes(t, resp.Files.Credentials, "[later]", true)
	becomes(t, resp.Files.Credentials, "[dev]", true)
	for _, refused := range []wire.Request{
		{Verb: wire.PrivateFiles, Profile: "denied"},
		{Verb: wire.PrivateFiles, Profile: "nobody"},
		{Verb: wire.PrivateFiles, Profile: "security", Role: &wire.Role{ARN: "arn:aws:iam::444455556666:role/x"}},
	} {
		if resp := h.ask(t, refused); resp.Err == nil || resp.Err.Kind == fault.Internal {
			t.Errorf("%+v: %+v", refused, resp)
		}
	}
	// A directory that others can enter is refused.
	if err := os.Chmod(h.CommandsDir, 0o755); err != nil {
		t.Fatal(err)
	}
	if resp := h.ask(t, wire.Request{Verb: wire.PrivateFiles, Profile: "dev"}); resp.Err == nil {
		t.Error("files were written to a directory that others can read")
	}
	if resp := h.ask(t, wire.Request{Verb: wire.State}); strings.Contains(fmt.Sprintf("%+v", resp), sessionToken) {
		t.Error("status contains a token")
	}
}

// TestRecordIsKept: without its record, the next daemon would take a section of Broker for the user's own.
func TestRecordIsKept(t *testing.T) {
	h, file := publishingHouse(t, "")
	h.run(t)
	if resp := h.publishes(t, "dev", file); resp.Err != nil {
		t.Fatal(resp.Err)
	}
	becomes(t, file, sessionToken, true)
	path := h.record(t)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	becomes(t, path, `"keys":["ASIA`, true)
}

// TestManyPublished: however many profiles are kept published, status and unpublish answer, and status shows
// sessions.
func TestManyPublished(t *testing.T) {
	const n = 400
	var more strings.Builder
	for i := range n {
		fmt.Fprintf(&more, "\n[profile %s%d]\nrole_arn = arn:aws:iam::444455556666:role/r\nsource_profile = typed\n%s",
			strings.Repeat("p", 100), i, standing)
	}
	h, _ := publishingHouse(t, more.String())
	h.run(t)
	h.get(t, "dev")
	until(t, "all sections are known", func() bool { return len(h.grants.Published()) == n })
	r := h.ask(t, wire.Request{Verb: wire.State})
	if r.Err != nil {
		t.Fatal(r.Err)
	}
	if s := r.Status; len(s.Published) == 0 || len(s.Sessions) == 0 ||
		!strings.Contains(strings.Join(s.Warnings, "\n"), fmt.Sprintf("%d more profiles", n-len(s.Published))) {
		t.Errorf("%d sections, %d sessions, warnings %q", len(s.Published), len(s.Sessions), s.Warnings)
	}
	if r := h.ask(t, wire.Request{Verb: wire.Unpublish}); r.Err != nil || len(r.Warnings) != 1 {
		t.Errorf("unpublish: %v, warnings %q", r.Err, r.Warnings)
	}
}
