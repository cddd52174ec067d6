package profiles

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"broker/internal/fault"
)

// Bounds of session_duration. AWS allows GetSessionToken 15 minutes to 36 hours.
// https://docs.aws.amazon.com/STS/latest/APIReference/API_GetSessionToken.html
const (
	minSession     = 15 * time.Minute
	maxSession     = 36 * time.Hour
	defaultSession = 12 * time.Hour
)

// Settings returns the [settings] of the registry, with defaults where it says
// nothing. Durations are written as 12h, 90m or a number of seconds. The error
// is a fault.Config that names file and line.
func (s *Set) Settings() (Settings, error) {
	out := Settings{SessionDuration: defaultSession, MFAPrompt: []string{"tty", "gui"}, Origins: map[string]Origin{}}
	b := s.block(registryFile, SectionSettings, "")
	if b == nil {
		return out, nil
	}
	for _, set := range b.settings {
		o := Origin{b.origin.File, set.line}
		var err error
		switch set.key {
		case keyKeyringBackend:
			out.KeyringBackend = set.value
		case keySessionDuration:
			out.SessionDuration, err = duration(set.value)
			if err == nil && (out.SessionDuration < minSession || out.SessionDuration > maxSession) {
				err = errors.New("is not between 15m and 36h")
			}
		case keySTSEndpoint:
			out.STSEndpoint, err = set.value, checkEndpoint(set.value)
		case keyLockAfter:
			out.LockAfter, err = duration(set.value)
		case keyAudit:
			switch set.value {
			case "required":
				out.AuditRequired = true
			case "optional":
			default:
				err = errors.New(`is neither "optional" nor "required"`)
			}
		case keyLockOn:
			out.LockOn, err = words(set.value, "suspend", "screen")
		case keyMFAPrompt:
			out.MFAPrompt, err = words(set.value, "tty", "gui")
		case keyCatalog:
			out.Catalog = expandHome(set.value)
		case keyCatalogPath:
			out.CatalogPath = set.value
		}
		if err != nil {
			return Settings{}, fault.New(fault.Config, "%s: %s %w", o, set.key, err)
		}
		out.Origins[set.key] = o
	}
	return out, nil
}

// duration reads 12h, 90m or a number of seconds.
func duration(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if n, errn := strconv.ParseInt(s, 10, 32); errn == nil {
		d, err = time.Duration(n)*time.Second, nil
	}
	if err != nil || d < 0 {
		return 0, errors.New("is not a duration such as 12h, 90m or 3600")
	}
	return d, nil
}

// words reads a list such as "tty,gui", of two words that there are, each at most once.
func words(s, one, other string) ([]string, error) {
	var list []string
	for word := range strings.SplitSeq(s, ",") {
		word = strings.TrimSpace(word)
		if word != one && word != other || slices.Contains(list, word) {
			return nil, fmt.Errorf("is not a list of %q and %q", one, other)
		}
		list = append(list, word)
	}
	return list, nil
}
