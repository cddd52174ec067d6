package daemon

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

// playExec replaces itself so many times, each time from another thread than the first, as programs of many threads do:
// until the kernel has made that one the first, the first is a zombie.
func playExec(left string) int {
	n, err := strconv.Atoi(left)
	if err != nil || n == 0 {
		fmt.Println("done")
		_, _ = io.Copy(io.Discard, os.Stdin)
		return 0
	}
	done := make(chan error)
	runtime.LockOSThread() // the first; so the next is on another
	go func() {
		runtime.LockOSThread()
		done <- syscall.Exec("/proc/self/exe", []string{os.Args[0], "play-exec", strconv.Itoa(n - 1)}, os.Environ())
	}()
	println((<-done).Error())
	return 1
}

// TestRunningDuringExec: a process that becomes another program has not ended, however it is looked at.
func TestRunningDuringExec(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	const times = 100
	cmd := exec.Command(exe, "play-exec", strconv.Itoa(times))
	hold, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := cmd.Process.Pid
	start, err := startOf(pid)
	if err != nil {
		t.Fatal(err)
	}
	var over atomic.Bool
	var looks, ends atomic.Int64
	var lookers sync.WaitGroup
	for range 2 {
		lookers.Go(func() {
			for !over.Load() {
				looks.Add(1)
				if !isRunning(pid, start) {
					ends.Add(1)
				}
			}
		})
	}
	_, err = out.Read(make([]byte, 10))
	over.Store(true)
	lookers.Wait()
	if err != nil {
		t.Error(err)
	}
	_ = hold.Close()
	if ends.Load() > 0 {
		t.Errorf("it ended %d times in %d looks", ends.Load(), looks.Load())
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if isRunning(pid, start) {
		t.Error("it has ended")
	}
}
