package process

import (
	"context"
	"encoding/binary"
	"errors"
	"runtime"
	"strings"

	"github.com/99designs/keyring"
	"golang.org/x/sys/unix"

	"broker/internal/fault"
)

// keyctlRing stores items in the kernel's memory, in the user keyring (@u), which all sessions of the uid share.
// https://man7.org/linux/man-pages/man7/user-keyring.7.html
type keyctlRing struct{ libraryRing }

// maxKeyctl is the largest payload of a key of type "user", in bytes.
// https://man7.org/linux/man-pages/man7/keyrings.7.html
const maxKeyctl = 32767

func openKeyctl(_ context.Context, q *request) (ring, error) {
	if err := lookKeyctl(); err != nil {
		return nil, err
	}
	// By default only a possessor of a key may read it: the processes of one session. These permissions let the
	// user read it from any session.
	all := keyring.KEYCTL_PERM_ALL
	lib, err := openLibrary(
		keyring.Config{KeyCtlScope: "user", KeyCtlPerm: keyring.GetPermissions(all, all, 0, 0)},
		keyring.KeyCtlBackend,
	)
	if err != nil {
		return nil, libraryError("open the kernel's keyring", err)
	}
	return &keyctlRing{libraryRing{writerLock{q.StateDir}, lib, blameKeyctl}}, nil
}

// lookKeyctl checks whether this kernel or container lets us use keyrings.
func lookKeyctl() error {
	if _, err := unix.KeyctlGetKeyringID(unix.KEY_SPEC_USER_KEYRING, true); err != nil {
		return fault.New(fault.Keyring, "the kernel's keyrings cannot be used here (%w); containers often forbid them; set keyring_backend = file", err).
			WithHint("broker keyring list")
	}
	return nil
}

func blameKeyctl(doing string, err error) error {
	switch {
	case errors.Is(err, unix.EKEYEXPIRED), errors.Is(err, unix.EKEYREVOKED):
		return errExpired
	case errors.Is(err, unix.EDQUOT):
		return fault.New(fault.Keyring, "%s: the kernel's quota of keys for this user is used up", doing).
			WithHint("sysctl kernel.keys.maxbytes kernel.keys.maxkeys")
	}
	return libraryError(doing, err)
}

func (r *keyctlRing) check(context.Context) error { return lookKeyctl() }

func (r *keyctlRing) asks() bool { return false }

// keys asks the kernel directly: the library fails at a key that has expired, or that another program protects.
func (r *keyctlRing) keys(context.Context) ([]string, error) {
	const doing = "list the keyring"
	var ids []byte
	for {
		n, err := unix.KeyctlBuffer(unix.KEYCTL_READ, unix.KEY_SPEC_USER_KEYRING, ids, 0)
		if err != nil {
			return nil, libraryError(doing, err)
		}
		if n <= len(ids) {
			ids = ids[:n]
			break
		}
		ids = make([]byte, n)
	}
	var keys []string
	for ; len(ids) >= 4; ids = ids[4:] {
		about, err := unix.KeyctlString(unix.KEYCTL_DESCRIBE, int(int32(binary.NativeEndian.Uint32(ids))))
		if err != nil {
			continue
		}
		if fields := strings.Split(about, ";"); fields[0] == "user" { // type;uid;gid;permissions;description
			keys = append(keys, fields[len(fields)-1])
		}
	}
	return ours(keys), nil
}

// set runs on a thread with its own session keyring, which ends with the thread. The library creates the key there
// before it links it to the user keyring in place of the old one. If it is interrupted in between, it would leave
// the key in the desktop's session.
func (r *keyctlRing) set(ctx context.Context, key, label string, data []byte) error {
	if len(data) > maxKeyctl {
		return fault.New(fault.Keyring, "the kernel's keyring takes %d bytes at most, and this is %d; the old item stays", maxKeyctl, len(data))
	}
	done := make(chan error)
	go func() {
		// Never unlocked: the thread ends with this function.
		runtime.LockOSThread()
		// 0: without a name.
		if _, _, errno := unix.Syscall(unix.SYS_KEYCTL, unix.KEYCTL_JOIN_SESSION_KEYRING, 0, 0); errno != 0 {
			done <- blameKeyctl("write the keyring; the old item stays", errno)
			return
		}
		done <- r.libraryRing.set(ctx, key, label, data)
	}()
	return <-done
}
