//go:build linux

package daemon

import (
	"bufio"
	"bytes"
	"context"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"broker/internal/fault"
	"broker/internal/mfa"
	"broker/internal/secret"
	"broker/internal/wire"
)

// agentRegistry has a profile for each value of agents.
const agentRegistry = registry + `
[profile reads]
role_arn = arn:aws:iam::444455556666:role/agents
source_profile = security
agents = read-only

[profile asks]
role_arn = arn:aws:iam::444455556666:role/agents
source_profile = security
agents = ask

[profile denies]
role_arn = arn:aws:iam::444455556666:role/agents
source_profile = security
agents = deny

[profile guarded]
role_arn = arn:aws:iam::444455556666:role/guarded
source_profile = security
confirm = first

[profile both]
role_arn = arn:aws:iam::444455556666:role/agents
source_profile = security
agents = read-only
confirm = first

[profile reader]
role_arn = arn:aws:iam::444455556666:role/reader
source_profile = security
read_only = true
agents = read-only
`

// agents is a daemon whose windows answer with choice and are counted. rights are those of a session, by the log.
func agents(t *testing.T, choice error) (h *house, rights func(wire.Response) string, windows *atomic.Int32) {
	t.Helper()
	h = build(t, t.TempDir(), agentRegistry)
	windows = new(atomic.Int32)
	h.Confirm = func(context.Context, mfa.Confirmation) error {
		windows.Add(1)
		return choice
	}
	h.run(t)
	rights = func(resp wire.Response) string {
		t.Helper()
		for _, e := range h.trail.all() {
			if resp.Credential != nil && e.KeyID == resp.Credential.AccessKeyID {
				return string(e.Rights)
			}
		}
		return "nothing"
	}
	return h, rights, windows
}

// under starts a process below a shell with that command line, which forwards requests: see playOwner.
func under(t *testing.T, h *house, name ...string) *player {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &player{cmd: exec.Command("/bin/sh")}
	// The "true" keeps the shell from becoming the player.
	p.cmd.Args = append(name, "-c", `"$0" play-owner "$1"; true`, exe, h.path)
	p.cmd.Stderr = os.Stderr
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.out = bufio.NewReader(out)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.in.Close() // the end of its input ends the player, and with it the shell
		_ = p.cmd.Wait()
	})
	return p
}

// TestAgentsByVerb: whichever verb an agent uses, and by whichever sign it is known, the profile decides. A person
// before or after it gets the full session.
func TestAgentsByVerb(t *testing.T) {
	h, rights, windows := agents(t, mfa.ErrNobody)
	claude := under(t, h, "claude")
	deliveries := map[string]wire.Request{
		"get":     {Verb: wire.Get},
		"serve":   {Verb: wire.Serve},
		"files":   {Verb: wire.PrivateFiles},
		"several": {Verb: wire.PrivateFiles, Also: []string{"dev"}},
		"console": {Verb: wire.Console},
	}
	for name, req := range deliveries {
		for sign, ask := range map[string]func(wire.Request) wire.Response{
			"by the environment": func(r wire.Request) wire.Response { r.Agent = "codex"; return h.ask(t, r) },
			"by another name":    func(r wire.Request) wire.Response { r.Agent = "me\x1b[2J"; return h.ask(t, r) },
			"by its parents":     func(r wire.Request) wire.Response { return claude.ask(t, r) },
			"by both":            func(r wire.Request) wire.Response { r.Agent = "codex"; return claude.ask(t, r) },
		} {
			for profile, kind := range map[string]fault.Kind{"reads": "", "asks": fault.NotConfirmed, "denies": fault.NotConfirmed} {
				r := req
				r.Profile = profile
				resp := ask(r)
				if kind == "" && resp.Err != nil || kind != "" && (resp.Err == nil || resp.Err.Kind != kind) {
					t.Errorf("%s %s, %s: %+v", name, profile, sign, resp.Err)
				}
				if resp.Credential != nil && rights(resp) != "read-only" {
					t.Errorf("%s %s, %s: the session is %q", name, profile, sign, rights(resp))
				}
			}
			r := req
			r.Profile = "dev"
			if resp := ask(r); resp.Err != nil {
				t.Errorf("%s without agents, %s: %v", name, sign, resp.Err)
			}
		}
		for _, profile := range []string{"reads", "asks", "denies"} {
			req.Profile = profile
			resp := h.ask(t, req)
			if resp.Err != nil || resp.Credential != nil && rights(resp) != "" {
				t.Errorf("%s %s by a person: %+v, %q", name, profile, resp.Err, rights(resp))
			}
		}
	}
	if windows.Load() == 0 {
		t.Error("no window was tried")
	}
	found := map[string]int{}
	for _, e := range h.trail.all() {
		found[e.Agent]++
	}
	if len(found) != 4 || found["codex"] == 0 || found["claude"] == 0 || found["unknown"] == 0 || found[""] == 0 {
		t.Errorf("the log has the agents %v", found)
	}
}

// TestAgentByRealTree: programs and scripts with the name of an agent, however the request is disguised.
func TestAgentByRealTree(t *testing.T) {
	h, _, _ := agents(t, mfa.ErrNobody)
	for _, c := range []struct {
		name []string
		is   bool
	}{
		{[]string{"claude"}, true},
		{[]string{"/opt/node_modules/@openai/codex/vendor/codex"}, true},
		{[]string{"cursor-agent"}, true},
		{[]string{"-claude"}, true},
		{[]string{"bash"}, false},
		{[]string{"terraform"}, false},
	} {
		p := under(t, h, c.name...)
		for _, req := range []wire.Request{{}, {Agent: ""}, {Also: nil, CanAsk: true}} {
			req.Verb, req.Profile = wire.Get, "denies"
			if resp := p.ask(t, req); (resp.Err != nil) != c.is {
				t.Errorf("%q: %+v", c.name, resp.Err)
			}
		}
	}
}

// TestGrantRemembersTheAgent: the record says which agent got the files of a command, for the next daemon.
func TestGrantRemembersTheAgent(t *testing.T) {
	h, _, _ := agents(t, mfa.ErrNobody)
	if resp := h.ask(t, wire.Request{Verb: wire.PrivateFiles, Profile: "reads", Agent: "codex"}); resp.Err != nil {
		t.Fatal(resp.Err)
	}
	if text, err := os.ReadFile(h.record(t)); err != nil || !bytes.Contains(text, []byte(`"agent":"codex"`)) {
		t.Errorf("the record has no agent: %s, %v", text, err)
	}
}

// TestPublishedIsForAgentsToo: every program can read a section.
func TestPublishedIsForAgentsToo(t *testing.T) {
	h, _, _ := agents(t, nil)
	h.Files.Credentials = h.Files.Registry + "-credentials"
	for profile, kind := range map[string]fault.Kind{"reads": "", "denies": fault.NotConfirmed} {
		resp := h.ask(t, wire.Request{Verb: wire.Publish, Profile: profile, AWSCredentials: h.Files.Credentials})
		if kind == "" && resp.Err != nil || kind != "" && (resp.Err == nil || resp.Err.Kind != kind) {
			t.Errorf("%s: %+v", profile, resp.Err)
		}
	}
	for _, e := range h.trail.all() {
		if e.Event == "published" && e.Profile == "reads" && e.Rights != "read-only" {
			t.Errorf("what was published is %q", e.Rights)
		}
	}
}

// TestAgentCannotAnswerItself: nobody is asked at the terminal of an agent, which would type the yes. A window may be
// asked, and an allowance that a person gives elsewhere counts.
func TestAgentCannotAnswerItself(t *testing.T) {
	for _, profile := range []string{"asks", "both"} {
		h, _, windows := agents(t, mfa.ErrNobody)
		l := connect(t, h.path)
		defer l.Close()
		get := wire.Request{Verb: wire.Get, Profile: profile, Agent: "claude", CanAsk: true}
		ask := func() wire.Response {
			l.send(t, get)
			for {
				resp := l.read(t)
				if resp.Prompt == nil {
					return resp
				}
				t.Errorf("%s: the agent was asked %q", profile, resp.Prompt.Text)
				l.send(t, wire.Request{Verb: wire.Answer, ID: resp.Prompt.ID, Code: secret.New("y")})
			}
		}
		resp := ask()
		if resp.Err == nil || resp.Err.Kind != fault.NotConfirmed || windows.Load() != 1 ||
			!strings.Contains(string(resp.Err.Hint), "broker allow "+profile+" --for 15m --reason WHY --everywhere") {
			t.Fatalf("%s: %+v, %d windows", profile, resp.Err, windows.Load())
		}
		allow := wire.Request{Verb: wire.Allow, Profile: profile, For: time.Minute, Reason: "r", Everywhere: true}
		if resp := h.ask(t, allow); resp.Err != nil {
			t.Fatal(resp.Err)
		}
		if resp := ask(); resp.Err != nil || windows.Load() != 1 {
			t.Errorf("%s, allowed: %+v", profile, resp.Err)
		}
	}
	h, _, windows := agents(t, nil) // a yes in the window
	for range 2 {
		if resp := h.ask(t, wire.Request{Verb: wire.Get, Profile: "asks", Agent: "claude"}); resp.Err != nil {
			t.Error(resp.Err)
		}
	}
	if windows.Load() != 2 {
		t.Errorf("%d windows for two sessions", windows.Load())
	}
}

// TestAgentCannotAllow: an agent neither allows nor elevates, whatever it says. It may take back what was allowed.
func TestAgentCannotAllow(t *testing.T) {
	h, _, _ := agents(t, mfa.ErrNobody)
	claude := under(t, h, "claude")
	for _, profile := range []string{"guarded", "reader", "dev"} {
		for _, elevate := range []bool{false, true} {
			for _, everywhere := range []bool{false, true} {
				req := wire.Request{Verb: wire.Allow, Profile: profile, Elevate: elevate, For: time.Hour, Reason: "r",
					Everywhere: everywhere}
				said := req
				said.Agent = "codex"
				for _, resp := range []wire.Response{claude.ask(t, req), h.ask(t, said)} {
					if resp.Err == nil || resp.Err.Kind != fault.NotConfirmed || !strings.Contains(resp.Err.Message, "coding agent cannot") {
						t.Errorf("%s, elevate %v: %+v", profile, elevate, resp.Err)
					}
				}
			}
		}
	}
	if status := h.ask(t, wire.Request{Verb: wire.State}).Status; len(status.Allowed) != 0 {
		t.Errorf("allowed: %+v", status.Allowed)
	}
	refused := 0
	for _, e := range h.trail.all() {
		if e.Event == "refused" && e.Agent != "" {
			refused++
		}
	}
	if refused != 24 {
		t.Errorf("%d refusals in the log", refused)
	}
	req := wire.Request{Verb: wire.Allow, Profile: "guarded", For: time.Hour, Reason: "r", Everywhere: true}
	if resp := h.ask(t, req); resp.Err != nil {
		t.Fatal(resp.Err)
	}
	req.Verb = wire.Deny
	if resp := claude.ask(t, req); resp.Err != nil || resp.Count != 1 {
		t.Errorf("deny: %+v", resp)
	}
}

// TestElevatedIsNotForAgents: what a person elevated, and the session that is cached for that, is not for an agent.
func TestElevatedIsNotForAgents(t *testing.T) {
	h, rights, _ := agents(t, mfa.ErrNobody)
	if resp := h.ask(t, wire.Request{Verb: wire.Allow, Profile: "reader", Elevate: true, For: time.Hour, Reason: "r",
		Everywhere: true}); resp.Err != nil {
		t.Fatal(resp.Err)
	}
	person := wire.Request{Verb: wire.Get, Profile: "reader"}
	agent := wire.Request{Verb: wire.Get, Profile: "reader", Agent: "pi"}
	for range 2 {
		if got := rights(h.ask(t, person)); got != "elevated" {
			t.Errorf("a person gets %q", got)
		}
		if got := rights(h.ask(t, agent)); got != "read-only" {
			t.Errorf("an agent gets %q", got)
		}
	}
}

// TestAgentIsLogged: the line of a session has the agent, and no other text of the client.
func TestAgentIsLogged(t *testing.T) {
	h, _, _ := agents(t, mfa.ErrNobody)
	h.ask(t, wire.Request{Verb: wire.Get, Profile: "dev", Agent: strings.Repeat("x\x1b", 1000)})
	lines := h.trail.all()
	if e := lines[len(lines)-1]; e.Agent != "unknown" || bytes.Contains([]byte(e.Message+e.Reason), []byte{0x1b}) {
		t.Errorf("%+v", e)
	}
}
