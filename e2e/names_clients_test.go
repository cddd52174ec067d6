//go:build clients

package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// hardFile is a file that AWS tools read differently. text is the config, in which HELPER stands for the line that
// asks credproc.
type hardFile struct{ what, profile, text string }

var hardFiles = []hardFile{
	{"`[profile prod]`", "prod", "[profile prod]\nHELPER"},
	{"`[profile team/x@y:z+1]`", "team/x@y:z+1", "[profile team/x@y:z+1]\nHELPER"},
	{"`[profile two words]`", "two words", "[profile two words]\nHELPER"},
	{"`[profile \"two words\"]`", "two words", "[profile \"two words\"]\nHELPER"},
	{"`[profile 'two words']`", "two words", "[profile 'two words']\nHELPER"},
	{"`[profile \"prod\"]`", "prod", "[profile \"prod\"]\nHELPER"},
	{"`[profile o'brien]`", "o'brien", "[profile o'brien]\nHELPER"},
	{"`[profile \"o'brien\"]`", "o'brien", "[profile \"o'brien\"]\nHELPER"},
	{"`[ profile prod ]`", "prod", "[ profile prod ]\nHELPER"},
	{"`[profile  prod]`", "prod", "[profile  prod]\nHELPER"},
	{"`[profile\tprod]`", "prod", "[profile\tprod]\nHELPER"},
	{"`[profile prod ]`", "prod", "[profile prod ]\nHELPER"},
	{"`[profile größe]`", "größe", "[profile größe]\nHELPER"},
	{"`[profile a=b]`", "a=b", "[profile a=b]\nHELPER"},
	{"`[profile a#b]`", "a#b", "[profile a#b]\nHELPER"},
	{"`[profile a;b]`", "a;b", "[profile a;b]\nHELPER"},
	{"`[profile [PROD]-x]`", "[PROD]-x", "[profile [PROD]-x]\nHELPER"},
	{"`[profile a\\b]`", "ab", "[profile a\\b]\nHELPER"},
	{"`[profile prod] # note`", "prod", "[profile prod] # note\nHELPER"},
	{"`[profile prod] # see [1]`", "prod", "[profile prod] # see [1]\nHELPER"},
	{"`[profiles prod]`", "prod", "[profiles prod]\nHELPER"},
	{"a byte order mark", "prod", "\ufeff[profile prod]\nHELPER"},
	{"a byte order mark, the profile further down", "prod", "\ufeff[default]\nregion = x\n[profile prod]\nHELPER"},
	{"a line without `=`", "prod", "[profile prod]\njunk\nHELPER"},
	{"a key before the first header", "prod", "region = x\n[profile prod]\nHELPER"},
	{"a key twice", "prod", "[profile prod]\noutput = x\noutput = y\nHELPER"},
	{"another section twice", "prod", "[profile x]\nregion = a\n[profile x]\nregion = b\n[profile prod]\nHELPER"},
	{"a header without `]`", "prod", "[profile x\n[profile prod]\nHELPER"},
	{"an indented header below a key", "prod", "[default]\nregion = eu-west-1\n [profile prod]\n HELPER"},
	{"`[default]` behind `[profile default]`", "default", "[profile default]\nHELPER[default]\noutput = json\n"},
	{"`[profile default]` behind `[default]`", "default", "[default]\noutput = json\n[profile default]\nHELPER"},
	{"lines that end in CR LF", "prod", "[profile prod]\r\nHELPER\r\n"},
	{"a comment behind the helper", "prod", "[profile prod]\nCOMMENTED"},
	{"a role in `[DEFAULT]`", "prod", "[DEFAULT]\nrole_arn = ROLE\nsource_profile = nowhere\n[profile prod]\nHELPER"},
}

// readers are the tools of the table, in its order.
var readers = []string{"AWS CLI", "boto3", "JS SDK 2", "JS SDK 3", "Go SDK"}

// TestClientsNames checks, for each hard file, that docs/tools.md and explain both say which tools find the
// profile in it. UPDATE=1 writes the table.
func TestClientsNames(t *testing.T) {
	h := clientHouse(t)
	h.env = append(h.env, "HTTPS_PROXY=http://127.0.0.1:1", "NO_PROXY=127.0.0.1", "AWS_SDK_LOAD_CONFIG=1")
	registry, err := os.ReadFile(h.registry())
	must(t, err)
	written := map[string]bool{"prod": true}
	for _, f := range hardFiles {
		if !written[f.profile] {
			registry = fmt.Appendf(registry, "[profile %q]\nrole_arn = %s\nsource_profile = security\n"+
				"region = eu-west-1\n", f.profile, prodRole)
		}
		written[f.profile] = true
	}
	must(t, h.write(h.registry(), strings.NewReplacer(`[profile "default"]`, "[default]").Replace(string(registry))))
	must(t, h.write(filepath.Join(h.home, ".aws/credentials"), ""))
	ask := askers(t, h)
	var table strings.Builder
	fmt.Fprintf(&table, "| in the config | %s |\n|---|%s\n", strings.Join(readers, " | "),
		strings.Repeat("---|", len(readers)))
	for _, f := range hardFiles {
		helper := fmt.Sprintf("credential_process = %q prod", filepath.Join(h.bin, "credproc"))
		text := strings.NewReplacer("HELPER", helper+"\nregion = eu-west-1\n",
			"COMMENTED", helper+" # note\nregion = eu-west-1\n", "ROLE", prodRole).Replace(f.text)
		if strings.Contains(f.text, "\r\n") {
			text = strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\n", "\r\n")
		}
		must(t, h.write(h.awsConfig(), text))
		var said struct {
			Tools []struct{ Tool, From, Text string }
		}
		must(t, json.Unmarshal([]byte(h.ok(t, "broker", "explain", "--json", f.profile)), &said))
		fmt.Fprintf(&table, "| %s |", strings.ReplaceAll(f.what, "\t", "→"))
		for _, tool := range readers {
			if ask[tool] == nil {
				t.Logf("SKIPPED, NOT PROVEN: %s", tool)
				fmt.Fprint(&table, "[^|]+|")
				continue
			}
			from, cell := "nobody", "no"
			switch arn := ask[tool](f.profile); {
			case strings.HasPrefix(arn, clientRoles[1].arn):
				from, cell = "broker", "yes"
			case arn != "":
				from = "else"
			}
			fmt.Fprintf(&table, " %s |", cell)
			for _, v := range said.Tools {
				if v.Tool == tool && v.From != from {
					t.Errorf("%s: %s: explain says %s (%s), but it is %s", f.what, tool, v.From, v.Text, from)
				}
			}
		}
		table.WriteString("\n")
	}
	const begin, end = "<!-- readers: begin -->\n", "<!-- readers: end -->\n"
	page, err := os.ReadFile("../docs/tools.md")
	must(t, err)
	before, rest, found := strings.Cut(string(page), begin)
	old, after, ended := strings.Cut(rest, end)
	if !found || !ended {
		t.Fatal("docs/tools.md has no table of readers")
	}
	if os.Getenv("UPDATE") != "" {
		must(t, os.WriteFile("../docs/tools.md", []byte(before+begin+table.String()+end+after), 0o644))
		return
	}
	want := strings.ReplaceAll(regexp.QuoteMeta(table.String()), regexp.QuoteMeta("[^|]+|"), "[^|]+[|]")
	if !regexp.MustCompile("^" + want + "$").MatchString(old) {
		t.Errorf("the table in docs/tools.md is\n%s\nbut should be\n%s\n(UPDATE=1 writes it)", old, table.String())
	}
	if n := len(slices.Collect(maps.Keys(ask))); n < 4 {
		t.Errorf("only %d tools were tested", n)
	}
}
