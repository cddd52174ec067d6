package stssim

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"unicode"
)

// This file serves what is neither a query API nor Organizations: IAM Identity Center, which is OIDC and its portal,
// and the sign-in service of `aws login`. Their operations are REST-JSON without a signature, told apart by method
// and path; beside them are the pages for a person's browser.

// The services, as in credential scopes.
const (
	apiOIDC   = "sso-oauth"
	apiPortal = "awsssoportal"
	apiSignIn = "signin"
)

// webCall is one operation, or one page.
type webCall struct {
	api  string
	name string // of the operation; counts, faults and records use it
	page bool   // it answers a person, so its errors are pages too
	// do runs with the mutex of Sim held. Its result is the JSON of the answer, or an answer.
	do func(*exchange) (any, *apiError)
}

// webCalls lists operations and pages by method and path.
var webCalls = map[string]webCall{
	"POST /client/register":      {api: apiOIDC, name: "RegisterClient", do: (*exchange).registerClient},
	"POST /device_authorization": {api: apiOIDC, name: "StartDeviceAuthorization", do: (*exchange).startDevice},
	"POST /token":                {api: apiOIDC, name: "CreateToken", do: (*exchange).createToken},
	"GET /authorize":             {api: apiOIDC, name: "Authorize", page: true, do: (*exchange).authorize},
	"POST /authorize":            {api: apiOIDC, name: "Authorize", page: true, do: (*exchange).authorize},
	"GET /device":                {api: apiOIDC, name: "VerifyDevice", page: true, do: (*exchange).verifyDevice},
	"POST /device":               {api: apiOIDC, name: "VerifyDevice", page: true, do: (*exchange).verifyDevice},

	"GET /federation/credentials": {api: apiPortal, name: "GetRoleCredentials", do: (*exchange).getRoleCredentials},
	"GET /assignment/accounts":    {api: apiPortal, name: "ListAccounts", do: (*exchange).listPortalAccounts},
	"GET /assignment/roles":       {api: apiPortal, name: "ListAccountRoles", do: (*exchange).listAccountRoles},
	"POST /logout":                {api: apiPortal, name: "Logout", do: (*exchange).logout},

	"POST /v1/token":          {api: apiSignIn, name: "CreateOAuth2Token", do: (*exchange).createOAuth2Token},
	"GET /v1/authorize":       {api: apiSignIn, name: "AuthorizeLogin", page: true, do: (*exchange).authorizeLogin},
	"POST /v1/authorize":      {api: apiSignIn, name: "AuthorizeLogin", page: true, do: (*exchange).authorizeLogin},
	"GET " + confirmationPath: {api: apiSignIn, name: "ConfirmLogin", page: true, do: (*exchange).confirmLogin},
}

var regionNames = regexp.MustCompile(`^[a-z]{2,4}(-[a-z]+)+-\d$`)

// regionPrefix begins a path that names a region: /_region/us-east-1/token.
const regionPrefix = "/_region/"

// placeOf returns the region that a request addresses, and the path without it. The region is in the path or, as
// with AWS's own hosts, in the host name. It is empty if the request names none: every such request is in one and
// the same region, that of the portal.
func placeOf(r *http.Request) (region, path string) {
	if rest, ok := strings.CutPrefix(r.URL.Path, regionPrefix); ok {
		region, path, _ = strings.Cut(rest, "/")
		return region, "/" + path
	}
	for label := range strings.SplitSeq(r.Host, ".") {
		if regionNames.MatchString(label) {
			return label, r.URL.Path
		}
	}
	return "", r.URL.Path
}

// webCallOf finds the operation or page of a request.
func webCallOf(r *http.Request) (webCall, bool) {
	_, path := placeOf(r)
	found, ok := webCalls[r.Method+" "+path]
	return found, ok
}

// readWebCall reads the action and the parameters of a request to an operation or a page. Parameters of a POSTed
// operation are in its JSON alone.
func (x *exchange) readWebCall() {
	found, ok := webCallOf(x.request)
	if !ok {
		return
	}
	x.web, x.action = found, found.name
	x.region, _ = placeOf(x.request)
	if found.page || x.request.Method != http.MethodPost {
		return
	}
	x.params = url.Values{}
	var in map[string]any
	if json.Unmarshal(x.body, &in) != nil {
		return
	}
	for name, value := range in {
		list, many := value.([]any)
		if !many {
			list = []any{value}
		}
		for _, item := range list {
			x.params.Add(name, fmt.Sprint(item))
		}
	}
}

// serveWeb performs an operation, or shows a page.
func (x *exchange) serveWeb() (answer, string) {
	x.sim.mu.Lock()
	defer x.sim.mu.Unlock()
	if x.region == "" {
		x.region = x.sim.world.center.Region
	}
	result, err := x.web.do(x)
	if err != nil {
		return x.webFailure(err), err.code
	}
	if out, ok := result.(answer); ok {
		return out, outcomeOK
	}
	return jsonAnswer(http.StatusOK, result), outcomeOK
}

// base returns the URL that this request was sent to, without the path of its operation. A client that was told of
// a region's path keeps it.
func (x *exchange) base() string {
	scheme := "http"
	switch {
	case x.request.URL.Scheme != "": // without a network
		scheme = x.request.URL.Scheme
	case x.request.TLS != nil:
		scheme = "https"
	}
	_, path := placeOf(x.request)
	return scheme + "://" + x.request.Host + strings.TrimSuffix(x.request.URL.Path, path)
}

const restType = "application/json"

func jsonAnswer(status int, value any) answer {
	body, err := json.Marshal(value)
	if err != nil {
		panic("stssim: marshal an answer: " + err.Error())
	}
	return answer{status: status, contentType: restType, body: body}
}

// webFailure returns an error in the form of the service.
func (x *exchange) webFailure(e *apiError) answer {
	if x.web.page {
		return answer{status: e.status, contentType: pageType, body: show(errorPage, e.message)}
	}
	kind := e.code
	var out answer
	switch x.web.api {
	case apiOIDC:
		out = jsonAnswer(e.status, map[string]string{
			"__type": kind, "error": oauthCode(kind), "error_description": e.message,
		})
	case apiSignIn:
		kind = signInKind(e)
		out = jsonAnswer(e.status, map[string]string{"__type": kind, "error": e.code, "message": e.message})
	default:
		out = jsonAnswer(e.status, map[string]string{"__type": kind, "message": e.message})
	}
	out.errorType = kind
	return out
}

// throttled returns the service's own error for too many requests.
func (x *exchange) throttled() *apiError {
	switch {
	case x.web.do == nil:
		return errThrottled
	case x.web.api == apiSignIn:
		return &apiError{http.StatusTooManyRequests, loginInvalid, "Rate exceeded"}
	}
	return &apiError{http.StatusTooManyRequests, "TooManyRequestsException", "Rate exceeded"}
}

// oauthCode returns the code that OAuth has for an exception: slow_down for SlowDownException.
func oauthCode(exception string) string {
	if exception == "InternalServerException" {
		return "server_error"
	}
	var b strings.Builder
	for i, letter := range strings.TrimSuffix(exception, "Exception") {
		if unicode.IsUpper(letter) && i > 0 {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(letter))
	}
	return b.String()
}

// withoutMembers removes members from a JSON body, at any depth.
func withoutMembers(body []byte, names []string) []byte {
	var whole any
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber()
	if decoder.Decode(&whole) != nil {
		return body
	}
	var prune func(any)
	prune = func(value any) {
		switch value := value.(type) {
		case map[string]any:
			for _, name := range names {
				delete(value, name)
			}
			for _, inner := range value {
				prune(inner)
			}
		case []any:
			for _, inner := range value {
				prune(inner)
			}
		}
	}
	prune(whole)
	return jsonAnswer(http.StatusOK, whole).body
}
