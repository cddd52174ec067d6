package e2e

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/config"
)

// The user's own credentials file.
const ownSection = "# mine\n[mine]\naws_access_key_id = ASIAMINE\naws_secret_access_key = x\naws_session_token = y\n"

func (h *house) awsCredentials() string { return filepath.Join(h.home, ".aws/credentials") }

// publishedBlock matches the block before the user's own bytes while one profile is published.
var publishedBlock = regexp.MustCompile(`^# broker publish: begin .*\n\[build\]\naws_access_key_id = (ASIA[A-Z0-9]{16})\naws_secret_access_key = \S{40}\naws_session_token = \S+\n# broker publish: end\n`)

// publishingHouse publishes a profile with sessions of a few seconds, so that they are renewed all the time. On a slow
// machine, handing out a session may take seconds too.
func publishingHouse(t *testing.T) *house {
	t.Helper()
	h := robotHouse(t, "6s")
	must(t, h.write(h.awsCredentials(), ownSection))
	h.ok(t, "broker", "profiles", "link", "build")
	h.ok(t, "broker", "publish", "build")
	return h
}

// TestPublishedReadsLong checks that a reader of the file gets a complete one at any moment, through many
// renewals.
func TestPublishedReadsLong(t *testing.T) {
	t.Parallel()
	h := publishingHouse(t)
	const reads, sessions = 2_000, 6
	seen := map[string]bool{}
	bare, done := 0, 0
	for limit := time.Now().Add(2 * patience); (done < reads || len(seen) < sessions) && time.Now().Before(limit); done++ {
		text, err := os.ReadFile(h.awsCredentials())
		must(t, err)
		m := publishedBlock.FindSubmatch(text)
		switch {
		case m != nil && string(text[len(m[0]):]) == ownSection:
			seen[string(m[1])] = true
		case string(text) == ownSection:
			bare++ // the machine was so slow that a session expired before the next one was written
		default:
			t.Fatalf("read %d got a file that nobody wrote:\n%s", done, text)
		}
		if done%20 == 0 { // read it as a Go program does
			cfg, err := config.LoadSharedConfigProfile(t.Context(), "build", func(o *config.LoadSharedConfigOptions) {
				o.ConfigFiles, o.CredentialsFiles = []string{h.awsConfig()}, []string{h.awsCredentials()}
			})
			must(t, err)
			if c := cfg.Credentials; c.HasKeys() && (c.SessionToken == "" || !strings.HasPrefix(c.AccessKeyID, "ASIA")) {
				t.Fatalf("the SDK read half a session: %s", c.AccessKeyID)
			}
		}
		time.Sleep(time.Millisecond)
	}
	t.Logf("%d reads, %d sessions, %d without one", done, len(seen), bare)
	if done < reads || len(seen) < sessions {
		t.Errorf("only %d reads of %d sessions", done, len(seen))
	}
	h.ok(t, "broker", "unpublish")
	h.credentialsAre(t, ownSection)
}

// credentialsAre fails the test unless the file has these bytes, and Broker left no other file next to it.
func (h *house) credentialsAre(t *testing.T, want string) {
	t.Helper()
	text, err := os.ReadFile(h.awsCredentials())
	must(t, err)
	if string(text) != want {
		t.Errorf("the credentials file is\n%s\nwant\n%s", text, want)
	}
	names, err := os.ReadDir(filepath.Dir(h.awsCredentials()))
	must(t, err)
	for _, n := range names {
		if n.Name() != "config" && n.Name() != "credentials" && !strings.HasPrefix(n.Name(), "config.") {
			t.Errorf("%s was left behind", n.Name())
		}
	}
}

// TestPublishedEditsLong checks that nothing is lost that the user writes at the same time, by appending or by
// replacing the file.
func TestPublishedEditsLong(t *testing.T) {
	t.Parallel()
	h := publishingHouse(t)
	const edits = 150
	want := ownSection
	for i := range edits {
		line := fmt.Sprintf("[mine%d]\nregion = eu-west-1\n", i)
		if i%2 == 0 {
			f, err := os.OpenFile(h.awsCredentials(), os.O_WRONLY|os.O_APPEND, 0)
			must(t, err)
			_, err = f.WriteString(line)
			must(t, err)
			must(t, f.Close())
		} else {
			// An editor that asks before it overwrites a file that changed on disk.
			for {
				text, err := os.ReadFile(h.awsCredentials())
				must(t, err)
				must(t, os.WriteFile(h.awsCredentials()+".new", append(bytes.Clone(text), line...), 0o600))
				if now, err := os.ReadFile(h.awsCredentials()); err == nil && bytes.Equal(now, text) {
					must(t, os.Rename(h.awsCredentials()+".new", h.awsCredentials()))
					break
				}
			}
		}
		want += line
		time.Sleep(80 * time.Millisecond)
	}
	h.ok(t, "broker", "unpublish")
	h.credentialsAre(t, want)
}

// TestPublishedCrashLong kills the daemon at any moment of a write: that of a renewal, and in every other round the
// first one of a session. The next start restores the file.
func TestPublishedCrashLong(t *testing.T) {
	t.Parallel()
	h := publishingHouse(t)
	const rounds = 20
	for i := range rounds {
		first := i%2 == 1
		if first {
			h.ok(t, "broker", "unpublish")
		}
		pid := h.daemonPID(t)
		before, err := os.ReadFile(h.awsCredentials())
		must(t, err)
		client := h.command("broker", "publish", "build")
		if first {
			must(t, client.Start())
		}
		// Kill it during the write, or shortly after.
		for limit := time.Now().Add(patience); ; time.Sleep(100 * time.Microsecond) {
			now, err := os.ReadDir(filepath.Dir(h.awsCredentials()))
			must(t, err)
			text, err := os.ReadFile(h.awsCredentials())
			must(t, err)
			writing := false
			for _, n := range now {
				writing = writing || strings.Contains(n.Name(), ".broker-")
			}
			if writing || !bytes.Equal(text, before) {
				break
			}
			if time.Now().After(limit) {
				t.Fatal("the session is never written")
			}
		}
		time.Sleep(time.Duration(i%4) * 200 * time.Microsecond)
		if first { // otherwise the client would ask the next daemon
			_ = client.Process.Kill()
			_ = client.Wait()
		}
		must(t, syscall.Kill(pid, syscall.SIGKILL))
		for limit := time.Now().Add(patience); alive(pid) && time.Now().Before(limit); {
			time.Sleep(time.Millisecond)
		}
		h.ok(t, "broker", "unpublish") // starts the next daemon
		h.credentialsAre(t, ownSection)
		h.ok(t, "broker", "publish", "build")
	}
}
