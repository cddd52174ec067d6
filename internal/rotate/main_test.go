package rotate

import (
	"os"
	"testing"

	"broker/internal/testproc"
)

func TestMain(m *testing.M) { os.Exit(testproc.Run(m)) }
