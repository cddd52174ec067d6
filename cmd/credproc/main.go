// Command credproc is the credential_process helper: it prints the
// credentials of one profile, all of them or nothing.
//
//	credproc PROFILE
//	credproc --profile PROFILE
package main

import (
	"os"

	"broker/internal/client"
)

func main() { os.Exit(client.Credproc(os.Args[1:], os.Stdout, os.Stderr)) }
