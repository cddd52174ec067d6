package stssim

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

// This file has the state of IAM Identity Center: who may use which permission set where, and what clients hold.

// IdentityCenter is the organization's instance of IAM Identity Center.
type IdentityCenter struct {
	StartURL string   // of the portal, such as https://demo.awsapps.com/start
	Region   string   // where it is; empty means us-east-1
	Users    []string // the pages propose the first
}

// PermissionSet is what users of Identity Center may become: a role in each of its accounts.
type PermissionSet struct {
	Name            string
	Accounts        []string      // names of an Account
	Users           []string      // who has it; empty means every user
	SessionDuration time.Duration // 1h (0) to 12h
	Deny            []string      // as for a User
	Policies        []string      // as for a User
}

// Lives says how long the things of Identity Center and of `aws login` live. 0 means as at AWS. They hold for what
// is issued from now on.
type Lives struct {
	Registration  time.Duration // of an OIDC client: 90 days
	Code          time.Duration // of a device code or an authorization code: 10 minutes
	AccessToken   time.Duration // of a client with scopes: 1 hour
	PortalSession time.Duration // 8 hours
	LoginKeys     time.Duration // the credentials of `aws login`: 15 minutes, and never longer
	LoginSession  time.Duration // all of a session of `aws login`: 12 hours
}

// normal fills in AWS's values.
func (l Lives) normal() Lives {
	fill := func(life *time.Duration, standard time.Duration) {
		if *life <= 0 {
			*life = standard
		}
	}
	fill(&l.Registration, 90*24*time.Hour)
	fill(&l.Code, 10*time.Minute)
	fill(&l.AccessToken, time.Hour)
	fill(&l.PortalSession, 8*time.Hour)
	fill(&l.LoginKeys, signInKeysLife)
	fill(&l.LoginSession, 12*time.Hour)
	l.LoginKeys = min(l.LoginKeys, signInKeysLife)
	return l
}

// signInKeysLife is the model's maximum for expiresIn of CreateOAuth2Token.
const signInKeysLife = 15 * time.Minute

var (
	permissionSetNames = regexp.MustCompile(`^[\w+=,.@-]{1,32}$`)
	centerUsers        = regexp.MustCompile(`^[\w+=,.@-]{2,64}$`) // they become role session names
)

// checkCenter rejects an instance of Identity Center that is impossible in AWS.
func (org *Organization) checkCenter(seen unique) error {
	center := org.IdentityCenter
	if center.StartURL == "" {
		if center.Region != "" || len(center.Users) > 0 {
			return fmt.Errorf("identity_center: start_url is missing")
		}
		if len(org.PermissionSets) > 0 {
			return fmt.Errorf("permission set %s: there is no [identity_center]", org.PermissionSets[0].Name)
		}
		return nil
	}
	start, err := url.Parse(center.StartURL)
	switch {
	case err != nil || start.Scheme != "https" || start.Host == "":
		return fmt.Errorf("identity_center: start_url %q is not an https URL", center.StartURL)
	case center.Region != "" && !regionNames.MatchString(center.Region):
		return fmt.Errorf("identity_center: no such region: %s", center.Region)
	case len(center.Users) == 0:
		return fmt.Errorf("identity_center: it has no users")
	}
	for _, name := range center.Users {
		if !centerUsers.MatchString(name) {
			return fmt.Errorf("identity_center: user %q is not 2 to 64 letters, digits or +=,.@-", name)
		}
	}
	for _, set := range org.PermissionSets {
		if err := org.checkPermissionSet(set, seen); err != nil {
			return fmt.Errorf("permission set %s: %w", set.Name, err)
		}
	}
	return nil
}

func (org *Organization) checkPermissionSet(set PermissionSet, seen unique) error {
	if !permissionSetNames.MatchString(set.Name) {
		return fmt.Errorf("a name has up to 32 letters, digits or +=,.@-")
	}
	if d := set.SessionDuration; d != 0 && (d < time.Hour || d > 12*time.Hour) {
		return fmt.Errorf("session_duration %s is not between 1h and 12h", d)
	}
	for _, account := range set.Accounts {
		if org.account(account) == nil {
			return fmt.Errorf("no such account: %q", account)
		}
	}
	for _, name := range set.Users {
		if !slices.Contains(org.IdentityCenter.Users, name) {
			return fmt.Errorf("no such user of identity_center: %q", name)
		}
	}
	if _, err := parsePolicies(set.Policies, false); err != nil {
		return err
	}
	return seen.add("permission set " + set.Name)
}

// center is the state of Identity Center. An organization without one has an empty start URL, which no client can
// name.
type center struct {
	IdentityCenter
	sets    []*permissionSet
	lives   Lives
	reply   pageReply
	clients map[string]*oidcClient
	grants  map[string]*oidcGrant // by device code or authorization code

	browsers map[string]*portalSession // by cookie
	access   map[string]*accessToken
	refresh  map[string]*refreshToken
}

// permissionSet is the state of a PermissionSet.
type permissionSet struct {
	PermissionSet
	roles map[string]*role // by account ID
}

// portalSession is one login of a user to the portal. Tokens end with it.
type portalSession struct {
	id      string
	user    string
	expires time.Time
	revoked bool
}

func (s *portalSession) ended(now time.Time) bool { return s.revoked || !now.Before(s.expires) }

// accessToken is what a client shows to the portal.
type accessToken struct {
	session *portalSession
	portal  bool // its scopes include the portal
	expires time.Time
}

// refreshToken gets its client one access token, and the next refresh token.
type refreshToken struct {
	session *portalSession
	client  *oidcClient
	spent   bool
}

func newCenter(org *Organization) *center {
	c := &center{
		IdentityCenter: org.IdentityCenter,
		lives:          Lives{}.normal(),
		clients:        make(map[string]*oidcClient),
		grants:         make(map[string]*oidcGrant),
		browsers:       make(map[string]*portalSession),
		access:         make(map[string]*accessToken),
		refresh:        make(map[string]*refreshToken),
	}
	if c.Region == "" {
		c.Region = "us-east-1"
	}
	return c
}

// addPermissionSet creates the roles of a permission set. Only the portal opens sessions of them: their trust policy
// names a SAML provider, which nobody here can be.
// https://docs.aws.amazon.com/singlesignon/latest/userguide/referencingpermissionsets.html
func (w *world) addPermissionSet(set PermissionSet, now time.Time) {
	added := &permissionSet{PermissionSet: set, roles: make(map[string]*role)}
	for _, account := range set.Accounts {
		id := w.accounts[account].ID
		sum := sha256.Sum256([]byte(w.center.StartURL + " " + id + " " + set.Name))
		added.roles[id] = w.addRole(Role{
			Account:            account,
			Name:               "AWSReservedSSO_" + set.Name + fmt.Sprintf("_%x", sum[:8]),
			Path:               "/aws-reserved/sso.amazonaws.com/" + w.center.Region + "/",
			MaxSessionDuration: set.SessionDuration,
			TrustPolicy:        samlTrust(w.accounts[account]),
			Deny:               set.Deny,
			Policies:           set.Policies,
		}, now)
	}
	w.center.sets = append(w.center.sets, added)
}

// samlTrust returns the trust policy of a permission set's role.
func samlTrust(account *Account) string {
	return `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Federated":"` +
		account.arn("iam", "saml-provider/AWSSSO_0123456789abcdef_DO_NOT_DELETE") +
		`"},"Action":["sts:AssumeRoleWithSAML","sts:TagSession"]}]}`
}

// assigned returns the permission sets that a user has in an account.
func (c *center) assigned(user, accountID string) (list []*permissionSet) {
	for _, set := range c.sets {
		if set.roles[accountID] != nil && (len(set.Users) == 0 || slices.Contains(set.Users, user)) {
			list = append(list, set)
		}
	}
	return list
}

// starts reports whether a URL is that of the portal. People copy it with a slash or a # at its end.
func (c *center) starts(given string) bool {
	return c.StartURL != "" && strings.TrimRight(given, "/#") == strings.TrimRight(c.StartURL, "/#")
}

// login opens a session of the portal.
func (c *center) login(user string, now time.Time) *portalSession {
	return &portalSession{id: randomUUID(), user: user, expires: now.Add(c.lives.PortalSession)}
}

// issue returns the tokens of a session for a client: without scopes an access token for the whole session, with
// scopes a short one and a refresh token.
func (c *center) issue(session *portalSession, client *oidcClient, now time.Time) tokenJSON {
	c.clearEnded(now)
	token := &accessToken{session: session, portal: client.reachesPortal(), expires: session.expires}
	out := tokenJSON{AccessToken: randomBearer("aoa"), TokenType: "Bearer"}
	if client.refreshes() {
		if short := now.Add(c.lives.AccessToken); short.Before(token.expires) {
			token.expires = short
		}
		out.RefreshToken = randomBearer("aor")
		c.refresh[out.RefreshToken] = &refreshToken{session: session, client: client}
	}
	c.access[out.AccessToken] = token
	out.ExpiresIn = int(token.expires.Sub(now) / time.Second)
	return out
}

// clearEnded removes what ended long ago, so that a simulator under load for days does not grow.
func (c *center) clearEnded(now time.Time) {
	if len(c.access) < 10_000 {
		return
	}
	old := now.Add(-forgetAfter)
	maps.DeleteFunc(c.access, func(_ string, token *accessToken) bool { return token.expires.Before(old) })
	maps.DeleteFunc(c.refresh, func(_ string, token *refreshToken) bool { return token.session.expires.Before(old) })
	maps.DeleteFunc(c.grants, func(_ string, grant *oidcGrant) bool { return grant.expires.Before(old) })
}

// randomBearer returns a token of realistic length.
func randomBearer(prefix string) string {
	return prefix + "AAAAAG" + base64.RawURLEncoding.EncodeToString(randomBytes(240))
}
