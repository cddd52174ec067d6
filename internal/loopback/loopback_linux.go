package loopback

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
)

// tries is how often a connection is looked for: the kernel writes the list page by page,
// and one that moves meanwhile can be missed.
const tries = 3

// Tells reports whether the system tells whose a connection is.
const Tells = true

func ownerOf(remote, local net.Addr) (int, error) {
	far, ok := remote.(*net.TCPAddr)
	near, ok2 := local.(*net.TCPAddr)
	if !ok || !ok2 {
		return 0, ErrNobody
	}
	for range tries {
		for _, table := range []struct {
			file  string
			write func(*net.TCPAddr) string
		}{{"/proc/self/net/tcp", inTable}, {"/proc/self/net/tcp6", inTable6}} {
			// The far end's own entry has its address first.
			uid, err := ownerIn(table.file, table.write(far), table.write(near))
			if err == nil {
				return uid, nil
			}
		}
	}
	return 0, ErrNobody
}

// inTable writes an address as /proc/net/tcp has it: as the machine keeps numbers.
func inTable(a *net.TCPAddr) string {
	ip := a.IP.To4()
	if ip == nil {
		return ""
	}
	return fmt.Sprintf("%08X:%04X", binary.NativeEndian.Uint32(ip), a.Port)
}

// inTable6 is the same address where an IPv6 socket has it: Java's are.
func inTable6(a *net.TCPAddr) string {
	mapped := [4]byte{0, 0, 0xff, 0xff}
	return fmt.Sprintf("%016X%08X", 0, binary.NativeEndian.Uint32(mapped[:])) + inTable(a)
}

// ownerIn looks for an established connection in one list.
func ownerIn(file, from, to string) (int, error) {
	f, err := os.Open(file)
	if err != nil {
		return 0, err
	}
	defer func() { _ = f.Close() }()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		// sl local_address rem_address st tx_queue:rx_queue tr:tm->when retrnsmt uid timeout inode …
		if !strings.Contains(lines.Text(), from) {
			continue
		}
		fields := strings.Fields(lines.Text())
		if len(fields) < 10 || fields[1] != from || fields[2] != to || fields[3] != "01" || fields[9] == "0" {
			continue
		}
		return strconv.Atoi(fields[7])
	}
	return 0, errors.Join(ErrNobody, lines.Err())
}
