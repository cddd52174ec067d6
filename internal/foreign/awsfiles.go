package foreign

import (
	"slices"
	"strings"

	"broker/internal/profiles"
)

// aws-mfa stores the long-lived key of NAME in [NAME-long-term] of the credentials file, with these settings, and
// the temporary key in [NAME].
const (
	longTermSuffix = "-long-term"
	keyAssumeRole  = "assume_role"
	keyDevice      = "aws_mfa_device"
)

// longTermName returns NAME for [NAME-long-term].
func longTermName(section string) (name string, ok bool) {
	name, ok = strings.CutSuffix(section, longTermSuffix)
	return name, ok && name != ""
}

// SourceName returns the name of the source for a key in a section of the AWS files.
func (t Tool) SourceName(section string) string {
	if name, ok := longTermName(section); ok && t == AWSMFA {
		return name
	}
	return section
}

// RemoveTemporary returns a credentials file without the sections of temporary keys that aws-mfa or awsume keep
// there: AWS tools would prefer them over every credential_process. For aws-mfa these are [NAME] beside
// [NAME-long-term], for the names whose key was imported, and the settings of the long-term section. For awsume
// they are the sections marked as its own. It returns the names of the removed sections. Errors are those of
// profiles.Sections and profiles.SetSection.
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
				dst, err = profiles.RemovePlainKey(dst, kind, s.Name) // the rest of it, if no keys are left
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
