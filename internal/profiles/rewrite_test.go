//go:build unix

package profiles

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"broker/internal/atomicfile"
)

// onDisk writes documents to files and returns the functions through which Rewrite reads and edits them.
func onDisk(
	t *testing.T,
	docs Documents,
) (paths [4]string, read func(Document) ([]byte, error), edit func(Document, func([]byte) ([]byte, error)) error) {
	t.Helper()
	dir := t.TempDir()
	for d, name := range []string{"registry", "config", "credentials", "records"} {
		paths[d] = filepath.Join(dir, name)
		write(t, paths[d], string(docs[d]))
	}
	read = func(d Document) ([]byte, error) { return os.ReadFile(paths[d]) }
	edit = func(d Document, change func([]byte) ([]byte, error)) error {
		return atomicfile.Edit(paths[d], 0o600, nil, change)
	}
	return paths, read, edit
}

// TestRewriteWithConcurrentEditor links and unlinks everything again and again while a user adds lines to all files, in
// each way that programs use to write files. None of the user's lines may be lost.
func TestRewriteWithConcurrentEditor(t *testing.T) {
	var config strings.Builder
	for i := range 20 {
		fmt.Fprintf(&config, "[profile p%d]\n# about p%d\nrole_arn = arn:aws:iam::444455556666:role/r%d\nregion = x\nsource_profile = security\n\n", i, i, i)
	}
	for name, add := range map[string]func(path, text string) error{
		"in place": func(path, text string) error {
			f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteString(text)
			return errors.Join(err, f.Close())
		},
		"by rename": func(path, text string) error {
			old, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if err := os.WriteFile(path+".theirs", append(old, text...), 0o600); err != nil {
				return err
			}
			return os.Rename(path+".theirs", path)
		},
	} {
		t.Run(name, func(t *testing.T) {
			paths, read, edit := onDisk(t, documents(linkRegistry, config.String(), "[p1]\nsource_profile = security\n"))
			const added = 150
			var wg sync.WaitGroup
			var over atomic.Bool
			wg.Go(func() {
				defer over.Store(true)
				for i := range added {
					for d, text := range []string{"# registry %d\n", "[profile new%d]\nregion = y\n", "[new%d]\nregion = z\n"} {
						if err := add(paths[d], fmt.Sprintf(text, i)); err != nil {
							t.Error(err)
						}
					}
					time.Sleep(time.Millisecond)
				}
			})
			rounds := 0
			for ; !over.Load() || rounds < 3; rounds++ {
				for _, run := range []struct {
					order []Document
					plan  Plan
				}{{LinkOrder, linkPlan()}, {UnlinkOrder, unlinkPlan()}} {
					if _, err := Rewrite(run.order, read, edit, run.plan); err != nil && !strings.Contains(err.Error(), "keep") {
						t.Fatal(err)
					}
				}
			}
			wg.Wait()
			if _, err := Rewrite(UnlinkOrder, read, edit, unlinkPlan()); err != nil {
				t.Fatal(err)
			}
			for d, text := range []string{"# registry %d\n", "[profile new%d]\nregion = y\n", "[new%d]\nregion = z\n"} {
				got, err := os.ReadFile(paths[d])
				if err != nil {
					t.Fatal(err)
				}
				at := 0
				for i := range added {
					n := bytes.Index(got[at:], fmt.Appendf(nil, text, i))
					if n < 0 {
						t.Fatalf("%s: after %[3]d rounds, addition %[2]d is missing in\n%[4]s", paths[d], i, rounds, got)
					}
					at += n
				}
			}
			// and nothing that was there before is lost
			got, _ := os.ReadFile(paths[ConfigDocument])
			for line := range strings.Lines(config.String()) {
				if !bytes.Contains(got, []byte(strings.TrimSpace(line))) {
					t.Errorf("%q is lost", line)
				}
			}
			docs := Documents{}
			for d := range docs {
				docs[d], _ = read(Document(d))
			}
			if chains := chainsOf(t, docs); len(chains) < 21 {
				t.Errorf("only %d names still resolve", len(chains))
			}
			t.Logf("%d rounds", rounds)
		})
	}
}

// TestRewriteConcurrentCalls links and unlinks different profiles in two goroutines at the same time.
func TestRewriteConcurrentCalls(t *testing.T) {
	const config = "[profile a]\nrole_arn = arn:aws:iam::444455556666:role/a\nsource_profile = security\n[profile b]\nrole_arn = arn:aws:iam::444455556666:role/b\nsource_profile = security\n"
	paths, read, edit := onDisk(t, documents(linkRegistry, config, ""))
	var wg sync.WaitGroup
	for _, name := range []string{"a", "b"} {
		wg.Go(func() {
			for range 15 {
				for _, err := range []error{
					second(Rewrite(LinkOrder, read, edit, linkPlan(name))),
					second(Rewrite(UnlinkOrder, read, edit, unlinkPlan(name))),
				} {
					if err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	if got, _ := os.ReadFile(paths[ConfigDocument]); string(got) != config {
		t.Errorf("config\n%s", got)
	}
	if got, _ := os.ReadFile(paths[RegistryDocument]); string(got) != linkRegistry {
		t.Errorf("registry\n%s", got)
	}
}

func second(_ []Outcome, err error) error { return err }

// TestRewriteFailsAtAnyStep checks that a failed write leaves the files as they were.
func TestRewriteFailsAtAnyStep(t *testing.T) {
	full := errors.New("no space")
	start := documents(linkRegistry, "[profile a]\nrole_arn = arn:aws:iam::444455556666:role/a\n", "[a]\nsource_profile = security\n")
	for n := range 4 {
		docs := start
		done := 0
		_, err := Rewrite(
			LinkOrder,
			func(d Document) ([]byte, error) { return docs[d], nil },
			func(d Document, edit func([]byte) ([]byte, error)) error {
				b, err := edit(docs[d])
				if err != nil || done == n {
					return errors.Join(err, full)
				}
				done++
				docs[d] = b
				return nil
			},
			linkPlan("a"),
		)
		if !errors.Is(err, full) {
			t.Errorf("step %d: %v", n, err)
		}
		sameChains(t, chainsOf(t, start), chainsOf(t, docs))
		mustRun(t, &docs, UnlinkOrder, unlinkPlan("a"))
		if docs[RecordsDocument] = nil; !same(docs, start) {
			t.Errorf("step %d: %s", n, docs.show())
		}
	}
}

// TestLinkManyProfilesLong links 10,000 profiles in one call. The time must not grow with the square of their
// number.
func TestLinkManyProfilesLong(t *testing.T) {
	const n = 10_000
	var config strings.Builder
	for i := range n {
		fmt.Fprintf(&config, "[profile p%05d]\nregion = eu-west-1\nrole_arn = arn:aws:iam::444455556666:role/r%d\nsource_profile = security\n# %d\n\n", i, i, i)
	}
	start := documents(linkRegistry, config.String(), "")
	docs := start
	begin := time.Now()
	out := mustRun(t, &docs, LinkOrder, linkPlan())
	linked := time.Since(begin)
	if len(out) != n+1 || bytes.Count(docs[ConfigDocument], []byte(credprocPath)) != n+1 {
		t.Errorf("%d outcomes", len(out))
	}
	untouchedLines(t, start[ConfigDocument], docs[ConfigDocument], false)
	mustRun(t, &docs, UnlinkOrder, unlinkPlan())
	if docs[RecordsDocument] = nil; !same(docs, start) {
		t.Error("unlink did not restore the original")
	}
	t.Logf("link %v, unlink %v", linked, time.Since(begin)-linked)
}
