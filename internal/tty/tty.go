// Package tty opens the controlling terminal of this process, whatever stdin, stdout and stderr are, to read
// single keys or whole lines. It does not know what is asked. It uses only the standard library.
package tty

import (
	"os"
	"os/signal"
	"syscall"
)

// NotifyEnd relays to c the signals that tell a program to end. It leaves out signals that were ignored when the
// program started, such as by nohup or for a background job.
func NotifyEnd(c chan<- os.Signal) {
	for _, s := range []os.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM} {
		if !signal.Ignored(s) {
			signal.Notify(c, s)
		}
	}
}

// Exists reports whether this process has a controlling terminal.
func Exists() bool {
	c, err := Open()
	if err == nil {
		c.Close()
	}
	return err == nil
}
