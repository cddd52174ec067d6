package stssim

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// This file simulates a few calls of AWS Organizations. Unlike STS and IAM, Organizations uses JSON 1.1 and
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
	target := x.request.Header.Get("X-Amz-Target")
	action, ok := strings.CutPrefix(target, targetPrefix)
	if target == ecrTarget {
		action, ok = ecrAction, true
	}
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

// accountJSON is an account in the answers of Organizations.
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

func (a *Account) json(management *Account) accountJSON {
	return accountJSON{
		ID: a.ID, Arn: management.arn("organizations", "account/o-simulated1/"+a.ID), Name: a.Name, Email: a.email(),
		State: a.status(), Status: a.status(), JoinedMethod: "CREATED", JoinedTimestamp: 1.7e9,
	}
}

// email returns the address of the account's root user.
func (a *Account) email() string { return "aws+" + a.ID + "@example.com" }

// admin returns the management account if the caller may ask Organizations.
func (w *world) admin(c *call) (*Account, *apiError) {
	management := w.management()
	switch {
	case management == nil:
		return nil, errNoOrg
	case c.caller.account != management:
		return nil, errNotManagement
	}
	return management, c.denied("*")
}

// listAccounts lists the accounts of the organization, in pages.
func (w *world) listAccounts(c *call) (any, *apiError) {
	management, err := w.admin(c)
	if err != nil {
		return nil, err
	}
	list, next, err := page(w, c, w.listed)
	if err != nil {
		return nil, err
	}
	out := accountsJSON{Accounts: []accountJSON{}, NextToken: next}
	for _, a := range list {
		out.Accounts = append(out.Accounts, a.json(management))
	}
	return out, nil
}

type accountsJSON struct {
	Accounts  []accountJSON
	NextToken string `json:",omitempty"`
}

// page returns the page of a list that a call asks for, and the token of the next page.
func page[T any](w *world, c *call, list []T) ([]T, string, *apiError) {
	size := accountsPerPage
	if text := c.get("MaxResults"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > accountsPerPage {
			return nil, "", errBadPageSize
		}
		size = n
	}
	if most := w.settings.AccountsPerPage; most > 0 {
		size = min(size, most)
	}
	part, next, ok := pageFrom(list, c.get("NextToken"), size)
	if !ok {
		return nil, "", errBadPage
	}
	return part, next, nil
}

// pageFrom returns the part of a list that begins where the token says, and the token of the next part. It reports
// whether the token is valid.
func pageFrom[T any](list []T, token string, size int) ([]T, string, bool) {
	from := 0
	if token != "" {
		text, _ := base64.StdEncoding.DecodeString(token)
		n, err := strconv.Atoi(strings.TrimPrefix(string(text), "page from "))
		if err != nil || n < 1 || n >= len(list) {
			return nil, "", false
		}
		from = n
	}
	after := ""
	if next := from + size; next < len(list) {
		after = base64.StdEncoding.EncodeToString([]byte("page from " + strconv.Itoa(next)))
	}
	return list[from:min(from+size, len(list))], after, true
}

// rootID is the id of the only root.
const rootID = "r-sim1"

// unitID returns the id of an organizational unit, by its path below the root.
func unitID(path string) string {
	if path == "" {
		return rootID
	}
	return fmt.Sprintf("ou-sim1-%x", sha256.Sum256([]byte(path)))[:len("ou-sim1-")+8]
}

// unitJSON is a root or an organizational unit.
type unitJSON struct {
	ID   string `json:"Id"`
	Arn  string
	Name string
}

// listRoots is https://docs.aws.amazon.com/organizations/latest/APIReference/API_ListRoots.html
func (w *world) listRoots(c *call) (any, *apiError) {
	management, err := w.admin(c)
	if err != nil {
		return nil, err
	}
	return struct{ Roots []unitJSON }{[]unitJSON{
		{rootID, management.arn("organizations", "root/o-simulated1/"+rootID), "Root"},
	}}, nil
}

// listAccountsForParent is
// https://docs.aws.amazon.com/organizations/latest/APIReference/API_ListAccountsForParent.html
func (w *world) listAccountsForParent(c *call) (any, *apiError) {
	management, err := w.admin(c)
	if err != nil {
		return nil, err
	}
	var all []*Account
	for _, a := range w.listed {
		if unitID(a.OU) == c.get("ParentId") {
			all = append(all, a)
		}
	}
	list, next, err := page(w, c, all)
	out := accountsJSON{Accounts: []accountJSON{}, NextToken: next}
	for _, a := range list {
		out.Accounts = append(out.Accounts, a.json(management))
	}
	return out, err
}

// listUnitsForParent is
// https://docs.aws.amazon.com/organizations/latest/APIReference/API_ListOrganizationalUnitsForParent.html
func (w *world) listUnitsForParent(c *call) (any, *apiError) {
	management, err := w.admin(c)
	if err != nil {
		return nil, err
	}
	var all []unitJSON
	for _, a := range w.listed {
		above := ""
		for name := range strings.SplitSeq(a.OU, "/") {
			path := strings.TrimPrefix(above+"/"+name, "/")
			unit := unitJSON{unitID(path), management.arn("organizations", "ou/o-simulated1/"+unitID(path)), name}
			if name != "" && unitID(above) == c.get("ParentId") && !slices.Contains(all, unit) {
				all = append(all, unit)
			}
			above = path
		}
	}
	list, next, err := page(w, c, all)
	return struct {
		OrganizationalUnits []unitJSON
		NextToken           string `json:",omitempty"`
	}{list, next}, err
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
