package profiles

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"broker/internal/fault"
	"broker/internal/system"
)

// AnyListener is the value of Endpoint.Listener that allows any user's program to listen at a plain-http endpoint.
const AnyListener = "any"

// The states of a Trust.
const (
	TrustNotNeeded = "not needed"
	Untrusted      = "not trusted"
	Trusted        = "trusted"
	TrustChanged   = "changed since it was trusted"
)

// Trust is what a person confirms with `broker profiles trust`: a chain with those settings of AWS files that take
// effect only after this confirmation.
type Trust struct {
	Chain  Chain
	Claims []Value // the settings that need confirmation; empty if State is TrustNotNeeded
	SHA256 string  // hash in hex of all that is confirmed; lines and comments are not part of it
	State  string
	Origin Origin // the registry's section with the confirmation, or the zero Origin

	Limits []Value // settings of AWS files that limit what the sessions may do, or who gets them
}

// limitKeys are the keys of Trust.Limits.
var limitKeys = []string{keyReadOnly, keyConfirm, keyProduction, keyAgents}

// A provenance is where the sections of one file come from, for Decide.
type provenance struct {
	place Place
	why   string     // why an AWS file is InOther, to complete "a file that …"
	hint  fault.Hint // the command that changes that, or empty
}

// provenance classifies a file that was just read: as the registry, a default AWS file or another AWS file. read is
// the stamp of the file.
func (f Files) provenance(kind fileKind, path string, read system.Stamp) *provenance {
	switch {
	case kind == registryFile:
		return &provenance{place: InRegistry}
	case !f.isDefault(kind, path, read):
		return &provenance{place: InOther, why: "AWS tools do not read by default"}
	}
	if e := exposed(f.defaults()[kind]); e != nil {
		return &provenance{InOther, "others can change", e.hint()}
	}
	return &provenance{place: InDefault}
}

// defaults returns the AWS files that tools read when no variable names others, indexed by fileKind.
func (f Files) defaults() [2]string {
	return [2]string{configFile: filepath.Join(f.AWS, "config"), credentialsFile: filepath.Join(f.AWS, "credentials")}
}

// isDefault reports whether a path is the default file, or leads to the same file.
func (f Files) isDefault(kind fileKind, path string, read system.Stamp) bool {
	if f.AWS == "" {
		return false
	}
	standard := f.defaults()[kind]
	if filepath.Clean(path) == standard {
		return true
	}
	now, err := stampOf(standard)
	return err == nil && read.Inode != 0 && now.SameFile(read)
}

// Trust returns what a confirmation for a profile covers, and whether it was given. Its errors are those of
// Resolve, without the one for a missing confirmation.
func (s *Set) Trust(name string) (Trust, error) {
	exact, ok, err := s.exact(name)
	switch {
	case err != nil:
		return Trust{}, err
	case !ok:
		return Trust{}, s.notFound(name)
	}
	t, err := s.build(exact)
	t.State = s.trustOf(t, exact)
	if b := s.block(registryFile, SectionTrust, exact); b != nil {
		t.Origin = b.origin
	}
	return t, err
}

// TrustEntries returns the names for which the registry has a section [trust NAME], sorted.
func (s *Set) TrustEntries() []string {
	var names []string
	for id := range s.states[registryFile].table.blocks {
		if id.kind == SectionTrust {
			names = append(names, id.name)
		}
	}
	slices.Sort(names)
	return names
}

// TrustEntry returns the keys of the registry's [trust NAME], in the order of TrustSection.
func (s *Set) TrustEntry(name string) []KeyValue {
	var section []KeyValue
	for _, key := range []string{keyTrustSum, keyTrustListener} {
		if set := s.block(registryFile, SectionTrust, name).find(key); set != nil {
			section = append(section, KeyValue{key, set.value})
		}
	}
	return section
}

// trustOf compares what a chain needs with what the registry has.
func (s *Set) trustOf(t Trust, name string) string {
	entry := s.block(registryFile, SectionTrust, name)
	switch {
	case len(t.Claims) == 0:
		return TrustNotNeeded
	case entry.find(keyTrustSum) == nil:
		return Untrusted
	case entry.find(keyTrustSum).value != t.SHA256:
		return TrustChanged
	}
	return Trusted
}

// admit returns the chain if nothing in it needs trust, or if all of it was trusted in its present form.
func (s *Set) admit(t Trust, name string) (Chain, error) {
	state := s.trustOf(t, name)
	switch state {
	case TrustNotNeeded:
		return t.Chain, nil
	case Trusted:
		if set := s.block(registryFile, SectionTrust, name).find(keyTrustListener); set != nil {
			if err := checkListener(set.value); err != nil {
				return Chain{}, fault.New(fault.Config, "%s:%d: %s %w", s.files.Registry, set.line, keyTrustListener, err)
			}
			for i := range t.Chain.Roles {
				if e := &t.Chain.Roles[i].Endpoint; e.URL != "" && e.Listener == "" {
					e.Listener = set.value
				}
			}
		}
		return t.Chain, nil
	}
	first := t.Claims[0]
	what := "takes effect only once you trust it"
	if state == TrustChanged {
		what = "or another part of it changed since you trusted it"
	}
	return Chain{}, fault.New(fault.NotConfirmed, "%s: %s of profile %q %s", first.Origin, first.Key, first.Profile, what).
		WithHint("broker profiles trust %s", name)
}

// TrustSection returns the keys of [trust NAME] after a confirmation: the hash, and who besides the user may
// listen at a plain-http endpoint of the chain. listener is a uid, AnyListener, or empty for nobody.
func (t Trust) TrustSection(listener string) []KeyValue {
	section := []KeyValue{{keyTrustSum, t.SHA256}}
	if listener != "" {
		section = append(section, KeyValue{keyTrustListener, listener})
	}
	return section
}

func checkListener(s string) error {
	if n, err := strconv.Atoi(s); s != AnyListener && (err != nil || n < 0) {
		return fmt.Errorf("is neither %q nor a uid", AnyListener)
	}
	return nil
}

// digest returns the hash of what a confirmation covers: the source, the account and the permission set, each role
// with all that STS is asked and where, and the settings that need the confirmation with their files. It leaves out
// choices between AWS's own hosts, except the region of a portal and of a console login. It has what an AWS file
// limits, because without that the person would confirm more.
func (t Trust) digest() string {
	var b strings.Builder
	field := func(words ...string) { fmt.Fprintf(&b, "%q\n", words) }
	c := t.Chain
	field("trust 1", c.Profile, c.Source.Name)
	if c.Source.Kind != IAMUser {
		field("source", string(c.Source.Kind), c.Source.StartURL, c.Source.Endpoint.Region, c.Source.ARN,
			c.Source.TokenFile, c.Source.Command)
	}
	if a := c.Assignment; a != nil {
		field("assignment", a.Profile, a.AccountID, a.RoleName)
	}
	for _, r := range c.Roles {
		field("role", r.Profile, r.ARN, r.ExternalID, r.SessionName, r.Duration.String(), r.MFASerial,
			r.Endpoint.URL, r.Endpoint.CABundle)
	}
	for _, v := range t.Claims {
		field("claim", v.Profile, v.Key, v.Text, v.Origin.File)
	}
	for _, v := range t.Limits {
		field("limit", v.Profile, v.Key, v.Text, v.Origin.File)
	}
	return digest([]byte(b.String()))
}
