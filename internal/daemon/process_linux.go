package daemon

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"broker/internal/lazyregexp"
)

// processOf returns the name of a process and the path of the program that
// started it, as proc(5) has them now: evidence, not proof. credproc is not
// dumpable, so its own path cannot be read; the interesting one is the tool behind it.
func processOf(pid int) (name, parent string) {
	// Each request that is answered comes by here, and os.ReadFile makes six
	// system calls of this.
	fd, err := syscall.Open("/proc/"+strconv.Itoa(pid)+"/stat", syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return "", ""
	}
	var buf [512]byte
	n, err := syscall.Read(fd, buf[:])
	_ = syscall.Close(fd)
	if err != nil {
		return "", ""
	}
	stat := buf[:n]
	// "pid (name) state ppid …", where name may hold anything.
	from, to := bytes.IndexByte(stat, '('), bytes.LastIndexByte(stat, ')')
	if from < 0 || to < from {
		return "", ""
	}
	name = string(stat[from+1 : to])
	fields := bytes.SplitN(stat[to+1:], []byte(" "), 4)
	if len(fields) < 4 {
		return name, ""
	}
	parent, _ = os.Readlink("/proc/" + string(fields[2]) + "/exe")
	return name, parent
}

// interpreters run a script whose name says more than theirs.
var interpreters = lazyregexp.New(`^(python|node|ruby|perl|bash|dash|sh|zsh)[0-9.]*$`)

// toolOf is the name by which a person knows the program that started a
// process: the script's, where an interpreter runs one. It is what proc(5) says: a
// courtesy to the reader of a question, not a proof.
func toolOf(pid int) string {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return ""
	}
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 2 {
		return ""
	}
	line, err := os.ReadFile("/proc/" + string(fields[1]) + "/cmdline")
	if err != nil {
		return ""
	}
	words := strings.Split(string(line), "\x00")
	name := filepath.Base(words[0])
	if interpreters.MatchString(name) && len(words) > 1 && words[1] != "" && words[1][0] != '-' {
		name = filepath.Base(words[1])
	}
	return strings.TrimPrefix(name, "-") // of a login shell
}
