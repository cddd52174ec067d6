package child

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// group is a running program and what it started. No signal is sent once the program was
// reaped, because its number may be another's by then.
type group struct {
	cmd  *exec.Cmd
	dead chan struct{} // closed when the program has ended, reaped or not

	mu   sync.Mutex
	gone bool // the group was killed for good
}

// seal keeps from our children what our own parent left open in us by mistake, such as somebody's pipe. All that Go opens
// is kept from them anyway, so once is enough.
var seal = sync.OnceFunc(func() {
	dir, err := os.Open("/dev/fd")
	if err != nil {
		return
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	for _, name := range names {
		if fd, err := strconv.Atoi(name); err == nil && fd > 2 {
			syscall.CloseOnExec(fd)
		}
	}
})

func start(cmd *exec.Cmd) (*group, error) {
	seal()
	if err := cmd.Start(); err != nil {
		var errno syscall.Errno // the error of os names the path, which may be of any length
		if errors.As(err, &errno) {
			return nil, fmt.Errorf("%w: %w", ErrNotStarted, errno)
		}
		return nil, ErrNotStarted
	}
	g := &group{cmd: cmd, dead: make(chan struct{})}
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

// wait waits for the program to end; for d at most, unless d is 0.
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
		_ = syscall.Kill(-g.cmd.Process.Pid, s)
	}
}

func (g *group) kill() { g.signal(syscall.SIGKILL) }

// end kills what is left of the group, reaps the program and closes the pipes.
func (g *group) end() {
	g.kill()
	<-g.dead
	g.mu.Lock()
	g.gone = true
	g.mu.Unlock()
	g.reap()
}
