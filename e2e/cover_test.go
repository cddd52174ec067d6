package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// countingSource copies the sources to root and changes the copy, so that programs built from it with -cover write
// their counters to dir. The runtime reads GOCOVERDIR, but Broker builds the environment of the daemon and its
// children, and knows nothing of counters. So the copy has a package that sets the variable when a program starts.
func countingSource(root, dir string) error {
	for _, name := range []string{"cmd", "internal"} {
		if err := os.CopyFS(filepath.Join(root, name), os.DirFS(filepath.Join("..", name))); err != nil {
			return err
		}
	}
	for _, name := range []string{"go.mod", "go.sum"} {
		if err := linkOrCopy(filepath.Join("..", name), filepath.Join(root, name)); err != nil {
			return err
		}
	}
	if err := os.Mkdir(filepath.Join(root, "internal/counters"), 0o755); err != nil {
		return err
	}
	dir = strconv.Quote(dir)
	added := func(place, text string) error {
		return os.WriteFile(filepath.Join(root, place, "counters.go"), []byte(text), 0o600)
	}
	err := added("internal/counters", "package counters\nimport \"os\"\nvar _ = os.Setenv(\"GOCOVERDIR\", "+dir+")\n")
	for _, name := range programs {
		// The runtime has read the variable before init runs. The children of the program do not need it.
		err = errors.Join(err, added("cmd/"+name, `package main
import (_ "`+modulePath()+`/internal/counters"; "os")
func init() { _ = os.Unsetenv("GOCOVERDIR") }
`))
	}
	// execve does not write counters, so write them before it.
	err = errors.Join(err, added("internal/cli", `package cli
import ("runtime/coverage"; "syscall")
func countAndExec(program string, command, env []string) error {
	_ = coverage.WriteCountersDir(`+dir+`)
	return syscall.Exec(program, command, env)
}
`))
	if err != nil {
		return err
	}
	file := filepath.Join(root, "internal/cli/system_unix.go")
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	// Both names have the same length, so the statements keep their positions and match those of the unit tests.
	changed := strings.Replace(string(text), "syscall.Exec(", "countAndExec(", 1)
	if changed == string(text) {
		return fmt.Errorf("%s does not call syscall.Exec", file)
	}
	return os.WriteFile(file, []byte(changed), 0o600)
}
