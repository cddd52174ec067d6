package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"broker/internal/bundle"
	"broker/internal/client"
	"broker/internal/fault"
	"broker/internal/profiles"
	"broker/internal/session"
	"broker/internal/wire"
)

func (p *program) explainCommand() *cli.Command {
	return &cli.Command{
		Name:  "explain",
		Usage: "explain how a profile gets its session, without calling AWS",
		UsageText: "broker explain prod\n" +
			"broker explain prod --json",
		ArgsUsage: "PROFILE",
		Description: "Shows where each value comes from, which sessions the daemon holds, what you would be asked, what\n" +
			"each tool does with a profile of this name, and which variables of this shell change that.",
		Flags:        []cli.Flag{jsonFlag()},
		BashComplete: p.completeProfiles,
		Action: func(c *cli.Context) error {
			typed, err := one(c, "profile")
			if err != nil {
				return err
			}
			plan, err := p.explanation(c.Context, typed)
			if err != nil {
				return err
			}
			if c.Bool("json") {
				return p.printJSON(plan)
			}
			p.explain(plan)
			return nil
		},
	}
}

// explainJSON is `broker explain --json`.
type explainJSON struct {
	planJSON
	Daemon      string         `json:"daemon"` // "running", "locked", "not running" or "not answering"
	Asked       askedJSON      `json:"asked"`
	Outside     string         `json:"outside,omitempty"`        // why it does not belong to the working directory
	Elevated    string         `json:"elevated_until,omitempty"` // until when this process gets the full role
	Tools       []toolJSON     `json:"tools"`
	Environment []variableJSON `json:"environment"`
}

// askedJSON tells who would have to give a code now.
type askedJSON struct {
	Whom   string `json:"whom"` // "nobody", "program" or "person"
	Device string `json:"mfa_serial,omitempty"`
	Text   string `json:"text"`
}

type toolJSON struct {
	Tool string `json:"tool"`
	From string `json:"from"` // "broker", "else" or "nobody"
	Text string `json:"text"`
}

type variableJSON struct {
	Name string `json:"name"`
	Text string `json:"text"`
}

// The states of the daemon.
const (
	daemonRunning = "running"
	daemonLocked  = "locked"
	daemonNone    = "not running"
	daemonHangs   = "not answering"
)

func (p *program) explanation(ctx context.Context, typed string) (explainJSON, error) {
	described, plan, set, err := p.describe(typed)
	if err != nil {
		return explainJSON{}, err
	}
	out := explainJSON{planJSON: described, Daemon: daemonRunning, Tools: []toolJSON{}, Environment: []variableJSON{}}
	// Ask only a running daemon, because explain must not start one.
	status, err := p.client.Status(ctx)
	switch {
	case errors.Is(err, client.ErrNone) && p.lockWritten() != nil: // the next daemon starts locked
		out.Daemon = daemonLocked
	case errors.Is(err, client.ErrNone):
		out.Daemon = daemonNone
	case err != nil:
		out.Daemon = daemonHangs
	case status.Locked:
		out.Daemon = daemonLocked
	}
	held := heldUntil(plan, status.Sessions)
	for i, until := range held {
		if until != nil {
			out.Steps[i].HeldUntil = until.UTC().Format(time.RFC3339)
		}
	}
	settings, err := set.Settings()
	if err != nil {
		return explainJSON{}, err
	}
	out.Notes = append(out.Notes, lines(deviceTrouble(set, plan.Source))...)
	for _, path := range bundles(plan, settings) {
		out.Notes = append(out.Notes, lines(bundleTrouble(path))...)
	}
	own := slices.DeleteFunc(set.List(), func(s profiles.Summary) bool { return s.Name != plan.Profile })
	out.Notes = append(out.Notes, lines(helperTrouble(own))...)
	if chain, err := set.Resolve(plan.Profile); err == nil {
		_, account := chain.Account()
		out.Outside = chain.Directories.Outside(workingDirectory(), plan.Profile, account)
	}
	for _, a := range status.Allowed {
		if a.Elevated && a.Here && a.Profile == plan.Profile {
			out.Elevated = max(out.Elevated, a.Until.UTC().Format(time.RFC3339))
		}
	}
	out.Asked = asked(out.Daemon, plan, held, settings.KeyringBackend)
	for _, v := range set.Tools(plan.Profile, os.Getenv) {
		out.Tools = append(out.Tools, toolJSON(v))
	}
	for _, v := range profiles.Environment(plan.Profile, plan.Region, os.Environ()) {
		out.Environment = append(out.Environment, variableJSON(v))
	}
	return out, nil
}

// deviceTrouble reports a source without an MFA device.
func deviceTrouble(set *profiles.Set, source profiles.Source) []trouble {
	if source.MFASerial != "" || source.NoSession || source.Kind != profiles.IAMUser {
		return nil
	}
	command := fault.Hintf("broker mfa enroll %s", source.Name)
	if device := set.DeviceOf(source.Name); device != "" {
		command = fault.Hintf("broker mfa set %s --serial %s", source.Name, device)
	}
	return []trouble{{fmt.Sprintf("source %q has no MFA device; a role that requires one cannot be assumed", source.Name), command}}
}

// bundleTrouble reports a file with CAs that cannot be used.
func bundleTrouble(path string) []trouble {
	_, err := bundle.Read(path)
	if err == nil {
		return nil
	}
	return []trouble{{"no call can be sent, because of ca_bundle: " + err.Error(), profiles.MendTrust(err)}}
}

// bundles returns the CA files that the calls of a plan trust.
func bundles(plan *session.Plan, settings profiles.Settings) []string {
	var paths []string
	for _, step := range plan.Steps {
		path := cmp.Or(step.Endpoint.CABundle, settings.Route(emptyEnv).CABundle)
		if path != "" && !slices.Contains(paths, path) {
			paths = append(paths, path)
		}
	}
	return paths
}

// heldUntil returns, for each step, when the session that the daemon holds expires, or nil. A session counts only
// if it came from the same STS call.
func heldUntil(plan *session.Plan, sessions []wire.Session) []*time.Time {
	held := make([]*time.Time, len(plan.Steps))
	for i := range plan.Steps {
		id := plan.Key(i).String()
		if at := slices.IndexFunc(sessions, func(s wire.Session) bool { return s.ID == id }); at >= 0 {
			held[i] = sessions[at].Expires
		}
	}
	return held
}

// asked reports who would have to give a code if the profile were requested now.
func asked(daemon string, plan *session.Plan, held []*time.Time, keyring string) askedJSON {
	first, last := plan.Steps[0], len(held)-1
	passphrase := ""
	if keyring == "file" && plan.Source.Kind == profiles.IAMUser {
		passphrase = ", but the keyring needs its passphrase unless the daemon has the key"
	}
	nobody := func(why string) askedJSON { return askedJSON{Whom: "nobody", Text: "nobody: " + why} }
	unless := ", unless the keyring holds an open session"
	if first.Operation == session.AssumeRole {
		unless = ""
	}
	switch {
	case daemon == daemonLocked:
		return nobody("Broker is locked and hands out nothing")
	case held[last] != nil:
		return nobody("the session is held")
	case held[0] != nil:
		return nobody("the session of step 1 is held")
	case plan.Source.Kind.ByPage():
		return askedJSON{Whom: "person", Text: "you, on a web page after " +
			string(fault.Hintf("broker login %s", plan.Source.Name)) + ", unless the keyring holds an open login"}
	case first.MFASerial == "":
		return nobody("no code is needed" + passphrase)
	case first.Seeded:
		return nobody("the stored seed makes the code" + passphrase)
	case plan.MFAProcess != "":
		return askedJSON{"program", first.MFASerial, "the source's mfa_process, for one code of " + first.MFASerial + unless}
	}
	var where []string
	for _, w := range plan.MFAPrompt {
		where = append(where, map[string]string{"tty": "on the terminal", "gui": "in a window"}[w])
	}
	return askedJSON{"person", first.MFASerial, "you, for one code of " + first.MFASerial + ", " + strings.Join(where, " or else ") + unless}
}

func (p *program) explain(plan explainJSON) {
	p.say("%s", fault.Line(plan.Profile))
	for i, s := range plan.Steps {
		lasts := ""
		if s.Seconds > 0 {
			lasts = ", for " + profiles.FormatDuration(time.Duration(s.Seconds)*time.Second)
		}
		p.say("%d. %s for %s%s", i+1, s.Operation, fault.Line(s.For), lasts)
		detail := func(what, value string) {
			if value != "" {
				p.say("   %-12s %s", what, fault.Line(value))
			}
		}
		if i == 0 { // the other kinds of sources have none of these
			detail("portal", plan.StartURL)
			detail("login", plan.Login)
			detail("program", plan.Command)
		}
		detail("account", s.AccountID)
		detail("permissions", s.PermissionSet)
		detail("role", s.RoleARN)
		detail("session name", s.SessionName)
		detail("identity", s.SourceIdentity)
		for _, t := range s.Tags {
			passed := ""
			if slices.ContainsFunc(s.TransitiveTags, func(k string) bool { return strings.EqualFold(k, t.Key) }) {
				passed = ", passed on to further roles"
			}
			detail("tag", t.Key+" = "+t.Value+passed)
		}
		elevated := ""
		if until, err := time.Parse(time.RFC3339, plan.Elevated); err == nil && s.ReadOnly && i == len(plan.Steps)-1 {
			elevated = "; here the full role until " + clock(until, time.Now(), hourMinute) + ", because it is elevated"
		}
		detail("rights", rights(s.ReadOnly)+elevated)
		detail("external id", s.ExternalID)
		detail("endpoint", s.Endpoint)
		detail("signed with", map[string]string{
			"long-lived key": "the long-lived key, by the vault process",
			"session":        fmt.Sprintf("the session of step %d", i),
			"login":          "the tokens of the login, by the vault process",
			"token":          "the token in " + plan.TokenFile,
		}[s.SignedWith])
		detail("mfa device", s.MFASerial)
		switch s.Code {
		case "seed":
			detail("code", "made from the stored seed; nobody is asked")
		case "program":
			detail("code", "printed by the source's mfa_process, unless the session is still open")
		case "person":
			detail("code", "you have to give one, unless the session is still open")
		}
		if s.perProgram() {
			detail("cache", "each program has its own session")
		} else {
			detail("cache", cached(plan.Daemon, s.HeldUntil))
		}
		detail("from", s.Origin)
	}
	p.say("asked now: %s", fault.Line(plan.Asked.Text))
	if plan.Confirm != "" {
		p.say("to confirm: %s", plan.Confirm)
	}
	if plan.Agents != "" {
		p.say("coding agents: %s", agentsText(plan.Agents))
	}
	if plan.Outside != "" {
		p.say("to confirm: here, because %s", fault.Line(plan.Outside))
	}
	p.say("values")
	for _, v := range plan.Values {
		p.say("   %s: %s = %s", fault.Line(v.Origin), v.Key, fault.Line(v.Value))
	}
	for _, n := range plan.Notes {
		p.say("note: %s", fault.Line(n))
	}
	p.say("tools, given the profile %s", fault.Line(plan.Profile))
	for i, t := range plan.Tools {
		same := func(o toolJSON) bool { return o.From == t.From && o.Text == t.Text }
		if slices.ContainsFunc(plan.Tools[:i], same) { // that line names this tool too
			continue
		}
		var tools []string
		for _, o := range plan.Tools[i:] {
			if same(o) {
				tools = append(tools, o.Tool)
			}
		}
		word := map[string]string{
			profiles.FromBroker: "works", profiles.FromElse: "not Broker", profiles.FromNobody: "fails",
		}[t.From]
		p.say("   %s: %s: %s", strings.Join(tools, ", "), word, fault.Line(t.Text))
	}
	if len(plan.Environment) > 0 {
		p.say("variables of this shell")
	}
	for _, v := range plan.Environment {
		p.say("   %s: %s", fault.Line(v.Name), fault.Line(v.Text))
	}
}

// cached describes what the daemon holds for a step.
func cached(daemon, until string) string {
	t, err := time.Parse(time.RFC3339, until)
	switch {
	case daemon == daemonNone:
		return "no daemon is running, so nothing is held"
	case daemon == daemonHangs:
		return "the daemon does not answer"
	case err != nil:
		return "not held"
	}
	return "held until " + clock(t, time.Now(), hourMinute)
}
