package vault

import "broker/internal/latch"

// whileLocked says for each operation whether it may run while the broker is locked. It may if it forgets a session, or
// proves that a keyring can be opened, which unlock needs, and gives nothing out. Whatever else reads, changes or
// deletes an item of the keyring, or signs, may not; nor may an operation that is not named here.
var whileLocked = map[Operation]bool{
	OpDrop:  true,
	OpCheck: true,
	OpProbe: true,

	OpOpen:        false,
	OpPut:         false,
	OpSetSeed:     false,
	OpRemoveSeed:  false,
	OpRemove:      false,
	OpDescribe:    false,
	OpCreate:      false,
	OpSeal:        false,
	OpUnseal:      false,
	OpForget:      false,
	OpDevices:     false,
	OpForeignKeys: false,
	OpAdopt:       false,
	OpTry:         false,
	OpMigrate:     false,
	OpClear:       false,
}

// RefuseLocked returns a fault.Locked if the broker is locked and the operation may not run then.
func RefuseLocked(op Operation, stateDir string) error {
	if whileLocked[op] {
		return nil
	}
	return latch.Find(stateDir).Refuse()
}
