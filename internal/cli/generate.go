package cli

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"broker/internal/accounts"
	"broker/internal/fault"
	"broker/internal/partition"
	"broker/internal/profiles"
	"broker/internal/wire"
)

func (p *program) generateCommand() *cli.Command {
	return &cli.Command{
		Name:  "generate",
		Usage: "write a profile for each role of an account map or portal",
		UsageText: "broker profiles generate --map accounts.ini --dry-run\n" +
			"broker profiles generate --from-org mgmt\n" +
			"broker profiles generate --from-sso sso --region eu-west-1",
		Description: "Writes a marked block to the registry and to the AWS config. Only this block changes, and names that\n" +
			"you use elsewhere are left alone. You see the change before it is written. With --from-org the roles are\n" +
			"assumed from PROFILE, unless --source names another profile or source. With --from-sso you get a profile for\n" +
			"each permission set that you have in an account, named " + accounts.PortalTemplate + "; log in first.",
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "map", Usage: "read the account map `FILE`, such as accounts.ini"},
			&cli.StringFlag{Name: "from-org", Usage: "use the accounts that AWS Organizations lists for `PROFILE`"},
			&cli.StringFlag{Name: "from-sso", Usage: "use what IAM Identity Center assigns to you in `SESSION`, an [sso-session]"},
			&cli.StringSliceFlag{Name: "accounts",
				Usage: "with --from-sso: keep the accounts whose name or ID matches `PATTERN`, such as 'prod-*'; may be repeated"},
			&cli.StringSliceFlag{Name: "roles",
				Usage: "with --from-sso: keep the permission sets whose name matches `PATTERN`; may be repeated"},
			&cli.StringFlag{Name: "region",
				Usage: "with --from-org and --from-sso: give each profile the region `REGION` (default: the region of PROFILE, or none)"},
			&cli.StringFlag{Name: "product", Usage: "use `NAME` for {product} (default: the map's product)"},
		}, generationFlags()...),
		Action: func(c *cli.Context) error {
			g := generation{program: p, c: c}
			file, org, portal := c.String("map"), c.String("from-org"), c.String("from-sso")
			given := 0
			for _, from := range []string{file, org, portal} {
				if from != "" {
					given++
				}
			}
			switch {
			case given != 1:
				return fault.New(fault.Usage, "generate needs one of --map, --from-org and --from-sso").
					WithHint("broker profiles generate --map accounts.ini")
			case file != "" && c.IsSet("region"):
				return fault.New(fault.Usage,
					"--region needs --from-org or --from-sso; an account map names the region of each account").
					WithHint("broker profiles generate --map %s", file)
			case portal == "" && (c.IsSet("accounts") || c.IsSet("roles")):
				return fault.New(fault.Usage, "--accounts and --roles need --from-sso").
					WithHint("broker profiles generate --from-sso SESSION")
			case org != "":
				g.again = fault.Hintf("broker profiles generate --from-org %s", org)
				return g.fromOrganization(org)
			case portal != "":
				g.again = fault.Hintf("broker profiles generate --from-sso %s", portal)
				return g.fromPortal(portal)
			}
			g.again = fault.Hintf("broker profiles generate --map %s", file)
			src, err := accounts.ReadFile(file)
			if err != nil {
				return err
			}
			return g.fromMap(file, src)
		},
	}
}

func (p *program) syncCommand() *cli.Command {
	return &cli.Command{
		Name:      "sync",
		Usage:     "update the profiles from the team's account map",
		UsageText: "broker profiles sync",
		Description: "The setting catalog says where the map is: a file, or a git repository. In a repository the setting\n" +
			"catalog_path names the file (default: accounts.ini). The rest is as in `broker profiles generate --map`.",
		Flags: generationFlags(),
		Action: func(c *cli.Context) error {
			_, settings, err := p.settings()
			if err != nil {
				return err
			}
			if settings.Catalog == "" {
				return fault.New(fault.Config, "%s: [settings] has no catalog to take the account map from", p.paths.Registry).
					WithHint("broker profiles generate --map accounts.ini")
			}
			name, src, err := accounts.Fetch(c.Context, p.paths.State, settings.Catalog, settings.CatalogPath)
			if err != nil {
				return err
			}
			g := generation{program: p, c: c, again: "broker profiles sync"}
			return g.fromMap(name, src)
		},
	}
}

func generationFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "template", Usage: "name the profiles by `TEMPLATE` (default: " + accounts.DefaultTemplate + ")"},
		&cli.StringFlag{Name: "user", Usage: "use `NAME` for {user} (default: the user of the MFA device, else of this system)"},
		&cli.StringFlag{Name: "source", Usage: "assume the roles from the source or profile `NAME` (default: the source of the map, else the only one)"},
		&cli.StringSliceFlag{Name: "role", Usage: "use `ROLES` instead of the roles that the map names; may be repeated"},
		&cli.BoolFlag{Name: "probe", Usage: "keep only the roles that AWS lets you assume"},
		&cli.BoolFlag{Name: "prune", Value: true, Usage: "remove profiles that are no longer in the map; --prune=false keeps them"},
		&cli.BoolFlag{Name: "dry-run", Usage: "show the changes to both files and write nothing"},
		&cli.BoolFlag{Name: "yes", Aliases: []string{"y"}, Usage: "do not ask"},
	}
}

// generation is one run of generate or sync.
type generation struct {
	*program
	c     *cli.Context
	again fault.Hint // the command to run again, for hints

	set    *profiles.Set
	source profiles.Chain  // assumes the roles; empty for a portal
	portal profiles.Source // of --from-sso
	label  string
	left   []leftOut
	files  [2]blockFile // registry, config
}

// leftOut is a role or account that gets no profile, and the reason.
type leftOut struct{ what, why string }

// blockFile is one of the two files as it was read, with the sections of its block.
type blockFile struct {
	path     string
	src      []byte
	old, new []profiles.BlockSection
}

func (g *generation) fromMap(file string, src []byte) error {
	m, err := accounts.Parse(file, src)
	if err != nil {
		return err
	}
	if err := g.open(cmp.Or(g.c.String("source"), m.Source)); err != nil {
		return err
	}
	if product := g.c.String("product"); product != "" {
		m.Product = product
	}
	return g.run(m)
}

// fromOrganization makes a map from the accounts that AWS Organizations lists. The management account controls the
// accounts of an organization, so the roles are assumed from there.
func (g *generation) fromOrganization(typed string) error {
	profile, err := g.find(typed)
	if err != nil {
		return err
	}
	source := g.c.String("source")
	if source == "" {
		source = profile
	}
	if err := g.open(source); err != nil {
		return err
	}
	asks, err := g.set.Resolve(profile)
	if err != nil {
		return err
	}
	resp, err := g.ask(g.c.Context, wire.Request{Verb: wire.Accounts, Profile: profile})
	if fault.Is(err, fault.Denied) {
		return fault.Of(err).WithHint("broker explain %s", profile)
	}
	if err != nil {
		return err
	}
	byDefault := len(g.roles()) == 0
	var list []accounts.Listed
	for _, a := range resp.Accounts {
		if a.Management && byDefault {
			g.left = append(g.left, leftOut{a.ID, "the management account has no " + accounts.OrganizationRole})
			continue
		}
		list = append(list, accounts.Listed{ID: a.ID, Name: a.Name})
	}
	of, _ := asks.Account()
	region := cmp.Or(g.c.String("region"), asks.Region)
	if err := g.checkRegion(region, of); err != nil {
		return err
	}
	m := accounts.OfOrganization(profile, of, region, list)
	if byDefault {
		for i := range m.Accounts {
			m.Accounts[i].Roles = []string{accounts.OrganizationRole}
		}
	}
	if m.Product = g.c.String("product"); m.Product == "" {
		// The default template makes names such as product_mgmt_paul.
		if rest, ok := strings.CutSuffix(profile, "_"+g.user()); ok {
			m.Product = rest[:max(strings.LastIndexByte(rest, '_'), 0)]
		}
	}
	return g.run(m)
}

// checkRegion checks the region of all profiles, which may be empty, and that it is in the partition of the accounts.
func (g *generation) checkRegion(region, of string) error {
	if region == "" {
		return nil
	}
	if err := checkRegion(region); err != nil {
		return fault.Of(err).WithHint("%s --region REGION", g.again)
	}
	if in := partition.OfRegion(region); in != "" && in != of {
		return fault.New(fault.Usage, "the region %s is in %s, and the accounts are in %s", region, in, of).
			WithHint("%s --region REGION", g.again)
	}
	return nil
}

// open resolves the source that assumes the roles. If none is named and there is exactly one source, it is that
// one.
func (g *generation) open(name string) error {
	set, err := g.program.set()
	if err != nil {
		return err
	}
	g.set = set
	if sources := set.Sources(); name == "" && len(sources) == 1 {
		name = sources[0].Name
	}
	if name == "" {
		return fault.New(fault.Usage, "no source given; use --source").WithHint("%s --source SOURCE", g.again)
	}
	g.source, err = set.Resolve(name)
	return err
}

// roles returns the values of --role. Each may be a list.
func (g *generation) roles() []string {
	var list []string
	for _, roles := range g.c.StringSlice("role") {
		list = append(list, strings.Split(roles, ",")...)
	}
	return list
}

// user returns the value of {user}.
func (g *generation) user() string {
	return cmp.Or(g.c.String("user"), accounts.UserOf(g.source.Source.MFASerial), os.Getenv("USER"))
}

// run writes the profiles of a map: plan, show, ask, write.
func (g *generation) run(m accounts.Map) error {
	g.label = m.Label
	template := cmp.Or(g.c.String("template"), m.Template, accounts.DefaultTemplate)
	for _, w := range []struct {
		option     fault.Hint
		word, text string
	}{{"--user", "{user}", g.user()}, {"--product", "{product}", m.Product}} {
		if w.text != "" && !accounts.Word(w.text) && strings.Contains(template, w.word) {
			return fault.New(fault.Usage, "%.60q cannot be part of a name; use %s to set another", w.text, w.option).
				WithHint("%s %s NAME", g.again, w.option)
		}
	}
	want, err := m.Profiles(accounts.Naming{Template: g.c.String("template"), User: g.user(), Roles: g.roles()})
	if err != nil {
		f := fault.Of(err) // its hint does not know where the map comes from
		const command = "broker profiles generate "
		if strings.HasPrefix(string(f.Hint), command) {
			f = f.WithHint("%s %s", g.again, f.Hint[len(command):])
		}
		return f
	}
	taken, err := g.read()
	if err != nil {
		return err
	}
	want = slices.DeleteFunc(want, func(w accounts.Profile) bool {
		why := taken[w.Name]
		if why != "" {
			g.left = append(g.left, leftOut{w.Name, why})
		}
		return why != ""
	})
	if g.c.Bool("probe") {
		if want, err = g.probe(want); err != nil {
			return err
		}
	}
	if err := g.sections(want); err != nil {
		return err
	}
	changes := g.changes()
	if g.c.Bool("dry-run") {
		return g.showDiff()
	}
	if len(changes) > 0 && !g.c.Bool("yes") && !hasTerminal() {
		return fault.New(fault.NotConfirmed, "%s; there is no terminal to ask on, so confirm with --yes", count(changes)).
			WithHint("%s --yes", g.again)
	}
	if err := g.show(changes); err != nil || len(changes) == 0 {
		return err
	}
	if !g.c.Bool("yes") {
		if err := g.confirm(g.c.Context, count(changes)+"; write this?"); err != nil {
			return err
		}
	}
	return g.write()
}

// read reads both files. It returns the names that the user has outside of the blocks, with the place of each.
func (g *generation) read() (taken map[string]string, err error) {
	taken = map[string]string{"default": "[default] is never written"}
	if g.source.Profile != "" {
		taken[g.source.Profile] = "the roles are assumed from it"
	}
	inBlock := map[string]bool{}
	for i, path := range []string{g.paths.Registry, g.paths.Config} {
		f := blockFile{path: path}
		if f.src, err = profiles.ReadFile(path); err != nil {
			return nil, err
		}
		if f.old, err = profiles.Block(f.src, g.label); err != nil {
			return nil, inFile(path, err)
		}
		for _, s := range f.old {
			inBlock[s.Name] = true
		}
		g.files[i] = f
	}
	credentials, err := profiles.ReadFile(g.paths.Credentials)
	defer clear(credentials)
	if err != nil {
		return nil, err
	}
	for _, f := range []struct {
		path        string
		src         []byte
		credentials bool
	}{
		{g.paths.Registry, g.files[0].src, false},
		{g.paths.Config, g.files[1].src, false},
		{g.paths.Credentials, credentials, true},
	} {
		rest := f.src
		if !f.credentials {
			if rest, err = profiles.WithoutBlock(f.src, g.label); err != nil {
				return nil, inFile(f.path, err)
			}
		}
		names, err := profiles.Names(rest, f.credentials)
		if err != nil {
			return nil, inFile(f.path, err)
		}
		for _, n := range names {
			// A session that was published under a name of the block is not a profile of the user.
			if !(n.Session && inBlock[n.Name]) && taken[n.Name] == "" {
				taken[n.Name] = "this name is already in " + f.path
			}
		}
	}
	return taken, nil
}

func inFile(path string, err error) error {
	return fault.New(fault.Of(err).Kind, "%s: %w", path, err)
}

// sections builds the new blocks of both files.
func (g *generation) sections(want []accounts.Profile) error {
	wanted := map[string]bool{}
	program, err := credprocProgram()
	if err != nil {
		return err
	}
	for _, w := range want {
		wanted[w.Name] = true
		own := g.definition(w)
		for _, kv := range []profiles.KeyValue{
			{Key: "region", Value: w.Region}, {Key: "external_id", Value: w.ExternalID}, {Key: "duration_seconds", Value: w.Duration}, {Key: "mfa_serial", Value: w.MFASerial},
		} {
			if kv.Value != "" {
				own = append(own, kv)
			}
		}
		var aws []profiles.KeyValue
		if w.Region != "" {
			aws = append(aws, profiles.KeyValue{Key: "region", Value: w.Region})
		}
		command, err := profiles.Command(program, w.Name)
		if err != nil {
			return err
		}
		aws = append(aws, profiles.KeyValue{Key: "credential_process", Value: command})
		g.files[0].new = append(g.files[0].new, profiles.BlockSection{Name: w.Name, Keys: own})
		g.files[1].new = append(g.files[1].new, profiles.BlockSection{Name: w.Name, Keys: aws})
	}
	if !g.c.Bool("prune") {
		for i := range g.files {
			for _, s := range g.files[i].old {
				if !wanted[s.Name] {
					g.files[i].new = append(g.files[i].new, s)
				}
			}
		}
	}
	return nil
}

// definition returns the keys of a profile that say whose session it is.
func (g *generation) definition(w accounts.Profile) []profiles.KeyValue {
	if g.portal.Name == "" {
		return []profiles.KeyValue{{Key: "role_arn", Value: w.RoleARN}, {Key: "source_profile", Value: g.source.Profile}}
	}
	session := []profiles.KeyValue{{Key: "sso_session", Value: g.portal.Name}}
	if g.portal.Name == g.portal.StartURL { // of profiles without an [sso-session]
		session = []profiles.KeyValue{{Key: "sso_start_url", Value: g.portal.StartURL},
			{Key: "sso_region", Value: g.portal.Endpoint.Region}}
	}
	return append(session, profiles.KeyValue{Key: keySSOAccount, Value: w.AccountID},
		profiles.KeyValue{Key: keySSORole, Value: w.Role()})
}

// The keys that name the account and the permission set of a profile.
const (
	keySSOAccount = "sso_account_id"
	keySSORole    = "sso_role_name"
)

// change is one line of the list of changes.
type change struct {
	mark    string // "+", "~" or "-"
	section profiles.BlockSection
}

// changes compares the old and new blocks by name.
func (g *generation) changes() []change {
	var list []change
	seen := map[string]bool{}
	find := func(sections []profiles.BlockSection, name string) *profiles.BlockSection {
		i := slices.IndexFunc(sections, func(s profiles.BlockSection) bool { return s.Name == name })
		if i < 0 {
			return nil
		}
		return &sections[i]
	}
	same := func(f blockFile, name string) bool {
		a, b := find(f.old, name), find(f.new, name)
		return a != nil && b != nil && slices.Equal(a.Keys, b.Keys)
	}
	for _, s := range g.files[0].new {
		seen[s.Name] = true
		switch {
		case find(g.files[0].old, s.Name) == nil:
			list = append(list, change{"+", s})
		case !same(g.files[0], s.Name) || !same(g.files[1], s.Name):
			list = append(list, change{"~", s})
		}
	}
	for i := range g.files {
		for _, s := range g.files[i].old {
			if !seen[s.Name] {
				seen[s.Name] = true
				list = append(list, change{"-", s})
			}
		}
	}
	return list
}

func count(changes []change) string {
	n := map[string]int{}
	for _, c := range changes {
		n[c.mark]++
	}
	return fmt.Sprintf("%d profiles to add, %d to change, %d to remove", n["+"], n["~"], n["-"])
}

// show prints the changes and what is left out.
func (g *generation) show(changes []change) error {
	w := g.table()
	for _, c := range changes {
		var account, role string
		for _, kv := range c.section.Keys {
			switch kv.Key {
			case "role_arn":
				account, role = partition.AccountOfARN(kv.Value), kv.Value[strings.LastIndexByte(kv.Value, '/')+1:]
			case keySSOAccount:
				account = kv.Value
			case keySSORole:
				role = kv.Value
			}
		}
		w.row(c.mark+" "+c.section.Name, account, role)
	}
	if err := w.print(); err != nil {
		return err
	}
	for _, l := range g.left {
		g.say("left out: %s: %s", fault.Line(l.what), fault.Line(l.why))
	}
	if len(changes) == 0 {
		g.say("nothing to change; %d profiles in the block %s", len(g.files[0].new), g.label)
	}
	return nil
}

// showDiff prints the diff of both files.
func (g *generation) showDiff() error {
	for i, d := range []profiles.Document{profiles.RegistryDocument, profiles.ConfigDocument} {
		f := g.files[i]
		dst, err := profiles.SetBlock(f.src, g.label, f.new)
		if err != nil {
			return inFile(f.path, err)
		}
		g.showChange(d, f.src, dst)
	}
	for _, l := range g.left {
		g.warn([]string{"left out: " + l.what + ": " + l.why})
	}
	return nil
}

// write replaces the blocks. The first write of the registry keeps the profiles to remove, so that the AWS config
// never asks for a profile that is not defined.
func (g *generation) write() error {
	registry, config := &g.files[0], &g.files[1]
	both := slices.Clone(registry.new)
	for _, s := range registry.old {
		if !slices.ContainsFunc(both, func(b profiles.BlockSection) bool { return b.Name == s.Name }) {
			both = append(both, s)
		}
	}
	if err := g.replace(profiles.RegistryDocument, registry, both); err != nil {
		return err
	}
	if err := g.replace(profiles.ConfigDocument, config, config.new); err != nil {
		return err
	}
	return g.replace(profiles.RegistryDocument, registry, registry.new)
}

// replace writes the block of a file. It fails if the file changed since the diff was shown.
func (g *generation) replace(d profiles.Document, f *blockFile, sections []profiles.BlockSection) error {
	dst, err := profiles.SetBlock(f.src, g.label, sections)
	if err != nil {
		return inFile(f.path, err)
	}
	err = g.editDocument(d, false, func(src []byte) ([]byte, error) {
		if !bytes.Equal(src, f.src) {
			return nil, fault.New(fault.Failed, "%s changed meanwhile", f.path).WithHint("%s", g.again)
		}
		return dst, nil
	})
	f.src = dst
	return err
}

// probe keeps the profiles whose roles AWS lets this user assume.
func (g *generation) probe(want []accounts.Profile) ([]accounts.Profile, error) {
	refused, err := g.tryRoles(g.c.Context, want)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(want, func(w accounts.Profile) bool {
		why, no := refused[w.RoleARN]
		if no {
			g.left = append(g.left, leftOut{w.Name, why})
		}
		return no
	}), nil
}
