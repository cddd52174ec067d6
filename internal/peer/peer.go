// Package peer owns the question who a process is: which user and process is at the other end of a unix connection,
// which user holds a socket on loopback, and whether a process is still the one that it was. It reports what the kernel
// says; what cannot be known is empty or an error, never a guess. credproc links it, so it does without package net.
package peer

import (
	"errors"
	"fmt"
	"iter"
	"path/filepath"
	"strings"
	"syscall"
)

var (
	// ErrStranger says that the process at the other end belongs to another user. Unix returns it on Windows alone: on
	// other systems the caller compares the UID.
	ErrStranger = errors.New("the other end of the socket belongs to another user")
	// ErrNobody says that no user is known to hold a socket.
	ErrNobody = errors.New("nobody is known to own the socket")
)

// Process is one process of this machine. Its facts are read when they are asked for, as they are then. They are
// evidence for a reader, not proof, and empty where the system does not tell. Records hold it by PID and start.
type Process struct {
	PID int `json:"pid"`
	// Start is when the process started, in the kernel's words; on Linux after the boot id. It tells the process from a
	// later one with its PID. It is empty until Find has read it.
	Start string `json:"start"`
}

// Peer is the process at the other end of a unix connection, with its effective user when it connected or began to
// listen. On Windows, where users have no numbers, the UID of our own processes is that of os.Getuid, -1.
type Peer struct {
	UID int
	Process
}

// Unix returns who is at the other end of a unix connection. It does not wait. On Windows the error is ErrStranger for
// a process of another user, one that has ended, and one that may not be looked at.
func Unix(conn syscall.Conn) (p Peer, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return Peer{}, err
	}
	if cerr := raw.Control(func(fd uintptr) { p, err = UnixFD(int(fd)) }); cerr != nil {
		return Peer{}, cerr
	}
	return p, err
}

// facts are what the system says of a process in one reading.
type facts struct {
	name     string // the kernel's, which may be cut short
	parent   int
	start    string
	ended    bool // and not yet collected by its parent
	terminal int  // device number of its controlling terminal; 0 for none, and where it is not read
}

// Find returns the process that has this number now. The error says that it has ended, or cannot be looked at.
func Find(pid int) (Process, error) {
	f, err := look(pid)
	switch {
	case err != nil:
		return Process{}, err
	case f.ended:
		return Process{}, fmt.Errorf("process %d has ended", pid)
	case f.start == "":
		return Process{}, fmt.Errorf("the start of process %d cannot be read", pid)
	}
	return Process{pid, f.start}, nil
}

// Running reports whether a process that Find returned still runs. It does not while Start is empty.
func (p Process) Running() bool {
	now, err := Find(p.PID)
	return err == nil && now == p
}

// look reads the facts of the process, and fails where its number belongs to another one now.
func (p Process) look() (facts, error) {
	f, err := look(p.PID)
	if err == nil && p.Start != "" && p.Start != f.start {
		err = fmt.Errorf("process %d has ended", p.PID)
	}
	return f, err
}

// Program returns the name of the process and the path of the program that its parent runs. It costs one reading of
// the process, and one of the path.
func (p Process) Program() (name, parent string) {
	f, err := p.look()
	if err != nil {
		return "", ""
	}
	return f.name, Process{PID: f.parent}.Executable()
}

// Parents yields the parent of the process, then the parent's parent and so on, each as Find returns it. It stops where
// the next one cannot be known, or ends while it is looked at.
func (p Process) Parents() iter.Seq[Process] {
	return func(yield func(Process) bool) {
		for {
			parent, err := p.parent()
			if err != nil || !yield(parent) {
				return
			}
			p = parent
		}
	}
}

// parent finds the parent. The process names it before and after: so its number has not passed to another process.
func (p Process) parent() (Process, error) {
	before, err := p.look()
	if err != nil {
		return Process{}, err
	}
	parent, err := Find(before.parent)
	if err != nil {
		return Process{}, err
	}
	after, err := p.look()
	if err != nil || after.parent != before.parent || after.start != before.start {
		return Process{}, fmt.Errorf("the parent of process %d has ended", p.PID)
	}
	return parent, nil
}

// Tool is the name by which a person knows the program that started the process: that of the script, where an
// interpreter runs one.
func (p Process) Tool() string {
	parent, err := p.parent()
	if err != nil {
		return ""
	}
	return toolOf(parent.arguments())
}

func toolOf(arguments []string) string {
	if len(arguments) == 0 {
		return ""
	}
	name := filepath.Base(arguments[0])
	switch strings.TrimRight(name, "0123456789.") {
	case "python", "node", "ruby", "perl", "bash", "dash", "sh", "zsh":
		if len(arguments) > 1 && arguments[1] != "" && arguments[1][0] != '-' {
			name = filepath.Base(arguments[1])
		}
	}
	return strings.TrimPrefix(name, "-") // of a login shell
}
