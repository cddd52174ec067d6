package stssim

import (
	"cmp"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"
)

// noSuchEntity returns IAM's error for a missing entity.
func noSuchEntity(message string) *apiError {
	return &apiError{http.StatusNotFound, "NoSuchEntity", message}
}

// subject returns the user that an IAM call refers to: the named user, or the caller.
func (w *world) subject(c *call) (*user, *apiError) {
	name := c.get("UserName")
	var found *user
	switch {
	case name != "":
		if found = w.userNamed(c.caller.account, name); found == nil {
			return nil, noSuchEntity("The user with name " + name + " cannot be found.")
		}
	case c.caller.user != nil:
		found = c.caller.user
	default:
		return nil, invalid("Must specify userName when calling with non-User credentials")
	}
	return found, c.denied(found.arn)
}

// key returns the access key of u that the call names.
func (w *world) key(c *call, u *user) (*credential, *apiError) {
	id := c.get("AccessKeyId")
	for _, key := range u.keys {
		if key.id == id {
			return key, nil
		}
	}
	return nil, noSuchEntity("The Access Key with id " + id + " cannot be found.")
}

// getUser is https://docs.aws.amazon.com/IAM/latest/APIReference/API_GetUser.html
func (w *world) getUser(c *call) (any, *apiError) {
	u, err := w.subject(c)
	if err != nil {
		return nil, err
	}
	type userXML struct {
		Path       string
		UserName   string
		UserID     string `xml:"UserId"`
		Arn        string
		CreateDate string
	}
	return struct{ User userXML }{userXML{"/", u.name, u.id, u.arn, xmlTime(u.created)}}, nil
}

// keyXML is an access key in IAM's answers; only the answer to its creation has the secret.
type keyXML struct {
	UserName        string
	AccessKeyID     string `xml:"AccessKeyId"`
	Status          string
	SecretAccessKey string `xml:",omitempty"`
	CreateDate      string
}

func (c *credential) listed() keyXML {
	return keyXML{UserName: c.owner.user.name, AccessKeyID: c.id, Status: c.status(), CreateDate: xmlTime(c.created)}
}

func (c *credential) status() string {
	if c.inactive {
		return "Inactive"
	}
	return "Active"
}

// createAccessKey is https://docs.aws.amazon.com/IAM/latest/APIReference/API_CreateAccessKey.html
func (w *world) createAccessKey(c *call) (any, *apiError) {
	u, err := w.subject(c)
	if err != nil {
		return nil, err
	}
	if len(u.keys) >= keysPerUser {
		return nil, &apiError{http.StatusConflict, "LimitExceeded", "Cannot exceed quota for AccessKeysPerUser: 2"}
	}
	key := w.addKey(u, randomID("AKIA"), randomSecret(), c.now)
	key.visibleAt = time.Now().Add(w.settings.NewKeyDelay)
	created := key.listed()
	created.SecretAccessKey = key.secret
	return struct{ AccessKey keyXML }{created}, nil
}

// listAccessKeys is https://docs.aws.amazon.com/IAM/latest/APIReference/API_ListAccessKeys.html
func (w *world) listAccessKeys(c *call) (any, *apiError) {
	u, err := w.subject(c)
	if err != nil {
		return nil, err
	}
	list := make([]keyXML, len(u.keys))
	for i, key := range u.keys {
		list[i] = key.listed()
	}
	return struct {
		UserName    string
		Keys        []keyXML `xml:"AccessKeyMetadata>member"`
		IsTruncated bool
	}{u.name, list, false}, nil
}

// updateAccessKey is https://docs.aws.amazon.com/IAM/latest/APIReference/API_UpdateAccessKey.html
func (w *world) updateAccessKey(c *call) (any, *apiError) {
	u, err := w.subject(c)
	if err != nil {
		return nil, err
	}
	key, err := w.key(c, u)
	if err != nil {
		return nil, err
	}
	switch status := c.get("Status"); status {
	case "Active", "Inactive":
		key.inactive = status == "Inactive"
		return nil, nil
	default:
		return nil, invalid("1 validation error detected: Value '" + status + "' at 'status' failed to satisfy constraint: Member must satisfy enum value set: [Active, Inactive]")
	}
}

// deleteAccessKey is https://docs.aws.amazon.com/IAM/latest/APIReference/API_DeleteAccessKey.html
func (w *world) deleteAccessKey(c *call) (any, *apiError) {
	u, err := w.subject(c)
	if err != nil {
		return nil, err
	}
	key, err := w.key(c, u)
	if err != nil {
		return nil, err
	}
	u.keys = slices.DeleteFunc(u.keys, func(k *credential) bool { return k == key })
	delete(w.keys, key.id)
	return nil, nil
}

// getAccessKeyLastUsed is https://docs.aws.amazon.com/IAM/latest/APIReference/API_GetAccessKeyLastUsed.html Unlike
// IAM, which needs minutes, it is up to date at once.
func (w *world) getAccessKeyLastUsed(c *call) (any, *apiError) {
	id := c.get("AccessKeyId")
	key := w.keys[id]
	if key == nil || key.owner.temporary() || key.owner.account != c.caller.account {
		return nil, accessDenied("User: " + c.caller.arn + " is not authorized to perform: iam:GetAccessKeyLastUsed on resource: access key " + id)
	}
	if err := c.denied(key.owner.arn); err != nil {
		return nil, err
	}
	type lastUsed struct {
		LastUsedDate string `xml:",omitempty"`
		ServiceName  string
		Region       string
	}
	used := lastUsed{ServiceName: "N/A", Region: "N/A"}
	if !key.lastUsed.IsZero() {
		used = lastUsed{xmlTime(key.lastUsed), key.lastAPI, key.lastPlace}
	}
	return struct {
		UserName          string
		AccessKeyLastUsed lastUsed
	}{key.owner.user.name, used}, nil
}

// listMFADevices is https://docs.aws.amazon.com/IAM/latest/APIReference/API_ListMFADevices.html
func (w *world) listMFADevices(c *call) (any, *apiError) {
	u, err := w.subject(c)
	if err != nil {
		return nil, err
	}
	type deviceXML struct {
		UserName     string
		SerialNumber string
		EnableDate   string
	}
	var list []deviceXML
	for _, d := range w.devices {
		if d.user == u {
			list = append(list, deviceXML{u.name, d.serial, xmlTime(d.enabled)})
		}
	}
	slices.SortFunc(list, func(a, b deviceXML) int { return cmp.Compare(a.SerialNumber, b.SerialNumber) })
	return struct {
		Devices     []deviceXML `xml:"MFADevices>member"`
		IsTruncated bool
	}{list, false}, nil
}

// roleXML is a role in IAM's answers.
type roleXML struct {
	Path                     string
	RoleName                 string
	RoleID                   string `xml:"RoleId"`
	Arn                      string
	CreateDate               string
	AssumeRolePolicyDocument string // URL-encoded JSON
	MaxSessionDuration       int    // seconds
}

func (r *role) xml() roleXML {
	return roleXML{
		r.Path,
		r.Name,
		r.id,
		r.arn,
		xmlTime(r.created),
		awsEscape(r.trustPolicy()),
		int(r.maxDuration / time.Second),
	}
}

// trustPolicy returns the policy as an administrator would have written it, in JSON.
func (r *role) trustPolicy() string {
	if r.TrustPolicy != "" {
		return r.TrustPolicy
	}
	type object = map[string]any
	policy := func(statement object) string {
		text, err := json.Marshal(object{"Version": "2012-10-17", "Statement": []object{statement}})
		if err != nil {
			panic("stssim: marshal a trust policy: " + err.Error())
		}
		return string(text)
	}
	if r.WebIdentity != "" {
		return policy(object{"Effect": "Allow", "Principal": object{"Federated": r.provider()},
			"Action": "sts:" + webIdentityAction})
	}
	condition := object{}
	if r.RequireMFA {
		condition["Bool"] = object{"aws:MultiFactorAuthPresent": "true"}
	}
	if r.ExternalID != "" {
		condition["StringEquals"] = object{"sts:ExternalId": r.ExternalID}
	}
	actions := []string{"sts:AssumeRole"}
	if !r.RefuseTags {
		actions = append(actions, "sts:TagSession")
	}
	if !r.RefuseSourceIdentity {
		actions = append(actions, "sts:SetSourceIdentity")
	}
	statement := object{"Effect": "Allow", "Principal": object{"AWS": r.Trust}, "Action": actions}
	if len(condition) > 0 {
		statement["Condition"] = condition
	}
	return policy(statement)
}

// getRole is https://docs.aws.amazon.com/IAM/latest/APIReference/API_GetRole.html
func (w *world) getRole(c *call) (any, *apiError) {
	name := c.get("RoleName")
	for _, r := range w.rolesOf(c.caller.account) {
		if r.Name == name {
			return struct{ Role roleXML }{r.xml()}, c.denied(r.arn)
		}
	}
	return nil, noSuchEntity("The role with name " + name + " cannot be found.")
}

// listRoles is https://docs.aws.amazon.com/IAM/latest/APIReference/API_ListRoles.html, in one page.
func (w *world) listRoles(c *call) (any, *apiError) {
	if err := c.denied(c.caller.account.arn("iam", "role/")); err != nil {
		return nil, err
	}
	prefix := cmp.Or(c.get("PathPrefix"), "/")
	var list []roleXML
	for _, r := range w.rolesOf(c.caller.account) {
		if strings.HasPrefix(r.Path, prefix) {
			list = append(list, r.xml())
		}
	}
	return struct {
		Roles       []roleXML `xml:"Roles>member"`
		IsTruncated bool
	}{list, false}, nil
}

// rolesOf returns the roles of an account, sorted by name.
func (w *world) rolesOf(account *Account) []*role {
	var list []*role
	for _, r := range w.roles {
		if r.account == account {
			list = append(list, r)
		}
	}
	slices.SortFunc(list, func(a, b *role) int { return cmp.Compare(a.Name, b.Name) })
	return list
}
