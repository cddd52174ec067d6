package mfa

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"broker/internal/child"
	"broker/internal/fault"
	"broker/internal/profiles"
	"broker/internal/secret"
	"broker/internal/system"
)

const (
	processTimeout = 10 * time.Second
	processOutput  = 64 << 10
)

// FromProcess runs an mfa_process and reads the code that it prints. The command is split like a
// credential_process: no shell, no ~, no variables; its program is an absolute path or on the PATH. It gets our
// environment without AWS_* and BROKER_*, and 10 seconds.
//
// The error is Config for an invalid command, else Failed. It names the program and what it did, but never its
// output.
func FromProcess(ctx context.Context, command string) (secret.String, error) {
	return fromProcess(ctx, command, processTimeout)
}

func fromProcess(ctx context.Context, command string, timeout time.Duration) (secret.String, error) {
	return runProcess(ctx, "mfa_process", command, timeout, parseOutput)
}

// credentialTimeout limits a credential_process. It may call AWS, which takes longer than to print a code.
const credentialTimeout = 30 * time.Second

// CredentialProcess runs the credential_process of another program, by the rules of FromProcess but with 30 seconds. It
// returns its output.
func CredentialProcess(ctx context.Context, command string) (secret.String, error) {
	all := func(out string) (secret.String, string) { return secret.New(out), "" }
	return runProcess(ctx, "credential_process", command, credentialTimeout, all)
}

// runProcess runs the command that a key of a file names, and returns what parse finds in its output.
func runProcess(
	ctx context.Context, key, command string, timeout time.Duration,
	parse func(out string) (_ secret.String, problem string),
) (secret.String, error) {
	words := profiles.SplitCommand(command)
	if len(words) == 0 || words[0] == "" {
		return secret.String{}, fault.New(fault.Config, "%s has no program", key)
	}
	// The cause is kept for errors.Is, but only this text is shown.
	failed := func(kind fault.Kind, cause error, format string, args ...any) (secret.String, error) {
		message := fmt.Sprintf("%s %s: ", key, fault.Short(filepath.Base(words[0]), maxShown)) + fmt.Sprintf(format, args...)
		return secret.String{}, &fault.Error{Kind: kind, Message: message, Err: cause}
	}
	program, err := child.Find(words[0])
	if err == nil {
		if bad := system.TrustedCommand(program, words[1:]); bad != nil {
			return failed(fault.Config, bad, "%v", bad)
		}
	}
	out, err := child.Command{
		Program: words[0],
		Args:    words[1:],
		Env:     environment(os.Environ()),
		Timeout: timeout,
		Limit:   processOutput,
	}.Run(ctx)
	switch {
	case errors.Is(err, child.ErrTimeout):
		return failed(fault.Failed, err, "did not end within %s", timeout)
	case errors.Is(err, child.ErrTooMuch):
		return failed(fault.Failed, err, "printed more than %d KiB", processOutput>>10)
	case errors.Is(err, child.ErrRelative):
		return failed(fault.Config, err, "%v", err)
	case err != nil && ctx.Err() != nil:
		return failed(fault.Failed, err, "was stopped before it answered")
	case err != nil:
		return failed(fault.Failed, err, "%v", err)
	}
	found, problem := parse(string(out))
	if problem != "" {
		return failed(fault.Failed, nil, "%s", problem)
	}
	return found, nil
}

// parseOutput extracts the code from the output of a program: one line with the code, and blank lines.
func parseOutput(out string) (code secret.String, problem string) {
	var text string
	for line := range strings.Lines(out) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		if text != "" {
			return secret.String{}, "printed more than one line"
		}
		text = line
	}
	if text == "" {
		return secret.String{}, "printed nothing"
	}
	code, err := ParseCode(text)
	if err != nil || strings.ContainsRune(text, '\r') {
		return secret.String{}, "did not print a code of 6 digits"
	}
	return code, ""
}

// environment returns our environment for programs of the user. It leaves out the variables that control AWS tools
// and Broker or hold credentials, and the names in without.
func environment(from []string, without ...string) []string {
	var env []string
	for _, kv := range from {
		name, _, _ := strings.Cut(kv, "=")
		if !strings.HasPrefix(name, "AWS_") && !strings.HasPrefix(name, "BROKER_") && !slices.Contains(without, name) {
			env = append(env, kv)
		}
	}
	return env
}
