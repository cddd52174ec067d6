//go:build unix

package profiles

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"broker/internal/fault"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// dump shows a document as text, for the golden files.
func dump(d *document) string {
	var b strings.Builder
	for _, s := range d.sections {
		fmt.Fprintf(&b, "%d [%s %q]\n", s.line, s.kind, s.name)
		for _, e := range s.entries {
			fmt.Fprintf(&b, "%d   %s = %q\n", e.line, e.key, e.value)
			for _, n := range e.nested {
				fmt.Fprintf(&b, "%d     %s = %q\n", n.line, n.key, n.value)
			}
		}
	}
	for _, p := range d.problems {
		fmt.Fprintf(&b, "%d ! %s\n", p.line, p.text)
	}
	return b.String()
}

func TestScanGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/corpus/*.c*")
	if err != nil || len(files) == 0 {
		t.Fatal("no corpus", err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, ".golden") {
			continue
		}
		t.Run(filepath.Base(file), func(t *testing.T) {
			src, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			d, bad := scan(src, strings.HasSuffix(file, ".credentials"))
			if bad != nil {
				t.Fatalf("line %d %s", bad.line, bad.text)
			}
			got := dump(d)
			golden := file + ".golden"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

func TestScanRefuses(t *testing.T) {
	for _, tt := range []struct {
		name, src string
		line      int
	}{
		{"NUL", "[a]\nb = c\nd = \x00e\n", 3},
		{"NUL in the first line", "\x00", 1},
		{"bad UTF-8", "[a]\n# caf\xe9\n", 2},
		{"bad UTF-8 in the last line", "[a]\nb = c\nd = \xff", 3},
		{"UTF-16", "\xff\xfe[\x00a\x00]\x00", 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, bad := scan([]byte(tt.src), false)
			if bad == nil || bad.line != tt.line {
				t.Fatalf("got %+v, want line %d", bad, tt.line)
			}
		})
	}
}

func TestScanNeverQuotesALine(t *testing.T) {
	const secret = "wJalrXUtnFEMI"
	src := secret + "\n[a]\n" + secret + "\n[" + secret + "\n[x] " + secret + "\naws_secret_access_key =\n  " + secret + "\n"
	for _, credentials := range []bool{true, false} {
		d, _ := scan([]byte(src), credentials)
		if len(d.problems) < 4 {
			t.Fatalf("only %d problems", len(d.problems))
		}
		for _, p := range d.problems {
			if strings.Contains(p.text, secret) {
				t.Errorf("line %d: %s", p.line, p.text)
			}
		}
	}
}

func TestScanIsBounded(t *testing.T) { scanHuge(t, 4) }

func TestScanIsBoundedLong(t *testing.T) { scanHuge(t, 1) }

// scanHuge scans files of huge sizes, divided by a number.
func scanHuge(t *testing.T, by int) {
	t.Helper()
	config, _ := manyProfiles(100_000 / by)
	for name, src := range map[string][]byte{
		"a long line":            append([]byte("[profile a]\nregion = "), bytes.Repeat([]byte("x"), 1<<20/by)...),
		"many profiles":          []byte(config),
		"garbage":                bytes.Repeat([]byte("x\n"), 1<<20/by),
		"continuation":           append([]byte("[a]\nb = c\n"), bytes.Repeat([]byte(" d\n"), 1<<20/by)...),
		"nested":                 append([]byte("[a]\nb =\n"), bytes.Repeat([]byte(" d=e\n"), 1<<19/by)...),
		"brackets":               bytes.Repeat([]byte("[\n"), 1<<17/by),
		"one section, many keys": append([]byte("[profile a]\n"), bytes.Repeat([]byte("region = eu-west-1\n"), 1<<18/by)...),
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			d, bad := scan(src, false)
			if bad != nil {
				t.Fatal(bad)
			}
			if len(d.problems) > maxProblems {
				t.Errorf("%d problems", len(d.problems))
			}
			if _, err := newTable("/f", src, configFile, nil); err != nil {
				t.Fatal(err)
			}
			// Quadratic work on the long files would take an hour.
			if d := time.Since(start); d > time.Minute {
				t.Errorf("took %v", d)
			}
		})
	}
}

func TestNames(t *testing.T) {
	for _, name := range []string{"a", "a b", "product_prod_paul", "größe", `a"b`, `a\b`, "o'brien", "a#b;c", " lead", strings.Repeat("x", 256), "$(reboot)", "../../etc", "a]b", "[PROD]-x"} {
		if err := checkName(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
		if got, ok := shellWords(quoteName(name)); !ok || len(got) != 1 || got[0] != name {
			t.Errorf("%q became %q through %s", name, got, quoteName(name))
		}
	}
	for _, name := range []string{"", strings.Repeat("x", 257), strings.Repeat("x", 1<<20), "a\nb", "a\x00b", "\x1b[31m", "a\xff", "a\u202eb"} {
		err := checkName(name)
		if !fault.Is(err, fault.Usage) || len(err.Error()) > 200 {
			t.Errorf("%.40q: %v", name, err)
		}
	}
}

// FuzzScan looks for panics, for offsets outside the file, and for texts that are not at their offsets.
func FuzzScan(f *testing.F) {
	files, _ := filepath.Glob("testdata/corpus/*.c*")
	for _, file := range files {
		if src, err := os.ReadFile(file); err == nil && !strings.HasSuffix(file, ".golden") {
			f.Add(src, strings.HasSuffix(file, ".credentials"))
		}
	}
	f.Fuzz(func(t *testing.T, src []byte, credentials bool) {
		before := bytes.Clone(src)
		d, bad := scan(src, credentials)
		if !bytes.Equal(before, src) {
			t.Fatal("scan modified its input")
		}
		if bad != nil {
			if bad.line < 1 || bad.line > 1+bytes.Count(src, []byte("\n")) {
				t.Fatalf("line %d", bad.line)
			}
			return
		}
		at := 0
		for _, s := range d.sections {
			if s.start < at || s.end < s.start || s.bodyEnd < s.end || s.bodyEnd > len(src) {
				t.Fatalf("section %+v", s)
			}
			at = s.end
			for _, e := range s.entries {
				if e.start < at || e.end <= e.start || e.end > s.bodyEnd || e.valueAt < e.start || e.valTo > e.end {
					t.Fatalf("entry %+v", e)
				}
				if !e.multiline && string(src[e.valueAt:e.valTo]) != string(e.value) {
					t.Fatalf("value %q is not at its offset", e.value)
				}
				at = e.end
			}
		}
		kind := configFile
		if credentials {
			kind = credentialsFile
		}
		if _, err := newTable("/f", src, kind, nil); err != nil {
			t.Fatal(err)
		}
		_, _ = newTable("/f", src, registryFile, nil)
	})
}
