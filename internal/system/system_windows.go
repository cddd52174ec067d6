package system

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"unsafe"
)

// The flags for os.OpenFile. With NoFollow a symbolic link is opened itself, and does not count as a regular file.
// There are no fifos among files.
const (
	NoFollow = syscall.FILE_FLAG_OPEN_REPARSE_POINT
	NonBlock = 0
)

// Exe is the suffix of the names of programs.
const Exe = ".exe"

// Umask does nothing: a new file inherits the access list of its directory.
func Umask(int) int { return 0 }

var (
	kernel32 = syscall.NewLazyDLL("kernel32.dll") // the loader takes it only from the system's directory
	advapi32 = syscall.NewLazyDLL(DLL("advapi32.dll"))

	lockFileEx      = kernel32.NewProc("LockFileEx")
	unlockFileEx    = kernel32.NewProc("UnlockFileEx")
	getSecurityInfo = advapi32.NewProc("GetSecurityInfo")
	getACE          = advapi32.NewProc("GetAce")
	parseDescriptor = advapi32.NewProc("ConvertStringSecurityDescriptorToSecurityDescriptorW")
)

// DLL returns the path of a library of the system, so that no library beside the program or in the working
// directory is loaded instead.
func DLL(name string) string {
	if root := os.Getenv("SystemRoot"); filepath.IsAbs(root) {
		return filepath.Join(root, "System32", name)
	}
	return filepath.Join(`C:\Windows\System32`, name)
}

const (
	lockExclusive = 2 // LOCKFILE_EXCLUSIVE_LOCK
	lockAtOnce    = 1 // LOCKFILE_FAIL_IMMEDIATELY

	errLockViolation = syscall.Errno(33)
)

// TryLock takes the lock of a file if it is free, and holds it until the file is closed. The error is ErrLocked if
// another open file has it.
func TryLock(f *os.File) error { return lockFile(f, lockExclusive|lockAtOnce) }

// Unlock releases the lock of a file that stays open.
func Unlock(f *os.File) error {
	at := syscall.Overlapped{OffsetHigh: 1<<31 - 1}
	if ok, _, err := unlockFileEx.Call(f.Fd(), 0, 1, 0, uintptr(unsafe.Pointer(&at))); ok == 0 {
		return os.NewSyscallError("UnlockFileEx", err)
	}
	return nil
}

// TryLockShared takes a shared lock of a file, and holds it until the file is closed. Several open files can hold
// it at a time; TryLock fails meanwhile. The error is ErrLocked if another open file has an exclusive lock.
func TryLockShared(f *os.File) error { return lockFile(f, lockAtOnce) }

// lockFile locks a byte beyond the end of any file: locks are mandatory on Windows, and other processes must be
// able to read the content.
func lockFile(f *os.File, flags uintptr) error {
	at := syscall.Overlapped{OffsetHigh: 1<<31 - 1}
	ok, _, err := lockFileEx.Call(f.Fd(), flags, 0, 1, 0, uintptr(unsafe.Pointer(&at)))
	switch {
	case ok != 0:
		return nil
	case errors.Is(err, errLockViolation), errors.Is(err, syscall.ERROR_IO_PENDING):
		return ErrLocked
	}
	return os.NewSyscallError("LockFileEx", err)
}

// Well-known identifiers,
// https://learn.microsoft.com/windows-server/identity/ad-ds/manage/understand-security-identifiers
const (
	sidSystem         = "S-1-5-18"
	sidAdministrators = "S-1-5-32-544"
	sidCreatorOwner   = "S-1-3-0" // stands for the creator of a file in a directory
	sidOwnerRights    = "S-1-3-4" // stands for the owner, who is checked anyway
)

// Self returns the identifier (SID) of the user of this process.
var Self = sync.OnceValues(func() (string, error) {
	token, err := syscall.OpenCurrentProcessToken()
	if err != nil {
		return "", os.NewSyscallError("OpenProcessToken", err)
	}
	defer func() { _ = token.Close() }()
	return UserOf(token)
})

// UserOf returns the identifier of the user of a token.
func UserOf(token syscall.Token) (string, error) {
	user, err := token.GetTokenUser()
	if err != nil {
		return "", os.NewSyscallError("GetTokenInformation", err)
	}
	return user.User.Sid.String()
}

const (
	fileObject = 1 // SE_FILE_OBJECT

	ownerInformation = 1
	daclInformation  = 4
)

// accessList is ACL of winnt.h, without its entries.
type accessList struct {
	Revision, _ byte
	Size        uint16
	Count       uint16
	_           uint16
}

// entry is ACCESS_ALLOWED_ACE of winnt.h.
type entry struct {
	Type, Flags byte
	Size        uint16
	Mask        uint32
	SID         uint32 // its first bytes
}

const (
	entryAllows = 0
	entryDenies = 1

	// Rights beyond reading: write data and attributes, delete, change the list and its owner, and the generic
	// bits for these.
	maskWrites = 0x2 | 0x4 | 0x10 | 0x40 | 0x100 | 0x10000 | 0x40000 | 0x80000 | 0x10000000 | 0x40000000
)

// AccessOf returns who may use an open file.
func AccessOf(f *os.File) (Access, error) {
	info, err := f.Stat()
	if err != nil {
		return Access{}, err
	}
	me, err := Self()
	if err != nil {
		return Access{}, err
	}
	var owner *syscall.SID
	var list *accessList
	var descriptor syscall.Handle
	// Ask through the handle, so that the file cannot be swapped for another meanwhile.
	code, _, _ := getSecurityInfo.Call(f.Fd(), fileObject, ownerInformation|daclInformation,
		uintptr(unsafe.Pointer(&owner)), 0, uintptr(unsafe.Pointer(&list)), 0, uintptr(unsafe.Pointer(&descriptor)))
	if code != 0 {
		return Access{}, &fs.PathError{Op: "read the access list of", Path: f.Name(), Err: syscall.Errno(code)}
	}
	defer func() { _, _ = syscall.LocalFree(descriptor) }()
	a := Access{Perm: 0o600}
	var about syscall.ByHandleFileInformation
	if err := syscall.GetFileInformationByHandle(syscall.Handle(f.Fd()), &about); err != nil {
		return Access{}, &fs.PathError{Op: "look at", Path: f.Name(), Err: err}
	}
	a.Links = int(about.NumberOfLinks)
	if info.IsDir() {
		a.Perm = 0o700
	}
	holder, err := owner.String()
	if err != nil {
		return Access{}, err
	}
	// An elevated process of this user creates files that belong to the Administrators.
	a.Ours = holder == me || holder == sidAdministrators
	a.Owner = holder
	others, err := othersIn(list, me)
	a.Perm |= others
	return a, err
}

// othersIn returns what a list allows to anybody but this user, SYSTEM and the Administrators, as the bits of a
// mode.
func othersIn(list *accessList, me string) (perm fs.FileMode, err error) {
	if list == nil { // without a list, everybody may do everything
		return 0o077, nil
	}
	for i := range list.Count {
		var e *entry
		if ok, _, err := getACE.Call(uintptr(unsafe.Pointer(list)), uintptr(i), uintptr(unsafe.Pointer(&e))); ok == 0 {
			return 0, os.NewSyscallError("GetAce", err)
		}
		if e.Type == entryDenies || e.Mask == 0 {
			continue
		}
		if e.Type != entryAllows { // conditional, object and later types are not evaluated
			return 0o077, nil
		}
		who, err := (*syscall.SID)(unsafe.Pointer(&e.SID)).String()
		if err != nil {
			return 0, err
		}
		switch who {
		case me, sidSystem, sidAdministrators, sidCreatorOwner, sidOwnerRights:
			continue
		}
		perm |= 0o055
		if e.Mask&maskWrites != 0 {
			perm |= 0o022
		}
	}
	return perm, nil
}

// AccessOfPath returns who may use a file. A symbolic link is followed.
func AccessOfPath(path string) (Access, error) {
	f, err := os.Open(path)
	if err != nil {
		return Access{}, err
	}
	defer func() { _ = f.Close() }()
	return AccessOf(f)
}

// describe parses the text form of a security descriptor. The caller frees the result with LocalFree.
func describe(text string) (syscall.Handle, error) {
	p, err := syscall.UTF16PtrFromString(text)
	if err != nil {
		return 0, err
	}
	var descriptor syscall.Handle
	if ok, _, err := parseDescriptor.Call(uintptr(unsafe.Pointer(p)), 1, uintptr(unsafe.Pointer(&descriptor)),
		0); ok == 0 {
		return 0, os.NewSyscallError("ConvertStringSecurityDescriptorToSecurityDescriptor", err)
	}
	return descriptor, nil
}

// CloseToOthers returns the command that removes the inherited rights of a file and grants access only to this
// user.
func CloseToOthers[S ~string](file, mode S) S {
	me, _ := Self()
	inherit := ""
	if mode == "700" { // a directory: also for files that will be created in it
		inherit = "(OI)(CI)"
	}
	return S(fmt.Sprintf(`icacls %s /inheritance:r /grant:r "*%s:%sF"`, file, me, inherit))
}

// MakePrivate creates a directory that only this user, SYSTEM and the Administrators can use, including everything
// that will be created in it: its access list does not inherit from the parent directory.
func MakePrivate(dir string) error {
	me, err := Self()
	if err != nil {
		return err
	}
	descriptor, err := describe(fmt.Sprintf("O:%sD:P(A;OICI;FA;;;%s)(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)", me, me))
	if err != nil {
		return err
	}
	defer func() { _, _ = syscall.LocalFree(descriptor) }()
	name, err := syscall.UTF16PtrFromString(dir)
	if err != nil {
		return err
	}
	attributes := syscall.SecurityAttributes{SecurityDescriptor: uintptr(descriptor)}
	attributes.Length = uint32(unsafe.Sizeof(attributes))
	if err := syscall.CreateDirectory(name, &attributes); err != nil {
		return &fs.PathError{Op: "mkdir", Path: dir, Err: err}
	}
	return nil
}

// AccessOfInfo always returns ok false: on Windows the info does not tell who may use a file.
func AccessOfInfo(fs.FileInfo) (a Access, ok bool) { return Access{}, false }

// GiveBack returns the command that makes this user the owner of everything in a directory.
func GiveBack[S ~string](path S) S { return "takeown /r /f " + path }

// SyncDir does nothing: Windows cannot flush a directory, and NTFS journals its names.
func SyncDir(string) error { return nil }

// SyncNames does nothing, like SyncDir.
func SyncNames(*os.File) error { return nil }

const (
	createNewGroup = 0x200      // CREATE_NEW_PROCESS_GROUP: does not get our Ctrl-C
	createNoWindow = 0x08000000 // CREATE_NO_WINDOW: its own console, which is invisible
)

// Session returns the attributes to start a process without our console and its signals.
func Session() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{CreationFlags: createNewGroup | createNoWindow}
}
