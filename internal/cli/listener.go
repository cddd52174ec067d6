package cli

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strconv"
	"time"

	"broker/internal/peer"
	"broker/internal/profiles"
)

// listenerAt says who listens at a plain-http endpoint now, for the question whether to trust it: a uid,
// profiles.AnyListener if the system does not tell whose program listens, or "" if none does.
func listenerAt(ctx context.Context, endpoint string) string {
	var listener string
	dialer := &net.Dialer{Timeout: time.Second}
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dialer.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		defer func() { _ = conn.Close() }()
		listener = profiles.AnyListener
		if tcp, ok := conn.(*net.TCPConn); ok {
			if uid, err := peer.ListenerUID(tcp); err == nil {
				listener = strconv.Itoa(uid)
			}
		}
		return nil, errors.New("nothing is sent")
	}
	t := &http.Transport{DisableKeepAlives: true, DialContext: dial}
	if req, err := http.NewRequestWithContext(ctx, http.MethodGet, endpoint, nil); err == nil && req.URL.Scheme == "http" {
		if resp, err := t.RoundTrip(req); err == nil {
			_ = resp.Body.Close()
		}
	}
	return listener
}
