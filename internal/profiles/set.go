package profiles

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// Set is what the files said at one moment. It is immutable and safe for concurrent use. So are the chains that it
// returns; callers must not modify them.
type Set struct {
	files    Files
	states   [3]state
	warnings []Warning
	sources  map[string]*registered
	aliases  map[string]alias
	names    []string // of all profiles and sources, sorted
	known    map[string]struct{}
	chains   sync.Map // name → resolution
	// usual is what ~/.aws says if the files are others, or nil. No variable of a shell removes its guards.
	usual *Set
	// directories is nil if the registry has no section [directory PATH].
	directories *Directories
	guesses     atomic.Int32
	portals     func() map[string]profile // see firstPortals
}

// registered is a [source NAME] section, parsed once.
type registered struct {
	Source
	values     []Value
	claims     []Value     // of a source that a profile defines
	assignment *Assignment // of a Portal
	profile    string      // the profile that defines it; empty for a section [source NAME]
	err        error
}

type alias struct {
	target string
	origin Origin
}

func newSet(files Files, states [3]state) *Set {
	s := &Set{
		files:   files,
		states:  states,
		sources: map[string]*registered{},
		aliases: map[string]alias{},
		known:   make(map[string]struct{}, len(states[configFile].table.blocks)),
	}
	s.portals = sync.OnceValue(s.firstPortals)
	for i := range states {
		st := &states[i]
		if st.trouble != nil {
			s.warnings = append(s.warnings, *st.trouble)
		}
		s.warnings = append(s.warnings, st.notices...)
		s.warnings = append(s.warnings, st.table.warnings...)
		for id, b := range st.table.blocks {
			switch id.kind {
			case SectionProfile, SectionCredentials:
				s.known[id.name] = struct{}{}
			case SectionSource:
				s.known[id.name] = struct{}{}
				src := readSource(b)
				src.Registry = st.real
				s.sources[id.name] = src
			case SectionDirectory:
				s.trustDirectory(b)
			}
		}
	}
	for name := range s.known {
		s.names = append(s.names, name)
	}
	slices.Sort(s.names)
	for _, src := range s.sources {
		if src.err != nil {
			s.warnings = append(s.warnings, Warning{src.Origin, fmt.Sprintf("source %q cannot be used: %v", src.Name, src.err)})
		}
	}
	s.readAliases()
	slices.SortStableFunc(s.warnings, func(a, b Warning) int {
		return cmp.Or(strings.Compare(a.Origin.File, b.Origin.File), cmp.Compare(a.Origin.Line, b.Origin.Line))
	})
	return s
}

func (s *Set) readAliases() {
	b := s.block(registryFile, SectionAlias, "")
	if b == nil {
		return
	}
	for _, set := range b.settings {
		o := Origin{b.origin.File, set.line}
		switch _, taken := s.known[set.key]; {
		case checkName(set.key) != nil || checkName(set.value) != nil:
			s.warnings = append(s.warnings, Warning{o, "is not an alias such as: short = profile"})
		case taken:
			s.warnings = append(s.warnings, Warning{o, "alias " + set.key + " is never used, because a profile has that name"})
		default:
			s.aliases[set.key] = alias{set.value, o}
		}
	}
}

func (s *Set) block(file fileKind, kind, name string) *block {
	return s.states[file].table.blocks[blockID{kind, name}]
}

// fresh reports whether the files have not changed since the set was made.
func (s *Set) fresh() bool {
	for i := range s.states {
		if !s.states[i].fresh() {
			return false
		}
	}
	return true
}

// Warnings lists problems of the files, by file and line: a file whose last good state is used, skipped lines,
// unknown keys, file modes that let other users write.
func (s *Set) Warnings() []Warning { return slices.Clone(s.warnings) }

// A view is a list of sections in which a key is looked up, in this order.
type view []*block

func (v view) find(key string) (*setting, *block) {
	for _, b := range v {
		if s := b.find(key); s != nil {
			return s, b
		}
	}
	return nil, nil
}

func (v view) has(key string) bool {
	s, _ := v.find(key)
	return s != nil
}

func (v view) text(key string) string {
	if s, _ := v.find(key); s != nil {
		return s.value
	}
	return ""
}

// origin returns the line of a key.
func (v view) origin(key string) Origin {
	if s, b := v.find(key); s != nil {
		return Origin{b.origin.File, s.line}
	}
	return Origin{}
}

// A profile is what the files say under one name.
type profile struct {
	name string
	ours bool // defined in the registry
	aws  view // credentials before config, as in every SDK
	own  view // what defines it: only the registry's section, or aws
	all  view // own, then aws: used for the region and the endpoint
}

// lookup finds a profile. A profile without any section is not found.
func (s *Set) lookup(name string) (profile, bool) {
	p := profile{name: name, all: make(view, 0, 3)}
	if b := s.block(registryFile, SectionProfile, name); b != nil {
		p.ours = true
		p.all = append(p.all, b)
	}
	ours := len(p.all)
	if b := s.block(credentialsFile, SectionCredentials, name); b != nil {
		p.all = append(p.all, b)
	}
	if b := s.block(configFile, SectionProfile, name); b != nil {
		p.all = append(p.all, b)
	}
	p.aws, p.own = p.all[ours:], p.all[ours:]
	if p.ours {
		p.own = p.all[:1]
	}
	return p, len(p.all) > 0
}

// guards returns the sections of a profile whose guards count: also those of the usual AWS files.
func (s *Set) guards(p profile) view {
	list := slices.Clip(p.all)
	if s.usual == nil {
		return list
	}
	usual, _ := s.usual.lookup(p.name)
	for _, b := range usual.aws {
		if b.origin.File != s.files.Config && b.origin.File != s.files.Credentials {
			list = append(list, b)
		}
	}
	return list
}

// origin returns the line of the section that defines the profile.
func (p profile) origin() Origin {
	return p.own[len(p.own)-1].origin // the config, rather than the credentials file
}

// plainKey returns the line of a long-lived key in plain text in the AWS files. A published session is not such a
// key.
func (p profile) plainKey() (Origin, bool) {
	for _, b := range p.aws {
		if v := (view{b}); v.has(keyAccessKeyID) && !v.has(keySessionToken) {
			return v.origin(keyAccessKeyID), true
		}
	}
	return Origin{}, false
}

// services returns the [services NAME] section that a profile refers to, or nil.
func (s *Set) services(name string) *block {
	if b := s.block(registryFile, SectionServices, name); b != nil {
		return b
	}
	return s.block(configFile, SectionServices, name)
}
