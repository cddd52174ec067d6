// Package prompt owns the line that a shell's prompt shows: whose session it has, and how long it lasts. A prompt
// waits for it at each command, so `broker status --short` is answered while the program is being initialised, before the
// libraries of broker's other commands are, which take most of the time of so short a life.
//
// It works by order. Go initialises packages that are ready in the order of their import paths, and "broker/…" sorts
// before "github.com/…"; so this package may import the standard library and what credproc links, nothing
// else. It refuses to say what is wrong: whatever is not as expected is left to the program proper.
package prompt

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"broker/internal/client"
	"broker/internal/fault"
	"broker/internal/harden"
	"broker/internal/paths"
	"broker/internal/version"
)

func init() {
	if len(os.Args) != 3 || os.Args[1] != "status" || os.Args[2] != "--short" {
		return
	}
	if harden.Process() != nil {
		return
	}
	where, err := paths.FromEnv()
	if err != nil {
		return
	}
	if line := Line(context.Background(), client.Client{Paths: where, Version: version.String()}); line != "" {
		_, _ = os.Stdout.WriteString(line + "\n")
	}
	os.Exit(0)
}

// patience is how long a prompt waits for a daemon that does not answer.
const patience = 100 * time.Millisecond

// Line says whose session this shell has and how long it lasts; in any other shell, of which sources the daemon holds
// one. Where there is nothing to say it is empty: a prompt is no place for failures.
func Line(ctx context.Context, daemon client.Client) string {
	if profile := os.Getenv("BROKER_PROFILE"); profile != "" {
		end, err := time.Parse(time.RFC3339, os.Getenv("BROKER_EXPIRATION"))
		if err != nil {
			return fault.Line(profile)
		}
		return fault.Line(profile) + " " + Left(time.Until(end))
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	status, err := daemon.Status(ctx)
	if err != nil {
		return ""
	}
	if status.Locked {
		return "locked"
	}
	var words []string
	for _, s := range status.Sessions {
		if s.Role == "" && s.Expires != nil {
			words = append(words, fault.Line(s.Source)+" "+Left(time.Until(*s.Expires)))
		}
	}
	return strings.Join(words, ", ")
}

// Left is a short word for a time: 11h, 47m, 30s or expired.
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
