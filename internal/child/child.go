// Package child owns running programs that are not trusted to end, to be brief or to be
// polite: no shell, a session and process group of their own, the descriptors 0 to 2 and no
// other, the environment that is given and nothing of ours, a deadline that kills the whole
// group, a bound on what is read. It refuses to keep stderr (unless somebody asks for it),
// to put anything a program printed into an error, and to wait for a process that left
// the group with setsid or job control: such a one may live on, but holds nobody up.
package child

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode/utf8"

	"broker/internal/system"
)

const (
	// DefaultTimeout and DefaultLimit are what the zero values of Command mean.
	DefaultTimeout = 10 * time.Second
	DefaultLimit   = 64 << 10

	// pipeDelay is how long a process that left the group may hold a pipe after the program ended. What is in the pipe is
	// read at once, but on a busy machine that takes a while.
	pipeDelay = 2 * time.Second
	// grace is what the program of a conversation gets to restore a terminal before it is killed.
	grace = 500 * time.Millisecond
)

// What can go wrong, besides *ExitError and the error of a context. None of these, however wrapped,
// holds anything that the program printed.
var (
	ErrNotFound   = errors.New("is not there")
	ErrRelative   = errors.New("is neither an absolute path nor a name on the PATH")
	ErrNotStarted = errors.New("cannot be started")
	ErrTimeout    = errors.New("did not end in time")
	ErrTooMuch    = errors.New("printed too much")
	ErrEnded      = errors.New("ended in the middle of the conversation")
)

// ExitError says that a program ended by itself, and not with 0.
type ExitError struct {
	Code   int            // of its exit, or -1
	Signal syscall.Signal // that ended it, or 0
}

// Error implements error.
func (e *ExitError) Error() string {
	if e.Signal != 0 {
		return fmt.Sprintf("was ended by a signal (%s)", e.Signal)
	}
	return fmt.Sprintf("ended with exit code %d", e.Code)
}

// Command is a program to run once.
type Command struct {
	Program string        // absolute, or a name that is looked up on our own PATH
	Argv0   string        // what it is told it is called; "" means Program
	Args    []string      // after Argv0
	Env     []string      // all of its environment; nil is an empty one
	Dir     string        // "" means /
	Stdin   []byte        // for Run; nil is the null device
	Stderr  io.Writer     // nil is the null device. The writer does the bounding
	Socket  bool          // for Converse: stdin and stdout are one socket where the system has that, see socket
	Timeout time.Duration // from start to end; 0 means DefaultTimeout
	Limit   int           // of bytes on stdout; 0 means DefaultLimit. One more and it is killed
}

// Run runs it and returns what it wrote to stdout, in case of an *ExitError too. When Run returns, the group is
// gone: what the program left running in it, in the background, is killed.
func (c Command) Run(ctx context.Context) ([]byte, error) {
	cmd, err := c.prepare()
	if err != nil {
		return nil, err
	}
	ctx, cancel := c.bound(ctx)
	defer cancel(nil)
	stdout := &bounded{limit: c.limit(), over: func() { cancel(ErrTooMuch) }}
	cmd.Stdout, cmd.Stderr = stdout, c.Stderr
	if c.Stdin != nil {
		cmd.Stdin = bytes.NewReader(c.Stdin)
	}
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	g, err := start(cmd)
	if err != nil {
		return nil, err
	}
	release := context.AfterFunc(ctx, g.kill)
	g.wait(0)
	release()
	g.end()
	if err := context.Cause(ctx); err != nil && (errors.Is(err, ErrTooMuch) || !cmd.ProcessState.Success()) {
		return nil, err
	}
	return stdout.data.Bytes(), exitError(cmd)
}

// Converse runs it and hands over its stdin and stdout. When talk returns, or the time is up, both are closed; the
// program gets SIGTERM, and a moment later its group is killed. The error is that of talk, unless the time or the
// context ended first, or the program did, in which case it is an *ExitError or ErrEnded.
func (c Command) Converse(ctx context.Context, talk func(*Lines) error) error {
	cmd, err := c.prepare()
	if err != nil {
		return err
	}
	ctx, cancel := c.bound(ctx)
	defer cancel(nil)
	connect := pipes
	if c.Socket {
		connect = socket
	}
	in, out, theirs, err := connect(cmd)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNotStarted, err)
	}
	cmd.Stderr = c.Stderr
	lines := &Lines{in: in, out: out, left: c.limit(), cancel: cancel}
	defer lines.close()
	var g *group
	if err = context.Cause(ctx); err == nil {
		g, err = start(cmd)
	}
	for _, f := range theirs {
		_ = f.Close()
	}
	if err != nil {
		return err
	}
	lines.g = g
	release := context.AfterFunc(ctx, lines.close)
	talked := make(chan struct{})
	go func() { // a dead program says nothing more, even if its pipe is still held
		select {
		case <-g.dead:
			select {
			case <-time.After(pipeDelay):
				lines.close()
			case <-talked:
			}
		case <-talked:
		}
	}()
	err = talk(lines)
	close(talked)
	release()
	lines.close()
	if errors.Is(err, ErrEnded) && ctx.Err() == nil {
		g.wait(grace) // it is ending: let it be seen how
	}
	byItself := g.ended()
	g.signal(syscall.SIGTERM)
	g.wait(grace)
	g.end()
	switch cause := context.Cause(ctx); {
	case err == nil:
		return nil
	case cause != nil:
		return cause
	case errors.Is(err, ErrEnded) && byItself && exitError(cmd) != nil:
		return exitError(cmd)
	}
	return err
}

// pipes are the stdin and stdout of a command, and our ends. They are our own, because those of exec are closed as soon
// as the program has ended.
func pipes(cmd *exec.Cmd) (in, out *os.File, theirs []*os.File, err error) {
	stdin, in, err := os.Pipe()
	if err != nil {
		return nil, nil, nil, err
	}
	out, stdout, err := os.Pipe()
	if err != nil {
		_, _ = stdin.Close(), in.Close()
		return nil, nil, nil, err
	}
	cmd.Stdin, cmd.Stdout = stdin, stdout
	return in, out, []*os.File{stdin, stdout}, nil
}

// Lines is a conversation in lines, which end with a line feed.
type Lines struct {
	g      *group
	in     io.WriteCloser
	out    io.ReadCloser
	buf    []byte // read, not yet asked for
	left   int    // bytes that may still be read
	cancel context.CancelCauseFunc
	once   sync.Once
}

// Write says a line, which must not hold a line feed.
func (l *Lines) Write(line string) error {
	if strings.ContainsRune(line, '\n') {
		return errors.New("a line of a conversation holds a line feed")
	}
	return l.Send([]byte(line + "\n"))
}

// Send says what may be a secret: no copy of it is made.
func (l *Lines) Send(b []byte) error {
	if _, err := l.in.Write(b); err != nil {
		return ErrEnded
	}
	return nil
}

// Read hears a line, without its end.
func (l *Lines) Read() (string, error) {
	for {
		if line, rest, ok := bytes.Cut(l.buf, []byte{'\n'}); ok {
			l.buf = rest
			return string(line), nil
		}
		if err := l.fill(); err != nil {
			return "", err
		}
	}
}

// Rest hears all until the program closes its stdout, or ends. The error is ErrTooMuch or nil.
func (l *Lines) Rest() ([]byte, error) {
	for {
		switch err := l.fill(); {
		case errors.Is(err, ErrEnded):
			return l.buf, nil
		case err != nil:
			return nil, err
		}
	}
}

// fill reads some more.
func (l *Lines) fill() error {
	if l.left <= 0 {
		l.cancel(ErrTooMuch)
		return ErrTooMuch
	}
	part := make([]byte, min(l.left, 4096))
	n, err := l.out.Read(part)
	l.buf, l.left = append(l.buf, part[:n]...), l.left-n
	if n == 0 && err != nil {
		return ErrEnded
	}
	return nil
}

// PID is the number of the program, which is nobody else's during the conversation on Linux.
func (l *Lines) PID() int { return l.g.cmd.Process.Pid }

// Dead is closed when the program has ended.
func (l *Lines) Dead() <-chan struct{} { return l.g.dead }

// Within ends the conversation with ErrTimeout unless the returned function is called before d has passed.
func (l *Lines) Within(d time.Duration) (done func()) {
	t := time.AfterFunc(d, func() { l.cancel(ErrTimeout) })
	return func() { t.Stop() }
}

func (l *Lines) close() {
	l.once.Do(func() {
		_ = l.in.Close()
		_ = l.out.Close()
	})
}

func (c Command) limit() int {
	if c.Limit <= 0 {
		return DefaultLimit
	}
	return c.Limit
}

// bound is ctx until the time of the command is up.
func (c Command) bound(ctx context.Context) (context.Context, context.CancelCauseFunc) {
	timeout := c.Timeout
	if timeout <= 0 {
		timeout = DefaultTimeout
	}
	ctx, cancel := context.WithCancelCause(ctx)
	t := time.AfterFunc(timeout, func() { cancel(ErrTimeout) })
	return ctx, func(cause error) {
		t.Stop()
		cancel(cause)
	}
}

func (c Command) prepare() (*exec.Cmd, error) {
	path, err := Find(c.Program)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(path)
	cmd.Args = append([]string{c.Program}, c.Args...)
	if c.Argv0 != "" {
		cmd.Args[0] = c.Argv0
	}
	cmd.Env = c.Env
	if cmd.Env == nil {
		cmd.Env = []string{} // nil would be ours
	}
	cmd.Dir = c.Dir
	if cmd.Dir == "" {
		cmd.Dir = "/" // on Windows the root of this drive
	}
	// A session is a group that the program cannot leave, and has no terminal: neither Ctrl-C nor job
	// control reaches it, and it cannot ask behind our back.
	cmd.SysProcAttr = system.Session()
	cmd.WaitDelay = pipeDelay
	return cmd, nil
}

// Find is the path of a program: an absolute one, or a name on the PATH. Its errors are ErrNotFound, ErrRelative
// and ErrNotStarted; they do not repeat the name.
func Find(program string) (string, error) {
	if strings.ContainsFunc(program, isSeparator) && !filepath.IsAbs(program) {
		return "", ErrRelative
	}
	path, err := exec.LookPath(program)
	switch {
	case err == nil:
		return path, nil
	case errors.Is(err, fs.ErrPermission):
		return "", fmt.Errorf("%w: %w", ErrNotStarted, syscall.EACCES)
	case errors.Is(err, syscall.EISDIR):
		return "", fmt.Errorf("%w: %w", ErrNotStarted, syscall.EISDIR)
	}
	// Also a program found by a relative entry of the PATH: what it is depends on where we stand.
	return "", ErrNotFound
}

func isSeparator(r rune) bool { return r < utf8.RuneSelf && os.IsPathSeparator(uint8(r)) }

func exitError(cmd *exec.Cmd) error {
	if cmd.ProcessState.Success() {
		return nil
	}
	e := &ExitError{Code: cmd.ProcessState.ExitCode()}
	if s, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && s.Signaled() {
		e.Signal = s.Signal()
	}
	return e
}

// bounded keeps what fits and calls over once for what does not.
type bounded struct {
	data  bytes.Buffer
	limit int
	over  func()
}

func (b *bounded) Write(p []byte) (int, error) {
	if b.data.Len()+len(p) > b.limit {
		b.over()
		return 0, ErrTooMuch
	}
	return b.data.Write(p)
}
