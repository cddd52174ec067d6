package stssim

import (
	"bytes"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// This file has the pages on which a person allows a client to use Identity Center. They need no password. The
// buttons have the ids "allow" and "deny".

const pageType = "text/html; charset=utf-8"

var (
	errorPage = template.Must(template.New("error").Parse(
		"<!doctype html>\n<html><head><title>Error</title></head><body><p id=\"error\">{{.}}</p></body></html>\n"))
	donePage = template.Must(template.New("done").Parse(
		"<!doctype html>\n<html><head><title>Done</title></head><body><p id=\"done\">{{.}}</p></body></html>\n"))
	askPage = template.Must(template.New("ask").Parse(`<!doctype html>
<html><head><title>{{.Title}}</title></head><body>
<h1>{{.Title}}</h1>
<form method="post" action="{{.Path}}">
{{range $name, $values := .Hidden}}{{range $values}}<input type="hidden" name="{{$name}}" value="{{.}}">
{{end}}{{end}}{{if .Code}}<p>Code <b id="code">{{.Code}}</b></p>
{{end}}<p><select name="user">{{range .Users}}<option>{{.}}</option>{{end}}</select></p>
<button id="allow" name="answer" value="allow">Allow</button>
<button id="deny" name="answer" value="deny">Deny</button>
</form></body></html>
`))
)

// question is what askPage shows.
type question struct {
	Title  string
	Path   string
	Code   string // that the person compares
	Hidden url.Values
	Users  []string
}

func show(page *template.Template, value any) []byte {
	var b bytes.Buffer
	if err := page.Execute(&b, value); err != nil {
		panic("stssim: show a page: " + err.Error())
	}
	return b.Bytes()
}

func pageAnswer(page *template.Template, value any) answer {
	return answer{status: http.StatusOK, contentType: pageType, body: show(page, value)}
}

// pageReply is what a person does on every page; without one, the page asks.
type pageReply struct {
	answer string // allow or deny; empty means that the page asks
	user   string // who answers; empty means the first
}

// Values of pageReply.answer.
const (
	pageAllow = "allow"
	pageDeny  = "deny"
)

// reply returns what the person at this page answered: with a button, with the session of an earlier answer, or
// because the simulator was told what to answer.
func (x *exchange) reply() pageReply {
	told := x.sim.world.center.reply
	if x.request.Method == http.MethodPost {
		told = pageReply{answer: x.params.Get("answer"), user: x.params.Get("user")}
	}
	return told
}

// who returns the user of a reply, one of a list.
func (r pageReply) who(users []string) (string, *apiError) {
	switch {
	case r.user == "" && len(users) > 0:
		return users[0], nil
	case slices.Contains(users, r.user):
		return r.user, nil
	}
	return "", badPage("no such user: " + r.user)
}

func badPage(message string) *apiError {
	return &apiError{http.StatusBadRequest, "InvalidRequestException", message}
}

// ask shows the page with the buttons.
func (x *exchange) ask(q question) answer {
	q.Path = x.request.URL.Path
	q.Hidden = make(url.Values)
	for name, values := range x.params {
		if name != "answer" && name != "user" {
			q.Hidden[name] = values
		}
	}
	return pageAnswer(askPage, q)
}

// portalCookie holds a browser's session of the portal.
const portalCookie = "stssim_portal"

// browserSession returns the portal session of the browser, or nil.
func (x *exchange) browserSession() *portalSession {
	cookie, err := x.request.Cookie(portalCookie)
	if err != nil {
		return nil
	}
	session := x.sim.world.center.browsers[cookie.Value]
	if session == nil || session.ended(x.sim.nowLocked()) {
		return nil
	}
	return session
}

// signedIn returns the session of the browser that allowed something, and the cookie for a new one.
func (x *exchange) signedIn(reply pageReply) (*portalSession, string, *apiError) {
	center := x.sim.world.center
	user, err := reply.who(center.Users)
	if err != nil {
		return nil, "", err
	}
	if warm := x.browserSession(); warm != nil && (reply.user == "" || warm.user == user) {
		return warm, "", nil
	}
	session, cookie := center.login(user, x.sim.nowLocked()), randomUUID()
	center.browsers[cookie] = session
	return session, portalCookie + "=" + cookie + "; Path=/; HttpOnly", nil
}

// authorize is the page that the code flow opens. It is not in the model of the service.
func (x *exchange) authorize() (any, *apiError) {
	center, now := x.sim.world.center, x.sim.nowLocked()
	client := center.clients[x.params.Get("client_id")]
	redirect := x.params.Get("redirect_uri")
	// Without a known client and its redirect URI, there is nobody to send the browser back to.
	if client == nil || !now.Before(client.expires) {
		return nil, badPage("invalid client")
	}
	if _, ok := callbackURL(redirect); !ok || len(client.redirects) == 0 {
		return nil, badPage("invalid redirect URI")
	}
	if code := x.authorizable(client); code != "" {
		return x.sendBack(url.Values{"error": {code}}, ""), nil
	}
	reply, warm := x.reply(), x.browserSession()
	switch {
	case reply.answer == pageDeny:
		return x.sendBack(url.Values{"error": {"access_denied"}}, ""), nil
	case reply.answer != pageAllow && warm == nil:
		return x.ask(question{Title: "Allow " + client.name + " to access your data?", Users: center.Users}), nil
	}
	session, cookie, err := x.signedIn(reply)
	if err != nil {
		return nil, err
	}
	code := randomBearer("")
	center.grants[code] = &oidcGrant{
		client:    client,
		expires:   now.Add(center.lives.Code),
		session:   session,
		challenge: x.params.Get("code_challenge"),
		redirect:  redirect,
	}
	return x.sendBack(url.Values{"code": {code}}, cookie), nil
}

// authorizable returns the OAuth error of an authorize request of a known client, or nothing.
func (x *exchange) authorizable(client *oidcClient) string {
	scopes := scopeList(x.params.Get("scopes") + " " + x.params.Get("scope"))
	foreign := func(scope string) bool { return !slices.Contains(client.scopes, scope) }
	switch {
	case x.params.Get("response_type") != "code":
		return "unsupported_response_type"
	case !client.may(grantCode):
		return "unauthorized_client"
	case slices.ContainsFunc(scopes, foreign):
		return "invalid_scope"
	case x.params.Get("code_challenge_method") != "S256", !challenges.MatchString(x.params.Get("code_challenge")),
		x.params.Get("state") == "", x.region != x.sim.world.center.Region:
		return "invalid_request"
	}
	return ""
}

// sendBack sends the browser to the redirect URI, with the state of the request.
func (x *exchange) sendBack(with url.Values, cookie string) answer {
	if state := x.params.Get("state"); state != "" {
		with.Set("state", state)
	}
	return answer{
		status:   http.StatusFound,
		location: x.params.Get("redirect_uri") + "?" + with.Encode(),
		cookie:   cookie,
	}
}

// verifyDevice is the page on which a person compares the code of a device.
func (x *exchange) verifyDevice() (any, *apiError) {
	center, now := x.sim.world.center, x.sim.nowLocked()
	code := strings.ToUpper(x.params.Get("user_code"))
	grant := center.pending(code, now)
	if grant == nil {
		return nil, badPage("no device waits with this code")
	}
	reply := x.reply()
	switch reply.answer {
	case pageDeny:
		grant.denied = true
		return pageAnswer(donePage, "Request denied"), nil
	case pageAllow:
		session, cookie, err := x.signedIn(reply)
		if err != nil {
			return nil, err
		}
		grant.session = session
		out := pageAnswer(donePage, "Request approved")
		out.cookie = cookie
		return out, nil
	}
	return x.ask(question{
		Title: "Allow " + grant.client.name + " to access your data?",
		Code:  code,
		Users: center.Users,
	}), nil
}
