package process

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"broker/internal/vault"
)

func init() { beds[vault.WinCred] = winCredBed }

// winCredBed is the Credential Manager of the person who runs the tests.
func winCredBed(t *testing.T) *bed {
	state := filepath.Join(t.TempDir(), "broker", "state")
	return &bed{backend: vault.WinCred, room: maxWinCred, caller: func(t *testing.T) *vault.Caller {
		return callerOn(t, vault.WinCred, state)
	}}
}

func killProcess(pid int) {
	if p, err := os.FindProcess(pid); err == nil {
		_ = p.Kill()
	}
}

func processGroup() int { return 0 }

func mkfifo(string) error { return errors.ErrUnsupported }

func asUser(uint32) *syscall.SysProcAttr { return nil }
