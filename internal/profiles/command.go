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

// AbsoluteCommand returns a command with the absolute path of its program, so that what runs does not depend on the
// PATH of the day. The program is looked for as the daemon would: in the directories of the system and of package
// managers, and in those that path of [settings] adds. A program that another user could change is refused. The error
// follows the words "the command" in a message.
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
			return "", fmt.Errorf("names %.100q, which is in none of the directories that the daemon looks in (%s)",
				words[0], list)
		}
		if strings.ContainsAny(program, " \t\"") {
			return "", errors.New("names a program in a path with spaces; write the path in double quotes yourself")
		}
		// What follows the program stays as it was written.
		start := strings.Index(command, words[0])
		command = command[:start] + program + command[start+len(words[0]):]
	}
	if err := system.TrustedProgram(program); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("is not safe to run: %w", err)
	}
	return command, nil
}

// isAbsoluteOf reports whether a command is what AbsoluteCommand could have made of another.
func isAbsoluteOf(command, short string) bool {
	words := SplitCommand(short)
	return len(words) > 0 && !filepath.IsAbs(words[0]) && slices.Equal(byName(command), words)
}

// byName splits a command and leaves of its program the name alone.
func byName(command string) []string {
	words := SplitCommand(command)
	if len(words) > 0 {
		words[0] = filepath.Base(words[0])
	}
	return words
}
