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
	Kind        string // kind of its section: SectionCredentials or SectionProfile
	AccessKeyID string
	Secret      secret.String
	MFASerial   string // from the same section; may be empty
	Origin      Origin // the line of the access key id
}

// PlainKeys finds the long-lived keys in the AWS files, the credentials file first, in file order, so that they
// can be moved into the keyring. This package returns no other long-lived key: PlainKeys and PlainKey exist only
// for `broker import` and `broker add --from-profile`, and no Set ever holds a key. left lists the sections that
// have something other than a complete long-lived key, with the reason. Errors: fault.Config for a file that
// cannot be read.
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

// PlainKey returns the long-lived key of a profile. The credentials file wins over the config.
//
// Errors: fault.NotFound if the profile has no key there; fault.Config if it has half a key or a temporary key, or
// if the file cannot be read.
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

// RemovePlainKey returns src without the key of a section. If the section has nothing else, it is removed, too.
// The errors are those of SetSection.
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
		// If only a comment is left of the section, it would become a comment of another section.
		next := bytes.TrimSpace(firstLine(src[s.end:]))
		if len(s.entries) > 0 || isComment(next) {
			return src, nil
		}
	}
	return RemoveSection(src, kind, name)
}

// RemovePlainKeys removes these keys from both AWS files, as RemovePlainKey does.
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

// setPlainKey puts a key back that RemovePlainKey removed, but not necessarily at the same place. The error is a
// fault.Config if the section has another key now.
func setPlainKey(src []byte, key Plain) ([]byte, error) {
	doc, err := scanForEdit(src, key.Kind)
	if err != nil {
		return nil, err
	}
	for _, e := range doc.entriesOf(key.Kind, key.Profile) {
		if strings.EqualFold(string(e.key), keyAccessKeyID) && string(e.value) != key.AccessKeyID {
			return nil, fault.New(fault.Config, "line %d: profile %q has another key now", e.line, key.Profile)
		}
	}
	return SetSection(
		src,
		key.Kind,
		key.Profile,
		[]KeyValue{{keyAccessKeyID, key.AccessKeyID}, {keySecretKey, key.Secret.Reveal()}},
	)
}

// plainPlace is a file that can contain plain-text keys.
type plainPlace struct{ path, kind string }

func plainPlaces(files Files) []plainPlace {
	return []plainPlace{{files.Credentials, SectionCredentials}, {files.Config, SectionProfile}}
}

// read scans the file. The document consists of slices of the returned bytes; the caller must wipe them after use.
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

// key reads the key of one section, or returns what the section has instead of a complete long-lived key. It
// ignores an empty key.
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
		case keyMFASerial, "aws_mfa_device": // the second is aws-mfa's key
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
		why = fmt.Sprintf("the key of profile %q is temporary, so it cannot become a source", name)
	case checkAccessKeyID(key.AccessKeyID) != nil:
		why = fmt.Sprintf("%s of profile %q is not an access key id", keyAccessKeyID, name)
	default:
		return key, nil
	}
	return Plain{}, &Warning{key.Origin, why}
}

// DeviceOf returns the MFA serial of the profiles that have this source or profile as their source_profile. It is
// empty if there is none, or if they differ.
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

// Home returns where the key of a source or profile belongs, from the AWS files and the registry: the region of
// that profile, and an ARN in its partition (of its MFA device, or of a role that is assumed with the key). Either
// may be empty.
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
