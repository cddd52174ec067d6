package testproc

// leaveTerminal does nothing: no test prompts on a console.
func leaveTerminal() error { return nil }
