package profiles

import (
	"strings"

	"broker/internal/fault"
	"broker/internal/secret"
)

// The kinds of a Summary.
const (
	KindRole   = "role"   // a role to assume
	KindSource = "source" // a source, or a profile that is one without a role
	KindOther  = "other"  // not served by the broker
)

// Summary is one profile or source in a list.
type Summary struct {
	Name      string
	Kind      string // KindRole, KindSource or KindOther
	RoleARN   string
	AccountID string // of the role
	Source    string
	Region    string
	Linked    bool // the registry defines it, and AWS tools ask credproc for it
	Aliases   []string
	Origin    Origin // the line of the section
	PlainKey  Origin // the line of a long-lived key in plain text, or the zero Origin
	Problem   string // why it cannot be used, or empty
}

// List returns all profiles and sources, by name.
func (s *Set) List() []Summary {
	aliases := map[string][]string{}
	for _, a := range s.aliases {
		if aliases[a.target] == nil {
			aliases[a.target] = s.Aliases(a.target)
		}
	}
	list := make([]Summary, 0, len(s.names))
	for _, name := range s.names {
		sum := s.summary(name)
		sum.Aliases = aliases[name]
		list = append(list, sum)
	}
	return list
}

func (s *Set) summary(name string) Summary {
	p, found := s.lookup(name)
	sum := Summary{Name: name, Kind: s.kindOf(p)}
	if found {
		sum.Origin = p.origin()
		sum.RoleARN = p.own.text(keyRoleARN)
		if part := strings.SplitN(sum.RoleARN, ":", 6); len(part) == 6 {
			sum.AccountID = part[4]
		}
		sum.Region = p.all.text(keyRegion)
		sum.Linked = (p.ours || s.sources[name] != nil) && isOurs(p.aws.text(keyCredentialProcess))
		sum.PlainKey, _ = p.plainKey()
	}
	if src := s.sources[name]; src != nil && sum.Kind == KindSource {
		sum.Origin = src.Origin
	}
	chain, err := s.Resolve(name)
	if err != nil {
		sum.Problem = err.Error()
		return sum
	}
	sum.Source, sum.Region = chain.Source.Name, chain.Region
	if sum.Kind == KindOther { // it asks our helper for another profile
		sum.Kind = KindSource
		if n := len(chain.Roles); n > 0 {
			sum.Kind, sum.RoleARN = KindRole, chain.Roles[n-1].ARN
			sum.AccountID = strings.SplitN(sum.RoleARN, ":", 6)[4]
		}
	}
	return sum
}

// kindOf says what a name is, whether or not it can be used.
func (s *Set) kindOf(p profile) string {
	switch {
	case p.own.has(keyRoleARN):
		return KindRole
	case s.sources[p.name] != nil, p.ours && p.own.has(keySourceProfile):
		return KindSource
	}
	return KindOther
}

// Sources returns the sources that the registry names, by name. One whose
// section cannot be used is left out; Warnings and Resolve say why.
func (s *Set) Sources() []Source {
	var all []Source
	for _, name := range s.names {
		if src, ok := s.Source(name); ok {
			all = append(all, src)
		}
	}
	return all
}

// Source returns one source of the registry by its exact name.
func (s *Set) Source(name string) (Source, bool) {
	if src := s.sources[name]; src != nil && src.err == nil {
		return src.Source, true
	}
	return Source{}, false
}

// PlainKey reads a long-lived key out of the AWS files, so that it can be put
// into the keyring. It is the one exception to the rule of this package never to
// return such a key, and exists for `broker add --from-profile` and `broker
// import`; no Set ever holds one. The credentials file wins over the config.
//
// Errors: fault.NotFound if the profile has no key there, fault.Config if it
// has half a key, a temporary one, or the file cannot be read.
func PlainKey(files Files, profile string) (accessKeyID string, secretKey secret.String, origin Origin, err error) {
	if err := checkName(profile); err != nil {
		return "", secret.String{}, Origin{}, err
	}
	for _, f := range []struct {
		path, kind string
	}{{files.Credentials, SectionCredentials}, {files.Config, SectionProfile}} {
		id, key, origin, err := plainKeyIn(f.path, f.kind, profile)
		if err != nil || id != "" {
			return id, key, origin, err
		}
	}
	return "", secret.String{}, Origin{}, fault.New(fault.NotFound, "profile %q has no %s in the AWS files", profile, keyAccessKeyID).
		WithHint("broker profiles list")
}

func plainKeyIn(path, kind, name string) (string, secret.String, Origin, error) {
	none := secret.String{}
	src, _, err := readFile(path)
	defer clear(src)
	if err != nil {
		return "", none, Origin{}, err
	}
	doc, bad := scan(src, kind == SectionCredentials)
	if bad != nil {
		return "", none, Origin{}, fault.New(fault.Config, "%s: this line %s", Origin{path, bad.line}, bad.text)
	}
	var id, token string
	var key secret.String
	var origin Origin
	for _, e := range doc.entriesOf(kind, name) {
		switch strings.ToLower(string(e.key)) {
		case keyAccessKeyID:
			id, origin = string(e.value), Origin{path, e.line}
		case keySecretKey:
			key = secret.New(string(e.value))
		case keySessionToken:
			token = "there is one"
		}
	}
	switch {
	case id == "" && key.IsZero():
		return "", none, Origin{}, nil
	case id == "" || key.IsZero():
		return "", none, Origin{}, fault.New(fault.Config, "%s: profile %q has only one half of a key", path, name)
	case token != "":
		return "", none, Origin{}, fault.New(fault.Config, "%s: the key of profile %q is a temporary one, which cannot be a source", origin, name)
	case checkAccessKeyID(id) != nil:
		return "", none, Origin{}, fault.New(fault.Config, "%s: %s is not an access key id", origin, keyAccessKeyID)
	}
	return id, key, origin, nil
}
