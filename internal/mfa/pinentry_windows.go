package mfa

// terminal is unused on Windows: a console cannot be passed by its name.
type terminal struct{}

func openTerminal(string) *terminal { return nil }

func (t *terminal) restore() {}

func (t *terminal) gone() bool { return false }

func (t *terminal) close() {}
