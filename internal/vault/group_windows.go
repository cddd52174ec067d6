package vault

import (
	"fmt"
	"os"
	"os/exec"

	"broker/internal/system"
)

// ownGroup keeps a command from our console. What it starts itself is in a job of its own, see package child.
func ownGroup(cmd *exec.Cmd) { cmd.SysProcAttr = system.Session() }

// endGroup: nothing is left that the command did not end itself.
func endGroup(*exec.Cmd) error { return nil }

// connect gives a command two pipes as stdin and stdout.
func connect(cmd *exec.Cmd) (ends, error) {
	stdin, write, err := os.Pipe()
	if err != nil {
		return ends{}, fmt.Errorf("pipe: %w", err)
	}
	read, stdout, err := os.Pipe()
	if err != nil {
		_, _ = stdin.Close(), write.Close()
		return ends{}, fmt.Errorf("pipe: %w", err)
	}
	cmd.Stdin, cmd.Stdout = stdin, stdout
	return ends{read: read, write: write, theirs: []*os.File{stdin, stdout}}, nil
}
