package e2e

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"
)

// prompt is the shell's prompt. Its invisible mark distinguishes it from a command that Broker prints.
const prompt = "\x1e$ "

// pictures are the recordings of the first minute in the README, for light and dark pages.
var pictures = map[string]palette{
	"../docs/first-minute-light.svg": {back: "#f6f8fa", text: "#1f2328", quiet: "#59636e", typed: "#0550ae"},
	"../docs/first-minute-dark.svg":  {back: "#151b23", text: "#e6edf3", quiet: "#9198a1", typed: "#79c0ff"},
}

// palette holds the colors of a picture.
type palette struct{ back, text, quiet, typed string }

// scene is one line that the person in the recording types. A scene without echo is a passphrase.
type scene struct {
	after  string // what the terminal shows last before the person types
	types  string // the text; CODE stands for the code that the MFA device shows
	unseen bool   // the terminal does not echo the text
}

// firstMinute is the content of the recording.
var firstMinute = []scene{
	{after: prompt, types: "broker setup"},
	{after: "each step] ", types: "y"},
	{after: "New passphrase: ", types: "correct horse battery staple", unseen: true},
	{after: "The same again: ", types: "correct horse battery staple", unseen: true},
	{after: "asked by broker: ", types: "CODE"},
	{after: prompt, types: "aws sts get-caller-identity --profile product_prod_paul --query Arn"},
	{after: prompt, types: "broker exec dev -- aws sts get-caller-identity --query Arn"},
	{after: prompt, types: "broker console prod"},
	{after: prompt, types: "broker status"},
}

// TestRecordingIsFitToPublish checks that each committed picture is an SVG of at most 150 kB, shows the scenes in
// order, and contains nothing of the machine that made it. TestClientsRecording compares the pictures with a real
// run.
func TestRecordingIsFitToPublish(t *testing.T) {
	t.Parallel()
	private := regexp.MustCompile(`/root|/tmp|/home/|/Users/|127\.0\.0\.1|localhost|AKIA|ASIA|correct horse|(?i)<script|href`)
	for file := range pictures {
		picture, err := os.ReadFile(file)
		must(t, err)
		if len(picture) > 150_000 {
			t.Errorf("%s has %d bytes", file, len(picture))
		}
		text, err := linesOf(picture)
		must(t, err)
		rest := strings.Join(text, "\n")
		for _, s := range firstMinute {
			if s.unseen || s.types == "CODE" {
				continue
			}
			_, after, found := strings.Cut(rest, strings.TrimPrefix(s.after, "\x1e")+s.types)
			if !found {
				t.Errorf("%s does not show %q in its place: run make recording", file, s.types)
				break
			}
			rest = after
		}
		if m := private.Find(picture); m != nil {
			t.Errorf("%s shows %q", file, m)
		}
	}
}

// linesOf returns the text elements of an SVG.
func linesOf(picture []byte) (lines []string, err error) {
	d := xml.NewDecoder(strings.NewReader(string(picture)))
	in := false
	for {
		token, err := d.Token()
		switch {
		case errors.Is(err, io.EOF):
			return lines, nil
		case err != nil:
			return nil, err
		}
		switch token := token.(type) {
		case xml.StartElement:
			if token.Name.Local == "text" {
				in = true
				lines = append(lines, "")
			}
		case xml.EndElement:
			in = in && token.Name.Local != "text"
		case xml.CharData:
			if in {
				lines[len(lines)-1] += string(token)
			}
		}
	}
}
