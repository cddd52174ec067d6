package cli

import (
	"bytes"
	"strings"
	"testing"

	"github.com/rivo/uniseg"

	"broker/internal/profiles"
)

// TestTable checks that a table fits the width and holds every cell.
func TestTable(t *testing.T) {
	rows := [][]string{
		{"product_prod_paul", "444455556666", "allow-admin-from-security-account", "security", "eu-west-1", "", "prod,live"},
		{"本番環境", "222233334444", "x", "", "", "yes", "a, b, c"},
	}
	for _, width := range []int{0, 1, 5, 20, 40, 60, 72, 80, 100, 200} {
		var b bytes.Buffer
		table := newTable(&b, width, "NAME", "ACCOUNT", "ROLE", "SOURCE", "REGION", "LINKED", "ALIASES")
		for _, row := range rows {
			table.row(row...)
		}
		if err := table.print(); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(b.String()) {
			wide := uniseg.StringWidth(strings.TrimSuffix(line, "\n"))
			if width >= 20 && wide > width || strings.HasSuffix(line, " \n") {
				t.Errorf("%d columns: %d: %q", width, wide, line)
			}
		}
		// A name and a number stay whole as long as there is room for them.
		for _, whole := range []string{"product_prod_paul", "444455556666", "本番環境"} {
			if width >= 80 && !strings.Contains(b.String(), whole+"  ") {
				t.Errorf("%d columns: %s is folded:\n%s", width, whole, b.String())
			}
		}
		if lines := strings.Count(b.String(), "\n"); width == 0 && lines != 3 || width == 200 && lines != 3 {
			t.Errorf("%d columns: %d lines", width, lines)
		}
	}
}

// TestFlow checks that a text is broken at its blanks, and that no word is lost or cut.
func TestFlow(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"short", "short"},
		{"one two three four five six", "one two three four\n  five six"},
		{"label     one two three four", "label     one two\n          three four"},
		{"label     a-word-that-is-wider-than-all", "label\n  a-word-that-is-wider-than-all"},
		{"a-word-that-is-wider-than-all", "a-word-that-is-wider-than-all"},
		{"  indented one two three", "  indented one two\n    three"},
		{"本番環境 本番環境 本番環境", "本番環境 本番環境\n  本番環境"},
		{"", ""},
	} {
		if got := flow(tt.text, 20); got != tt.want {
			t.Errorf("%q: got %q, want %q", tt.text, got, tt.want)
		}
		if got := flow(tt.text, 0); got != tt.text {
			t.Errorf("without a terminal: %q", got)
		}
	}
}

// TestListOfProfiles checks that the list fits 80 columns, that no role is cut within a word, and that the list
// has the same columns as the list to choose from. Without a terminal it has all columns.
func TestListOfProfiles(t *testing.T) {
	s := profiles.Summary{Name: "product_prod_paul", Kind: profiles.KindRole, AccountID: "444455556666", Region: "eu-west-1",
		RoleARN: "arn:aws:iam::444455556666:role/allow-admin-from-security-account", Source: "security"}
	long := s
	long.Name, long.Aliases = "product_production_europe_paul", []string{"prod"}
	for _, tt := range []struct {
		width int
		of    profiles.Summary
		want  string
	}{
		{0, s, "NAME               ACCOUNT       ROLE                               REGION     SOURCE    LINKED\n" +
			"product_prod_paul  444455556666  allow-admin-from-security-account  eu-west-1  security  -\n"},
		{80, s, "NAME               ACCOUNT       ROLE                               REGION\n" +
			"product_prod_paul  444455556666  allow-admin-from-security-account  eu-west-1\n"},
		{80, long, "NAME                                   ACCOUNT       ROLE              REGION\n" +
			"product_production_europe_paul (prod)  444455556666  allow-admin-      eu-west-1\n" +
			"                                                     from-security-\n" +
			"                                                     account\n"},
	} {
		var b bytes.Buffer
		table := listTable(&b, tt.width)
		table.row(append(cellsOf(tt.of), tt.of.Source, "")...)
		if err := table.print(); err != nil || b.String() != tt.want {
			t.Errorf("%d columns: %v\n%s\nwant\n%s", tt.width, err, b.String(), tt.want)
		}
	}
	for want, guard := range map[string]profiles.Guard{
		"r (guarded)":                 {Production: true},
		"r (agents: deny, read-only)": {Agents: profiles.Agents{ReadOnly: true, Deny: true}},
		"r (guarded) (agents: ask)":   {Confirm: profiles.Always, Agents: profiles.Agents{Ask: true}},
	} {
		s := profiles.Summary{Name: "p", RoleARN: "arn:aws:iam::444455556666:role/r", Guard: guard}
		if got := cellsOf(s)[2]; got != want {
			t.Errorf("%+v: %q, want %q", guard, got, want)
		}
	}
	if got := rows([]profiles.Summary{s}); len(got) != 1 ||
		got[0] != "product_prod_paul  444455556666  allow-admin-from-security-account  eu-west-1" {
		t.Errorf("to pick from: %q", got)
	}
}
