package mfa

// terminal is one that a program is about to change. A console cannot be lent by its name.
type terminal struct{}

func openTerminal(string) *terminal { return nil }

func (t *terminal) restore() {}

func (t *terminal) gone() bool { return false }

func (t *terminal) close() {}
