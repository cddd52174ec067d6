package cli

import (
	"cmp"
	"context"
	"net"
	"net/url"
	"strconv"
	"time"

	"broker/internal/peer"
	"broker/internal/profiles"
)

// listenerAt returns who listens at a plain-http endpoint now, for the decision whether to trust it: a uid,
// profiles.AnyListener if the system does not report the owner of the listener, or "" if nothing listens. It sends
// no data.
func listenerAt(ctx context.Context, endpoint string) string {
	u, err := url.Parse(endpoint)
	if err != nil || u.Scheme != "http" {
		return ""
	}
	dialer := &net.Dialer{Timeout: time.Second}
	conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), "80")))
	if err != nil {
		return ""
	}
	defer func() { _ = conn.Close() }()
	if tcp, ok := conn.(*net.TCPConn); ok {
		if uid, err := peer.ListenerUID(tcp); err == nil {
			return strconv.Itoa(uid)
		}
	}
	return profiles.AnyListener
}
