package peer

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// The compiler checks that the fields are at the offsets that look uses: any index but 0 is an error.
var (
	kinfo unix.KinfoProc

	_ = [1]bool{}[unsafe.Sizeof(kinfo)-infoSize]
	_ = [1]bool{}[unsafe.Offsetof(kinfo.Proc)+unsafe.Offsetof(kinfo.Proc.P_starttime)-atStart]
	_ = [1]bool{}[unsafe.Offsetof(kinfo.Proc.P_starttime.Usec)-8]
	_ = [1]bool{}[unsafe.Offsetof(kinfo.Proc.P_stat)-atState]
	_ = [1]bool{}[unsafe.Offsetof(kinfo.Proc.P_pid)-atPID]
	_ = [1]bool{}[unsafe.Offsetof(kinfo.Proc.P_comm)-atName]
	_ = [1]bool{}[unsafe.Sizeof(kinfo.Proc.P_comm)-nameSize]
	_ = [1]bool{}[unsafe.Offsetof(kinfo.Eproc)+unsafe.Offsetof(kinfo.Eproc.Ppid)-atParent]
)
