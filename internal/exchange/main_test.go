//go:build unix

package exchange

import (
	"os"
	"strings"
	"testing"

	"broker/internal/testproc"
)

// TestMain clears the environment of the machine that runs the tests; tests about the environment set it
// themselves.
func TestMain(m *testing.M) {
	for _, entry := range os.Environ() {
		name, _, _ := strings.Cut(entry, "=")
		if strings.HasPrefix(name, "AWS_") || strings.HasSuffix(strings.ToUpper(name), "_PROXY") {
			os.Unsetenv(name)
		}
	}
	os.Exit(testproc.Run(m))
}
