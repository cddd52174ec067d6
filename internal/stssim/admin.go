package stssim

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
)

// errNotThere means that a key or session does not exist.
var errNotThere = errors.New("no such access key id")

// adminPaths is the API with which scripts control a running simulator. Requests need no signature. Bodies and
// answers are JSON. The answer to a request that changes something is {}; the answer to an invalid one is 400 or
// 404 with {"error"}.
//
//	GET  /_sim/ping              {}
//	GET  /_sim/requests          array of Record
//	GET  /_sim/counts            {"calls": {action: n}, "successes": {action: n}}
//	GET  /_sim/keys              array of KeyState
//	GET  /_sim/devices           array of DeviceState
//	GET  /_sim/tokens            array of IssuedToken
//	GET  /_sim/code?serial=ARN   {"code", "fresh"}: what the device shows; an unused code
//	POST /_sim/reset             deletes records and counts
//	POST /_sim/faults            one Fault or an array of them
//	POST /_sim/faults/clear      empties the queue
//	POST /_sim/clock             {"offset_seconds": n}
//	POST /_sim/lifetime          {"seconds": n}, 0 = as requested
//	POST /_sim/codes/forget      makes used codes valid again
//	POST /_sim/keys/delay        {"seconds": n, "flaps": bool} for keys created from now on
//	POST /_sim/keys/disable      {"access_key_id"}
//	POST /_sim/sessions/revoke   {"access_key_id"}
//
//	GET  /_sim/sso                       PortalState: waiting devices and sessions
//	POST /_sim/sso/approve               {"user_code", "user"} of a device code; without user the first one
//	POST /_sim/sso/deny                  {"user_code"}
//	POST /_sim/sso/sessions/end          {"user"}: portal sessions; without user those of all
//	POST /_sim/sso/tokens/expire         every access token is dead, the sessions and refresh tokens are not
//	POST /_sim/sso/refresh/spend         every refresh token is spent, as if another program had used it
//	POST /_sim/sso/registrations/expire  every registered client has expired
//	POST /_sim/pages                     {"answer": "allow", "deny" or "ask", "user"}: pages answer by themselves
//	POST /_sim/lives                     Lives in seconds: registration_seconds, code_seconds,
//	                                     access_token_seconds, portal_session_seconds, login_keys_seconds,
//	                                     login_session_seconds; a key that is missing means AWS's value
//	POST /_sim/login/end                 {"user", "error"}: sessions of aws login end; the next refresh fails with
//	                                     TOKEN_EXPIRED or USER_CREDENTIALS_CHANGED
//	POST /_sim/login/mfa                 {"mfa": bool}: credentials of aws login count as MFA
//
// The keys of a Fault are: kind; action, region, role_arn, skip, times, which select the calls that it affects;
// delay_seconds, hold_seconds; and, depending on the kind, status, code, message, body, fields, pace_seconds,
// megabytes, url. For example:
//
//	{"kind": "error", "action": "AssumeRole", "code": "AccessDenied", "status": 403, "times": 2}
//	{"kind": "drop-after", "action": "GetSessionToken"}
func (s *Sim) adminPaths() http.Handler {
	mux := http.NewServeMux()

	get := func(path string, read func(*http.Request) any) {
		mux.HandleFunc("GET /_sim/"+path, func(w http.ResponseWriter, r *http.Request) {
			writeJSON(w, http.StatusOK, read(r))
		})
	}
	get("ping", func(*http.Request) any { return struct{}{} })
	get("requests", func(*http.Request) any { return s.Requests() })
	get("counts", func(*http.Request) any { return s.Counts() })
	get("keys", func(*http.Request) any { return s.Keys() })
	get("devices", func(*http.Request) any { return s.Devices() })
	get("tokens", func(*http.Request) any { return s.Tokens() })
	get("code", func(r *http.Request) any {
		serial := r.URL.Query().Get("serial")
		return map[string]string{"code": s.Code(serial), "fresh": s.FreshCode(serial)}
	})

	post := func(path string, change func(body []byte) error) {
		mux.HandleFunc("POST /_sim/"+path, func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
			if err == nil {
				err = change(body)
			}
			switch {
			case errors.Is(err, errNotThere), errors.Is(err, errNoDevice), errors.Is(err, errNoUser):
				writeJSON(w, http.StatusNotFound, map[string]string{"error": err.Error()})
			case err != nil:
				writeJSON(w, http.StatusBadRequest, map[string]string{"error": err.Error()})
			default:
				writeJSON(w, http.StatusOK, struct{}{})
			}
		})
	}
	post("reset", always(s.Reset))
	post("faults", s.postFaults)
	post("faults/clear", always(s.ClearFaults))
	post("codes/forget", always(s.ForgetCodes))
	post("clock", func(body []byte) error {
		var b struct {
			Seconds float64 `json:"offset_seconds"`
		}
		err := readJSON(body, &b)
		if err == nil {
			s.SetClockOffset(seconds(b.Seconds))
		}
		return err
	})
	post("lifetime", func(body []byte) error {
		var b struct {
			Seconds float64 `json:"seconds"`
		}
		err := readJSON(body, &b)
		if err == nil {
			s.SetLifetime(seconds(b.Seconds))
		}
		return err
	})
	post("keys/delay", func(body []byte) error {
		var b struct {
			Seconds float64 `json:"seconds"`
			Flaps   bool    `json:"flaps"`
		}
		err := readJSON(body, &b)
		if err == nil {
			s.SetKeyDelay(seconds(b.Seconds), b.Flaps)
		}
		return err
	})
	post("keys/disable", onKey(s.DisableKey))
	post("sessions/revoke", onKey(s.RevokeSession))
	s.centerPaths(get, post)
	s.loginPaths(post)
	return mux
}

// postFaults queues all faults of the body, or none of them.
func (s *Sim) postFaults(body []byte) error {
	var list []Fault
	if trimmed := bytes.TrimSpace(body); len(trimmed) > 0 && trimmed[0] == '{' {
		body = slices.Concat([]byte("["), trimmed, []byte("]"))
	}
	if err := readJSON(body, &list); err != nil {
		return err
	}
	for _, f := range list {
		if _, err := f.normal(); err != nil {
			return err
		}
	}
	for _, f := range list {
		s.Fault(f)
	}
	return nil
}

// always returns a change that needs no body.
func always(change func()) func([]byte) error {
	return func([]byte) error {
		change()
		return nil
	}
}

// onKey returns a change to the access key or session that the body names.
func onKey(change func(id string) bool) func([]byte) error {
	return func(body []byte) error {
		var b struct {
			AccessKeyID string `json:"access_key_id"`
		}
		if err := readJSON(body, &b); err != nil {
			return err
		}
		if !change(b.AccessKeyID) {
			return errNotThere
		}
		return nil
	}
}

// readJSON rejects unknown keys: a misspelled key would have no effect.
func readJSON(body []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	return decoder.Decode(into)
}

func writeJSON(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(value) // ignore the error: the client has disconnected
}
