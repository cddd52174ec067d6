//go:build unix

package profiles

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"broker/internal/fault"
)

func TestSetSection(t *testing.T) {
	arn := "arn:aws:iam::444455556666:role/dev"
	for _, tt := range []struct {
		what, src, kind, name string
		keys                  []KeyValue
		want                  string
	}{
		{"empty file", "", SectionProfile, "dev", []KeyValue{{"role_arn", arn}, {"region", "eu-west-1"}},
			"[profile dev]\nrole_arn = " + arn + "\nregion = eu-west-1\n"},
		{"no final newline", "# mine", SectionSettings, "", []KeyValue{{"lock_after", "8h"}},
			"# mine\n\n[settings]\nlock_after = 8h\n"},
		{"after a blank line", "[a]\n\n", SectionAlias, "", []KeyValue{{"prod", "product_prod_paul"}},
			"[a]\n\n[alias]\nprod = product_prod_paul\n"},
		{"CRLF", "[profile a]\r\nregion = x\r\n", SectionProfile, "b", []KeyValue{{"region", "y"}},
			"[profile a]\r\nregion = x\r\n\r\n[profile b]\r\nregion = y\r\n"},
		{"CRLF, new key", "[profile a]\r\nregion = x\r\n\r\n[profile b]\r\n", SectionProfile, "a", []KeyValue{{"output", "json"}},
			"[profile a]\r\nregion = x\r\noutput = json\r\n\r\n[profile b]\r\n"},
		{"BOM alone", "\xef\xbb\xbf", SectionProfile, "a", []KeyValue{{"region", "x"}}, "\xef\xbb\xbf[profile a]\nregion = x\n"},
		{"BOM", "\xef\xbb\xbf[profile a]\nregion = x\n", SectionProfile, "a", []KeyValue{{"region", "y"}}, "\xef\xbb\xbf[profile a]\nregion = y\n"},
		{"replace a value, keep the comment", "[profile a]\n  Region=x   # home\n", SectionProfile, "a", []KeyValue{{"region", "eu-west-1"}},
			"[profile a]\n  Region=eu-west-1   # home\n"},
		{"new key before the comments of the next section", "[profile a]\nregion = x\n# about b\n[profile b]\n", SectionProfile, "a", []KeyValue{{"output", "json"}},
			"[profile a]\nregion = x\noutput = json\n# about b\n[profile b]\n"},
		{"indented section", "[profile a]\n\tregion = x\n\toutput = y\n", SectionProfile, "a", []KeyValue{{"mfa_serial", "GAHT12345678"}},
			"[profile a]\n\tregion = x\n\toutput = y\n\tmfa_serial = GAHT12345678\n"},
		{"after a nested block", "[profile a]\ns3 =\n  x = y\n", SectionProfile, "a", []KeyValue{{"region", "z"}},
			"[profile a]\ns3 =\n  x = y\nregion = z\n"},
		{"replace a nested block", "[profile a]\nregion =\n  x = y\n  # c\n  z = 1\noutput = json\n", SectionProfile, "a", []KeyValue{{"region", "z"}},
			"[profile a]\nregion = z\noutput = json\n"},
		{"replace a continued value", "[profile a]\ncredential_process = /x\n  --y\noutput = json", SectionProfile, "a", []KeyValue{{"credential_process", "/x --y"}},
			"[profile a]\ncredential_process = /x --y\noutput = json"},
		{"empty value", "[profile a]\nregion =\n", SectionProfile, "a", []KeyValue{{"region", "z"}}, "[profile a]\nregion = z\n"},
		{"empty value, comment", "[profile a]\nregion = # none\n", SectionProfile, "a", []KeyValue{{"region", "z"}}, "[profile a]\nregion = z # none\n"},
		{"empty value, no space", "[profile a]\nregion=", SectionProfile, "a", []KeyValue{{"region", "z"}}, "[profile a]\nregion=z"},
		{"the effective key", "[profile a]\nregion = 1\nregion = 2\n[profile b]\n[profile a]\nregion = 3\n", SectionProfile, "a", []KeyValue{{"region", "4"}},
			"[profile a]\nregion = 1\nregion = 2\n[profile b]\n[profile a]\nregion = 4\n"},
		{"quoted name", "[profile 'a b']\nregion = x\n", SectionProfile, "a b", []KeyValue{{"region", "y"}}, "[profile 'a b']\nregion = y\n"},
		{"name that needs quotes", "", SectionProfile, `a "b`, []KeyValue{{"region", "y"}}, "[profile \"a \\\"b\"]\nregion = y\n"},
		{"default", "", SectionProfile, "default", []KeyValue{{"region", "y"}}, "[default]\nregion = y\n"},
		{"the effective default", "[profile default]\nregion = x\n[default]\nregion = z\n", SectionProfile, "default", []KeyValue{{"region", "y"}},
			"[profile default]\nregion = x\n[default]\nregion = y\n"},
		{"credentials", "[a b]\nx = y\n", SectionCredentials, "a b", []KeyValue{{"aws_session_token", "t=="}}, "[a b]\nx = y\naws_session_token = t==\n"},
		{"after a bare header without a newline", "[profile a]", SectionProfile, "a", []KeyValue{{"region", "y"}}, "[profile a]\nregion = y\n"},
		{"nothing to change", "[profile a]\nregion=x", SectionProfile, "a", []KeyValue{{"REGION", "x"}}, "[profile a]\nregion=x"},
	} {
		t.Run(tt.what, func(t *testing.T) {
			got, err := SetSection([]byte(tt.src), tt.kind, tt.name, tt.keys)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != tt.want {
				t.Errorf("got\n%q\nwant\n%q", got, tt.want)
			}
			if again, _ := SetSection(got, tt.kind, tt.name, tt.keys); !bytes.Equal(again, got) {
				t.Errorf("the second edit changed the file again:\n%q", again)
			}
		})
	}
}

func TestRemoveSection(t *testing.T) {
	for _, tt := range []struct{ what, src, kind, name, want string }{
		{"in the middle", "[profile a]\nx = 1\n\n[profile b]\n# within\ny = 2\n\n# about c\n[profile c]\n", SectionProfile, "b", "[profile a]\nx = 1\n\n# about c\n[profile c]\n"},
		{"at the end", "[profile a]\nx = 1\n\n[profile b]\ny = 2\n", SectionProfile, "b", "[profile a]\nx = 1\n"},
		{"the only section", "[profile b]\ny = 2\n", SectionProfile, "b", ""},
		{"after a BOM", "\xef\xbb\xbf[profile b]\ny = 2\n", SectionProfile, "b", "\xef\xbb\xbf"},
		{"all sections of the name", "[profile b]\ny = 2\n[profile a]\n[profile b]\n", SectionProfile, "b", "[profile a]\n"},
		{"both defaults", "[default]\nx = 1\n[profile a]\n[profile default]\ny = 2\n", SectionProfile, "default", "[profile a]\n"},
		{"with lines that cannot be read", "[profile a]\nx = 1\n[profile b]\n  garbage\n[profile c]\n", SectionProfile, "b", "[profile a]\nx = 1\n[profile c]\n"},
		{"no section of the name", "[profile a]\nx = 1\n", SectionProfile, "b", "[profile a]\nx = 1\n"},
		{"credentials", "[a]\nk = 1\n\n[b]\nk = 2\n", SectionCredentials, "a", "[b]\nk = 2\n"},
	} {
		t.Run(tt.what, func(t *testing.T) {
			got, err := RemoveSection([]byte(tt.src), tt.kind, tt.name)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestRemoveKeys(t *testing.T) {
	src := "[profile a]\nrole_arn = x\n  more\nregion = y # stays\nROLE_ARN = z\ns3 =\n  a = b\n# stays\n[profile a]\nrole_arn=w"
	want := "[profile a]\nregion = y # stays\n# stays\n[profile a]\n"
	got, err := RemoveKeys([]byte(src), SectionProfile, "a", "role_arn", "S3", "absent")
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestEditRefuses(t *testing.T) {
	for _, kv := range []KeyValue{
		{"", "v"}, {"k", ""}, {" k", "v"}, {"k", "v "}, {"k", "\tv"}, {"a=b", "v"}, {"a:b", "v"}, {"#k", "v"}, {"[k]", "v"}, {"k\n", "v"},
		{"k", "v\n[profile admin]"}, {"k", "v\rx"}, {"k", "v\x00"}, {"k", "v\x1b[0m"}, {"k", "v #x"}, {"k", "v\t;x"}, {"k", "#v"}, {"k", ";v"}, {"k", "\xff"},
		{"k", "a\u0085b"}, {"k", "a\u2028b"},
	} {
		if got, err := SetSection(nil, SectionProfile, "a", []KeyValue{kv}); !fault.Is(err, fault.Usage) {
			t.Errorf("%q: %v, %q", kv, err, got)
		}
	}
	for _, id := range [][2]string{{SectionProfile, ""}, {SectionProfile, "a\x00b"}, {SectionSource, "a\nb"},
		{SectionSettings, "x"}, {"other", "x"}, {SectionCredentials, " a"}} {
		if _, err := SetSection(nil, id[0], id[1], []KeyValue{{"k", "v"}}); !fault.Is(err, fault.Usage) {
			t.Errorf("set %q: %v", id, err)
		}
		if _, err := RemoveSection(nil, id[0], id[1]); !fault.Is(err, fault.Usage) {
			t.Errorf("remove %q: %v", id, err)
		}
		if _, err := RemoveKeys(nil, id[0], id[1], "k"); !fault.Is(err, fault.Usage) {
			t.Errorf("remove keys %q: %v", id, err)
		}
	}
	if _, err := SetSection([]byte("a\n\x00"), SectionProfile, "a", []KeyValue{{"k", "v"}}); !fault.Is(
		err,
		fault.Config,
	) ||
		!strings.Contains(err.Error(), "line 2") {
		t.Error(err)
	}
}

// effective returns what a reader sees of a document: the effective value of each key in each section.
func effective(d *document) map[string]string {
	m := map[string]string{}
	for i := range d.sections {
		s := &d.sections[i]
		if s.kind == "" || !slices.Contains(d.sectionsOf(s.kind, s.name), s) {
			continue
		}
		for _, e := range s.entries {
			v := string(e.value)
			for _, n := range e.nested {
				v += "\n" + string(n.key) + "=" + string(n.value)
			}
			m[s.kind+"\x00"+s.name+"\x00"+strings.ToLower(string(e.key))] = v
		}
	}
	return m
}

// FuzzEdit checks that after any edit a reader sees the new value and no other change, and that edits are
// idempotent.
func FuzzEdit(f *testing.F) {
	files, _ := filepath.Glob("testdata/corpus/*.config")
	for _, file := range files {
		src, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(src, "dev", "region", "eu-west-9")
		f.Add(src, "new one", "key", "a=b")
		f.Add(src, "default", "output", "x")
	}
	f.Fuzz(func(t *testing.T, src []byte, name, key, value string) {
		for _, kind := range []string{SectionProfile, SectionCredentials} {
			before, bad := scan(src, kind == SectionCredentials)
			if bad != nil {
				return
			}
			got, err := SetSection(src, kind, name, []KeyValue{{key, value}})
			if err != nil {
				continue
			}
			after, bad := scan(got, kind == SectionCredentials)
			if bad != nil {
				t.Fatalf("%q cannot be read: %s", got, bad.text)
			}
			id := kind + "\x00" + name + "\x00" + strings.ToLower(key)
			want, have := effective(before), effective(after)
			want[id] = value
			for k, v := range want {
				if have[k] != v {
					t.Fatalf("%q: value %q, want %q in\n%q\nbefore\n%q", k, have[k], v, got, src)
				}
			}
			if len(have) != len(want) {
				t.Fatalf("%d values, want %d in\n%q\nbefore\n%q", len(have), len(want), got, src)
			}
			if lost, most := lostLines(src, got), entryLines(before, src, kind, name, key); lost > most {
				t.Fatalf("%d lines lost, want at most %d in\n%q\nbefore\n%q", lost, most, got, src)
			}
			if again, err := SetSection(got, kind, name, []KeyValue{{key, value}}); err != nil || !bytes.Equal(again, got) {
				t.Fatalf("the second edit changed the file again: %v\n%q\n%q", err, got, again)
			}
			gone, err := RemoveKeys(got, kind, name, key)
			if err != nil {
				t.Fatal(err)
			}
			d, _ := scan(gone, kind == SectionCredentials)
			left := effective(d)
			if _, still := left[id]; still {
				t.Fatalf("%q is still there in\n%q", id, gone)
			}
			delete(have, id)
			for k, v := range have {
				if left[k] != v {
					t.Fatalf("removing %q changed %q in\n%q\nbefore\n%q", id, k, gone, got)
				}
			}
			gone, err = RemoveSection(got, kind, name)
			if err != nil {
				t.Fatal(err)
			}
			d, _ = scan(gone, kind == SectionCredentials)
			left = effective(d)
			for k, v := range have {
				if strings.HasPrefix(k, kind+"\x00"+name+"\x00") {
					delete(have, k)
				} else if left[k] != v {
					t.Fatalf("removing the section changed %q in\n%q\nbefore\n%q", k, gone, got)
				}
			}
			if len(left) != len(have) {
				t.Fatalf("%v left, want %v", left, have)
			}
		}
	})
}

// entryLines counts the lines of the entry that an edit may replace.
func entryLines(d *document, src []byte, kind, name, key string) int {
	n := 0
	for _, e := range d.entriesOf(kind, name) {
		if strings.EqualFold(string(e.key), key) {
			n = len(bytes.SplitAfter(bytes.TrimSuffix(src[e.start:e.end], []byte("\n")), []byte("\n")))
		}
	}
	return n
}

// lostLines counts the lines of before that are neither in the common start nor in the common end of before and
// after.
func lostLines(before, after []byte) int {
	split := func(b []byte) []string {
		lines := strings.Split(string(b), "\n")
		for i := range lines {
			lines[i] = strings.TrimRight(lines[i], "\r") // the last line may have become CRLF
		}
		return lines
	}
	b, a := split(before), split(after)
	for len(b) > 0 && len(a) > 0 && b[0] == a[0] {
		b, a = b[1:], a[1:]
	}
	for len(b) > 0 && len(a) > 0 && b[len(b)-1] == a[len(a)-1] {
		b, a = b[:len(b)-1], a[:len(a)-1]
	}
	return len(b)
}
