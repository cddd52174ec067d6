package fault

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

// hostileTexts are texts that an attacker may put on a person's screen.
var hostileTexts = []string{
	"", "a\nb", "\xff\xfe", "\x1b]0;title\a", "\u202e", "\u009b31m", strings.Repeat("\x00", 700), "a\x7fb", "\u2028",
	"\u200b\u2060\ufeff",
	"\u061c\u2066\u2069", "\ufe0f", "\U000e0101", "\U000e0041", "\u3164\u115f\u1160\uffa0", "\u2800", "\u034f",
	"\xed\xa0\x80", "\ufffd", "é本",
	"a\tb\rc", "\u00a0\u3000", "\U0001f600", "\ue000", "\u0378",
}

func FuzzLine(f *testing.F) {
	for _, s := range hostileTexts {
		f.Add(s)
	}
	f.Fuzz(checkLine)
}

// TestShort: a text is cut between characters, never within an escape, and is not cut again.
func TestShort(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "abcdef": "abcdef", "abcdefg": "abcdef…", "ééé": "ééé", "aéééé": "aéé…", "abc\x1bd": "abc…", "ab\x1b": `ab\x1b`,
		"a\nb": "a b",
	} {
		if got := Short(in, 6); got != want || Short(got, 6) != want {
			t.Errorf("%q became %q and then %q, want %q", in, got, Short(got, 6), want)
		}
	}
}

// FuzzWriter checks that the output is printable lines, and that writing it again does not change it.
func FuzzWriter(f *testing.F) {
	for _, s := range hostileTexts {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		var first, second bytes.Buffer
		if n, err := Writer(&first).Write([]byte(in)); n != len(in) || err != nil {
			t.Errorf("%d, %v", n, err)
		}
		checkShown(t, in, strings.NewReplacer("\n", "", "\t", "").Replace(first.String()))
		_, _ = Writer(&second).Write(first.Bytes())
		if first.String() != second.String() || strings.Count(in, "\n") != strings.Count(first.String(), "\n") {
			t.Errorf("%q became %q and then %q", in, first.String(), second.String())
		}
	})
}

// FuzzJSON checks that a document keeps its values and has only printable characters.
func FuzzJSON(f *testing.F) {
	for _, s := range hostileTexts {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		document, err := json.MarshalIndent(map[string]string{in: in}, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		out := JSON(document)
		checkShown(t, in, strings.ReplaceAll(string(out), "\n", ""))
		var before, after map[string]string
		if err := json.Unmarshal(document, &before); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(out, &after); err != nil {
			t.Fatalf("%q: %v", out, err)
		}
		for key, value := range before {
			if after[key] != value || len(after) != 1 {
				t.Errorf("%q became %q", before, after)
			}
		}
		if again := JSON(out); !bytes.Equal(again, out) || !utf8.Valid(out) {
			t.Errorf("%q became %q", out, again)
		}
	})
}
