package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"
)

// hostile are names that somebody may try: for a shell, a terminal, a path, a file of sections, a flag.
var hostile = []string{
	"$(touch hacked)", "`touch hacked`", "; touch hacked", "| touch hacked", "a\ntouch hacked", "&& touch hacked", "${IFS}touch${IFS}hacked",
	"../../etc/passwd", "/etc/passwd", "..", ".", "~", "%s%n%d", "%2e%2e%2f", "\x1b[2J", "\x1b]0;title\x07", "\r\nhint: rm -rf", "a\tb", "\u202eabc", "\u0000a"[2:],
	"]", "[profile x]", "x]\n[profile y", "a = b", "# comment", "; comment", "\"", "'", "\\", "-", "--", "-x", "--yes", "=", ":", "\xff\xfe", "\xed\xa0\x80",
	strings.Repeat("a", 300), strings.Repeat("é", 200), strings.Repeat("../", 100), "con", "NUL", "default\n", " default", "default ",
}

// TestHostileNamesLong: whatever a name is, no command runs anything, writes beside its files, or steers the terminal
// with it.
func TestHostileNamesLong(t *testing.T) {
	t.Parallel()
	h := demo(t)
	before := tree(t, h)
	for _, words := range [][]string{
		{"credproc", "@"}, {"credproc", "--profile", "@"},
		{"broker", "exec", "@", "--", "true"}, {"broker", "exec", "--mode", "file", "@", "--", "true"}, {"broker", "exec", "--mode", "server", "@", "--", "true"},
		{"broker", "export", "@"}, {"broker", "console", "--print", "@"}, {"broker", "explain", "@"}, {"broker", "login", "@"}, {"broker", "logout", "@"},
		{"broker", "publish", "@"}, {"broker", "unpublish", "@"}, {"broker", "profiles", "show", "@"}, {"broker", "profiles", "link", "@"},
		{"broker", "profiles", "unlink", "@"}, {"broker", "profiles", "alias", "x", "@"},
		{"broker", "remove", "@", "--yes"}, {"broker", "mfa", "remove", "@"}, {"broker", "import", "@", "--yes"},
		{"broker", "exec", "--role-arn", "@", "--source", "security", "--", "true"}, {"broker", "profiles", "generate", "--from-org", "@"},
	} {
		for _, name := range hostile {
			args := make([]string, len(words))
			for i, w := range words {
				args[i] = strings.ReplaceAll(w, "@", name)
			}
			r := h.run(args[0], args[1:]...)
			if r.code != 2 && r.code != 3 && !(r.code == 1 && words[1] == "profiles") && !allowed(words, name, r.code) {
				t.Errorf("%q: exit code %d: %s%s", args, r.code, r.stdout, r.stderr)
			}
			for _, text := range []string{r.stdout, r.stderr} {
				if strings.ContainsFunc(text, func(c rune) bool { return c != '\n' && (unicode.IsControl(c) || c == '\u202e') }) {
					t.Errorf("%q: the terminal is told %q", args, text)
				}
			}
		}
	}
	for line := range strings.Lines(tree(t, h)) {
		if !strings.Contains(before, line) {
			t.Errorf("made or changed: %s", line)
		}
	}
}

// allowed are the few names that mean something after all.
func allowed(words []string, name string, code int) bool {
	switch {
	case strings.HasPrefix(name, "-"): // a flag, or the end of them
		return true
	case words[1] == "unpublish" && code == 0: // nothing of that name is published
		return true
	case words[1] == "logout", words[1] == "import":
		return code == 1 || code == 3
	}
	return false
}

// tree is what is in a house, but for what the daemon writes.
func tree(t *testing.T, h *house) string {
	t.Helper()
	var all strings.Builder
	must(t, filepath.Walk(h.dir, func(path string, info os.FileInfo, err error) error {
		if err != nil {
			return nil
		}
		if strings.Contains(path, "/.local/state") || strings.Contains(path, "/keyring/broker-session-") {
			return nil // the daemon's own, and the session that a login keeps
		}
		fmt.Fprintf(&all, "%s %d\n", path, info.Size()*int64(map[bool]int{true: 1, false: 0}[info.Mode().IsRegular()]))
		return nil
	}))
	return all.String()
}
