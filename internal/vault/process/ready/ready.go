// Package ready owns the line with which a vault process asks for its request. The caller sends no secret before that
// line, and first checks that the process is hardened as it says. The line is written while the program is being
// initialised, so that the check costs no time: it is done before the libraries are initialised. The package refuses to
// speak for any other process, and for one that could not be hardened.
//
// It works by order. Go initialises packages that are ready in the order of their import paths, and "broker/…" sorts
// before "github.com/…"; so this package may import the standard library and package harden, nothing else.
package ready

import (
	"os"

	"broker/internal/harden"
)

func init() {
	if len(os.Args) == 2 && os.Args[1] == "vault" && harden.Process() == nil {
		_, _ = os.Stderr.WriteString(harden.Line + "\n") // without it the caller gives up
	}
}
