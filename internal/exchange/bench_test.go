//go:build unix

package exchange

import (
	"net/http"
	"testing"
)

// BenchmarkAssume measures what a call costs this machine, without the network.
func BenchmarkAssume(b *testing.B) {
	body := answer{}.xml("AssumeRole")
	r := &recorder{answer: func(*http.Request) (*http.Response, error) { return response(200, body), nil }}
	c := New(Options{})
	c.connect = r.connect
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Assume(b.Context(), aSession(), assumeRole()); err != nil {
			b.Fatal(err)
		}
		r.requests = r.requests[:0]
	}
}
