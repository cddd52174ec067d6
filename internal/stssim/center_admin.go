package stssim

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// This file lets tests and scripts do what a person, an administrator or time does to Identity Center.

var (
	errNoDevice = errors.New("no device waits with this user code")
	errNoUser   = errors.New("no such user")
)

// pending returns the grant of a device that waits for a person, or nil.
func (c *center) pending(userCode string, now time.Time) *oidcGrant {
	for _, grant := range c.grants {
		if grant.userCode != "" && grant.userCode == userCode && grant.session == nil && !grant.denied &&
			now.Before(grant.expires) {
			return grant
		}
	}
	return nil
}

// ApproveDevice allows the device with this code to act for a user; "" is the first user. It fails if no device
// waits with this code.
func (s *Sim) ApproveDevice(userCode, user string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	center, now := s.world.center, s.nowLocked()
	grant := center.pending(strings.ToUpper(userCode), now)
	if grant == nil {
		return errNoDevice
	}
	name, err := pageReply{user: user}.who(center.Users)
	if err != nil {
		return errNoUser
	}
	grant.session = center.login(name, now)
	return nil
}

// DenyDevice refuses the device with this code.
func (s *Sim) DenyDevice(userCode string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	grant := s.world.center.pending(strings.ToUpper(userCode), s.nowLocked())
	if grant == nil {
		return errNoDevice
	}
	grant.denied = true
	return nil
}

// AnswerPages makes the pages for a person answer by themselves from now on: "allow" as the user, "deny", or "ask",
// which shows the page again. A program that fetches the URL then does what a browser does.
func (s *Sim) AnswerPages(answer, user string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch answer {
	case pageAllow, pageDeny:
		s.world.center.reply = pageReply{answer, user}
	case "ask":
		s.world.center.reply = pageReply{}
	default:
		return fmt.Errorf("no such answer: %q; want allow, deny or ask", answer)
	}
	return nil
}

// SetLives says how long things live that are issued from now on.
func (s *Sim) SetLives(lives Lives) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.world.center.lives = lives.normal()
}

// EndPortalSessions ends the portal sessions of a user; "" ends those of all users. Their tokens are dead, but the
// sessions of roles live on.
func (s *Sim) EndPortalSessions(user string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for session := range s.world.center.sessions(s.nowLocked()) {
		if user == "" || session.user == user {
			session.revoked = true
		}
	}
}

// sessions returns the portal sessions that somebody holds something of and that have not ended.
func (c *center) sessions(now time.Time) map[*portalSession]bool {
	found := make(map[*portalSession]bool)
	add := func(session *portalSession) {
		if session != nil && !session.ended(now) {
			found[session] = true
		}
	}
	for _, session := range c.browsers {
		add(session)
	}
	for _, token := range c.access {
		add(token.session)
	}
	for _, token := range c.refresh {
		add(token.session)
	}
	for _, grant := range c.grants {
		add(grant.session)
	}
	return found
}

// ExpireAccessTokens makes every access token of the portal dead. The sessions and the refresh tokens live on.
func (s *Sim) ExpireAccessTokens() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, token := range s.world.center.access {
		token.expires = s.nowLocked()
	}
}

// SpendRefreshTokens makes every refresh token of the portal invalid, as if another program had used it.
func (s *Sim) SpendRefreshTokens() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, token := range s.world.center.refresh {
		token.spent = true
	}
}

// ExpireRegistrations makes every registered client expire.
func (s *Sim) ExpireRegistrations() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, client := range s.world.center.clients {
		client.expires = s.nowLocked()
	}
}

// PortalState describes Identity Center in the result of Portal. It contains no token.
type PortalState struct {
	StartURL string          `json:"start_url"`
	Region   string          `json:"region"`
	Clients  int             `json:"clients"` // registrations that have not expired
	Devices  []PendingDevice `json:"devices"`
	Sessions []PortalLogin   `json:"sessions"`
}

// PendingDevice is a device code that waits for a person.
type PendingDevice struct {
	UserCode string    `json:"user_code"`
	Client   string    `json:"client_name"`
	Expires  time.Time `json:"expires"`
}

// PortalLogin is a portal session that has not ended.
type PortalLogin struct {
	User          string    `json:"user"`
	Expires       time.Time `json:"expires"`
	AccessTokens  int       `json:"access_tokens"`  // that work
	RefreshTokens int       `json:"refresh_tokens"` // that work
}

// Portal returns what waits for a person, and who is logged in.
func (s *Sim) Portal() PortalState {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, now := s.world.center, s.nowLocked()
	state := PortalState{StartURL: c.StartURL, Region: c.Region, Devices: []PendingDevice{}, Sessions: []PortalLogin{}}
	for _, client := range c.clients {
		if now.Before(client.expires) {
			state.Clients++
		}
	}
	for _, grant := range c.grants {
		if c.pending(grant.userCode, now) == grant {
			state.Devices = append(state.Devices, PendingDevice{grant.userCode, grant.client.name, grant.expires})
		}
	}
	slices.SortFunc(state.Devices, func(a, b PendingDevice) int { return cmp.Compare(a.UserCode, b.UserCode) })
	for session := range c.sessions(now) {
		login := PortalLogin{User: session.user, Expires: session.expires}
		for _, token := range c.access {
			if token.session == session && now.Before(token.expires) {
				login.AccessTokens++
			}
		}
		for _, token := range c.refresh {
			if token.session == session && !token.spent {
				login.RefreshTokens++
			}
		}
		state.Sessions = append(state.Sessions, login)
	}
	slices.SortFunc(state.Sessions, func(a, b PortalLogin) int { return a.Expires.Compare(b.Expires) })
	return state
}

// UnmarshalJSON parses lives in seconds. Unknown keys are errors.
func (l *Lives) UnmarshalJSON(text []byte) error {
	var j struct {
		Registration  float64 `json:"registration_seconds"`
		Code          float64 `json:"code_seconds"`
		AccessToken   float64 `json:"access_token_seconds"`
		PortalSession float64 `json:"portal_session_seconds"`
		LoginKeys     float64 `json:"login_keys_seconds"`
		LoginSession  float64 `json:"login_session_seconds"`
	}
	if err := readJSON(text, &j); err != nil {
		return err
	}
	*l = Lives{
		Registration:  seconds(j.Registration),
		Code:          seconds(j.Code),
		AccessToken:   seconds(j.AccessToken),
		PortalSession: seconds(j.PortalSession),
		LoginKeys:     seconds(j.LoginKeys),
		LoginSession:  seconds(j.LoginSession),
	}
	return nil
}

// centerPaths adds the paths of adminPaths that are about Identity Center.
func (s *Sim) centerPaths(get func(string, func(*http.Request) any), post func(string, func([]byte) error)) {
	get("sso", func(*http.Request) any { return s.Portal() })
	post("sso/approve", func(body []byte) error {
		var b struct {
			UserCode string `json:"user_code"`
			User     string `json:"user"`
		}
		if err := readJSON(body, &b); err != nil {
			return err
		}
		return s.ApproveDevice(b.UserCode, b.User)
	})
	post("sso/deny", func(body []byte) error {
		var b struct {
			UserCode string `json:"user_code"`
		}
		if err := readJSON(body, &b); err != nil {
			return err
		}
		return s.DenyDevice(b.UserCode)
	})
	post("sso/sessions/end", func(body []byte) error {
		var b struct {
			User string `json:"user"`
		}
		err := readJSON(body, &b)
		if err == nil {
			s.EndPortalSessions(b.User)
		}
		return err
	})
	post("sso/tokens/expire", always(s.ExpireAccessTokens))
	post("sso/refresh/spend", always(s.SpendRefreshTokens))
	post("sso/registrations/expire", always(s.ExpireRegistrations))
	post("pages", func(body []byte) error {
		var b struct {
			Answer string `json:"answer"`
			User   string `json:"user"`
		}
		if err := readJSON(body, &b); err != nil {
			return err
		}
		return s.AnswerPages(b.Answer, b.User)
	})
	post("lives", func(body []byte) error {
		var lives Lives
		err := json.Unmarshal(body, &lives)
		if err == nil {
			s.SetLives(lives)
		}
		return err
	})
}
