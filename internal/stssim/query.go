package stssim

import (
	"bytes"
	"encoding/xml"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// The services with query APIs, as in credential scopes.
const (
	apiSTS = "sts"
	apiIAM = "iam"
)

// Versions and namespaces of the query APIs.
// https://docs.aws.amazon.com/STS/latest/APIReference/CommonParameters.html
var (
	versions   = map[string]string{apiSTS: "2011-06-15", apiIAM: "2010-05-08"}
	namespaces = map[string]string{apiSTS: "https://sts.amazonaws.com/doc/2011-06-15/", apiIAM: "https://iam.amazonaws.com/doc/2010-05-08/"}
)

// operation is one call of an API.
type operation struct {
	api string
	// do runs with the mutex of Sim held. Its result becomes the Result element of the answer; nil omits that
	// element.
	do func(*world, *call) (any, *apiError)
}

// operations lists all calls that the simulator supports.
var operations = map[string]operation{
	"AssumeRole":         {apiSTS, (*world).assumeRole},
	webIdentityAction:    {apiSTS, (*world).assumeRoleWithWebIdentity},
	"GetCallerIdentity":  {apiSTS, (*world).getCallerIdentity},
	"GetFederationToken": {apiSTS, (*world).getFederationToken},
	"GetSessionToken":    {apiSTS, (*world).getSessionToken},

	"CreateAccessKey":        {apiIAM, (*world).createAccessKey},
	"CreateVirtualMFADevice": {apiIAM, (*world).createVirtualMFADevice},
	"DeactivateMFADevice":    {apiIAM, (*world).deactivateMFADevice},
	"DeleteAccessKey":        {apiIAM, (*world).deleteAccessKey},
	"DeleteVirtualMFADevice": {apiIAM, (*world).deleteVirtualMFADevice},
	"EnableMFADevice":        {apiIAM, (*world).enableMFADevice},
	"GetAccessKeyLastUsed":   {apiIAM, (*world).getAccessKeyLastUsed},
	"GetRole":                {apiIAM, (*world).getRole},
	"GetUser":                {apiIAM, (*world).getUser},
	"ListAccessKeys":         {apiIAM, (*world).listAccessKeys},
	"ListMFADevices":         {apiIAM, (*world).listMFADevices},
	"ListRoles":              {apiIAM, (*world).listRoles},
	"UpdateAccessKey":        {apiIAM, (*world).updateAccessKey},

	"ListAccounts":                     {apiOrganizations, (*world).listAccounts},
	"ListAccountsForParent":            {apiOrganizations, (*world).listAccountsForParent},
	"ListOrganizationalUnitsForParent": {apiOrganizations, (*world).listUnitsForParent},
	"ListRoots":                        {apiOrganizations, (*world).listRoots},

	codeArtifactAction: {apiCodeArtifact, (*world).codeArtifactToken},
	ecrAction:          {apiECR, (*world).ecrToken},
}

// webIdentityAction is the only call of the query APIs that is not signed. Its caller is a principal without a name.
const webIdentityAction = "AssumeRoleWithWebIdentity"

// call is one authenticated request.
type call struct {
	api    string
	action string
	caller *principal
	params url.Values
	now    time.Time // by the simulator's clock
	ends   time.Time // end of the caller's session; zero for a long-lived key
	region string    // of the signature
}

func (c *call) get(name string) string { return c.params.Get(name) }

// apiError is an error with AWS's text.
type apiError struct {
	status  int
	code    string
	message string
}

// Errors with the same text for every call. https://docs.aws.amazon.com/STS/latest/APIReference/CommonErrors.html
var (
	errMissingToken = &apiError{http.StatusForbidden, "MissingAuthenticationToken", "Request is missing Authentication Token"}
	errUnknownKey   = &apiError{http.StatusForbidden, "InvalidClientTokenId", "The security token included in the request is invalid."}
	errExpired      = &apiError{http.StatusForbidden, "ExpiredToken", "The security token included in the request is expired"}
	errSignature    = &apiError{http.StatusForbidden, "SignatureDoesNotMatch", "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details."}
	errThrottled    = &apiError{http.StatusBadRequest, "Throttling", "Rate exceeded"}
)

func mismatch(message string) *apiError {
	return &apiError{http.StatusForbidden, "SignatureDoesNotMatch", message}
}

func incomplete(message string) *apiError {
	return &apiError{http.StatusForbidden, "IncompleteSignature", message}
}

func invalid(message string) *apiError {
	return &apiError{http.StatusBadRequest, "ValidationError", message}
}

func accessDenied(message string) *apiError {
	return &apiError{http.StatusForbidden, "AccessDenied", message}
}

// notAuthorized returns IAM's error for a call that no policy allows.
func (c *call) notAuthorized(resource string) *apiError { return c.refused(c.fullAction(), resource) }

// refused is notAuthorized for another action that the call needs too.
func (c *call) refused(action, resource string) *apiError {
	return accessDenied("User: " + c.caller.arn + " is not authorized to perform: " + action + " on resource: " + resource)
}

// denied returns an error if a deny pattern or the policies of the caller forbid the call on resource.
func (c *call) denied(resource string) *apiError {
	said := c.identity(c.fullAction(), resource)
	if c.caller.denied(c.fullAction(), resource) {
		said = refused
	}
	refusal := c.notAuthorized(resource)
	switch said {
	case refused:
		refusal.message += " with an explicit deny in an identity-based policy"
	case silent:
		refusal.message += " because no identity-based policy allows the " + c.fullAction() + " action"
	default:
		return nil
	}
	return refusal
}

// fullAction returns the action as policies name it.
func (c *call) fullAction() string { return c.api + ":" + c.action }

// constraints collects what is wrong with the parameters of a call: AWS reports all of it in one ValidationError.
type constraints struct{ broken []string }

func (cs *constraints) fail(value, name, rule string) {
	cs.broken = append(cs.broken, "Value "+value+" at '"+name+"' failed to satisfy constraint: Member must "+rule)
}

// alphabet is a pattern as AWS prints it in errors, and its compiled form.
type alphabet struct {
	text    string
	pattern *regexp.Regexp
}

func newAlphabet(text string) alphabet {
	return alphabet{text, regexp.MustCompile(`^(?s:` + text + `)$`)}
}

// text checks the length and the characters of a parameter.
func (cs *constraints) text(value, name string, least, most int, of alphabet) {
	quoted := "'" + value + "'"
	if n := len([]rune(value)); n < least {
		cs.fail(quoted, name, "have length greater than or equal to "+strconv.Itoa(least))
	} else if n > most {
		cs.fail(quoted, name, "have length less than or equal to "+strconv.Itoa(most))
	}
	if !of.pattern.MatchString(value) {
		cs.fail(quoted, name, "satisfy regular expression pattern: "+of.text)
	}
}

// seconds parses DurationSeconds, which is from 15 minutes to most; if it is missing, the default applies.
func (cs *constraints) seconds(value string, most, standard int) time.Duration {
	const name, least = "durationSeconds", 900
	if value == "" {
		return time.Duration(standard) * time.Second
	}
	n, err := strconv.Atoi(value)
	switch {
	case err != nil:
		cs.fail("'"+value+"'", name, "be a number")
	case n < least:
		cs.fail("'"+value+"'", name, "have value greater than or equal to "+strconv.Itoa(least))
	case n > most:
		cs.fail("'"+value+"'", name, "have value less than or equal to "+strconv.Itoa(most))
	}
	return time.Duration(n) * time.Second
}

// required fails if the parameter is missing, and reports whether it is there.
func (cs *constraints) required(params url.Values, key, name string) bool {
	if !params.Has(key) {
		cs.fail("null", name, "not be null")
	}
	return params.Has(key)
}

// err returns one error for all broken constraints, or nil.
func (cs *constraints) err() *apiError {
	switch n := len(cs.broken); n {
	case 0:
		return nil
	case 1:
		return invalid("1 validation error detected: " + cs.broken[0])
	default:
		return invalid(strconv.Itoa(n) + " validation errors detected: " + strings.Join(cs.broken, "; "))
	}
}

// answer is a response that is ready to be written.
type answer struct {
	status      int
	contentType string
	body        []byte
	location    string // target of a redirect
	cookie      string // Set-Cookie
	errorType   string // X-Amzn-ErrorType, of a REST-JSON service
}

const xmlType = "text/xml"

// success wraps the result of an operation in the format of the query protocol.
func success(api, action, requestID string, result any) answer {
	var b bytes.Buffer
	b.WriteString("<" + action + `Response xmlns="` + namespaces[api] + `">` + "\n")
	if result != nil {
		encoder := xml.NewEncoder(&b)
		encoder.Indent("  ", "  ")
		if err := encoder.EncodeElement(result, xml.StartElement{Name: xml.Name{Local: action + "Result"}}); err != nil {
			panic("stssim: marshal the result of " + action + ": " + err.Error())
		}
		b.WriteString("\n")
	}
	b.WriteString("  <ResponseMetadata>\n    <RequestId>" + requestID + "</RequestId>\n  </ResponseMetadata>\n")
	b.WriteString("</" + action + "Response>\n")
	return answer{status: http.StatusOK, contentType: xmlType, body: b.Bytes()}
}

// failure returns an error in the format of the query protocol.
func failure(api, requestID string, e *apiError) answer {
	fault := "Sender"
	if e.status >= 500 {
		fault = "Receiver"
	}
	var b bytes.Buffer
	b.WriteString(`<ErrorResponse xmlns="` + namespaces[api] + `">` + "\n  <Error>\n")
	for _, field := range [][2]string{{"Type", fault}, {"Code", e.code}, {"Message", e.message}} {
		b.WriteString("    <" + field[0] + ">")
		xml.EscapeText(&b, []byte(field[1])) // writing to a bytes.Buffer cannot fail
		b.WriteString("</" + field[0] + ">\n")
	}
	b.WriteString("  </Error>\n  <RequestId>" + requestID + "</RequestId>\n</ErrorResponse>\n")
	return answer{status: e.status, contentType: xmlType, body: b.Bytes()}
}

// xmlTime formats a time as the query APIs do: whole seconds in UTC.
func xmlTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }
