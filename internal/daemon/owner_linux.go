package daemon

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
)

// startOf identifies a process beyond its pid, which comes again: the boot and the
// moment at which it started, as proc(5) has it. execve(2) changes neither. The error says that there is none.
func startOf(pid int) (string, error) {
	boot, err := bootID()
	if err != nil {
		return "", err
	}
	for {
		stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		if err != nil {
			return "", fmt.Errorf("process %d is not there", pid)
		}
		// "pid (name) state …", where name may hold anything; field 20 counts the threads, 22 is the start.
		fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
		if len(fields) < 20 {
			return "", fmt.Errorf("process %d cannot be read", pid)
		}
		switch state, threads, start := fields[0][0], string(fields[17]), fields[19]; {
		case state == 'X' || state == 'x' || threads == "0":
			// Collected since it was opened: gone, unless another thread has taken its place, see below.
		case state == 'Z' && threads == "1":
			return "", fmt.Errorf("process %d has ended", pid)
		default:
			// A first thread that ended is no end of the process, and one that execve is about to replace has ended for a moment.
			return boot + "/" + string(start), nil
		}
	}
}

var bootID = sync.OnceValues(func() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b)), err
})
