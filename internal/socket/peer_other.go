//go:build unix && !linux

package socket

import (
	"errors"
	"net"
	"os"
	"path/filepath"
)

// peerOf fails closed: without knowing the peer nothing is answered.
func peerOf(*net.UnixConn) (Peer, error) {
	return Peer{}, errors.New("this version cannot tell who is at the other end of a socket on this system")
}

func inDir(dir *os.File, name string) string { return filepath.Join(dir.Name(), name) }
