package system

import (
	"sync"
	"syscall"
)

// BootID identifies this boot of the machine. It is empty if the system does not tell.
var BootID = sync.OnceValue(func() string {
	id, err := syscall.Sysctl("kern.bootsessionuuid")
	if err != nil {
		return ""
	}
	return id
})
