package profiles

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// AbsoluteCommand returns a command with the absolute path of its program, so that what runs does not depend on the PATH
// of the day. The program is looked for in the absolute directories of our PATH, past those in which another uid could
// have put it. The error says in the words after "the command" what is wrong.
func AbsoluteCommand(command string) (string, error) {
	if err := checkCommand(command); err != nil {
		return "", err
	}
	words := SplitCommand(command)
	if filepath.IsAbs(words[0]) {
		return command, nil
	}
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		if !filepath.IsAbs(dir) {
			continue
		}
		program, err := exec.LookPath(filepath.Join(dir, words[0]))
		if err != nil || exposed(program) != nil {
			continue
		}
		if strings.ContainsAny(program, " \t\"") {
			return "", errors.New("names a program in a path with spaces; write the path in double quotes yourself")
		}
		// What follows the program stays as it was written.
		start := strings.Index(command, words[0])
		return command[:start] + program + command[start+len(words[0]):], nil
	}
	return "", fmt.Errorf("names %.100q, which is not on the PATH, or where another user could change it; write its absolute path", words[0])
}

// isAbsoluteOf reports whether a command is what AbsoluteCommand makes of another.
func isAbsoluteOf(command, short string) bool {
	absolute, err := AbsoluteCommand(short)
	return err == nil && command == absolute
}
