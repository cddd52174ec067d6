package peer

import (
	"os"
	"os/exec"
	"testing"
)

// TestProcess: the owner and the start of a process.
func TestProcess(t *testing.T) {
	if ours, err := isOurs(os.Getpid()); err != nil || !ours {
		t.Errorf("ourselves: %v, %v", ours, err)
	}
	self, err := Find(os.Getpid())
	if err != nil || !self.Running() {
		t.Errorf("ourselves: %+v, %v", self, err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	if p, err := Find(cmd.Process.Pid); err == nil {
		t.Errorf("a process that has ended: %+v", p)
	}
	if ours, err := isOurs(0); err == nil && ours {
		t.Error("the idle process is ours")
	}
}
