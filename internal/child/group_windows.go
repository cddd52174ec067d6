package child

import (
	"os"
	"os/exec"
	"syscall"
	"unsafe"

	"golang.org/x/sys/windows"
)

// seal has nothing to do: a program is given the handles that Go lists, and no others.
func seal() {}

// fence is what keeps a program and its own together: a job object, whose processes end with it.
type fence struct{ job windows.Handle }

// enclose puts the program into a job of its own. What it started in the moment before is not in it.
func (g *group) enclose() error {
	job, err := windows.CreateJobObject(nil, nil)
	if err != nil {
		return err
	}
	limits := windows.JOBOBJECT_EXTENDED_LIMIT_INFORMATION{BasicLimitInformation: windows.JOBOBJECT_BASIC_LIMIT_INFORMATION{
		LimitFlags: windows.JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE, // when we die too
	}}
	_, err = windows.SetInformationJobObject(job, windows.JobObjectExtendedLimitInformation, uintptr(unsafe.Pointer(&limits)), uint32(unsafe.Sizeof(limits)))
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
			err = nil // it was quicker than we
		}
	})
	if noHandle != nil {
		return noHandle
	}
	return err
}

// send ends the whole job, whatever the signal: there is none that would be polite.
func (g *group) send(syscall.Signal) { _ = windows.TerminateJobObject(g.job, 1) }

// await reaps the program too; its job still has what it left running.
func (g *group) await() { _ = g.cmd.Wait() }

// reap lets go of the job.
func (g *group) reap() { _ = windows.CloseHandle(g.job) }

// socket is two pipes here.
func socket(cmd *exec.Cmd) (in, out *os.File, theirs []*os.File, err error) { return pipes(cmd) }
