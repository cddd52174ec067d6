// Command broker keeps MFA-backed AWS keys in the OS keyring and hands out
// role sessions. `broker help` lists what it does.
package main

import (
	"os"

	"broker/internal/cli"
)

func main() { os.Exit(cli.Main(os.Args, os.Stdin, os.Stdout, os.Stderr)) }
