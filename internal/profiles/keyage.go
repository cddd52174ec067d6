package profiles

import (
	"fmt"
	"time"

	"broker/internal/fault"
	"broker/internal/secret"
)

// OldKey is a source whose key is older than the setting max_age.
type OldKey struct {
	Source  string
	Created time.Time // a day, UTC
	Days    int       // its age
	Most    int       // max_age
}

// String returns a line for status.
func (k OldKey) String() string {
	return fmt.Sprintf("the key of source %q is %d days old (max_age = %dd); replace it: %s", k.Source, k.Days, k.Most,
		fault.Hintf("broker rotate %s", k.Source))
}

// OldKeys lists the sources whose keys are older than max_age. It is empty if max_age is not set. A source without
// key_created is left out: the age of its key is not known.
func (s *Set) OldKeys(now time.Time) (old []OldKey) {
	settings, err := s.Settings()
	if err != nil {
		return nil
	}
	for _, src := range s.Sources() {
		if key, is := settings.OldKey(src.Name, src.KeyCreated, now); is {
			old = append(old, key)
		}
	}
	return old
}

// OldKey reports whether a key of this source that was created then is older than max_age.
func (s Settings) OldKey(source string, created, now time.Time) (key OldKey, is bool) {
	age := now.Sub(created)
	is = s.MaxAge != 0 && !created.IsZero() && age > s.MaxAge
	return OldKey{source, created, days(age), days(s.MaxAge)}, is
}

const day = 24 * time.Hour

func days(d time.Duration) int { return int(d / day) }

// checkDay accepts a day such as 2026-01-31.
func checkDay(s string) error {
	if _, err := time.Parse(time.DateOnly, s); err != nil {
		return fmt.Errorf("is not a day such as 2026-01-31")
	}
	return nil
}

// parseDay reads what checkDay accepted. The day may be empty.
func parseDay(s string) time.Time {
	t, _ := time.Parse(time.DateOnly, s)
	return t
}

// SwapKey returns src, a registry, with another key id for a source, and the day on which the key was created. The
// error is a fault.Failed if the source has neither key now, and otherwise that of SetSection.
func SwapKey(src []byte, source, from, to string, created time.Time) ([]byte, error) {
	d, err := scanForEdit(src, SectionSource)
	if err != nil {
		return nil, err
	}
	now := ""
	for _, e := range d.entriesOf(SectionSource, source) {
		if sameKey(SectionSource, keySourceKeyID, string(e.key)) {
			now = string(e.value)
		}
	}
	if now != from && now != to {
		return nil, fault.New(fault.Failed, "the registry names the key %s for source %q, not %s", secret.Tail(now), source,
			secret.Tail(from)).WithHint("broker status")
	}
	keys := []KeyValue{{keySourceKeyID, to}}
	if !created.IsZero() {
		keys = append(keys, KeyValue{keyKeyCreated, created.UTC().Format(time.DateOnly)})
	}
	return SetSection(src, SectionSource, source, keys)
}
