// Command stssim plays AWS STS and IAM on this machine, for demonstrations and tests.
package main

import (
	"os"

	"broker/internal/stssim"
)

func main() {
	os.Exit(stssim.Main(os.Args[1:], os.Stdout, os.Stderr))
}
