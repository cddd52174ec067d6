package cli

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"broker/internal/accounts"
	"broker/internal/fault"
	"broker/internal/partition"
	"broker/internal/profiles"
	"broker/internal/wire"
)

func (p *program) accountsCommand() *cli.Command {
	return &cli.Command{
		Name:  "accounts",
		Usage: "list the accounts of the organization, and check their roles",
		UsageText: "broker accounts list mgmt\n" +
			"broker accounts check --map accounts.ini",
		Subcommands: []*cli.Command{
			{
				Name:  "list",
				Usage: "list the accounts of AWS Organizations",
				UsageText: "broker accounts list mgmt\n" +
					"broker accounts list mgmt --json",
				ArgsUsage: "PROFILE",
				Description: "Asks with the session of PROFILE, which must be of the management account or of a delegated\n" +
					"administrator. Also shows accounts that are not active. The session stays in the daemon.",
				Flags:        []cli.Flag{jsonFlag()},
				BashComplete: p.completeProfiles,
				Action:       p.accountsList,
			},
			{
				Name:  "check",
				Usage: "check which roles can be assumed, with and without MFA",
				UsageText: "broker accounts check --map accounts.ini\n" +
					"broker accounts check --json",
				Description: "Assumes each role of the map, or of your profiles, with a code and without one, and asks IAM for its\n" +
					"longest session. Four roles at a time. The sessions stay in the daemon and are dropped at once. Ends with exit\n" +
					"code 1 if there is a finding: a role that cannot be assumed, that needs no code although the map says\n" +
					"mfa = required, that ignores the external id, or that gives shorter sessions than you ask for.",
				Flags: []cli.Flag{
					&cli.StringFlag{Name: "map", Usage: "check the roles of the account map `FILE` (default: those of your profiles)"},
					jsonFlag(),
				},
				Action: p.accountsCheck,
			},
		},
	}
}

func (p *program) accountsList(c *cli.Context) error {
	typed, err := one(c, "profile")
	if err != nil {
		return err
	}
	profile, err := p.find(typed)
	if err != nil {
		return err
	}
	resp, err := p.ask(c.Context, wire.Request{Verb: wire.Accounts, Profile: profile, AllAccounts: true})
	if fault.Is(err, fault.Denied) {
		return fault.Of(err).WithHint("broker explain %s", profile)
	}
	if err != nil {
		return err
	}
	p.warn(resp.Warnings)
	list := resp.Accounts
	slices.SortStableFunc(list, func(a, b wire.Account) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Name, b.Name))
	})
	if c.Bool("json") {
		return p.printJSON(append([]wire.Account{}, list...))
	}
	t := p.table("OU", "ACCOUNT", "NAME", "STATE")
	for _, a := range list {
		state := strings.ToLower(a.State)
		if a.Management {
			state += " (management)"
		}
		t.row(a.Path, a.ID, a.Name, strings.TrimSpace(state))
	}
	return t.print()
}

// roleCheck is one role to check, and the result.
type roleCheck struct {
	Name       string   `json:"name"` // of the account in the map, or of the profile
	Account    string   `json:"account"`
	Role       string   `json:"role_arn"`
	MFA        string   `json:"mfa,omitempty"` // what the map says: "required" or "optional"
	WithMFA    string   `json:"with_mfa"`      // "allowed", "refused" or "no device"
	WithoutMFA string   `json:"without_mfa"`   // "allowed" or "refused"
	Longest    int      `json:"longest_session_seconds,omitempty"`
	Tags       string   `json:"session_tags,omitempty"` // "accepted" or "refused"; empty if IAM did not say
	ExternalID string   `json:"external_id,omitempty"`  // "required" or "ignored"; empty if none is sent
	Findings   []string `json:"findings"`

	ask     wire.Request
	seconds int           // the longest session that the map asks for
	result  *wire.Checked // nil if the role was not checked
}

func (p *program) accountsCheck(c *cli.Context) error {
	var list []roleCheck
	var err error
	again := typed(c)
	if file := c.String("map"); file != "" {
		again = fault.Hintf("broker accounts check --map %s", file)
		list, err = p.rolesOfMap(file)
	} else {
		list, err = p.rolesOfProfiles()
	}
	if err != nil {
		return err
	}
	failed := p.checkRoles(c.Context, list, again)
	list = slices.DeleteFunc(list, func(r roleCheck) bool { return r.result == nil })
	findings := 0
	for i := range list {
		list[i].judge()
		findings += len(list[i].Findings)
	}
	if c.Bool("json") {
		err = p.printJSON(append([]roleCheck{}, list...))
	} else if len(list) > 0 {
		err = p.printChecks(list, findings)
	}
	switch {
	case failed != nil:
		return failed
	case err != nil:
		return err
	case findings > 0:
		return exitError(1)
	}
	return nil
}

// rolesOfMap returns the roles of an account map.
func (p *program) rolesOfMap(file string) (list []roleCheck, err error) {
	src, err := accounts.ReadFile(file)
	if err != nil {
		return nil, err
	}
	m, err := accounts.Parse(file, src)
	if err != nil {
		return nil, err
	}
	set, err := p.set()
	if err != nil {
		return nil, err
	}
	source := m.Source
	if sources := set.Sources(); source == "" && len(sources) == 1 {
		source = sources[0].Name
	}
	if source == "" {
		return nil, fault.New(fault.Usage, "%s names no source, and you do not have exactly one", file).WithHint("vi %s", file)
	}
	chain, err := set.Resolve(source)
	if err != nil {
		return nil, err
	}
	for _, a := range m.Accounts {
		if len(a.Roles) == 0 {
			return nil, fault.New(fault.Config, "%s: account %q names no roles", file, a.Name).WithHint("vi %s", file)
		}
		for _, role := range a.Roles {
			arn, err := a.RoleARN(role)
			if err != nil {
				return nil, fault.New(fault.Config, "%s: account %q: roles %w", file, a.Name, err)
			}
			seconds, _ := strconv.Atoi(a.Duration)
			list = append(list, roleCheck{Name: a.Name, Account: a.ID, Role: arn, MFA: a.MFA, seconds: seconds,
				ask: wire.Request{Verb: wire.Check, Profile: chain.Profile,
					Role: &wire.Role{ARN: arn, ExternalID: a.ExternalID, MFASerial: a.MFASerial, Region: a.Region}}})
		}
	}
	return list, nil
}

// rolesOfProfiles returns the roles of all profiles that Broker serves. Profiles that ask for the same are checked
// once.
func (p *program) rolesOfProfiles() (list []roleCheck, err error) {
	set, err := p.set()
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	for _, s := range set.List() {
		chain, err := set.Resolve(s.Name)
		if err != nil || len(chain.Roles) == 0 {
			continue // broker doctor says what is wrong
		}
		role := chain.Roles[len(chain.Roles)-1]
		key := fmt.Sprint(s.Source, " ", len(chain.Roles), role.ARN, " ", role.ExternalID, " ", role.Duration)
		if seen[key] {
			continue
		}
		seen[key] = true
		list = append(list, roleCheck{Name: s.Name, Account: partition.AccountOfARN(role.ARN), Role: role.ARN,
			ask: wire.Request{Verb: wire.Check, Profile: s.Name}})
	}
	if len(list) == 0 {
		return nil, fault.New(fault.NotFound, "there is no profile with a role yet").WithHint("broker accounts check --map accounts.ini")
	}
	return list, nil
}

// checkRoles asks the daemon about each role. One code serves all roles of a source. An error other than a refusal of
// AWS ends it, and leaves the other roles unchecked. again is the command that the user typed.
func (p *program) checkRoles(ctx context.Context, list []roleCheck, again fault.Hint) error {
	set, err := p.set()
	if err != nil {
		return err
	}
	opened := map[string]bool{}
	for _, r := range list {
		chain, err := set.Resolve(r.ask.Profile)
		if err != nil {
			return err
		}
		if opened[chain.Source.Name] || chain.Source.MFASerial == "" || chain.Source.NoSession {
			continue
		}
		opened[chain.Source.Name] = true
		if _, err := p.ask(ctx, wire.Request{Verb: wire.Login, Profile: chain.Source.Name}); err != nil {
			return err
		}
	}
	defer p.progress()()
	err = inParallel(ctx, len(list), func(ctx context.Context, i int) error {
		resp, err := p.client.Do(ctx, list[i].ask)
		if err != nil {
			return err
		}
		if resp.Checked == nil {
			return fault.New(fault.BadAnswer, "the daemon did not answer with the result of a check").WithHint("broker service restart")
		}
		list[i].result = resp.Checked
		return nil
	})
	if fault.Is(err, fault.Throttled) {
		checked := 0
		for _, r := range list {
			if r.result != nil {
				checked++
			}
		}
		return fault.New(fault.Throttled, "AWS asks to slow down after %d of %d roles; try again later", checked, len(list)).
			WithHint("%s", again)
	}
	return err
}

// judge fills in what the result means, and the findings.
func (r *roleCheck) judge() {
	res := r.result
	r.WithMFA, r.WithoutMFA = allowed(res.WithMFA), allowed(res.WithoutMFA)
	if res.NoDevice {
		r.WithMFA = "no device"
	}
	r.Longest, r.Tags, r.ExternalID = res.MaxSeconds, res.Tags, res.ExternalID
	r.Findings = []string{}
	add := func(format string, args ...any) { r.Findings = append(r.Findings, fmt.Sprintf(format, args...)) }
	if res.WithMFA != nil {
		add("cannot be assumed, does not exist, or needs another external id: %s", res.WithMFA.Message)
	}
	if res.NoDevice && r.MFA == "required" {
		add("the map says mfa = required, and the source has no MFA device")
	}
	if res.WithoutMFA == nil && r.MFA == "required" {
		add("can be assumed without MFA, and the map says mfa = required")
	}
	if res.ExternalID == "ignored" {
		add("can be assumed without the external id")
	}
	if wanted := cmp.Or(r.seconds, res.Seconds); res.MaxSeconds > 0 && wanted > res.MaxSeconds {
		add("sessions of %s are asked for, and the role allows %s", duration(wanted), duration(res.MaxSeconds))
	}
}

// allowed returns the word for a result.
func allowed(why *wire.Refusal) string {
	if why == nil {
		return "allowed"
	}
	return "refused"
}

func duration(seconds int) string {
	return profiles.FormatDuration(time.Duration(seconds) * time.Second)
}

// printChecks prints the results as a table, with the findings below it.
func (p *program) printChecks(list []roleCheck, findings int) error {
	t := p.table("NAME", "ACCOUNT", "ROLE", "WITH MFA", "WITHOUT", "LONGEST", "TAGS", "EXTERNAL ID")
	var notes []string
	for _, r := range list {
		longest := ""
		if r.Longest > 0 {
			longest = duration(r.Longest)
		}
		role := r.Role[strings.LastIndexByte(r.Role, '/')+1:]
		t.row(r.Name, r.Account, role, r.WithMFA, r.WithoutMFA, longest, r.Tags, r.ExternalID)
		for _, f := range r.Findings {
			notes = append(notes, r.Name+": "+role+": "+f)
		}
	}
	if err := p.printTable(t, notes); err != nil {
		return err
	}
	p.say("%s, %s", plural(len(list), "role"), plural(findings, "finding"))
	return nil
}
