// Package peer identifies processes: which user and process is at the other end of a unix connection, which user
// owns a loopback socket, and whether a process is still the same one. It reports what the kernel says. Unknown
// facts are empty or an error, never a guess. credproc links this package, so it does not use package net.
package peer

import (
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

var (
	// ErrStranger means that the process at the other end belongs to another user. Unix returns it only on
	// Windows; on other systems the caller compares the UID.
	ErrStranger = errors.New("the process at the other end of the socket belongs to another user")
	// ErrNobody means that no owner of a socket is known.
	ErrNobody = errors.New("the owner of the socket is unknown")
	// ErrEnded means that the process at the other end has ended. Its PID may belong to another process by now.
	ErrEnded = errors.New("the process at the other end of the socket has ended")
)

// Process is one process of this machine. Its facts are read when a method is called. They are evidence for a
// reader, not proof, and empty if the system does not report them. Records store it as PID and Start.
type Process struct {
	PID int `json:"pid"`
	// Start is when the process started, in the kernel's format; on Linux with the boot id before it. It
	// distinguishes the process from a later one with the same PID. It is empty until Find has read it.
	Start string `json:"start"`
}

// Peer is the process at the other end of a unix connection. UID is its effective user when it connected or began
// to listen. On Windows, where users have no numbers, the UID of our own processes is that of os.Getuid, -1.
type Peer struct {
	UID int
	Process
}

// Unix returns the process at the other end of a unix connection, with its Start if the system tells. It does not
// block. The error is ErrEnded if that process has ended. On Windows, it is ErrStranger for a process of another user,
// one that has ended, and one that may not be inspected.
func Unix(conn syscall.Conn) (p Peer, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return Peer{}, err
	}
	if cerr := raw.Control(func(fd uintptr) {
		if p, err = UnixFD(int(fd)); err != nil || p.PID <= 0 { // 0: a process that this system cannot see
			return
		}
		if found, e := Find(p.PID); e == nil {
			p.Process = found
		} else if _, e := Find(os.Getpid()); e != nil {
			return // this system tells nothing
		}
		if ended, _ := left(int(fd)); ended || p.Start == "" {
			err = ErrEnded
		}
	}); cerr != nil {
		return Peer{}, cerr
	}
	return p, err
}

// Left reports whether the process at the other end of a unix connection has ended. If the system does not tell, known
// is false.
func Left(conn syscall.Conn) (ended, known bool) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return false, false
	}
	if raw.Control(func(fd uintptr) { ended, known = left(int(fd)) }) != nil {
		return false, false
	}
	return ended, known
}

// facts are what the system reports about a process at one moment.
type facts struct {
	name     string // the kernel's name, which may be truncated
	parent   int
	start    string
	ended    bool // a zombie
	terminal int  // device number of its controlling terminal; 0 if there is none, or if it is not read
	// memory is where the kernel put the program and its arguments. It changes with each execve(2). It is empty if the
	// kernel hides it.
	memory string
}

// Find returns the process that has this PID now. The error means that it has ended, or cannot be inspected.
func Find(pid int) (Process, error) {
	f, err := look(pid)
	switch {
	case err != nil:
		return Process{}, err
	case f.ended:
		return Process{}, fmt.Errorf("process %d has ended", pid)
	case f.start == "":
		return Process{}, fmt.Errorf("cannot read the start of process %d", pid)
	}
	return Process{pid, f.start}, nil
}

// Running reports whether a process that Find returned still runs. It returns false if Start is empty.
func (p Process) Running() bool {
	now, err := Find(p.PID)
	return err == nil && now == p
}

// look reads the facts of the process. It fails if the PID now belongs to another process.
func (p Process) look() (facts, error) {
	f, err := look(p.PID)
	if err == nil && p.Start != "" && p.Start != f.start {
		err = fmt.Errorf("process %d has ended", p.PID)
	}
	return f, err
}

// Description is what the system reports about a process at one moment.
type Description struct {
	Process
	Name       string   // the kernel's name, which may be truncated
	Executable string   // see Process.Executable
	Arguments  []string // see Process.Arguments; fewer
	Dir        string   // see Process.Dir; only of the first process of a Lineage that has one
	Terminal   string   // see Process.Terminal; only of the first process of a Lineage
}

// MaxLineage is how many processes a Lineage has: the process itself and eight parents.
const MaxLineage = 9

// Program returns the name of the process, and the path of the program that its parent runs. It reads the process
// once, and the path once.
func (p Process) Program() (name, parent string) {
	f, err := p.look()
	if err != nil {
		return "", ""
	}
	return f.name, Process{PID: f.parent}.Executable()
}

// Parents yields the parent of the process, then the parent's parent and so on, each as returned by Find. It stops
// if the next one is unknown, or ends during the look.
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

// parent finds the parent. It reads the parent's PID before and after, so that the PID cannot have passed to
// another process.
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

// Tool returns the name by which people know the program that started the process. If an interpreter runs a
// script, it is the name of the script. A shell that only runs a helper is left out: see Helper.
func (p Process) Tool() string {
	for parent := range p.Parents() {
		if arguments := parent.Arguments(); !Helper(arguments) {
			return ToolOf(arguments)
		}
	}
	return ""
}

// ToolOf returns the name by which people know a program with these arguments. The first one is its own name.
func ToolOf(arguments []string) string {
	if words := Known(arguments); len(words) > 0 {
		return words[0]
	}
	return ""
}

// Known returns a command line as people know it: the base name of the program, or that of the script that an
// interpreter runs, and its arguments. Of `broker exec`, it is the command that it is about to become.
func Known(arguments []string) []string {
	if len(arguments) == 0 {
		return nil
	}
	name := filepath.Base(arguments[0])
	switch strings.TrimRight(name, "0123456789.") {
	case "broker":
		if i := slices.Index(arguments, "--"); i >= 0 && i+1 < len(arguments) {
			return Known(arguments[i+1:])
		}
	case "python", "node", "ruby", "perl", "bash", "dash", "sh", "zsh":
		if len(arguments) > 1 && arguments[1] != "" && arguments[1][0] != '-' {
			arguments = arguments[1:]
			name = filepath.Base(arguments[0])
		}
	}
	return append([]string{strings.TrimPrefix(name, "-")}, arguments[1:]...) // login shells begin with a dash
}

// helper is the program that AWS tools run for credentials.
const helper = "credproc"

// Helper reports whether a program with these arguments is credproc, or a shell that runs nothing else. Most SDKs run
// the line of credential_process with a shell: sh -c 'credproc prod'.
func Helper(arguments []string) bool {
	words := Known(arguments)
	if len(words) != 3 || words[1] != "-c" || !slices.Contains([]string{"sh", "bash", "dash", "zsh"}, words[0]) {
		return len(words) > 0 && words[0] == helper
	}
	if strings.ContainsAny(words[2], ";&|\n") {
		return false
	}
	script, end := strings.TrimSpace(words[2]), " "
	if strings.HasPrefix(script, `"`) || strings.HasPrefix(script, "'") {
		script, end = script[1:], script[:1]
	}
	program, _, _ := strings.Cut(script, end)
	return filepath.Base(program) == helper
}
