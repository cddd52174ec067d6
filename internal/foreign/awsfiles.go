package foreign

import (
	"slices"
	"strings"

	"broker/internal/profiles"
)

// aws-mfa keeps the long-lived key of NAME in [NAME-long-term] of the credentials file, with these settings, and its
// temporary one in [NAME].
const (
	longTermSuffix = "-long-term"
	keyAssumeRole  = "assume_role"
	keyDevice      = "aws_mfa_device"
)

// longTermName is NAME of [NAME-long-term].
func longTermName(section string) (name string, ok bool) {
	name, ok = strings.CutSuffix(section, longTermSuffix)
	return name, ok && name != ""
}

// SourceName is the name of the source that a key in a section of the AWS files becomes.
func (t Tool) SourceName(section string) string {
	if name, ok := longTermName(section); ok && t == AWSMFA {
		return name
	}
	return section
}

// RemoveTemporary returns a credentials file without the sections of temporary keys that aws-mfa or awsume keep there,
// which would come before every credential_process: aws-mfa's [NAME] beside [NAME-long-term], for the names whose key
// was taken out, with the settings of the long-term section; and awsume's sections that say so. It returns the names of
// the removed sections. Errors are those of profiles.Sections and profiles.SetSection.
func (t Tool) RemoveTemporary(file string, src []byte, longTerm []string) (dst []byte, names []string, err error) {
	const kind = profiles.SectionCredentials
	sections, err := profiles.Sections(file, src, kind)
	if err != nil {
		return nil, nil, err
	}
	dst = src
	for _, s := range sections {
		has := func(key string) bool {
			return slices.ContainsFunc(s.Entries, func(e profiles.Entry) bool {
				return strings.EqualFold(string(e.Key), key) && len(e.Value) > 0
			})
		}
		token := has("aws_session_token")
		name, isLong := longTermName(s.Name)
		switch {
		case s.Kind != kind || s.Again:
			continue
		case t == AWSMFA && isLong && slices.Contains(longTerm, name):
			if dst, err = profiles.RemoveKeys(dst, kind, s.Name, keyDevice, keyAssumeRole); err == nil {
				dst, err = profiles.RemovePlainKey(dst, kind, s.Name) // the rest of it, where nothing is left
			}
		case t == AWSMFA && token && slices.Contains(longTerm, s.Name) && has("expiration"),
			t == Awsume && token && (has("autoawsume") || has("manager")):
			dst, err = profiles.RemoveSection(dst, kind, s.Name)
			names = append(names, s.Name)
		}
		if err != nil {
			return nil, nil, err
		}
	}
	return dst, names, nil
}
