// Package stssim simulates AWS STS, the part of IAM that manages a user's keys and MFA devices, the account list of
// AWS Organizations, the tokens of ECR and CodeArtifact, the sign-in endpoint of the console, IAM Identity Center, and
// the sign-in service of `aws login`.
// It verifies signatures, follows AWS's rules with AWS's own error texts, fails on request, and records the requests.
// It shares no code with the programs that are tested against it: it has its own implementation of signatures, proofs
// and one-time codes, so that a mistake in either one is found by the other. It is for tests and demonstrations; its
// credentials give access to nothing.
//
// In a test:
//
//	sim, err := stssim.New(stssim.Demo())
//	server, err := sim.Start() // or StartTLS, or http.Client{Transport: sim}
//	sim.Fault(stssim.Fault{Action: "AssumeRole", Kind: stssim.Throttle})
//	code := sim.Code("arn:aws:iam::111122223333:mfa/paul")
//	n := sim.Count("GetSessionToken")
//
// As a program: stssim --org demo. See Main for its flags, and admin.go for the paths under /_sim/ that do the
// same over HTTP.
package stssim

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// maxBody limits the body of a request, in bytes.
const maxBody = 1 << 20

// Sim is the simulator. It is an http.Handler, and an http.RoundTripper for
// tests without a network. It is safe for concurrent use.
type Sim struct {
	admin http.Handler

	mu      sync.Mutex
	world   *world
	offset  time.Duration // of the simulator's clock
	faults  []*Fault
	journal journal
}

// New returns a simulator of the organization. It fails if the organization is impossible in AWS; the error says
// why.
func New(org *Organization) (*Sim, error) {
	if err := org.check(); err != nil {
		return nil, fmt.Errorf("check organization: %w", err)
	}
	s := &Sim{world: newWorld(org, time.Now()), journal: newJournal()}
	s.admin = s.adminPaths()
	return s, nil
}

// ServeHTTP answers STS, IAM, Organizations, ECR, CodeArtifact, the sign-in endpoint (/federation), the operations and
// pages of webCalls, and the admin paths (/_sim/).
func (s *Sim) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Date", s.Now().Format(http.TimeFormat))
	switch {
	case strings.HasPrefix(r.URL.Path, "/_sim/"):
		s.admin.ServeHTTP(w, r)
	case r.URL.Path == "/federation":
		s.serve(w, r, (*exchange).signIn)
	default:
		work := (*exchange).query
		if _, ok := webCallOf(r); ok {
			work = (*exchange).serveWeb
		}
		s.serve(w, r, work)
	}
}

// exchange is one request in progress.
type exchange struct {
	sim       *Sim
	request   *http.Request
	body      []byte
	params    url.Values
	action    string
	signature signature
	unsigned  *apiError // why there is no signature
	id        string    // of the request
	json      bool      // it is a call of a service that answers in JSON
	web       webCall   // the operation or page, if it is one of Identity Center or of `aws login`
	region    string    // of a web call
}

// serve reads a request, applies the next scripted fault, and calls work for the answer. work also returns the
// outcome: "ok" or an error code.
func (s *Sim) serve(w http.ResponseWriter, r *http.Request, work func(*exchange) (answer, string)) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		http.Error(w, "request too large or cut short", http.StatusRequestEntityTooLarge)
		return
	}
	x := &exchange{sim: s, request: r, body: body, params: r.URL.Query(), id: randomUUID()}
	if form, err := url.ParseQuery(string(body)); err == nil && strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		for name, values := range form {
			x.params[name] = append(x.params[name], values...)
		}
	}
	x.action = x.params.Get("Action")
	x.readJSONCall()
	x.readTokenCall()
	x.readWebCall()
	x.signature, x.unsigned = parseSignature(r)
	w.Header().Set("X-Amzn-Requestid", x.id)

	fault, record := s.arrive(x)
	if !pause(r, fault.Delay) {
		s.settle(record, "client-gone")
		panic(http.ErrAbortHandler)
	}
	out, outcome := fault.instead(x)
	if outcome == "" {
		out, outcome = work(x)
	}
	s.settle(record, outcome)
	pause(r, fault.Hold)
	fault.deliver(w, r, out)
}

// pause waits, and reports whether the client is still connected.
func pause(r *http.Request, d time.Duration) bool {
	if d <= 0 {
		return true
	}
	select {
	case <-time.After(d):
		return true
	case <-r.Context().Done():
		return false
	}
}

// query performs a signed operation.
func (x *exchange) query() (answer, string) {
	op, api := operations[x.action], apiSTS
	if op.do != nil {
		api = op.api
	} else if x.params.Get("Version") == versions[apiIAM] {
		api = apiIAM
	}
	result, err := x.perform(op)
	switch {
	case err != nil && x.action == codeArtifactAction:
		return restFailure(err), err.code
	case err != nil && x.json:
		return jsonFailure(err), err.code
	case err != nil:
		return failure(api, x.id, err), err.code
	case x.json:
		return jsonSuccess(result), outcomeOK
	}
	return success(api, x.action, x.id, result), outcomeOK
}

func (x *exchange) perform(op operation) (any, *apiError) {
	bearer := x.action == webIdentityAction
	if x.unsigned != nil && !bearer {
		return nil, x.unsigned
	}
	version := x.params.Get("Version")
	if op.do == nil || version != versions[op.api] || x.json != (versions[op.api] == "") {
		return nil, &apiError{http.StatusBadRequest, "InvalidAction", "Could not find operation " + x.action + " for version " + version}
	}
	if bearer {
		x.sim.mu.Lock()
		defer x.sim.mu.Unlock()
		return op.do(x.sim.world, &call{api: op.api, action: x.action, caller: &principal{}, params: x.params,
			now: x.sim.nowLocked()})
	}
	key, err := x.sim.authenticate(x, op.api)
	if err != nil {
		return nil, err
	}

	x.sim.mu.Lock()
	defer x.sim.mu.Unlock()
	c := &call{api: op.api, action: strings.TrimPrefix(x.action, op.api+":"), caller: key.owner, params: x.params,
		now: x.sim.nowLocked(), ends: key.expires, region: x.signature.region}
	defer func() { // GetAccessKeyLastUsed does not answer with itself
		key.lastUsed, key.lastAPI, key.lastPlace = c.now, op.api, x.signature.region
	}()
	if err := permitted(c.caller, op.api); err != nil {
		return nil, err
	}
	if err := c.caller.limited(c); err != nil {
		return nil, err
	}
	return op.do(x.sim.world, c)
}

// authenticate finds the key that signed the request, and verifies the signature.
func (s *Sim) authenticate(x *exchange, api string) (*credential, *apiError) {
	s.mu.Lock()
	now := s.nowLocked()
	token := x.request.Header.Get("X-Amz-Security-Token")
	if x.signature.presigned {
		token = x.request.URL.Query().Get("X-Amz-Security-Token")
	}
	key, err := s.world.lookUp(x.signature.keyID, token)
	over := key != nil && key.ended(now)
	s.mu.Unlock()

	// Most of the time is spent on the hashes, so they are computed without the mutex; id, secret and owner of a
	// credential never change.
	if err != nil {
		return nil, err
	}
	for _, check := range []func() *apiError{
		func() *apiError { return x.signature.checkTime(now) },
		func() *apiError { return x.signature.checkScope(api) },
		func() *apiError { return x.signature.checkHeaders(x.request) },
		func() *apiError { return x.signature.verify(x.request, x.body, key.secret) },
	} {
		if err := check(); err != nil {
			return nil, err
		}
	}
	if over {
		return nil, errExpired
	}
	return key, nil
}

// lookUp finds the credential for an access key ID and the session token sent with it.
func (w *world) lookUp(id, token string) (*credential, *apiError) {
	key := w.keys[id]
	if key == nil || key.inactive || key.token != token {
		return nil, errUnknownKey
	}
	if time.Now().Before(key.visibleAt) {
		key.tries++
		if !w.settings.NewKeyFlaps || key.tries%2 == 1 {
			return nil, errUnknownKey
		}
	}
	return key, nil
}

// Now returns the time by the simulator's clock, in UTC.
func (s *Sim) Now() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.nowLocked()
}

func (s *Sim) nowLocked() time.Time { return time.Now().Add(s.offset).UTC() }

// SetClockOffset sets the simulator's clock ahead of this machine's, or behind it if d is negative. Signatures,
// codes and expiry are checked against it.
func (s *Sim) SetClockOffset(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.offset = d
}

// SetLifetime makes every session opened from now on live for d, whatever duration is requested; 0 restores the
// requested duration. Expiration has whole seconds, rounded down, so the session lives up to a second less.
func (s *Sim) SetLifetime(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.world.settings.SessionLifetime = d
}

// SetKeyDelay makes access keys created from now on unknown for d. With flaps, every second call with such a key
// succeeds during that time, as when AWS's endpoints are not yet consistent.
func (s *Sim) SetKeyDelay(d time.Duration, flaps bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.world.settings.NewKeyDelay, s.world.settings.NewKeyFlaps = d, flaps
}

// Code returns the code that the MFA device shows now, by the simulator's clock; "" if there is no such device.
func (s *Sim) Code(serial string) string {
	return s.CodeAt(serial, s.Now())
}

// CodeAt returns the code that the MFA device shows at time t; "" if there is no such device.
func (s *Sim) CodeAt(serial string, t time.Time) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.world.devices[serial]
	if d == nil {
		return ""
	}
	return codeOf(d.key, stepOf(t))
}

// FreshCode returns a code of the device that the next call may use: of this step, the next or the previous one.
// It is "" if all three are used, or there is no such device.
func (s *Sim) FreshCode(serial string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.world.devices[serial]
	if d == nil {
		return ""
	}
	return d.fresh(s.nowLocked())
}

// ForgetCodes makes all used codes valid again, so that a script need not wait for the next step.
func (s *Sim) ForgetCodes() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range s.world.devices {
		clear(d.spent)
	}
}

// DisableKey makes a long-lived access key inactive. It reports whether there is such a key.
func (s *Sim) DisableKey(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := s.world.keys[id]
	if key == nil || key.owner.temporary() {
		return false
	}
	key.inactive = true
	return true
}

// RevokeSession ends a session early: from now on it is ExpiredToken. It reports whether there is such a session.
func (s *Sim) RevokeSession(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	session := s.world.keys[id]
	if session == nil || !session.owner.temporary() {
		return false
	}
	session.revoked = true
	return true
}

// Devices returns the current MFA devices, enabled or not, without seeds, sorted by serial.
func (s *Sim) Devices() []DeviceState {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := []DeviceState{}
	for _, serial := range slices.Sorted(maps.Keys(s.world.devices)) {
		state := DeviceState{Serial: serial}
		if owner := s.world.devices[serial].user; owner != nil {
			state.User = owner.arn
		}
		list = append(list, state)
	}
	return list
}

// Keys returns the current long-lived access keys of all users, without secrets.
func (s *Sim) Keys() []KeyState {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []KeyState
	for _, u := range s.world.users {
		for _, key := range u.keys {
			list = append(list, KeyState{User: u.arn, AccessKeyID: key.id, Status: key.status()})
		}
	}
	return list
}

// KeyState describes an access key in the result of Keys.
type KeyState struct {
	User        string `json:"user"` // ARN
	AccessKeyID string `json:"access_key_id"`
	Status      string `json:"status"` // Active or Inactive
}
