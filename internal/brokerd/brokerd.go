// Package brokerd is the program of the daemon: its arguments, how its parts are wired together, and the start in
// the background. The same program is also the vault process (package vault/process). It never prompts on a
// terminal, and does nothing that the command line does.
package brokerd

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"broker/internal/client"
	"broker/internal/environ"
	"broker/internal/fault"
	"broker/internal/harden"
	"broker/internal/paths"
	"broker/internal/profiles"
	"broker/internal/vault/process"
	"broker/internal/version"
)

const usage = `usage: brokerd [--replace] [--background]

brokerd is the daemon of Broker. credproc and broker start it by themselves.

  --replace     take over from the daemon that runs, if one does
  --background  return when it listens, and leave it running
  --version     print the version`

// program is the program brokerd with its environment.
type program struct {
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
	paths  paths.Paths
}

// Main runs the program brokerd and returns its exit code.
func Main(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	p := &program{stdin: stdin, stdout: stdout, stderr: fault.Writer(stderr)}
	if err := harden.Process(); err != nil {
		return p.complain(fault.New(fault.Config, "%w", err))
	}
	if len(args) == 2 && args[1] == "vault" {
		return process.Main(stdin, stdout)
	}
	if err := p.run(args[1:]); err != nil {
		return p.complain(err)
	}
	return 0
}

func (p *program) complain(err error) int {
	f := fault.Of(err)
	_, _ = io.WriteString(p.stderr, f.Report("brokerd"))
	return f.Kind.ExitCode()
}

func (p *program) run(args []string) error {
	asked := map[string]bool{}
	for _, arg := range args {
		switch arg {
		case "-h", "--help":
			_, err := fmt.Fprintln(p.stdout, usage)
			return err
		case "--version":
			_, err := fmt.Fprintln(p.stdout, "brokerd", version.String())
			return err
		case client.ReplaceRunning, client.Background, client.ReadyOnStdout:
			asked[arg] = true
		default:
			return fault.New(fault.Usage, "brokerd does not know %q", arg).WithHint("brokerd --help")
		}
	}
	var err error
	if p.paths, err = paths.FromEnv(); err != nil {
		return fault.New(fault.Failed, "%w", err).WithHint("%s", client.NameHome())
	}
	files := profiles.Original(p.paths.PrivateFiles(), profiles.FilesOf(p.paths))
	p.paths.Config, p.paths.Credentials = files.Config, files.Credentials
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if asked[client.Background] {
		return p.background(ctx, asked[client.ReplaceRunning])
	}
	return p.daemon(ctx, asked[client.ReadyOnStdout], asked[client.ReplaceRunning])
}

// background starts the daemon as a separate process and returns once it listens. Then this process ends, so that the
// daemon is not a child of the program that ran it.
func (p *program) background(ctx context.Context, replace bool) error {
	self, err := os.Executable()
	if err != nil {
		return fault.New(fault.Failed, "find this program: %w", err)
	}
	args, wait := []string{client.ReadyOnStdout}, 10*time.Second
	if replace { // the old daemon drains first
		args, wait = append(args, client.ReplaceRunning), 25*time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	return client.Launch(ctx, self, environ.Build(os.Environ(), p.paths, false), args...)
}
