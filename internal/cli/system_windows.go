package cli

import (
	"errors"
	"os"
	"os/exec"
	"os/signal"
)

// replace runs a program to its end and then ends with its exit code: no process can take the place of another
// here. This one waits, so what belongs to its pid (an endpoint, a file of credentials) lives as long. Ctrl-C
// goes to both, and is the program's to answer. It returns only where the program did not start.
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

// endList has no signal to send: fzf sees Ctrl-C as a key.
func endList() {}

var defaultShell = os.Getenv("ComSpec")
