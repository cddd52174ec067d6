package console

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"net/textproto"
	"os"
	"slices"
	"sync"
	"time"

	"broker/internal/secret"
	"broker/internal/socket"
)

// Patience is how long Wait waits for a browser, which may have to start first.
const Patience = time.Minute

// ErrNobody means that no browser came in time.
var ErrNobody = errors.New("no browser came")

// Redirect redirects one browser to an address, once. The browser's arguments, which every user of the machine can
// read, contain only the Redirect's own address.
type Redirect struct {
	to       secret.String
	path     string
	listener net.Listener
	once     sync.Once
	taken    chan struct{}
}

// NewRedirect starts a Redirect on loopback.
func NewRedirect(to secret.String) (*Redirect, error) {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &Redirect{to: to, path: "/" + rand.Text(), listener: listener, taken: make(chan struct{})}
	go r.serve(socket.Guard(listener, ours))
	return r, nil
}

// ours admits connections of this user and of root. Root can do anything anyway, and its process forwards the
// ports of some virtual machines. If the system does not report the owner of a connection, only the unguessable
// path protects the address.
func ours(uid int, err error) bool {
	return err == nil && (uid == os.Getuid() || uid == 0) || errors.Is(err, errors.ErrUnsupported)
}

// URL returns the address for the browser.
func (r *Redirect) URL() string { return "http://" + r.listener.Addr().String() + r.path }

// Wait returns nil when a browser was redirected, ErrNobody after Patience, or the error of ctx. It also returns
// an error that it receives from ended, which means that the browser failed; it ignores a nil there. Afterwards
// the address no longer works.
func (r *Redirect) Wait(ctx context.Context, ended <-chan error) error {
	defer func() { _ = r.listener.Close() }()
	end := time.NewTimer(Patience)
	defer end.Stop()
	for {
		select {
		case <-r.taken:
			return nil
		case err := <-ended:
			if err == nil { // it passed the address to a browser that was already running
				ended = nil
				continue
			}
			return r.giveUp(err)
		case <-ctx.Done():
			return r.giveUp(ctx.Err())
		case <-end.C:
			return r.giveUp(ErrNobody)
		}
	}
}

// giveUp returns the error, unless a browser is being redirected: then it waits for that and returns nil.
func (r *Redirect) giveUp(err error) error {
	nobody := false
	r.once.Do(func() { nobody = true })
	if nobody {
		return err
	}
	<-r.taken
	return nil
}

// serve answers connections until the listener is closed.
func (r *Redirect) serve(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		go r.answer(conn)
	}
}

const (
	maxRequest  = 64 << 10 // bytes of a request that are read
	connTimeout = 5 * time.Second
)

// The two answers. Neither may be cached, and the next page does not learn where the browser came from.
const (
	answerHead  = "Cache-Control: no-store\r\nReferrer-Policy: no-referrer\r\nContent-Length: 0\r\nConnection: close\r\n"
	answerFound = "HTTP/1.1 302 Found\r\n" + answerHead + "Location: "
	answerOther = "HTTP/1.1 404 Not Found\r\n" + answerHead
)

// readRequest returns the first line of a request whose Host header is our address, or "". A web page can make the
// browser send any request to loopback, under any host name. It does not use net/http, whose initialization would slow
// down every command.
func readRequest(conn net.Conn) string {
	_ = conn.SetDeadline(time.Now().Add(connTimeout))
	in := textproto.NewReader(bufio.NewReader(io.LimitReader(conn, maxRequest)))
	line, err := in.ReadLine()
	if err != nil {
		return ""
	}
	header, err := in.ReadMIMEHeader()
	if err != nil || !slices.Equal(header["Host"], []string{conn.LocalAddr().String()}) {
		return ""
	}
	return line
}

// answer reads one request, and redirects the first valid one. Another user can read the path in the browser's
// arguments, but cannot connect: see ours.
func (r *Redirect) answer(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	first := false
	if readRequest(conn) == "GET "+r.path+" HTTP/1.1" {
		r.once.Do(func() { first = true })
	}
	if !first {
		_, _ = io.WriteString(conn, answerOther+"\r\n")
		return
	}
	_, _ = io.WriteString(conn, answerFound+r.to.Reveal()+"\r\n\r\n")
	close(r.taken) // the kernel has the answer, and delivers it even if this process ends
}
