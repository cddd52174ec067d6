// Package agent recognizes coding agents: programs that let a language model run commands. What it finds is evidence,
// not proof, because an agent can change its environment and its name. So it may only narrow what a program gets.
// credproc links this package, so it uses the standard library only.
package agent

import (
	"slices"
	"strings"
)

// A sign is how one agent is recognized.
type sign struct {
	name     string
	env      string   // a variable that the agent sets for the commands that it runs
	value    string   // the value of that variable; empty for any
	programs []string // the base names of its programs and scripts
	packages []string // directories in the path of its program or script
}

// signs has the variables by which AWS CLI names agents in its user agent (awscli/botocore/useragent.py of 2.35.24).
var signs = []sign{
	{"claude", "CLAUDECODE", "1", []string{"claude", "claude-code"},
		[]string{"/@anthropic-ai/claude-code/", "/claude/versions/"}},
	{"codex", "CODEX_THREAD_ID", "", []string{"codex"}, []string{"/@openai/codex/"}},
	{"opencode", "OPENCODE", "", []string{"opencode"}, []string{"/opencode-ai/"}},
	{"gemini", "GEMINI_CLI", "1", []string{"gemini", "gemini-cli"}, []string{"/@google/gemini-cli/"}},
	{"kiro", "KIRO_SESSION_ID", "", []string{"kiro", "kiro-cli", "kiro-cli-chat"}, []string{"/kiro.app/"}},
	{"antigravity", "ANTIGRAVITY_AGENT", "", []string{"antigravity"}, []string{"/antigravity.app/"}},
	{"amp", "AMP_CURRENT_THREAD_ID", "", []string{"amp"}, []string{"/@sourcegraph/amp/"}},
	{"pi", "PI_CODING_AGENT", "true", []string{"pi"}, []string{"/@mariozechner/pi-coding-agent/"}},
	{"copilot", "COPILOT_CLI", "1", []string{"copilot"}, []string{"/@github/copilot/"}},
	{"cursor", "CURSOR_AGENT", "1", []string{"cursor-agent"}, []string{"/cursor-agent/"}},
}

// Unknown is the name of an agent that this package does not know.
const Unknown = "unknown"

// FromEnv returns the name of the agent that runs this program, by its environment, or "".
func FromEnv(getenv func(string) string) string {
	for i := range signs {
		if v := getenv(signs[i].env); v != "" && (signs[i].value == "" || v == signs[i].value) {
			return signs[i].name
		}
	}
	return ""
}

// Named returns the name of an agent as a client told it. A name that FromEnv does not return becomes Unknown, and ""
// stays "".
func Named(name string) string {
	for i := range signs {
		if name == "" || name == signs[i].name {
			return name
		}
	}
	return Unknown
}

// maxWords limits how many arguments of an interpreter Of compares.
const maxWords = 16

// Of returns the name of the agent whose command line this is, or "". The first argument is the program. If that is an
// interpreter, Of also looks at its script, which is the first argument that is not an option.
func Of(arguments []string) string {
	if len(arguments) == 0 {
		return ""
	}
	program := clean(arguments[0])
	if name := ofPath(program); name != "" {
		return name
	}
	if !interpreter(base(program)) {
		return ""
	}
	script := true
	for _, argument := range arguments[1:min(len(arguments), maxWords)] {
		if strings.HasPrefix(argument, "-") {
			continue
		}
		path := clean(argument)
		if name := ofPath(path); name != "" && (script || ofPackage(path) != "") {
			return name
		}
		script = false
	}
	return ""
}

// clean returns a path with slashes, in lower case and without the ending of a program or script.
func clean(path string) string {
	path = strings.ToLower(strings.ReplaceAll(path, `\`, "/"))
	for _, ending := range []string{".exe", ".cmd", ".js", ".mjs", ".cjs", ".py", ".sh"} {
		path = strings.TrimSuffix(path, ending)
	}
	return path
}

// base returns the last part of a path. The name of a login shell begins with a dash.
func base(path string) string {
	return strings.TrimPrefix(path[strings.LastIndexByte(path, '/')+1:], "-")
}

// interpreter reports whether a program runs scripts.
func interpreter(name string) bool {
	switch strings.TrimRight(name, "0123456789.") {
	case "node", "nodejs", "bun", "deno", "electron", "python", "ruby", "perl", "sh", "bash", "dash", "zsh", "ash":
		return true
	}
	return false
}

// ofPath returns the agent to which a program or script belongs.
func ofPath(path string) string {
	name := base(path)
	for i := range signs {
		if slices.Contains(signs[i].programs, name) {
			return signs[i].name
		}
	}
	return ofPackage(path)
}

// ofPackage returns the agent whose package directory is in the path.
func ofPackage(path string) string {
	for i := range signs {
		for _, dir := range signs[i].packages {
			if strings.Contains(path, dir) {
				return signs[i].name
			}
		}
	}
	return ""
}
