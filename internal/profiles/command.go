package profiles

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"broker/internal/environ"
	"broker/internal/system"
)

// AbsoluteCommand returns a command with its program as an absolute path, so that later changes of PATH do not
// change what runs. It searches where the daemon searches: in the directories of the system and of package
// managers, and in those of path in [settings]. It refuses a program that another user could change, and an argument
// that is such a file. The error continues the words "the command" in a message.
func (s *Set) AbsoluteCommand(command string) (string, error) {
	if err := checkCommand(command); err != nil {
		return "", err
	}
	settings, err := s.Settings()
	if err != nil {
		return "", err
	}
	words := SplitCommand(command)
	program := words[0]
	if !filepath.IsAbs(program) {
		list, _ := environ.Path(os.Getenv("HOME"), settings.Path)
		if program = environ.Find(words[0], list); program == "" {
			return "", fmt.Errorf("names %.100q, which is not in the directories that the daemon searches (%s)",
				words[0], list)
		}
		if strings.ContainsAny(program, " \t\"") {
			return "", errors.New("names a program whose path has spaces; write the full path in double quotes")
		}
		// Everything after the program stays as it was written.
		start := strings.Index(command, words[0])
		command = command[:start] + program + command[start+len(words[0]):]
	}
	if err := system.TrustedCommand(program, words[1:]); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("is not safe to run: %w", err)
	}
	return command, nil
}

// isAbsoluteOf reports whether AbsoluteCommand could have returned command for short.
func isAbsoluteOf(command, short string) bool {
	words := SplitCommand(short)
	return len(words) > 0 && !filepath.IsAbs(words[0]) && slices.Equal(byName(command), words)
}

// byName splits a command into words and reduces its program to the base name.
func byName(command string) []string {
	words := SplitCommand(command)
	if len(words) > 0 {
		words[0] = filepath.Base(words[0])
	}
	return words
}
