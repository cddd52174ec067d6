package paths

// homeVariable is the variable that AWS tools use too. HOME is set by Git's shell and may differ.
const homeVariable = "USERPROFILE"

// The registry, which people edit, roams with the user's profile; the rest stays on the machine.
var (
	registry = place{"APPDATA", "broker/config", "AppData/Roaming/broker/config"}
	keyring  = place{"LOCALAPPDATA", "broker/keyring", "AppData/Local/broker/keyring"}
	state    = place{"LOCALAPPDATA", "broker", "AppData/Local/broker"}
)

// LoginRuntime is always empty: Windows has no such directories.
func LoginRuntime(string) string { return "" }

// usable is always false: Windows has no XDG_RUNTIME_DIR, and a value set by Git's shell or WSL is not meant for
// us.
func usable(string) bool { return false }
