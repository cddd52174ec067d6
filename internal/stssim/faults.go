package stssim

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"
)

// FaultKind says what goes wrong.
type FaultKind string

// The kinds of faults. Those up to HugeBody replace the call, which then has no effect; with the others the call
// is made, and its code is used up.
const (
	DropBefore     FaultKind = "drop-before"     // the connection is closed without an answer
	Status         FaultKind = "status"          // Fault.Status with Fault.Body
	Throttle       FaultKind = "throttle"        // 400 Throttling "Rate exceeded"
	ErrorAnswer    FaultKind = "error"           // Fault.Code and Fault.Message with Fault.Status
	RegionDisabled FaultKind = "region-disabled" // 403 RegionDisabledException
	Garbage        FaultKind = "garbage"         // 200 with bytes that are not XML
	EmptyBody      FaultKind = "empty"           // 200 without a body
	Redirect       FaultKind = "redirect"        // 307 to Fault.URL
	HugeBody       FaultKind = "huge"            // 200 with Fault.Megabytes of unfinished XML

	Delay         FaultKind = "delay"      // only Fault.Delay and Fault.Hold
	DropAfter     FaultKind = "drop-after" // the answer is lost
	MissingFields FaultKind = "missing"    // Fault.Fields are missing in the answer
	SlowBytes     FaultKind = "slow"       // one byte of the answer for each Fault.Pace
)

// Fault is a failure for the next calls that match it.
type Fault struct {
	Kind FaultKind

	Action string // matches an action; empty or "*" matches any
	Region string // matches a region; empty matches any
	Role   string // matches a role ARN; empty matches any
	Skip   int    // how many matching calls succeed before it begins
	Times  int    // how many calls it affects; 0 means 1, a negative number means all

	Delay     time.Duration // wait before the call has its effect, with any kind
	Hold      time.Duration // wait between effect and answer, with any kind
	Status    int           // HTTP status; default 500 for Status, 400 for ErrorAnswer
	Code      string
	Message   string
	Body      string
	Fields    []string      // names of XML elements or JSON members, for example SecretAccessKey
	Pace      time.Duration // default 100 ms
	Megabytes int           // default 50
	URL       string
}

// faultJSON is the JSON form of a Fault for the admin API.
type faultJSON struct {
	Kind         FaultKind `json:"kind"`
	Action       string    `json:"action"`
	Region       string    `json:"region"`
	Role         string    `json:"role_arn"`
	Skip         int       `json:"skip"`
	Times        int       `json:"times"`
	DelaySeconds float64   `json:"delay_seconds"`
	HoldSeconds  float64   `json:"hold_seconds"`
	Status       int       `json:"status"`
	Code         string    `json:"code"`
	Message      string    `json:"message"`
	Body         string    `json:"body"`
	Fields       []string  `json:"fields"`
	PaceSeconds  float64   `json:"pace_seconds"`
	Megabytes    int       `json:"megabytes"`
	URL          string    `json:"url"`
}

// UnmarshalJSON parses a fault with times in seconds. Unknown keys are errors.
func (f *Fault) UnmarshalJSON(text []byte) error {
	var j faultJSON
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&j); err != nil {
		return err
	}
	*f = Fault{
		Kind: j.Kind, Action: j.Action, Region: j.Region, Role: j.Role, Skip: j.Skip, Times: j.Times,
		Delay: seconds(j.DelaySeconds), Hold: seconds(j.HoldSeconds), Status: j.Status, Code: j.Code, Message: j.Message,
		Body: j.Body, Fields: j.Fields, Pace: seconds(j.PaceSeconds), Megabytes: j.Megabytes, URL: j.URL,
	}
	return nil
}

func seconds(n float64) time.Duration { return time.Duration(n * float64(time.Second)) }

// normal fills in the defaults, and rejects a fault without effect.
func (f Fault) normal() (Fault, error) {
	kinds := []FaultKind{
		DropBefore,
		Status,
		Throttle,
		ErrorAnswer,
		RegionDisabled,
		Garbage,
		EmptyBody,
		Redirect,
		HugeBody,
		Delay,
		DropAfter,
		MissingFields,
		SlowBytes,
	}
	if f.Kind == "" {
		f.Kind = Delay
	}
	if f.Times == 0 {
		f.Times = 1
	}
	if f.Pace == 0 {
		f.Pace = 100 * time.Millisecond
	}
	if f.Megabytes == 0 {
		f.Megabytes = 50
	}
	if f.Status == 0 && f.Kind == Status {
		f.Status = http.StatusInternalServerError
	}
	if f.Status == 0 && f.Kind == ErrorAnswer {
		f.Status = http.StatusBadRequest
	}
	switch {
	case !slices.Contains(kinds, f.Kind):
		return f, fmt.Errorf("no such kind of fault: %s", f.Kind)
	case f.Kind == Delay && f.Delay <= 0 && f.Hold <= 0:
		return f, fmt.Errorf("a fault of kind delay needs a delay or a hold")
	case f.Kind == ErrorAnswer && f.Code == "":
		return f, fmt.Errorf("a fault of kind error needs a code")
	case f.Kind == MissingFields && len(f.Fields) == 0:
		return f, fmt.Errorf("a fault of kind missing needs fields")
	case f.Kind == Redirect && f.URL == "":
		return f, fmt.Errorf("a fault of kind redirect needs a url")
	case (f.Kind == Status || f.Kind == ErrorAnswer) && (f.Status < 200 || f.Status > 599):
		return f, fmt.Errorf("not an HTTP status: %d", f.Status)
	}
	return f, nil
}

// Fault appends a fault to the queue. The first fault in the queue that matches a call affects it. It panics if
// the fault is invalid, such as a redirect without a URL.
func (s *Sim) Fault(f Fault) {
	f, err := f.normal()
	if err != nil {
		panic("stssim: " + err.Error())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, &f)
}

// ClearFaults empties the queue.
func (s *Sim) ClearFaults() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
}

// takeFaultLocked returns the first fault in the queue that matches this request, or a fault without effect.
func (s *Sim) takeFaultLocked(x *exchange) Fault {
	for i, f := range s.faults {
		if !f.matches(x) {
			continue
		}
		if f.Skip > 0 {
			f.Skip--
			continue
		}
		if f.Times > 0 {
			f.Times--
		}
		if f.Times == 0 {
			s.faults = slices.Delete(s.faults, i, i+1)
		}
		return *f
	}
	return Fault{}
}

func (f *Fault) matches(x *exchange) bool {
	return (f.Action == "" || f.Action == "*" || f.Action == x.action) &&
		(f.Region == "" || f.Region == x.signature.region || f.Region == x.region) &&
		(f.Role == "" || f.Role == x.params.Get("RoleArn"))
}

// instead returns the answer that replaces the call, with its outcome for the record. The outcome is empty if the
// call must be made.
func (f Fault) instead(x *exchange) (answer, string) {
	refuse := func(e *apiError) (answer, string) {
		if x.web.do != nil {
			return x.webFailure(e), e.code
		}
		api := apiSTS
		if op, known := operations[x.action]; known {
			api = op.api
		}
		if x.action == codeArtifactAction {
			return restFailure(e), e.code
		}
		if x.json {
			return jsonFailure(e), e.code
		}
		return failure(api, x.id, e), e.code
	}
	switch f.Kind {
	case Status:
		return answer{status: f.Status, contentType: "text/html", body: []byte(f.Body)}, string(f.Kind)
	case Throttle:
		return refuse(x.throttled())
	case ErrorAnswer:
		return refuse(&apiError{f.Status, f.Code, f.Message})
	case RegionDisabled:
		return refuse(&apiError{http.StatusForbidden, "RegionDisabledException", "STS is not activated in this region for account:" + x.account() + ". Your account administrator can activate STS in this region using the IAM Console."})
	case Garbage:
		return answer{status: http.StatusOK, contentType: x.contentType(), body: []byte("\x1f\x8b\x00\xff<<< &;&; this is no XML")}, string(f.Kind)
	case EmptyBody:
		return answer{status: http.StatusOK, contentType: x.contentType()}, string(f.Kind)
	case Redirect:
		return answer{status: http.StatusTemporaryRedirect, location: f.URL}, string(f.Kind)
	case DropBefore, HugeBody:
		return answer{}, string(f.Kind)
	}
	return answer{}, ""
}

// account returns the ID of the account whose key signed the request, or zeros.
func (x *exchange) account() string {
	x.sim.mu.Lock()
	defer x.sim.mu.Unlock()
	if key := x.sim.world.keys[x.signature.keyID]; key != nil {
		return key.owner.account.ID
	}
	return "000000000000"
}

// deliver writes the answer, as changed by the fault.
func (f Fault) deliver(w http.ResponseWriter, r *http.Request, out answer) {
	switch f.Kind {
	case DropBefore, DropAfter:
		panic(http.ErrAbortHandler) // net/http closes the connection without a response
	case HugeBody:
		writeHuge(w, f.Megabytes)
		return
	case MissingFields:
		out.body = without(out.body, f.Fields)
	}
	if out.contentType != "" {
		w.Header().Set("Content-Type", out.contentType)
	}
	for name, value := range map[string]string{
		"Location": out.location, "Set-Cookie": out.cookie, "X-Amzn-Errortype": out.errorType,
	} {
		if value != "" {
			w.Header().Set(name, value)
		}
	}
	if f.Kind == SlowBytes {
		writeSlowly(w, r, out, f.Pace)
		return
	}
	w.WriteHeader(out.status)
	w.Write(out.body) // ignore the error: the client has disconnected
}

// contentType returns the type of the answers of this service.
func (x *exchange) contentType() string {
	if x.web.do != nil {
		return restType
	}
	return xmlType
}

// without removes elements from an XML body, or members from a JSON body.
func without(body []byte, fields []string) []byte {
	if bytes.HasPrefix(body, []byte("{")) {
		return withoutMembers(body, fields)
	}
	for _, field := range fields {
		name := regexp.QuoteMeta(field)
		element := regexp.MustCompile(`(?s)\s*<` + name + `>.*?</` + name + `>`)
		body = element.ReplaceAll(body, nil)
	}
	return body
}

// writeSlowly writes one byte at each tick, while the client is connected.
func writeSlowly(w http.ResponseWriter, r *http.Request, out answer, pace time.Duration) {
	w.WriteHeader(out.status)
	flush := http.NewResponseController(w)
	flush.Flush()
	for i := range out.body {
		if !pause(r, pace) {
			panic(http.ErrAbortHandler)
		}
		if _, err := w.Write(out.body[i : i+1]); err != nil {
			return
		}
		flush.Flush()
	}
}

// writeHuge writes the beginning of an answer, and then a long text without an end.
func writeHuge(w http.ResponseWriter, megabytes int) {
	w.Header().Set("Content-Type", xmlType)
	w.Write([]byte(`<AssumeRoleResponse xmlns="` + namespaces[apiSTS] + `"><AssumeRoleResult><Credentials><SessionToken>`))
	megabyte := []byte(strings.Repeat("A", 1<<20))
	for range megabytes {
		if _, err := w.Write(megabyte); err != nil {
			return
		}
	}
}
