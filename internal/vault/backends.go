package vault

import (
	"runtime"
	"slices"
	"strings"

	"broker/internal/fault"
)

// The names of the backends, as keyring_backend in [settings] has them.
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
	on   string // the systems that have it, if not all
	// byName: it is used only where the settings name it.
	byName bool
	// note is what its user has to know.
	note string
}

// backends are all there are, in the order in which they are tried. A desktop's own keyring goes first, then a password
// store that somebody has set up, then the file. The kernel's is never taken unasked, since it forgets.
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

// platform are those of this system.
var platform = slices.DeleteFunc(slices.Clone(backends), func(b backend) bool {
	system := bothUnix // another Unix has what both have
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

// Backends are the keyring backends of this platform, in the order in which Probe tries them.
func Backends() []string {
	var names []string
	for _, b := range platform {
		names = append(names, b.name)
	}
	return names
}

// Note is what the user of a backend has to know, or nothing.
func Note(name string) string {
	b, _ := findBackend(name)
	return b.note
}

// CheckBackend refuses the name of a backend that this platform does not have.
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
