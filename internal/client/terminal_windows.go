package client

import (
	"os"
	"syscall"
	"unsafe"
)

// console is that of the process: its keyboard and its screen, whatever stdin and stdout are.
type console struct {
	in, out syscall.Handle
	before  *uint32 // the mode of the keyboard
}

var (
	kernel32 = syscall.NewLazyDLL("kernel32.dll")

	setConsoleMode    = kernel32.NewProc("SetConsoleMode")
	flushConsoleInput = kernel32.NewProc("FlushConsoleInputBuffer")
	readConsoleInput  = kernel32.NewProc("ReadConsoleInputW")
)

func openConsole() (console, error) {
	in, err := openDevice("CONIN$")
	if err != nil {
		return console{}, err
	}
	out, err := openDevice("CONOUT$")
	if err != nil {
		_ = syscall.CloseHandle(in)
		return console{}, err
	}
	return console{in: in, out: out, before: new(uint32)}, nil
}

func openDevice(name string) (syscall.Handle, error) {
	p, err := syscall.UTF16PtrFromString(name)
	if err != nil {
		return 0, err
	}
	return syscall.CreateFile(p, syscall.GENERIC_READ|syscall.GENERIC_WRITE, syscall.FILE_SHARE_READ|syscall.FILE_SHARE_WRITE, nil, syscall.OPEN_EXISTING, 0, 0)
}

func (c console) close() {
	_ = syscall.CloseHandle(c.in)
	_ = syscall.CloseHandle(c.out)
}

// foreground: there is no job control here, so any program with a console may ask.
func (c console) foreground() bool {
	var mode uint32
	return syscall.GetConsoleMode(c.in, &mode) == nil
}

// name is empty: a console has no name by which another process could find it.
func (c console) name() string { return "" }

// remember keeps the mode of the keyboard for restore.
func (c console) remember() error { return syscall.GetConsoleMode(c.in, c.before) }

// processedInput is ENABLE_PROCESSED_INPUT alone: Ctrl-C is a signal, keys come one by one and are not shown.
const processedInput = 1

// ask puts the keyboard into the mode of a question.
func (c console) ask() {
	_, _, _ = setConsoleMode.Call(uintptr(c.in), processedInput)
	_, _, _ = flushConsoleInput.Call(uintptr(c.in))
}

// inputRecord is INPUT_RECORD of wincontypes.h, of a key.
type inputRecord struct {
	Type     uint16
	_        uint16
	Down     int32
	Repeat   uint16
	Key      uint16
	ScanCode uint16
	Char     uint16
	State    uint32
}

const keyEvent = 1

// key takes a key, if one was pressed.
func (c console) key() (key byte, typed bool, err error) {
	for {
		if state, err := syscall.WaitForSingleObject(c.in, 0); err != nil || state != syscall.WAIT_OBJECT_0 {
			return 0, false, err
		}
		var r inputRecord
		var n uint32
		if ok, _, err := readConsoleInput.Call(uintptr(c.in), uintptr(unsafe.Pointer(&r)), 1, uintptr(unsafe.Pointer(&n))); ok == 0 {
			return 0, false, os.NewSyscallError("ReadConsoleInput", err)
		}
		// Mice, windows, keys that are let go and those without a character are not for us.
		if n == 1 && r.Type == keyEvent && r.Down != 0 && r.Char != 0 && r.Char < 0x80 {
			return byte(r.Char), true, nil
		}
	}
}

// special are the keys for the end of input (Ctrl-Z), to erase, and to erase the line (Escape).
func (c console) special() (eof, erase, kill byte) { return 0x1a, '\b', 0x1b }

// show writes on the screen.
func (c console) show(text string) {
	if p, err := syscall.UTF16FromString(text); err == nil {
		var n uint32
		_ = syscall.WriteConsole(c.out, &p[0], uint32(len(p)-1), &n, nil)
	}
}

// restore gives the keyboard its mode back.
func (c console) restore() { _, _, _ = setConsoleMode.Call(uintptr(c.in), uintptr(*c.before)) }

// dieOf ends this process as Ctrl-C would have.
func dieOf(os.Signal) { os.Exit(statusControlCExit) }

// statusControlCExit is STATUS_CONTROL_C_EXIT of ntstatus.h, as an exit code of 32 bits.
const statusControlCExit = 0xC000013A
