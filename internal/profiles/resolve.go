package profiles

import (
	"errors"
	"path"
	"slices"
	"strings"

	"broker/internal/fault"
)

// maxHops is the largest number of profiles from a name to its source. AWS has no such limit, but a longer chain
// is a mistake, and each role costs a call. No chain is followed further, so a hostile file costs little.
const maxHops = 10

// maxGuesses limits how many errors about an unknown source_profile suggest a similar name, per Set. Each search
// compares the name with all others, so a search for every profile of a large file would take too long.
const maxGuesses = 100

// A resolution is a cached chain, or the error why there is none.
type resolution struct {
	chain Chain
	err   error
}

// Resolve returns the chain of a profile, a source or an alias, given its exact name. It looks a profile up in the
// registry first, then in the AWS files. A source_profile that names both a source and a profile means the source.
// Nothing is inherited from [default].
//
// Errors: fault.Usage if name cannot be a name; fault.NotFound for an unknown name, with up to three similar ones;
// fault.NotConfirmed for a profile with settings that take effect only once they are trusted; and fault.Config,
// with file and line, for a profile that is invalid, has a setting that its file must not have (see Rules), or is
// not served by Broker: long-lived keys in plain text, credential_source.
//
// The rules between the keys of one profile are botocore's:
// https://docs.aws.amazon.com/cli/latest/userguide/cli-configure-role.html
func (s *Set) Resolve(name string) (Chain, error) {
	if err := checkName(name); err != nil {
		return Chain{}, err
	}
	exact, ok, err := s.exact(name)
	switch {
	case err != nil:
		return Chain{}, err
	case !ok:
		return Chain{}, s.notFound(name)
	}
	name = exact
	if r, ok := s.chains.Load(name); ok {
		r := r.(*resolution)
		return r.chain, r.err
	}
	r := &resolution{}
	t, err := s.build(name)
	if r.err = err; err == nil {
		r.chain, r.err = s.admit(t, name)
	}
	s.chains.Store(name, r)
	return r.chain, r.err
}

// build makes the chain of a known name, whether or not its settings are trusted.
func (s *Set) build(name string) (Trust, error) {
	hops, src, err := s.walk(name)
	if err != nil {
		return Trust{}, err
	}
	asked, _ := s.lookup(name)
	r := &reading{values: make([]Value, 0, 8)}
	c := Chain{Profile: name, Source: src.Source, Directories: s.directories}
	c.Region = r.take(asked.all, keyRegion, checkRegion)
	published := strings.EqualFold(r.take(asked.own, keyPublish, oneOf("true", "false")), "true")
	c.Assignment = src.assignment
	if len(hops) == 0 {
		r.withoutRole(asked)
	}
	for _, p := range hops {
		r.guard(s.guards(p), &c.Guard)
		switch own := p.name == src.profile; {
		case own && src.Kind == WebIdentity:
			c.Roles = append(c.Roles, s.webIdentityRole(r, p, asked))
			continue
		case own:
			r.notLimited(s.guards(p), p.name, src.Kind)
			r.withoutRole(p)
			continue
		case p.own.has(keyRoleARN):
			c.Roles = append(c.Roles, s.role(r, p, asked, src.Endpoint))
			// The profile read last is assumed first: with the key, and with a code.
			c.MFAProcess = r.take(p.own, keyMFAProcess, checkCommand)
			r.noCode(p, src.Kind)
		default:
			r.withoutRole(p)
		}
		r.take(p.own, keySourceProfile, checkName)
		if _, ok := s.asksFor(p); ok {
			r.take(p.own, keyCredentialProcess, func(string) error { return nil })
		}
	}
	c.Guard.add(src.Guard)
	if src.Kind == Portal {
		r.guard(s.sessionGuards(src.Name), &c.Guard)
	}
	if src.profile == "" {
		section, _ := s.lookup(src.Name)
		r.guard(s.guards(section), &c.Guard)
	}
	if r.err == nil && published {
		r.err = notPublished(asked.own.origin(keyPublish), c.Guard)
	}
	if r.err != nil {
		return Trust{}, r.err
	}
	slices.Reverse(c.Roles)
	if err := inherited(c.Roles); err != nil {
		return Trust{}, err
	}
	if c.MFAProcess == "" {
		c.MFAProcess = src.MFAProcess
	}
	if src.Kind == IAMUser && c.Source.MFASerial == "" && len(c.Roles) > 0 {
		c.Source.MFASerial = c.Roles[0].MFASerial
	}
	if len(c.Roles) == 0 && c.Region == "" && src.Kind != Portal { // for other calls, AWS tools do not use sso_region
		c.Region = src.Endpoint.Region
	}
	c.Roles = slices.Clip(c.Roles)
	for _, v := range src.values {
		if !slices.Contains(r.values, v) {
			r.values = append(r.values, v)
		}
	}
	c.Values = slices.Clip(r.values)
	c.Warnings = r.warnings
	t := Trust{Chain: c, Claims: slices.Concat(r.claims, src.claims), Limits: r.limits}
	if len(t.Claims) > 0 {
		t.SHA256 = t.digest()
	}
	return t, nil
}

// role reads one role. Only the region falls back to the requested profile, since the tools that Broker starts use
// that region. A role whose source uses an STS other than AWS's is requested from that STS, never from AWS.
func (s *Set) role(r *reading, p, asked profile, source Endpoint) Role {
	form := checkRoleARN
	if source.Compatible {
		form = checkOtherRoleARN
	}
	role := Role{
		Profile:     p.name,
		ARN:         r.take(p.own, keyRoleARN, form),
		ExternalID:  r.take(p.own, keyExternalID, checkExternalID),
		SessionName: r.take(p.own, keySessionName, sessionNameCheck(p)),
		Duration:    seconds(r.take(p.own, keyDuration, checkDuration)),
		MFASerial:   r.take(p.own, keyMFASerial, checkMFASerial),
		FreshMFA:    r.take(p.own, keyMFA, oneOf("each")) != "",
		Endpoint:    r.endpoint(p.all, s.services),
		Origin:      p.own.origin(keyRoleARN),
	}
	r.attribution(p, &role)
	role.ReadOnly = r.readOnly(p.name, s.guards(p), source.Compatible)
	if role.Endpoint.Region == "" {
		role.Endpoint.Region = r.take(asked.all, keyRegion, checkRegion)
	}
	if source.Compatible {
		role.Endpoint.Compatible = true
		if role.Endpoint.URL == "" {
			role.Endpoint.URL, role.Endpoint.Listener = source.URL, source.Listener
		}
	}
	return role
}

// noSource returns the error for a source_profile that does not exist: mistyped, or a source that was not added
// yet.
func (s *Set) noSource(at Origin, name string) error {
	f := fault.New(fault.NotFound, "%s: source_profile names %q, which is neither a source nor a profile", at, name)
	if s.guesses.Add(1) > maxGuesses {
		return f.WithHint("broker add %s", name)
	}
	if near := s.near(name, 1); len(near) > 0 {
		return fault.New(fault.NotFound, "%w; did you mean %q?", f, near[0]).
			WithHint("broker profiles show %s", near[0])
	}
	return f.WithHint("broker add %s", name)
}

// walk follows source_profile from a name to the source at its end. If the last profile itself defines the source, it
// is the last of the profiles.
func (s *Set) walk(name string) ([]profile, *registered, error) {
	var hops []profile
	seen := map[string]int{}
	for {
		p, found := s.lookup(name)
		src := s.sources[name]
		// aws-vault reads such a role as a role of the key with that name, and assumes both.
		if n := len(hops); src != nil && n > 0 && p.own.has(keyRoleARN) && !p.own.has(keySourceProfile) {
			return nil, nil, fault.New(fault.Config, "%s: source_profile names %q, which is a source and also a role "+
				"without a source_profile; give the role another name", hops[n-1].own.origin(keySourceProfile), name)
		}
		if src != nil && (len(hops) > 0 || !p.own.has(keyRoleARN)) {
			return hops, src, src.err
		}
		if !found { // never the first name, which is known to exist
			last := hops[len(hops)-1]
			return nil, nil, s.noSource(last.own.origin(keySourceProfile), name)
		}
		// botocore uses the keys of a source_profile even if that profile has a role. Broker must not serve the
		// role instead: those would be another account's credentials.
		kind, own := p.kind()
		if o, ok := p.plainKey(); ok && !own && len(hops) > 0 && (!p.ours || hops[len(hops)-1].name == name) {
			return nil, nil, plainKeyError(name, o)
		}
		if first, again := seen[name]; again {
			at := hops[first].own.origin(keySourceProfile)
			if at == (Origin{}) {
				at = hops[first].own.origin(keyCredentialProcess)
			}
			return nil, nil, fault.New(fault.Config, "%s: source_profile forms a loop: %s", at, loop(hops[first:]))
		}
		if len(hops) == maxHops {
			return nil, nil, fault.New(fault.Config,
				"%s: profile %q has a chain of more than %d profiles; a chain may have at most %d",
				hops[0].origin(), hops[0].name, maxHops, maxHops)
		}
		seen[name] = len(hops)
		hops = append(hops, p)
		if own {
			src := s.sourceOf(p, kind)
			return hops, src, src.err
		}
		if other, ok := s.asksFor(p); ok {
			name = other
			continue
		}
		if len(hops) > 1 && isOurs(p.own.text(keyCredentialProcess)) && !p.own.has(keySourceProfile) {
			return nil, nil, fault.New(fault.NotFound, "%s: source_profile names %q, which is no longer a source",
				hops[len(hops)-2].own.origin(keySourceProfile), p.name).WithHint("broker add %s", p.name)
		}
		if err := servable(p, s.noSources()); err != nil {
			return nil, nil, err
		}
		name = p.own.text(keySourceProfile)
	}
}

// noSources reports whether the registry has no valid source.
func (s *Set) noSources() bool {
	for _, src := range s.sources {
		if src.err == nil {
			return false
		}
	}
	return true
}

func loop(hops []profile) string {
	var b strings.Builder
	for _, p := range hops {
		b.WriteString(p.name + " -> ")
	}
	return b.String() + hops[0].name
}

// servable returns why a profile, which defines no source, does not lead to one. It checks the keys in botocore's
// order. empty means that the registry has no source.
func servable(p profile, empty bool) error {
	v := p.own
	if v.has(keyCredentialSource) {
		return fault.New(fault.Config, "%s: profile %q has a %s: the AWS tools ask the machine that they run on; "+
			"Broker leaves it alone", v.origin(keyCredentialSource), p.name, keyCredentialSource)
	}
	if p.ours && v.has(keySourceProfile) {
		return nil
	}
	if v.has(keyRoleARN) {
		if v.has(keySourceProfile) {
			return nil
		}
		return fault.New(fault.Config, "%s: profile %q has a role_arn but no source_profile", v.origin(keyRoleARN), p.name)
	}
	if o, ok := p.plainKey(); ok && !p.ours {
		return plainKeyError(p.name, o)
	}
	if command := v.text(keyCredentialProcess); isOurs(command) {
		f := fault.New(fault.Config, "%s: profile %q asks credproc, but the registry has no definition of it",
			v.origin(keyCredentialProcess), p.name).WithHint("broker profiles unlink %s", p.name)
		if empty { // the registry was deleted
			f = f.WithHint("broker profiles unlink --all")
		}
		return f
	}
	if v.has(keyAccessKeyID) {
		return fault.New(fault.Config, "%s: profile %q has temporary keys, which Broker does not serve", v.origin(keyAccessKeyID), p.name)
	}
	for _, b := range v {
		for _, set := range b.settings {
			for _, line := range strings.Split(set.value, "\n")[1:] {
				if key, _, _ := strings.Cut(line, "="); isMovedKey([]byte(trimSpace(key))) {
					return fault.New(fault.Config, "%s: the %s of profile %q is indented, so that it continues "+
						"the value of %s; remove the spaces before it",
						Origin{b.origin.File, set.line}, trimSpace(key), p.name, set.key)
				}
			}
		}
	}
	f := fault.New(fault.Config, "%s: profile %q %w", p.origin(), p.name, ErrOnlySettings).
		WithHint("broker add %s", p.name)
	if v.has(keySourceProfile) || v.has(keySecretKey) { // the profile was meant to have a source
		f.Err = nil
	}
	return f
}

// ErrOnlySettings is the error for a profile that has only settings and no credentials, such as a [default] with a
// region.
var ErrOnlySettings = errors.New("has no role_arn, and no source has that name")

func plainKeyError(name string, o Origin) error {
	return fault.New(fault.Config, "%s: the long-lived key of %q is here in plain text; Broker never uses such keys", o, name).
		WithHint("broker setup")
}

// asksFor returns the profile that p stands for: the one that its credential_process asks our helper for. ok is
// false if p is defined elsewhere, too.
func (s *Set) asksFor(p profile) (other string, ok bool) {
	elsewhere := slices.Concat(ssoKeys, []string{keyRoleARN, keySourceProfile, keyWebIdentity, keyCredentialSource,
		keyLoginSession})
	if slices.ContainsFunc(elsewhere, p.own.has) {
		return "", false
	}
	if _, plain := p.plainKey(); plain || p.ours {
		return "", false
	}
	words := SplitCommand(p.own.text(keyCredentialProcess))
	if !isCredproc(words) {
		return "", false
	}
	other = helperProfile(words)
	_, known := s.known[other]
	if a, alias := s.aliases[other]; alias && !known {
		other = a.target
		_, known = s.known[other]
	}
	return other, known && other != p.name
}

// helperProfile returns the profile that a command of credproc asks for.
func helperProfile(words []string) (name string) {
	for _, word := range words[1:] {
		name = strings.TrimPrefix(word, "--profile=") // in every form that credproc accepts, the last word is the name
	}
	return name
}

// isOurs reports whether a credential_process starts our helper.
func isOurs(command string) bool { return isCredproc(SplitCommand(command)) }

func isCredproc(words []string) bool {
	if len(words) == 0 {
		return false
	}
	base := path.Base(strings.ReplaceAll(words[0], `\`, "/"))
	return strings.TrimSuffix(base, ".exe") == "credproc"
}

// SplitCommand splits a command as the SDKs do: no shell, and double quotes around words with spaces.
func SplitCommand(command string) []string {
	var words []string
	var word strings.Builder
	quoted, open := false, false
	for _, r := range command {
		switch {
		case r == '"':
			quoted, open = !quoted, true
		case !quoted && (r == ' ' || r == '\t'):
			if open {
				words = append(words, word.String())
			}
			word.Reset()
			open = false
		default:
			word.WriteRune(r)
			open = true
		}
	}
	if open {
		words = append(words, word.String())
	}
	return words
}

// readSource reads a [source NAME] section of the registry.
func readSource(b *block) *registered {
	r := &reading{}
	v := view{b}
	if v.has(keyLoginSession) {
		return readConsoleLogin(b)
	}
	keyID := checkAccessKeyID
	compatible := strings.EqualFold(r.take(v, keySTSCompatible, checkBool), "true")
	if compatible {
		keyID = checkOtherKeyID
	}
	src := &registered{Source: Source{
		Name:        b.name,
		AccessKeyID: r.take(v, keySourceKeyID, keyID),
		KeyCreated:  parseDay(r.take(v, keyKeyCreated, checkDay)),
		MFASerial:   r.take(v, keyMFASerial, checkMFASerial),
		MFAProcess:  r.take(v, keyMFAProcess, checkCommand),
		HasSeed:     r.take(v, keyMFASeed, oneOf("keyring")) != "",
		NoSession:   r.take(v, keySession, oneOf("none")) != "",
		Endpoint:    r.endpoint(v, func(string) *block { return nil }),
		Origin:      b.origin,
	}}
	r.guard(v, &src.Guard)
	src.Endpoint.Compatible = compatible
	if r.err == nil && compatible && src.Endpoint.URL == "" {
		r.err = fault.New(fault.Config,
			"%s: source %q has sts_compatible = true, which needs the endpoint_url of that STS", b.origin, b.name)
	}
	if r.err == nil && src.AccessKeyID == "" {
		r.err = fault.New(fault.Config, "%s: source %q has no access_key_id", b.origin, b.name).
			WithHint("broker add %s", b.name)
	}
	src.values, src.err = r.values, r.err
	return src
}

// notFound returns the error for an unknown name, with up to three similar names, also from more.
func (s *Set) notFound(name string, more ...string) error {
	if err := s.sessionOnly(name); err != nil {
		return err
	}
	return fault.New(fault.NotFound, "no profile, source or alias is called %q%s", name,
		didYouMean(s.near(name, 3, more...))).WithHint("broker profiles list")
}
