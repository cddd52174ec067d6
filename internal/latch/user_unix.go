//go:build unix

package latch

import (
	"os"
	"os/user"
	"strconv"
)

// knownUser is the entry of the user database. user.Current would make one up of HOME where there is none.
func knownUser() (*user.User, error) { return user.LookupId(strconv.Itoa(os.Getuid())) }
