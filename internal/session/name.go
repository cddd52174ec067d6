package session

import (
	"cmp"
	"os"
	"os/user"
	"strconv"
	"strings"

	"broker/internal/lazyregexp"
	"broker/internal/profiles"
)

// The characters that AWS does not accept in a role session name or a source identity, and in the value of a tag. A
// value that begins with "aws:" is reserved, so a placeholder gives no colon.
// https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
// https://docs.aws.amazon.com/STS/latest/APIReference/API_Tag.html
var (
	notInName = lazyregexp.New(`[^\w+=,.@-]+`)
	notInTag  = lazyregexp.New(`[^\p{L}\p{Z}\p{N}_./=+@-]+`)
)

const (
	longestName     = 64
	longestTagValue = 256
)

// usualName is the role session name of profiles that set none. CloudTrail then shows who it was.
const usualName = "{" + profiles.User + "}@{" + profiles.Host + "}"

// Who fills the placeholders of a profile.
type Who struct {
	User, Host string
	// Program names the tool that asks. If nil, {program} stays as it is, for a person to read.
	Program func() string
	Reason  string // why the profile is elevated; empty if it is not
}

// Local returns the user and the host of this process. In a container the uid may have no name; then the user is
// uid-UID.
func Local() Who {
	name := os.Getenv("USER")
	if u, err := user.Current(); err == nil && u.Username != "" {
		name = u.Username
	}
	if name == "" {
		name = "uid-" + strconv.Itoa(os.Getuid())
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	host, _, _ = strings.Cut(host, ".")
	return Who{User: name, Host: host}
}

// name fills the template of a role session name or a source identity. AWS accepts 2 to 64 characters.
func (w Who) name(template string) string {
	name := w.fill(template, notInName, longestName)
	if len(name) == 1 {
		name += "-"
	}
	return name
}

// nameFor returns the usual name with "+" and the name of a program. A long host is cut, and the program is not.
func (w Who) nameFor(program string) string {
	suffix := "+" + notInName.ReplaceAllString(cmp.Or(programWord(program), "unknown"), "-")
	return w.fill(usualName, notInName, longestName-len(suffix)) + suffix
}

// fill fills a template. Characters that AWS does not accept become "-", and the result is cut.
func (w Who) fill(template string, not *lazyregexp.Regexp, most int) string {
	text := []rune(profiles.Fill(template, func(name string) string {
		var value string
		switch name {
		case profiles.User:
			value = w.User
		case profiles.Host:
			value = w.Host
		case profiles.Program:
			if w.Program == nil {
				return "{" + name + "}"
			}
			value = programWord(w.Program())
		case profiles.Reason:
			return not.ReplaceAllString(w.Reason, "-")
		}
		if value == "" {
			value = "unknown"
		}
		return not.ReplaceAllString(value, "-")
	}))
	return string(text[:min(len(text), most)])
}

// tags fills the values of tags.
func (w Who) tags(templates []Tag) []Tag {
	var tags []Tag
	for _, t := range templates {
		tags = append(tags, Tag{Key: t.Key, Value: w.fill(t.Value, notInTag, longestTagValue)})
	}
	return tags
}
