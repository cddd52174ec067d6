package child

import (
	"os"
	"os/exec"
	"syscall"
	"unsafe"

	"golang.org/x/sys/windows"
)

// seal does nothing: a program inherits only the handles that Go lists.
func seal() {}

// fence identifies a program and its processes: on Windows, a job object, whose processes end with it.
type fence struct{ job windows.Handle }

// enclose puts the program into its own job. Processes that the program started just before are not in it.
func (g *group) enclose() error {
	job, err := windows.CreateJobObject(nil, nil)
	if err != nil {
		return err
	}
	limits := windows.JOBOBJECT_EXTENDED_LIMIT_INFORMATION{
		BasicLimitInformation: windows.JOBOBJECT_BASIC_LIMIT_INFORMATION{
			LimitFlags: windows.JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE, // also if this process dies
		},
	}
	_, err = windows.SetInformationJobObject(
		job,
		windows.JobObjectExtendedLimitInformation,
		uintptr(unsafe.Pointer(&limits)),
		uint32(unsafe.Sizeof(limits)),
	)
	if err == nil {
		err = g.assign(job)
	}
	if err != nil {
		_ = windows.CloseHandle(job)
		return err
	}
	g.job = job
	return nil
}

func (g *group) assign(job windows.Handle) (err error) {
	noHandle := g.cmd.Process.WithHandle(func(process uintptr) {
		err = windows.AssignProcessToJobObject(job, windows.Handle(process))
		if ended, _ := windows.WaitForSingleObject(windows.Handle(process), 0); ended == windows.WAIT_OBJECT_0 {
			err = nil // it has already ended
		}
	})
	if noHandle != nil {
		return noHandle
	}
	return err
}

// send ends the whole job, whatever the signal: Windows has no signal that asks a process to end.
func (g *group) send(syscall.Signal) { _ = windows.TerminateJobObject(g.job, 1) }

// await also reaps the program; the job still has the processes that it left running.
func (g *group) await() { _ = g.cmd.Wait() }

// reap closes the job.
func (g *group) reap() { _ = windows.CloseHandle(g.job) }

// socket uses two pipes on Windows.
func socket(cmd *exec.Cmd) (in, out *os.File, theirs []*os.File, err error) { return pipes(cmd) }
