package profiles

import (
	"errors"
	"strings"
)

// The kinds of a Summary.
const (
	KindRole   = "role"   // a role to assume, or a permission set
	KindSource = "source" // a source, or a profile that stands for a source
	KindOther  = "other"  // not served by Broker
)

// Summary is one profile or source in a list.
type Summary struct {
	Name    string
	Kind    string // KindRole, KindSource or KindOther
	RoleARN string
	// PermissionSet is set instead of RoleARN if a permission set of IAM Identity Center gives the session.
	PermissionSet string
	ReadOnly      bool   // its sessions are read-only
	Guard         Guard  // when a person is asked before its session is handed out
	Bypassed      string // why AWS tools do not keep the guard and ReadOnly, or empty
	AccountID     string // the account of the role or of the permission set
	Source        string
	Region        string
	Linked        bool   // the registry defines it, and AWS tools ask credproc for it
	Helper        string // the program that AWS tools ask, if it is a credproc
	Asks          string // the profile that they ask Helper for
	Aliases       []string
	Origin        Origin // the line of the section
	PlainKey      Origin // the line of a long-lived key in plain text, or the zero Origin
	Problem       string // why it cannot be used, or empty
}

// List returns all profiles and sources, sorted by name.
func (s *Set) List() []Summary {
	aliases := map[string][]string{}
	for _, a := range s.Aliases() {
		aliases[a.Target] = append(aliases[a.Target], a.Name)
	}
	list := make([]Summary, 0, len(s.names))
	for _, name := range s.names {
		sum := s.summary(name)
		sum.Aliases = aliases[name]
		list = append(list, sum)
	}
	return list
}

// Linked returns the linked profiles, sorted by name, with only Name, Helper, Asks and Linked set. It resolves none, so
// it is faster than List.
func (s *Set) Linked() (list []Summary) {
	for _, name := range s.names {
		p, _ := s.lookup(name)
		if helper, asks, linked := s.helper(p); linked {
			list = append(list, Summary{Name: name, Helper: helper, Asks: asks, Linked: true})
		}
	}
	return list
}

// helper returns the credproc that AWS tools ask for a profile, the profile that they ask it for, and whether the
// profile is linked: the registry defines it, or it is a source.
func (s *Set) helper(p profile) (helper, asks string, linked bool) {
	words := SplitCommand(p.aws.text(keyCredentialProcess))
	if !isCredproc(words) {
		return "", "", false
	}
	return words[0], helperProfile(words), p.ours || s.sources[p.name] != nil
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
		if kind, ok := p.kind(); ok && kind == Portal {
			sum.AccountID, sum.PermissionSet = p.own.text(keySSOAccountID), p.own.text(keySSORoleName)
		}
		sum.Region = p.all.text(keyRegion)
		sum.Helper, sum.Asks, sum.Linked = s.helper(p)
		sum.PlainKey, _ = p.plainKey()
	}
	if src := s.sources[name]; src != nil && sum.Kind == KindSource {
		sum.Origin = src.Origin
	}
	chain, err := s.Resolve(name)
	if err != nil {
		if !errors.Is(err, ErrOnlySettings) {
			sum.Problem = err.Error()
		}
		return sum
	}
	sum.Source, sum.Region, sum.Guard = chain.Source.Name, chain.Region, chain.Guard
	if w := s.bypassed(name); w != nil {
		sum.Bypassed = w.String()
	}
	if n := len(chain.Roles); n > 0 {
		sum.ReadOnly = chain.Roles[n-1].ReadOnly
	}
	if sum.Kind == KindOther { // it asks our helper for another profile, or a trusted program
		sum.Kind = KindSource
		switch n := len(chain.Roles); {
		case n > 0:
			sum.Kind, sum.RoleARN = KindRole, chain.Roles[n-1].ARN
			sum.AccountID = strings.SplitN(sum.RoleARN, ":", 6)[4]
		case chain.Assignment != nil:
			sum.Kind, sum.AccountID, sum.PermissionSet = KindRole, chain.Assignment.AccountID, chain.Assignment.RoleName
		}
	}
	if sum.AccountID == "" && sum.Kind == KindSource && chain.Source.Kind == ConsoleLogin {
		_, sum.AccountID = chain.Account()
	}
	return sum
}

// KeysOf returns the line at which the AWS files have keys for a profile, long-lived or of a session. It omits a
// session that Broker published.
func (s *Set) KeysOf(name string) (Origin, bool) {
	p, _ := s.lookup(name)
	for _, b := range p.aws {
		if at := (view{b}).origin(keyAccessKeyID); at != (Origin{}) && !b.ours {
			return at, true
		}
	}
	return Origin{}, false
}

// kindOf returns the kind of a name, whether or not the name can be used.
func (s *Set) kindOf(p profile) string {
	kind, _ := p.kind()
	switch {
	case p.own.has(keyRoleARN), kind == Portal && s.sources[p.name] == nil:
		return KindRole
	case kind == ConsoleLogin:
		return KindSource
	case s.sources[p.name] != nil, p.ours && p.own.has(keySourceProfile):
		return KindSource
	}
	return KindOther
}

// Sources returns the IAM users in the registry, sorted by name. It omits a source whose section is invalid; Warnings
// and Resolve say why. LoginSources returns the sources to which people log in on a page.
func (s *Set) Sources() []Source {
	var all []Source
	for _, name := range s.names {
		if src, ok := s.Source(name); ok {
			all = append(all, src)
		}
	}
	return all
}

// SharesKey returns the name of another source in the registry that has the key of this id, or "". The section of that
// source may be invalid.
func (s *Set) SharesKey(name, id string) string {
	for _, other := range s.names {
		if src := s.sources[other]; src != nil && other != name && src.AccessKeyID == id {
			return other
		}
	}
	return ""
}

// Source returns the IAM user with this exact name.
func (s *Set) Source(name string) (Source, bool) {
	if src := s.sources[name]; src != nil && src.err == nil && src.Kind == IAMUser {
		return src.Source, true
	}
	return Source{}, false
}
