package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const plainKeys = "# mine\n[robot]\naws_access_key_id = AKIADEMOROBOTFAKE333\naws_secret_access_key = fake/demo+secret/of+robot/fake/demo+3333\n\n" +
	"[security]\nregion = eu-west-1\naws_access_key_id=" + keyID + "\naws_secret_access_key=" + keySecret + "\n# the end"

// toImport returns a house whose keys are in the credentials file.
func toImport(t *testing.T) (h *house, credentials string) {
	t.Helper()
	h = newHouse(t)
	must(t, h.startSim())
	must(t, h.settings(""))
	credentials = filepath.Join(filepath.Dir(h.awsConfig()), "credentials")
	must(t, h.write(credentials, plainKeys))
	return h, credentials
}

// TestImportKilledLong checks that no key is lost if an import is killed at any point: the next import completes
// it, and an undo restores every byte.
func TestImportKilledLong(t *testing.T) {
	t.Parallel()
	h, credentials := toImport(t)
	h.ok(t, "broker", "import", "--yes") // creates the keyring
	h.ok(t, "broker", "import", "--undo", "--yes")
	const rounds = 20
	killed := 0
	began := time.Now()
	h.ok(t, "broker", "import", "--yes")
	takes := time.Since(began)
	h.ok(t, "broker", "import", "--undo", "--yes")
	for range rounds {
		cmd := h.command("broker", "import", "--yes")
		must(t, cmd.Start())
		time.Sleep(rand.N(takes))
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if status := cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signaled() {
			killed++
		}
		text, err := os.ReadFile(credentials)
		must(t, err)
		if whole := string(text); whole != plainKeys && strings.Contains(whole, "aws_") {
			t.Fatalf("the file is neither the old nor the new one: %q", text)
		}
		h.ok(t, "broker", "import", "--yes")
		h.credentials(t, "robot")
		for _, source := range []string{"robot", "security"} {
			h.ok(t, "broker", "explain", source)
		}
		text, err = os.ReadFile(credentials)
		must(t, err)
		if strings.Contains(string(text), "fake/demo") {
			t.Fatalf("a key is still in the file after the import: %q", text)
		}
		h.ok(t, "broker", "import", "--undo", "--yes")
		text, err = os.ReadFile(credentials)
		must(t, err)
		if string(text) != plainKeys {
			t.Fatalf("the undo restored %q", text)
		}
	}
	t.Logf("%d rounds, %d killed", rounds, killed)
	if killed == 0 {
		t.Error("void: no import was killed")
	}
}

// TestImportNoSpace checks that nothing changes if nothing can be written.
func TestImportNoSpace(t *testing.T) {
	t.Parallel()
	h, credentials := toImport(t)
	h.ok(t, "broker", "import", "--yes")
	h.ok(t, "broker", "import", "--undo", "--yes")
	if r := h.run("sh", "-c", "ulimit -f 0; broker import --yes"); r.code == 0 || strings.Contains(r.stderr, "fake/demo") {
		t.Errorf("without room for one byte: %v", r)
	}
	text, err := os.ReadFile(credentials)
	must(t, err)
	if string(text) != plainKeys {
		t.Errorf("the file was changed: %q", text)
	}
	h.ok(t, "broker", "import", "--yes")
}

// TestImportWhileEdited checks that no line is lost that the user adds while keys are moved out and back.
func TestImportWhileEdited(t *testing.T) { importWhileEdited(t, 1) }

func TestImportWhileEditedLong(t *testing.T) { importWhileEdited(t, 3) }

func importWhileEdited(t *testing.T, rounds int) {
	t.Helper()
	t.Parallel()
	h, credentials := toImport(t)
	h.ok(t, "broker", "import", "--yes")
	h.ok(t, "broker", "import", "--undo", "--yes")
	stop, lines := make(chan struct{}), make(chan int)
	go func() {
		n := 0
		for ; !isStopped(stop); n++ {
			f, err := os.OpenFile(credentials, os.O_APPEND|os.O_WRONLY, 0)
			if err == nil {
				_, err = fmt.Fprintf(f, "\n# line %d;", n)
				_ = f.Close()
			}
			if err != nil {
				t.Error(err)
				break
			}
			time.Sleep(250 * time.Millisecond)
		}
		lines <- n
	}()
	for range rounds {
		h.run("broker", "import", "--yes")
		h.run("broker", "import", "--undo", "--yes")
	}
	close(stop)
	written := <-lines
	text, err := os.ReadFile(credentials)
	must(t, err)
	for n := range written {
		if !strings.Contains(string(text), fmt.Sprintf("# line %d;", n)) {
			t.Fatalf("line %d of %d was lost", n, written)
		}
	}
	h.ok(t, "broker", "import", "--yes")
	h.credentials(t, "robot")
}

// TestImportByteOrderMark checks a file with a byte order mark, which Windows editors write. AWS's JavaScript
// tools read such a file, so its keys are moved, and an undo restores every byte.
func TestImportByteOrderMark(t *testing.T) {
	t.Parallel()
	const mark = "\ufeff"
	const key = "aws_access_key_id = " + robotKeyID + "\naws_secret_access_key = " + robotSecret + "\n"
	for name, row := range map[string]struct{ before, after string }{
		"only the key":    {"[robot]\n" + key, ""},
		"a comment":       {"# mine\n[robot]\n" + key, "# mine\n"},
		"another section": {"[robot]\n" + key + "[mine]\nregion = eu-west-1\n", "[mine]\nregion = eu-west-1\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			must(t, h.startSim())
			must(t, h.settings(""))
			must(t, h.write(h.awsConfig(), mark+"[profile dev]\nregion = eu-west-1\n"))
			must(t, h.write(h.awsCredentials(), mark+row.before))
			h.ok(t, "broker", "import", "--yes")
			h.credentials(t, "robot")
			if text, err := os.ReadFile(h.awsCredentials()); err != nil || string(text) != mark+row.after {
				t.Errorf("after the import: %q, %v", text, err)
			}
			h.ok(t, "broker", "import", "--undo", "--yes")
			if text, err := os.ReadFile(h.awsCredentials()); err != nil || string(text) != mark+row.before {
				t.Errorf("after the undo: %q, %v", text, err)
			}
		})
	}
}
