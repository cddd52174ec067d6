package client

import (
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"broker/internal/fault"
	"broker/internal/secret"
	"broker/internal/wire"
)

// foreground reports whether a person at the controlling terminal can be asked:
// whatever stdin, stdout and stderr are, and not from a background job, which must neither write there
// nor read what is typed for others.
func foreground() bool {
	fd, err := openTTY()
	if err != nil {
		return false
	}
	defer func() { _ = syscall.Close(fd) }()
	return inForeground(fd)
}

// openTTY opens the controlling terminal. The descriptor is not an os.File, since waiting for a
// terminal to become readable is what the question has to avoid; see askTerminal.
func openTTY() (int, error) {
	return syscall.Open("/dev/tty", syscall.O_RDWR|syscall.O_NOCTTY|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
}

func inForeground(tty int) bool {
	var group int32
	err := ioctl(tty, syscall.TIOCGPGRP, unsafe.Pointer(&group))
	return err == nil && int(group) == syscall.Getpgrp()
}

// ttyName is the device of the controlling terminal, as far as one of the
// standard files tells; empty if none does.
func ttyName() string {
	for _, fd := range []string{"0", "1", "2"} {
		if name, err := os.Readlink("/proc/self/fd/" + fd); err == nil && (strings.HasPrefix(name, "/dev/pts/") || strings.HasPrefix(name, "/dev/tty")) {
			return name
		}
	}
	return ""
}

// terminal is a question on the controlling terminal.
type terminal struct {
	tty     int
	before  syscall.Termios
	answer  chan wire.Request // what the person says: one of wire's verbs for it
	signals chan os.Signal
	done    chan struct{} // closed when the question is taken off
	ended   chan struct{} // closed when nobody reads or writes there any more
}

const (
	// maxAnswer bounds what is read for a code.
	maxAnswer = 256
	// glance is how often the terminal is looked at while a question stands there.
	glance = 20 * time.Millisecond
)

// askTerminal puts a question; the answer comes on the channel.
//
// A pager in the same pipeline (aws … | less) waits for the pipe and for the
// keyboard at once, and takes a key from us whenever poll(2) tells it of one.
// So the terminal is put into a mode in which poll tells nothing before 255
// keys were pressed (VMIN, see termios(3)), while a read takes each at once. For that the line
// is edited here, and looked for by a clock. What was typed before the question is not its answer, and thrown away.
func askTerminal(question wire.Ask) (*terminal, error) {
	tty, err := openTTY()
	if err != nil {
		return nil, err
	}
	t := &terminal{tty: tty, answer: make(chan wire.Request, 1), signals: make(chan os.Signal, 1), done: make(chan struct{}), ended: make(chan struct{})}
	err = os.ErrPermission
	if inForeground(tty) {
		err = ioctl(tty, syscall.TCGETS, unsafe.Pointer(&t.before))
	}
	if err != nil {
		_ = syscall.Close(tty)
		return nil, err
	}
	signal.Notify(t.signals, os.Interrupt, syscall.SIGTERM, syscall.SIGQUIT)
	mode := t.before
	mode.Lflag = mode.Lflag&^(syscall.ICANON|syscall.ECHO) | syscall.ISIG
	mode.Iflag |= syscall.ICRNL
	mode.Cc[syscall.VMIN], mode.Cc[syscall.VTIME] = 255, 0
	_ = ioctl(tty, syscall.TCSETS, unsafe.Pointer(&mode))
	_ = ioctl(tty, tcflsh, nil)

	text := fault.Line(question.Text)
	if question.Reason != "" {
		text = fault.Line(question.Reason) + "\r\n" + text
	}
	t.show("\r" + text + " ")
	go func() {
		defer close(t.ended)
		t.answer <- t.listen()
	}()
	return t, nil
}

// tellTerminal shows a line to the person there, if it is for us to do.
func tellTerminal(line string) {
	tty, err := openTTY()
	if err != nil {
		return
	}
	defer func() { _ = syscall.Close(tty) }()
	if inForeground(tty) {
		_, _ = syscall.Write(tty, []byte("\r"+fault.Line(line)+"\r\n"))
	}
}

// listen returns what the person says.
func (t *terminal) listen() wire.Request {
	line := make([]byte, 0, maxAnswer)
	defer func() { clear(line[:cap(line)]) }()
	look := time.NewTicker(glance)
	defer look.Stop()
	for {
		select {
		case <-t.done:
			return wire.Request{Verb: wire.Gone}
		case s := <-t.signals:
			if s == os.Interrupt {
				t.endLine()
				return wire.Request{Verb: wire.Cancel}
			}
			// As if it had never been caught, but for the terminal's mode.
			t.restore()
			signal.Reset(s)
			_ = syscall.Kill(os.Getpid(), s.(syscall.Signal))
			return wire.Request{Verb: wire.Gone}
		case <-look.C:
		}
		for {
			var key [1]byte // no more than the line: what follows is for others
			n, err := syscall.Read(t.tty, key[:])
			if err == syscall.EAGAIN || err == syscall.EINTR {
				break
			}
			if err != nil || n == 0 { // hung up: nobody said that
				return wire.Request{Verb: wire.Gone}
			}
			switch k := key[0]; {
			case k == '\n' || k == '\r' || k == t.before.Cc[syscall.VEOF]:
				t.show("\r\n")
				if code := strings.TrimSpace(string(line)); code != "" {
					return wire.Request{Verb: wire.Answer, Code: secret.New(code)}
				}
				return wire.Request{Verb: wire.Cancel}
			case (k == '\b' || k == 0x7f || k == t.before.Cc[syscall.VERASE]) && len(line) > 0:
				line = line[:len(line)-1]
				t.show("\b \b")
			case k == t.before.Cc[syscall.VKILL]:
				t.show(strings.Repeat("\b \b", len(line)))
				line = line[:0]
			case k >= ' ' && k <= '~' && len(line) < maxAnswer:
				line = append(line, k)
				t.show(string(k))
			}
		}
	}
}

// show writes on the terminal. One that takes no more is not waited for.
func (t *terminal) show(text string) { _, _ = syscall.Write(t.tty, []byte(text)) }

// endLine ends the line of a question that was answered elsewhere, or not at all.
func (t *terminal) endLine() { t.show("\r\n") }

// close takes the question off the terminal and leaves it as it was.
func (t *terminal) close() {
	signal.Stop(t.signals)
	close(t.done)
	<-t.ended
	t.restore()
	_ = syscall.Close(t.tty)
}

// restore gives the terminal its mode back, if it still is ours to give.
func (t *terminal) restore() {
	if inForeground(t.tty) {
		_ = ioctl(t.tty, syscall.TCSETS, unsafe.Pointer(&t.before))
	}
}

// tcflsh with no argument (TCIFLUSH) drops what was typed and not read; package syscall lacks it.
const tcflsh = 0x540b

func ioctl(fd int, request uintptr, arg unsafe.Pointer) error {
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), request, uintptr(arg)); errno != 0 {
		return errno
	}
	return nil
}
