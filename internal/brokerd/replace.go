package brokerd

import (
	"context"
	"errors"
	"os"
	"strconv"
	"syscall"
	"time"

	"broker/internal/client"
	"broker/internal/daemon"
	"broker/internal/dial"
	"broker/internal/fault"
	"broker/internal/service"
	"broker/internal/socket"
	"broker/internal/version"
	"broker/internal/wire"
)

// idleExit is how long an idle, locked daemon stays if it was started on demand or by a connection to its socket.
const idleExit = 15 * time.Minute

// seat is the socket of a daemon, and who started it.
type seat struct {
	listener  *socket.Listener
	replaced  *daemon.Replaced
	startedBy string
	exitAfter time.Duration
}

// startedBy says who started this daemon. A service manager sets our own pid in a variable, or is our parent.
// Other variables, which a shell may have set, do not count.
func startedBy(activated, onDemand bool) string {
	switch {
	case activated:
		return wire.ByActivity
	case onDemand:
		return wire.OnDemand
	case os.Getenv("SYSTEMD_EXEC_PID") == strconv.Itoa(os.Getpid()) ||
		os.Getenv("XPC_SERVICE_NAME") == service.Label && os.Getppid() == 1:
		return wire.ByService
	}
	return wire.ByPerson
}

// takePlace finds the socket for a daemon: that of the service manager, or that of a daemon that restarts as this
// one. If there is neither, Run binds the socket.
func (p *program) takePlace(ctx context.Context, started string, activated *os.File, replace bool) (seat, error) {
	s := seat{startedBy: started}
	if started == wire.ByActivity || started == wire.OnDemand {
		s.exitAfter = idleExit
	}
	var err error
	switch {
	case activated != nil:
		if s.listener, err = socket.Adopt(ctx, p.paths.Socket, activated); err != nil {
			return seat{}, fault.New(fault.Failed, "%w", err).WithHint("broker service install")
		}
	case replace:
		s.replaced, s.listener, err = p.replace(ctx)
	}
	return s, err
}

// replace gets the socket of the running daemon; all results are nil if none runs.
func (p *program) replace(ctx context.Context) (*daemon.Replaced, *socket.Listener, error) {
	left, pid, err := daemon.Replace(ctx, p.paths, version.String())
	switch {
	case errors.Is(err, dial.ErrNobody):
		return nil, nil, nil
	case errors.Is(err, daemon.ErrNotAsked):
		listener, err := p.endOlder(ctx, pid)
		return nil, listener, err
	case err != nil:
		return nil, nil, err
	}
	return left, left.Listener, nil
}

// endTimeout is how long a daemon may take to end after SIGTERM.
const endTimeout = 8 * time.Second

// endOlder ends a daemon that is too old to pass its socket on, and binds the socket. Clients that connect in
// between wait.
func (p *program) endOlder(ctx context.Context, pid int) (*socket.Listener, error) {
	ctx, cancel := context.WithTimeout(ctx, endTimeout)
	defer cancel()
	release, err := (&client.Client{Paths: p.paths}).Hold(ctx)
	if err != nil {
		return nil, leftAsItIs("another start is in progress: %w", err)
	}
	defer release()
	if pid < 2 {
		return nil, leftAsItIs("its pid is unknown")
	}
	older, err := os.FindProcess(pid) // never fails on systems with signals
	if err == nil {
		err = older.Signal(syscall.SIGTERM)
	}
	if err != nil && !errors.Is(err, os.ErrProcessDone) {
		return nil, leftAsItIs("pid %d: %w", pid, err)
	}
	for {
		listener, err := socket.Listen(p.paths.Socket)
		if !errors.Is(err, socket.ErrTaken) {
			return listener, err
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return nil, fault.New(fault.Failed, "the running daemon (pid %d) did not end within %v", pid,
				endTimeout).WithHint("broker status")
		}
	}
}

func leftAsItIs(why string, args ...any) error {
	return fault.New(fault.Failed, "the running daemon was left as it is: "+why, args...).WithHint("broker status")
}
