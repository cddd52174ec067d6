// Package bundle reads CA bundles, for the calls to AWS and for the command that checks a setting. It refuses a
// file that another user can change.
package bundle

import (
	"crypto/x509"
	"fmt"
	"io"

	"broker/internal/system"
)

// maxSize is the maximum size of a CA bundle in bytes: about twenty times the bundle of the public web.
const maxSize = 4 << 20

// Read reads a CA bundle at an absolute path. The file must be a regular file of at most 4 MiB with a certificate
// in PEM form, and only root and the user of this process may be able to change it.
func Read(path string) (*x509.CertPool, error) {
	if err := system.Trusted(path); err != nil {
		return nil, err
	}
	f, _, err := system.OpenRegular(path, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	pem, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		return nil, err
	}
	if len(pem) > maxSize {
		return nil, fmt.Errorf("%s is larger than 4 MiB", path)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate in PEM form", path)
	}
	return roots, nil
}
