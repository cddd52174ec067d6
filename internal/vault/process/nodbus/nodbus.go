// Package nodbus owns DBUS_SESSION_BUS_ADDRESS while the keyring library is
// being initialised. The library dials the session bus in its init functions and runs
// dbus-launch where it finds none, which leaves one dbus-daemon behind for each
// start. This package refuses that: it hides the bus from every process but the
// vault, and from the vault too where there is no bus to find.
//
// It works by order. Go initialises packages that are ready in the order of their
// import paths, and "broker/…" sorts before "github.com/…"; so this package may
// import nothing but the standard library's basics, and its path must stay below
// "github.com/".
package nodbus

import (
	"os"
	"strings"
	"sync/atomic"
	"time"
)

const (
	variable = "DBUS_SESSION_BUS_ADDRESS"

	// Disabled is an address that no transport serves: dialling it fails at once,
	// without a search and without dbus-launch.
	Disabled = "disabled:"

	// BusSilent is the exit code of a vault process whose session bus took the
	// connection and then said nothing for five seconds.
	BusSilent = 71

	patience = 5 * time.Second
)

var (
	original string
	wasSet   bool
	vault    bool
	hidden   bool
	over     atomic.Bool
)

// Hidden reports whether the library was shown no bus.
func Hidden() bool { return hidden }

func init() {
	original, wasSet = os.LookupEnv(variable)
	vault = len(os.Args) > 1 && os.Args[1] == "vault"
	address := visible(original, vault)
	hidden = address == Disabled
	_ = os.Setenv(variable, address)
	if vault {
		go watch()
	}
}

// visible is the address that the library may see.
func visible(address string, vault bool) string {
	if !vault {
		return Disabled
	}
	// "autolaunch:" is a request to run dbus-launch.
	if address != "" && !strings.HasPrefix(address, "autolaunch:") {
		return address
	}
	// The library does not undo the escapes of D-Bus addresses, so a path that would
	// need one for its separators cannot be used.
	bus := os.Getenv("XDG_RUNTIME_DIR") + "/bus"
	if bus[0] != '/' || bus == "/bus" || strings.ContainsAny(bus, ",;") {
		return Disabled
	}
	if info, err := os.Stat(bus); err != nil || info.Mode()&os.ModeSocket == 0 {
		return Disabled
	}
	return "unix:path=" + bus
}

// watch ends a vault process that hangs in the library's init: a bus that is
// stopped takes connections for ever and answers none.
func watch() {
	time.Sleep(patience)
	if !over.Load() {
		os.Exit(BusSilent)
	}
}

// Restore is called once the library's init is over. It puts the variable back as the process was
// given it, unset included, so that children get the user's own. The vault has no children, and
// keeps what the library was shown: asked for a bus later, the library looks again where it
// has none, and would run dbus-launch then.
func Restore() {
	over.Store(true)
	switch {
	case vault:
	case wasSet:
		_ = os.Setenv(variable, original)
	default:
		_ = os.Unsetenv(variable)
	}
}
