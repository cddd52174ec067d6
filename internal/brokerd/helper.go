package brokerd

import (
	"os"
	"path/filepath"

	"broker/internal/environ"
	"broker/internal/fault"
	"broker/internal/system"
)

// helperProgram returns the credproc beside this program, or else on the daemon's PATH.
func helperProgram() (string, error) {
	const name = "credproc"
	self, err := os.Executable()
	if err != nil {
		return "", fault.New(fault.Failed, "find this program: %w", err)
	}
	dirs := []string{filepath.Dir(self)}
	if real, err := filepath.EvalSymlinks(self); err == nil {
		dirs = append(dirs, filepath.Dir(real))
	}
	for _, dir := range dirs {
		program := filepath.Join(dir, name+system.Exe)
		if info, err := os.Stat(program); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return program, nil
		}
	}
	if program := environ.Find(name, os.Getenv("PATH")); program != "" {
		return program, nil
	}
	return "", fault.New(fault.Failed, "credproc, which AWS tools run, is neither in %s nor on the PATH of the daemon; "+
		"install broker, brokerd and credproc of one version side by side", dirs[0]).
		WithHint("command -v broker brokerd credproc")
}
