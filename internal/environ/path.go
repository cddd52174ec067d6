package environ

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"broker/internal/system"
)

// Path is the PATH of the daemon and its children: the directories of more, which are those of the setting `path`;
// the system's; those of nix, Homebrew and linuxbrew that exist. Beside the system's own a directory counts only if
// nobody but root and we can write to it (see system.Trusted). refused says of those of more what is wrong with them;
// one that is not there is left out without a word.
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

// Find looks for a program in the directories of a PATH that Path made. The result is empty where it is not there.
func Find(program, path string) string {
	for _, dir := range filepath.SplitList(path) {
		file := filepath.Join(dir, program+system.Exe)
		if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() && (windows || info.Mode()&0o111 != 0) {
			return file
		}
	}
	return ""
}
