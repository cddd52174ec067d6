package agent

import (
	"os"
	"strings"
	"testing"
)

// env returns a getenv for NAME=VALUE, one for each blank.
func env(text string) func(string) string {
	return func(name string) string {
		for pair := range strings.FieldsSeq(text) {
			if key, value, _ := strings.Cut(pair, "="); key == name {
				return value
			}
		}
		return ""
	}
}

// TestFromEnv: each of the ten agents is known by its variable, and nobody else is.
func TestFromEnv(t *testing.T) {
	known := map[string]string{
		"CLAUDECODE=1":                 "claude",
		"GEMINI_CLI=1":                 "gemini",
		"CODEX_THREAD_ID=0199-abc":     "codex",
		"KIRO_SESSION_ID=x":            "kiro",
		"OPENCODE=1":                   "opencode",
		"ANTIGRAVITY_AGENT=1":          "antigravity",
		"AMP_CURRENT_THREAD_ID=T-1":    "amp",
		"PI_CODING_AGENT=true":         "pi",
		"COPILOT_CLI=1":                "copilot",
		"CURSOR_AGENT=1":               "cursor",
		"HOME=/h CLAUDECODE=1 TERM=x":  "claude",
		"":                             "",
		"HOME=/home/claude USER=codex": "",
		"CLAUDECODE=":                  "",
		"CLAUDECODE=0":                 "",
		"PI_CODING_AGENT=false":        "",
		"GEMINI_API_KEY=1":             "",
	}
	found := map[string]bool{}
	for text, want := range known {
		if got := FromEnv(env(text)); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		} else if got != "" {
			found[got] = true
		}
	}
	if len(found) != 10 || len(signs) != 10 {
		t.Errorf("%d agents of %d were found", len(found), len(signs))
	}
}

// TestNamed: a client can only name an agent, whatever it says; and no name of a client reaches a log or a prompt.
func TestNamed(t *testing.T) {
	for name, want := range map[string]string{
		"": "", "claude": "claude", "cursor": "cursor", "Claude": Unknown, "none": Unknown, " ": Unknown, "\x1b[2J": Unknown,
		strings.Repeat("x", 1<<20): Unknown, "unknown": Unknown, "claude\n": Unknown,
	} {
		if got := Named(name); got != want {
			t.Errorf("%.20q: %q, want %q", name, got, want)
		}
	}
}

// TestOf: an agent is known by its program, its script or its package, and by nothing that only looks alike.
func TestOf(t *testing.T) {
	for line, want := range map[string]string{
		"claude":                           "claude",
		"claude --resume":                  "claude",
		"/home/me/.local/bin/claude -p hi": "claude",
		"/home/me/.local/share/claude/versions/2.1.224 --x":                                     "claude",
		"node /usr/lib/node_modules/@anthropic-ai/claude-code/cli.js":                           "claude",
		"node --no-warnings --enable-source-maps /opt/@anthropic-ai/claude-code/cli.js --print": "claude",
		"node -r /opt/hook.js /usr/lib/node_modules/@anthropic-ai/claude-code/cli.js":           "claude",
		"/usr/bin/node20 /usr/local/bin/claude":                                                 "claude",
		"sh /home/me/bin/claude":                                                                "claude",
		`C:\Users\me\AppData\Roaming\npm\claude.exe`:                                            "claude",
		"codex exec fix": "codex",
		"/opt/vendor/x86_64-unknown-linux-musl/codex/codex":     "codex",
		"node /usr/lib/node_modules/@openai/codex/bin/codex.js": "codex",
		"opencode": "opencode",
		"bun /x/node_modules/opencode-ai/bin/run":            "opencode",
		"node /usr/bin/gemini -y":                            "gemini",
		"node /x/@google/gemini-cli/dist/index.js":           "gemini",
		"kiro-cli chat":                                      "kiro",
		"/Applications/Kiro.app/Contents/MacOS/Electron":     "kiro",
		"/usr/share/antigravity/antigravity --type=renderer": "antigravity",
		"amp":                                   "amp",
		"node /x/@sourcegraph/amp/dist/main.js": "amp",
		"pi":                                    "pi",
		"node /x/@mariozechner/pi-coding-agent/dist/cli.js":                              "pi",
		"copilot --allow-all-tools":                                                      "copilot",
		"node /x/@github/copilot/index.js":                                               "copilot",
		"/home/me/.local/bin/cursor-agent":                                               "cursor",
		"/home/me/.local/share/cursor-agent/versions/1/node --use-system-ca /x/index.js": "cursor",
		"":                                      "",
		"-bash":                                 "",
		"vim claude":                            "",
		"aws s3 cp claude s3://b/codex":         "",
		"grep -r claude /opt/codex":             "",
		"node server.js claude":                 "",
		"node /home/me/claude/server.js":        "",
		"bash -c claude":                        "claude",
		"/home/claude/bin/terraform plan":       "",
		"python3 /home/me/amp-tools/x.py codex": "",
		"claudette":                             "",
		"pip install x":                         "",
		"copilot-agent-linux":                   "",
		"broker exec prod -- terraform claude":  "",
		"credproc claude":                       "",
		"node " + strings.Repeat("x ", 40) + "/x/@openai/codex/a.js": "",
	} {
		if got := Of(strings.Fields(line)); got != want {
			t.Errorf("%q: %q, want %q", line, got, want)
		}
	}
	for _, odd := range [][]string{{""}, {"-"}, {"node", ""}, {"", "claude"}, {"/"}, {"\x00"}} {
		if got := Of(odd); got != "" {
			t.Errorf("%q: %q", odd, got)
		}
	}
}

// FuzzOf: the arguments of a process may be anything.
func FuzzOf(f *testing.F) {
	f.Add("node\x00/x/claude")
	f.Fuzz(func(t *testing.T, line string) {
		if got := Of(strings.Split(line, "\x00")); got != Named(got) {
			t.Errorf("%q is no known agent", got)
		}
	})
}

func BenchmarkFromEnv(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if FromEnv(func(string) string { return "" }) != "" {
			b.Fatal("an agent")
		}
	}
}

// TestPage: the table in docs/agents.md has the variable and the names of each agent.
func TestPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/agents.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range signs {
		variable := s.env
		if s.value != "" {
			variable += "=" + s.value
		}
		row := "| `" + variable + "` | `" + strings.Join(s.programs, "`, `") + "` |\n"
		if !strings.Contains(string(page), row) {
			t.Errorf("docs/agents.md has no row that ends in %s", row)
		}
	}
}
