// Package policy writes the IAM policies that accounts with MFA-backed roles need. It only makes text: it calls
// nothing, and applies nothing. Every value that it puts into a policy is checked first, because a wildcard, a policy
// variable or a quote in it would change what the policy says. It knows neither profiles nor AWS's endpoints.
package policy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"broker/internal/accounts"
	"broker/internal/lazyregexp"
	"broker/internal/partition"
)

// Document is a policy: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_grammar.html
type Document struct {
	Version   string
	Statement []Statement
}

// Statement is a statement of a policy. Lists that are empty are left out.
type Statement struct {
	Sid       string
	Effect    string
	Principal *Principal `json:",omitempty"` // only in trust policies
	Action    []string   `json:",omitempty"`
	NotAction []string   `json:",omitempty"`
	Resource  []string   `json:",omitempty"` // not in trust policies
	Condition Condition  `json:",omitempty"`
}

// Principal lists the ARNs that a trust policy trusts.
type Principal struct{ AWS []string }

// Condition has the values of each operator and key.
type Condition map[string]map[string][]string

// Terms that several policies use. Requests with plain keys have no key aws:MultiFactorAuthPresent at all. So a Deny
// needs BoolIfExists: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-keys.html
const (
	version    = "2012-10-17"
	mfaPresent = "aws:MultiFactorAuthPresent"
	ownName    = "${aws:username}"
)

// maxSize is AWS's limit for a managed policy, in characters without white space. The limit for all policies inside
// one group is 5,120, and for a trust policy 2,048.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html
const (
	maxSize      = 6144
	maxTrustSize = 2048
)

// The values of AWS. None of the patterns allows *, ?, $, quotes or white space.
// https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
// https://docs.aws.amazon.com/STS/latest/APIReference/API_Tag.html
var (
	accountID  = lazyregexp.New(`^[0-9]{12}$`)
	externalID = lazyregexp.New(`^[A-Za-z0-9_+=,.@:/-]{2,}$`)
	identity   = lazyregexp.New(`^[A-Za-z0-9_+=,.@-]{2,64}$`)
	tagKey     = lazyregexp.New(`^[A-Za-z0-9_.:/=+@ -]{1,128}$`)
	arnStart   = lazyregexp.New(`^arn:([a-z-]+):iam::([0-9]{12}):role/`)
)

// Trusting says whom the trust policy of a role trusts, and on what conditions.
type Trusting struct {
	Partition      string
	Account        string        // the account of the users, 12 digits
	MFAAge         time.Duration // how old the code may be; 0 for any age
	ExternalID     string
	SourceIdentity string   // the one that callers must set: a name, Any, or UserName; empty if they must not set one
	Tags           []string // the keys of the session tags that callers may send
}

// The values of Trusting.SourceIdentity that are not a name.
const (
	Any      = "*"
	UserName = ownName
)

// Trust returns the trust policy of a role that users of another account assume with MFA. Whether one of those users
// may do so is up to that account.
func Trust(t Trusting) (Document, error) {
	if _, ok := partition.Find(t.Partition); !ok {
		return Document{}, wrongPartition(t.Partition)
	}
	if !accountID.MatchString(t.Account) {
		return Document{}, fmt.Errorf("%.20q is not an account ID of 12 digits", t.Account)
	}
	s := Statement{
		Sid:       "AssumeWithMFA",
		Effect:    "Allow",
		Principal: &Principal{AWS: []string{"arn:" + t.Partition + ":iam::" + t.Account + ":root"}},
		Action:    []string{"sts:AssumeRole"},
		Condition: Condition{"Bool": {mfaPresent: {"true"}}},
	}
	if t.MFAAge != 0 {
		// A code counts for 30 seconds, and a session of GetSessionToken for 36 hours at most.
		if t.MFAAge < time.Minute || t.MFAAge > 36*time.Hour || t.MFAAge%time.Second != 0 {
			return Document{}, fmt.Errorf("the age of the code is not whole seconds between 1m and 36h")
		}
		s.Condition["NumericLessThan"] = map[string][]string{
			"aws:MultiFactorAuthAge": {strconv.Itoa(int(t.MFAAge / time.Second))},
		}
	}
	if t.ExternalID != "" {
		if !externalID.MatchString(t.ExternalID) || len(t.ExternalID) > 1224 {
			return Document{}, fmt.Errorf("the external ID is not 2 to 1224 letters, digits and characters of _+=,.@:/-")
		}
		s.Condition["StringEquals"] = map[string][]string{"sts:ExternalId": {t.ExternalID}}
	}
	if id := t.SourceIdentity; id != "" {
		if id != Any && id != UserName && !identity.MatchString(id) {
			return Document{}, fmt.Errorf("the source identity is neither %s, nor %s, nor 2 to 64 letters, digits and "+
				"characters of _+=,.@-", Any, UserName)
		}
		s.Action = append(s.Action, "sts:SetSourceIdentity")
		s.Condition["StringLike"] = map[string][]string{"sts:SourceIdentity": {id}}
	}
	if len(t.Tags) > 0 {
		for _, key := range t.Tags {
			if !tagKey.MatchString(key) || strings.HasPrefix(strings.ToLower(key), "aws:") {
				return Document{}, fmt.Errorf("%.60q is not the key of a session tag", key)
			}
		}
		s.Action = append(s.Action, "sts:TagSession")
		s.Condition["ForAllValues:StringEquals"] = map[string][]string{"aws:TagKeys": sorted(t.Tags)}
	}
	return document(maxTrustSize, s)
}

// RoleARN returns the ARN of a role that is given by its ARN or as ACCOUNT:ROLE. Wildcards are refused. The subject of
// its errors is the role.
func RoleARN(of, role string) (string, error) {
	a := accounts.Account{Partition: of}
	if m := arnStart.FindStringSubmatch(role); m != nil {
		a.Partition, a.ID = m[1], m[2]
	} else {
		a.ID, role, _ = strings.Cut(role, ":")
	}
	if _, ok := partition.Find(a.Partition); !ok {
		return "", fmt.Errorf("has no valid partition: %w", wrongPartition(a.Partition))
	}
	if !accountID.MatchString(a.ID) || role == "" {
		return "", fmt.Errorf("is neither the ARN of a role nor ACCOUNT:ROLE")
	}
	return a.RoleARN(role)
}

// Group returns the policy that lets the users of a group assume roles, given by ARN. The trust policy of each role
// decides about MFA, tags and source identity.
func Group(arns []string) (Document, error) {
	for _, arn := range arns {
		if _, err := RoleARN(partition.Default, arn); err != nil {
			return Document{}, fmt.Errorf("role %.80q %w", arn, err)
		}
	}
	return document(maxSize, Statement{
		Sid:      "AssumeRoles",
		Effect:   "Allow",
		Action:   []string{"sts:AssumeRole", "sts:SetSourceIdentity", "sts:TagSession"},
		Resource: sorted(arns),
	})
}

// EnrollTag is the key of the tag with which an administrator lets a user enroll an MFA device without MFA. Its value
// is "true". Without such a tag, a thief of a plain key could enroll a device of their own, and so have MFA.
const EnrollTag = "enroll-mfa"

// SelfService returns the policy with which users manage their own keys and MFA devices. Without MFA they can only open
// an MFA session, and enroll a device while the tag EnrollTag lets them. The name of a device is the name of its user,
// alone or followed by "-", so that paul cannot take the name of paula's device. It follows AWS's example, but for the
// tag and the names:
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_examples_aws_my-sec-creds-self-manage.html
func SelfService(of string) (Document, error) {
	if _, ok := partition.Find(of); !ok {
		return Document{}, wrongPartition(of)
	}
	user := []string{"arn:" + of + ":iam::*:user/" + ownName}
	devices := "arn:" + of + ":iam::*:mfa/" + ownName
	device := []string{devices, devices + "-*"}
	// AWS deletes only a device that belongs to no user, such as that of an enrollment that was interrupted.
	enroll := []string{"iam:CreateVirtualMFADevice", "iam:DeleteVirtualMFADevice", "iam:EnableMFADevice"}
	withoutMFA := map[string][]string{mfaPresent: {"false"}}
	return document(maxSize,
		Statement{
			Sid:    "ManageOwnKeys",
			Effect: "Allow",
			Action: []string{
				"iam:CreateAccessKey", "iam:DeleteAccessKey", "iam:GetAccessKeyLastUsed", "iam:GetUser",
				"iam:ListAccessKeys", "iam:UpdateAccessKey",
			},
			Resource: user,
		},
		Statement{
			Sid:    "ManageOwnDevices",
			Effect: "Allow",
			Action: []string{
				"iam:DeactivateMFADevice", "iam:EnableMFADevice", "iam:ListMFADevices", "iam:ResyncMFADevice",
			},
			Resource: user,
		},
		Statement{
			Sid:      "CreateOwnDevices",
			Effect:   "Allow",
			Action:   []string{"iam:CreateVirtualMFADevice", "iam:DeleteVirtualMFADevice"},
			Resource: device,
		},
		Statement{
			Sid:       "DenyAllWithoutMFA",
			Effect:    "Deny",
			NotAction: append(slices.Clone(enroll), "iam:ListMFADevices", "sts:GetSessionToken"),
			Resource:  []string{"*"},
			Condition: Condition{"BoolIfExists": withoutMFA},
		},
		Statement{
			Sid:      "DenyEnrollmentWithoutMFA",
			Effect:   "Deny",
			Action:   enroll,
			Resource: []string{"*"},
			Condition: Condition{
				"BoolIfExists":    withoutMFA,
				"StringNotEquals": {"aws:PrincipalTag/" + EnrollTag: {"true"}},
			},
		})
}

// ReadOnly returns the policy that keeps the sessions of a read-only role in that role: it denies what makes a session
// another principal, or gives one to it, whatever else the role may do and whichever role trusts it.
func ReadOnly() (Document, error) {
	return document(maxSize,
		Statement{
			Sid:    "DenyOtherRoles",
			Effect: "Deny",
			Action: []string{"iam:PassRole", "sts:AssumeRole", "sts:AssumeRoot", "sts:GetDelegatedAccessToken",
				"sts:GetFederationToken", "sts:GetWebIdentityToken"},
			Resource: []string{"*"},
		},
		Statement{
			Sid:    "DenyChangesOfPrincipals",
			Effect: "Deny",
			Action: []string{
				"iam:Accept*", "iam:Add*", "iam:Associate*", "iam:Attach*", "iam:Change*", "iam:Create*", "iam:Deactivate*",
				"iam:Delete*", "iam:Detach*", "iam:Enable*", "iam:Put*", "iam:Remove*", "iam:Reset*", "iam:Resync*",
				"iam:Send*", "iam:Set*", "iam:Tag*", "iam:Untag*", "iam:Update*", "iam:Upload*",
			},
			Resource: []string{"*"},
		})
}

func document(most int, statements ...Statement) (Document, error) {
	d := Document{version, statements}
	size := 0
	for _, r := range string(d.JSON()) {
		if !unicode.IsSpace(r) {
			size++
		}
	}
	if size > most {
		return Document{}, fmt.Errorf("the policy has %d characters, and AWS allows %d", size, most)
	}
	return d, nil
}

func wrongPartition(id string) error {
	return fmt.Errorf("%.30q is not a partition; it is one of %s", id, strings.Join(partition.IDs(), ", "))
}

// sorted returns the list in order, each element once.
func sorted(list []string) []string {
	return slices.Compact(slices.Sorted(slices.Values(list)))
}

// JSON returns the document as AWS reads it. Two calls return the same bytes.
func (d Document) JSON() []byte {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(d); err != nil {
		panic("policy: " + err.Error()) // strings, lists and maps of them
	}
	return b.Bytes()
}
