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
	go r.serve(socket.Guard(listener, ours))
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
	defer func() { _ = r.listener.Close() }()
	end := time.NewTimer(Patience)
	defer end.Stop()
	for {
		select {
		case <-r.taken:
			return nil
		case err := <-ended:
			if err == nil { // it handed the address to a browser that runs already
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

// giveUp returns the error, unless a browser is being sent on: then it waits for that.
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

// The two answers. Neither may be kept, and the page that follows is not told where the browser came from.
const (
	answerHead  = "Cache-Control: no-store\r\nReferrer-Policy: no-referrer\r\nContent-Length: 0\r\nConnection: close\r\n"
	answerFound = "HTTP/1.1 302 Found\r\n" + answerHead + "Location: "
	answerOther = "HTTP/1.1 404 Not Found\r\n" + answerHead
)

// answer reads one request, and sends the first good one on. A page that the browser shows can make it ask anything of
// loopback under any name, so the host has to be ours. Another user can read the path in the browser's arguments, but
// does not get so far: see ours. No HTTP server is used, since the start of that package would slow down each command.
func (r *Redirect) answer(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(connTimeout))
	in := textproto.NewReader(bufio.NewReader(io.LimitReader(conn, maxRequest)))
	line, err := in.ReadLine()
	if err != nil {
		return
	}
	header, err := in.ReadMIMEHeader()
	good := err == nil && line == "GET "+r.path+" HTTP/1.1" &&
		slices.Equal(header["Host"], []string{r.listener.Addr().String()})
	first := false
	if good {
		r.once.Do(func() { first = true })
	}
	if !first {
		_, _ = io.WriteString(conn, answerOther+"\r\n")
		return
	}
	_, _ = io.WriteString(conn, answerFound+r.to.Reveal()+"\r\n\r\n")
	close(r.taken) // the answer is with the kernel, which delivers it even if this process ends
}
