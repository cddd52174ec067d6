package stssim

import (
	"encoding/json"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"time"
)

// The error texts of STS. The text for a wrong code ends in a space, and the one for a wrong serial contains two
// spaces, like the real ones.
var (
	errWrongCode   = accessDenied("MultiFactorAuthentication failed with invalid MFA one time pass code. ")
	errWrongSerial = accessDenied("MultiFactorAuthentication failed, unable to validate MFA code.  Please verify your MFA serial number is valid and associated with this user.")
	errHalfMFA     = accessDenied("MultiFactorAuthentication failed, must provide both MFA serial number and one time pass code.")
	errChained     = invalid("The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining.")
	errTooLong     = invalid("The requested DurationSeconds exceeds the MaxSessionDuration set for this role.")
	errBadPolicy   = &apiError{http.StatusBadRequest, "MalformedPolicyDocument", "This policy contains invalid Json"}
)

// The allowed characters of the parameters.
// https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
var (
	nameAlphabet     = newAlphabet(`[\w+=,.@-]*`)
	externalAlphabet = newAlphabet(`[\w+=,.@:\/-]*`)
	serialAlphabet   = newAlphabet(`[\w+=/:,.@-]*`)
	digitAlphabet    = newAlphabet(`[\d]*`)
	anyAlphabet      = newAlphabet(`.*`)
)

// packedLimit limits the session policies and tags of one session. AWS packs them in an unpublished format; this
// counts bytes.
const packedLimit = 2048

// credentialsXML is the Credentials element of STS answers.
type credentialsXML struct {
	AccessKeyID     string `xml:"AccessKeyId"`
	SecretAccessKey string
	SessionToken    string
	Expiration      string
}

func (c *credential) xml() credentialsXML {
	return credentialsXML{
		AccessKeyID:     c.id,
		SecretAccessKey: c.secret,
		SessionToken:    c.token,
		Expiration:      xmlTime(c.expires),
	}
}

// getSessionToken opens a session of the calling user.
// https://docs.aws.amazon.com/STS/latest/APIReference/API_GetSessionToken.html
func (w *world) getSessionToken(c *call) (any, *apiError) {
	if c.caller.temporary() {
		return nil, accessDenied("Cannot call GetSessionToken with session credentials")
	}
	var cs constraints
	length := cs.seconds(c.get("DurationSeconds"), 129_600, 43_200)
	cs.mfa(c)
	if err := cs.err(); err != nil {
		return nil, err
	}
	mfa, err := w.checkMFA(c)
	if err != nil {
		return nil, err
	}
	if err := c.denied("*"); err != nil {
		return nil, err
	}
	owner := *c.caller
	owner.kind, owner.mfa, owner.mfaAt = userSession, mfa, c.now
	return struct{ Credentials credentialsXML }{w.open(&owner, length, c.now).xml()}, nil
}

// mfa checks the form of the two optional MFA parameters.
func (cs *constraints) mfa(c *call) {
	if c.params.Has("SerialNumber") {
		cs.text(c.get("SerialNumber"), "serialNumber", 9, 256, serialAlphabet)
	}
	if c.params.Has("TokenCode") {
		cs.text(c.get("TokenCode"), "tokenCode", 6, 6, digitAlphabet)
	}
}

// checkMFA uses up the code of the call, if it has one, and reports whether it did. The code is used up even if
// the call is later refused for another reason.
func (w *world) checkMFA(c *call) (bool, *apiError) {
	serial, code := c.get("SerialNumber"), c.get("TokenCode")
	if serial == "" && code == "" {
		return false, nil
	}
	if serial == "" || code == "" {
		return false, errHalfMFA
	}
	device := w.devices[serial]
	if device == nil || device.user != c.caller.user || c.caller.kind == roleSession {
		return false, errWrongSerial
	}
	if !device.accept(code, c.now) {
		return false, errWrongCode
	}
	return true, nil
}

// getCallerIdentity returns who makes the call; no policy can deny it.
// https://docs.aws.amazon.com/STS/latest/APIReference/API_GetCallerIdentity.html
func (w *world) getCallerIdentity(c *call) (any, *apiError) {
	return struct {
		Arn     string
		UserID  string `xml:"UserId"`
		Account string
	}{c.caller.arn, c.caller.userID, c.caller.account.ID}, nil
}

var roleARNs = regexp.MustCompile(`^arn:aws(-[a-z]+)*:iam::\d{12}:role/[\x21-\x7e]+$`)

// assumedRole is the result of AssumeRole.
type assumedRole struct {
	Credentials     credentialsXML
	AssumedRoleUser struct {
		Arn           string
		AssumedRoleID string `xml:"AssumedRoleId"`
	}
	PackedPolicySize int    `xml:",omitempty"` // percent
	SourceIdentity   string `xml:",omitempty"`
}

// assumeRole opens a session of a role. AWS does not document in which order it checks. Here the order is the form
// of the request, the MFA code, the permission, the duration, which uses up the most codes.
// https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
func (w *world) assumeRole(c *call) (any, *apiError) {
	var cs constraints
	if cs.required(c.params, "RoleArn", "roleArn") {
		cs.text(c.get("RoleArn"), "roleArn", 20, 2048, anyAlphabet)
	}
	if cs.required(c.params, "RoleSessionName", "roleSessionName") {
		cs.text(c.get("RoleSessionName"), "roleSessionName", 2, 64, nameAlphabet)
	}
	if c.params.Has("ExternalId") {
		cs.text(c.get("ExternalId"), "externalId", 2, 1224, externalAlphabet)
	}
	cs.sourceIdentity(c)
	length := cs.seconds(c.get("DurationSeconds"), 43_200, 3_600)
	cs.mfa(c)
	cs.policy(c)
	tags, policies := cs.tags(c), cs.policies(c)
	if err := cs.err(); err != nil {
		return nil, err
	}
	if err := tags.conflicts(c.caller); err != nil {
		return nil, err
	}
	arn := c.get("RoleArn")
	if !roleARNs.MatchString(arn) {
		return nil, invalid(arn + " is invalid")
	}
	packed, err := packedSize(c)
	if err != nil {
		return nil, err
	}
	mfa, err := w.checkMFA(c)
	if err != nil {
		return nil, err
	}
	target := w.roles[arn]
	// AWS does not say whether the trust policy refused, or the role does not exist.
	if target == nil || !target.trusts(c, mfa) || c.caller.kind == federatedKey {
		return nil, c.notAuthorized(arn)
	}
	if err := c.denied(arn); err != nil {
		return nil, err
	}
	// A source identity, once set, stays for the whole chain, and so do transitive tags. Each role of the chain must
	// accept both.
	identity := c.get("SourceIdentity")
	switch inherited := c.caller.sourceID; {
	case inherited != "" && identity != "" && identity != inherited:
		return nil, errIdentified
	case inherited != "":
		identity = inherited
	}
	transitive := slices.Concat(c.caller.transitive, tags.transitive)
	mayAlso := func(action string) bool {
		return target.accepts(c, action, mfa) && c.identity(action, arn) == allowed
	}
	if len(tags.keys)+len(transitive) > 0 && !mayAlso("sts:TagSession") {
		return nil, c.refused("sts:TagSession", arn)
	}
	if identity != "" && !mayAlso("sts:SetSourceIdentity") {
		return nil, c.refused("sts:SetSourceIdentity", arn)
	}
	if err := known(policies, target.account); err != nil {
		return nil, err
	}
	if c.caller.temporary() && length > time.Hour {
		return nil, errChained
	}
	if length > target.maxDuration {
		return nil, errTooLong
	}

	session := c.sessionOf(target, policies)
	session.chained, session.sourceID, session.transitive = c.caller.temporary(), identity, transitive
	result := assumedRole{
		Credentials:      w.open(session, length, c.now).xml(),
		PackedPolicySize: packed,
		SourceIdentity:   session.sourceID,
	}
	result.AssumedRoleUser.Arn = session.arn
	result.AssumedRoleUser.AssumedRoleID = session.userID
	return result, nil
}

// sessionOf returns a session of a role with the name and the policies of the call.
func (c *call) sessionOf(r *role, policies []string) *principal {
	return &principal{
		kind:     roleSession,
		account:  r.account,
		role:     r,
		arn:      r.account.arn("sts", "assumed-role/"+r.Name+"/"+c.get("RoleSessionName")),
		userID:   r.id + ":" + c.get("RoleSessionName"),
		policies: policies,
		inline:   []byte(c.get("Policy")),
	}
}

// trusts reports whether the role's trust policy allows the caller; mfa says that the call has a code.
func (r *role) trusts(c *call, mfa bool) bool {
	if r.trustPolicies != nil {
		return r.lets(c, "sts:AssumeRole", mfa)
	}
	if r.RequireMFA && !mfa && !c.caller.mfa {
		return false
	}
	if r.ExternalID != "" && r.ExternalID != c.get("ExternalId") {
		return false
	}
	caller := c.caller.arn
	if c.caller.kind == roleSession {
		caller = c.caller.role.arn
	}
	return slices.Contains(r.Trust, caller) || slices.Contains(r.Trust, c.caller.account.arn("iam", "root"))
}

// accepts reports whether the role's trust policy allows what an AssumeRole of a trusted caller also does.
func (r *role) accepts(c *call, action string, mfa bool) bool {
	switch {
	case r.trustPolicies != nil:
		return r.lets(c, action, mfa)
	case action == "sts:TagSession":
		return !r.RefuseTags
	default:
		return !r.RefuseSourceIdentity
	}
}

// policy checks the length of an inline session policy.
func (cs *constraints) policy(c *call) {
	if c.params.Has("Policy") {
		cs.text(c.get("Policy"), "policy", 1, 2048, anyAlphabet)
	}
}

func member(list string, n int, field string) string {
	return list + ".member." + strconv.Itoa(n) + "." + field
}

// packedSize returns the size of policies and tags in percent of packedLimit; 0 if there are none.
func packedSize(c *call) (int, *apiError) {
	size := 0
	if policy := c.get("Policy"); policy != "" {
		var document struct{ Statement json.RawMessage }
		if json.Unmarshal([]byte(policy), &document) != nil {
			return 0, errBadPolicy
		}
		if document.Statement == nil {
			return 0, &apiError{http.StatusBadRequest, "MalformedPolicyDocument", "Syntax errors in policy."}
		}
		size += len(policy)
	}
	for n := 1; c.params.Has(member("PolicyArns", n, "arn")); n++ {
		size += len(c.get(member("PolicyArns", n, "arn")))
	}
	for n := 1; c.params.Has(member("Tags", n, "Key")); n++ {
		size += len(c.get(member("Tags", n, "Key"))) + len(c.get(member("Tags", n, "Value")))
	}
	percent := (size*100 + packedLimit - 1) / packedLimit
	if percent > 100 {
		return 0, &apiError{http.StatusBadRequest, "PackedPolicyTooLarge", "Packed policy consumes " + strconv.Itoa(percent) + "% of allotted space, please use smaller policy."}
	}
	return percent, nil
}

// getFederationToken opens a federated session of the calling user. It accepts no MFA code, and here its session
// can only call GetCallerIdentity. https://docs.aws.amazon.com/STS/latest/APIReference/API_GetFederationToken.html
func (w *world) getFederationToken(c *call) (any, *apiError) {
	if c.caller.temporary() {
		return nil, accessDenied("Cannot call GetFederationToken with session credentials")
	}
	var cs constraints
	if cs.required(c.params, "Name", "name") {
		cs.text(c.get("Name"), "name", 2, 32, nameAlphabet)
	}
	length := cs.seconds(c.get("DurationSeconds"), 129_600, 43_200)
	cs.policy(c)
	tags, policies := cs.tags(c), cs.policies(c)
	if err := cs.err(); err != nil {
		return nil, err
	}
	if err := tags.conflicts(c.caller); err != nil {
		return nil, err
	}
	if err := known(policies, c.caller.account); err != nil {
		return nil, err
	}
	packed, err := packedSize(c)
	if err != nil {
		return nil, err
	}
	name := c.get("Name")
	owner := *c.caller
	owner.kind = federatedKey
	owner.arn = owner.account.arn("sts", "federated-user/"+name)
	owner.userID = owner.account.ID + ":" + name
	if err := c.denied(owner.arn); err != nil {
		return nil, err
	}
	type federatedUser struct {
		Arn             string
		FederatedUserID string `xml:"FederatedUserId"`
	}
	return struct {
		Credentials      credentialsXML
		FederatedUser    federatedUser
		PackedPolicySize int `xml:",omitempty"`
	}{w.open(&owner, length, c.now).xml(), federatedUser{owner.arn, owner.userID}, packed}, nil
}

// permitted checks what AWS allows a kind of credentials to call at all, before any policy: sessions of a user
// without MFA, and federated sessions, cannot call IAM.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/id_credentials_sts-comparison.html
func permitted(p *principal, api string) *apiError {
	limited := p.kind == federatedKey || p.kind == userSession && !p.mfa
	if limited && api == apiIAM {
		return errUnknownKey
	}
	return nil
}
