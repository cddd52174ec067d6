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
	words := profiles.SplitCommand(command)
	if len(words) == 0 || words[0] == "" {
		return secret.String{}, fault.New(fault.Config, "mfa_process has no program")
	}
	// The cause is kept for errors.Is, but only this text is shown.
	failed := func(kind fault.Kind, cause error, format string, args ...any) (secret.String, error) {
		message := fmt.Sprintf("mfa_process %s: ", fault.Short(filepath.Base(words[0]), maxShown)) + fmt.Sprintf(format, args...)
		return secret.String{}, &fault.Error{Kind: kind, Message: message, Err: cause}
	}
	program, err := child.Find(words[0])
	if err == nil {
		if bad := system.TrustedProgram(program); bad != nil {
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
	code, problem := parseOutput(string(out))
	if problem != "" {
		return failed(fault.Failed, nil, "%s", problem)
	}
	return code, nil
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
