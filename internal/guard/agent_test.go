package guard

import (
	"maps"
	"strings"
	"testing"

	"broker/internal/fault"
	"broker/internal/profiles"
)

// studio has an agent in pts/3 that runs a shell, which runs credproc 84; a script 90 that an interpreter runs; and a
// command that `broker exec` is about to become.
func studio() tree {
	t := office()
	more := tree{
		80: {1, "/dev/pts/3", []string{"-bash"}},
		81: {80, "/dev/pts/3", []string{"node", "--x", "/usr/lib/node_modules/@anthropic-ai/claude-code/cli.js"}},
		82: {81, "", []string{"/bin/sh", "-c", "aws s3 ls"}},
		83: {82, "", []string{"aws", "s3", "ls"}},
		84: {83, "", []string{"credproc", "prod"}},
		90: {1, "", []string{"python3", "/opt/codex.py"}},
		91: {90, "", []string{"credproc", "prod"}},
		95: {80, "/dev/pts/3", []string{"broker", "exec", "prod", "--", "/usr/bin/opencode", "run"}},
	}
	maps.Copy(t, more)
	for pid := 100; pid < 200; pid++ { // an agent that hides behind a hundred shells
		t[pid] = process{pid - 1, "", []string{"sh", "-c", "x"}}
	}
	t[99] = process{1, "", []string{"gemini"}}
	return t
}

// TestAgentOfTree: the agent is found among the process and all of its parents, however many there are.
func TestAgentOfTree(t *testing.T) {
	g := New(studio())
	for pid, want := range map[int]string{
		21: "", 41: "", 61: "", 80: "", 77777: "", 1: "",
		84: "claude", 82: "claude", 81: "claude", 91: "codex", 95: "opencode", 199: "gemini",
	} {
		if got := g.Agent(pid); got != want {
			t.Errorf("%d: %q, want %q", pid, got, want)
		}
	}
	for pid, want := range map[int]string{84: "claude", 81: "", 95: "", 77777: "", 1: "", 91: "codex"} {
		if got := g.AgentAbove(pid); got != want {
			t.Errorf("above %d: %q, want %q", pid, got, want)
		}
	}
}

// TestAgentsAreAskedAbout: with agents = ask, each session of an agent is confirmed, and never at its terminal. What a
// person answered for the terminal before does not count for the agent, but what a person allowed does.
func TestAgentsAreAskedAbout(t *testing.T) {
	ask := profiles.Agents{Ask: true}
	for name, c := range map[string]struct {
		guard     profiles.Guard
		agent     string
		published bool
		asked     int // prompts for two requests
		reason    string
	}{
		"a person":             {profiles.Guard{Agents: ask}, "", false, 0, ""},
		"an agent":             {profiles.Guard{Agents: ask}, "claude", false, 2, "the coding agent claude asks for it"},
		"with confirm too":     {profiles.Guard{Confirm: profiles.First, Agents: ask}, "claude", false, 2, "the coding agent claude asks for it; confirm is set for it"},
		"read-only, confirm":   {profiles.Guard{Confirm: profiles.First, Agents: profiles.Agents{ReadOnly: true}}, "claude", false, 2, "confirm is set for it"},
		"only read-only":       {profiles.Guard{Agents: profiles.Agents{ReadOnly: true}}, "claude", false, 0, ""},
		"no word about agents": {profiles.Guard{Confirm: profiles.First}, "claude", false, 1, "confirm is set for it"},
		"published":            {profiles.Guard{Agents: ask}, "", true, 2, "the profile has agents = ask, and coding agents could read the session"},
		"a hostile name":       {profiles.Guard{Agents: ask}, "x\x1b[2J", false, 2, `the coding agent x\x1b[2J asks for it`},
	} {
		g, person := New(office()), &answering{choice: ForAWhile}
		h := handout(21, c.guard)
		h.Agent, h.Published = c.agent, c.published
		for range 2 {
			if _, _, err := g.Check(t.Context(), h, person); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if len(person.asked) != c.asked {
			t.Errorf("%s: %d prompts", name, len(person.asked))
		}
		for _, p := range person.asked {
			if p.why() != c.reason || p.Agent != (c.agent != "" && c.guard.Agents != profiles.Agents{}) || p.Agent && p.MayLast {
				t.Errorf("%s: %q, of an agent: %v, may last: %v", name, p.why(), p.Agent, p.MayLast)
			}
		}
	}
	g, person := New(office()), &answering{choice: ForAWhile}
	h := handout(21, profiles.Guard{Confirm: profiles.First, Agents: ask})
	check := func() error {
		_, _, err := g.Check(t.Context(), h, person)
		return err
	}
	if err := check(); err != nil || len(person.asked) != 1 {
		t.Fatal(err)
	}
	h.Agent = "claude"
	if person.err = ErrNobody; !fault.Is(check(), fault.NotConfirmed) || len(person.asked) != 2 {
		t.Error("the answer of a person before counts for the agent in the same terminal")
	}
	if hint := fault.Of(check()).ShownHint(); !strings.Contains(hint, "--everywhere") {
		t.Errorf("%q: an allowance for another terminal would not count here", hint)
	}
	g.Allow(Allowance{Profile: "prod", Role: prodRole, Account: prodAccount, Reason: "r",
		Until: g.now().Add(profiles.ConfirmedFor)})
	if err := check(); err != nil {
		t.Errorf("allowed everywhere: %v", err)
	}
}
