package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"broker/internal/fault"
)

// hostile are names that could attack a shell, a terminal, a path, a file of sections or a flag parser.
var hostile = []string{
	"$(touch hacked)", "`touch hacked`", "; touch hacked", "| touch hacked", "a\ntouch hacked", "&& touch hacked", "${IFS}touch${IFS}hacked",
	"../../etc/passwd", "/etc/passwd", "..", ".", "~", "%s%n%d", "%2e%2e%2f", "\x1b[2J", "\x1b]0;title\x07", "\r\nhint: rm -rf", "a\tb", "\u202eabc", "\u0000a"[2:],
	"]", "[profile x]", "x]\n[profile y", "a = b", "# comment", "; comment", "\"", "'", "\\", "-", "--", "-x", "--yes", "=", ":", "\xff\xfe", "\xed\xa0\x80",
	strings.Repeat("a", 300), strings.Repeat("é", 200), strings.Repeat("../", 100), "con", "NUL", "default\n", " default", "default ",
}

// TestHostileNamesLong checks that no command runs anything because of a name, writes anywhere but to its own
// files, or controls the terminal with it.
func TestHostileNamesLong(t *testing.T) {
	t.Parallel()
	h := demo(t)
	before := tree(t, h)
	var hints []string
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
			harmless(t, args, r)
			hints = append(hints, hintsIn(r.stderr)...)
		}
	}
	for line := range strings.Lines(tree(t, h)) {
		if !strings.Contains(before, line) {
			t.Errorf("made or changed: %s", line)
		}
	}
	typeHints(t, h, hints)
}

// harmless checks that the terminal gets no control sequence, whatever a name contains.
func harmless(t *testing.T, args []string, r result) {
	t.Helper()
	for _, text := range []string{r.stdout, r.stderr} {
		if strings.ContainsFunc(text, func(c rune) bool { return c != '\n' && !fault.Printable(c) }) {
			t.Errorf("%q: the terminal got %q", args, text)
		}
	}
}

// hintsIn returns the hints that a program printed.
func hintsIn(stderr string) (hints []string) {
	for line := range strings.Lines(stderr) {
		if hint, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "hint: "); ok {
			hints = append(hints, hint)
		}
	}
	return hints
}

// typeHints lets each shell run the hints in an empty directory. Broker's programs and those that the hints use do
// nothing there, so any file that appears was caused by a name.
func typeHints(t *testing.T, h *house, hints []string) {
	t.Helper()
	slices.Sort(hints)
	hints = slices.Compact(hints)
	if len(hints) < 20 {
		t.Fatalf("only %d hints: the test is void", len(hints))
	}
	stubs := filepath.Join(h.dir, "stubs")
	must(t, os.Mkdir(stubs, 0o755))
	for _, name := range []string{"broker", "credproc", "chmod", "rm", "mv", "df", "env", "sleep", "vi", "sed"} {
		must(t, os.WriteFile(filepath.Join(stubs, name), []byte("#!/bin/sh\n"), 0o755))
	}
	const each = `for hint; do (eval "$hint") </dev/null; done`
	for _, shell := range [][]string{
		{"sh", "-c", each, "sh"}, {"dash", "-c", each, "dash"},
		{"bash", "--norc", "-c", each, "bash"}, {"zsh", "-f", "-c", each, "zsh"},
		{"fish", "--no-config", "-c", "for hint in $argv; eval $hint; end"},
	} {
		program, err := exec.LookPath(shell[0])
		if err != nil && os.Getenv("CI") == "true" {
			t.Fatalf("MISSING, NOT PROVEN: %s", shell[0])
		} else if err != nil {
			t.Logf("SKIPPED, NOT PROVEN: %s is not installed", shell[0])
			continue
		}
		run := func(hints []string) []os.DirEntry {
			dir := t.TempDir()
			cmd := h.command(program, append(shell[1:len(shell):len(shell)], hints...)...)
			cmd.Dir = dir
			cmd.Env = []string{"PATH=" + stubs + ":" + os.Getenv("PATH"), "HOME=" + dir, "LC_ALL=C.UTF-8",
				"XDG_CONFIG_HOME=/nowhere", "XDG_DATA_HOME=/nowhere", "XDG_CACHE_HOME=/nowhere"}
			r := finish(cmd)
			for _, complaint := range []string{"syntax", "nterminated", "not balanced"} {
				if strings.Contains(r.stderr, complaint) {
					t.Errorf("%s does not read a hint: %s", shell[0], r.stderr)
				}
			}
			made, err := os.ReadDir(dir)
			must(t, err)
			return slices.DeleteFunc(made, func(e os.DirEntry) bool { return strings.HasPrefix(e.Name(), ".") })
		}
		if made := run([]string{"broker explain x$(touch hacked)"}); len(made) != 1 {
			t.Fatalf("%s created %v when it had to run the command: the test is void", shell[0], made)
		}
		if made := run(hints); len(made) > 0 {
			t.Errorf("%s made %v", shell[0], made)
			for _, hint := range hints {
				if made := run([]string{hint}); len(made) > 0 {
					t.Errorf("of: %s", hint)
				}
			}
		}
	}
}

// TestHostileProfiles does the same for names that exist: in files, in hints and in the process that asks.
func TestHostileProfiles(t *testing.T) {
	t.Parallel()
	h := demo(t)
	names := []string{
		"x$(touch${IFS}hacked)", "x`touch hacked`y", "x; touch hacked;", "a|touch hacked", "a & touch hacked &",
		"it's; touch hacked; '",
		`\'; touch hacked; '\`, `\\'; touch hacked; '\\`, `"; touch hacked; "`, "x > hacked", "=ls", "%self",
		"<b>bold</b> &amp; %n%d{}", "$HOME", "~", "-x", "--yes", "a\ufe0fb", "a\u3164b",
	}
	var config strings.Builder
	for _, name := range names {
		fmt.Fprintf(&config, "[profile %s]\nrole_arn = arn:aws:iam::444455556666:role/nobody\n", name)
		config.WriteString("source_profile = security\n\n")
	}
	must(t, h.write(h.awsConfig(), demoConfig+config.String()))
	var hints []string
	known := 0
	for _, name := range names {
		for _, args := range [][]string{
			{"credproc", "--profile", name}, {"broker", "explain"}, {"broker", "publish"}, {"broker", "profiles", "show"},
			{"broker", "profiles", "link"}, {"broker", "login"}, {"broker", "console", "--print"},
			{"broker", "exec", "--min-ttl", "100h", "--", "true"}, {"broker", "exec", "--mode", "server", "--", "true"},
		} {
			if args[0] == "broker" {
				at := slices.Index(args, "--")
				switch { // before the end of the flags, a name with "-" is a flag
				case at >= 0:
					args = slices.Insert(args, at, name)
				default:
					args = append(args, "--", name)
				}
			}
			r := h.run(args[0], args[1:]...)
			harmless(t, args, r)
			hints = append(hints, hintsIn(r.stderr)...)
			if r.code != 2 && r.code != 3 {
				known++
			}
		}
	}
	if known < 2*len(names) {
		t.Errorf("only %d of the names are known: the test is void", known)
	}
	for _, args := range [][]string{
		{"status"}, {"status", "--json"}, {"profiles", "list"}, {"profiles", "list", "--json"},
		{"explain", "--json", names[0]}, {"doctor", "--deep"},
	} {
		r := h.run("broker", args...)
		harmless(t, args, r)
	}
	r := h.run("broker", "doctor", "--json")
	harmless(t, []string{"doctor", "--json"}, r)
	r.stderr = "" // the exit code counts only the errors among the findings
	for _, f := range parseDiagnosis(t, r).Findings {
		if f.Command != "" {
			hints = append(hints, f.Command)
		}
	}
	typeHints(t, h, hints)
}

// TestHostileCaller checks that a program's name and path do not reach a terminal through the audit log, the
// daemon's log or the list of programs.
func TestHostileCaller(t *testing.T) {
	t.Parallel()
	h := demo(t)
	dir := filepath.Join(h.dir, "d\u009b\u202e")
	must(t, os.Mkdir(dir, 0o755))
	const name = "s\u009bh\u202e\x1b"
	shell, err := exec.LookPath("sh")
	must(t, err)
	text, err := os.ReadFile(shell)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, name), text, 0o755))
	credproc, err := os.ReadFile(filepath.Join(h.bin, "credproc"))
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "c\u009b\u202e"), credproc, 0o755))
	h.credentials(t, "product_prod_paul") // that copy of credproc has no broker next to it to start
	for _, script := range []string{`"$0" product_prod_paul; true`, `"$0" nobody; true`, `"$0" product_dev_paul; true`} {
		harmless(t, []string{script}, h.run(filepath.Join(dir, name), "-c", script, filepath.Join(dir, "c\u009b\u202e")))
	}
	for _, args := range [][]string{{"status"}, {"status", "--json"}, {"explain", "product_prod_paul"}} {
		harmless(t, args, h.run("broker", args...))
	}
	for _, file := range []string{"audit.log", "daemon.log"} {
		text, err := os.ReadFile(h.state(file))
		must(t, err)
		if strings.ContainsFunc(string(text), func(c rune) bool { return c != '\n' && !fault.Printable(c) }) {
			t.Errorf("%s: %q", file, text)
		}
		if file == "audit.log" && strings.Count(string(text), `202e`) < 3 {
			t.Errorf("no program with that name has asked: the test is void: %s", text)
		}
	}
}

// TestHostilePrompt checks that a name in a shell's prompt has no special meaning there.
func TestHostilePrompt(t *testing.T) {
	t.Parallel()
	h := demo(t)
	const name = "%n%{x%}$(touch hacked)`touch hacked`\\[\\u\\]\\$(touch hacked)!"
	for shell, show := range map[string]string{
		"bash": `eval "$(broker completion --prompt bash)"; PS1='$(broker_prompt)'; printf '%s' "${PS1@P}"`,
		"zsh":  `eval "$(broker completion --prompt zsh)"; PROMPT='$(broker_prompt)'; print -rnP -- "$PROMPT"`,
	} {
		program, err := exec.LookPath(shell)
		if err != nil && os.Getenv("CI") == "true" {
			t.Fatalf("MISSING, NOT PROVEN: %s", shell)
		} else if err != nil {
			t.Logf("SKIPPED, NOT PROVEN: %s is not installed", shell)
			continue
		}
		cmd := h.command(program, "-c", show)
		cmd.Dir = t.TempDir()
		cmd.Env = append(cmd.Env, "BROKER_PROFILE="+name, "BROKER_EXPIRATION=2020-01-01T00:00:00Z")
		r := finish(cmd)
		if made, err := os.ReadDir(cmd.Dir); err != nil || len(made) > 0 {
			t.Errorf("%s made %v, %v", shell, made, err)
		}
		if want := "(" + name + " expired) "; r.stdout != want {
			t.Errorf("%s shows %q, want %q; %s", shell, r.stdout, want, r.stderr)
		}
	}
}

// allowed reports whether a name is one of the few that have a meaning after all.
func allowed(words []string, name string, code int) bool {
	switch {
	case strings.HasPrefix(name, "-"): // a flag, or the end of the flags
		return true
	case words[1] == "unpublish" && code == 0: // nothing of that name is published
		return true
	case words[1] == "logout", words[1] == "import":
		return code == 1 || code == 3
	}
	return false
}

// tree lists what is in a house, except what the daemon writes.
func tree(t *testing.T, h *house) string {
	t.Helper()
	var all strings.Builder
	must(t, filepath.Walk(h.dir, func(path string, info os.FileInfo, err error) error {
		if err != nil {
			return nil
		}
		if strings.Contains(path, "/.local/state") || strings.Contains(path, "/keyring/broker-session-") {
			return nil // the daemon's own files, and the session that a login stores
		}
		fmt.Fprintf(&all, "%s %d\n", path, info.Size()*int64(map[bool]int{true: 1, false: 0}[info.Mode().IsRegular()]))
		return nil
	}))
	return all.String()
}

// TestHintsSpareWhatOthersChose checks that a variable or a link from a repository cannot make Broker tell the
// user to give away, close or remove something.
func TestHintsSpareWhatOthersChose(t *testing.T) {
	t.Parallel()
	needRoot(t)
	h := newHouse(t)
	must(t, h.settings(""))
	h.give(t, nobody)
	foreign := filepath.Join(h.dir, "root")
	must(t, errors.Join(os.MkdirAll(foreign+"/etc", 0o755), os.Symlink(foreign, h.home+"/x"),
		os.Mkdir(h.home+"/volumes", 0o755), os.Mkdir(h.home+"/public", 0o755), os.Chmod(h.home+"/public", 0o777),
		os.WriteFile(h.home+"/key", nil, 0o600), os.Chown(h.home+"/public", nobody, nobody),
		os.Chown(h.home+"/key", nobody, nobody)))
	for _, row := range []struct{ variable, path string }{
		{"BROKER_STATE_DIR", h.home + "/x/etc"},   // through a link
		{"BROKER_STATE_DIR", h.home + "/volumes"}, // root's, in the home
		{"BROKER_STATE_DIR", h.home + "/key"},     // not a directory
		{"BROKER_STATE_DIR", h.home + "/public"},  // open to others
		{"BROKER_RUNTIME_DIR", h.home + "/public"},
		{"BROKER_KEYRING_DIR", h.home + "/public"},
		{"BROKER_CONFIG", h.home + "/public/config"},
	} {
		for _, args := range [][]string{{"credproc", "build"}, {"broker", "status"}, {"broker", "keyring", "test", "file"},
			{"broker", "unlock"}} {
			r := h.asOther(t, nobody, "env", append([]string{row.variable + "=" + row.path}, args...)...)
			for _, word := range []string{"chown", "chmod", "rm ", "rm -r"} {
				if strings.Contains(r.stderr+r.stdout, "hint: "+word) || strings.Contains(r.stderr, "sudo "+word) {
					t.Errorf("%s, %v: %v", row.variable, args, r)
				}
			}
		}
		h.asOther(t, nobody, "env", row.variable+"="+row.path, "broker", "daemon",
			"--stop")
	}
}
