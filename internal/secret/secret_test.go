package secret

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

const text = "wJalrXUtnFEMI-do-not-print"

type outer struct {
	Exported   String
	unexported String
	pointer    *String
	list       []String
}

// TestNeverPrinted tries every way in which a value can reach a log or a screen by accident.
func TestNeverPrinted(t *testing.T) {
	s := New(text)
	o := outer{s, s, &s, []String{s}}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%c", "%p", "%T"} {
		for _, v := range []any{s, &s, o, &o, []any{s}, map[string]any{"a": o}, fmt.Errorf("wrap %v", s)} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
	}
	for _, h := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		slog.New(h).Info("x", "secret", s, "pointer", &s, "outer", o, "group", slog.GroupValue(slog.Any("s", s)))
	}
	for _, v := range []any{s, o, &o} {
		b, err := json.Marshal(v)
		out.Write(b)
		if err == nil {
			t.Errorf("json.Marshal(%T) did not refuse", v)
		}
		b, _ = xml.Marshal(v)
		out.Write(b)
	}
	hexed := fmt.Sprintf("%x", text)
	for _, leak := range []string{text, hexed, strings.ToUpper(hexed)} {
		if strings.Contains(out.String(), leak) {
			t.Fatalf("leaked:\n%s", out.String())
		}
	}
	if !strings.Contains(out.String(), redacted) {
		t.Fatal("nothing was printed: the test proves nothing")
	}
	if s.Reveal() != text {
		t.Error("Reveal does not return the text")
	}
}

func TestZero(t *testing.T) {
	if !New("").IsZero() || New("").Reveal() != "" || New("a").IsZero() {
		t.Error("the empty secret is not the zero value")
	}
}

func TestTail(t *testing.T) {
	for in, want := range map[string]string{"AKIAABCDEFGHIJKL1234": "…1234", "abc": "abc", "": ""} {
		if got := Tail(in); got != want {
			t.Errorf("Tail(%q) = %q, want %q", in, got, want)
		}
	}
}
