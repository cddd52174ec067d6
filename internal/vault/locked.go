package vault

import "broker/internal/lockfile"

// whileLocked says which operations may run while Broker is locked: those that only delete a session, or test
// whether a keyring can be opened (unlock needs that), and return no secret. All others, which read, change or
// delete an item of the keyring or sign a request, may not run; neither may an operation that is missing here.
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
	OpKeys:        false,
	OpNewKey:      false,
	OpTryKey:      false,
	OpKeyStatus:   false,
	OpDeleteKey:   false,
	OpForgetKey:   false,
	OpTry:         false,
	OpMigrate:     false,
	OpClear:       false,

	OpMakeDevice:   false,
	OpEnableDevice: false,
	OpKeepDevice:   false,

	OpBeginLogin:  false,
	OpFinishLogin: false,
	OpEndLogin:    false,
}

// RefuseLocked returns a fault of kind Locked if Broker is locked and the operation must not run then.
func RefuseLocked(op Operation, stateDir string) error {
	if whileLocked[op] {
		return nil
	}
	return lockfile.Find(stateDir).Refuse()
}
