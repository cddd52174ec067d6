package child

import (
	"errors"
	"fmt"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// group is a running program and the processes that it started. No signal is sent once the program was reaped,
// because its process ID may belong to another process by then.
type group struct {
	cmd   *exec.Cmd
	dead  chan struct{} // closed when the program has ended, reaped or not
	fence               //nolint:unused // Windows has something in it

	mu   sync.Mutex
	gone bool // the whole group was killed
}

func start(cmd *exec.Cmd) (*group, error) {
	seal()
	if err := cmd.Start(); err != nil {
		// The error of os contains the path, which may be long.
		if errno, ok := errors.AsType[syscall.Errno](err); ok {
			return nil, fmt.Errorf("%w: %w", ErrNotStarted, errno)
		}
		return nil, ErrNotStarted
	}
	g := &group{cmd: cmd, dead: make(chan struct{})}
	if err := g.enclose(); err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return nil, fmt.Errorf("%w: %w", ErrNotStarted, err)
	}
	go func() {
		g.await()
		close(g.dead)
	}()
	return g, nil
}

// ended reports whether the program has ended.
func (g *group) ended() bool {
	select {
	case <-g.dead:
		return true
	default:
		return false
	}
}

// wait waits for the program to end, for at most d unless d is 0.
func (g *group) wait(d time.Duration) {
	if d == 0 {
		<-g.dead
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-g.dead:
	case <-t.C:
	}
}

func (g *group) signal(s syscall.Signal) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.gone {
		g.send(s)
	}
}

func (g *group) kill() { g.signal(syscall.SIGKILL) }

// end kills the rest of the group, reaps the program and closes the pipes.
func (g *group) end() {
	g.kill()
	<-g.dead
	g.mu.Lock()
	g.gone = true
	g.mu.Unlock()
	g.reap()
}
