// Command stssim simulates AWS STS, IAM, IAM Identity Center and the service of `aws login` on this machine, for
// demonstrations and tests.
//
//	stssim --org demo                                  # http://127.0.0.1:4599
//	stssim --org my.ini --listen 127.0.0.1:0 --tls --ca-out ca.pem
//	stssim --print-code arn:aws:iam::111122223333:mfa/paul
//	stssim --print-csv paul > accessKeys.csv
//
// The same URL serves all services: as AWS_ENDPOINT_URL, or as AWS_ENDPOINT_URL_SSO, AWS_ENDPOINT_URL_SSO_OIDC and
// AWS_ENDPOINT_URL_SIGNIN. internal/stssim/demo.ini documents the organization file.
package main

import (
	"os"

	"broker/internal/stssim"
)

func main() {
	os.Exit(stssim.Main(os.Args[1:], os.Stdout, os.Stderr))
}
