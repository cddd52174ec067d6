package client

import (
	"fmt"
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
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		return false
	}
	defer func() { _ = tty.Close() }()
	return inForeground(tty)
}

func inForeground(tty *os.File) bool {
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
	file    *os.File
	before  syscall.Termios
	answer  chan wire.Request // what the person says: one of wire's verbs for it
	signals chan os.Signal
}

// maxAnswer bounds what is read for a code.
const maxAnswer = 256

// askTerminal puts a question; the answer comes on the channel.
func askTerminal(question wire.Ask) (*terminal, error) {
	file, err := os.OpenFile("/dev/tty", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	t := &terminal{file: file, answer: make(chan wire.Request, 1), signals: make(chan os.Signal, 1)}
	if !inForeground(file) {
		_ = file.Close()
		return nil, os.ErrPermission
	}
	if err := ioctl(file, syscall.TCGETS, unsafe.Pointer(&t.before)); err != nil {
		_ = file.Close()
		return nil, err
	}
	// A pager in the same pipeline may have taken the line mode away.
	mode := t.before
	mode.Lflag |= syscall.ICANON | syscall.ECHO | syscall.ISIG
	mode.Iflag |= syscall.ICRNL
	_ = ioctl(file, syscall.TCSETS, unsafe.Pointer(&mode))

	text := fault.Line(question.Text)
	if question.Reason != "" {
		text = fault.Line(question.Reason) + "\r\n" + text
	}
	if _, err := fmt.Fprintf(file, "\r%s ", text); err != nil {
		t.close()
		return nil, err
	}
	signal.Notify(t.signals, os.Interrupt)
	typed := make(chan wire.Request, 1)
	go func() {
		line := make([]byte, maxAnswer)
		n, err := file.Read(line)
		said := wire.Request{Verb: wire.Cancel} // an empty line, Ctrl-D
		if code := strings.TrimSpace(string(line[:max(n, 0)])); code != "" {
			said = wire.Request{Verb: wire.Answer, Code: secret.New(code)}
		} else if (err != nil || n == 0) && !inForeground(file) {
			// A terminal that was hung up reads as an end too, but nobody typed that.
			said = wire.Request{Verb: wire.Gone}
		}
		clear(line)
		typed <- said
	}()
	go func() {
		select {
		case said := <-typed:
			t.answer <- said
		case <-t.signals:
			t.answer <- wire.Request{Verb: wire.Cancel}
		}
	}()
	return t, nil
}

// endLine ends the line of a question that was answered elsewhere, or not at all.
func (t *terminal) endLine() { _, _ = t.file.WriteString("\r\n") }

// close takes the question off the terminal and leaves it as it was.
func (t *terminal) close() {
	signal.Stop(t.signals)
	_ = t.file.SetReadDeadline(time.Unix(1, 0)) // ends a read under way
	var now syscall.Termios
	if ioctl(t.file, syscall.TCGETS, unsafe.Pointer(&now)) == nil && inForeground(t.file) {
		_ = ioctl(t.file, syscall.TCSETS, unsafe.Pointer(&t.before))
	}
	_ = t.file.Close()
}

func ioctl(f *os.File, request uintptr, arg unsafe.Pointer) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var errno syscall.Errno
	if err := raw.Control(func(fd uintptr) {
		_, _, errno = syscall.Syscall(syscall.SYS_IOCTL, fd, request, uintptr(arg))
	}); err != nil {
		return err
	}
	if errno != 0 {
		return errno
	}
	return nil
}
