package paths

// homeVariable is what the AWS tools go by too; HOME is that of Git's shell, which may be another.
const homeVariable = "USERPROFILE"

// What a person writes goes with him from machine to machine; the rest stays.
var (
	registry = place{"APPDATA", "broker/config", "AppData/Roaming/broker/config"}
	keyring  = place{"LOCALAPPDATA", "broker/keyring", "AppData/Local/broker/keyring"}
	state    = place{"LOCALAPPDATA", "broker", "AppData/Local/broker"}
)

// usable: there is no XDG_RUNTIME_DIR here; what Git's shell or WSL may have set is not meant for us.
func usable(string) bool { return false }
