package foreign

import (
	"cmp"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"broker/internal/profiles"
)

// The keys of IAM Identity Center, as AWS's own tools read them.
const (
	keySSORegion    = "sso_region"
	keySSOScopes    = "sso_registration_scopes"
	keySSOAccountID = "sso_account_id"
	keySSORoleName  = "sso_role_name"
)

var ssoKeys = []string{keySSOSession, keySSOStartURL, keySSORegion, keySSOScopes, keySSOAccountID, keySSORoleName}

// grantedKeys are Granted's own keys for the same settings, from pkg/cfaws of github.com/common-fate/granted. It uses
// them so that AWS tools do not take the profile for one of IAM Identity Center, and ask its helper.
var grantedKeys = []string{"granted_sso_start_url", "granted_sso_region", "granted_sso_account_id",
	"granted_sso_role_name", "granted_sso_registration_scopes"}

// portal is a section [sso-session NAME] of the config.
type portal struct {
	startURL, region, scopes string
}

// portals reads the sections of sessions.
func (t *translating) portals(sections []profiles.Section) {
	t.sessions = map[string]portal{}
	for _, s := range sections {
		if s.Kind != profiles.SectionSSO || s.Again {
			continue
		}
		var p portal
		for _, e := range s.Entries {
			switch strings.ToLower(string(e.Key)) {
			case keySSOStartURL:
				p.startURL = string(e.Value)
			case keySSORegion:
				p.region = string(e.Value)
			case keySSOScopes:
				p.scopes = string(e.Value)
			}
		}
		t.sessions[s.Name] = p
	}
}

// leadsTo reports whether two portals are the same one, with the same scopes.
func (p portal) leadsTo(other portal) bool {
	return p.isAt(other) && cmp.Or(p.scopes, profiles.AccountScope) == cmp.Or(other.scopes, profiles.AccountScope)
}

// isAt reports whether two portals are the same one.
func (p portal) isAt(other portal) bool {
	return profiles.StartURL(p.startURL) == profiles.StartURL(other.startURL) && p.region == other.region
}

// sessionOf returns the name of a session that leads to a portal. It adds one if no session does: all profiles of one
// portal share one login.
func (t *translating) sessionOf(p portal) string {
	for _, name := range slices.Sorted(maps.Keys(t.sessions)) {
		if t.sessions[name].leadsTo(p) {
			return name
		}
	}
	name := "sso"
	if u, err := url.Parse(p.startURL); err == nil {
		if label, _, _ := strings.Cut(u.Hostname(), "."); label != "" {
			name = label
		}
	}
	first := name
	for n := 2; ; n++ {
		if _, taken := t.sessions[name]; !taken && t.own[name] == nil {
			break
		}
		name = first + "-" + strconv.Itoa(n)
	}
	t.addSession(name, p)
	return name
}

// addSession writes the section of a session.
func (t *translating) addSession(name string, p portal) {
	if t.err != nil {
		return
	}
	keys := []profiles.KeyValue{{Key: keySSOStartURL, Value: p.startURL}, {Key: keySSORegion, Value: p.region}}
	if p.scopes != "" {
		keys = append(keys, profiles.KeyValue{Key: keySSOScopes, Value: p.scopes})
	}
	last := &t.parts[len(t.parts)-1]
	if *last, t.err = profiles.SetSection(*last, profiles.SectionSSO, name, keys); t.err == nil {
		t.sessions[name] = p
		t.result.Login = cmp.Or(t.result.Login, name)
	}
}

// assign makes a profile one of IAM Identity Center, without the helper of the tool.
func (t *translating) assign(name, session, account, role string) {
	t.result.Login = cmp.Or(t.result.Login, session)
	t.set(name, keySSOSession, session)
	t.set(name, keySSOAccountID, account)
	t.set(name, keySSORoleName, role)
	t.remove(name, keyCredentialProcess)
}

// grantedPortal replaces Granted's own keys of IAM Identity Center by AWS's keys.
func (t *translating) grantedPortal(name string) {
	if !t.any([]string{name}, grantedKeys...) {
		return
	}
	key := grantedKeys[slices.IndexFunc(grantedKeys, func(key string) bool { return t.text(name, key) != "" })]
	at := t.own[name][key].line
	p := portal{t.text(name, "granted_sso_start_url"), t.text(name, "granted_sso_region"),
		t.text(name, "granted_sso_registration_scopes")}
	session := t.text(name, keySSOSession)
	if known, ok := t.sessions[session]; ok { // it has what the profile leaves out
		p = portal{cmp.Or(p.startURL, known.startURL), cmp.Or(p.region, known.region), cmp.Or(p.scopes, known.scopes)}
	}
	account, role := t.text(name, "granted_sso_account_id"), t.text(name, "granted_sso_role_name")
	words := profiles.SplitCommand(t.text(name, keyCredentialProcess))
	err := profiles.CheckPortal(p.startURL, p.region, p.scopes)
	if err == nil {
		err = profiles.CheckAssignment(account, role)
	}
	switch {
	case len(words) > 0 && (!t.isTool(words[0]) || foreignProfile(words[1:]) != name):
		t.left(name, key, "%s of profile %q is beside a credential_process that is not Granted's for this profile", key, name)
	case t.any([]string{name}, keyRoleARN, keyWebIdentity, keySSOStartURL, keySSOAccountID, keySSORoleName):
		t.left(name, key, "%s of profile %q is beside AWS's own keys for a role or a permission set", key, name)
	case err != nil:
		t.left(name, key, "%s of profile %q: %v", key, name, err)
	default:
		session := t.sessionOf(p)
		t.assign(name, session, account, role)
		t.remove(name, grantedKeys...)
		t.changed(at, "profile %q now has the permission set %s in account %s of the [sso-session %s], instead of Granted's own keys",
			name, role, account, session)
	}
}

// instances adds a session for each SSO instance of aws-sso-cli.
func (t *translating) instances() {
	if t.yaml, t.err = readInstances(t.SettingsFile, t.Settings); t.err != nil {
		return
	}
	left := func(i instance, format string, args ...any) {
		t.result.Left = append(t.result.Left, warning(profiles.Origin{File: t.SettingsFile, Line: i.line}, format, args...))
	}
	for _, i := range t.yaml.all {
		p := portal{startURL: i.startURL, region: i.region}
		known, taken := t.sessions[i.name]
		switch err := profiles.CheckPortal(p.startURL, p.region, ""); {
		case err != nil:
			left(i, "the SSO instance %q: %v", i.name, err)
		case taken && !known.isAt(p):
			left(i, "the SSO instance %q has another portal than the [sso-session %s] of %s", i.name, i.name, t.Files.Config)
		case taken:
			t.usable = append(t.usable, i.name)
		default:
			if t.addSession(i.name, p); t.err != nil {
				left(i, "the SSO instance %q: %v", i.name, t.err)
				t.err = nil
				continue
			}
			t.usable = append(t.usable, i.name)
			t.result.Changed = append(t.result.Changed, warning(profiles.Origin{File: t.SettingsFile, Line: i.line},
				"the SSO instance %q is now the [sso-session %s] of %s", i.name, i.name, t.Files.Config))
		}
	}
}

// ssoHelper replaces a credential_process of aws-sso-cli.
func (t *translating) ssoHelper(name string) {
	at, ok := t.own[name][keyCredentialProcess]
	if !ok {
		return
	}
	words := profiles.SplitCommand(at.text)
	if len(words) == 0 || !t.isTool(words[0]) {
		return
	}
	asked, ok := parseProcess(words[1:])
	if asked.sso == "" {
		asked.sso = t.yaml.byDefault()
	}
	why := ""
	switch {
	case !ok:
		why = "does not say which account and role it is for"
	case !slices.Contains(t.usable, asked.sso):
		why = "is for the SSO instance " + strconv.Quote(asked.sso) + ", which " + t.SettingsFile + " does not describe"
	case slices.Contains(t.yaml.via, asked.account+"/"+asked.role):
		why = "is for a role that has Via in " + t.SettingsFile + "; write it as a role_arn and a source_profile"
	case t.any([]string{name}, keyRoleARN, keyWebIdentity) || t.any([]string{name}, ssoKeys...):
		why = "is beside AWS's own keys for a role or a permission set"
	default:
		if err := profiles.CheckAssignment(asked.account, asked.role); err != nil {
			why = err.Error()
		}
	}
	if why != "" {
		t.left(name, keyCredentialProcess, "credential_process of profile %q %s", name, why)
		return
	}
	t.assign(name, asked.sso, asked.account, asked.role)
	t.changed(at.line, "profile %q now has the permission set %s in account %s of the [sso-session %s], instead of aws-sso",
		name, asked.role, asked.account, asked.sso)
}

// process is what a helper command of aws-sso-cli asks for.
type process struct{ sso, account, role string }

// parseProcess reads the words of a command such as `-u open -S "Default" process --arn ARN`. ok is false if they do
// not name one account and one role, or name another config.
func parseProcess(words []string) (p process, ok bool) {
	// The flags that take the next word: those of cmd/aws-sso/main.go and process_cmd.go of
	// github.com/synfinatic/aws-sso-cli, and of its older versions.
	flags := map[string]string{"-S": "sso", "--sso": "sso", "-a": "arn", "--arn": "arn", "-A": "account",
		"--account": "account", "-R": "role", "--role": "role", "-b": "", "--browser": "", "--config": "config", "-L": "",
		"--level": "", "-u": "", "--url-action": "", "--threads": "", "-p": "profile", "--profile": "profile"}
	given, command := map[string]string{}, ""
	for i := 0; i < len(words); i++ {
		word, value, inline := strings.Cut(words[i], "=")
		switch what, takes := flags[word]; {
		case takes && !inline && i+1 < len(words):
			i++
			given[what] = words[i]
		case takes:
			given[what] = value
		case strings.HasPrefix(word, "-"):
		case command == "":
			command = word
		default:
			return p, false
		}
	}
	p = process{given["sso"], given["account"], given["role"]}
	if arn := given["arn"]; arn != "" {
		switch f := strings.Split(arn, ":"); {
		case len(f) == 2: // the short form ACCOUNT:ROLE
			p.account, p.role = f[0], f[1]
		case len(f) == 6 && strings.HasPrefix(f[5], "role/"):
			p.account, p.role = f[4], strings.TrimPrefix(f[5], "role/")
		}
	}
	for len(p.account) > 0 && len(p.account) < 12 { // it reads accounts as numbers
		p.account = "0" + p.account
	}
	return p, command == "process" && p.account != "" && p.role != "" && given["config"] == "" && given["profile"] == ""
}
