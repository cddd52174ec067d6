package fault

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"broker/internal/testproc"
)

// The tests start no program that could ask on a terminal.
func TestMain(m *testing.M) { os.Exit(testproc.Run(m)) }

// shells are the shells that must read a hint. The zsh options make characters special that are literal by
// default.
var shells = [][]string{
	{"sh"}, {"dash"}, {"bash", "--norc"}, {"bash", "--norc", "-O", "extglob"}, {"zsh", "-f"},
	{"zsh", "-f", "-o", "extendedglob", "-o", "magicequalsubst", "-o", "rcquotes", "-o", "braceccl"},
	{"fish", "--no-config"},
}

// installedShells returns the shells of this machine. sh is always there; the others may be missing, but not in
// CI.
func installedShells(t testing.TB) [][]string {
	t.Helper()
	var there [][]string
	for _, shell := range shells {
		switch _, err := exec.LookPath(shell[0]); {
		case err == nil:
			there = append(there, shell)
		case os.Getenv("CI") == "true":
			t.Fatalf("MISSING, NOT PROVEN: %s; see `make deps-clients`", shell[0])
		default:
			t.Logf("SKIPPED, NOT PROVEN: %s is not installed; see `make deps-clients`", shell[0])
		}
	}
	if len(there) == 0 {
		t.Skip("SKIPPED, NOT PROVEN: no shell is installed")
	}
	return there
}

// hostileWords are names that an attacker may choose.
var hostileWords = []string{
	"prod", "", "a b", "it's", "-x", "-", "--", "--yes", "-a.b", "-a:b", "--a=~", "--a==ls", "-e", "-n",
	"$(touch hacked)", "`touch hacked`", "x;touch hacked",
	"x|touch hacked",
	"x&touch hacked", "x>hacked", "x\ntouch hacked", "x\rtouch hacked", "x\x00y", "${IFS}", "$HOME", "~", "~root", "a=~",
	"=ls", "a==ls",
	"%self", "%1", "*", "?", "[a-z]", "{a,b}", "{a-z}", "!!", "!touch", "^a^b", "#x", "x#", "(touch hacked)", "@(a)",
	"+(a)", "<(touch hacked)",
	"'", "''", "'''", `\`, `\\`, `\\\`, `\'`, `\\'`, `\';touch hacked;'\`, `\\';touch hacked;'\\`, `'\''`, `a\'b`,
	`a\nb`, `C:\a b\c`,
	`"`, `";touch hacked;"`, `'";touch hacked;"'`, "\x1b[2J", "\u009b2J", "\u202eabc", "a\u200bb", "a\ufe0fb",
	"a\u3164b", "\u2800",
	"\xff\xfe", "\xed\xa0\x80", "é本", "“;touch hacked;”", "‘;touch hacked;’", strings.Repeat("x", maxWord+1),
	strings.Repeat("'", maxWord+1),
	strings.Repeat(`\`, maxWord+1), strings.Repeat("\x1b", maxWord),
}

// checkWord checks that a shell reads a word back as the same bytes, except for escaped characters, and that the
// word has no side effect.
func checkWord(t *testing.T, shells [][]string, s string) {
	t.Helper()
	want := escape(s, maxWord)
	if unprintable := strings.ContainsFunc(s, func(r rune) bool { return !Printable(r) }); !unprintable &&
		utf8.ValidString(s) &&
		len(s) <= maxWord && want != s {
		t.Errorf("%q was changed into %q without need", s, want)
	}
	word := posixWord(want)
	checkShown(t, s, word)
	for _, shell := range shells {
		dir := t.TempDir()
		cmd := exec.Command(shell[0], append(shell[1:len(shell):len(shell)], "-c", "printf '<%s>' "+word)...)
		cmd.Dir = dir
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "XDG_CONFIG_HOME=" + dir, "XDG_DATA_HOME=" + dir,
			"LC_ALL=C.UTF-8"}
		out, err := cmd.CombinedOutput()
		if got := string(out); err != nil || got != "<"+want+">" {
			t.Errorf("%v: %q, quoted as %s, was read as %q, %v", shell, s, word, got, err)
		}
		if _, err := os.Stat(dir + "/hacked"); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%v: %q, quoted as %s, was run as code", shell, s, word)
		}
	}
}

// checkShown checks that text is one line of characters that a terminal shows.
func checkShown(t *testing.T, from, shown string) {
	t.Helper()
	if !utf8.ValidString(shown) {
		t.Errorf("%q became %q, which is not UTF-8", from, shown)
	}
	for _, r := range shown {
		if r != utf8.RuneError &&
			(!Printable(r) || unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp)) {
			t.Errorf("%q became %q, which contains %U", from, shown, r)
		}
	}
}

func TestWordInShells(t *testing.T) {
	shells := installedShells(t)
	for _, s := range hostileWords {
		checkWord(t, shells, s)
	}
}

func FuzzWord(f *testing.F) {
	shells := installedShells(f)
	for _, s := range hostileWords {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) { checkWord(t, shells, s) })
}

func TestWord(t *testing.T) {
	for in, want := range map[string]string{
		"prod": "prod", "a b": "'a b'", "": "''", "it's": `'it'\''s'`, "-x": "-x", "--for": "--for", "-": "-", "--": "--",
		"--for=1h": "'--for=1h'", "-x;y": "'-x;y'", "$(x)": "'$(x)'", "a\nb": `'a\nb'`,
		"product_prod-1.x/y@z": "product_prod-1.x/y@z", "a=b": "'a=b'", `a\b`: `'a\b'`, `a\`: `'a'\\''`, `\'`: `''\\''\'''`,
		strings.Repeat("x", maxWord+1): "'" + strings.Repeat("x", maxWord) + "…'",
	} {
		if got := posixWord(escape(in, maxWord)); got != want {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
	}
}

// TestWindowsWord checks that no character within the quotes is special to cmd or PowerShell.
func TestWindowsWord(t *testing.T) {
	for in, want := range map[string]string{
		"prod": "prod", "a b": `"a b"`, "": `""`, "-x": "-x", "--for": "--for", "-a.b": `"-a.b"`,
		"-a:b": `"-a:b"`, "--": "--", "it's": `"it's"`, `C:\Users\me\x`: `C:\Users\me\x`,
		"a&calc":  `"a&calc"`,
		"$(calc)": `"\u0024(calc)"`, "`calc`": `"\u0060calc\u0060"`, "%PATH%": `"\u0025PATH\u0025"`, "@x": `"@x"`,
		"a,b": `"a,b"`,
	} {
		if got := windowsWord(in); got != want {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
	}
	for _, s := range hostileWords {
		word := windowsWord(escape(s, maxWord))
		checkShown(t, s, word)
		if inner, quoted := strings.CutPrefix(word, `"`); quoted &&
			strings.ContainsAny(strings.TrimSuffix(inner, `"`), "\"$`%!^“”„") {
			t.Errorf("%q: %s", s, word)
		}
	}
}

func TestHintf(t *testing.T) {
	for want, got := range map[Hint]Hint{
		"broker login --code 123456 -- -x":      Hintf("broker login %s --code 123456", "-x"),
		"broker remove -- a -x":                 Hintf("broker remove %s", []string{"a", "-x"}),
		"broker mfa set --seed-stdin -- -x < F": Hintf("broker mfa set %s --seed-stdin < F", "-x"),
		"broker list --all --json -- -x":        Hintf("%s %s --all%s", Hint("broker list"), "-x", Hint(" --json")),
		"broker list --json -- a -x":            Hintf("%s %s %s", Hint("broker list"), []string{"a", "-x"}, Hint("--json")),
		"":                                      Hintf("broker exec %s%s", "-x", Hint(" -- COMMAND")),
		"broker login -":                        Hintf("broker login %s", "-"),
		"broker import --from -x --dry-run":     Hintf("broker import --from %s --dry-run", "-x"),
		"ls -l -x":                              Hintf("ls -l %s", "-x"),
		"broker login 'a b' --code 123456":      Hintf("broker login %s --code 123456", "a b"),
		"sleep 3; broker unlock":                Hintf("sleep %d; broker unlock", 3),
		"broker exec 'a;b' c -- COMMAND":        Hintf("broker exec %s -- COMMAND", []string{"a;b", "c"}),
		"env 'broker login'":                    Hintf("env %s", "broker login"),
		"env broker login 'x y' --yes":          Hintf("env %s --yes", Hintf("broker login %s", "x y")),
		"ask 'a;b'":                             Hintf("ask %s", errors.New("a;b")),
		"ask 'a;c'":                             New(Failed, "x").WithHint("ask %s", "a;c").Hint,
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// TestHintIsNeverCut: half a command would be a different command.
func TestHintIsNeverCut(t *testing.T) {
	long := strings.Repeat("x", maxWord)
	four := New(Failed, "no").WithHint("cp %s %s", long, long).WithHint("cp %s", []string{long, long, long, long})
	if got := four.Report("broker"); got != "broker: no\nhint: broker status\n" {
		t.Errorf("got %q", got)
	}
	one := New(Failed, "no").WithHint("rm %s", long+";y").Report("broker")
	if want := "broker: no\nhint: rm '" + long + "…'\n"; one != want {
		t.Errorf("got %q, want %q", one, want)
	}
}
