package peer

import (
	"bufio"
	"encoding/binary"
	"errors"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

// If the kernel cannot be asked about one socket, as in some containers, we search the lists of all sockets: see
// proc_net_tcp in Documentation/networking of Linux. Concurrent callers share one reading of a list, so that a
// flood of connections does not cause a flood of readings.

// tries is how often a socket is searched for: the kernel writes the list page by page, and a socket that moves
// meanwhile can be missed.
const tries = 3

// table is one reading of the lists: the owner of each connection, by its own end and the other, and the owner of
// each listener.
type table struct {
	began       int64 // serves all callers that had asked by then
	err         error
	connections map[[2]end]int
	listeners   map[end]int // several, if listeners of several users have one address
}

// several is a uid that no user has.
const several = -1

var (
	asked, waiting atomic.Int64
	reading        sync.Mutex
	last           *table // nil while nobody waits for it
)

// readTable returns a reading that began after the call. One reading serves all callers that wait when it begins.
func readTable() *table {
	turn := asked.Add(1)
	waiting.Add(1)
	reading.Lock()
	defer reading.Unlock()
	t := last
	if t == nil || t.began < turn {
		t = &table{began: asked.Load(), connections: map[[2]end]int{}, listeners: map[end]int{}}
		// One of the two may be missing: the kernel may have no IPv6.
		err, err6 := t.read("/proc/self/net/tcp"), t.read("/proc/self/net/tcp6")
		if err != nil && err6 != nil {
			t.err = errors.Join(err, err6)
		}
	}
	if last = t; waiting.Add(-1) == 0 {
		last = nil
	}
	return t
}

// read adds the sockets of one list.
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
		if len(fields) < 10 || fields[9] == "0" { // inode 0 is a socket that its program has closed
			continue
		}
		here, err1 := endInTable(fields[1])
		there, err2 := endInTable(fields[2])
		uid, err3 := strconv.Atoi(fields[7])
		if errors.Join(err1, err2, err3) != nil {
			continue // the title line
		}
		switch fields[3] {
		case "01":
			t.connections[[2]end{here, there}] = uid
		case "0A":
			if other, found := t.listeners[here]; found && other != uid {
				uid = several
			}
			t.listeners[here] = uid
		}
	}
	return lines.Err()
}

// inTables searches several readings until find succeeds.
func inTables(find func(*table) (uid int, found bool)) (int, error) {
	var err error
	for range tries {
		t := readTable()
		if err = t.err; err != nil {
			continue
		}
		if uid, found := find(t); found {
			return uid, nil
		}
	}
	return 0, errors.Join(ErrNobody, err)
}

// listener finds the owner of the socket that accepts connections at an address. If sockets of several users
// match, it finds nothing: the list does not say which of them accepts.
func (t *table) listener(at end) (uid int, found bool) {
	addresses := [][16]byte{at.ip, all6}
	if at.is4() {
		addresses = append(addresses, all4)
	}
	for _, ip := range addresses {
		one, listens := t.listeners[end{ip, at.port}]
		if !listens {
			continue
		}
		if one == several || found && one != uid {
			return 0, false
		}
		uid, found = one, true
	}
	return uid, found
}

// endInTable parses "0100007F:0050": an IPv4 or IPv6 address as 32-bit numbers in the machine's byte order, and a
// port.
func endInTable(text string) (end, error) {
	ip, port, _ := strings.Cut(text, ":")
	number, err := strconv.ParseUint(port, 16, 16)
	if err != nil || len(ip) != 8 && len(ip) != 32 {
		return end{}, errors.New("not an address")
	}
	var address [16]byte
	for i := 0; i < len(ip); i += 8 {
		n, err := strconv.ParseUint(ip[i:i+8], 16, 32)
		if err != nil {
			return end{}, err
		}
		binary.NativeEndian.PutUint32(address[i/2:], uint32(n))
	}
	if len(ip) == 8 {
		return end4([4]byte(address[:4]), int(number)), nil
	}
	return end{address, uint16(number)}, nil
}
