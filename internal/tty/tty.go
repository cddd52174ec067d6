// Package tty owns the controlling terminal of this process, whatever stdin, stdout and stderr are: it opens it, for
// questions of single keys and for whole lines. It refuses to know what is asked, and links the standard library alone.
package tty

import (
	"os"
	"os/signal"
	"syscall"
)

// NotifyEnd has the signals that tell a program to end sent to c, but for those that it was started to ignore: by
// nohup, or as a job in the background.
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
