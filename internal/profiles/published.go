package profiles

import (
	"bytes"
	"slices"
	"strings"

	"broker/internal/fault"
	"broker/internal/secret"
)

// The marks around the sections that `broker publish` keeps in the shared credentials file. They inform the reader
// and fix the place of the sections. Broker recognizes its own sections by the access key ids that it wrote.
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

// value returns the text of a key; if the key is there twice, the last one.
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

// keys returns the three keys that every SDK knows. The region is not among them, since it would override the
// region in the config.
func (p Published) keys() []KeyValue {
	return []KeyValue{
		{keyAccessKeyID, p.AccessKeyID},
		{keySecretKey, p.Secret.Reveal()},
		{keySessionToken, p.Token.Reveal()},
	}
}

var publishedKeys = []string{keyAccessKeyID, keySecretKey, keySessionToken}

// SetPublished returns src, a shared credentials file, with these sessions and no other sessions of Broker. ours
// reports whether Broker wrote a section, by its name and access key id; no other section is changed. Lines that a
// person put between the marks, or into one of Broker's sections, stay. The sections go to the beginning of the
// file. So no separator is needed between them and the rest, text that other programs append stays outside the
// marks, and once all sessions are removed, the file has its original bytes again.
//
// A session is left out if another section has its name; taken holds that name with the section's line.
// SetPublished returns bytes and writes nothing. Errors: fault.Usage for a name or a value that would not be read
// back as given; fault.Config, with the line, if src is not text, or begins with a line that would become part of
// our last section.
func SetPublished(
	src []byte,
	ours func(profile, keyID string) bool,
	sessions []Published,
) (dst []byte, taken map[string]int, err error) {
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
		// A person added keys to our section: keep what the person wrote.
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
				return nil, nil, fault.New(fault.Config, "the file does not begin with a section; Broker cannot insert anything before that")
			}
		}
		cuts = append(cuts, cut{from: at, to: at, with: text})
	}
	return apply(src, cuts), taken, nil
}

func isPublishedKey(e entry) bool {
	return slices.ContainsFunc(publishedKeys, func(k string) bool { return strings.EqualFold(string(e.key), k) })
}

// marks returns the cuts that remove the marks, and the offset of the first begin mark, or -1.
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

// hasComment reports whether the lines of src contain a comment that is not a mark.
func hasComment(src []byte) bool {
	for line := range linesOf(src) {
		text := bytes.TrimSpace(line)
		if isComment(text) && publishMark(text) == "" {
			return true
		}
	}
	return false
}

// standsAlone reports whether src would not continue a section before it. configparser reads even an indented
// header as part of the value above.
func standsAlone(src []byte) bool {
	for line := range linesOf(src) {
		text := bytes.TrimSpace(line)
		if len(text) == 0 || isComment(text) {
			continue
		}
		return line[0] == '['
	}
	return true
}

// publishedText returns the sessions between their marks, or nil without a session.
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

// Preferred returns an error if AWS tools use something else for a profile before they look for its session in the
// credentials file. For one profile botocore tries a role_arn with its source_profile, a web identity, SSO, the
// credentials file and credential_process, in this order; other SDKs differ. The error is a fault.Config that
// names the setting, or nil if tools use the session.
func (s *Set) Preferred(name string) error {
	v := view{}
	if b := s.block(configFile, SectionProfile, name); b != nil {
		v = append(v, b)
	}
	for _, key := range preferred {
		if !v.has(key) {
			continue
		}
		err := fault.New(fault.Config, "%s: profile %q has a %s here, which AWS tools use before its session in the credentials file", v.origin(key), name, key)
		if key == keyRoleARN {
			return err.WithHint("broker profiles link %s", name)
		}
		return err
	}
	return nil
}

// preferred are the keys that make some AWS tool ignore the profile's session.
var preferred = []string{keyRoleARN, keyWebIdentity, keySSOSession, keySSOStartURL, keySSOAccountID, keySSORoleName,
	keyLoginSession}

// Standing lists the profiles that the registry says to keep published, sorted by name.
func (s *Set) Standing() []string {
	var names []string
	for _, name := range s.names {
		if b := s.block(registryFile, SectionProfile, name); b != nil && (view{b}).text(keyPublish) == "true" {
			names = append(names, name)
		}
	}
	return names
}

// PrivateSession is one session in the private files of a command, under the profile's name and its aliases. Without a
// session, the profiles with these names have no credentials there.
type PrivateSession struct {
	Names   []string
	Session Published
	Region  string // may be empty
}

// PrivateCredentials returns a credentials file for one command: src without the sections of these names, followed
// by each session, with its region, under each of its names. The errors are those of SetSection.
func PrivateCredentials(src []byte, sessions []PrivateSession) ([]byte, error) {
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

// PrivateConfig returns a config for one command: src without the settings that AWS tools use before the keys in
// the credentials file, for the profiles of these names. The errors are those of SetSection.
func PrivateConfig(src []byte, sessions []PrivateSession) ([]byte, error) {
	for _, s := range sessions {
		drop := slices.Concat(movedKeys, preferred, []string{keyCredentialSource})
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
