package system

import (
	"fmt"
	"os"
	"testing"
	"unsafe"
)

var getDACL = advapi32.NewProc("GetSecurityDescriptorDacl")

// listOf returns the access list of a security descriptor. The system builds it, so it does not depend on the file
// system.
func listOf(t *testing.T, descriptor string) *accessList {
	t.Helper()
	d, err := describe(descriptor)
	if err != nil {
		t.Fatal(err)
	}
	var present, defaulted int32
	var list *accessList
	if ok, _, err := getDACL.Call(uintptr(d), uintptr(unsafe.Pointer(&present)), uintptr(unsafe.Pointer(&list)),
		uintptr(unsafe.Pointer(&defaulted))); ok == 0 {
		t.Fatal(err)
	}
	return list
}

// TestAccessList checks to whom a list gives access, and which.
func TestAccessList(t *testing.T) {
	me, err := Self()
	if err != nil {
		t.Fatal(err)
	}
	mine := fmt.Sprintf("D:P(A;OICI;FA;;;%s)", me)
	for _, tt := range []struct {
		name, list string
		perm       os.FileMode
	}{
		{"ours", mine, 0},
		{"an empty list", "D:P", 0},
		{"and SYSTEM and the Administrators", mine + "(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)", 0},
		{"everybody denied", "D:P(D;;FA;;;WD)(A;;FA;;;" + me + ")", 0},
		{"and everybody to read", mine + "(A;OICI;FR;;;WD)", 0o055},
		{"and users to list", mine + "(A;;0x1;;;BU)", 0o055},
		{"and everybody to write", mine + "(A;OICI;FA;;;WD)", 0o077},
		{"and users to add files", mine + "(A;;0x2;;;BU)", 0o077},
		{"and another user, for what will be in it", mine + "(A;OICIIO;FA;;;S-1-5-21-1-2-3-1001)", 0o077},
		{"and everybody, whom another entry denies", "D:P(D;;FA;;;BG)(A;;GA;;;WD)", 0o077},
	} {
		if perm, err := othersIn(listOf(t, tt.list), me); err != nil || perm != tt.perm {
			t.Errorf("%s: %04o, %v; want %04o", tt.name, perm, err, tt.perm)
		}
	}
	if perm, err := othersIn(nil, me); err != nil || perm != 0o077 {
		t.Errorf("no list: %04o, %v", perm, err)
	}
}
