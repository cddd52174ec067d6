package peer

import "errors"

type descriptor = int

// connectionUID returns the owner of the socket whose own address is here and whose peer is there.
func connectionUID(here, there end) (int, error) {
	s, err := ask(here, there)
	return s.holder(err, s.state == established && s.local == here && s.remote == there, func(t *table) (int, bool) {
		uid, found := t.connections[[2]end{here, there}]
		return uid, found
	})
}

// Addresses of sockets that listen on all addresses.
var (
	all4 = end4([4]byte{}, 0).ip
	all6 = end{}.ip
)

func listenerUID(at end) (int, error) {
	s, err := ask(at, end{})
	takes := s.local.port == at.port && (s.local.ip == at.ip || s.local.ip == all4 || s.local.ip == all6)
	return s.holder(err, s.state == listening && takes, func(t *table) (int, bool) { return t.listener(at) })
}

// holder returns the uid in an answer of ask, if the answer is the socket that was searched for. If the kernel
// could not be asked, it searches the lists of all sockets.
func (s socket) holder(err error, is bool, find func(*table) (int, bool)) (int, error) {
	switch {
	case err == nil && is && s.inode != 0:
		return s.uid, nil
	case err == nil, errors.Is(err, ErrNobody):
		return 0, ErrNobody
	}
	return inTables(find)
}
