package stssim

import (
	"cmp"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"
)

// keptRecords is the minimum number of recorded requests; older ones are dropped, but the counts are kept.
const keptRecords = 100_000

// outcomeOK is the outcome of a call that had its effect.
const outcomeOK = "ok"

// Record describes a request. It contains no secret. Params contains the MFA code, so that a test can prove that
// no code was sent twice.
type Record struct {
	Time        time.Time         `json:"time"` // of arrival, by the clock of this machine
	Action      string            `json:"action"`
	Params      map[string]string `json:"params"`
	AccessKeyID string            `json:"access_key_id,omitempty"`
	// Region is the region of the credential scope or, without a signature, that of the URL.
	Region      string    `json:"region,omitempty"`
	RoleARN     string    `json:"role_arn,omitempty"`
	SessionName string    `json:"session_name,omitempty"`
	TokenCode   string    `json:"token_code,omitempty"`
	Host        string    `json:"host"`
	UserAgent   string    `json:"user_agent,omitempty"`
	Fault       FaultKind `json:"fault,omitempty"`
	// Outcome is "ok" if the call had its effect, even if a fault lost the answer; an error code; the kind of a
	// fault that replaced the answer; "client-gone" if the client disconnected before; empty while the call is in
	// progress.
	Outcome string `json:"outcome"`
}

// Counts are the numbers of calls since the start or the last reset, by action.
type Counts struct {
	Calls     map[string]int `json:"calls"`
	Successes map[string]int `json:"successes"` // calls with the outcome "ok"
}

// journal holds the records of a simulator; the mutex of Sim guards it.
type journal struct {
	records []*Record
	counts  Counts
}

func newJournal() journal {
	return journal{counts: Counts{Calls: make(map[string]int), Successes: make(map[string]int)}}
}

// unrecorded are the parameters with secrets: web identity tokens, and those of the sign-in endpoint, of OIDC and of
// `aws login`.
var unrecorded = map[string]bool{
	"Action": true, "Session": true, "SigninToken": true, "WebIdentityToken": true,
	"clientSecret": true, "code": true, "codeVerifier": true, "deviceCode": true, "refreshToken": true, "state": true,
}

// arrive records a request and takes the next fault for it from the queue, if there is one.
func (s *Sim) arrive(x *exchange) (Fault, *Record) {
	record := &Record{
		Time:        time.Now().UTC(),
		Action:      x.action,
		Params:      plain(x.params),
		AccessKeyID: x.signature.keyID,
		Region:      cmp.Or(x.signature.region, x.region),
		RoleARN:     x.params.Get("RoleArn"),
		SessionName: x.params.Get("RoleSessionName"),
		TokenCode:   x.params.Get("TokenCode"),
		Host:        x.request.Host,
		UserAgent:   x.request.UserAgent(),
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	fault := s.takeFaultLocked(x)
	record.Fault = fault.Kind
	s.journal.add(record)
	return fault, record
}

// add adds a record, and drops the oldest once there are twice as many as must be kept.
func (j *journal) add(record *Record) {
	j.records = append(j.records, record)
	if n := len(j.records); n >= 2*keptRecords {
		j.records = slices.Clone(j.records[n-keptRecords:])
	}
	j.counts.Calls[record.Action]++
}

func plain(params url.Values) map[string]string {
	m := make(map[string]string, len(params))
	for name, values := range params {
		if !unrecorded[name] && !strings.HasPrefix(name, "X-Amz-") {
			m[name] = strings.Join(values, ",")
		}
	}
	return m
}

// settle records how a request ended. It runs before the answer is written, so a client that has an answer finds
// it in the records.
func (s *Sim) settle(record *Record, outcome string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	record.Outcome = outcome
	if outcome == outcomeOK {
		s.journal.counts.Successes[record.Action]++
	}
}

// Requests returns the requests since the start or the last reset, in order of arrival: at least the last 100,000.
func (s *Sim) Requests() []Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]Record, len(s.journal.records))
	for i, record := range s.journal.records {
		list[i] = *record
	}
	return list
}

// Counts returns the numbers of calls since the start or the last reset.
func (s *Sim) Counts() Counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Counts{Calls: maps.Clone(s.journal.counts.Calls), Successes: maps.Clone(s.journal.counts.Successes)}
}

// Count returns the number of calls of an action since the start or the last reset, including calls in progress.
func (s *Sim) Count(action string) int { return s.Counts().Calls[action] }

// Successes returns the number of calls of an action that had their effect.
func (s *Sim) Successes(action string) int { return s.Counts().Successes[action] }

// Reset deletes records and counts. Sessions, keys, used codes and queued faults stay.
func (s *Sim) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.journal = newJournal()
}
