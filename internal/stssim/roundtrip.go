package stssim

import (
	"bytes"
	"io"
	"net/http"
	"strconv"
	"sync"
)

// RoundTrip answers a request without a network, so that a test can run in a testing/synctest bubble with the
// bubble's clock. If a server would close the connection, the error is io.ErrUnexpectedEOF.
func (s *Sim) RoundTrip(request *http.Request) (*http.Response, error) {
	arrived := request.Clone(request.Context())
	if arrived.Host == "" {
		arrived.Host = arrived.URL.Host
	}
	if arrived.Body == nil {
		arrived.Body = http.NoBody
	}
	f := newFlow()
	go func() {
		defer arrived.Body.Close()
		defer func() {
			switch recovered := recover(); recovered {
			case nil:
				f.WriteHeader(http.StatusOK)
				f.end(io.EOF)
			case http.ErrAbortHandler:
				f.end(io.ErrUnexpectedEOF)
			default:
				panic(recovered)
			}
		}()
		s.ServeHTTP(f, arrived)
	}()

	select {
	case <-f.begun:
	case <-request.Context().Done():
		f.Close()
		return nil, request.Context().Err()
	}
	if f.status == 0 {
		return nil, io.ErrUnexpectedEOF
	}
	return &http.Response{
		Status:        strconv.Itoa(f.status) + " " + http.StatusText(f.status),
		StatusCode:    f.status,
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
		Header:        f.sent,
		Body:          f,
		ContentLength: -1,
		Request:       request,
	}, nil
}

// flow is an answer in transit: the handler writes it, the client reads it. A client that does not read blocks
// nobody.
type flow struct {
	header http.Header

	begun  chan struct{} // closed when the next two fields are set, or the connection is lost
	status int           // 0: lost
	sent   http.Header

	mu   sync.Mutex
	more *sync.Cond // signals that something was written, or the answer ended
	text bytes.Buffer
	over error // io.EOF, or the error that ended the answer; nil before
}

func newFlow() *flow {
	f := &flow{header: make(http.Header), begun: make(chan struct{})}
	f.more = sync.NewCond(&f.mu)
	return f
}

// Header, WriteHeader, Write and Flush are called by the handler, in one goroutine.

func (f *flow) Header() http.Header { return f.header }

func (f *flow) WriteHeader(status int) {
	if f.status == 0 {
		f.status, f.sent = status, f.header.Clone()
		close(f.begun)
	}
}

func (f *flow) Write(b []byte) (int, error) {
	f.WriteHeader(http.StatusOK)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.over != nil {
		return 0, f.over
	}
	f.more.Signal()
	return f.text.Write(b)
}

// Flush does nothing, because nothing is buffered.
func (f *flow) Flush() {}

// end marks the end of the answer: io.EOF, or the error of a broken connection.
func (f *flow) end(why error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.over == nil {
		f.over = why
	}
	f.more.Signal()
	if f.status == 0 {
		close(f.begun)
	}
}

// Read and Close are called by the client.

func (f *flow) Read(b []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for f.text.Len() == 0 && f.over == nil {
		f.more.Wait()
	}
	if f.text.Len() == 0 {
		return 0, f.over
	}
	return f.text.Read(b)
}

func (f *flow) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.text.Reset()
	f.over = http.ErrBodyReadAfterClose
	f.more.Signal()
	return nil
}
