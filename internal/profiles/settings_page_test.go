package profiles

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestSettingsAreDocumented checks that docs/settings.md has a row for each key of [settings], in the same order
// and with its default, and that it mentions each key of a source and of a profile.
func TestSettingsAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/settings.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "\n## `[settings]`\n")
	section, _, _ = strings.Cut(section, "\n\n| command |")
	rows := regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| [^|]+ \\| ([^|]+) \\| [^|]+ \\|$").FindAllStringSubmatch(section, -1)
	for i := range max(len(rows), len(settingKeys)) {
		if i >= len(rows) || i >= len(settingKeys) || rows[i][1] != settingKeys[i].name {
			t.Fatalf("row %d of docs/settings.md has the wrong key: %q", i+1, rows)
		}
		if k := settingKeys[i]; k.fallback != "" && rows[i][2] != "`"+k.fallback+"`" {
			t.Errorf("docs/settings.md says that the default of %s is %s; it is %s", k.name, rows[i][2], k.fallback)
		}
	}
	for _, names := range [][]string{registryKeys[SectionSource], registryKeys[SectionProfile]} {
		for _, name := range names {
			if !strings.Contains(string(page), "`"+name+"`") {
				t.Errorf("docs/settings.md does not mention %s", name)
			}
		}
	}
}
