// Package bundle reads CA bundles, for the calls to AWS and for the command that checks a setting. It refuses a file
// that another user can change.
package bundle

import (
	"crypto/x509"
	"fmt"
	"io"

	"broker/internal/system"
)

// maxSize is how long a CA bundle may be, in bytes: some twenty times what the public web trusts.
const maxSize = 4 << 20

// Read reads a CA bundle, an absolute path: a regular file of at most 4 MiB with a certificate in PEM form, that
// nobody but root and the user of this process can change.
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
		return nil, fmt.Errorf("%s has more than 4 MiB", path)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate in PEM form", path)
	}
	return roots, nil
}
