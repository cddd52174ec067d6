package stssim

import (
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"
)

// keptRecords is how many requests are remembered at least; older ones are
// forgotten, the counts are not.
const keptRecords = 100_000

// outcomeOK is the outcome of a call that had its effect.
const outcomeOK = "ok"

// Record is what the simulator remembers of a request. It holds no secret;
// Params holds the MFA code, so that a test can prove that none was sent twice.
type Record struct {
	Time        time.Time         `json:"time"` // of arrival, by the clock of this machine
	Action      string            `json:"action"`
	Params      map[string]string `json:"params"`
	AccessKeyID string            `json:"access_key_id,omitempty"`
	Region      string            `json:"region,omitempty"` // of the credential scope
	RoleARN     string            `json:"role_arn,omitempty"`
	SessionName string            `json:"session_name,omitempty"`
	TokenCode   string            `json:"token_code,omitempty"`
	Host        string            `json:"host"`
	UserAgent   string            `json:"user_agent,omitempty"`
	Fault       FaultKind         `json:"fault,omitempty"`
	// Outcome is "ok" if the call had its effect, even if a fault lost the
	// answer; an error code; the kind of a fault that came instead of an answer;
	// "client-gone" if the client left before; empty while the call is under way.
	Outcome string `json:"outcome"`
}

// Counts are the calls since the start or the last reset, by action.
type Counts struct {
	Calls     map[string]int `json:"calls"`
	Successes map[string]int `json:"successes"` // those with outcome "ok"
}

// journal is the memory of a simulator; the mutex of Sim guards it.
type journal struct {
	records []*Record
	counts  Counts
}

func newJournal() journal {
	return journal{counts: Counts{Calls: make(map[string]int), Successes: make(map[string]int)}}
}

// unrecorded are the parameters that hold secrets: those of the sign-in endpoint.
var unrecorded = map[string]bool{"Action": true, "Session": true, "SigninToken": true}

// arrive records a request and takes the fault that is in line for it, if any.
func (s *Sim) arrive(x *exchange) (Fault, *Record) {
	record := &Record{
		Time:        time.Now().UTC(),
		Action:      x.action,
		Params:      plain(x.params),
		AccessKeyID: x.signature.keyID,
		Region:      x.signature.region,
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

// add takes a record in, and lets the oldest go once there are twice as many as are kept.
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
		if !unrecorded[name] {
			m[name] = strings.Join(values, ",")
		}
	}
	return m
}

// settle records how a request ended. It comes before the answer is written,
// so a client that has an answer finds it in the records.
func (s *Sim) settle(record *Record, outcome string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	record.Outcome = outcome
	if outcome == outcomeOK {
		s.journal.counts.Successes[record.Action]++
	}
}

// Requests are the requests since the start or the last reset, in order of
// arrival: all of the last 100,000, and perhaps some more.
func (s *Sim) Requests() []Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]Record, len(s.journal.records))
	for i, record := range s.journal.records {
		list[i] = *record
	}
	return list
}

// Counts are the calls since the start or the last reset.
func (s *Sim) Counts() Counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Counts{Calls: maps.Clone(s.journal.counts.Calls), Successes: maps.Clone(s.journal.counts.Successes)}
}

// Count is the number of calls of an action since the start or the last reset,
// those still under way included.
func (s *Sim) Count(action string) int { return s.Counts().Calls[action] }

// Successes is the number of calls of an action that had their effect.
func (s *Sim) Successes(action string) int { return s.Counts().Successes[action] }

// Reset forgets records and counts. Sessions, keys, spent codes and waiting
// faults stay.
func (s *Sim) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.journal = newJournal()
}
