package vault

import (
	"slices"

	"broker/internal/lockfile"
)

// whileLocked are the operations that may run while Broker is locked: those that only delete a session, or test whether
// a keyring can be opened (unlock needs that), and return no secret. All others read, change or delete an item of the
// keyring or sign a request.
var whileLocked = []Operation{OpDrop, OpCheck, OpProbe}

// RefuseLocked returns a fault of kind Locked if Broker is locked and the operation must not run then.
func RefuseLocked(op Operation, stateDir string) error {
	if slices.Contains(whileLocked, op) {
		return nil
	}
	return lockfile.Find(stateDir).Refuse()
}
