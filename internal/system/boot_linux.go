package system

import (
	"os"
	"strings"
	"sync"
)

// BootID tells this boot of the machine from others: boot_id of random(4). It is empty if the system does not tell.
var BootID = sync.OnceValue(func() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
})
