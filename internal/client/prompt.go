package client

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"broker/internal/fault"
)

// promptPatience is how long a shell prompt waits for the daemon to answer.
const promptPatience = 100 * time.Millisecond

// PromptLine returns whose session this shell has and the time left. In a shell without a session it lists the
// sources for which the daemon holds an MFA session or a login, and the read-only profiles that are elevated here. It
// is empty if there is nothing to show, or after an error.
func (c *Client) PromptLine(ctx context.Context) string {
	if profile := os.Getenv("BROKER_PROFILE"); profile != "" {
		end, err := time.Parse(time.RFC3339, os.Getenv("BROKER_EXPIRATION"))
		if err != nil {
			return fault.Line(profile)
		}
		return fault.Line(profile) + " " + Left(time.Until(end))
	}
	quick := *c
	quick.Wait = promptPatience
	status, err := quick.Status(ctx)
	if err != nil {
		return ""
	}
	if status.Locked {
		return "locked"
	}
	var words []string
	for _, s := range status.Sessions {
		switch {
		case s.Role != "" || s.Expires == nil:
		case s.Login && s.Renews != nil && s.LoginEnds != nil:
			words = append(words, fault.Line(s.Source)+" "+Left(time.Until(*s.LoginEnds)))
		case s.Login && s.Renews != nil: // Broker renews it
			words = append(words, fault.Line(s.Source))
		default:
			words = append(words, fault.Line(s.Source)+" "+Left(time.Until(*s.Expires)))
		}
	}
	for _, a := range status.Allowed {
		if a.Here && a.Elevated {
			words = append(words, fault.Line(a.Profile)+" elevated "+Left(time.Until(a.Until)))
		}
	}
	return strings.Join(words, ", ")
}

// Left returns a short form of a duration: 11h, 47m, 30s or expired.
func Left(d time.Duration) string {
	switch {
	case d <= 0:
		return "expired"
	case d < time.Minute:
		return fmt.Sprintf("%ds", max(d/time.Second, 1))
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	}
	return fmt.Sprintf("%dh", d/time.Hour)
}
