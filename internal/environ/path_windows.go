package environ

import (
	"os"
	"path/filepath"
)

const windows = true

func systemDirectories() []string {
	root := os.Getenv("SystemRoot")
	if !filepath.IsAbs(root) {
		root = `C:\Windows`
	}
	system32 := filepath.Join(root, "System32")
	return []string{system32, root, filepath.Join(system32, "Wbem"), filepath.Join(system32, "WindowsPowerShell", "v1.0"),
		filepath.Join(system32, "OpenSSH")}
}

func packageDirectories(string) []string { return nil }
