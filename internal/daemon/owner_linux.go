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
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return "", fmt.Errorf("process %d is not there", pid)
	}
	// "pid (name) state …", where name may hold anything; the start is field 22.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 20 || bytes.ContainsAny(fields[0], "ZXx") {
		return "", fmt.Errorf("process %d has ended", pid)
	}
	return boot + "/" + string(fields[19]), nil
}

var bootID = sync.OnceValues(func() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b)), err
})
