package system

// trusted checks the access list of a file. It does not check the directories above: the system sets their lists.
func trusted(path string, above bool) error {
	if above {
		return nil
	}
	a, err := AccessOfPath(path)
	if err == nil && a.Perm&0o022 != 0 {
		err = &UntrustedError{path, "can be written by others", true}
	}
	return err
}

// trustedLink does nothing: links have no owner here.
func trustedLink(string) error { return nil }

// PrivateDir reports whether a path is a directory of this user that others cannot write to.
func PrivateDir(path string) bool {
	a, err := AccessOfPath(path)
	return err == nil && a.Ours && a.Perm&0o022 == 0 && a.Perm&0o100 != 0
}

// OwnerOf knows nothing: Windows has no uids.
func OwnerOf(string) (uid int, known bool) { return 0, false }

// CloseInherited does nothing: on Windows a process inherits only the handles that its parent names.
func CloseInherited() {}
