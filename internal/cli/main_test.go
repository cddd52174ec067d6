package cli

import (
	"os"
	"testing"

	"broker/internal/testproc"
)

// helper reports whether this process is the helper of a test that needs a terminal. If so, it has done its work.
var helper = func() bool { return false }

func TestMain(m *testing.M) {
	if !helper() {
		os.Exit(testproc.Run(m))
	}
}
