//go:build unix

package profiles

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"broker/internal/fault"
)

const (
	beginTeam = "# broker generate team: begin" + beginNote + "\n"
	endTeam   = "# broker generate team: end\n"
	beginTwo  = "# broker generate two: begin" + beginNote + "\n"
	endTwo    = "# broker generate two: end\n"
)

var devBlock = []BlockSection{{"dev", []KeyValue{{"region", "eu-west-1"}}}}

func TestSetBlock(t *testing.T) {
	const dev = beginTeam + "[profile dev]\nregion = eu-west-1\n" + endTeam
	for _, tt := range []struct {
		what, src string
		sections  []BlockSection
		want      string
	}{
		{"empty file", "", devBlock, dev},
		{"nothing in nothing", "", nil, ""},
		{"at the end", "[profile mine]\nregion = x\n", devBlock, "[profile mine]\nregion = x\n\n" + dev},
		{"no final newline", "[profile mine]\nregion = x", devBlock, "[profile mine]\nregion = x\n\n" + dev},
		{"after a blank line", "[a]\n\n", devBlock, "[a]\n\n" + dev},
		{"BOM alone", "\xef\xbb\xbf", devBlock, "\xef\xbb\xbf" + dev},
		{"BOM before the block", "\xef\xbb\xbf" + dev + "[profile mine]\n", nil, "\xef\xbb\xbf[profile mine]\n"},
		{"CRLF", "[profile mine]\r\nregion = x\r\n", devBlock, "[profile mine]\r\nregion = x\r\n\r\n" + strings.ReplaceAll(dev, "\n", "\r\n")},
		{"in its place", "# top\n" + beginTeam + "[profile old]\nregion = x\n# lost\n" + endTeam + "\n# mine\n[profile mine]\n", devBlock,
			"# top\n" + dev + "\n# mine\n[profile mine]\n"},
		{"goes", "# top\n\n" + dev + "\n# mine\n[profile mine]\n", nil, "# top\n\n\n# mine\n[profile mine]\n"},
		{"beside another", dev + beginTwo + "[profile x]\na = b\n" + endTwo, nil, beginTwo + "[profile x]\na = b\n" + endTwo},
		{"after another", beginTwo + "[profile x]\na = b\n" + endTwo, devBlock, beginTwo + "[profile x]\na = b\n" + endTwo + "\n" + dev},
		{"marker without a note, indented", "  ; broker generate team: begin\n[profile old]\n ;broker generate team: end", devBlock, dev},
		{"comments that only look like markers", "# broker generates team: begin\n# broker generate: end\n# see broker generate team: end\n", devBlock,
			"# broker generates team: begin\n# broker generate: end\n# see broker generate team: end\n\n" + dev},
	} {
		t.Run(tt.what, func(t *testing.T) {
			got, err := SetBlock([]byte(tt.src), "team", tt.sections)
			if err != nil || string(got) != tt.want {
				t.Fatalf("%v, got %q\nwant %q", err, got, tt.want)
			}
			if again, err := SetBlock(got, "team", tt.sections); err != nil || !bytes.Equal(again, got) {
				t.Errorf("twice: %v, %q", err, again)
			}
			if back, err := Block(got, "team"); err != nil || !reflect.DeepEqual(back, tt.sections) {
				t.Errorf("read back: %v, %v", err, back)
			}
		})
	}
}

func TestSetBlockRefuses(t *testing.T) {
	for _, tt := range []struct {
		what, src string
		line      int
		want      string
	}{
		{"no end", "[a]\n" + beginTeam + "[profile x]\n", 2, "has no end"},
		{"no begin", "[a]\n" + endTeam, 2, "has no begin line"},
		{"another's end", beginTeam + endTwo, 2, "has no begin line"},
		{"nested", beginTeam + beginTwo + endTwo + endTeam, 2, "inside another"},
		{"begun again", beginTeam + beginTeam + endTeam, 2, "inside another"},
		{"twice", beginTeam + endTeam + "# x\n" + beginTeam + endTeam, 4, "a second time"},
		{"ended twice", beginTeam + endTeam + endTeam, 3, "has no begin line"},
		{"keys after the block", beginTeam + "[profile x]\n" + endTeam + "\n# mine\noutput = json\n", 6, "without a section header of its own"},
		{"a continuation line after the block", beginTeam + "[profile x]\ns3 =\n" + endTeam + "  a = b\n", 5, "without a section header of its own"},
		{"keys at the start of the block", "[profile mine]\n" + beginTeam + "output = json\n" + endTeam, 3, "without a section header of its own"},
		{"no text", "[a]\n\xff\n", 2, "UTF-8"},
	} {
		_, err := SetBlock([]byte(tt.src), "team", devBlock)
		if f := fault.Of(err); f == nil || f.Kind != fault.Config ||
			!strings.HasPrefix(f.Message, fmt.Sprintf("line %d ", tt.line)) ||
			!strings.Contains(f.Message, tt.want) {
			t.Errorf("%s: %v", tt.what, err)
		}
		if _, err := Block([]byte(tt.src), "team"); err == nil {
			t.Errorf("%s: Block accepted it", tt.what)
		}
	}
	for _, tt := range []struct {
		label, name, key, value string
	}{
		{"a b", "x", "region", "y"}, {"", "x", "region", "y"}, {"x\n", "x", "region", "y"}, {"team", "default", "region", "y"}, {"team", "a\x00b", "region", "y"},
		{"team", "", "region", "y"}, {"team", "x\ny", "region", "y"}, {"team", "x", "re=gion", "y"}, {"team", "x", "region", "y\n[profile z]"}, {"team", "x", "region", ""},
		{"team", "x", "region", "y # z"},
	} {
		_, err := SetBlock(nil, tt.label, []BlockSection{{tt.name, []KeyValue{{tt.key, tt.value}}}})
		if !fault.Is(err, fault.Usage) {
			t.Errorf("%+v: %v", tt, err)
		}
	}
}

func TestNamesInFiles(t *testing.T) {
	src := "[default]\n[profile a]\n[alias]\nb = a\n[source c]\n[settings]\nx = y\n" + beginTeam + "[profile d]\n" + endTeam + "[services e]\n"
	got, err := Names([]byte(src), false)
	if want := "[{default 1 false} {a 2 false} {b 4 false} {c 5 false} {d 9 false}]"; err != nil || fmt.Sprint(got) != want {
		t.Errorf("%v, %v", got, err)
	}
	got, err = Names([]byte("[a]\naws_access_key_id = x\n[b c]\nAWS_Session_Token = y\n"), true)
	if want := "[{a 1 false} {b c 3 true}]"; err != nil || fmt.Sprint(got) != want {
		t.Errorf("%v, %v", got, err)
	}
}

// FuzzBlock checks that SetBlock keeps every byte outside the block, is idempotent, and that Block reads back what
// it wrote.
func FuzzBlock(f *testing.F) {
	for _, src := range []string{"", "[profile a]\r\nregion = x\r\n", beginTeam + "[profile x]\n" + endTeam, "\xef\xbb\xbf" + beginTwo + endTwo + "# x", beginTeam} {
		f.Add([]byte(src), "dev", "eu-west-1")
	}
	f.Fuzz(func(t *testing.T, src []byte, name, value string) {
		before := bytes.Clone(src)
		sections := []BlockSection{{name, []KeyValue{{"region", value}}}, {"second", []KeyValue{{"output", "json"}}}}
		if name == "second" {
			return
		}
		with, err := SetBlock(src, "team", sections)
		if !bytes.Equal(src, before) {
			t.Fatal("SetBlock modified its input")
		}
		if err != nil {
			return
		}
		if again, err := SetBlock(with, "team", sections); err != nil || !bytes.Equal(again, with) {
			t.Fatalf("twice: %v, %q and %q", err, with, again)
		}
		if back, err := Block(with, "team"); err != nil || !reflect.DeepEqual(back, sections) {
			t.Fatalf("read back: %v, %v from %q", err, back, with)
		}
		without, err := WithoutBlock(with, "team")
		if err != nil {
			t.Fatal(err)
		}
		outside, err := WithoutBlock(src, "team")
		if err != nil {
			t.Fatal(err)
		}
		// Adding a block may add a line end to the last line, and one blank line.
		if !bytes.HasPrefix(without, outside) || len(bytes.TrimSpace(without[len(outside):])) > 0 {
			t.Fatalf("outside the block, %q became %q", outside, without)
		}
	})
}
