package tty

import (
	"os"
	"syscall"
	"unsafe"
)

const keyboard, screen = "CONIN$", "CONOUT$"

// Console is the console of this process: its keyboard and its screen, whatever stdin and stdout are.
type Console struct {
	in, out syscall.Handle
	before  *uint32 // the mode of the keyboard
}

var (
	kernel32 = syscall.NewLazyDLL("kernel32.dll")

	setConsoleMode    = kernel32.NewProc("SetConsoleMode")
	flushConsoleInput = kernel32.NewProc("FlushConsoleInputBuffer")
	readConsoleInput  = kernel32.NewProc("ReadConsoleInputW")
)

// Open opens the console to read single keys.
func Open() (Console, error) {
	in, err := openDevice(keyboard)
	if err != nil {
		return Console{}, err
	}
	out, err := openDevice(screen)
	if err != nil {
		_ = syscall.CloseHandle(in)
		return Console{}, err
	}
	return Console{in: in, out: out, before: new(uint32)}, nil
}

func openDevice(name string) (syscall.Handle, error) {
	p, err := syscall.UTF16PtrFromString(name)
	if err != nil {
		return 0, err
	}
	return syscall.CreateFile(p, syscall.GENERIC_READ|syscall.GENERIC_WRITE,
		syscall.FILE_SHARE_READ|syscall.FILE_SHARE_WRITE, nil, syscall.OPEN_EXISTING, 0, 0)
}

// Files opens the console for whole lines: a file to read and a file to write.
func Files() (in, out *os.File, err error) {
	c, err := Open()
	if err != nil {
		return nil, nil, err
	}
	return os.NewFile(uintptr(c.in), keyboard), os.NewFile(uintptr(c.out), screen), nil
}

// Hide turns off the echo of a console from which lines are read. again repeats that, before another read. show
// restores the mode, also after f is closed.
func Hide(f *os.File) (again func() error, show func(), err error) {
	self, err := syscall.GetCurrentProcess()
	if err != nil {
		return nil, nil, err
	}
	c := Console{before: new(uint32)}
	err = syscall.DuplicateHandle(self, syscall.Handle(f.Fd()), self, &c.in, 0, false, syscall.DUPLICATE_SAME_ACCESS)
	if err != nil {
		return nil, nil, err
	}
	if err := c.Remember(); err != nil {
		_ = syscall.CloseHandle(c.in)
		return nil, nil, err
	}
	again = func() error {
		if ok, _, err := setConsoleMode.Call(uintptr(c.in), processedInput|lineInput); ok == 0 {
			return os.NewSyscallError("SetConsoleMode", err)
		}
		return nil
	}
	if err := again(); err != nil {
		_ = syscall.CloseHandle(c.in)
		return nil, nil, err
	}
	return again, func() {
		c.Restore()
		_ = syscall.CloseHandle(c.in)
	}, nil
}

// Keys makes reads of a console return keys as they are typed, for a text that may be too long for a line. The caller
// edits the text itself. Hide comes first. lines makes reads return lines again.
func Keys(f *os.File) (lines func(), err error) {
	set := func(mode uintptr) error {
		if ok, _, err := setConsoleMode.Call(f.Fd(), mode); ok == 0 {
			return os.NewSyscallError("SetConsoleMode", err)
		}
		return nil
	}
	return func() { _ = set(processedInput | lineInput) }, set(processedInput)
}

// Close closes the console.
func (c Console) Close() {
	_ = syscall.CloseHandle(c.in)
	_ = syscall.CloseHandle(c.out)
}

// Foreground reports whether this process has a console. Windows has no job control, so any program with a console
// may prompt.
func (c Console) Foreground() bool {
	var mode uint32
	return syscall.GetConsoleMode(c.in, &mode) == nil
}

// Reads reports whether a program reads single keys or a hidden line from the console, as a prompt does.
func (c Console) Reads() bool {
	var mode uint32
	err := syscall.GetConsoleMode(c.in, &mode)
	return err == nil && mode&(lineInput|echoInput) != lineInput|echoInput
}

// Remember saves the mode of the keyboard for Restore.
func (c Console) Remember() error { return syscall.GetConsoleMode(c.in, c.before) }

// processedInput is ENABLE_PROCESSED_INPUT: Ctrl-C is a signal; keys are read one by one and not echoed.
const processedInput = 1

// lineInput is ENABLE_LINE_INPUT: a read returns a whole line.
const lineInput = 2

// echoInput is ENABLE_ECHO_INPUT: what is typed is shown.
const echoInput = 4

// Ask puts the keyboard into the mode for a prompt.
func (c Console) Ask() {
	_, _, _ = setConsoleMode.Call(uintptr(c.in), processedInput)
	c.Flush()
}

// Flush drops input that was not read yet.
func (c Console) Flush() { _, _, _ = flushConsoleInput.Call(uintptr(c.in)) }

// inputRecord is INPUT_RECORD of wincontypes.h, for a key event.
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

// Key returns a key, if one was pressed.
func (c Console) Key() (key byte, typed bool, err error) {
	for {
		if state, err := syscall.WaitForSingleObject(c.in, 0); err != nil || state != syscall.WAIT_OBJECT_0 {
			return 0, false, err
		}
		var r inputRecord
		var n uint32
		if ok, _, err := readConsoleInput.Call(uintptr(c.in), uintptr(unsafe.Pointer(&r)), 1,
			uintptr(unsafe.Pointer(&n))); ok == 0 {
			return 0, false, os.NewSyscallError("ReadConsoleInput", err)
		}
		// Skip events of the mouse and of windows, released keys, and keys without a character.
		if n == 1 && r.Type == keyEvent && r.Down != 0 && r.Char != 0 && r.Char < 0x80 {
			return byte(r.Char), true, nil
		}
	}
}

// Special returns the keys for the end of input (Ctrl-Z), to erase, and to erase the line (Escape).
func (c Console) Special() (eof, erase, kill byte) { return 0x1a, '\b', 0x1b }

// Columns returns 0: the console of Windows folds lines by itself.
func (c Console) Columns() int { return 0 }

// Show writes to the screen.
func (c Console) Show(text string) {
	if p, err := syscall.UTF16FromString(text); err == nil {
		var n uint32
		_ = syscall.WriteConsole(c.out, &p[0], uint32(len(p)-1), &n, nil)
	}
}

// Restore restores the mode of the keyboard.
func (c Console) Restore() { _, _, _ = setConsoleMode.Call(uintptr(c.in), uintptr(*c.before)) }

// DieOf ends this process with the exit code of Ctrl-C.
func DieOf(os.Signal) { os.Exit(statusControlCExit) }

// statusControlCExit is STATUS_CONTROL_C_EXIT of ntstatus.h, as a 32-bit exit code.
const statusControlCExit = 0xC000013A
