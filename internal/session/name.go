package session

import (
	"os"
	"os/user"
	"strconv"
	"strings"

	"broker/internal/lazyregexp"
)

// notInName matches the characters that a role session name must not contain.
// https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
var notInName = lazyregexp.New(`[^\w+=,.@-]+`)

// DefaultName returns the role session name for profiles that set none: USER@HOST, so that CloudTrail shows who it
// was. In a container the uid may have no name; then it is uid-UID@HOST. The name has at most 64 characters, and AWS
// accepts all of them.
func DefaultName() string {
	name := os.Getenv("USER")
	if u, err := user.Current(); err == nil && u.Username != "" {
		name = u.Username
	}
	if name == "" {
		name = "uid-" + strconv.Itoa(os.Getuid())
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	host, _, _ = strings.Cut(host, ".")
	name = notInName.ReplaceAllString(name+"@"+host, "-")
	return name[:min(len(name), 64)]
}
