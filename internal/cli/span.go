package cli

import (
	"errors"
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"broker/internal/profiles"
)

// span is a duration on the command line, in whole seconds and with units, such as 30m or 7d.
type span time.Duration

// Set implements flag.Value.
func (s *span) Set(text string) error {
	d, err := profiles.ParseDuration(text)
	if err == nil && d%time.Second != 0 {
		err = errors.New("is not a whole number of seconds")
	}
	if err != nil {
		return fmt.Errorf("it %w", err)
	}
	*s = span(d)
	return nil
}

// String is empty for a zero duration, so that help shows no default.
func (s *span) String() string {
	if *s == 0 {
		return ""
	}
	return profiles.FormatDuration(time.Duration(*s))
}

// spanFlag returns a flag that takes a span; 0 means no default.
func spanFlag(name, usage string, value time.Duration) cli.Flag {
	s := span(value)
	return &cli.GenericFlag{Name: name, Usage: usage, Value: &s}
}

// hourMinute is the layout of a time of day without seconds.
const hourMinute = "15:04"

// clock formats a time of day for people, with the date unless that is the date of now.
func clock(t, now time.Time, layout string) string {
	t = t.Local()
	if date := t.Format(time.DateOnly); date != now.Local().Format(time.DateOnly) {
		return date + " " + t.Format(layout)
	}
	return t.Format(layout)
}

// spanOf returns the value of a spanFlag.
func spanOf(c *cli.Context, name string) time.Duration {
	if s, ok := c.Generic(name).(*span); ok {
		return time.Duration(*s)
	}
	return 0
}
