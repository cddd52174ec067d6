package loopback

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
)

// Where the kernel cannot be asked about one socket, as in some containers, the lists of all have to do:
// proc_net_tcp in Documentation/networking of Linux. One that many wait for is read once for all of them, so
// that a flood of connections is no flood of readings.

// tries is how often a socket is looked for: the kernel writes the list page by page,
// and one that moves meanwhile can be missed.
const tries = 3

// A table is one reading: the connections, by the addresses of both ends, and what listens, by its own.
type table struct {
	done        chan struct{} // closed once it is read
	err         error
	connections map[string]int
	listeners   map[string]map[int]bool
}

var (
	reading sync.Mutex // held by the one that reads
	mu      sync.Mutex
	waiting *table // that will be read next, and begins after whoever joins it
)

// readTable returns a reading that began after the call.
func readTable() *table {
	t := join()
	<-t.done
	return t
}

// join is the next reading, for all who come before it begins.
func join() *table {
	mu.Lock()
	defer mu.Unlock()
	t := waiting
	if t == nil {
		t = &table{done: make(chan struct{}), connections: map[string]int{}, listeners: map[string]map[int]bool{}}
		waiting = t
		go func() {
			reading.Lock()
			defer reading.Unlock()
			mu.Lock()
			waiting = nil
			mu.Unlock()
			defer close(t.done)
			// One of the two may be missing: a kernel without IPv6.
			err, err6 := t.read("/proc/self/net/tcp"), t.read("/proc/self/net/tcp6")
			if err != nil && err6 != nil {
				t.err = errors.Join(err, err6)
			}
		}()
	}
	return t
}

// read takes in one list.
func (t *table) read(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		// sl local_address rem_address st tx_queue:rx_queue tr:tm->when retrnsmt uid timeout inode …
		fields := strings.Fields(lines.Text())
		if len(fields) < 10 || fields[9] == "0" { // one that its program has closed
			continue
		}
		uid, err := strconv.Atoi(fields[7])
		if err != nil {
			continue
		}
		switch local := fields[1]; fields[3] {
		case "01":
			t.connections[local+" "+fields[2]] = uid
		case "0A":
			if t.listeners[local] == nil {
				t.listeners[local] = map[int]bool{}
			}
			t.listeners[local][uid] = true
		}
	}
	return lines.Err()
}

func ownerInTable(remote, local netip.AddrPort) (int, error) {
	var err error
	for range tries {
		t := readTable()
		if err = t.err; err != nil {
			continue
		}
		for _, write := range []func(netip.AddrPort) string{inTable, inTable6} {
			// The far end's own entry has its address first.
			if uid, ok := t.connections[write(remote)+" "+write(local)]; ok {
				return uid, nil
			}
		}
	}
	return 0, errors.Join(ErrNobody, err)
}

// listenerInTable fails where sockets of several users might be the one: the list does not tell which.
func listenerInTable(at netip.AddrPort) (int, error) {
	var err error
	for range tries {
		t := readTable()
		if err = t.err; err != nil {
			continue
		}
		all := map[int]bool{}
		any4 := netip.AddrPortFrom(netip.IPv4Unspecified(), at.Port())
		any6 := netip.AddrPortFrom(netip.IPv6Unspecified(), at.Port())
		keys := []string{inTable6(at), inTable6(any6)}
		if at.Addr().Is4() {
			keys = append(keys, inTable(at), inTable(any4), inTable6(any4))
		}
		for _, key := range keys {
			for uid := range t.listeners[key] {
				all[uid] = true
			}
		}
		if len(all) == 1 {
			for uid := range all {
				return uid, nil
			}
		}
	}
	return 0, errors.Join(ErrNobody, err)
}

// inTable writes an IPv4 address as /proc/net/tcp has it: as the machine keeps numbers.
func inTable(a netip.AddrPort) string {
	if !a.Addr().Is4() {
		return ""
	}
	ip := a.Addr().As4()
	return fmt.Sprintf("%08X:%04X", binary.NativeEndian.Uint32(ip[:]), a.Port())
}

// inTable6 is an address as /proc/net/tcp6 has it, in four numbers. Sockets of IPv6 have IPv4 addresses too: Java's do.
func inTable6(a netip.AddrPort) string {
	ip := a.Addr().As16()
	var b strings.Builder
	for i := 0; i < len(ip); i += 4 {
		fmt.Fprintf(&b, "%08X", binary.NativeEndian.Uint32(ip[i:]))
	}
	return fmt.Sprintf("%s:%04X", b.String(), a.Port())
}
