package client

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"broker/internal/fault"
	"broker/internal/harden"
	"broker/internal/paths"
	"broker/internal/version"
	"broker/internal/wire"
)

const credprocUsage = "usage: credproc PROFILE\n       credproc --profile PROFILE\n       credproc --prompt"

// Credproc is the program credproc. It writes the document of
// https://docs.aws.amazon.com/sdkref/latest/guide/feature-process-credentials.html
// in one write, or nothing, and returns the exit code. Errors go to stderr, which SDKs show and may log. An error
// is one line and a hint, and holds no secret.
func Credproc(args []string, stdout, stderr io.Writer) int {
	if err := harden.Process(); err != nil {
		return complain(stderr, fault.New(fault.Config, "%w", err))
	}
	var profile string
	switch {
	case len(args) == 1 && (args[0] == "-h" || args[0] == "--help"):
		_, _ = fmt.Fprintln(stdout, credprocUsage)
		return 0
	case len(args) == 1 && args[0] == "--version":
		_, _ = fmt.Fprintln(stdout, "credproc", version.String())
		return 0
	case len(args) == 1 && args[0] == "--prompt":
		// A prompt must not show errors, so nothing is printed then.
		if where, err := paths.FromEnv(); err == nil {
			if line := (&Client{Paths: where, Version: version.String()}).PromptLine(context.Background()); line != "" {
				_, _ = fmt.Fprintln(stdout, line)
			}
		}
		return 0
	case len(args) == 1 && strings.HasPrefix(args[0], "--profile="):
		profile = strings.TrimPrefix(args[0], "--profile=")
	case len(args) == 2 && (args[0] == "--profile" || args[0] == "--"):
		profile = args[1]
	case len(args) == 1 && !strings.HasPrefix(args[0], "-"):
		profile = args[0]
	default:
		return complain(stderr, fault.New(fault.Usage, "credproc needs one profile").WithHint("credproc PROFILE"))
	}
	document, err := credential(profile)
	if err != nil {
		return complain(stderr, fault.Of(err))
	}
	if _, err := stdout.Write(document); err != nil {
		return complain(stderr, fault.New(fault.Failed, "write the credentials: %w", err))
	}
	return 0
}

// credential gets a session from the daemon and returns the document.
func credential(profile string) ([]byte, error) {
	if profile == "" {
		return nil, fault.New(fault.Usage, "the profile's name is empty").WithHint("credproc PROFILE")
	}
	p, err := paths.FromEnv()
	if err != nil && p.Door == "" { // a door needs no other path
		return nil, fault.New(fault.Failed, "%w", err).WithHint("%s", NameHome())
	}
	// Signals keep their default action: there is nothing to clean up, and output is written at once.
	c := Client{Paths: p, Version: version.String(), Ends: true}
	resp, err := c.do(context.Background(), &wire.Request{Verb: wire.Get, Profile: profile})
	if err != nil {
		return nil, err
	}
	if resp.Credential == nil {
		return nil, fault.New(fault.Unreachable, "the daemon's answer has no credentials")
	}
	return Document(resp.Credential)
}

// Document returns a credential in the format of credential_process. Expiration is always set: without it, SDKs
// never refresh the session.
func Document(c *wire.Credential) ([]byte, error) {
	b, err := wire.Object(&struct {
		Version         int
		AccessKeyID     string `json:"AccessKeyId"`
		SecretAccessKey string
		SessionToken    string
		Expiration      string
		AccountID       string `json:"AccountId,omitempty"`
	}{1, c.AccessKeyID, c.SecretAccessKey.Reveal(), c.SessionToken.Reveal(),
		c.Expiration.UTC().Format(time.RFC3339), c.Account})
	return b, err
}

func complain(stderr io.Writer, f *fault.Error) int {
	_, _ = io.WriteString(stderr, f.Report("credproc"))
	return f.Kind.ExitCode()
}
