//go:build linux

package grant

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"broker/internal/audit"
	"broker/internal/fault"
	"broker/internal/guard"
	"broker/internal/peer"
	"broker/internal/profiles"
	"broker/internal/secret"
	"broker/internal/session"
	"broker/internal/system"
	"broker/internal/testproc"
	"broker/internal/wire"
)

func TestMain(m *testing.M) { os.Exit(testproc.Run(m)) }

const (
	registry = `[source security]
access_key_id = AKIAIOSFODNN7EXAMPLE
mfa_serial = arn:aws:iam::111122223333:mfa/paul
mfa_seed = keyring

[profile dev]
role_arn = arn:aws:iam::444455556666:role/dev
source_profile = security
`
	token = "FwoGZXIvYXdzEJr//////////wEaDH+token=="
)

// aws is the vault and STS. Its sessions are numbered.
type aws struct {
	mu sync.Mutex
	n  int
}

func (a *aws) session(call session.Call) (session.Credentials, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.n++
	return session.Credentials{AccessKeyID: fmt.Sprintf("ASIA%016d", a.n), SecretAccessKey: secret.New("s"),
		SessionToken: secret.New(token), Issued: time.Now(), Expires: time.Now().Add(call.Duration)}, nil
}

func (a *aws) Open(
	_ context.Context,
	_ profiles.Source,
	call session.Call,
	_ secret.String,
) (session.Credentials, error) {
	return a.session(call)
}

func (a *aws) Assume(_ context.Context, _ session.Credentials, call session.Call) (session.Credentials, error) {
	return a.session(call)
}

func (a *aws) Drop(context.Context, string, string) error { return nil }

// events keeps the recorded events.
type events struct {
	mu   sync.Mutex
	list []audit.Event
}

func (r *events) Record(all ...audit.Event) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(r.list, all...)
	return nil
}

// keeper returns a Keeper in a directory. It adopts what is there once begin is called.
func keeper(t *testing.T, dir string) *Keeper {
	t.Helper()
	files := profiles.Files{Registry: filepath.Join(dir, "registry"), Credentials: filepath.Join(dir, "credentials")}
	if err := os.WriteFile(files.Registry, []byte(registry), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "run"), 0o700); err != nil {
		t.Fatal(err)
	}
	store := new(profiles.Store)
	cloud := new(aws)
	life, end := context.WithCancel(context.Background())
	t.Cleanup(end)
	k := New(Config{
		Broker: session.New(life, session.Config{Profiles: store, Vault: cloud, STS: cloud,
			Who: session.Who{User: "paul", Host: "host"}}),
		Store: store, Files: files, Guard: guard.New(nil), Audit: new(events), Log: slog.New(slog.DiscardHandler),
		Locked: func() bool { return false },
		Socket: filepath.Join(dir, "run", "s"), StateDir: dir, CommandsDir: filepath.Join(dir, "run", "overlays"),
		DoorsDir: filepath.Join(dir, "run", "doors"), Doorman: doorman{},
		BootTime: func() time.Duration { return time.Hour },
	})
	k.life = life
	return k
}

// leave writes a record like one that the daemon at a socket left.
func leave(t *testing.T, k *Keeper, socket, boot string, grants ...Grant) string {
	t.Helper()
	other := New(Config{Socket: socket, StateDir: k.StateDir})
	text, err := json.Marshal(recordFile{Version: 1, Socket: socket, Boot: boot, Grants: grants})
	if err == nil {
		err = os.WriteFile(other.record(), text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return other.record()
}

// own is this process.
func own(t *testing.T) peer.Process {
	t.Helper()
	p, err := peer.Find(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func endpoint(t *testing.T) Grant {
	return Grant{ID: randomHex(16), Kind: Endpoint, Owner: own(t), Profiles: []string{"dev"}, Port: 20111, Token: digest("x")}
}

// sectionOf is a section of the credentials file, with its contents.
func (k *Keeper) sectionOf(t *testing.T, id string) Grant {
	t.Helper()
	text, _, err := profiles.SetPublished(nil, func(string, string) bool { return false },
		[]profiles.Published{{Profile: "dev", AccessKeyID: id, Secret: secret.New("s"), Token: secret.New(token)}})
	if err == nil {
		err = os.WriteFile(k.Files.Credentials, append(text, "[mine]\n"...), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return Grant{ID: randomHex(16), Kind: Section, Profiles: []string{"dev"}, Sources: []string{"security"},
		AWSCredentials: k.Files.Credentials, Until: time.Now().Add(time.Hour), Keys: []string{id},
		Expires: time.Now().Add(time.Hour)}
}

func (k *Keeper) shared(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(k.Files.Credentials)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return string(text)
}

// TestAdopt: the next daemon continues the grants of the record that can continue.
func TestAdopt(t *testing.T) {
	k := keeper(t, t.TempDir())
	good, late, reused := endpoint(t), endpoint(t), endpoint(t)
	late.Owner.PID = 1 << 30
	reused.Owner.Start += "1" // another process had this pid
	section := k.sectionOf(t, "ASIAIOSFODNN7EXAMPLE")
	leave(t, k, k.Socket, system.BootID(), good, late, reused, section)
	k.adopt()
	for _, row := range []struct {
		name string
		g    Grant
		want bool
	}{{"an endpoint", good, true}, {"its process has ended", late, false}, {"of another process", reused, false},
		{"a section", section, true}} {
		k.mu.Lock()
		if k.grants[row.g.ID] != nil != row.want {
			t.Errorf("%s: %v", row.name, !row.want)
		}
		k.mu.Unlock()
	}
	if text := k.shared(t); !strings.Contains(text, section.Keys[0]) {
		t.Errorf("the section was removed before a newer session existed: %q", text)
	}
	k.renew(t.Context())
	k.renewals.Wait()
	if text := k.shared(t); strings.Contains(text, section.Keys[0]) || !strings.Contains(text, "ASIA0000000000000002") {
		t.Errorf("the section is not refreshed: %q", text)
	}
}

// TestAdoptOfAnother: grants from before a reboot are removed. So are those of a daemon on another socket, unless
// it still runs.
func TestAdoptOfAnother(t *testing.T) {
	for name, row := range map[string]struct {
		boot, socket string
		listens      bool
		stays        bool
	}{
		"another boot":                {boot: "x"},
		"another socket":              {boot: system.BootID(), socket: "t"},
		"another socket, and it runs": {boot: system.BootID(), socket: "t", listens: true, stays: true},
	} {
		t.Run(name, func(t *testing.T) {
			k := keeper(t, t.TempDir())
			socket := k.Socket
			if row.socket != "" {
				socket = filepath.Join(filepath.Dir(k.Socket), row.socket)
			}
			if row.listens {
				l, err := net.Listen("unix", socket)
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = l.Close() }()
			}
			path := leave(t, k, socket, row.boot, k.sectionOf(t, "ASIAIOSFODNN7EXAMPLE"))
			k.adopt()
			if text := k.shared(t); (text != "[mine]\n") != row.stays {
				t.Errorf("the file is %q", text)
			}
			if _, err := os.Lstat(path); (err == nil) != row.stays {
				t.Errorf("the record: %v", err)
			}
		})
	}
}

// TestBadRecord: a record that is broken, belongs to another daemon or has impossible values hands out nothing,
// and is set aside.
func TestBadRecord(t *testing.T) {
	k := keeper(t, t.TempDir())
	text := func(change func(*Grant)) string {
		g := endpoint(t)
		change(&g)
		b, err := json.Marshal(recordFile{Version: 1, Socket: k.Socket, Boot: system.BootID(), Grants: []Grant{g}})
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	good := text(func(*Grant) {})
	for name, bad := range map[string]string{
		"empty": "", "not JSON": "x", "half": good[:40], "a list": "[]", "version": strings.Replace(good, `"version":1`, `"version":2`, 1),
		"a key": strings.Replace(good, `"kind"`, `"art"`, 1), "more": good + "{}",
		"path":                 text(func(g *Grant) { g.ID = "../../" + g.ID[6:] }),
		"short id":             text(func(g *Grant) { g.ID = "aa" }),
		"no token":             text(func(g *Grant) { g.Token = "" }),
		"port":                 text(func(g *Grant) { g.Port = 80 }),
		"no process":           text(func(g *Grant) { g.Owner.Start = "" }),
		"no profile":           text(func(g *Grant) { g.Profiles = nil }),
		"kind":                 text(func(g *Grant) { g.Kind = "x" }),
		"directory":            text(func(g *Grant) { g.Kind, g.Dir = Files, "/etc" }),
		"a long-lived key":     text(func(g *Grant) { g.Kind, g.Keys = Section, []string{"AKIAIOSFODNN7EXAMPLE"} }),
		"door without terms":   text(func(g *Grant) { g.Kind, g.Dir = Door, "/run/doors/a" }),
		"door elsewhere":       text(func(g *Grant) { g.Kind, g.Dir, g.Door = Door, "/etc/a", &Terms{Name: "a"} }),
		"door of another name": text(func(g *Grant) { g.Kind, g.Dir, g.Door = Door, "/run/doors/b", &Terms{Name: "a"} }),
		"door with a path":     text(func(g *Grant) { g.Kind, g.Dir, g.Door = Door, "/run/doors/..", &Terms{Name: ".."} }),
		"door without an end": text(func(g *Grant) {
			g.Kind, g.Dir, g.Door, g.Owner = Door, "/run/doors/a", &Terms{Name: "a"}, peer.Process{}
		}),
		"files without an owner": text(func(g *Grant) { g.Kind, g.Owner = Files, peer.Process{} }),
	} {
		if err := os.WriteFile(k.record(), []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		k.adopt()
		if len(k.copies()) != 0 {
			t.Errorf("%s: %+v", name, k.copies())
		}
		aside, _ := filepath.Glob(k.record() + ".damaged-*")
		if len(aside) != 1 {
			t.Errorf("%s: set aside as %q", name, aside)
		}
		for _, path := range aside {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := os.WriteFile(k.record(), []byte(good), 0o600); err != nil {
		t.Fatal(err)
	}
	if k.adopt(); len(k.copies()) != 1 {
		t.Fatal("the test proves nothing: the valid record is not adopted")
	}
}

// TestOldRecords: grants of a version that had no record are ended.
func TestOldRecords(t *testing.T) {
	k := keeper(t, t.TempDir())
	section := k.sectionOf(t, "ASIAIOSFODNN7EXAMPLE")
	published := filepath.Join(k.StateDir, "published.json")
	for path, text := range map[string]string{
		published:               fmt.Sprintf(`{"version":1,"files":{%q:{"dev":[%q]}}}`, k.Files.Credentials, section.Keys[0]),
		k.Socket + ".endpoints": `{"version":1,"leases":[]}`,
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	k.adopt()
	if text := k.shared(t); text != "[mine]\n" {
		t.Errorf("the file is %q", text)
	}
	for _, path := range []string{published, k.Socket + ".endpoints"} {
		if _, err := os.Lstat(path); err == nil {
			t.Errorf("%s still exists", path)
		}
	}
	if len(k.copies()) != 0 {
		t.Errorf("%+v", k.copies())
	}
}

// TestOldRecordsOfOthers: a file that merely has the name of an old record stays.
func TestOldRecordsOfOthers(t *testing.T) {
	k := keeper(t, t.TempDir())
	path := k.Socket + ".endpoints"
	if err := os.WriteFile(path, []byte("notes"), 0o600); err != nil {
		t.Fatal(err)
	}
	k.adopt()
	if text, err := os.ReadFile(path); err != nil || string(text) != "notes" {
		t.Errorf("%q, %v", text, err)
	}
}

// TestEditorWritesBack: a section that an editor read before a refresh, and wrote back after it, still counts as
// ours.
func TestEditorWritesBack(t *testing.T) {
	k := keeper(t, t.TempDir())
	h := &held{Grant: Grant{ID: randomHex(16), Kind: Section, Profiles: []string{"dev"}, AWSCredentials: k.Files.Credentials}}
	if err := k.add(h); err != nil {
		t.Fatal(err)
	}
	put := func(id string) {
		t.Helper()
		answer := session.Answer{Profile: "dev", Credentials: session.Credentials{AccessKeyID: id,
			SecretAccessKey: secret.New("s"), SessionToken: secret.New(token), Expires: time.Now().Add(time.Hour)}}
		if err := k.sections.put(h, 0, []session.Answer{answer}); err != nil {
			t.Fatal(err)
		}
	}
	put("ASIAIOSFODNN7EXAMPL1")
	before := k.shared(t)
	put("ASIAIOSFODNN7EXAMPL2")
	if err := os.WriteFile(k.Files.Credentials, []byte(before+"[mine]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	last := ""
	for i := range 2 * maxKeys {
		last = fmt.Sprintf("ASIAIOSFODNN7EXAM%03d", i)
		put(last)
	}
	if text := k.shared(t); !strings.Contains(text, last) || strings.Count(text, "aws_access_key_id") != 1 {
		t.Errorf("the file is %q", text)
	}
	if len(h.Keys) != maxKeys {
		t.Errorf("%d ids are kept, not %d", len(h.Keys), maxKeys)
	}
	if err := k.end(h); err != nil {
		t.Fatal(err)
	}
	if text := k.shared(t); text != "[mine]\n" {
		t.Errorf("the file is %q", text)
	}
}

// TestCheckBesideWithdraw: a section that another client is removing does not count as the user's own.
func TestCheckBesideWithdraw(t *testing.T) {
	k := keeper(t, t.TempDir())
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
			}
			h := &held{Grant: Grant{ID: randomHex(16), Kind: Section, Profiles: []string{"dev"}, AWSCredentials: k.Files.Credentials}}
			err := k.add(h)
			if err == nil {
				err = k.sections.put(h, 0, []session.Answer{{Profile: "dev", Credentials: session.Credentials{
					AccessKeyID: "ASIA" + randomHex(
						8,
					), SecretAccessKey: secret.New("s"), SessionToken: secret.New(token), Expires: time.Now().Add(time.Hour)}}})
			}
			if err == nil {
				err = k.end(h)
			}
			if err != nil {
				t.Error(err)
				return
			}
		}
	}()
	for range 500 {
		if err := k.sections.check(session.Request{Profile: "dev", Files: k.Files}); err != nil {
			t.Error(err)
			break
		}
	}
	close(stop)
	<-stopped
}

// TestRemovedWhileWritten: the copies of a command may be updated just when the command ends. Without the mutex,
// directories were seen to stay behind.
func TestRemovedWhileWritten(t *testing.T) {
	k := keeper(t, t.TempDir())
	for i := range 50 {
		h := &held{Grant: Grant{ID: randomHex(16), Kind: Files, Owner: own(t), Profiles: []string{"dev"},
			AWSCredentials: k.Files.Credentials, AWSConfig: os.DevNull}}
		if err := k.commands.make(h); err != nil {
			t.Fatal(err)
		}
		answers := []session.Answer{{Profile: "dev", Credentials: session.Credentials{AccessKeyID: "ASIA",
			SecretAccessKey: secret.New("s"), SessionToken: secret.New(token), Expires: time.Now().Add(time.Hour)}}}
		var writing sync.WaitGroup
		begun := make(chan struct{})
		writing.Go(func() {
			for n := range 20 {
				err := k.commands.put(h, 0, answers)
				if n == 0 {
					close(begun)
				}
				if err != nil {
					return
				}
			}
		})
		<-begun
		if err := k.end(h); err != nil {
			t.Fatal(err)
		}
		writing.Wait()
		if _, err := os.Lstat(h.Dir); err == nil {
			t.Fatalf("round %d: the directory is still there", i)
		}
	}
}

// TestUnpublishSurvivesARewriteOfTheRegistry: after an unpublish, or a logout of its source, a profile is not
// published again because an editor empties the registry before it writes it. Seen to fail if removing the line
// removes the grant.
func TestUnpublishSurvivesARewriteOfTheRegistry(t *testing.T) {
	for name, take := range map[string]func(*Keeper) error{
		"unpublish": func(k *Keeper) error { _, _, _, err := k.Withdraw(""); return err },
		"logout":    func(k *Keeper) error { return k.Logout("security") },
	} {
		t.Run(name, func(t *testing.T) {
			k := keeper(t, t.TempDir())
			const line = "publish = true\n"
			// named sets whether the registry names the profile, and waits until the Keeper has noticed.
			named := func(yes bool, text string) {
				t.Helper()
				if err := os.WriteFile(k.Files.Registry, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
				for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
					k.followRegistry()
					h := k.section(k.Files.Credentials, "dev")
					if h != nil && h.gone != yes {
						return
					}
					if time.Now().After(end) {
						t.Fatalf("the Keeper did not notice the registry: %v", yes)
					}
				}
			}
			named(true, registry+line)
			k.look(t.Context())
			k.renewals.Wait()
			if text := k.shared(t); !strings.Contains(text, "[dev]") {
				t.Fatalf("the test proves nothing: the file is %q", text)
			}
			if err := take(k); err != nil {
				t.Fatal(err)
			}
			named(false, "")
			if list := k.Published(); len(list) > 0 {
				t.Errorf("status lists %+v", list)
			}
			named(true, registry+line)
			k.look(t.Context())
			k.renewals.Wait()
			if text := k.shared(t); text != "" {
				t.Errorf("the profile is published: %q", text)
			}
			// It can be published by hand even if no line names it, and then for a limited time.
			named(false, registry)
			ask := Request{By: self(), Requests: []session.Request{{Profile: "dev", Files: k.Files}}}
			var got wire.Response
			err := k.Publish(t.Context(), ask, &wire.Request{}, func(r wire.Response) error { got = r; return nil })
			if err != nil || got.Status.Published[0].Until == nil || !strings.Contains(k.shared(t), "[dev]") {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
}

// TestLogoutStopsFetchedSessions: a session that was fetched before a logout of its source is not handed out after
// it, even as one of two.
func TestLogoutStopsFetchedSessions(t *testing.T) {
	for _, source := range []string{"security", ""} {
		k := keeper(t, t.TempDir())
		ask := Request{Event: "given", By: self(), Requests: []session.Request{{Profile: "dev", Files: k.Files},
			{Profile: "security", Files: k.Files}}}
		ask.Get = func(ctx context.Context, r session.Request) (session.Answer, error) {
			answer, err := k.Broker.Credentials(ctx, r)
			if r.Profile == "dev" {
				err = errors.Join(err, k.Logout(source))
			}
			return answer, err
		}
		err := k.Give(t.Context(), ask, func([]session.Answer) error {
			t.Error("the session is handed out")
			return nil
		})
		if fault.Of(err).Kind != fault.LoginNeeded {
			t.Errorf("got %v", err)
		}
		ask.Get = nil
		given := false
		if err := k.Give(t.Context(), ask, func([]session.Answer) error { given = true; return nil }); err != nil || !given {
			t.Errorf("the next request: %v", err)
		}
	}
}

// TestShutFindsWhatOthersLeft: a lock also removes the grants of a daemon on another socket that was killed
// meanwhile.
func TestShutFindsWhatOthersLeft(t *testing.T) {
	k := keeper(t, t.TempDir())
	k.adopt()
	leave(t, k, k.Socket+"2", system.BootID(), k.sectionOf(t, "ASIAIOSFODNN7EXAMPLE"))
	if err := k.Shut(); err != nil {
		t.Fatal(err)
	}
	if text := k.shared(t); text != "[mine]\n" {
		t.Errorf("locked, but the file is %q", text)
	}
}

// TestFilesOfAnotherRuntimeDirectory: the next daemon of a state directory, and its lock, also remove the files of
// commands of a daemon that had another runtime directory. The state directory may have any name.
func TestFilesOfAnotherRuntimeDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a [b]")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, take := range map[string]func(*Keeper) error{
		"start": func(k *Keeper) error { k.adopt(); return nil },
		"lock":  (*Keeper).Shut,
	} {
		killed := keeper(t, dir)
		killed.Socket, killed.CommandsDir = filepath.Join(dir, "other", "s"), filepath.Join(dir, "other", "overlays")
		by := self()
		by.Process = own(t)
		ask := Request{By: by, Requests: []session.Request{{Profile: "dev", Files: killed.Files}}}
		var files *wire.Files
		if err := killed.Command(t.Context(), ask, &wire.Request{}, func(r wire.Response) error {
			files = r.Files
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if err := take(keeper(t, dir)); err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(files.Credentials); err == nil {
			t.Errorf("%s: %s still exists", name, files.Credentials)
		}
	}
}

// TestShutRemovesWhatWasWrittenBack: a section that an editor writes back after a lock is removed by the next
// lock.
func TestShutRemovesWhatWasWrittenBack(t *testing.T) {
	k := keeper(t, t.TempDir())
	section := k.sectionOf(t, "ASIAIOSFODNN7EXAMPLE")
	leave(t, k, k.Socket, system.BootID(), section)
	k.adopt()
	before := k.shared(t)
	for range 2 {
		if err := k.Shut(); err != nil {
			t.Fatal(err)
		}
		if text := k.shared(t); text != "[mine]\n" {
			t.Errorf("locked, but the file is %q", text)
		}
		if err := os.WriteFile(k.Files.Credentials, []byte(before), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestSweepLeavesOthers: files of a command that belong to a running daemon on another socket are left alone.
func TestSweepLeavesOthers(t *testing.T) {
	k := keeper(t, t.TempDir())
	h := &held{Grant: Grant{ID: randomHex(16), Kind: Files, Owner: own(t), Profiles: []string{"dev"}}}
	if err := k.commands.make(h); err != nil {
		t.Fatal(err)
	}
	other := k.Socket + "2"
	l, err := net.Listen("unix", other)
	if err != nil {
		t.Fatal(err)
	}
	leave(t, k, other, system.BootID(), h.Grant)
	k.adopt()
	if list := k.copies(); len(list) != 0 {
		t.Errorf("adopted: %+v", list)
	}
	_ = l.Close()
	k.adopt()
	if _, err := os.Lstat(h.Dir); err == nil {
		t.Error("the files still exist although their daemon has ended")
	}
}

// TestEndRemovesFiles: a daemon that ends leaves no session on the disk for a command that has ended. The files of a
// command that runs stay, because the next daemon goes on with them.
func TestEndRemovesFiles(t *testing.T) {
	k := keeper(t, t.TempDir())
	gone := own(t)
	gone.Start += "1"
	for _, owner := range []peer.Process{gone, own(t)} {
		h := &held{Grant: Grant{ID: randomHex(16), Kind: Files, Owner: owner, Profiles: []string{"dev"}}}
		if err := k.commands.make(h); err != nil {
			t.Fatal(err)
		}
		k.grants[h.ID] = h // nobody has noticed yet
		defer func() {
			if _, err := os.Lstat(h.Dir); (err == nil) != owner.Running() {
				t.Errorf("the command runs: %v, its files: %v", owner.Running(), err)
			}
		}()
	}
	if err := k.End(false); err != nil {
		t.Error(err)
	}
}

// TestRecordThatCannotBeSaved: a grant is kept even if the record cannot be saved, so that its section can still
// be removed.
func TestRecordThatCannotBeSaved(t *testing.T) {
	k := keeper(t, t.TempDir())
	ask := Request{By: self(), Requests: []session.Request{{Profile: "dev", Files: k.Files}}}
	publish := func() error {
		return k.Publish(t.Context(), ask, &wire.Request{}, func(wire.Response) error { return nil })
	}
	if err := publish(); err != nil {
		t.Fatal(err)
	}
	state := k.StateDir
	k.StateDir = filepath.Join(state, "missing")
	k.Broker.Lock()
	k.Broker.Unlock() // so that a new session is fetched
	if err := publish(); err == nil {
		t.Error("published without a record")
	}
	if list := k.Published(); len(list) != 1 {
		t.Errorf("the grant is forgotten: %+v", list)
	}
	k.StateDir = state
	if err := k.Shut(); err != nil {
		t.Error(err)
	}
	if text := k.shared(t); text != "" {
		t.Errorf("locked, but the file is %q", text)
	}
}

// TestPublishedThenNamed: a section that was published by hand becomes Standing once the registry names its
// profile.
func TestPublishedThenNamed(t *testing.T) {
	k := keeper(t, t.TempDir())
	ask := Request{By: self(), Requests: []session.Request{{Profile: "dev", Files: k.Files}}}
	if err := k.Publish(t.Context(), ask, &wire.Request{}, func(wire.Response) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(k.Files.Registry, []byte(registry+"publish = true\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); !k.section(k.Files.Credentials, "dev").Standing; time.Sleep(10 * time.Millisecond) {
		k.followRegistry()
		if time.Now().After(end) {
			t.Fatal("the Keeper did not notice")
		}
	}
	if _, _, standing, err := k.Withdraw("dev"); err != nil || len(standing) != 1 {
		t.Errorf("%q, %v", standing, err)
	}
	k.look(t.Context())
	k.renewals.Wait()
	if text := k.shared(t); text != "" {
		t.Errorf("unpublished, but the file is %q", text)
	}
}

// TestFailingRenewals: a refresh that fails repeatedly for the same reason has one line in the audit log.
func TestFailingRenewals(t *testing.T) {
	k := keeper(t, t.TempDir())
	h := &held{Grant: Grant{ID: randomHex(16), Kind: Section, Profiles: []string{"nobody"}, AWSCredentials: k.Files.Credentials}}
	if err := k.add(h); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		k.again(func(*held) bool { return true })
		k.renew(t.Context())
		k.renewals.Wait()
	}
	if list := k.Audit.(*events).list; len(list) != 1 || list[0].Event != "refused" {
		t.Errorf("%+v", list)
	}
}

// TestSectionTakenByItsUser: if a person adds a key to one of our sections, the section is theirs from the next
// edit on. status says so, whichever profile the edit was for.
func TestSectionTakenByItsUser(t *testing.T) {
	k := keeper(t, t.TempDir())
	more := registry + "[profile two]\nrole_arn = arn:aws:iam::444455556666:role/two\nsource_profile = security\n"
	if err := os.WriteFile(k.Files.Registry, []byte(more), 0o600); err != nil {
		t.Fatal(err)
	}
	publish := func(profile string) {
		t.Helper()
		ask := Request{By: self(), Requests: []session.Request{{Profile: profile, Files: k.Files}}}
		if err := k.Publish(t.Context(), ask, &wire.Request{}, func(wire.Response) error { return nil }); err != nil {
			t.Fatal(err)
		}
	}
	publish("dev")
	text := strings.Replace(k.shared(t), "[dev]\n", "[dev]\nregion = x\n", 1)
	if err := os.WriteFile(k.Files.Credentials, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	publish("two")
	list := k.Published()
	if len(list) != 2 || list[0].AccessKeyID != "" || !strings.Contains(list[0].Error, "did not write") || list[1].AccessKeyID == "" {
		t.Errorf("status lists %+v", list)
	}
}

// TestAdoptedFilesHearLogout: files of a command that only their note describes are shut by a logout of their
// source. If their source is unknown, they are removed.
func TestAdoptedFilesHearLogout(t *testing.T) {
	for profile, stays := range map[string]bool{"dev": true, "nobody": false} {
		k := keeper(t, t.TempDir())
		h := &held{Grant: Grant{ID: randomHex(16), Kind: Files, Owner: own(t), Profiles: []string{profile}}}
		if err := k.commands.make(h); err != nil {
			t.Fatal(err)
		}
		k.adopt()
		if _, err := os.Lstat(h.Dir); (err == nil) != stays {
			t.Errorf("%s: %v", profile, err)
		}
		if err := k.Logout("security"); err != nil {
			t.Fatal(err)
		}
		for _, c := range k.copies() {
			if c.open(time.Now()) {
				t.Errorf("%s: logged out, but the grant is open: %+v", profile, c.Grant)
			}
		}
	}
}

// TestRefreshAfterUnpublish: a due refresh that begins after the section was unpublished does not write it again.
func TestRefreshAfterUnpublish(t *testing.T) {
	k := keeper(t, t.TempDir())
	if err := os.WriteFile(k.Files.Registry, []byte(registry+"publish = true\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	k.look(t.Context())
	k.renewals.Wait()
	if _, _, _, err := k.Withdraw("dev"); err != nil {
		t.Fatal(err)
	}
	h := k.section(k.Files.Credentials, "dev")
	h.renewing = true
	k.renewOne(t.Context(), h)
	if text := k.shared(t); text != "" || h.renewing {
		t.Errorf("unpublished, but the file is %q (renewing: %v)", text, h.renewing)
	}
}

// TestPublishDuringUnpublish: a publish succeeds also if an unpublish ends the grant that it found.
func TestPublishDuringUnpublish(t *testing.T) {
	k := keeper(t, t.TempDir())
	publish := func() error {
		ask := Request{By: self(), Requests: []session.Request{{Profile: "dev", Files: k.Files}}}
		return k.Publish(t.Context(), ask, &wire.Request{}, func(wire.Response) error { return nil })
	}
	if err := publish(); err != nil {
		t.Fatal(err)
	}
	first := k.section(k.Files.Credentials, "dev")
	eventually := func(what string, is func() bool) {
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
			k.mu.Lock()
			done := is()
			k.mu.Unlock()
			if done {
				return
			}
			if time.Now().After(deadline) {
				t.Fatal(what)
			}
		}
	}
	until := first.Until
	var once sync.Once
	k.Audit = hook(func(audit.Event) { once.Do(k.sections.mu.Lock) }) // the write of the second publish waits
	second, withdrawn := make(chan error), make(chan error)
	go func() { second <- publish() }()
	eventually("the second publish did not begin", func() bool { return first.Until.After(until) })
	go func() {
		_, _, _, err := k.Withdraw("")
		withdrawn <- err
	}()
	eventually("the unpublish did not end the grant", func() bool { return first.Ended })
	k.sections.mu.Unlock()
	if err := errors.Join(<-second, <-withdrawn); err != nil {
		t.Error(err)
	}
}

// TestPublishAfterLogout: the loop does not remove a section that is being published again after a logout.
func TestPublishAfterLogout(t *testing.T) {
	k := keeper(t, t.TempDir())
	ask := Request{By: self(), Requests: []session.Request{{Profile: "dev", Files: k.Files}}}
	for range 20 {
		if err := k.Logout("security"); err != nil {
			t.Fatal(err)
		}
		done, ended := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(ended)
			for {
				select {
				case <-done:
					return
				default:
					k.takeOut(time.Now())
				}
			}
		}()
		err := k.Publish(t.Context(), ask, &wire.Request{}, func(wire.Response) error { return nil })
		close(done)
		<-ended
		if err != nil || k.shared(t) == "" {
			t.Fatalf("published, but the file is %q: %v", k.shared(t), err)
		}
	}
}

// TestWithdrawTwoFiles: of two sections of one profile, only the one that the registry keeps published remains a
// grant.
func TestWithdrawTwoFiles(t *testing.T) {
	k := keeper(t, t.TempDir())
	if err := os.WriteFile(k.Files.Registry, []byte(registry+"publish = true\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	k.followRegistry()
	other := k.Files
	other.Credentials = filepath.Join(k.StateDir, "other")
	ask := Request{By: self(), Requests: []session.Request{{Profile: "dev", Files: other}}}
	if err := k.Publish(t.Context(), ask, &wire.Request{}, func(wire.Response) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if _, _, standing, err := k.Withdraw("dev"); err != nil || len(standing) != 1 {
		t.Errorf("%q, %v", standing, err)
	}
	k.look(t.Context())
	k.renewals.Wait()
	if text, err := os.ReadFile(other.Credentials); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("unpublished, but the file is %q (%v)", text, err)
	}
	if h := k.section(other.Credentials, "dev"); h != nil {
		t.Errorf("unpublished, but the grant still exists: %+v", h.Grant)
	}
}

// TestUnsavedStanding: if the record cannot be saved for a profile that the registry keeps published, log and
// status say so.
func TestUnsavedStanding(t *testing.T) {
	k := keeper(t, t.TempDir())
	var log bytes.Buffer
	k.Log = slog.New(slog.NewTextHandler(&log, nil))
	if err := os.WriteFile(k.Files.Registry, []byte(registry+"publish = true\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	k.StateDir = filepath.Join(k.StateDir, "missing")
	for range 3 {
		k.look(t.Context())
		k.renewals.Wait()
	}
	if list := k.Published(); len(list) != 1 || !strings.Contains(list[0].Error, "save the record of grants") {
		t.Errorf("status lists %+v", list)
	}
	if n := strings.Count(log.String(), "cannot save the record of grants"); n != 1 {
		t.Errorf("%d lines in the log:\n%s", n, &log)
	}
}

// TestBrokenOriginal: while the copies of a command cannot be written, the log does not repeat the error each
// second.
func TestBrokenOriginal(t *testing.T) {
	k := keeper(t, t.TempDir())
	var log bytes.Buffer
	k.Log = slog.New(slog.NewTextHandler(&log, nil))
	ask := Request{By: CallerOf(peer.Peer{UID: os.Getuid(), Process: own(t)}),
		Requests: []session.Request{{Profile: "dev", Files: k.Files}}}
	if err := k.Command(t.Context(), ask, &wire.Request{}, func(wire.Response) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(k.Files.Credentials, 0o700); err != nil { // now it cannot be read
		t.Fatal(err)
	}
	for range 3 {
		k.commands.look()
	}
	if n := strings.Count(log.String(), "cannot update the AWS files of a command"); n != 1 {
		t.Errorf("%d lines in the log:\n%s", n, &log)
	}
}

// TestPublishedAgainAtItsEnd: an expired section can be published again, before and after the loop has ended it.
// The loop does not end it in between.
func TestPublishedAgainAtItsEnd(t *testing.T) {
	k := keeper(t, t.TempDir())
	publish := func() {
		t.Helper()
		ask := Request{By: self(), Requests: []session.Request{{Profile: "dev", Files: k.Files}}}
		err := k.Publish(t.Context(), ask, &wire.Request{For: time.Nanosecond}, func(wire.Response) error { return nil })
		if err != nil {
			t.Fatal(err)
		}
	}
	publish()
	publish()
	h := k.section(k.Files.Credentials, "dev")
	if !k.prolong(h, time.Now().Add(time.Minute)) {
		t.Fatal("the section ended by itself")
	}
	if k.takeOut(time.Now()); h.Ended {
		t.Error("the section ended while it was published again")
	}
	_ = k.end(h)
	if k.prolong(h, time.Now().Add(time.Minute)) {
		t.Error("an ended section was prolonged")
	}
	publish()
	if k.takeOut(time.Now()); k.shared(t) != "" {
		t.Errorf("expired, but the file is %q", k.shared(t))
	}
}

// TestFilesBeingWrittenKeepTheirSession: removing sections from the shared file does not empty the files of a
// command that get their session at that moment.
func TestFilesBeingWrittenKeepTheirSession(t *testing.T) {
	k := keeper(t, t.TempDir())
	h := &held{Grant: Grant{ID: randomHex(16), Kind: Files, Owner: own(t), Profiles: []string{"dev"},
		AWSConfig: k.Files.Config, AWSCredentials: k.Files.Credentials}}
	if err := errors.Join(k.commands.make(h), k.add(h)); err != nil {
		t.Fatal(err)
	}
	answer, err := k.Broker.Credentials(t.Context(), session.Request{Profile: "dev", Files: k.Files})
	if err != nil {
		t.Fatal(err)
	}
	k.commands.mu.Lock() // like put
	followed := make(chan error)
	go func() { followed <- k.commands.follow() }()
	for range 100 {
		runtime.Gosched()
	}
	k.mu.Lock()
	h.sessions, h.Expires = []session.Answer{answer}, answer.Expires
	k.mu.Unlock()
	err = k.commands.write(h)
	k.commands.mu.Unlock()
	if err := errors.Join(err, <-followed); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(h.Dir, credentialsFile)); err != nil {
		t.Error(err)
	}
}

// TestRenewedAtItsEnd: a session that arrives just when the loop removes the old one is refused, and fetched
// again.
func TestRenewedAtItsEnd(t *testing.T) {
	k := keeper(t, t.TempDir())
	h := &held{Grant: k.sectionOf(t, "ASIA0000000000000009")}
	h.Expires = time.Now()
	if err := k.add(h); err != nil {
		t.Fatal(err)
	}
	revision := h.revision
	k.takeOut(time.Now())
	answer, err := k.Broker.Credentials(t.Context(), session.Request{Profile: "dev", Files: k.Files})
	if err == nil {
		err = k.sections.put(h, revision, []session.Answer{answer})
	}
	if !errors.Is(err, errShut) || !h.next.IsZero() || strings.Contains(k.shared(t), token) {
		t.Errorf("%v, next %v, the file is %q", err, h.next, k.shared(t))
	}
}
