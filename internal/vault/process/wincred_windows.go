package process

import (
	"context"
	"errors"
	"syscall"

	"github.com/99designs/keyring"

	"broker/internal/fault"
)

// winCredRing stores items in the Windows Credential Manager of the user who is logged on.
type winCredRing struct{ libraryRing }

// maxWinCred is CRED_MAX_CREDENTIAL_BLOB_SIZE.
// https://learn.microsoft.com/en-us/windows/win32/api/wincred/ns-wincred-credentialw
const maxWinCred = 5 * 512

// noLogon is ERROR_NO_SUCH_LOGON_SESSION, which a service gets, or an ssh session without a password.
const noLogon = syscall.Errno(1312)

func openWinCred(_ context.Context, q *request) (ring, error) {
	lib, err := openLibrary(keyring.Config{ServiceName: "broker", WinCredPrefix: "broker"}, keyring.WinCredBackend)
	if err != nil {
		return nil, libraryError("open the Credential Manager", err)
	}
	return &winCredRing{libraryRing{writerLock{q.StateDir}, lib, blameWinCred}}, nil
}

func blameWinCred(doing string, err error) error {
	if errors.Is(err, noLogon) {
		return fault.New(fault.KeyringLocked, "%s: the Credential Manager works only for a user who is logged on with a password; set keyring_backend = file", doing).
			WithHint("broker keyring list")
	}
	return libraryError(doing, err)
}

func (r *winCredRing) set(ctx context.Context, key, label string, data []byte) error {
	if len(data) > maxWinCred {
		return fault.New(fault.Keyring, "the Credential Manager takes %d bytes at most, and this is %d; the old item stays", maxWinCred, len(data))
	}
	return r.libraryRing.set(ctx, key, label, data)
}

// check reads an item that need not exist: the library's list hides failures.
func (r *winCredRing) check(ctx context.Context) error {
	if _, err := r.get(ctx, checkKey); err != nil && !errors.Is(err, errNoItem) {
		return err
	}
	return nil
}

func (r *winCredRing) asks() bool { return false }
