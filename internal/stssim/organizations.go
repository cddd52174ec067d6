package stssim

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// This file simulates a single call of AWS Organizations. Unlike STS and IAM, Organizations uses JSON 1.1 and
// names the action in a header.
// https://docs.aws.amazon.com/organizations/latest/APIReference/API_ListAccounts.html

// apiOrganizations is the service in credential scopes.
const apiOrganizations = "organizations"

const (
	targetPrefix = "AWSOrganizationsV20161128."
	jsonType     = "application/x-amz-json-1.1"
	// accountsPerPage is AWS's maximum and default for one page.
	accountsPerPage = 20
)

// The error texts of Organizations. It uses other codes for common errors than the query APIs.
// https://docs.aws.amazon.com/organizations/latest/APIReference/CommonErrors.html
var (
	errNotManagement = &apiError{http.StatusBadRequest, "AccessDeniedException", "You don't have permissions to access this resource."}
	errNoOrg         = &apiError{http.StatusBadRequest, "AWSOrganizationsNotInUseException", "Your account is not a member of an organization."}
	errBadPage       = &apiError{http.StatusBadRequest, "InvalidInputException", "You provided an invalid token."}
	errBadPageSize   = &apiError{http.StatusBadRequest, "InvalidInputException", "You provided a value that does not match the required pattern."}

	jsonCodes = map[string]string{
		"InvalidClientTokenId":  "UnrecognizedClientException",
		"SignatureDoesNotMatch": "InvalidSignatureException",
		"IncompleteSignature":   "IncompleteSignatureException",
		"ExpiredToken":          "ExpiredTokenException",
		"AccessDenied":          "AccessDeniedException",
		"Throttling":            "TooManyRequestsException",
		"InvalidAction":         "UnknownOperationException",
		"ValidationError":       "ValidationException",
	}
)

// readJSONCall reads the action and parameters of a JSON request.
func (x *exchange) readJSONCall() {
	action, ok := strings.CutPrefix(x.request.Header.Get("X-Amz-Target"), targetPrefix)
	if !ok {
		return
	}
	x.params = url.Values{}
	var in map[string]any
	if json.Unmarshal(x.body, &in) == nil {
		for name, value := range in {
			x.params.Set(name, fmt.Sprint(value))
		}
	}
	x.action, x.json = action, true
}

// listAccounts lists the accounts of the organization, in pages.
func (w *world) listAccounts(c *call) (any, *apiError) {
	management := w.management()
	switch {
	case management == nil:
		return nil, errNoOrg
	case c.caller.account != management:
		return nil, errNotManagement
	}
	if err := c.denied("*"); err != nil {
		return nil, err
	}
	size := accountsPerPage
	if text := c.get("MaxResults"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > accountsPerPage {
			return nil, errBadPageSize
		}
		size = n
	}
	if most := w.settings.AccountsPerPage; most > 0 {
		size = min(size, most)
	}
	from := 0
	if token := c.get("NextToken"); token != "" {
		text, _ := base64.StdEncoding.DecodeString(token)
		n, err := strconv.Atoi(strings.TrimPrefix(string(text), "page from "))
		if err != nil || n < 1 || n >= len(w.listed) {
			return nil, errBadPage
		}
		from = n
	}
	type accountJSON struct {
		ID              string `json:"Id"`
		Arn             string
		Name            string
		Email           string
		State           string // replaces Status, which AWS removes in September 2026
		Status          string
		JoinedMethod    string
		JoinedTimestamp float64
	}
	out := struct {
		Accounts  []accountJSON
		NextToken string `json:",omitempty"`
	}{Accounts: []accountJSON{}}
	for _, a := range w.listed[from:min(from+size, len(w.listed))] {
		out.Accounts = append(out.Accounts, accountJSON{
			ID: a.ID, Arn: management.arn("organizations", "account/o-simulated1/"+a.ID), Name: a.Name, Email: "aws+" + a.ID + "@example.com",
			State: a.status(), Status: a.status(), JoinedMethod: "CREATED", JoinedTimestamp: 1.7e9,
		})
	}
	if next := from + size; next < len(w.listed) {
		out.NextToken = base64.StdEncoding.EncodeToString([]byte("page from " + strconv.Itoa(next)))
	}
	return out, nil
}

// management returns the management account of the organization, or nil.
func (w *world) management() *Account {
	for _, a := range w.listed {
		if a.Management {
			return a
		}
	}
	return nil
}

func (a *Account) status() string {
	if a.Suspended {
		return "SUSPENDED"
	}
	return "ACTIVE"
}

func jsonSuccess(result any) answer {
	body, err := json.Marshal(result)
	if err != nil {
		panic("stssim: marshal an answer: " + err.Error())
	}
	return answer{status: http.StatusOK, contentType: jsonType, body: body}
}

func jsonFailure(e *apiError) answer {
	code, status := e.code, e.status
	if other, ok := jsonCodes[code]; ok {
		code = other
	}
	if status < 500 {
		status = http.StatusBadRequest // JSON 1.1 has no other status for errors of the caller
	}
	var b bytes.Buffer
	// Encoding a map of strings into a buffer cannot fail.
	_ = json.NewEncoder(&b).Encode(map[string]string{"__type": code, "message": e.message})
	return answer{status: status, contentType: jsonType, body: b.Bytes()}
}
