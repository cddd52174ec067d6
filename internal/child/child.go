// Package child runs programs that may hang, flood or misbehave. A program runs without a shell, in its own
// session and process group, with no descriptors but 0 to 2 and only the given environment. A deadline kills the
// whole group, and the output is limited. Stderr is discarded unless the caller asks for it, and nothing that a
// program printed gets into an error. A process that left the group with setsid or job control may live on, but
// nobody waits for it.
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
	// DefaultTimeout and DefaultLimit apply for the zero values in Command.
	DefaultTimeout = 10 * time.Second
	DefaultLimit   = 64 << 10

	// pipeDelay is how long a process that left the group may hold a pipe open after the program ended. The
	// content of the pipe is read at once, but that takes a while on a busy machine.
	pipeDelay = 2 * time.Second
	// grace is how long the program of a conversation may take to restore a terminal before it is killed.
	grace = 500 * time.Millisecond
)

// The possible errors, besides *ExitError and the error of a context. None of them, however wrapped, contains
// anything that the program printed.
var (
	ErrNotFound   = errors.New("is not there")
	ErrRelative   = errors.New("is neither an absolute path nor a name on the PATH")
	ErrNotStarted = errors.New("cannot be started")
	ErrTimeout    = errors.New("did not end in time")
	ErrTooMuch    = errors.New("printed too much")
	ErrEnded      = errors.New("ended in the middle of the conversation")
)

// ExitError means that a program ended by itself with another exit code than 0, or by a signal.
type ExitError struct {
	Code   int            // exit code, or -1
	Signal syscall.Signal // the signal that ended it, or 0
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
	Program string        // absolute, or a name to find on our own PATH
	Argv0   string        // argv[0] of the program; "" means Program
	Args    []string      // after Argv0
	Env     []string      // the whole environment; nil means empty
	Dir     string        // "" means /
	Stdin   []byte        // for Run; nil means the null device
	Stderr  io.Writer     // nil means the null device. The writer must limit what it keeps
	Socket  bool          // for Converse: use one socket for stdin and stdout where the system allows it, see socket
	Timeout time.Duration // from start to end; 0 means DefaultTimeout
	Limit   int           // of bytes on stdout; 0 means DefaultLimit. A program that prints more is killed
}

// Run runs the program and returns its stdout, also with an *ExitError. When Run returns, the group is gone:
// processes that the program left in the background are killed.
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

// Converse runs the program and passes its stdin and stdout to talk. When talk returns, or the time is up, both
// are closed. The program gets SIGTERM, and a moment later its group is killed. The error is that of talk, unless
// the time or the context ended first, or the program did; then it is an *ExitError or ErrEnded.
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
	go func() { // a dead program prints nothing more, even if another process holds its pipe
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
		g.wait(grace) // it is ending: wait for its exit status
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

// pipes creates the stdin and stdout of a command, and returns our ends. The pipes of exec would be closed as soon
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
	buf    []byte // read, but not yet returned
	left   int    // bytes that may still be read
	cancel context.CancelCauseFunc
	once   sync.Once
}

// Write sends a line, which must not contain a line feed.
func (l *Lines) Write(line string) error {
	if strings.ContainsRune(line, '\n') {
		return errors.New("a line of a conversation contains a line feed")
	}
	return l.Send([]byte(line + "\n"))
}

// Send sends bytes that may be a secret: it makes no copy.
func (l *Lines) Send(b []byte) error {
	if _, err := l.in.Write(b); err != nil {
		return ErrEnded
	}
	return nil
}

// Read receives a line, without its end.
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

// Rest receives everything until the program closes its stdout or ends. The error is ErrTooMuch or nil.
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

// PID returns the process ID of the program. On Linux it is not reused during the conversation.
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

// bound returns a context that also ends when the time of the command is up.
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
		cmd.Env = []string{} // nil would mean our own
	}
	cmd.Dir = c.Dir
	if cmd.Dir == "" {
		cmd.Dir = "/" // on Windows the root of the current drive
	}
	// A new session is also a process group, and has no terminal: neither Ctrl-C nor job control reaches the
	// program, and it cannot prompt.
	cmd.SysProcAttr = system.Session()
	cmd.WaitDelay = pipeDelay
	return cmd, nil
}

// Find returns the path of a program, which is given as an absolute path or a name on the PATH. Its errors are
// ErrNotFound, ErrRelative and ErrNotStarted; they do not repeat the name.
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
	// This includes a program found by a relative entry of the PATH: which one it is depends on the working
	// directory.
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

// bounded keeps what fits and calls over once for the rest.
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
