package vault

import (
	"runtime"
	"slices"
	"strings"

	"broker/internal/fault"
)

// The names of the backends, as the setting keyring_backend has them.
const (
	SecretService = "secret-service"
	KWallet       = "kwallet"
	Pass          = "pass"
	Keyctl        = "keyctl"
	Keychain      = "keychain"
	WinCred       = "wincred"
	File          = "file"
)

// backend is one kind of keyring, which package process opens.
type backend struct {
	name string
	on   string // the systems that have it; empty means all
	// byName says that the backend is used only if the settings name it.
	byName bool
	// note is what its user must know.
	note string
}

// backends lists all backends in the order in which they are tried. A desktop's own keyring comes first, then a
// password store that somebody has set up, then the file. The kernel's keyring is never chosen automatically,
// because a reboot empties it.
var backends = []backend{
	{name: Keychain, on: "macOS"},
	{name: WinCred, on: "Windows"},
	{name: SecretService, on: "Linux"},
	{name: KWallet, on: "Linux"},
	{name: Pass, on: bothUnix},
	{name: File},
	{name: Keyctl, on: "Linux", byName: true, note: "kept in the kernel's memory: a reboot empties it"},
}

const bothUnix = "Linux and macOS"

// platform lists the backends of this system.
var platform = slices.DeleteFunc(slices.Clone(backends), func(b backend) bool {
	system := bothUnix // another Unix has the backends that both have
	switch runtime.GOOS {
	case "linux":
		system = "Linux"
	case "darwin":
		system = "macOS"
	case "windows":
		system = "Windows"
	}
	return b.on != "" && !strings.Contains(b.on, system)
})

// Backends returns the keyring backends of this platform, in the order in which they are tried.
func Backends() []string {
	var names []string
	for _, b := range platform {
		names = append(names, b.name)
	}
	return names
}

// Note returns what the user of a backend must know, or "".
func Note(name string) string {
	b, _ := findBackend(name)
	return b.note
}

// CheckBackend returns a fault if this platform has no backend of that name.
func CheckBackend(name string) error {
	if _, ok := findBackend(name); ok {
		return nil
	}
	choice := strings.Join(Backends(), ", ")
	for _, b := range backends {
		if b.name == name {
			return fault.New(fault.Keyring, "the keyring backend %s is there on %s only; "+
				"keyring_backend in [settings] can be one of %s here", name, b.on, choice).
				WithHint("broker keyring list")
		}
	}
	return fault.New(fault.Keyring, "there is no keyring backend %q; keyring_backend in [settings] can be one of %s", name, choice).
		WithHint("broker keyring list")
}

func findBackend(name string) (backend, bool) {
	i := slices.IndexFunc(platform, func(b backend) bool { return b.name == name })
	if i < 0 {
		return backend{}, false
	}
	return platform[i], true
}
