package exchange

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"

	"broker/internal/peer"
	"broker/internal/profiles"
)

// dialFunc is http.Transport.DialContext.
type dialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// strangerError means that the program at a plain-http endpoint does not belong to the user.
type strangerError struct {
	addr net.Addr
	uid  int // -1 if the listener is unknown
}

func (e *strangerError) Error() string {
	if e.uid < 0 {
		return fmt.Sprintf("cannot tell who listens at %s", e.addr)
	}
	return fmt.Sprintf("uid %d listens at %s", e.uid, e.addr)
}

// guardListener makes connections for plain http: over loopback, to a program of our own uid or of the uid in
// allowed (see profiles.Endpoint.Listener). It looks up the listener once the connection is established, before a
// byte is sent.
func guardListener(dial dialFunc, allowed string) dialFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		if err := checkListener(conn, allowed); err != nil {
			_ = conn.Close()
			return nil, err
		}
		return conn, nil
	}
}

func checkListener(conn net.Conn, allowed string) error {
	far := conn.RemoteAddr()
	tcp, ok := conn.(*net.TCPConn)
	if addr, is := far.(*net.TCPAddr); !ok || !is || !addr.IP.IsLoopback() {
		return &strangerError{far, -1} // localhost may not be loopback
	}
	if allowed == profiles.AnyListener {
		return nil
	}
	uid, err := peer.ListenerUID(tcp)
	switch {
	case err != nil:
		return &strangerError{far, -1}
	case uid != os.Geteuid() && strconv.Itoa(uid) != allowed:
		return &strangerError{far, uid}
	}
	return nil
}
