package profiles

// An exposure is what lets another uid change what a path leads to: the file, or a directory on the way to it.
type exposure struct {
	path string
	why  string // such as "may be written by others (mode 0666)"
}

// of says it of a file, with what the sentence calls the file.
func (e *exposure) of(path, called string) string {
	if e.path == path {
		return called + " " + e.why
	}
	return called + " is reached through " + e.path + ", which " + e.why
}
