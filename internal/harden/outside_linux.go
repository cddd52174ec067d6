package harden

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"syscall"
)

// untraced checks each thread: a tracer can attach to any of them, and one thread gives access to all memory.
func untraced(pid string) error {
	threads, err := os.ReadDir("/proc/" + pid + "/task")
	if err != nil && !hidden(err) {
		return err
	}
	for _, thread := range threads {
		status, err := os.ReadFile("/proc/" + pid + "/task/" + thread.Name() + "/status")
		if hidden(err) { // the thread may also have ended
			continue
		}
		if err != nil {
			return err
		}
		_, tracer, _ := bytes.Cut(status, []byte("\nTracerPid:\t"))
		if tracer, _, _ = bytes.Cut(tracer, []byte("\n")); string(tracer) != "0" {
			return fmt.Errorf("%w (process %s)", ErrTraced, tracer)
		}
	}
	return nil
}

// verify compares owners: root owns the files in /proc/PID of a process that is not dumpable (proc(5)), and this
// process is not dumpable.
func verify(pid int) error {
	if err := untraced(strconv.Itoa(pid)); err != nil {
		return err
	}
	want, err := owner("self")
	if hidden(err) {
		return nil
	}
	if err != nil {
		return err
	}
	got, err := owner(strconv.Itoa(pid))
	if err == nil && got != want {
		return ErrOpen
	}
	if hidden(err) {
		return nil
	}
	return err
}

func owner(pid string) (uid uint32, err error) {
	var info syscall.Stat_t
	if err := syscall.Stat("/proc/"+pid+"/mem", &info); err != nil {
		return 0, fmt.Errorf("/proc/%s/mem: %w", pid, err)
	}
	return info.Uid, nil
}

// hidden reports whether /proc is missing or hides the process from this user (hidepid).
func hidden(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission)
}
