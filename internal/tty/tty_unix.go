//go:build unix

package tty

import (
	"errors"
	"os"
	"os/signal"
	"syscall"
	"unsafe"
)

const device = "/dev/tty"

// Console is the controlling terminal. It uses a plain descriptor and not an os.File: a prompt must not wait with
// poll until the terminal is readable; see Ask.
type Console struct {
	fd     int
	before *syscall.Termios
}

// Open opens the controlling terminal to read single keys.
func Open() (Console, error) {
	fd, err := syscall.Open(device, syscall.O_RDWR|syscall.O_NOCTTY|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	return Console{fd: fd, before: new(syscall.Termios)}, err
}

// Files opens the controlling terminal for whole lines: a file to read and a file to write, which are the same
// here.
func Files() (in, out *os.File, err error) {
	in, err = os.OpenFile(device, os.O_RDWR, 0)
	return in, in, err
}

// Hide turns off the echo of a terminal from which lines are read. Call again before each read: a shell turns echo on
// when it stops the program (Ctrl-Z). While the program is in the foreground, echo is also turned off again when it
// continues. show restores the mode, also after f is closed.
func Hide(f *os.File) (again func() error, show func(), err error) {
	syscall.ForkLock.RLock()
	fd, err := syscall.Dup(int(f.Fd()))
	if err == nil {
		syscall.CloseOnExec(fd)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, nil, err
	}
	c := Console{fd: fd, before: new(syscall.Termios)}
	if err := c.Remember(); err != nil {
		c.Close()
		return nil, nil, err
	}
	mode := *c.before
	mode.Lflag = mode.Lflag&^syscall.ECHO | syscall.ICANON | syscall.ISIG
	mode.Iflag |= syscall.ICRNL
	again = func() error { return ioctl(c.fd, setMode, unsafe.Pointer(&mode)) }
	if err := again(); err != nil {
		c.Close()
		return nil, nil, err
	}
	continued, ended := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(continued, syscall.SIGCONT)
	go func() {
		defer close(ended)
		for range continued {
			if c.Foreground() {
				_ = again()
			}
		}
	}()
	return again, func() {
		signal.Stop(continued)
		close(continued)
		<-ended
		_ = ioctl(c.fd, setMode, unsafe.Pointer(c.before))
		c.Close()
	}, nil
}

// Keys makes reads of a terminal return keys as they are typed, for a text that may be too long for a line: of a line,
// a terminal keeps at most 4096 bytes, or 1024 on macOS, and drops the rest. The caller edits the text itself. Hide
// comes first. lines makes reads return lines again.
func Keys(f *os.File) (lines func(), err error) {
	var before syscall.Termios
	if err := ioctl(int(f.Fd()), getMode, unsafe.Pointer(&before)); err != nil {
		return nil, err
	}
	mode := before
	mode.Lflag &^= syscall.ICANON
	mode.Cc[syscall.VMIN], mode.Cc[syscall.VTIME] = 1, 0
	if err := ioctl(int(f.Fd()), setMode, unsafe.Pointer(&mode)); err != nil {
		return nil, err
	}
	return func() { _ = ioctl(int(f.Fd()), setMode, unsafe.Pointer(&before)) }, nil
}

// Close closes the terminal.
func (c Console) Close() { _ = syscall.Close(c.fd) }

// Foreground reports whether this process may prompt on the terminal: a background job must not.
func (c Console) Foreground() bool {
	var group int32
	err := ioctl(c.fd, syscall.TIOCGPGRP, unsafe.Pointer(&group))
	return err == nil && int(group) == syscall.Getpgrp()
}

// Reads reports whether a program reads single keys or a hidden line from the terminal, as a prompt does.
func (c Console) Reads() bool {
	var mode syscall.Termios
	err := ioctl(c.fd, getMode, unsafe.Pointer(&mode))
	return err == nil && mode.Lflag&(syscall.ICANON|syscall.ECHO) != syscall.ICANON|syscall.ECHO
}

// Remember saves the mode of the terminal for Restore. If another prompt is open, that one may restore the mode before
// this one does. So this one must not restore the mode of a prompt.
func (c Console) Remember() error {
	err := ioctl(c.fd, getMode, unsafe.Pointer(c.before))
	if err == nil && isPrompt(c.before) {
		c.before.Lflag |= syscall.ICANON | syscall.ECHO
		c.before.Cc[syscall.VMIN] = 1
	}
	return err
}

// isPrompt reports whether a mode is the one that Ask sets. It is false where other programs set such a mode too.
func isPrompt(mode *syscall.Termios) bool {
	return keysBeforePoll > 1 && mode.Lflag&(syscall.ICANON|syscall.ECHO) == 0 && mode.Cc[syscall.VMIN] == keysBeforePoll
}

// Ask puts the terminal into the mode for a prompt.
//
// A pager in the same pipeline (aws … | less) waits for the pipe and the keyboard at once, and reads a key
// whenever poll(2) reports one. So Ask sets a mode in which poll reports nothing before 255 keys were pressed
// (VMIN, see termios(3)), while a read returns each key at once.
func (c Console) Ask() {
	mode := *c.before
	mode.Lflag = mode.Lflag&^(syscall.ICANON|syscall.ECHO) | syscall.ISIG
	mode.Iflag |= syscall.ICRNL
	mode.Cc[syscall.VMIN], mode.Cc[syscall.VTIME] = keysBeforePoll, 0
	_ = ioctl(c.fd, setMode, unsafe.Pointer(&mode))
	c.Flush()
}

// Key returns a key, if one was pressed.
func (c Console) Key() (key byte, typed bool, err error) {
	var b [1]byte
	n, err := syscall.Read(c.fd, b[:])
	switch {
	case err == syscall.EAGAIN || err == syscall.EINTR:
		return 0, false, nil
	case err == nil && n == 0:
		err = errors.New("the terminal was hung up")
	}
	return b[0], err == nil, err
}

// Special returns the terminal's special keys: end of input, erase, and erase the line.
func (c Console) Special() (eof, erase, kill byte) {
	return c.before.Cc[syscall.VEOF], c.before.Cc[syscall.VERASE], c.before.Cc[syscall.VKILL]
}

// Columns returns the width of the terminal, or 0 if the terminal does not tell.
func (c Console) Columns() int {
	var size struct{ rows, columns, x, y uint16 }
	if ioctl(c.fd, syscall.TIOCGWINSZ, unsafe.Pointer(&size)) != nil {
		return 0
	}
	return int(size.columns)
}

// Show writes to the terminal. It does not wait if the terminal accepts no more.
func (c Console) Show(text string) { _, _ = syscall.Write(c.fd, []byte(text)) }

// Restore restores the mode of the terminal, if this process is still in its foreground. A process that ignores SIGTTOU
// may do it from the background too, and does unless another program has set its own mode meanwhile.
func (c Console) Restore() {
	if c.Foreground() || signal.Ignored(syscall.SIGTTOU) && c.isPrompt() {
		_ = ioctl(c.fd, setMode, unsafe.Pointer(c.before))
	}
}

// isPrompt reports whether the terminal is in the mode of a prompt.
func (c Console) isPrompt() bool {
	var mode syscall.Termios
	return ioctl(c.fd, getMode, unsafe.Pointer(&mode)) == nil && isPrompt(&mode)
}

// DieOf ends this process by a signal.
func DieOf(s os.Signal) { _ = syscall.Kill(os.Getpid(), s.(syscall.Signal)) }

func ioctl(fd int, request uintptr, arg unsafe.Pointer) error {
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), request, uintptr(arg)); errno != 0 {
		return errno
	}
	return nil
}
