package cli

import (
	"errors"
	"os"
	"os/exec"
	"os/signal"
)

// replace runs a program and ends with its exit code, because on Windows no process can replace another. This
// process waits, so what belongs to its pid (an endpoint, a credentials file) lives as long as the program. Ctrl-C
// goes to both processes, and the program handles it. replace returns only if the program did not start.
func replace(program string, command, env []string) error {
	signal.Ignore(os.Interrupt)
	cmd := exec.Command(program)
	cmd.Args, cmd.Env = command, env
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return err
	}
	os.Exit(cmd.ProcessState.ExitCode())
	return nil
}

// endList does nothing: there is no signal to send, and fzf reads Ctrl-C as a key.
func endList() {}

var defaultShell = os.Getenv("ComSpec")
