package client

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"broker/internal/environ"
	"broker/internal/fault"
	"broker/internal/system"
)

// The arguments with which brokerd starts as a daemon.
const (
	// Background returns once the daemon listens. The daemon is then no child of the program that ran brokerd.
	Background = "--background"
	// ReadyOnStdout writes ReadyLine once the daemon listens, then closes stdout and stderr, and stays.
	ReadyOnStdout = "--ready-on-stdout"
	ReadyLine     = "ready\n"
	// ReplaceRunning makes the daemon replace the one that runs, if one does.
	ReplaceRunning = "--replace"
)

// launches is how often a daemon is started if it ends before the client can connect, or if a signal ends it.
const launches = 3

// Launch runs brokerd with the argument Background or ReadyOnStdout, and returns once the daemon listens. It tries
// again if a signal ended the program: the next one need not fail. At the deadline of ctx the program is killed; if
// ctx is canceled, it stays.
func Launch(ctx context.Context, program string, env []string, args ...string) error {
	for try := 1; ; try++ {
		killed, err := launchOnce(ctx, program, env, args)
		if !killed || try == launches {
			return err
		}
	}
}

func launchOnce(ctx context.Context, program string, env, args []string) (killed bool, err error) {
	cmd := exec.Command(program, args...)
	cmd.Env, cmd.Dir = env, "/"
	cmd.SysProcAttr = system.Session()
	cmd.WaitDelay = time.Second
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return false, fault.New(fault.Failed, "start the daemon: %w", err)
	}
	said, ended := make(chan string, 1), make(chan error, 1)
	go func() {
		line, _ := bufio.NewReader(stdout).ReadString('\n')
		said <- line
		ended <- cmd.Wait()
	}()
	for {
		select {
		case line := <-said:
			if line == ReadyLine {
				return false, nil
			}
		case err := <-ended: // the daemon listens, or another one was faster, or it could not start
			if err == nil {
				return false, nil
			}
			return cmd.ProcessState.ExitCode() < 0,
				fault.ParseReport(fault.Failed, "brokerd", stderr.String(), "it ended before it listened: "+err.Error())
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.Canceled) {
				return false, fault.New(fault.Failed, "interrupted while the daemon was starting")
			}
			_ = cmd.Process.Kill()
			return false, fault.New(fault.Failed, "the daemon did not start in time").WithHint("broker daemon")
		}
	}
}

// isOneInstall refuses a brokerd that another user put beside this program. In a directory such as /tmp any user
// can create files, and links to files of this user.
func isOneInstall(self, brokerd string) error {
	mine, err := system.AccessOfPath(selfFile)
	if err != nil {
		mine, err = system.AccessOfPath(self)
	}
	if err != nil {
		return fault.New(fault.Failed, "%w", err)
	}
	check := func(path string, its system.Access) error {
		if its.Ours || its.Owner == mine.Owner {
			return nil
		}
		return fault.New(fault.Failed, "%s is not started: %s belongs to another user (%s) than this program (%s)",
			brokerd, path, its.Owner, mine.Owner).WithHint("ls -l %s", filepath.Dir(brokerd))
	}
	err = system.Walk(brokerd, func(at string, info, dir fs.FileInfo) error {
		anybody := info.Mode()&fs.ModeSymlink != 0 || dir != nil && dir.Mode()&fs.ModeSticky != 0
		if its, ok := system.AccessOfInfo(info); ok && anybody && its.Owner != "uid 0" {
			return check(at, its)
		}
		return nil
	})
	if err != nil {
		return err
	}
	its, err := system.AccessOfPath(brokerd)
	if err != nil {
		return fault.New(fault.Failed, "%w", err)
	}
	return check("it", its)
}

// selfFile is the file of the running program on Linux, even if another file has its name by now.
const selfFile = "/proc/self/exe"

// DaemonProgram finds brokerd beside this program, or else on the PATH of env, which environ built. The shell's
// PATH does not count, because the daemon also serves other shells. DaemonProgram follows links to this program,
// because Homebrew and Nix install links.
func DaemonProgram(env []string) (string, error) {
	dir := ""
	if self, err := os.Executable(); err == nil {
		if real, err := filepath.EvalSymlinks(self); err == nil {
			self = real
		}
		dir = filepath.Dir(self)
		beside := filepath.Join(dir, "brokerd"+system.Exe)
		if info, err := os.Stat(beside); err == nil && info.Mode().IsRegular() {
			return beside, isOneInstall(self, beside)
		}
	}
	for _, kv := range env {
		if path, ok := strings.CutPrefix(kv, "PATH="); ok {
			if program := environ.Find("brokerd", path); program != "" {
				return program, nil
			}
		}
	}
	return "", fault.New(fault.Failed, "brokerd, the daemon program, is neither in %s nor on the PATH of the daemon; "+
		"install broker, brokerd and credproc of one version side by side", dir).
		WithHint("command -v broker brokerd credproc")
}
