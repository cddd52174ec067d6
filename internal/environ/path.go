package environ

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"broker/internal/system"
)

// Path returns the PATH of the daemon and its children: the directories in more, which come from the setting
// `path`; those of the system; and those of nix, Homebrew and linuxbrew that exist. Except for the system's, a
// directory is used only if nobody but root and this user can write to it (see system.Trusted). refused says what
// is wrong with directories in more; missing ones are skipped silently.
func Path(home string, more []string) (path string, refused []string) {
	var list []string
	for _, dir := range more {
		err := system.Trusted(dir)
		switch {
		case err == nil:
			list = append(list, dir)
		case os.IsNotExist(err):
		default:
			refused = append(refused, fmt.Sprintf("path: %v", err))
		}
	}
	list = append(list, systemDirectories()...)
	for _, dir := range packageDirectories(home) {
		if system.Trusted(dir) == nil {
			list = append(list, dir)
		}
	}
	return strings.Join(list, string(os.PathListSeparator)), refused
}

// Find returns the path of a program in the directories of a PATH that Path made, or "" if none of them has it.
func Find(program, path string) string {
	for _, dir := range filepath.SplitList(path) {
		file := filepath.Join(dir, program+system.Exe)
		if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() && (windows || info.Mode()&0o111 != 0) {
			return file
		}
	}
	return ""
}
