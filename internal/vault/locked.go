package vault

import "broker/internal/latch"

// whileLocked says for each operation whether it may run while the broker is locked. It may if it forgets a session, or
// proves that a keyring can be opened, which unlock needs, and gives nothing out. Whatever else reads, changes or
// deletes an item of the keyring, or signs, may not; nor may an operation that is not named here.
var whileLocked = map[operation]bool{
	opDrop:  true,
	opCheck: true,
	opProbe: true,

	opOpen:        false,
	opPut:         false,
	opSetSeed:     false,
	opRemoveSeed:  false,
	opRemove:      false,
	opDescribe:    false,
	opCreate:      false,
	opSeal:        false,
	opUnseal:      false,
	opForget:      false,
	opDevices:     false,
	opForeignKeys: false,
	opAdopt:       false,
	opTry:         false,
	opMigrate:     false,
	opClear:       false,
}

// refuseLocked is refuseLocked for this request. It also goes by the home of the key, once that was read.
func (e *errand) refuseLocked() error {
	if err := refuseLocked(e.Op, e.StateDir); err != nil {
		return err
	}
	return latch.RefuseHome(e.home)
}

// refuseLocked returns a fault.Locked if the broker is locked and the operation may not run then.
func refuseLocked(op operation, stateDir string) error {
	if whileLocked[op] {
		return nil
	}
	return latch.Find(stateDir).Refuse()
}
