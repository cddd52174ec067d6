package peer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"broker/internal/system"
)

// UnixFD is like Unix, for a descriptor. It uses SO_PEERCRED of unix(7): the credentials at the time of connect(2)
// or listen(2).
func UnixFD(fd int) (Peer, error) {
	cred, err := syscall.GetsockoptUcred(fd, syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	if err != nil {
		return Peer{}, fmt.Errorf("find the process at the other end of the socket: %w", err)
	}
	return Peer{int(cred.Uid), Process{PID: int(cred.Pid)}}, nil
}

const (
	peerPidfd = 77 // SO_PEERPIDFD, the same on the architectures of Broker
	readable  = 1  // POLLIN
)

// left reports whether the process that connected has ended. Linux before 6.5 does not tell.
func left(fd int) (ended, known bool) {
	pidfd, err := syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, peerPidfd)
	if err != nil {
		ended = errors.Is(err, syscall.ESRCH) || errors.Is(err, syscall.EINVAL)
		return ended, ended
	}
	defer func() { _ = syscall.Close(pidfd) }()
	// A pidfd is readable once the whole process has ended, even if its parent has not waited for it: pidfd_open(2).
	poll := struct {
		fd              int32
		events, revents int16
	}{fd: int32(pidfd), events: readable}
	var now syscall.Timespec
	n, _, errno := syscall.Syscall6(syscall.SYS_PPOLL, uintptr(unsafe.Pointer(&poll)), 1,
		uintptr(unsafe.Pointer(&now)), 0, 0, 0)
	return n == 1, errno == 0
}

func (p Process) file(name string) string { return "/proc/" + strconv.Itoa(p.PID) + "/" + name }

// ofThread returns the path of a file of another thread than the first, or "". Once the first thread of a process has
// ended, its own files are empty, while the process goes on.
func (p Process) ofThread(name string) string {
	tasks, _ := os.ReadDir(p.file("task"))
	for _, task := range tasks {
		if task.Name() != strconv.Itoa(p.PID) {
			return p.file("task/" + task.Name() + "/" + name)
		}
	}
	return ""
}

// look reads proc_pid_stat(5). execve(2) does not change the start time.
func look(pid int) (facts, error) {
	for {
		stat, err := system.ReadProc(Process{PID: pid}.file("stat"))
		if err != nil {
			return facts{}, fmt.Errorf("process %d does not exist", pid)
		}
		// The line is "pid (name) state parent group session terminal …", where the name may contain anything. Of
		// the fields after the name, number 17 is the count of threads, and number 19 is the start time. Numbers 23
		// to 25 and 45 to 48 are addresses: of the code, of the stack, of the arguments and of the environment.
		from, to := bytes.IndexByte(stat, '('), bytes.LastIndexByte(stat, ')')
		if from < 0 || to+2 > len(stat) || to < from {
			return facts{}, fmt.Errorf("cannot read process %d", pid)
		}
		fields := strings.Split(string(stat[to+2:]), " ")
		if len(fields) < 49 {
			return facts{}, fmt.Errorf("cannot read process %d", pid)
		}
		state, threads := fields[0], fields[17]
		if state == "X" || state == "x" || threads == "0" {
			continue // reaped meanwhile: it is gone, unless another thread replaced the first
		}
		f := facts{name: string(stat[from+1 : to])}
		f.parent, _ = strconv.Atoi(fields[1])
		f.terminal, _ = strconv.Atoi(fields[4])
		// A process continues without its first thread: during execve(2), the first thread may briefly be a
		// zombie.
		f.ended = state == "Z" && threads == "1"
		if boot := system.BootID(); boot != "" { // the ticks of proc(5) count from the boot
			f.start = boot + "/" + fields[19]
		}
		if fields[25] != "0" && fields[45] != "0" {
			f.memory = strings.Join(append(fields[23:26:26], fields[45:49]...), " ")
		}
		return f, nil
	}
}

// Executable returns the path of the program that the process runs. It returns "" for a process that is not
// dumpable.
func (p Process) Executable() string { return p.link("exe") }

// Dir returns the working directory of the process. It returns "" for a process that is not dumpable.
func (p Process) Dir() string { return p.link("cwd") }

func (p Process) link(name string) string {
	path := p.readLink(name)
	if path != "" && p.Start != "" {
		if _, err := p.look(); err != nil { // it may be that of a later process
			return ""
		}
	}
	return path
}

func (p Process) readLink(name string) string {
	path, err := os.Readlink(p.file(name))
	if errors.Is(err, fs.ErrNotExist) {
		path, _ = os.Readlink(p.ofThread(name))
	}
	return path
}

// Arguments returns the command line of the process, with the program's name first. The process may have changed it.
func (p Process) Arguments() []string {
	list := p.readArguments(mostArguments)
	if list != nil && p.Start != "" {
		if _, err := p.look(); err != nil { // it may be that of a later process
			return nil
		}
	}
	return list
}

// Lineage describes the process, its parent, the parent's parent and so on: at most MaxLineage processes. It is
// cheaper than the methods for single facts, because it reads each file of a process once, and remembers programs of
// parents that still run. What it says about the parents of a parent is at most a second old.
func (p Process) Lineage() (list []Description) {
	dir := ""
	for len(list) < MaxLineage && p.PID > 0 {
		var before facts
		if len(list) > 0 && dir != "" {
			if f, err := p.look(); err == nil {
				before = f
				known, ok := remembered(p.PID, f)
				if ok && notAfter(f.start, list[len(list)-1].Start) {
					list = append(list, known.Description)
					if len(list) == 2 && known.parent == f.parent && time.Since(known.looked) < lookAgain {
						return append(list, known.above...)
					}
					p = Process{PID: f.parent}
					continue
				}
			}
		}
		d := Description{Arguments: p.readArguments(mostOfLineage)}
		d.Executable = p.readLink("exe")
		if dir == "" {
			d.Dir = p.readLink("cwd")
			dir = d.Dir
		}
		// Look last. If the process started before its child, all that was read before is its own too, since the
		// child has had no other parent with this PID.
		f, err := p.look()
		if err != nil || len(list) > 0 && !notAfter(f.start, list[len(list)-1].Start) {
			break
		}
		d.Process, d.Name = Process{p.PID, f.start}, f.name
		if len(list) == 0 {
			d.Terminal = terminalOf(f.terminal)
		} else if d.Dir == "" && before.isSameProgram(f) && d.Arguments != nil { // in an execve it has none for a moment
			remember(d, f)
		}
		list = append(list, d)
		p = Process{PID: f.parent}
	}
	rememberAbove(list)
	return list
}

// programs remembers what Lineage read about parents: the tools and shells of a person start many processes. It is
// emptied when it is full.
var programs = struct {
	sync.Mutex
	of map[int]program
}{of: map[int]program{}}

// program is what is remembered about a parent. Its memory, start and name say whether it is still the same program.
type program struct {
	memory string
	parent int
	Description
	above  []Description // the parents of this parent, when it was the parent of the first process
	looked time.Time     // when they were read
}

const (
	maxPrograms = 256
	// lookAgain is how long the parents of a parent are remembered. The parent's own parent is compared each time.
	lookAgain = time.Second
)

func remember(d Description, f facts) {
	if f.memory == "" {
		return
	}
	programs.Lock()
	defer programs.Unlock()
	if len(programs.of) >= maxPrograms {
		clear(programs.of)
	}
	programs.of[d.PID] = program{memory: f.memory, parent: f.parent, Description: d}
}

// rememberAbove remembers the parents of the second process of a list.
func rememberAbove(list []Description) {
	if len(list) < 2 {
		return
	}
	programs.Lock()
	defer programs.Unlock()
	if known, ok := programs.of[list[1].PID]; ok && known.Start == list[1].Start {
		known.above, known.looked = list[2:len(list):len(list)], time.Now()
		if len(list) > 2 {
			known.parent = list[2].PID
		}
		programs.of[list[1].PID] = known
	}
}

// remembered returns what was read about the program that a process still runs.
func remembered(pid int, f facts) (program, bool) {
	programs.Lock()
	defer programs.Unlock()
	known, ok := programs.of[pid]
	return known, ok && facts{memory: known.memory, start: known.Start, name: known.Name}.isSameProgram(f)
}

// isSameProgram reports whether a process has run no other program between two looks.
func (f facts) isSameProgram(g facts) bool {
	return f.memory == g.memory && f.start == g.start && f.name == g.name
}

// notAfter reports whether a process started before or with another one, by Process.Start.
func notAfter(start, other string) bool {
	ticks := func(s string) int64 {
		n, _ := strconv.ParseInt(s[strings.LastIndexByte(s, '/')+1:], 10, 64)
		return n
	}
	return ticks(start) <= ticks(other)
}

// How many bytes of a command line are read: by Arguments as much as the kernel allows (MAX_ARG_STRINGS of execve(2)
// is three quarters of 8 MiB), by Lineage less.
const (
	mostArguments = 6 << 20
	mostOfLineage = 8 << 10
)

// readArguments reads the first bytes of the command line, up to the end of an argument.
func (p Process) readArguments(most int) []string {
	if list := readArguments(p.file("cmdline"), most); list != nil {
		return list
	}
	return readArguments(p.ofThread("cmdline"), most)
}

func readArguments(path string, most int) []string {
	fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer func() { _ = syscall.Close(fd) }()
	b := make([]byte, 0, mostOfLineage)
	for len(b) == 0 || len(b) == cap(b) && len(b) < most { // a full buffer means that there may be more
		b = slices.Grow(b, 1)
		n, err := syscall.Read(fd, b[len(b):min(cap(b), most)])
		if err != nil {
			return nil
		}
		if n == 0 {
			break
		}
		b = b[:len(b)+n]
	}
	if len(b) == 0 {
		return nil
	}
	line, cut := string(b), len(b) == most
	if cut { // no part of an argument: a secret may not be recognized by its part
		line = line[:strings.LastIndexByte(line, 0)+1]
	}
	list := strings.Split(strings.TrimSuffix(line, "\x00"), "\x00")
	if cut {
		list = append(list, "…")
	}
	return list
}

// pseudoTerminal is UNIX98_PTY_SLAVE_MAJOR of linux/major.h.
const pseudoTerminal = 136

// Terminal returns the path of the controlling terminal of the process, or "". The device at that path must have
// the terminal's number.
func (p Process) Terminal() string {
	f, err := p.look()
	if err != nil {
		return ""
	}
	return terminalOf(f.terminal)
}

func terminalOf(number int) string {
	if number == 0 {
		return ""
	}
	device := uint32(number) // new_encode_dev of linux/kdev_t.h, like st_rdev of stat(2)
	major, minor := device>>8&0xfff, device&0xff|device>>12&0xfff00
	path := fmt.Sprintf("/dev/pts/%d", minor)
	if major != pseudoTerminal {
		link, err := os.Readlink(fmt.Sprintf("/sys/dev/char/%d:%d", major, minor))
		if err != nil {
			return ""
		}
		path = "/dev/" + link[strings.LastIndexByte(link, '/')+1:]
	}
	var info syscall.Stat_t
	if err := syscall.Stat(path, &info); err != nil || info.Mode&syscall.S_IFMT != syscall.S_IFCHR ||
		uint64(info.Rdev) != uint64(device) {
		return ""
	}
	return path
}

const pidfdOpen = 434 // SYS_PIDFD_OPEN, on every architecture

// Ended returns nil once the process has ended. An error means that ctx ended first, or that the system cannot
// report it (Linux before 5.10, other systems). No thread waits meanwhile: the runtime's poller watches the
// descriptor.
func (p Process) Ended(ctx context.Context) error {
	fd, _, errno := syscall.Syscall(pidfdOpen, uintptr(p.PID), syscall.O_NONBLOCK, 0)
	switch {
	case errno == syscall.ESRCH:
		return nil
	case errno != 0:
		return os.NewSyscallError("pidfd_open", errno)
	}
	f := os.NewFile(fd, "pidfd")
	defer func() { _ = f.Close() }()
	defer context.AfterFunc(ctx, func() { _ = f.Close() })()
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	// The function runs first before any wait, since the PID may already belong to another process, and again when
	// the watched process ends.
	return raw.Read(func(uintptr) bool { return !p.Running() })
}
