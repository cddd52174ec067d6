package vault

import (
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

// backend is one kind of keyring that this platform has, which package process opens. The list platform holds them in
// the order in which they are tried.
type backend struct {
	name string
	// byName: it is used only where the settings name it.
	byName bool
	// note is what its user has to know.
	note string
}

// elsewhere says which systems have the backends that not all have.
var elsewhere = map[string]string{
	SecretService: "Linux",
	KWallet:       "Linux",
	Keyctl:        "Linux",
	Keychain:      "macOS",
	WinCred:       "Windows",
	Pass:          "Linux and macOS",
}

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
	if systems := elsewhere[name]; systems != "" {
		return fault.New(fault.Keyring, "the keyring backend %s is there on %s only; keyring_backend in [settings] can be one of %s here", name, systems, choice).
			WithHint("broker keyring list")
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
