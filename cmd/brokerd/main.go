// Command brokerd is the daemon. It is also the vault process, which the daemon and the command line start.
//
//	brokerd [--replace] [--background]
//	brokerd vault
package main

import (
	"os"

	"broker/internal/brokerd"
)

func main() { os.Exit(brokerd.Main(os.Args, os.Stdin, os.Stdout, os.Stderr)) }
