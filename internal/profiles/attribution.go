package profiles

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"broker/internal/fault"
	"broker/internal/lazyregexp"
)

// Tag is one session tag.
type Tag struct{ Key, Value string }

// The limits of AWS for session tags.
// https://docs.aws.amazon.com/STS/latest/APIReference/API_Tag.html
const (
	MaxTags     = 50 // for one session
	maxTagKey   = 128
	maxTagValue = 256
)

var tagText = lazyregexp.New(`^[\p{L}\p{Z}\p{N}_.:/=+@-]*$`)

// The placeholders of a name or a tag value: who asks, on which machine, with which tool. Reason is for tag values
// only: why the profile is elevated; empty if it is not.
const (
	User    = "user"
	Host    = "host"
	Program = "program"
	Reason  = "reason"
)

// Fill replaces each {NAME} of a template by value(NAME).
func Fill(template string, value func(name string) string) string {
	var b strings.Builder
	for {
		before, rest, open := strings.Cut(template, "{")
		name, after, closed := strings.Cut(rest, "}")
		if !open || !closed {
			b.WriteString(template)
			return b.String()
		}
		b.WriteString(before + value(name))
		template = after
	}
}

// inNames are the placeholders of a role session name and of a source identity.
var inNames = []string{User, Host, Program}

// sample fills a template with two letters for each placeholder, the shortest name that AWS accepts. It fails for a
// placeholder that is not in known.
func sample(template string, known []string) (filled string, err error) {
	filled = Fill(template, func(name string) string {
		if !slices.Contains(known, name) {
			err = fmt.Errorf("has an unknown placeholder; the known ones are {%s}", strings.Join(known, "}, {"))
		}
		return "xx"
	})
	return filled, err
}

// checkTemplate accepts a name that may have placeholders.
func checkTemplate(s string) error {
	filled, err := sample(s, inNames)
	if err != nil {
		return err
	}
	return checkSessionName(filled)
}

// noPlaceholder refuses the placeholders of a role session name in an AWS file: there, AWS tools would send the braces,
// which STS refuses.
func noPlaceholder(s string) error {
	if strings.Contains(s, "{") {
		return errors.New("has a placeholder, which only the registry may have: AWS tools do not replace it")
	}
	return checkSessionName(s)
}

// CheckTags checks a list of session tags by AWS's rules. Keys that differ only in case are the same. The error
// continues the name of the setting, and quotes no value.
func CheckTags(tags []Tag) error {
	if len(tags) > MaxTags {
		return fmt.Errorf("has more than %d tags", MaxTags)
	}
	seen := make(map[string]bool, len(tags))
	for _, t := range tags {
		key := strings.ToLower(t.Key)
		switch {
		case t.Key == "" || len([]rune(t.Key)) > maxTagKey || !tagText.MatchString(t.Key):
			return fmt.Errorf("has a key that is not 1 to %d letters, digits, spaces and characters of _.:/=+-@",
				maxTagKey)
		case len([]rune(t.Value)) > maxTagValue || !tagText.MatchString(t.Value):
			return fmt.Errorf("has a value for %q that is not at most %d letters, digits, spaces and characters of "+
				"_.:/=+-@", t.Key, maxTagValue)
		case strings.HasPrefix(key, "aws:") || strings.HasPrefix(strings.ToLower(t.Value), "aws:"):
			return fmt.Errorf("has a key or a value that begins with aws:, which is reserved")
		case seen[key]:
			return fmt.Errorf("has the key %q twice", t.Key)
		}
		seen[key] = true
	}
	return nil
}

// tagsOf reads "key=value, key2=value2".
func tagsOf(s string) ([]Tag, error) {
	if s == "" {
		return nil, nil
	}
	var tags []Tag
	for _, one := range listOf(s) {
		key, value, ok := strings.Cut(one, "=")
		if !ok {
			return nil, errors.New("is not a list such as team=web, user={user}")
		}
		tags = append(tags, Tag{trimSpace(key), trimSpace(value)})
	}
	return tags, nil
}

// listOf splits at commas, which neither the key nor the value of a tag may have.
func listOf(s string) []string {
	if s == "" {
		return nil
	}
	list := strings.Split(s, ",")
	for i := range list {
		list[i] = trimSpace(list[i])
	}
	return list
}

// checkTagList is the check of session_tags.
func checkTagList(s string) error {
	tags, err := tagsOf(s)
	for i := range tags {
		if err == nil {
			tags[i].Value, err = sample(tags[i].Value, append(slices.Clip(inNames), Reason))
		}
	}
	if err != nil {
		return err
	}
	return CheckTags(tags)
}

// isTagOf returns the check of transitive_tags.
func isTagOf(tags []Tag) check {
	return func(s string) error {
		var seen []string
		for _, key := range listOf(s) {
			same := func(t Tag) bool { return strings.EqualFold(t.Key, key) }
			if !slices.ContainsFunc(tags, same) {
				return errors.New("has a key that session_tags does not have")
			}
			if slices.Contains(seen, strings.ToLower(key)) {
				return errors.New("has a key twice")
			}
			seen = append(seen, strings.ToLower(key))
		}
		return nil
	}
}

// roleOnly are the keys that need a role in the same profile: only AssumeRole takes them.
var roleOnly = []string{keySourceIdentity, keySessionTags, keyTransitiveTags, keyOptionalTags, keyReadOnly}

// sessionNameCheck returns the check of role_session_name: only the registry may have placeholders.
func sessionNameCheck(p profile) check {
	if _, b := p.own.find(keySessionName); b != nil && b.from.place != InRegistry {
		return noPlaceholder
	}
	return checkTemplate
}

// attribution reads the keys that say who uses a role, and how.
func (r *reading) attribution(p profile, role *Role) {
	role.SourceIdentity = r.take(p.own, keySourceIdentity, checkTemplate)
	role.Tags, _ = tagsOf(r.take(p.own, keySessionTags, checkTagList))
	role.TransitiveTags = listOf(r.take(p.own, keyTransitiveTags, isTagOf(role.Tags)))
	role.OptionalTags = strings.EqualFold(r.take(p.own, keyOptionalTags, checkBool), "true")
}

// withoutRole refuses the keys that need a role in a profile that has none.
func (r *reading) withoutRole(p profile) {
	for _, key := range roleOnly {
		if s, b := p.all.find(key); s != nil && r.err == nil {
			r.err = fault.New(fault.Config, "%s: %s needs a role_arn in the same profile: only a role takes it",
				Origin{b.origin.File, s.line}, key)
		}
	}
}

// inherited checks what the roles of a chain pass on to each other. A source identity lasts for the whole chain, and
// no later role may set a transitive tag to another value.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/id_credentials_temp_control-access_monitor.html
// https://docs.aws.amazon.com/IAM/latest/UserGuide/id_session-tags.html
func inherited(roles []Role) error {
	var named *Role
	setBy := map[string]*Role{}
	for i := range roles {
		role := &roles[i]
		if role.SourceIdentity != "" {
			if named != nil && named.SourceIdentity != role.SourceIdentity {
				return fault.New(fault.Config, "%s: profile %q has another source_identity than %q, from which its role "+
					"is assumed; AWS keeps the first one", role.Origin, role.Profile, named.Profile)
			}
			named = role
		}
		for _, t := range role.Tags {
			if by := setBy[strings.ToLower(t.Key)]; by != nil {
				return fault.New(fault.Config, "%s: profile %q has the session tag %q, which is a transitive tag of %q, "+
					"from which its role is assumed; AWS does not let it change", role.Origin, role.Profile, t.Key, by.Profile)
			}
		}
		for _, key := range role.TransitiveTags {
			setBy[strings.ToLower(key)] = role
		}
	}
	return nil
}
