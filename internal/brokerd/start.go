package brokerd

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"time"

	"broker/internal/environ"
	"broker/internal/fault"
	"broker/internal/system"
)

const readyLine = "ready\n"

// background starts the daemon as a separate process and returns once it listens. The starting process exits at
// once, so that the daemon is not a child of the tool that ran credproc, or of the command that replaces `broker
// exec`.
func (p *program) background(ctx context.Context, replace bool) error {
	self, err := os.Executable()
	if err != nil {
		return fault.New(fault.Failed, "find this program: %w", err)
	}
	for try := 1; ; try++ {
		killed, err := p.startDaemon(ctx, self, replace)
		// A daemon that was killed does not mean that the next one will fail.
		if !killed || try == 3 {
			return err
		}
	}
}

// startDaemon starts one daemon and waits until it listens or exits; killed reports whether a signal ended it.
func (p *program) startDaemon(ctx context.Context, self string, replace bool) (killed bool, err error) {
	args, wait := []string{readyOnStdout}, 10*time.Second
	if replace { // the old daemon drains first
		args, wait = append(args, replaceFlag), 25*time.Second
	}
	cmd := exec.Command(self, args...)
	cmd.Env = environ.Build(os.Environ(), p.paths, false)
	cmd.Dir = "/"
	cmd.SysProcAttr = system.Session()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return false, fault.New(fault.Failed, "start the daemon: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return false, fault.New(fault.Failed, "start the daemon: %w", err)
	}
	said := make(chan string, 1)
	go func() {
		b, _ := io.ReadAll(io.LimitReader(stdout, 4096))
		said <- string(b)
	}()
	select {
	case words := <-said:
		if words == readyLine {
			return false, nil
		}
		// It exited: another daemon was faster, or it could not start.
		err := cmd.Wait()
		if err == nil {
			return false, nil
		}
		otherwise := "the daemon exited before it listened: " + err.Error()
		return cmd.ProcessState.ExitCode() < 0, fault.ParseReport(fault.Failed, "brokerd", stderr.String(), otherwise)
	case <-ctx.Done():
		return false, fault.New(fault.Failed, "interrupted while the daemon was starting")
	case <-time.After(wait):
		_ = cmd.Process.Kill()
		return false, fault.New(fault.Failed, "the daemon did not start within %v", wait).WithHint("broker daemon")
	}
}
