// Package nodbus controls DBUS_SESSION_BUS_ADDRESS while the keyring library initializes. In its init functions
// the library dials the session bus. If it finds none, it runs dbus-launch, which leaves a dbus-daemon behind at
// each start. This package prevents that: it hides the bus from every process but the vault process, and from that
// too if there is no bus.
//
// It relies on the order of initialization. Go initializes the packages that are ready in the order of their
// import paths, and "broker/…" sorts before "github.com/…". So this package may import only basic packages of the
// standard library, and its import path must sort before "github.com/".
package nodbus

import (
	"os"
	"strings"
	"sync/atomic"
	"time"
)

const (
	variable = "DBUS_SESSION_BUS_ADDRESS"

	// Disabled is an address that no transport serves: dialing it fails at once, without a search and without
	// dbus-launch.
	Disabled = "disabled:"

	// BusSilent is the exit code of a vault process whose session bus accepted the connection and did not respond
	// for five seconds.
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

// Hidden reports whether the bus was hidden from the library.
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

// visible returns the address that the library may see.
func visible(address string, vault bool) string {
	if !vault {
		return Disabled
	}
	// "autolaunch:" asks to run dbus-launch.
	if address != "" && !strings.HasPrefix(address, "autolaunch:") {
		return address
	}
	// The library does not unescape D-Bus addresses, so a path with a separator, which needs an escape, cannot be
	// used.
	bus := os.Getenv("XDG_RUNTIME_DIR") + "/bus"
	if bus[0] != '/' || bus == "/bus" || strings.ContainsAny(bus, ",;") {
		return Disabled
	}
	if info, err := os.Stat(bus); err != nil || info.Mode()&os.ModeSocket == 0 {
		return Disabled
	}
	return "unix:path=" + bus
}

// watch ends a vault process that hangs in the library's init: a suspended bus accepts connections and never
// responds.
func watch() {
	time.Sleep(patience)
	if !over.Load() {
		os.Exit(BusSilent)
	}
}

// Restore must be called after the library's init. It restores the variable as the process got it, unset included,
// so that children get the user's own value. The vault process has no children and keeps what the library saw: if
// the library is asked for a bus later and has none, it searches again, and would then run dbus-launch.
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
