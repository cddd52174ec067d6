// The program is a client of minio-go, which asks the endpoint of exec as its IAM provider. It prints the key id.
package main

import (
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/minio/minio-go/v7/pkg/credentials"
)

func main() {
	chain := credentials.New(&credentials.IAM{Client: &http.Client{Timeout: 30 * time.Second}})
	value, err := chain.GetWithContext(&credentials.CredContext{Client: http.DefaultClient})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(value.AccessKeyID)
}
