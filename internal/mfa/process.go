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
	out, failed, err := runProcess(ctx, "mfa_process", command, timeout)
	if err != nil {
		return secret.String{}, err
	}
	code, problem := parseOutput(string(out))
	if problem != "" {
		return secret.String{}, failed(fault.Failed, nil, "%s", problem)
	}
	return code, nil
}

// credentialTimeout limits a credential_process. It may call AWS, which takes longer than to print a code.
const credentialTimeout = 30 * time.Second

// CredentialProcess runs the credential_process of another program, by the rules of FromProcess but with 30 seconds. It
// returns its output.
func CredentialProcess(ctx context.Context, command string) (secret.String, error) {
	out, _, err := runProcess(ctx, "credential_process", command, credentialTimeout)
	return secret.New(string(out)), err
}

// failing makes the error of a program.
type failing func(kind fault.Kind, cause error, format string, args ...any) error

// runProcess runs the command that a key of a file names, and returns its output.
func runProcess(ctx context.Context, key, command string, timeout time.Duration) ([]byte, failing, error) {
	words := profiles.SplitCommand(command)
	if len(words) == 0 || words[0] == "" {
		return nil, nil, fault.New(fault.Config, "%s has no program", key)
	}
	// The cause is kept for errors.Is, but only this text is shown.
	failed := func(kind fault.Kind, cause error, format string, args ...any) error {
		message := fmt.Sprintf("%s %s: ", key, fault.Short(filepath.Base(words[0]), maxShown)) + fmt.Sprintf(format, args...)
		return &fault.Error{Kind: kind, Message: message, Err: cause}
	}
	program, err := child.Find(words[0])
	if err == nil {
		if bad := system.TrustedCommand(program, words[1:]); bad != nil {
			return nil, failed, failed(fault.Config, bad, "%v", bad)
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
		err = failed(fault.Failed, err, "did not end within %s", timeout)
	case errors.Is(err, child.ErrTooMuch):
		err = failed(fault.Failed, err, "printed more than %d KiB", processOutput>>10)
	case errors.Is(err, child.ErrRelative):
		err = failed(fault.Config, err, "%v", err)
	case err != nil && ctx.Err() != nil:
		err = failed(fault.Failed, err, "was stopped before it answered")
	case err != nil:
		err = failed(fault.Failed, err, "%v", err)
	}
	return out, failed, err
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
