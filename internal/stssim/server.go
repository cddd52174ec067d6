package stssim

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"time"
)

// Listener says where and how a simulator listens. The zero value means plain http on a free port of 127.0.0.1.
type Listener struct {
	Addr      string // host:port; empty means 127.0.0.1:0
	TLS       bool   // with a certificate from a CA that is created for this listener
	WrongHost bool   // the certificate is for a host that nobody connects to
}

// wrongHost is the host name in such a certificate.
const wrongHost = "wrong-host.invalid"

// Server is a listening simulator.
type Server struct {
	URL   string // http://127.0.0.1:PORT, or https
	CAPEM []byte // certificate of the CA; empty without TLS

	server *http.Server
	done   chan error
}

// Start listens on a free loopback port with plain http.
func (s *Sim) Start() (*Server, error) { return s.Listen(Listener{}) }

// StartTLS is Start with https; the client must trust CAPEM.
func (s *Sim) StartTLS() (*Server, error) { return s.Listen(Listener{TLS: true}) }

// Listen serves the simulator until Close. One simulator can have several servers at a time.
func (s *Sim) Listen(l Listener) (*Server, error) {
	if l.Addr == "" {
		l.Addr = "127.0.0.1:0"
	}
	socket, err := net.Listen("tcp", l.Addr)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	server := &Server{
		URL: "http://" + socket.Addr().String(),
		server: &http.Server{
			Handler:           s,
			ReadHeaderTimeout: 10 * time.Second,
			ErrorLog:          log.New(io.Discard, "", 0), // tests disconnect clients and reject certificates on purpose
		},
		done: make(chan error, 1),
	}
	if l.TLS {
		certificate, ca, err := newCertificate(l.WrongHost)
		if err != nil {
			socket.Close()
			return nil, err
		}
		server.URL = "https://" + socket.Addr().String()
		server.CAPEM = ca
		socket = tls.NewListener(socket, &tls.Config{Certificates: []tls.Certificate{certificate}})
	}
	go func() { server.done <- server.server.Serve(socket) }()
	return server, nil
}

// Close stops listening and breaks open connections.
func (s *Server) Close() {
	s.server.Close()
	<-s.done
}

// newCertificate creates a CA, and a certificate signed by it for loopback names.
func newCertificate(wrong bool) (tls.Certificate, []byte, error) {
	var none tls.Certificate
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return none, nil, fmt.Errorf("make CA key: %w", err)
	}
	ca := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "stssim CA"},
		NotBefore:             time.Now().Add(-48 * time.Hour), // tests change clocks
		NotAfter:              time.Now().Add(30 * 24 * time.Hour),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	if err != nil {
		return none, nil, fmt.Errorf("make CA: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return none, nil, fmt.Errorf("make server key: %w", err)
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2),
		Subject:      pkix.Name{CommonName: "stssim"},
		NotBefore:    ca.NotBefore,
		NotAfter:     ca.NotAfter,
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:     []string{"localhost"},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	if wrong {
		leaf.DNSNames, leaf.IPAddresses = []string{wrongHost}, nil
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), caKey)
	if err != nil {
		return none, nil, fmt.Errorf("make server certificate: %w", err)
	}
	caPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caDER})
	return tls.Certificate{Certificate: [][]byte{leafDER}, PrivateKey: key}, caPEM, nil
}
