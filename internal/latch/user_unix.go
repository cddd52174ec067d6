//go:build unix

package latch

import (
	"os"
	"os/user"
	"strconv"
)

// knownUser is the entry of the user database. If there is no entry, user.Current makes one up from HOME.
func knownUser() (*user.User, error) { return user.LookupId(strconv.Itoa(os.Getuid())) }
