package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// An evil is something harmful in the place of one of Broker's files. A file that it needs is next to the precious
// one.
type evil struct {
	name  string
	plant func(path, precious string) error
}

// good returns valid content for a record of that name.
func good(path string) []byte {
	switch filepath.Base(path) {
	case "lock.json":
		return []byte(`{"version":1,"locked":false}` + "\n")
	case "owner.json":
		return []byte(`{"version":1,"pid":2,"start":"0","aws_config_file":"/c","aws_shared_credentials_file":"/s"}`)
	case "audit.log":
		return []byte(`{"time":"2026-01-02T03:04:05Z","event":"given","profile":"build","uid":0}` + "\n")
	}
	return nil
}

var evils = []evil{
	{"symlink", func(path, precious string) error { return os.Symlink(precious, path) }},
	{"hard link", func(path, precious string) error { return os.Link(precious, path) }},
	{"fifo", func(path, _ string) error { return syscall.Mkfifo(path, 0o600) }},
	{"socket", func(path, _ string) error {
		dir, err := os.Open(filepath.Dir(path)) // the path is too long
		if err != nil {
			return err
		}
		defer func() { _ = dir.Close() }()
		name := fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(path))
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: name, Net: "unix"})
		if err != nil {
			return err
		}
		l.SetUnlinkOnClose(false)
		return l.Close()
	}},
	{"directory", func(path, _ string) error {
		return errors.Join(os.Mkdir(path, 0o700), os.WriteFile(filepath.Join(path, "precious"), []byte("precious"), 0o600))
	}},
	{"other owner", func(path, _ string) error {
		return errors.Join(os.WriteFile(path, good(path), 0o600), os.Chown(path, nobody, nobody))
	}},
	{"0777", func(path, _ string) error {
		return errors.Join(os.WriteFile(path, good(path), 0o600), os.Chmod(path, 0o777))
	}},
	{"huge", func(path, _ string) error {
		return errors.Join(os.WriteFile(path, []byte(`{"version":1`), 0o600), os.Truncate(path, 1<<30))
	}},
	{"truncated", func(path, _ string) error { return os.WriteFile(path, []byte(`{"version":1,"lo`), 0o600) }},
}

// evilWait is the time limit for a start over any of these files.
const evilWait = 20 * time.Second

// TestEvilRecords puts each evil in the place of a file that the daemon reads or writes when it starts. The start
// does not hang, nothing behind the name is changed, and the person or the daemon's log gets the file's name.
func TestEvilRecords(t *testing.T) { plantEvils(t, 4) }

func TestEvilRecordsLong(t *testing.T) { plantEvils(t, 1) }

// plantEvils plants every nth evil in the place of each file. It begins with a different one for each file, so that all
// are planted.
func plantEvils(t *testing.T, nth int) {
	t.Helper()
	t.Parallel()
	needRoot(t)
	h := robotHouse(t, "1h")
	h.credentials(t, "build")
	dir := filepath.Join(h.home, "precious")
	must(t, os.Mkdir(dir, 0o700))
	precious := filepath.Join(dir, "file")
	must(t, h.write(h.awsCredentials(), ownSection))
	must(t, h.stopDaemon())
	served := func(named string) func(result) error {
		return func(r result) error {
			if _, err := parseDocument(r.stdout); r.code != 0 || err != nil {
				return fmt.Errorf("not served: %v", r)
			}
			log, err := os.ReadFile(h.state("daemon.log"))
			if err != nil || !strings.Contains(string(log), named) {
				return fmt.Errorf("%s is not named in the daemon's log: %s", named, log)
			}
			return nil
		}
	}
	locked := func(r result) error {
		if err := checkFailure(r, "7", "credproc", nil); err != nil {
			return err
		}
		log, err := os.ReadFile(h.state("daemon.log"))
		if err != nil || !strings.Contains(string(log), "Broker stays locked: ") || !strings.Contains(string(log), "lock.json") {
			return fmt.Errorf("lock.json is not named in the daemon's log: %s", log)
		}
		return nil
	}
	refused := func(code, named string) func(result) error {
		return func(r result) error {
			if err := checkFailure(r, code, "credproc", nil); err != nil {
				return err
			}
			if !strings.Contains(r.stderr, named) || !strings.Contains(r.stderr, "hint: ") {
				return fmt.Errorf("%s is not named: %v", named, r)
			}
			return nil
		}
	}
	anyway := []string{"huge", "truncated"} // the content of a lock file or a log does not matter
	for i, row := range []struct {
		path   string
		want   func(result) error
		except []string
	}{
		{h.state("lock.json"), locked, nil},
		{h.grants(), served(filepath.Base(h.grants())), nil},
		{h.state("published.json"), served("published.json"), nil}, // of an earlier version
		{h.state("run/overlays/exec-1/owner.json"), served("exec-1"), nil},
		{h.state("run/start.lock"), refused("5", "start.lock"), anyway},
		{h.state("run/broker.sock.lock"), refused("5", "broker.sock.lock"), anyway},
		{h.state("daemon.log"), refused("5", "daemon.log"), anyway},
		{h.state("audit.log"), served("audit.log"), anyway},
	} {
		for j, e := range evils {
			name := filepath.Base(row.path)
			if (i+j)%nth != 0 || slices.Contains(row.except, e.name) {
				continue
			}
			t.Run(name+"/"+e.name, func(t *testing.T) {
				must(t, os.RemoveAll(row.path))
				if row.path != h.state("daemon.log") {
					must(t, os.RemoveAll(h.state("daemon.log")))
				}
				_ = os.Remove(h.state("run/start.lock")) // it remembers a failed start
				must(t, os.MkdirAll(filepath.Dir(row.path), 0o700))
				must(t, os.WriteFile(precious, append([]byte("precious"), good(row.path)...), 0o600))
				must(t, e.plant(row.path, precious))
				before, err := os.Lstat(precious)
				must(t, err)
				r := finishWithin(evilWait, h.command("credproc", "build"))
				if err := row.want(r); err != nil {
					t.Error(err)
				}
				after, err := os.Lstat(precious)
				text, rerr := os.ReadFile(precious)
				if err != nil || rerr != nil || !after.ModTime().Equal(before.ModTime()) ||
					!strings.HasPrefix(string(text), "precious") {
					t.Errorf("the file behind the name was changed: %q, %v", text, errors.Join(err, rerr))
				}
				for _, p := range h.processes() { // including a process that hangs
					if strings.Contains(p.line, "brokerd") {
						_ = syscall.Kill(p.pid, syscall.SIGKILL)
						ended(t, p.pid)
					}
				}
				must(t, os.RemoveAll(row.path))
			})
		}
	}
	h.credentials(t, "build") // everything works again
}

// TestPrivateFilesLink checks that no start of a daemon, and no end of a command, removes a link's target or anything
// that Broker did not create.
func TestPrivateFilesLink(t *testing.T) {
	t.Parallel()
	h := robotHouse(t, "1h")
	h.credentials(t, "build")
	must(t, h.stopDaemon())
	precious := filepath.Join(h.home, "precious")
	count := func() (n int) {
		_ = filepath.WalkDir(precious, func(string, fs.DirEntry, error) error { n++; return nil })
		return n
	}
	fill := func() {
		must(t, os.MkdirAll(filepath.Join(precious, "exec-5/below"), 0o700))
		must(t, os.MkdirAll(filepath.Join(precious, "letters"), 0o700))
		must(t, os.WriteFile(filepath.Join(precious, "letters/one"), []byte("x"), 0o600))
		must(t, os.WriteFile(filepath.Join(precious, "exec-5/below/two"), []byte("x"), 0o600))
	}
	overlays := h.state("run/overlays")
	for name, plant := range map[string]func(){
		"a link": func() { must(t, os.Symlink(precious, overlays)) },
		"a link within": func() {
			must(t, errors.Join(os.Rename(precious, h.state("run/precious")), os.Symlink("precious", overlays)))
		},
		"links in it": func() {
			must(t, os.Mkdir(overlays, 0o700))
			must(t, os.Symlink(precious, overlays+"/exec-7"))
		},
		"a directory of ours": func() { must(t, os.Rename(precious, overlays)) },
	} {
		t.Run(name, func(t *testing.T) {
			must(t, h.stopDaemon())
			must(t, errors.Join(os.RemoveAll(precious), os.RemoveAll(overlays), os.RemoveAll(h.state("run/precious"))))
			fill()
			want := count()
			plant()
			r := finishWithin(evilWait, h.command("credproc", "build"))
			if r.code != 0 {
				t.Error(r)
			}
			r = h.run("broker", "exec", "--mode", "file", "build", "--", "true")
			refused := name == "a link" || name == "a link within"
			if refused != (r.code != 0) || refused && !strings.Contains(r.stderr, "overlays is a symbolic link") {
				t.Error(r)
			}
			must(t, h.stopDaemon())
			for _, moved := range []string{h.state("run/precious"), overlays} {
				if info, err := os.Lstat(moved); err == nil && info.IsDir() && name != "links in it" {
					must(t, os.Rename(moved, precious))
				}
			}
			if n := count(); n != want {
				t.Errorf("only %d of %d files are left", n, want)
			}
		})
	}
}

// TestForeignState checks that a state directory of another user is not used, and that the message says whose it
// is and how to fix that. This also works if that user denies access.
func TestForeignState(t *testing.T) {
	t.Parallel()
	needRoot(t)
	h := robotHouse(t, "1h")
	h.credentials(t, "build")
	must(t, h.stopDaemon())
	h.give(t, nobody)
	state := h.state("")
	state = filepath.Clean(state)
	for _, row := range []struct {
		name   string
		damage func() error
		named  string
	}{
		{"the directory, closed", func() error { return os.Chown(state, 0, 0) }, state},
		{"the directory, open", func() error { return errors.Join(os.Chown(state, 0, 0), os.Chmod(state, 0o777)) }, state},
		{"the one above", func() error {
			above := filepath.Dir(state)
			return errors.Join(os.Rename(state, h.dir+"/away"), os.Chown(above, 0, 0), os.Chmod(above, 0o755))
		}, filepath.Dir(state)},
		{"the runtime directory", func() error { return os.Chown(h.state("run"), 0, 0) }, h.state("run")},
	} {
		t.Run(row.name, func(t *testing.T) {
			must(t, row.damage())
			r := h.asOther(t, nobody, "credproc", "build")
			if err := checkFailure(r, "5", "credproc", nil); err != nil ||
				!strings.Contains(r.stderr, row.named+" belongs to another user (uid 0)") ||
				!strings.Contains(r.stderr, "hint: sudo chown -R 65534 "+row.named+"\n") {
				t.Errorf("%v: %v", err, r)
			}
			r = h.asOther(t, nobody, "broker", "status")
			if strings.Contains(r.stdout, "locked    yes") && !strings.Contains(r.stderr, "belongs to another user") {
				t.Errorf("status says that Broker is locked, but not why: %v", r)
			}
			// Do what the hint says.
			must(t, errors.Join(os.Chown(row.named, nobody, nobody), os.Chmod(row.named, 0o700)))
			if row.name == "the one above" {
				must(t, os.Rename(h.dir+"/away", state))
			}
			_ = os.Remove(h.state("run/start.lock")) // it remembers a failed start
			r = h.asOther(t, nobody, "credproc", "build")
			if _, err := parseDocument(r.stdout); err != nil {
				t.Errorf("after the hint's command: %v", r)
			}
			h.asOther(t, nobody, "broker", "daemon", "--stop")
			until(t, "the daemon ends", func() bool {
				return strings.Contains(h.asOther(t, nobody, "broker", "status").stdout, "not running")
			})
		})
	}
	// Root uses the HOME of another user.
	if r := h.run("credproc", "build"); r.code == 0 || !strings.Contains(r.stderr, "belongs to another user (uid 65534)") {
		t.Errorf("root uses the state of another user: %v", r)
	}
}

// TestDraftsGo checks that a start removes what a daemon left that was killed during a write, but not a file that
// a process is still writing.
func TestDraftsGo(t *testing.T) {
	t.Parallel()
	h := robotHouse(t, "1h")
	must(t, h.write(h.awsCredentials(), ownSection))
	h.credentials(t, "build")
	aws := filepath.Dir(h.awsConfig())
	for _, way := range []string{"a start", "unpublish"} {
		if way == "a start" {
			must(t, h.stopDaemon())
		}
		held, err := os.Create(h.state(".linked.json.broker-draft-HELD"))
		must(t, err)
		must(t, syscall.Flock(int(held.Fd()), syscall.LOCK_EX))
		drafts := []string{
			filepath.Join(aws, ".credentials.broker-draft-123"), filepath.Join(aws, ".config.broker-draft-123"),
			filepath.Join(filepath.Dir(h.registry()), ".config.broker-draft-123"),
			h.state("." + filepath.Base(h.grants()) + ".broker-draft-ABC"), h.state(".lock.json.broker-draft-ABC"),
		}
		if way == "unpublish" {
			drafts = drafts[:1]
		}
		for _, d := range drafts {
			must(t, os.WriteFile(d, []byte(ownSection), 0o600))
		}
		if way == "unpublish" {
			h.ok(t, "broker", "unpublish")
		} else {
			h.credentials(t, "build")
		}
		for _, d := range drafts {
			if _, err := os.Lstat(d); err == nil {
				t.Errorf("after %s: %s is still there", way, d)
			}
		}
		if _, err := os.Lstat(held.Name()); err != nil {
			t.Errorf("after %s a draft that is being written is gone: %v", way, err)
		}
		must(t, errors.Join(held.Close(), os.Remove(held.Name())))
	}
}

// TestDamagedLinked checks that link does not overwrite its records if it cannot read them, and does not block on
// a fifo.
func TestDamagedLinked(t *testing.T) {
	t.Parallel()
	needRoot(t)
	h := robotHouse(t, "1h")
	linked := h.state("linked.json")
	for _, e := range evils {
		t.Run(e.name, func(t *testing.T) {
			precious := filepath.Join(h.home, "precious")
			must(t, errors.Join(os.RemoveAll(linked), os.MkdirAll(h.state(""), 0o700), os.RemoveAll(precious)))
			must(t, os.WriteFile(precious, []byte(`{"version":1,"sections":[]}`), 0o600))
			must(t, e.plant(linked, precious))
			before, err := os.Lstat(linked)
			must(t, err)
			r := finishWithin(evilWait, h.command("broker", "profiles", "link", "build"))
			if r.code != 1 || !strings.Contains(r.stderr, "linked.json") || !strings.Contains(r.stderr, "hint: ") {
				t.Error(r)
			}
			if after, err := os.Lstat(linked); err != nil || !os.SameFile(before, after) || after.Size() != before.Size() {
				t.Errorf("the records were overwritten: %v", err)
			}
		})
	}
	must(t, os.RemoveAll(linked))
	h.ok(t, "broker", "profiles", "link", "build")
	h.ok(t, "broker", "profiles", "unlink", "build")
}
