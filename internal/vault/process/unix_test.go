//go:build unix

package process

import "syscall"

func killProcess(pid int) { _ = syscall.Kill(pid, syscall.SIGKILL) }

func processGroup() int { return syscall.Getpgrp() }

func mkfifo(path string) error { return syscall.Mkfifo(path, 0o600) }

// asUser returns the attributes to run a program as another uid.
func asUser(uid uint32) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
}
