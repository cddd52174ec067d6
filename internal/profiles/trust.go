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

// AnyListener as Endpoint.Listener says that any user's program may listen at a plain-http endpoint.
const AnyListener = "any"

// The states of a Trust.
const (
	TrustNotNeeded = "not needed"
	Untrusted      = "not trusted"
	Trusted        = "trusted"
	TrustChanged   = "changed since it was trusted"
)

// Trust is what a person says yes to with `broker profiles trust`: a chain with the settings of AWS files that count
// only then.
type Trust struct {
	Chain  Chain
	Claims []Value // the settings that need it; none where State is TrustNotNeeded
	SHA256 string  // of all that the yes is about, in hex; lines and comments are not part of it
	State  string
	Origin Origin // the section of the registry that holds the yes, or the zero Origin
}

// A provenance is where the sections of one file come from, by the rules of Decide.
type provenance struct {
	place Place
	why   string     // why an AWS file is InOther, as the end of "a file that …"
	hint  fault.Hint // the command that changes that, or empty
}

// provenance says what a file counts as that was just read, with its stamp.
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

// defaults are the AWS files that tools read when no variable moves them, by fileKind.
func (f Files) defaults() [2]string {
	return [2]string{configFile: filepath.Join(f.AWS, "config"), credentialsFile: filepath.Join(f.AWS, "credentials")}
}

// isDefault reports whether a path is that of the default file, or leads to the very same file.
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

// Trust returns what a yes for a profile would be about, and whether it was given. Its errors are those of Resolve, but
// for the one that says that it was not.
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

// TrustEntries are the names for which the registry has a section [trust NAME], sorted.
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

// TrustEntry is what the registry has in [trust NAME], in the order of TrustSection.
func (s *Set) TrustEntry(name string) []KeyValue {
	var section []KeyValue
	for _, key := range []string{keyTrustSum, keyTrustListener} {
		if set := s.block(registryFile, SectionTrust, name).find(key); set != nil {
			section = append(section, KeyValue{key, set.value})
		}
	}
	return section
}

// trustOf compares what a chain needs with what the registry holds.
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

// admit returns the chain if nothing in it needs trust, or all of it was trusted as it stands.
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
	what := "is in effect only once you trust it"
	if state == TrustChanged {
		what = "or another part of it changed since you trusted it"
	}
	return Chain{}, fault.New(fault.NotConfirmed, "%s: %s of profile %q %s", first.Origin, first.Key, first.Profile, what).
		WithHint("broker profiles trust %s", name)
}

// TrustSection is what [trust NAME] of the registry holds after a yes: the hash, and who besides the user may listen at
// a plain-http endpoint of the chain: a uid, AnyListener, or nobody if it is empty.
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

// digest is the hash of what a yes is about: the source, each role with all that STS is asked and where it is asked,
// and the settings that need the yes with their files. Regions and other choices between AWS's own hosts are left out.
func (t Trust) digest() string {
	var b strings.Builder
	field := func(words ...string) { fmt.Fprintf(&b, "%q\n", words) }
	c := t.Chain
	field("trust 1", c.Profile, c.Source.Name)
	for _, r := range c.Roles {
		field("role", r.Profile, r.ARN, r.ExternalID, r.SessionName, r.Duration.String(), r.MFASerial,
			r.Endpoint.URL, r.Endpoint.CABundle)
	}
	for _, v := range t.Claims {
		field("claim", v.Profile, v.Key, v.Text, v.Origin.File)
	}
	return digest([]byte(b.String()))
}
