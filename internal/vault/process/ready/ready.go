// Package ready writes the line with which a vault process asks for its request. The caller sends no secret before
// that line, and first verifies that the process is hardened. The line is written while the program is still
// initializing, before the libraries, so that the caller's check costs no time. The package does nothing in any
// other process, and nothing if the process could not be hardened.
//
// It relies on the order of initialization. Go initializes the packages that are ready in the order of their
// import paths, and "broker/…" sorts before "github.com/…". So this package may import only the standard library
// and package harden.
package ready

import (
	"os"

	"broker/internal/harden"
)

func init() {
	if len(os.Args) == 2 && os.Args[1] == "vault" && harden.Process() == nil {
		_, _ = os.Stderr.WriteString(harden.Line + "\n") // without this line the caller gives up
	}
}
