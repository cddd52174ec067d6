package testproc

// leaveTerminal does nothing: no test asks on a console.
func leaveTerminal() error { return nil }
