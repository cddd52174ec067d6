package profiles

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"broker/internal/fault"
	"broker/internal/secret"
)

// Plain is a long-lived key in plain text in an AWS file.
type Plain struct {
	Profile     string
	Kind        string // of its section: SectionCredentials or SectionProfile
	AccessKeyID string
	Secret      secret.String
	MFASerial   string // of the same section; may be empty
	Origin      Origin // the line of the access key id
}

// PlainKeys finds the long-lived keys in the AWS files, in file order, the credentials file first, so that they
// can be put into the keyring. It and PlainKey are the exception to the rule of this package never to return such a
// key, and exist for `broker import` and `broker add --from-profile`; no Set ever holds one. Sections with something
// else than a whole long-lived key are in left, with the reason. Errors: fault.Config for a file that cannot be read.
func PlainKeys(files Files) (found []Plain, left []Warning, err error) {
	for _, f := range plainPlaces(files) {
		keys, bad, err := f.keys()
		if err != nil {
			return nil, nil, err
		}
		found, left = append(found, keys...), append(left, bad...)
	}
	return found, left, nil
}

// PlainKey is the one of a profile; the credentials file wins over the config.
//
// Errors: fault.NotFound if the profile has no key there, fault.Config if it
// has half a key, a temporary one, or the file cannot be read.
func PlainKey(files Files, profile string) (Plain, error) {
	if err := checkName(profile); err != nil {
		return Plain{}, err
	}
	for _, f := range plainPlaces(files) {
		doc, src, err := f.read()
		if err != nil {
			return Plain{}, err
		}
		key, bad := f.key(doc, profile)
		clear(src)
		if bad != nil {
			return Plain{}, fault.New(fault.Config, "%s", bad)
		}
		if key.AccessKeyID != "" {
			return key, nil
		}
	}
	return Plain{}, fault.New(fault.NotFound, "profile %q has no %s in the AWS files", profile, keyAccessKeyID).
		WithHint("broker profiles list")
}

// RemovePlainKey returns src without the key of a section, and if nothing else is in it, without the section. Errors
// are those of SetSection.
func RemovePlainKey(src []byte, kind, name string) ([]byte, error) {
	src, err := RemoveKeys(src, kind, name, keyAccessKeyID, keySecretKey)
	if err != nil {
		return nil, err
	}
	doc, err := scanForEdit(src, kind)
	if err != nil {
		return nil, err
	}
	for _, s := range doc.sectionsOf(kind, name) {
		// A comment may be all that is left of it, and would stand there for another section.
		next := bytes.TrimSpace(firstLine(src[s.end:]))
		if len(s.entries) > 0 || len(next) > 0 && (next[0] == '#' || next[0] == ';') {
			return src, nil
		}
	}
	return RemoveSection(src, kind, name)
}

// RemovePlainKeys is RemovePlainKey for the keys of both AWS files.
func (docs Documents) RemovePlainKeys(keys []Plain) (_ Documents, err error) {
	for _, key := range keys {
		doc := ConfigDocument
		if key.Kind == SectionCredentials {
			doc = CredentialsDocument
		}
		if docs[doc], err = RemovePlainKey(docs[doc], key.Kind, key.Profile); err != nil {
			return docs, err
		}
	}
	return docs, nil
}

// setPlainKey is the inverse of RemovePlainKey, but for the place. A section that has another key by now is
// fault.Config.
func setPlainKey(src []byte, key Plain) ([]byte, error) {
	doc, err := scanForEdit(src, key.Kind)
	if err != nil {
		return nil, err
	}
	for _, e := range doc.entriesOf(key.Kind, key.Profile) {
		if strings.EqualFold(string(e.key), keyAccessKeyID) && string(e.value) != key.AccessKeyID {
			return nil, fault.New(fault.Config, "line %d: profile %q has another key by now", e.line, key.Profile)
		}
	}
	return SetSection(src, key.Kind, key.Profile, []KeyValue{{keyAccessKeyID, key.AccessKeyID}, {keySecretKey, key.Secret.Reveal()}})
}

// plainPlace is a file in which keys may stand.
type plainPlace struct{ path, kind string }

func plainPlaces(files Files) []plainPlace {
	return []plainPlace{{files.Credentials, SectionCredentials}, {files.Config, SectionProfile}}
}

// read scans the file. The document is slices of the bytes, which the caller wipes behind it.
func (f plainPlace) read() (*document, []byte, error) {
	src, _, err := readFile(f.path)
	if err != nil {
		return nil, nil, err
	}
	doc, err := scanFile(f.path, src, f.kind == SectionCredentials)
	if err != nil {
		clear(src)
		return nil, nil, err
	}
	return doc, src, nil
}

func (f plainPlace) keys() (found []Plain, left []Warning, err error) {
	doc, src, err := f.read()
	if err != nil {
		return nil, nil, err
	}
	defer clear(src)
	var seen []string
	for i := range doc.sections {
		s := &doc.sections[i]
		if s.kind != f.kind || slices.Contains(seen, s.name) {
			continue
		}
		if s.isSession() {
			continue
		}
		seen = append(seen, s.name)
		key, bad := f.key(doc, s.name)
		switch {
		case bad != nil:
			left = append(left, *bad)
		case key.AccessKeyID != "":
			found = append(found, key)
		}
	}
	return found, left, nil
}

// key reads the key of one section, and says what is there instead of a whole long-lived key. An empty one is ignored.
func (f plainPlace) key(doc *document, name string) (Plain, *Warning) {
	key := Plain{Profile: name, Kind: f.kind}
	temporary := false
	for _, e := range doc.entriesOf(f.kind, name) {
		value := string(e.value)
		switch strings.ToLower(string(e.key)) {
		case keyAccessKeyID:
			key.AccessKeyID, key.Origin = value, Origin{f.path, e.line}
		case keySecretKey:
			key.Secret = secret.New(value)
		case keySessionToken, "aws_security_token":
			temporary = value != ""
		case keyMFASerial, "aws_mfa_device": // the second is aws-mfa's
			key.MFASerial = value
		}
	}
	var why string
	switch {
	case key.AccessKeyID == "" && key.Secret.IsZero():
		return Plain{}, nil
	case key.AccessKeyID == "" || key.Secret.IsZero():
		return Plain{}, &Warning{Origin{File: f.path}, fmt.Sprintf("profile %q has only one half of a key", name)}
	case temporary:
		why = fmt.Sprintf("the key of profile %q is a temporary one, which cannot be a source", name)
	case checkAccessKeyID(key.AccessKeyID) != nil:
		why = fmt.Sprintf("%s of profile %q is not an access key id", keyAccessKeyID, name)
	default:
		return key, nil
	}
	return Plain{}, &Warning{key.Origin, why}
}

// DeviceOf is the MFA serial that the profiles name which take a source or profile as their source_profile; empty
// where none does, or not all the same.
func (s *Set) DeviceOf(name string) string {
	device := ""
	for _, other := range s.names {
		p, _ := s.lookup(other)
		serial := p.own.text(keyMFASerial)
		if serial == "" || other != name && p.own.text(keySourceProfile) != name {
			continue
		}
		if device != "" && device != serial {
			return ""
		}
		device = serial
	}
	return device
}

// Home is what the AWS files and the registry tell of where the key of a source or profile belongs: the region of that
// profile, and an ARN of its partition, of a device or of a role that is assumed with the key. Either may be empty.
func (s *Set) Home(name string) (region, arn string) {
	if p, ok := s.lookup(name); ok {
		region = p.all.text(keyRegion)
	}
	if arn = s.DeviceOf(name); strings.HasPrefix(arn, "arn:") {
		return region, arn
	}
	for _, other := range s.names {
		if p, _ := s.lookup(other); p.own.text(keySourceProfile) == name && p.own.has(keyRoleARN) {
			return region, p.own.text(keyRoleARN)
		}
	}
	return region, ""
}
