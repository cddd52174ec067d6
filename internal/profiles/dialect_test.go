//go:build unix

package profiles

import (
	"os"
	"strings"
	"testing"
)

// TestDialects checks that explain agrees with the table in docs/tools.md for each header. TestClientsNames checks
// that table against the tools.
func TestDialects(t *testing.T) {
	page, err := os.ReadFile("../../docs/tools.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(page), "<!-- readers: begin -->\n")
	text, _, _ = strings.Cut(text, "<!-- readers: end -->\n")
	names := map[string]string{"[profile team/x@y:z+1]": "team/x@y:z+1", "[profile two words]": "two words",
		`[profile "two words"]`: "two words", "[profile 'two words']": "two words", "[profile o'brien]": "o'brien",
		`[profile "o'brien"]`: "o'brien", "[profile größe]": "größe", "[profile a=b]": "a=b", "[profile a#b]": "a#b",
		"[profile a;b]": "a;b", "[profile [PROD]-x]": "[PROD]-x", `[profile a\b]`: "ab"}
	lines := strings.Split(strings.TrimSpace(text), "\n")
	rows := 0
	columns := strings.Split(strings.Trim(lines[0], "| "), " | ")[1:]
	for _, line := range lines[2:] {
		cells := strings.Split(strings.Trim(line, "| "), " | ")
		header := strings.ReplaceAll(strings.Trim(cells[0], "`"), "→", "\t")
		if !strings.Contains(header, "prof") || strings.Contains(header, "default") || header[0] != '[' && header[0] != ' ' {
			continue // this row describes a whole file
		}
		rows++
		name := names[header]
		if name == "" {
			name = "prod"
		}
		registry := sourceSection + `[profile "` + name + `"]` +
			"\nrole_arn = arn:aws:iam::444455556666:role/x\nsource_profile = security\n"
		set := load(t, header+"\ncredential_process = /bin/credproc \""+name+"\"\n", "", registry)
		for _, v := range set.Tools(name, func(string) string { return "1" }) {
			for i, tool := range columns {
				if tool == v.Tool && (cells[1+i] == "yes") != (v.From == FromBroker) {
					t.Errorf("%s: %s: the table says %s, explain says %s (%s)", header, tool, cells[1+i], v.From, v.Text)
				}
			}
		}
	}
	if rows < 18 {
		t.Errorf("only %d rows", rows)
	}
}
