package profiles

import (
	"bytes"
	"slices"
	"strings"

	"broker/internal/fault"
	"broker/internal/secret"
)

// The marks around the sections that `broker publish` keeps in the shared credentials file. They are for the
// reader's eyes and for their place; which sections are the broker's is told by the access key ids that it wrote.
const (
	markBegin = "# broker publish: begin (sessions that the broker renews; `broker unpublish` takes them out)"
	markEnd   = "# broker publish: end"
)

// publishMark returns which of the marks a comment line is, or "".
func publishMark(text []byte) string {
	switch {
	case bytes.HasPrefix(text, []byte("# broker publish: begin")):
		return markBegin
	case bytes.HasPrefix(text, []byte(markEnd)):
		return markEnd
	}
	return ""
}

// isSession reports whether a section is a session between the marks of `broker publish`.
func (s *section) isSession() bool { return s.published && s.value(keySessionToken) != "" }

// value is the text of a key; the last one counts.
func (s *section) value(key string) string {
	for _, e := range slices.Backward(s.entries) {
		if strings.EqualFold(string(e.key), key) {
			return string(e.value)
		}
	}
	return ""
}

// Published is one session in the shared credentials file.
type Published struct {
	Profile     string
	AccessKeyID string
	Secret      secret.String
	Token       secret.String
}

// keys are the three that every SDK knows. There is no region among them: it would win over the one in the config.
func (p Published) keys() []KeyValue {
	return []KeyValue{{keyAccessKeyID, p.AccessKeyID}, {keySecretKey, p.Secret.Reveal()}, {keySessionToken, p.Token.Reveal()}}
}

var publishedKeys = []string{keyAccessKeyID, keySecretKey, keySessionToken}

// SetPublished returns src, a shared credentials file, with these sessions in it and no others of the broker's. ours
// says which sections it wrote, by their name and access key id; no other one is touched. What a person put
// between the marks, or into a section of ours, stays. The sections stand at the beginning: so no byte
// need be put between them and what is there, what others append is outside of the marks, and
// without sessions all bytes are again what they were.
//
// A session whose name another section has is left out, and told in taken with that line. It returns bytes
// and writes nothing. Errors: fault.Usage for a name or a value that could not be read back as given; fault.Config, with the
// line, where src is not text, or begins with a line that would belong to our last section.
func SetPublished(src []byte, ours func(profile, keyID string) bool, sessions []Published) (dst []byte, taken map[string]int, err error) {
	d, err := scanForEdit(src, SectionCredentials)
	if err != nil {
		return nil, nil, err
	}
	cuts, at := marks(src)
	taken = map[string]int{}
	for i := range d.sections {
		s := &d.sections[i]
		if s.kind != SectionCredentials {
			continue
		}
		if id := s.value(keyAccessKeyID); id == "" || !ours(s.name, id) {
			taken[s.name] = s.line
			continue
		}
		theirs := slices.ContainsFunc(s.entries, func(e entry) bool { return !isPublishedKey(e) })
		if !theirs && !hasComment(src[s.end:s.bodyEnd]) {
			cuts = append(cuts, cut{from: s.start, to: s.bodyEnd})
			continue
		}
		// Somebody made it his own, too: he keeps what he wrote.
		taken[s.name] = s.line
		for _, e := range s.entries {
			if isPublishedKey(e) {
				cuts = append(cuts, cut{from: e.start, to: e.end})
			}
		}
	}
	text, err := publishedText(src, taken, sessions)
	if err != nil {
		return nil, nil, err
	}
	if len(text) > 0 {
		if at < 0 {
			if at = len(src) - len(bytes.TrimPrefix(src, byteOrderMark)); !standsAlone(src[at:]) {
				return nil, nil, fault.New(fault.Config, "the file begins with something else than a section; the broker can put nothing before it")
			}
		}
		cuts = append(cuts, cut{from: at, to: at, with: text})
	}
	return apply(src, cuts), taken, nil
}

func isPublishedKey(e entry) bool {
	return slices.ContainsFunc(publishedKeys, func(k string) bool { return strings.EqualFold(string(e.key), k) })
}

// marks finds the lines of the marks, and where the first begins, or -1.
func marks(src []byte) (cuts []cut, begin int) {
	begin = -1
	for pos := 0; pos < len(src); {
		line := firstLine(src[pos:])
		text := bytes.TrimSpace(bytes.TrimPrefix(line, byteOrderMark))
		if mark := publishMark(text); mark != "" {
			from := pos + bytes.Index(line, text)
			cuts = append(cuts, cut{from: from, to: pos + len(line)})
			if mark == markBegin && begin < 0 {
				begin = from
			}
		}
		pos += len(line)
	}
	return cuts, begin
}

// hasComment reports whether a comment other than a mark is in these lines.
func hasComment(src []byte) bool {
	for line := range linesOf(src) {
		text := bytes.TrimSpace(line)
		if len(text) > 0 && (text[0] == '#' || text[0] == ';') && publishMark(text) == "" {
			return true
		}
	}
	return false
}

// standsAlone reports whether what is there does not continue a section before it: configparser takes even
// an indented header for part of the value above it.
func standsAlone(src []byte) bool {
	for line := range linesOf(src) {
		text := bytes.TrimSpace(line)
		if len(text) == 0 || text[0] == '#' || text[0] == ';' {
			continue
		}
		return line[0] == '['
	}
	return true
}

// publishedText is the sessions between their marks; nothing without a session.
func publishedText(src []byte, taken map[string]int, sessions []Published) ([]byte, error) {
	lines := []string{markBegin}
	for _, p := range sessions {
		if _, is := taken[p.Profile]; is {
			continue
		}
		if err := checkSection(SectionCredentials, p.Profile); err != nil {
			return nil, err
		}
		lines = append(lines, header(SectionCredentials, p.Profile))
		for _, kv := range p.keys() {
			if err := checkKeyValue(kv); err != nil {
				return nil, err
			}
			lines = append(lines, kv.Key+" = "+kv.Value)
		}
	}
	if len(lines) == 1 {
		return nil, nil
	}
	return []byte(strings.Join(append(lines, markEnd, ""), string(eol(src)))), nil
}

// Preferred says what AWS tools take for a profile before they look for its session in the credentials file. For one
// profile name botocore tries a role_arn with its source_profile first, then a web identity, SSO, the credentials file,
// and credential_process last; other SDKs differ from that. The error is a fault.Config that names it, nil where the
// session is what they take.
func (s *Set) Preferred(name string) error {
	v := view{}
	if b := s.block(configFile, SectionProfile, name); b != nil {
		v = append(v, b)
	}
	for _, key := range preferred {
		if !v.has(key) {
			continue
		}
		err := fault.New(fault.Config, "%s: profile %q has a %s here, which AWS tools take before its session in the credentials file", v.origin(key), name, key)
		if key == keyRoleARN {
			return err.WithHint("broker profiles link %s", name)
		}
		return err
	}
	return nil
}

// preferred are the keys for which some AWS tool does not look for a session of the profile.
var preferred = []string{keyRoleARN, keyWebIdentity, keySSOSession, keySSOStartURL, keyLoginSession}

// Standing lists the profiles that the registry says to keep published, by name.
func (s *Set) Standing() []string {
	var names []string
	for _, name := range s.names {
		if b := s.block(registryFile, SectionProfile, name); b != nil && (view{b}).text(keyPublish) == "true" {
			names = append(names, name)
		}
	}
	return names
}

// Overlaid is one session in the files of a command, under the profile's name and its aliases. Without a session the
// profiles of these names lead to no credentials there.
type Overlaid struct {
	Names   []string
	Session Published
	Region  string // may be empty
}

// OverlayCredentials returns a credentials file for one command: src without the sections of these names, and
// behind it each session with its region under each of its names. Errors are those of SetSection.
func OverlayCredentials(src []byte, sessions []Overlaid) ([]byte, error) {
	src = bytes.Clone(src)
	for _, s := range sessions {
		keys := s.Session.keys()
		masks := s.Session == (Published{})
		if s.Region != "" {
			keys = append(keys, KeyValue{keyRegion, s.Region})
		}
		for _, name := range s.Names {
			var err error
			if src, err = RemoveSection(src, SectionCredentials, name); err != nil {
				return nil, err
			}
			if masks {
				continue
			}
			if src, err = SetSection(src, SectionCredentials, name, keys); err != nil {
				return nil, err
			}
		}
	}
	return src, nil
}

// OverlayConfig returns a config for one command: src without what AWS tools take, for the profiles of these names,
// before their keys in the credentials file. Errors are those of SetSection.
func OverlayConfig(src []byte, sessions []Overlaid) ([]byte, error) {
	for _, s := range sessions {
		drop := slices.Concat(roleKeys, preferred, []string{keyCredentialSource})
		if s.Session == (Published{}) {
			drop = slices.Concat(drop, publishedKeys, shadows, []string{keyCredentialProcess})
		}
		for _, name := range s.Names {
			var err error
			if src, err = RemoveKeys(src, SectionProfile, name, drop...); err != nil {
				return nil, err
			}
		}
	}
	return src, nil
}
