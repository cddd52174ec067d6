//go:build unix

package environ

import (
	"os"
	"path/filepath"
	"runtime"
)

const windows = false

// systemDirectories are the directories that the system's administrator controls. On macOS and Linux all of them
// exist, or a missing one does no harm.
func systemDirectories() []string {
	return []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"}
}

// packageDirectories are the directories of other package managers.
func packageDirectories(home string) []string {
	list := []string{"/run/wrappers/bin", "/run/current-system/sw/bin", "/nix/var/nix/profiles/default/bin", "/snap/bin"}
	if name := os.Getenv("USER"); word(name) {
		list = append(list, filepath.Join("/etc/profiles/per-user", name, "bin"))
	}
	if filepath.IsAbs(home) {
		list = append(list, filepath.Join(home, ".nix-profile/bin"), filepath.Join(home, ".local/state/nix/profile/bin"))
	}
	if runtime.GOOS == "darwin" {
		return append(list, "/opt/homebrew/bin", "/opt/local/bin")
	}
	list = append(list, "/home/linuxbrew/.linuxbrew/bin")
	if filepath.IsAbs(home) {
		list = append(list, filepath.Join(home, ".linuxbrew/bin"))
	}
	return list
}
