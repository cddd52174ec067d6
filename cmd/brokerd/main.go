// Command brokerd is the daemon, and the vault process that it and the command line start.
//
//	brokerd [--replace] [--background]
//	brokerd vault
package main

import (
	"os"

	"broker/internal/brokerd"
)

func main() { os.Exit(brokerd.Main(os.Args, os.Stdin, os.Stdout, os.Stderr)) }
