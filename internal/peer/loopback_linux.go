package peer

import "errors"

// TellsLoopback reports whether the system tells whose a connection over loopback is.
const TellsLoopback = true

type descriptor = int

// connectionUID asks about the socket of a connection that has its own address here, and the other's there.
func connectionUID(here, there end) (int, error) {
	s, err := ask(here, there)
	switch {
	case err == nil && s.state == established && s.local == here && s.remote == there && s.inode != 0:
		return s.uid, nil
	case err == nil, errors.Is(err, ErrNobody):
		return 0, ErrNobody
	}
	return connectionInTables(here, there)
}

// Addresses of sockets that listen on all.
var (
	all4 = end4([4]byte{}, 0).ip
	all6 = end{}.ip
)

func listenerUID(at end) (int, error) {
	s, err := ask(at, end{})
	switch {
	case err == nil && s.state == listening && s.inode != 0 && s.local.port == at.port &&
		(s.local.ip == at.ip || s.local.ip == all4 || s.local.ip == all6):
		return s.uid, nil
	case err == nil, errors.Is(err, ErrNobody):
		return 0, ErrNobody
	}
	return listenerInTables(at)
}
