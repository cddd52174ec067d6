package cli

import (
	"cmp"
	"encoding/json"
	"io"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"broker/internal/fault"
	"broker/internal/profiles"
	"broker/internal/session"
)

func (p *program) profilesCommand() *cli.Command {
	return &cli.Command{
		Name:  "profiles",
		Usage: "list, show, link, trust, alias and generate profiles",
		UsageText: "broker profiles list\n" +
			"broker profiles link --all",
		Subcommands: []*cli.Command{
			p.listCommand("broker profiles list"),
			{
				Name:         "show",
				Usage:        "show what a profile resolves to",
				UsageText:    "broker profiles show prod",
				ArgsUsage:    "NAME",
				Flags:        []cli.Flag{jsonFlag()},
				BashComplete: p.completeProfiles,
				Action:       p.profilesShow,
			},
			p.profilesLinkCommand(),
			p.profilesUnlinkCommand(),
			p.trustCommand(),
			p.aliasCommand(),
			p.generateCommand(),
			p.syncCommand(),
		},
	}
}

// listCommand returns `broker list` or `broker profiles list`.
func (p *program) listCommand(example string) *cli.Command {
	return &cli.Command{
		Name:      "list",
		Aliases:   []string{"ls"},
		Usage:     "list all profiles and sources",
		UsageText: example + "\n" + example + " --json",
		Flags:     []cli.Flag{jsonFlag()},
		Action:    p.profilesList,
	}
}

func jsonFlag() cli.Flag { return &cli.BoolFlag{Name: "json", Usage: "print JSON"} }

// printJSON prints v as an indented JSON document.
func (p *program) printJSON(v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	p.raw(string(fault.JSON(b)))
	return nil
}

// profileJSON is one profile in `broker profiles list --json`.
type profileJSON struct {
	Name      string `json:"name"`
	Kind      string `json:"kind"` // role, source or other
	AccountID string `json:"account_id,omitempty"`
	RoleARN   string `json:"role_arn,omitempty"`
	// PermissionSet is set instead of RoleARN for a profile of IAM Identity Center.
	PermissionSet string   `json:"permission_set,omitempty"`
	ReadOnly      bool     `json:"read_only,omitempty"`
	Confirm       string   `json:"confirm,omitempty"`  // when Broker asks before it hands out a session
	Agents        string   `json:"agents,omitempty"`   // the values of the setting, strictest first
	Bypassed      string   `json:"bypassed,omitempty"` // why AWS tools do not keep confirm, agents and read_only
	Source        string   `json:"source,omitempty"`
	Region        string   `json:"region,omitempty"`
	Linked        bool     `json:"linked"`
	Aliases       []string `json:"aliases,omitempty"`
	Origin        string   `json:"origin"`
	Problem       string   `json:"problem,omitempty"`
}

func (p *program) profilesList(c *cli.Context) error {
	set, err := p.set()
	if err != nil {
		return err
	}
	list := set.List()
	if c.Bool("json") {
		out := make([]profileJSON, 0, len(list))
		for _, s := range list {
			out = append(
				out,
				profileJSON{
					s.Name,
					s.Kind,
					s.AccountID,
					s.RoleARN,
					s.PermissionSet,
					s.ReadOnly,
					s.Guard.String(),
					s.Guard.Agents.String(),
					s.Bypassed,
					s.Source,
					s.Region,
					s.Linked,
					s.Aliases,
					s.Origin.String(),
					s.Problem,
				},
			)
		}
		return p.printJSON(out)
	}
	if len(list) == 0 {
		p.warn([]string{"there is no profile and no source yet; broker setup creates them from your AWS files"})
		return nil
	}
	w := listTable(p.text, columns(p.stdout))
	var notes []string
	for _, s := range list {
		linked := ""
		if s.Linked {
			linked = "yes"
		}
		w.row(append(cellsOf(s), s.Source, linked)...)
		for _, note := range []string{s.Problem, s.Bypassed} {
			if note != "" && p.paths.Door == "" { // a door has the profiles, whatever the registry says
				notes = append(notes, under(s.Name, note))
			}
		}
	}
	return p.printTable(w, notes)
}

// listTable returns the table of `broker list`. A row is the cells of cellsOf and two more.
func listTable(w io.Writer, width int) *table {
	t := newTable(w, width, "NAME", "ACCOUNT", "ROLE", "REGION", "SOURCE", "LINKED")
	t.optional = 2
	return t
}

// cellsOf returns a profile's cells in a list: its name with the aliases, its account, role and region.
func cellsOf(s profiles.Summary) []string {
	name, role := s.Name, roleOf(s)
	if len(s.Aliases) > 0 {
		name += " (" + strings.Join(s.Aliases, ", ") + ")"
	}
	if s.Kind == profiles.KindSource {
		role = "(source)"
	}
	if s.ReadOnly {
		role += " (read-only)"
	}
	if s.Guard.Confirm != profiles.Never || s.Guard.Production {
		role += " (guarded)"
	}
	if agents := s.Guard.Agents.String(); agents != "" {
		role += " (agents: " + agents + ")"
	}
	return []string{name, s.AccountID, role, s.Region}
}

// agentsText says for people what coding agents get.
func agentsText(words string) string {
	var list []string
	for word := range strings.SplitSeq(words, ", ") {
		if text := map[string]string{
			"read-only": "read-only sessions",
			"ask":       "a session after a yes in a window",
			"deny":      "no session",
		}[word]; text != "" {
			list = append(list, text)
		}
	}
	return strings.Join(list, ", and ")
}

// roleOf returns the name of a profile's role or permission set.
func roleOf(s profiles.Summary) string {
	return cmp.Or(s.RoleARN[strings.LastIndexByte(s.RoleARN, '/')+1:], s.PermissionSet)
}

// under prefixes a text with a name, unless the text already begins with it.
func under(name, text string) string {
	if strings.HasPrefix(text, name+": ") {
		return text
	}
	return name + ": " + text
}

// dash formats a table cell; an empty one is "-".
func dash(s string) string {
	if s == "" {
		return "-"
	}
	return fault.Line(s)
}

// planJSON is `broker profiles show --json`, and a part of `broker explain --json`.
type planJSON struct {
	Profile string `json:"profile"`
	Region  string `json:"region,omitempty"`
	Source  string `json:"source"`
	// Kind is the kind of a source that is not an IAM user: portal, console, web-identity or program. The next four
	// are of these kinds.
	Kind      string      `json:"kind,omitempty"`
	StartURL  string      `json:"sso_start_url,omitempty"`
	Login     string      `json:"login_session,omitempty"`
	TokenFile string      `json:"web_identity_token_file,omitempty"`
	Command   string      `json:"credential_process,omitempty"`
	Confirm   string      `json:"confirm,omitempty"` // when Broker asks before it hands out a session
	Agents    string      `json:"agents,omitempty"`  // the values of the setting, strictest first
	Steps     []stepJSON  `json:"steps"`
	Values    []valueJSON `json:"values"`
	Notes     []string    `json:"notes,omitempty"`
}

type stepJSON struct {
	Operation string `json:"operation"`
	For       string `json:"for"` // the profile or source
	RoleARN   string `json:"role_arn,omitempty"`
	// AccountID and PermissionSet are of GetRoleCredentials.
	AccountID     string `json:"account_id,omitempty"`
	PermissionSet string `json:"permission_set,omitempty"`
	SessionName   string `json:"role_session_name,omitempty"`
	ExternalID    string `json:"external_id,omitempty"`
	// SourceIdentity, the tags and SessionName contain {program} where each program gets its own session.
	SourceIdentity string    `json:"source_identity,omitempty"`
	Tags           []tagJSON `json:"session_tags,omitempty"`
	TransitiveTags []string  `json:"transitive_tags,omitempty"`
	ReadOnly       bool      `json:"read_only,omitempty"`
	MFASerial      string    `json:"mfa_serial,omitempty"`
	Seconds        int       `json:"duration_seconds"`
	Endpoint       string    `json:"endpoint"`
	SignedWith     string    `json:"signed_with"`          // "long-lived key", "session", "login", "token" or "nothing"
	Code           string    `json:"code"`                 // "none", "seed", "program" or "person"
	HeldUntil      string    `json:"held_until,omitempty"` // only in explain: expiry of the session that the daemon holds
	Origin         string    `json:"origin"`
}

type tagJSON struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// perProgram reports whether each program gets its own session of this step.
func (s *stepJSON) perProgram() bool {
	const program = "{" + profiles.Program + "}"
	return strings.Contains(s.SessionName, program) || strings.Contains(s.SourceIdentity, program) ||
		slices.ContainsFunc(s.Tags, func(t tagJSON) bool { return strings.Contains(t.Value, program) })
}

type valueJSON struct {
	Profile string `json:"profile"`
	Key     string `json:"key"`
	Value   string `json:"value"`
	Origin  string `json:"origin"`
}

// describe returns the plan of a profile with the values that it came from, and the plan and set themselves.
func (p *program) describe(typed string) (planJSON, *session.Plan, *profiles.Set, error) {
	fail := func(err error) (planJSON, *session.Plan, *profiles.Set, error) {
		return planJSON{}, nil, nil, err
	}
	set, err := p.set()
	if err != nil {
		return fail(err)
	}
	name, err := set.Find(typed)
	if err != nil {
		return fail(err)
	}
	chain, err := set.Resolve(name)
	if err != nil {
		return fail(err)
	}
	plan, err := session.PlanFor(set, name, session.Wish{Who: session.Local()})
	if err != nil {
		return fail(err)
	}
	out := planJSON{
		Profile: plan.Profile,
		Region:  plan.Region,
		Source:  plan.Source.Name,
		Kind:    string(plan.Source.Kind), StartURL: plan.Source.StartURL, Login: plan.Source.ARN,
		TokenFile: plan.Source.TokenFile, Command: plan.Source.Command,
		Confirm: chain.Guard.String(),
		Agents:  chain.Guard.Agents.String(),
		Notes:   plan.Notes,
		Values:  []valueJSON{},
	}
	for _, s := range plan.Steps {
		step := stepJSON{
			Operation: string(
				s.Operation,
			), For: s.Profile, RoleARN: s.RoleARN, SessionName: s.SessionName, ExternalID: s.ExternalID,
			AccountID: s.AccountID, PermissionSet: s.RoleName,
			MFASerial: s.MFASerial, Seconds: int(s.Duration.Seconds()), Endpoint: endpointOf(&s),
			SignedWith: signedWith(&s), Code: "none", Origin: s.Origin.String(),
			SourceIdentity: s.SourceIdentity, TransitiveTags: s.TransitiveTags, ReadOnly: s.ReadOnly(),
		}
		for _, t := range s.Tags {
			step.Tags = append(step.Tags, tagJSON(t))
		}
		switch {
		case s.MFASerial == "":
		case s.Seeded:
			step.Code = "seed"
		case plan.MFAProcess != "":
			step.Code = "program"
		default:
			step.Code = "person"
		}
		out.Steps = append(out.Steps, step)
	}
	names := []string{name, chain.Source.Name}
	for _, role := range chain.Roles {
		names = append(names, role.Profile)
	}
	for _, w := range append(slices.Clip(chain.Warnings), set.Advice(names...)...) {
		p.warn([]string{w.String()})
	}
	for _, v := range chain.Values {
		out.Values = append(out.Values, valueJSON{v.Profile, v.Key, v.Text, v.Origin.String()})
	}
	return out, plan, set, nil
}

// endpointOf describes where the call of a step goes.
func endpointOf(s *session.Step) string {
	if s.Endpoint.URL != "" {
		return s.Endpoint.URL
	}
	switch s.Operation {
	case session.CreateToken, session.GetRoleCredentials:
		return "IAM Identity Center of " + s.Endpoint.Region
	case session.CreateOAuth2Token:
		return "the sign-in service of " + cmp.Or(s.Endpoint.Region, "the region of the login")
	case session.RunProgram:
		return "none; Broker runs the program"
	}
	return s.Endpoint.String()
}

// signedWith says what proves to AWS who makes the call of a step; see stepJSON.
func signedWith(s *session.Step) string {
	switch s.Operation {
	case session.CreateToken, session.CreateOAuth2Token:
		return "login"
	case session.AssumeRoleWithWebIdentity:
		return "token"
	case session.RunProgram:
		return "nothing"
	}
	if s.LongTerm {
		return "long-lived key"
	}
	return "session"
}

// rights describes the limit of a session.
func rights(readOnly bool) string {
	if readOnly {
		return "read-only, by AWS's ReadOnlyAccess policy"
	}
	return ""
}

func (p *program) profilesShow(c *cli.Context) error {
	typed, err := one(c, "name")
	if err != nil {
		return err
	}
	plan, _, _, err := p.describe(typed)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return p.printJSON(plan)
	}
	last := plan.Steps[len(plan.Steps)-1]
	account, set := "", ""
	for _, s := range plan.Steps {
		account, set = account+s.AccountID, set+s.PermissionSet // one step has them
	}
	w := p.table()
	for _, row := range [][2]string{
		{"profile", plan.Profile}, {"source", plan.Source}, {"portal", plan.StartURL}, {"login", plan.Login},
		{"token file", plan.TokenFile}, {"program", plan.Command}, {"account", account}, {"permission set", set},
		{"region", plan.Region}, {"role", last.RoleARN},
		{"rights", rights(last.ReadOnly)}, {"to confirm", plan.Confirm}, {"agents", agentsText(plan.Agents)},
		{"external id", last.ExternalID}, {"mfa device", plan.Steps[0].MFASerial},
	} {
		if row[1] != "" {
			w.row(row[0], row[1])
		}
	}
	for i, v := range plan.Values {
		title := " "
		if i == 0 {
			title = "from"
		}
		w.row(title, v.Origin, v.Key+" = "+v.Value)
	}
	return w.print()
}
