package profiles

import (
	"cmp"
	"errors"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"broker/internal/fault"
	"broker/internal/lazyregexp"
)

// This file reads the sources that are not IAM users: sessions of IAM Identity Center, console logins, web identity
// tokens and trusted programs.
// https://docs.aws.amazon.com/cli/latest/userguide/cli-configure-sso.html
// https://docs.aws.amazon.com/sdkref/latest/guide/access-assume-role-web.html

// ssoKeys are the keys of IAM Identity Center in a profile.
var ssoKeys = []string{keySSOSession, keySSOStartURL, keySSORegion, keySSOScopes, keySSOAccountID, keySSORoleName}

// AccountScope is the scope of a login without sso_registration_scopes, as in the AWS CLI. AWS refreshes only a login
// with a scope. https://docs.aws.amazon.com/singlesignon/latest/OIDCAPIReference/API_RegisterClient.html
const AccountScope = "sso:account:access"

var (
	consoleARN = lazyregexp.New(`^arn:aws[a-z-]*:(iam|sts)::[0-9]{12}:(root|(user|assumed-role|federated-user)/[!-~]+)$`)
	setName    = lazyregexp.New(`^[A-Za-z0-9_+=,.@-]+$`)
	scopeText  = lazyregexp.New(`^[!#-+\x2d-\[\]-~]+$`) // a scope of OAuth, without a comma
	urlText    = lazyregexp.New(`^[!-~]+$`)
)

// The form of an account, of the name of a permission set, and of login_session.
// https://docs.aws.amazon.com/singlesignon/latest/PortalAPIReference/API_GetRoleCredentials.html
// https://docs.aws.amazon.com/singlesignon/latest/APIReference/API_CreatePermissionSet.html
var (
	checkAccountID     = matches(accountID, 12, 12, "an account ID of twelve digits")
	checkPermissionSet = matches(setName, 1, 32, "the name of a permission set: 1 to 32 letters, digits and "+
		"characters of _+=,.@-")
	checkConsoleARN = matches(consoleARN, 20, 2048, "the ARN of a user, of a role session or of a root user")
)

// CheckLogin checks what a login to the source sends to AWS, by the rules of the files. The vault process takes it from
// another process. An ARN may be missing: the first login of a console says it.
func (s Source) CheckLogin() error {
	if s.Kind == Portal {
		return CheckPortal(s.StartURL, s.Endpoint.Region, strings.Join(s.Scopes, ","))
	}
	if err := checkConsoleARN(s.ARN); err != nil && s.ARN != "" {
		return fault.New(fault.Config, "the %s %.100q %w", keyLoginSession, s.ARN, err)
	}
	return nil
}

// checkStartURL accepts the address of a portal, with its own domain or not.
func checkStartURL(s string) error {
	u, err := url.Parse(StartURL(s))
	if len(s) > 2048 || !urlText.MatchString(s) || err != nil || u.Scheme != "https" || u.Hostname() == "" ||
		u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || strings.Contains(u.Host, "%") {
		return errors.New("is not an address such as https://NAME.awsapps.com/start")
	}
	return nil
}

// StartURL returns the address of a portal without a "#" and slashes at its end, with scheme and host in lower case.
// Two addresses lead to the same portal if the results are equal.
func StartURL(s string) string {
	s = strings.TrimRight(s, "#/")
	at := strings.Index(s, "://")
	if at < 0 {
		return s
	}
	end := len(s)
	if i := strings.IndexByte(s[at+3:], '/'); i >= 0 {
		end = at + 3 + i
	}
	return strings.ToLower(s[:end]) + s[end:]
}

func checkScopes(s string) error {
	list := scopesOf(s)
	for _, scope := range list {
		if !scopeText.MatchString(scope) {
			return errors.New("is not a list of scopes such as " + AccountScope)
		}
	}
	if len(list) == 0 || len(s) > 2048 {
		return errors.New("is not a list of scopes such as " + AccountScope)
	}
	return nil
}

// scopesOf splits at commas and ignores empty words, as the AWS CLI does.
func scopesOf(s string) []string {
	return slices.DeleteFunc(listOf(s), func(scope string) bool { return scope == "" })
}

// CheckPortal returns an error if these are not the start URL, region and scopes of a portal. The scopes may be empty.
func CheckPortal(startURL, region, scopes string) error {
	err := checkGiven(given{"start URL", startURL, checkStartURL}, given{"region", region, checkRegion})
	if err != nil || scopes == "" {
		return err
	}
	return checkGiven(given{"scopes", scopes, checkScopes})
}

// CheckAssignment returns an error if these are not an account and the name of a permission set.
func CheckAssignment(account, role string) error {
	return checkGiven(given{"account", account, checkAccountID}, given{"role", role, checkPermissionSet})
}

// given is a value that a person gave, with its name in messages.
type given struct {
	name, value string
	check       check
}

// checkGiven returns an error for the first value that is missing, or else for the first that its check refuses.
func checkGiven(values ...given) error {
	for _, v := range values {
		if v.value == "" {
			return fault.New(fault.Config, "the %s is missing", v.name)
		}
	}
	for _, v := range values {
		if err := v.check(v.value); err != nil {
			return fault.New(fault.Config, "the %s %.100q %w", v.name, v.value, err)
		}
	}
	return nil
}

func checkTokenFile(s string) error {
	switch {
	case strings.HasPrefix(s, "~"):
		return errors.New("is not an absolute path; AWS tools do not replace ~ there")
	case !filepath.IsAbs(s):
		return errors.New("is not an absolute path")
	}
	return nil
}

// kind returns how a profile itself obtains credentials, in botocore's order of the keys. ok is false if it is a
// role, stands for another profile, or has no credentials of its own. Keys in plain text are not looked at.
func (p profile) kind() (kind Kind, ok bool) {
	v := p.own
	switch {
	case v.has(keyWebIdentity):
		return WebIdentity, true
	case v.has(keyCredentialSource), v.has(keyRoleARN):
		return "", false
	case v.has(keySSOAccountID), v.has(keySSORoleName):
		return Portal, true
	case p.ours && v.has(keySourceProfile) && !v.has(keyLoginSession):
		return "", false
	}
	command := v.text(keyCredentialProcess)
	switch _, plain := p.plainKey(); {
	case plain && !p.ours:
		return "", false
	case v.has(keyLoginSession):
		return ConsoleLogin, true
	case command != "" && !isOurs(command):
		return OtherProgram, true
	case command == "" && (v.has(keySSOSession) || v.has(keySSOStartURL)): // two keys are missing
		return Portal, true
	}
	return "", false
}

// sourceOf returns the source that a profile itself defines.
func (s *Set) sourceOf(p profile, kind Kind) *registered {
	r := &reading{}
	src := &registered{Source: Source{Name: p.name, Kind: kind, Registry: s.states[registryFile].real}, profile: p.name}
	switch kind {
	case Portal:
		s.portalOf(r, p, src)
	case ConsoleLogin:
		src.Origin = p.own.origin(keyLoginSession)
		src.ARN = r.take(p.own, keyLoginSession, checkConsoleARN)
		src.Endpoint.Region = r.take(p.all, keyRegion, checkRegion)
	case WebIdentity:
		src.Origin = p.own.origin(keyWebIdentity)
		src.TokenFile = r.take(p.own, keyWebIdentity, checkTokenFile)
		if !p.own.has(keyRoleARN) && r.err == nil {
			r.err = fault.New(fault.Config, "%s: profile %q has a %s but no role_arn", src.Origin, p.name, keyWebIdentity)
		}
	case OtherProgram:
		src.Origin = p.own.origin(keyCredentialProcess)
		src.Command = s.program(r, p)
	}
	if r.err == nil {
		r.err = s.taken(src)
	}
	if r.err == nil && kind == ConsoleLogin && src.Endpoint.Region == "" {
		r.err = fault.New(fault.Config, "%s: profile %q has a login_session but no region", src.Origin, p.name)
	}
	src.values, src.claims, src.err = r.values, r.claims, r.err
	return src
}

// taken returns an error if another source has the same name: the keyring and the sessions would mix them up.
func (s *Set) taken(src *registered) error {
	if other := s.sources[src.Name]; other != nil {
		return fault.New(fault.Config, "%s: %s has the name of the source at %s; rename one of them",
			src.Origin, src.described(), other.Origin)
	}
	if session := s.ssoSession(src.Name); src.Kind != Portal && len(session) > 0 {
		return fault.New(fault.Config, "%s: %s has the name of the [sso-session] at %s; rename one of them",
			src.Origin, src.described(), session[0].origin)
	}
	return nil
}

// described names a source in a message.
func (s Source) described() string {
	if s.Kind == Portal {
		return "sso-session " + s.Name
	}
	return "profile " + s.Name
}

// ssoSession returns the sections [sso-session NAME]: the registry's before the config's.
func (s *Set) ssoSession(name string) (v view) {
	for _, file := range []fileKind{registryFile, configFile} {
		if b := s.block(file, SectionSSO, name); b != nil {
			v = append(v, b)
		}
	}
	return v
}

// sessionGuards returns the sections [sso-session NAME] whose guards count: also those of the usual AWS files.
func (s *Set) sessionGuards(name string) view {
	list := s.ssoSession(name)
	if s.usual == nil {
		return list
	}
	if b := s.usual.block(configFile, SectionSSO, name); b != nil && b.origin.File != s.files.Config {
		list = append(list, b)
	}
	return list
}

// portalOf reads the portal and the assignment of a profile.
func (s *Set) portalOf(r *reading, p profile, src *registered) {
	from, what := p.own, "profile "+p.name
	if session, b := p.own.find(keySSOSession); session != nil {
		at := Origin{b.origin.File, session.line}
		src.Name = r.take(p.own, keySSOSession, checkName)
		if from = s.ssoSession(session.value); r.err != nil {
			return
		}
		if len(from) == 0 {
			r.err = fault.New(fault.Config, "%s: there is no [sso-session %.300s]", at, session.value)
			if near := Nearest(session.value, slices.Values(s.sessionNames()), 1); len(near) > 0 {
				r.err = fault.New(fault.Config, "%w; did you mean %s?", r.err, near[0])
			}
			return
		}
		what = "sso-session " + session.value
		r.err = differing(p, from)
	}
	s.portal(r, from, what, src)
	if !p.own.has(keySSOSession) {
		src.Name, src.Scopes = src.StartURL, []string{AccountScope}
		if first, known := s.portals()[src.StartURL]; known && r.err == nil &&
			first.own.text(keySSORegion) != src.Endpoint.Region {
			r.err = fault.New(fault.Config,
				"%s: %s of profile %q differs from the one of profile %q at %s, which has the same %s",
				p.own.origin(keySSORegion), keySSORegion, p.name, first.name, first.own.origin(keySSORegion), keySSOStartURL)
		}
	}
	src.assignment = &Assignment{
		Profile:   p.name,
		AccountID: r.needs(p.own, keySSOAccountID, "profile "+p.name, checkAccountID),
		RoleName:  r.needs(p.own, keySSORoleName, "profile "+p.name, checkPermissionSet),
		Origin:    p.own.origin(keySSOAccountID),
	}
}

// portal reads the keys of a portal.
func (s *Set) portal(r *reading, v view, what string, src *registered) {
	_, b := v.find(keySSOStartURL)
	if b == nil {
		b = v[0]
	}
	src.Origin = b.origin
	src.StartURL = StartURL(r.needs(v, keySSOStartURL, what, checkStartURL))
	src.Endpoint.Region = r.needs(v, keySSORegion, what, checkRegion)
	if src.Scopes = scopesOf(r.take(v, keySSOScopes, checkScopes)); src.Scopes == nil {
		src.Scopes = []string{AccountScope}
	}
}

// firstPortals returns a profile without an sso_session for each start URL, those of the registry first. The start URL
// names the login, and a portal is in one region.
func (s *Set) firstPortals() map[string]profile {
	first := map[string]profile{}
	for _, name := range s.names {
		p, _ := s.lookup(name)
		if kind, _ := p.kind(); kind != Portal || p.own.has(keySSOSession) || checkRegion(p.own.text(keySSORegion)) != nil {
			continue
		}
		at := StartURL(p.own.text(keySSOStartURL))
		if other, known := first[at]; !known || p.ours && !other.ours {
			first[at] = p
		}
	}
	return first
}

// needs is take for a key that must be there.
func (r *reading) needs(v view, key, what string, check check) string {
	if !v.has(key) && r.err == nil {
		r.err = fault.New(fault.Config, "%s: %s has no %s, which IAM Identity Center needs", v[0].origin, what, key)
	}
	return r.take(v, key, check)
}

// differing returns an error for a key that a profile and its session set to different values: botocore refuses
// such a profile.
func differing(p profile, session view) error {
	for _, b := range session {
		for _, theirs := range b.settings {
			own, block := p.own.find(theirs.key)
			if own == nil || own.value == theirs.value || !slices.Contains(ssoKeys, theirs.key) {
				continue
			}
			return fault.New(fault.Config, "%s: %s of profile %q differs from the one of its sso-session at %s; remove one of them",
				Origin{block.origin.File, own.line}, theirs.key, p.name, Origin{b.origin.File, theirs.line})
		}
	}
	return nil
}

// ssoHelpers are the programs of tools for IAM Identity Center, with the names that `broker import --from` takes.
var ssoHelpers = map[string]string{"granted": "granted", "aws-sso": "aws-sso-cli"}

// program reads the credential_process of another program, and makes its path absolute.
func (s *Set) program(r *reading, p profile) string {
	set, b := p.own.find(keyCredentialProcess)
	at := Origin{b.origin.File, set.line}
	line := r.decided(b, keyCredentialProcess, set, Decide(keyOtherProgram, b.from.place), checkCommand)
	if r.err != nil {
		return ""
	}
	command, err := s.AbsoluteCommand(line)
	if err != nil {
		f := fault.New(fault.Config, "%s: %s %w", at, keyCredentialProcess, err)
		if tool := ssoHelpers[filepath.Base(SplitCommand(line)[0])]; tool != "" {
			f = f.WithHint("broker import --from %s --dry-run", tool)
		}
		r.err = f
		return ""
	}
	// A link with another name is our helper, too. It would wait for the daemon that waits for it.
	program, err := filepath.EvalSymlinks(SplitCommand(command)[0])
	if err == nil && isCredproc([]string{program}) {
		r.err = fault.New(fault.Config, "%s: %s of profile %q leads to credproc, which asks Broker", at,
			keyCredentialProcess, p.name)
	}
	return command
}

// sessionNames returns the names of all sections [sso-session NAME], sorted.
func (s *Set) sessionNames() []string {
	var names []string
	for _, file := range []fileKind{registryFile, configFile} {
		for id := range s.states[file].table.blocks {
			if id.kind == SectionSSO && id.name != "" {
				names = append(names, id.name)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// session returns the source of a section [sso-session NAME], whether or not a profile uses it.
func (s *Set) session(name string) (Source, bool, error) {
	v := s.ssoSession(name)
	if len(v) == 0 {
		return Source{}, false, nil
	}
	r := &reading{}
	src := &registered{Source: Source{Name: name, Kind: Portal, Registry: s.states[registryFile].real}}
	s.portal(r, v, "sso-session "+name, src)
	if r.err == nil {
		r.err = s.taken(src)
	}
	if r.err == nil && len(r.claims) > 0 {
		c := r.claims[0]
		r.err = fault.New(fault.NotConfirmed, "%s: %s of a file that %s takes effect only for a profile that you trust",
			c.Origin, c.Key, v[0].from.why)
	}
	return src.Source, true, r.err
}

// LoginSource returns the source of a kind that has ByPage to which a name leads: the name of a profile or source, an
// alias, the name of an [sso-session], or the start URL of profiles without sso_session. A profile wins over a
// session of the same name. ok is false, without an error, if the source has no login on a page. The errors are
// those of Resolve.
func (s *Set) LoginSource(name string) (src Source, ok bool, err error) {
	if _, known, err := s.exact(name); known || err != nil {
		chain, err := s.Resolve(name)
		return chain.Source, err == nil && chain.Source.Kind.ByPage(), err
	}
	if src, ok, err := s.session(name); ok {
		return src, err == nil, err
	}
	if strings.Contains(name, "://") {
		for _, src := range s.LoginSources() {
			if src.Kind == Portal && src.Name == StartURL(name) {
				return src, true, nil
			}
		}
	}
	_, err = s.Resolve(name)
	return Source{}, false, err
}

// LoginSources returns the sources to which people log in on a page, sorted by name. It omits one that cannot be
// used; LoginSource and Resolve say why.
func (s *Set) LoginSources() []Source {
	all := map[string]Source{}
	for _, name := range s.sessionNames() {
		if src, _, err := s.session(name); err == nil {
			all[name] = src
		}
	}
	for _, name := range s.names {
		p, _ := s.lookup(name)
		kind, _ := p.kind()
		if src := s.sources[name]; !kind.ByPage() && (src == nil || !src.Kind.ByPage()) {
			continue
		}
		chain, err := s.Resolve(name)
		if src := chain.Source; err == nil && src.Kind.ByPage() {
			if _, known := all[src.Name]; !known {
				all[src.Name] = src
			}
		}
	}
	list := make([]Source, 0, len(all))
	for _, src := range all {
		list = append(list, src)
	}
	slices.SortFunc(list, func(a, b Source) int { return cmp.Compare(a.Name, b.Name) })
	return list
}

// FindLogin returns the name that a person means by short when they log in or out: by the rules of Find, among
// profiles, sources and the names of sso-sessions. A start URL stands for itself.
func (s *Set) FindLogin(short string) (string, error) {
	if err := checkName(short); err != nil {
		return "", err
	}
	if name, ok, err := s.exact(short); ok || err != nil {
		return name, err
	}
	if _, ok, _ := s.LoginSource(short); ok || len(s.ssoSession(short)) > 0 {
		return short, nil
	}
	var sessions, found []string
	for _, name := range s.sessionNames() {
		if _, known := s.known[name]; known {
			continue
		}
		if sessions = append(sessions, name); strings.Contains(name, short) {
			found = append(found, name)
		}
	}
	if len(found) == 0 {
		return s.find(short, sessions...)
	}
	for _, name := range s.names {
		if p, _ := s.lookup(name); strings.Contains(name, short) && s.kindOf(p) != KindOther {
			found = append(found, name)
		}
	}
	slices.Sort(found)
	return s.only(short, found)
}

// CheckNewUser returns an error if an IAM user cannot have a name, because another source has it.
func (s *Set) CheckNewUser(name string) error {
	var at Origin
	if src := s.sources[name]; src != nil && src.Kind != IAMUser {
		at = src.Origin
	} else if session := s.ssoSession(name); len(session) > 0 {
		at = session[0].origin
	} else {
		return nil
	}
	return fault.New(fault.Usage, "%q is the name of another source, at %s; choose another name", name, at)
}

// sessionOnly returns the error for the name of an sso-session where a profile is needed, or nil if it is not one.
func (s *Set) sessionOnly(name string) error {
	if len(s.ssoSession(name)) == 0 {
		return nil
	}
	var users []string
	for _, other := range s.names {
		if p, _ := s.lookup(other); p.own.text(keySSOSession) == name {
			users = append(users, other)
		}
	}
	f := fault.New(fault.NotFound, "%q is a session of IAM Identity Center, not a profile", name)
	if len(users) == 0 {
		return fault.New(fault.NotFound, "%w; no profile uses it", f).WithHint("broker profiles list")
	}
	return fault.New(fault.NotFound, "%w; name one of its profiles: %s", f, orList(users[:min(3, len(users))])).
		WithHint("broker explain %s", users[0])
}

// readConsoleLogin reads a [source NAME] section of a console login, which `broker login --console` writes.
func readConsoleLogin(b *block) *registered {
	r, v := &reading{}, view{b}
	src := &registered{Source: Source{
		Name:     b.name,
		Kind:     ConsoleLogin,
		ARN:      r.take(v, keyLoginSession, checkConsoleARN),
		Endpoint: Endpoint{Region: r.take(v, keyRegion, checkRegion)},
		Origin:   b.origin,
	}}
	r.guard(v, &src.Guard)
	for _, set := range b.settings {
		if !slices.Contains(consoleKeys, set.key) && r.err == nil {
			r.err = fault.New(fault.Config, "%s: source %q has login_session, so it cannot have %s",
				Origin{b.origin.File, set.line}, b.name, set.key)
		}
	}
	src.values, src.err = r.values, r.err
	return src
}

// consoleKeys are the keys of a source that is a console login.
var consoleKeys = []string{keyLoginSession, keyRegion, keyConfirm, keyProduction, keyAgents, keyBrowser}

// webIdentityRole reads the role of a profile with a web identity token. AWS tools ignore the other keys of a role.
// https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html
func (s *Set) webIdentityRole(r *reading, p, asked profile) Role {
	for _, key := range []string{keySourceProfile, keyMFA, keySourceIdentity, keySessionTags, keyTransitiveTags,
		keyOptionalTags} {
		if p.own.has(key) && r.err == nil {
			r.err = fault.New(fault.Config, "%s: profile %q has a %s, so it cannot have %s", p.own.origin(key), p.name,
				keyWebIdentity, key)
		}
	}
	for _, key := range []string{keyExternalID, keyMFASerial, keyMFAProcess} {
		if p.own.has(key) {
			r.warnings = append(r.warnings, Warning{p.own.origin(key), key + " has no effect beside " + keyWebIdentity})
		}
	}
	role := Role{
		Profile:     p.name,
		ARN:         r.take(p.own, keyRoleARN, checkRoleARN),
		SessionName: r.take(p.own, keySessionName, sessionNameCheck(p)),
		Duration:    seconds(r.take(p.own, keyDuration, checkDuration)),
		Endpoint:    r.endpoint(p.all, s.services),
		ReadOnly:    r.readOnly(p.name, s.guards(p), false),
		Origin:      p.own.origin(keyRoleARN),
	}
	if role.Endpoint.Region == "" {
		role.Endpoint.Region = r.take(asked.all, keyRegion, checkRegion)
	}
	return role
}

// notLimited refuses read_only and agents = read-only in a profile whose session takes no session policy.
// https://docs.aws.amazon.com/singlesignon/latest/PortalAPIReference/API_GetRoleCredentials.html
func (r *reading) notLimited(all view, name string, kind Kind) {
	set, b := all.find(keyReadOnly)
	what := keyReadOnly
	for _, section := range all {
		if s, at := (view{section}).find(keyAgents); set == nil && s != nil && agentsOf(s.value).ReadOnly {
			set, b, what = s, at, keyAgents+" = read-only"
		}
	}
	if set == nil || r.err != nil {
		return
	}
	why := "which needs a role_arn in the same profile"
	if kind == Portal {
		why = "but Identity Center gives the session of a permission set without a session policy; use a permission set " +
			"that only reads"
	}
	r.err = fault.New(fault.Config, "%s: profile %q has %s, %s", Origin{b.origin.File, set.line}, name, what, why).
		WithHint("vi +%d %s", set.line, b.origin.File)
}

// noCode refuses a code for each session of a role whose source has no MFA device.
func (r *reading) noCode(p profile, kind Kind) {
	if kind != IAMUser && p.own.has(keyMFA) && r.err == nil {
		r.err = fault.New(fault.Config, "%s: profile %q has mfa = each, but its source is not an IAM user, so STS "+
			"takes no code", p.own.origin(keyMFA), p.name)
	}
}
