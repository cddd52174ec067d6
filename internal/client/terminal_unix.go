//go:build unix

package client

import (
	"errors"
	"os"
	"syscall"
	"unsafe"

	"broker/internal/peer"
)

// console is the controlling terminal. The descriptor is not an os.File, since waiting for a
// terminal to become readable is what the question has to avoid; see ask.
type console struct {
	tty    int
	before *syscall.Termios
}

func openConsole() (console, error) {
	tty, err := syscall.Open("/dev/tty", syscall.O_RDWR|syscall.O_NOCTTY|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	return console{tty: tty, before: new(syscall.Termios)}, err
}

func (c console) close() { _ = syscall.Close(c.tty) }

func (c console) foreground() bool {
	var group int32
	err := ioctl(c.tty, syscall.TIOCGPGRP, unsafe.Pointer(&group))
	return err == nil && int(group) == syscall.Getpgrp()
}

func (c console) name() string { return peer.Process{PID: os.Getpid()}.Terminal() }

// remember keeps the mode of the terminal for restore.
func (c console) remember() error { return ioctl(c.tty, getMode, unsafe.Pointer(c.before)) }

// ask puts the terminal into the mode of a question.
//
// A pager in the same pipeline (aws … | less) waits for the pipe and for the
// keyboard at once, and takes a key from us whenever poll(2) tells it of one.
// So the terminal is put into a mode in which poll tells nothing before 255
// keys were pressed (VMIN, see termios(3)), while a read takes each at once.
func (c console) ask() {
	mode := *c.before
	mode.Lflag = mode.Lflag&^(syscall.ICANON|syscall.ECHO) | syscall.ISIG
	mode.Iflag |= syscall.ICRNL
	mode.Cc[syscall.VMIN], mode.Cc[syscall.VTIME] = keysBeforePoll, 0
	_ = ioctl(c.tty, setMode, unsafe.Pointer(&mode))
	c.flush()
}

// key takes a key, if one was pressed.
func (c console) key() (key byte, typed bool, err error) {
	var b [1]byte
	n, err := syscall.Read(c.tty, b[:])
	switch {
	case err == syscall.EAGAIN || err == syscall.EINTR:
		return 0, false, nil
	case err == nil && n == 0:
		err = errors.New("the terminal was hung up")
	}
	return b[0], err == nil, err
}

// special are the keys of the person's choice: end of input, erase, erase the line.
func (c console) special() (eof, erase, kill byte) {
	return c.before.Cc[syscall.VEOF], c.before.Cc[syscall.VERASE], c.before.Cc[syscall.VKILL]
}

// show writes on the terminal. One that takes no more is not waited for.
func (c console) show(text string) { _, _ = syscall.Write(c.tty, []byte(text)) }

// restore gives the terminal its mode back, if it still is ours to give.
func (c console) restore() {
	if c.foreground() {
		_ = ioctl(c.tty, setMode, unsafe.Pointer(c.before))
	}
}

// dieOf ends this process by a signal.
func dieOf(s os.Signal) { _ = syscall.Kill(os.Getpid(), s.(syscall.Signal)) }

func ioctl(fd int, request uintptr, arg unsafe.Pointer) error {
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), request, uintptr(arg)); errno != 0 {
		return errno
	}
	return nil
}
