// Package tty owns the controlling terminal of this process, whatever stdin, stdout and stderr are: it opens it, for
// questions of single keys and for whole lines. It refuses to know what is asked, and links the standard library alone.
package tty

// Exists reports whether this process has a controlling terminal.
func Exists() bool {
	c, err := Open()
	if err == nil {
		c.Close()
	}
	return err == nil
}
