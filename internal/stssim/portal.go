package stssim

import (
	"net/http"
	"slices"
	"strconv"
)

// This file answers the access portal of Identity Center: which accounts and roles a user has, and their credentials.
// https://docs.aws.amazon.com/singlesignon/latest/PortalAPIReference/Welcome.html

const (
	// mostPortalResults is AWS's maximum for max_result.
	mostPortalResults = 100
	// portalResults is the size of a page without max_result.
	portalResults = 20
)

// ForbiddenException is not in the model of the service, but AWS answers with it.
var (
	errDeadToken  = &apiError{http.StatusUnauthorized, "UnauthorizedException", "Session token not found or invalid"}
	errNoAccess   = &apiError{http.StatusForbidden, "ForbiddenException", "No access"}
	errNoAccount  = &apiError{http.StatusNotFound, "ResourceNotFoundException", "Account not found"}
	errBadResults = portalError("Invalid max_result")
	errBadToken   = portalError("Invalid next_token")
	errBadAccount = portalError("Invalid account_id")
)

func portalError(message string) *apiError {
	return &apiError{http.StatusBadRequest, "InvalidRequestException", message}
}

// bearer returns the portal session of the token in the request.
func (x *exchange) bearer() (*portalSession, *apiError) {
	center, now := x.sim.world.center, x.sim.nowLocked()
	token := center.access[x.request.Header.Get("X-Amz-Sso_bearer_token")]
	switch {
	case token == nil || !token.portal || !now.Before(token.expires),
		token.session.ended(now), x.region != center.Region:
		return nil, errDeadToken
	}
	return token.session, nil
}

// getRoleCredentials is https://docs.aws.amazon.com/singlesignon/latest/PortalAPIReference/API_GetRoleCredentials.html
func (x *exchange) getRoleCredentials() (any, *apiError) {
	session, err := x.bearer()
	if err != nil {
		return nil, err
	}
	id, name := x.params.Get("account_id"), x.params.Get("role_name")
	switch {
	case !accountIDs.MatchString(id):
		return nil, errBadAccount
	case name == "":
		return nil, portalError("Invalid role_name")
	}
	sets := x.sim.world.center.assigned(session.user, id)
	at := slices.IndexFunc(sets, func(set *permissionSet) bool { return set.Name == name })
	if at < 0 {
		return nil, errNoAccess
	}
	target := sets[at].roles[id]
	owner := &principal{
		kind:    roleSession,
		account: target.account,
		role:    target,
		arn:     target.account.arn("sts", "assumed-role/"+target.Name+"/"+session.user),
		userID:  target.id + ":" + session.user,
	}
	opened := x.sim.world.open(owner, target.maxDuration, x.sim.nowLocked())
	type credentialsJSON struct {
		ID         string `json:"accessKeyId"`
		Secret     string `json:"secretAccessKey"`
		Token      string `json:"sessionToken"`
		Expiration int64  `json:"expiration"` // milliseconds
	}
	return map[string]credentialsJSON{
		"roleCredentials": {opened.id, opened.secret, opened.token, opened.expires.UnixMilli()},
	}, nil
}

// listPortalAccounts is https://docs.aws.amazon.com/singlesignon/latest/PortalAPIReference/API_ListAccounts.html
func (x *exchange) listPortalAccounts() (any, *apiError) {
	session, err := x.bearer()
	if err != nil {
		return nil, err
	}
	type accountJSON struct {
		ID    string `json:"accountId"`
		Name  string `json:"accountName"`
		Email string `json:"emailAddress"`
	}
	list := []accountJSON{}
	for _, account := range x.sim.world.listed {
		if len(x.sim.world.center.assigned(session.user, account.ID)) > 0 {
			list = append(list, accountJSON{account.ID, account.Name, account.email()})
		}
	}
	part, next, err := portalPage(x, list)
	if err != nil {
		return nil, err
	}
	return struct {
		List []accountJSON `json:"accountList"`
		Next string        `json:"nextToken,omitempty"`
	}{part, next}, nil
}

// listAccountRoles is https://docs.aws.amazon.com/singlesignon/latest/PortalAPIReference/API_ListAccountRoles.html
func (x *exchange) listAccountRoles() (any, *apiError) {
	session, err := x.bearer()
	if err != nil {
		return nil, err
	}
	id := x.params.Get("account_id")
	known := func(account *Account) bool { return account.ID == id }
	sets := x.sim.world.center.assigned(session.user, id)
	switch {
	case !accountIDs.MatchString(id):
		return nil, errBadAccount
	case !slices.ContainsFunc(x.sim.world.listed, known):
		return nil, errNoAccount
	case len(sets) == 0:
		return nil, errNoAccess
	}
	type roleJSON struct {
		Name    string `json:"roleName"`
		Account string `json:"accountId"`
	}
	list := []roleJSON{}
	for _, set := range sets {
		list = append(list, roleJSON{set.Name, id})
	}
	part, next, err := portalPage(x, list)
	if err != nil {
		return nil, err
	}
	return struct {
		List []roleJSON `json:"roleList"`
		Next string     `json:"nextToken,omitempty"`
	}{part, next}, nil
}

// portalPage returns the page of a list that a call asks for, and the token of the next page.
func portalPage[T any](x *exchange, list []T) ([]T, string, *apiError) {
	size := portalResults
	if text := x.params.Get("max_result"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > mostPortalResults {
			return nil, "", errBadResults
		}
		size = n
	}
	if most := x.sim.world.settings.AccountsPerPage; most > 0 {
		size = min(size, most)
	}
	part, next, ok := pageFrom(list, x.params.Get("next_token"), size)
	if !ok {
		return nil, "", errBadToken
	}
	return part, next, nil
}

// logout ends the session on the server; sessions of roles live on.
// https://docs.aws.amazon.com/singlesignon/latest/PortalAPIReference/API_Logout.html
func (x *exchange) logout() (any, *apiError) {
	session, err := x.bearer()
	if err != nil {
		return nil, err
	}
	session.revoked = true
	return answer{status: http.StatusOK}, nil
}
