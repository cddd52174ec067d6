package cli

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"broker/internal/profiles"
)

// TestByUse checks the order of profiles: first the recently used ones, by any name, then the others by name.
// Profiles that cannot be used are left out.
func TestByUse(t *testing.T) {
	dir := t.TempDir()
	files := profiles.Files{AWS: dir, Config: filepath.Join(dir, "config"), Credentials: filepath.Join(dir, "credentials"),
		Registry: filepath.Join(dir, "registry")}
	role := "role_arn = arn:aws:iam::444455556666:role/admin\nsource_profile = security\n"
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(files.Config, "[profile a]\n"+role+"region = eu-west-1\n[profile b]\n"+role+"[profile c]\n"+role+"[profile sso]\nsso_session = x\n[profile d\u202e]\n"+role)
	write(files.Registry, "[source security]\naccess_key_id = AKIAIOSFODNN7EXAMPLE\n[alias]\nshort = c\n")
	set, err := new(profiles.Store).Load(files)
	if err != nil {
		t.Fatal(err)
	}
	list := byUse(set, []string{"short", "gone", "sso", "security", "c", "b"})
	var names []string
	for _, s := range list {
		names = append(names, s.Name)
	}
	if want := []string{"c", "security", "b", "a"}; !slices.Equal(names, want) {
		t.Errorf("%q, want %q", names, want)
	}
	lines := rows(append(list, profiles.Summary{Name: "evil\t\x1b[31m\nname"}))
	for i, want := range []string{"c (short)  ", "security", "b ", "a ", `evil \x1b[31m name`} {
		if !strings.HasPrefix(lines[i], want) || strings.ContainsAny(lines[i], "\t\n\x1b") {
			t.Errorf("%q, want %q", lines[i], want)
		}
	}
	if !strings.HasSuffix(lines[3], "444455556666  admin     eu-west-1") || !strings.Contains(lines[1], "-             (source)  -") {
		t.Errorf("%q", lines)
	}
}
