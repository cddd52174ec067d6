package daemon

import (
	"bytes"
	"os"
	"strconv"
)

// processOf returns the name of a process and the path of the program that
// started it, as proc(5) has them now: evidence, not proof. credproc is not
// dumpable, so its own path cannot be read; the interesting one is the tool behind it.
func processOf(pid int) (name, parent string) {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return "", ""
	}
	// "pid (name) state ppid …", where name may hold anything.
	from, to := bytes.IndexByte(stat, '('), bytes.LastIndexByte(stat, ')')
	if from < 0 || to < from {
		return "", ""
	}
	name = string(stat[from+1 : to])
	fields := bytes.Fields(stat[to+1:])
	if len(fields) < 2 {
		return name, ""
	}
	parent, _ = os.Readlink("/proc/" + string(fields[1]) + "/exe")
	return name, parent
}
