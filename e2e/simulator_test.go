package e2e

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// simulator is a running stssim.
type simulator struct {
	url string
	ca  string // file of the CA, with --tls
	cmd *exec.Cmd
}

func startSimulator(h *house, args ...string) (*simulator, error) {
	ready := filepath.Join(h.dir, "sim.ready")
	_ = os.Remove(ready)
	s := &simulator{}
	args = append([]string{"--listen", "127.0.0.1:0", "--ready-file", ready}, args...)
	if slices.Contains(args, "--tls") {
		s.ca = filepath.Join(h.dir, "ca.pem")
		args = append(args, "--ca-out", s.ca)
	}
	s.cmd = h.command("stssim", args...)
	var stderr bytes.Buffer
	s.cmd.Stderr = &stderr
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the simulator: %w", err)
	}
	for limit := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		if text, err := os.ReadFile(ready); err == nil {
			s.url = strings.TrimSpace(string(text))
			return s, nil
		}
		if time.Now().After(limit) {
			_ = s.stop()
			return nil, fmt.Errorf("the simulator did not start: %s", stderr.String())
		}
	}
}

func (s *simulator) stop() error {
	if s.cmd == nil {
		return nil
	}
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	err := s.cmd.Wait()
	s.cmd = nil
	if err != nil {
		return fmt.Errorf("the simulator: %w", err)
	}
	return nil
}

// record is one request in the simulator's records.
type record struct {
	Time        time.Time         `json:"time"`
	Action      string            `json:"action"`
	Params      map[string]string `json:"params"`
	AccessKeyID string            `json:"access_key_id"`
	Region      string            `json:"region"`
	RoleARN     string            `json:"role_arn"`
	SessionName string            `json:"session_name"`
	TokenCode   string            `json:"token_code"`
	Outcome     string            `json:"outcome"`
}

func (s *simulator) call(method, path, body string, into any) error {
	req, err := http.NewRequest(method, s.url+"/_sim/"+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	client, err := s.client()
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, data)
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(data, into)
}

// client returns an HTTP client that trusts the simulator's CA.
func (s *simulator) client() (*http.Client, error) {
	transport := &http.Transport{DisableKeepAlives: true}
	if s.ca != "" {
		pem, err := os.ReadFile(s.ca)
		if err != nil {
			return nil, err
		}
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(pem)
		transport.TLSClientConfig = &tls.Config{RootCAs: roots}
	}
	return &http.Client{Transport: transport, Timeout: 30 * time.Second}, nil
}

func (s *simulator) post(path, body string) error { return s.call(http.MethodPost, path, body, nil) }

// fault configures the next failure.
func (s *simulator) fault(text string) error { return s.post("faults", text) }

func (s *simulator) requests() ([]record, error) {
	var list []record
	err := s.call(http.MethodGet, "requests", "", &list)
	return list, err
}

// count returns the number of calls of an action.
func (s *simulator) count(action string) (int, error) {
	var counts struct {
		Calls map[string]int `json:"calls"`
	}
	err := s.call(http.MethodGet, "counts", "", &counts)
	return counts.Calls[action], err
}

// counted fails the test unless an action was called this often.
func (h *house) counted(t testing.TB, action string, want int) {
	t.Helper()
	got, err := h.sim.count(action)
	must(t, err)
	if got != want {
		t.Errorf("%s was called %d times, want %d", action, got, want)
	}
}

// reaches waits until an action was called this often.
func (h *house) reaches(t testing.TB, action string, want int) {
	t.Helper()
	for limit := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		got, err := h.sim.count(action)
		must(t, err)
		if got >= want {
			return
		}
		if time.Now().After(limit) {
			t.Fatalf("%s was called %d times, want %d", action, got, want)
		}
	}
}

// freshCodes makes the current codes valid again on both sides, so that a test that is not about codes need not
// wait for the next time step.
func (h *house) freshCodes() error {
	err := os.Remove(h.state("mfa-ledger"))
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, h.sim.post("codes/forget", ""))
}
