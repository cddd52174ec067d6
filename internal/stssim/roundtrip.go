package stssim

import (
	"io"
	"net/http"
	"strconv"
	"sync"
)

// RoundTrip answers a request without a network, so that a test can run in a
// testing/synctest bubble with the clock of the bubble. Where a server would
// close the connection, the error is io.ErrUnexpectedEOF.
func (s *Sim) RoundTrip(request *http.Request) (*http.Response, error) {
	arrived := request.Clone(request.Context())
	if arrived.Host == "" {
		arrived.Host = arrived.URL.Host
	}
	if arrived.Body == nil {
		arrived.Body = http.NoBody
	}
	body, write := io.Pipe()
	w := &pipeWriter{header: make(http.Header), body: write, begun: make(chan struct{})}
	broken := make(chan struct{})
	go func() {
		defer arrived.Body.Close()
		defer func() {
			switch recovered := recover(); recovered {
			case nil:
				w.WriteHeader(http.StatusOK)
				write.Close()
			case http.ErrAbortHandler:
				write.CloseWithError(io.ErrUnexpectedEOF)
				close(broken)
			default:
				panic(recovered)
			}
		}()
		s.ServeHTTP(w, arrived)
	}()

	select {
	case <-w.begun:
	case <-broken:
		return nil, io.ErrUnexpectedEOF
	case <-request.Context().Done():
		body.Close()
		return nil, request.Context().Err()
	}
	return &http.Response{
		Status:        strconv.Itoa(w.status) + " " + http.StatusText(w.status),
		StatusCode:    w.status,
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
		Header:        w.sent,
		Body:          body,
		ContentLength: -1,
		Request:       request,
	}, nil
}

// pipeWriter hands an answer over as it is written.
type pipeWriter struct {
	header http.Header
	body   *io.PipeWriter
	once   sync.Once
	begun  chan struct{} // closed when status and sent are set
	status int
	sent   http.Header
}

func (w *pipeWriter) Header() http.Header { return w.header }

func (w *pipeWriter) WriteHeader(status int) {
	w.once.Do(func() {
		w.status, w.sent = status, w.header.Clone()
		close(w.begun)
	})
}

func (w *pipeWriter) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.body.Write(b)
}

// Flush is for slow answers: what is written here is never held back.
func (w *pipeWriter) Flush() { w.WriteHeader(http.StatusOK) }
