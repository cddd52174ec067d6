package console

import (
	"context"
	"crypto/rand"
	"errors"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"broker/internal/secret"
	"broker/internal/socket"
)

// Patience is how long a browser has to come: it may have to start first.
const Patience = time.Minute

// ErrNobody is returned where no browser came in time.
var ErrNobody = errors.New("no browser came")

// Redirect sends one browser on to an address, once. The browser's arguments, which every user of the machine can read, hold the
// Redirect's own address alone.
type Redirect struct {
	to       secret.String
	path     string
	listener net.Listener
	server   *http.Server
	once     sync.Once
	taken    chan struct{}
}

// NewRedirect listens on loopback.
func NewRedirect(to secret.String) (*Redirect, error) {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &Redirect{to: to, path: "/" + rand.Text(), listener: listener, taken: make(chan struct{})}
	r.server = &http.Server{
		Handler:           r,
		ReadHeaderTimeout: 5 * time.Second,
		WriteTimeout:      5 * time.Second,
		MaxHeaderBytes:    64 << 10,
	}
	go func() { _ = r.server.Serve(socket.Guard(listener, ours)) }()
	return r, nil
}

// ours admits the connections of this user, and of root, who may do everything anyway (and whose process
// forwards the ports of some virtual machines). Where the system does not tell whose a connection is, the
// path that nobody can guess has to do.
func ours(uid int, err error) bool {
	return err == nil && (uid == os.Getuid() || uid == 0) || errors.Is(err, errors.ErrUnsupported)
}

// URL is what the browser is started with.
func (r *Redirect) URL() string { return "http://" + r.listener.Addr().String() + r.path }

// Wait returns when a browser was sent on, with ErrNobody after Patience, or with the error of ctx or of
// ended, which tells that the browser failed; nil on that channel says nothing. The address is good for nothing afterwards.
func (r *Redirect) Wait(ctx context.Context, ended <-chan error) error {
	end := time.NewTimer(Patience)
	defer end.Stop()
	for {
		select {
		case <-r.taken:
			return r.close()
		case err := <-ended:
			if err == nil { // it handed the address to a browser that runs already
				ended = nil
				continue
			}
			_ = r.close()
			select {
			case <-r.taken: // it failed at something else, afterwards
				return nil
			default:
				return err
			}
		case <-ctx.Done():
			_ = r.close()
			return ctx.Err()
		case <-end.C:
			_ = r.close()
			return ErrNobody
		}
	}
}

// close lets the answer that is under way go out.
func (r *Redirect) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	err := r.server.Shutdown(ctx)
	_ = r.listener.Close() // the server may not have taken it up yet
	return err
}

// ServeHTTP answers the first good request. A page that the browser shows can make it ask anything of loopback under
// any name, so the host has to be ours. Another user can read the path in the browser's arguments, but does
// not get so far: see ours.
func (r *Redirect) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Referrer-Policy", "no-referrer")
	good := req.Method == http.MethodGet && req.Host == r.listener.Addr().String() && req.RequestURI == r.path
	first := false
	if good {
		r.once.Do(func() { first = true })
	}
	if !first {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	w.Header().Set("Connection", "close")
	w.Header().Set("Location", r.to.Reveal())
	w.WriteHeader(http.StatusFound)
	close(r.taken)
}
