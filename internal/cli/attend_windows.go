package cli

// startAttendant does nothing: prompts appear in a window.
func startAttendant(string) error { return nil }

// attend reports that this process is no attendant.
func attend([]string) (code int, is bool) { return 0, false }
