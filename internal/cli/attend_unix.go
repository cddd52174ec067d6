//go:build unix

package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"broker/internal/client"
	"broker/internal/fault"
	"broker/internal/harden"
	"broker/internal/paths"
	"broker/internal/peer"
	"broker/internal/system"
	"broker/internal/tty"
	"broker/internal/version"
	"broker/internal/wire"
)

// The attendant of a door is a process that shows the door's prompts on the terminal of the command. It must not be a
// child of the command, which may wait for all its children, and must hold none of its files, whose readers wait for
// the end. So a helper process starts the attendant and ends, and init becomes its parent. The attendant keeps the
// session and the process group of the command: only these may read from the terminal.

const (
	// attendantWord is the first argument of the helper and of the attendant. The name of the door and the pid of the
	// command follow, and for the attendant attendantStays.
	attendantWord  = "--attend"
	attendantStays = "--stay"
)

const (
	// attendantPatience is how long the command waits until the daemon knows the attendant.
	attendantPatience = 5 * time.Second
	// attendantRound is how long one request of the attendant lasts.
	attendantRound = 24 * time.Hour
	// attendantPause is how long it waits before a retry if no daemon answers.
	attendantPause = 500 * time.Millisecond
)

// ignored are the signals that the attendant ignores. Those of the keyboard are for the command. An open prompt takes
// Ctrl-C as an answer.
var ignored = []os.Signal{syscall.SIGINT, syscall.SIGQUIT, syscall.SIGHUP, syscall.SIGTTIN, syscall.SIGTTOU,
	syscall.SIGPIPE}

// startAttendant starts the attendant of a door. It returns once the daemon knows the attendant.
func startAttendant(door string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*attendantPatience)
	defer cancel()
	return exec.CommandContext(ctx, self, attendantWord, door, strconv.Itoa(os.Getpid())).Run()
}

// attend runs the helper or the attendant, if args, without the name of the program, are theirs.
func attend(args []string) (code int, is bool) {
	if len(args) < 3 || args[0] != attendantWord {
		return 0, false
	}
	signal.Ignore(ignored...) // also for the process that is started next
	var err error
	if len(args) == 4 && args[3] == attendantStays {
		err = attendDoor(args[1], args[2])
	} else {
		err = leaveAttendant(args[1:])
	}
	if err != nil {
		return fault.Of(err).Kind.ExitCode(), true
	}
	return 0, true
}

// leaveAttendant starts the attendant and leaves it to init.
func leaveAttendant(args []string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(self, append(append([]string{attendantWord}, args...), attendantStays)...)
	ready, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	known := make(chan error, 1)
	go func() {
		_, err := ready.Read(make([]byte, 1))
		known <- err
	}()
	select {
	case err := <-known:
		if err == io.EOF {
			return cmd.Wait() // the attendant has ended
		}
		return err
	case <-time.After(attendantPatience):
		return nil
	}
}

// attendDoor shows the prompts of a door until the door or its command ends.
func attendDoor(door, command string) error {
	pid, err := strconv.Atoi(command)
	if err != nil {
		return err
	}
	owner, err := peer.Find(pid)
	if err != nil {
		return err
	}
	system.CloseInherited()
	if err := harden.Process(); err != nil {
		return err
	}
	where, err := paths.FromEnv()
	if err != nil {
		return err
	}
	_ = os.Chdir("/")
	// The terminal belongs to the shell again as soon as the command has ended, even if the daemon does not answer.
	ctx, ended := context.WithCancel(context.Background())
	go func() {
		if owner.Ended(ctx) == nil {
			ended()
		}
	}()
	told := false
	c := client.Client{Paths: where, Version: version.String(), NoStart: true, Wait: attendantRound,
		Shows: func() {}, // Ctrl-C ends a prompt, and not this process
		Attends: func() {
			if !told {
				told = true
				fmt.Println()
			}
		}}
	for owner.Running() && tty.Exists() {
		_, err := c.Do(ctx, wire.Request{Verb: wire.Attend, Profile: door})
		switch {
		case err == nil, fault.Is(err, fault.NotFound): // the door has ended
			return nil
		case !fault.Is(err, fault.Unreachable):
			return err
		default:
			time.Sleep(attendantPause)
		}
	}
	return nil
}
