package cli

import (
	"context"
	"errors"
	"os"
	"runtime"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"broker/internal/client"
	"broker/internal/environ"
	"broker/internal/fault"
	"broker/internal/lockfile"
	"broker/internal/peer"
	"broker/internal/profiles"
)

func (p *program) daemonCommand() *cli.Command {
	return &cli.Command{
		Name:  "daemon",
		Usage: "run the daemon, which other commands start when needed",
		UsageText: "broker daemon --background\n" +
			"broker daemon --stop",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "replace", Usage: "replace the running daemon, if there is one"},
			&cli.BoolFlag{Name: "background", Usage: "return once the daemon listens, and leave it running"},
			&cli.BoolFlag{Name: "stop", Usage: "stop the running daemon; the next command starts a new one"},
		},
		Action: func(c *cli.Context) error {
			if c.Bool("stop") {
				if c.Bool("replace") || c.Bool("background") {
					return fault.New(fault.Usage, "--stop takes no other option").
						WithHint("broker daemon --stop")
				}
				return p.stopDaemon(c.Context)
			}
			program, err := p.daemonProgram()
			if err != nil {
				return err
			}
			command := []string{program}
			for _, flag := range []string{"replace", "background"} {
				if c.Bool(flag) {
					command = append(command, "--"+flag)
				}
			}
			return fault.New(fault.Failed, "start %s: %w", program, replace(program, command, os.Environ()))
		},
	}
}

// stopWait is how long the daemon may take to end: it finishes the requests in flight.
const stopWait = 10 * time.Second

// stopDaemon ends the running daemon and waits until it has ended.
func (p *program) stopDaemon(ctx context.Context) error {
	status, err := p.client.Status(ctx)
	switch {
	case errors.Is(err, client.ErrNone):
		p.say("no daemon is running")
		return nil
	case err != nil:
		return err
	}
	daemon, err := peer.Find(status.PID)
	if err != nil { // it may have ended meanwhile
		return fault.New(fault.Failed, "find the daemon: %w", err).WithHint("broker status")
	}
	process, err := os.FindProcess(status.PID)
	if err != nil {
		return fault.New(fault.Failed, "find the daemon, pid %d: %w", status.PID, err).WithHint("broker status")
	}
	defer func() { _ = process.Release() }()
	again, err := p.client.Status(ctx) // is that process still the daemon?
	if err == nil && again.Locked && lockfile.Find(p.paths.State).Refuse() == nil {
		return fault.New(fault.Failed, "the daemon is locked and was not stopped: the lock could not be saved, "+
			"so the next daemon would not be locked").WithHint("broker status")
	}
	if err == nil && again.PID == status.PID {
		err = process.Signal(syscall.SIGTERM)
		if runtime.GOOS == "windows" { // Windows has no SIGTERM
			err = process.Kill()
		}
	}
	if err != nil && !errors.Is(err, client.ErrNone) && !errors.Is(err, os.ErrProcessDone) {
		return fault.New(fault.Failed, "stop the daemon, pid %d: %w", status.PID, err).
			WithHint("broker status")
	}
	limit := time.Now().Add(stopWait)
	for ; time.Now().Before(limit) && ctx.Err() == nil; time.Sleep(10 * time.Millisecond) {
		if !daemon.Running() {
			p.say("stopped; the next command starts a daemon again")
			return nil
		}
	}
	return fault.New(fault.Failed, "the daemon, pid %d, did not stop within %s", status.PID,
		profiles.FormatDuration(stopWait)).WithHint("kill -9 %d", status.PID)
}

// daemonProgram finds brokerd.
func (p *program) daemonProgram() (string, error) {
	return client.DaemonProgram(environ.Build(os.Environ(), p.paths, false))
}
