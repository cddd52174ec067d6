package harden

// process disables core files. It does not use PT_DENY_ATTACH, which would stay in effect for the command that
// exec puts in our place.
func process() error { return noCore() }
