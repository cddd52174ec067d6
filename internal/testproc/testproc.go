// Package testproc sets up the process in which the tests of a package run. With it, `go test` behaves the same in
// a terminal, in a pipe and under nohup: no program that a test starts can prompt on the terminal of the person
// who runs the tests. Only tests import it.
package testproc

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"testing"
)

// Run leaves the controlling terminal, runs the tests of a package and returns their exit code. A package whose
// tests can start a process calls it in TestMain:
//
//	func TestMain(m *testing.M) { os.Exit(testproc.Run(m)) }
//
// If a test starts its own test binary as a helper process, the helper returns before Run and keeps the terminal
// that it was given.
func Run(m *testing.M) int {
	if err := leaveTerminal(); err != nil {
		fmt.Fprintln(os.Stderr, "testproc: leave the controlling terminal:", err)
		return 1
	}
	flag.Parse()
	chosen := false
	flag.Visit(func(f *flag.Flag) { chosen = chosen || f.Name == "test.parallel" || f.Name == "test.fuzz" })
	if !chosen { // Parallel tests spend most of their time waiting: for processes, locks and deadlines.
		_ = flag.Set("test.parallel", strconv.Itoa(4*runtime.GOMAXPROCS(0)))
	}
	return m.Run()
}
