package profiles

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"broker/internal/fault"
)

// maxHops bounds the profiles from a name to its source. AWS has no such limit;
// more than this many is a mistake, and each role costs a call.
const maxHops = 10

// resolution is a chain as it is remembered, or why there is none.
type resolution struct {
	chain Chain
	err   error
}

// Resolve returns the chain of a profile, a source or an alias, by its exact
// name. A profile is looked up in the registry first, then in the AWS files; as
// a source_profile, a name that is both a source and a profile is the source.
// Nothing is inherited from [default].
//
// Errors: fault.Usage for what cannot be a name, fault.NotFound for a name that
// nobody has, with up to three near ones, fault.NotConfirmed for a profile with settings that count only once they are
// trusted and are not, and fault.Config, naming file and line, for a profile that says something wrong, something that
// its file may not say (see Rules), or that Broker does not serve: long-lived keys in plain text, SSO, web identity,
// other helpers.
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

// build makes the chain of a name that is known, whether or not all of it is trusted.
func (s *Set) build(name string) (Trust, error) {
	hops, src, err := s.walk(name)
	if err != nil {
		return Trust{}, err
	}
	if len(hops) > maxHops {
		return Trust{}, fault.New(fault.Config,
			"%s: profile %q leads to its source over %d profiles; at most %d are followed",
			hops[0].origin(), name, len(hops), maxHops)
	}
	asked, _ := s.lookup(name)
	r := &reading{values: make([]Value, 0, 8)}
	c := Chain{Profile: name, Source: src.Source, Region: r.take(asked.all, keyRegion, checkRegion)}
	r.take(asked.own, keyPublish, oneOf("true", "false"))
	for _, p := range hops {
		r.take(p.own, keyConfirm, checkConfirm)
		if p.own.has(keyRoleARN) {
			c.Roles = append(c.Roles, s.role(r, p, asked, src.Endpoint))
			// The last one that is read is the first that is assumed: with the key, and with a code.
			c.MFAProcess = r.take(p.own, keyMFAProcess, checkCommand)
		}
		r.take(p.own, keySourceProfile, checkName)
		if _, ok := s.asksFor(p); ok {
			r.take(p.own, keyCredentialProcess, func(string) error { return nil })
		}
	}
	if r.err != nil {
		return Trust{}, r.err
	}
	slices.Reverse(c.Roles)
	if c.MFAProcess == "" {
		c.MFAProcess = src.MFAProcess
	}
	if c.Source.MFASerial == "" && len(c.Roles) > 0 {
		c.Source.MFASerial = c.Roles[0].MFASerial
	}
	if len(c.Roles) == 0 && c.Region == "" {
		c.Region = src.Endpoint.Region
	}
	c.Roles = slices.Clip(c.Roles)
	c.Values = slices.Clip(append(r.values, src.values...))
	c.Warnings = r.warnings
	t := Trust{Chain: c, Claims: r.claims}
	if len(t.Claims) > 0 {
		t.SHA256 = t.digest()
	}
	return t, nil
}

// role reads one role. Only the region falls back on the profile asked for:
// the tools that are started with it work there. What is signed for an STS that is not AWS goes there, and never to
// AWS.
func (s *Set) role(r *reading, p, asked profile, source Endpoint) Role {
	form := checkRoleARN
	if source.Compatible {
		form = checkOtherRoleARN
	}
	role := Role{
		Profile:     p.name,
		ARN:         r.take(p.own, keyRoleARN, form),
		ExternalID:  r.take(p.own, keyExternalID, checkExternalID),
		SessionName: r.take(p.own, keySessionName, checkSessionName),
		Duration:    seconds(r.take(p.own, keyDuration, checkDuration)),
		MFASerial:   r.take(p.own, keyMFASerial, checkMFASerial),
		FreshMFA:    r.take(p.own, keyMFA, oneOf("each")) != "",
		Endpoint:    r.endpoint(p.all, s.services),
		Origin:      p.own.origin(keyRoleARN),
	}
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

// noSource is the fault of a source_profile that is not there: a mistyped one, or a source that was not added yet.
func (s *Set) noSource(at Origin, name string) error {
	f := fault.New(fault.NotFound, "%s: source_profile names %q, which is neither a source nor a profile", at, name)
	if near := s.near(name, 1); len(near) > 0 {
		return fault.New(fault.NotFound, "%w; did you mean %q?", f, near[0]).
			WithHint("broker profiles show %s", near[0])
	}
	return f.WithHint("broker add %s", name)
}

// walk follows source_profile from a name to the source that it ends in.
func (s *Set) walk(name string) ([]profile, *registered, error) {
	var hops []profile
	seen := map[string]int{}
	for {
		p, found := s.lookup(name)
		src := s.sources[name]
		// For aws-vault that is a role of the key of that name, and it assumes both.
		if n := len(hops); src != nil && n > 0 && p.own.has(keyRoleARN) && !p.own.has(keySourceProfile) {
			return nil, nil, fault.New(fault.Config, "%s: source_profile names %q, which is a source and also a role "+
				"without a source_profile; give the role another name", hops[n-1].own.origin(keySourceProfile), name)
		}
		if src != nil && (len(hops) > 0 || !p.own.has(keyRoleARN)) {
			return hops, src, src.err
		}
		if !found { // the first name is a known one
			last := hops[len(hops)-1]
			return nil, nil, s.noSource(last.own.origin(keySourceProfile), name)
		}
		// botocore takes the keys of a source_profile even where it has a role of
		// its own: serving the role instead would be another account's credentials
		if o, ok := p.plainKey(); ok && len(hops) > 0 && (!p.ours || hops[len(hops)-1].name == name) {
			return nil, nil, plainKeyError(name, o)
		}
		if first, again := seen[name]; again {
			at := hops[first].own.origin(keySourceProfile)
			if at == (Origin{}) {
				at = hops[first].own.origin(keyCredentialProcess)
			}
			return nil, nil, fault.New(fault.Config, "%s: source_profile goes round in a circle: %s", at, circle(hops[first:]))
		}
		seen[name] = len(hops)
		hops = append(hops, p)
		if other, ok := s.asksFor(p); ok {
			name = other
			continue
		}
		if len(hops) > 1 && isOurs(p.own.text(keyCredentialProcess)) && !p.own.has(keySourceProfile) {
			return nil, nil, fault.New(fault.NotFound, "%s: source_profile names %q, which is no source any more",
				hops[len(hops)-2].own.origin(keySourceProfile), p.name).WithHint("broker add %s", p.name)
		}
		if err := servable(p, len(s.Sources()) == 0); err != nil {
			return nil, nil, err
		}
		name = p.own.text(keySourceProfile)
	}
}

func circle(hops []profile) string {
	var b strings.Builder
	for _, p := range hops {
		b.WriteString(p.name + " -> ")
	}
	return b.String() + hops[0].name
}

// servable says why a profile does not lead on to a source. The order is the
// one in which botocore looks at the keys. With empty the registry has no source.
func servable(p profile, empty bool) error {
	v := p.own
	for _, key := range []string{keyWebIdentity, keyCredentialSource} {
		if v.has(key) {
			return notServed(p, key)
		}
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
	for _, key := range []string{keySSOSession, keySSOStartURL, keyLoginSession} {
		if v.has(key) {
			return notServed(p, key)
		}
	}
	if o, ok := p.plainKey(); ok && !p.ours {
		return plainKeyError(p.name, o)
	}
	if command := v.text(keyCredentialProcess); isOurs(command) {
		f := fault.New(fault.Config, "%s: profile %q asks credproc, but the registry has no definition of it",
			v.origin(keyCredentialProcess), p.name).WithHint("broker profiles unlink %s", p.name)
		if empty { // it was deleted
			f = f.WithHint("broker profiles unlink --all")
		}
		return f
	} else if command != "" {
		return notServed(p, keyCredentialProcess)
	}
	if v.has(keyAccessKeyID) {
		return fault.New(fault.Config, "%s: profile %q holds temporary keys, which the broker does not serve", v.origin(keyAccessKeyID), p.name)
	}
	for _, b := range v {
		for _, set := range b.settings {
			for _, line := range strings.Split(set.value, "\n")[1:] {
				if key, _, _ := strings.Cut(line, "="); isRoleKey([]byte(trimSpace(key))) {
					return fault.New(fault.Config, "%s: the %s of profile %q is indented, so that it continues "+
						"the value of %s; take away the blanks before it",
						Origin{b.origin.File, set.line}, trimSpace(key), p.name, set.key)
				}
			}
		}
	}
	f := fault.New(fault.Config, "%s: profile %q %w", p.origin(), p.name, ErrOnlySettings).
		WithHint("broker add %s", p.name)
	if v.has(keySourceProfile) || v.has(keySecretKey) { // it was meant to
		f.Err = nil
	}
	return f
}

// ErrOnlySettings is of a profile that leads to no credentials and is not meant to, such as a [default] with a region.
var ErrOnlySettings = errors.New("has no role_arn, and no source has that name")

// notServed says whose a profile is that the broker neither serves nor changes.
func notServed(p profile, key string) error {
	whose := map[string]string{
		keySSOSession:       "it uses IAM Identity Center, which `aws sso login` serves; the broker leaves it alone",
		keySSOStartURL:      "it uses IAM Identity Center, which `aws sso login` serves; the broker leaves it alone",
		keyLoginSession:     "it uses a console login, which `aws login` serves; the broker leaves it alone",
		keyWebIdentity:      "the AWS tools exchange that token themselves; the broker leaves it alone",
		keyCredentialSource: "the AWS tools ask the machine that they run on; the broker leaves it alone",
		// Not as a source either: what any program may write into a file would run with the rights of the daemon.
		keyCredentialProcess: "the AWS tools run that program, which is not ours; the broker runs none of others, as a source neither",
	}[key]
	return fault.New(fault.Config, "%s: profile %q has a %s: %s", p.own.origin(key), p.name, key, whose)
}

func plainKeyError(name string, o Origin) error {
	return fault.New(fault.Config, "%s: the long-lived key of %q stands here in plain text; the broker never uses such keys", o, name).
		WithHint("broker setup")
}

// asksFor returns the other profile for which a profile that is defined nowhere
// else asks our helper: that one is then what it stands for.
func (s *Set) asksFor(p profile) (other string, ok bool) {
	for _, key := range []string{keyRoleARN, keySourceProfile, keyWebIdentity, keyCredentialSource, keySSOSession, keySSOStartURL, keyLoginSession} {
		if p.own.has(key) {
			return "", false
		}
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

// helperProfile is the profile that a command of credproc asks for.
func helperProfile(words []string) (name string) {
	for _, word := range words[1:] {
		name = strings.TrimPrefix(word, "--profile=") // the last one is the name in every form that credproc takes
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

// SplitCommand splits a command as the SDKs do it: no shell, double quotes
// around words with spaces.
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
	keyID := checkAccessKeyID
	compatible := strings.EqualFold(r.take(v, keySTSCompatible, checkBool), "true")
	if compatible {
		keyID = checkOtherKeyID
	}
	src := &registered{Source: Source{
		Name:        b.name,
		AccessKeyID: r.take(v, keySourceKeyID, keyID),
		MFASerial:   r.take(v, keyMFASerial, checkMFASerial),
		MFAProcess:  r.take(v, keyMFAProcess, checkCommand),
		HasSeed:     r.take(v, keyMFASeed, oneOf("keyring")) != "",
		NoSession:   r.take(v, keySession, oneOf("none")) != "",
		Endpoint:    r.endpoint(v, func(string) *block { return nil }),
		Origin:      b.origin,
	}}
	r.take(v, keyConfirm, checkConfirm)
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

// notFound names up to three names that could have been meant.
func (s *Set) notFound(name string) error {
	message := fmt.Sprintf("no profile, source or alias is called %q", name)
	if near := s.near(name, 3); len(near) > 0 {
		message += "; did you mean " + orList(near) + "?"
	}
	return fault.New(fault.NotFound, "%s", message).WithHint("broker profiles list")
}
