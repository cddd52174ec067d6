package stssim

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// This file checks what says who uses a session, and what limits it: source identity, session tags and managed
// session policies.
// https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
// https://docs.aws.amazon.com/IAM/latest/UserGuide/id_session-tags.html
// https://docs.aws.amazon.com/IAM/latest/UserGuide/id_credentials_temp_control-access_monitor.html

var (
	tagKeyAlphabet   = newAlphabet(`[\p{L}\p{Z}\p{N}_.:/=+\-@]+`)
	tagValueAlphabet = newAlphabet(`[\p{L}\p{Z}\p{N}_.:/=+\-@]*`)
)

// The limits of AWS.
const (
	mostTags     = 50
	mostPolicies = 10
)

// The error texts of STS for tags and source identities.
var (
	errSameTag    = invalidValue("Duplicate tag keys found. Please note that Tag keys are case insensitive.")
	errNoSuchTag  = invalidValue("The specified transitive tag key must be included in the requested tags.")
	errInherited  = invalidValue("One of the specified transitive tag keys can't be set because it conflicts with a transitive tag key from the calling session.")
	errIdentified = accessDenied("The source identity is already set for this assume role session")
)

func invalidValue(message string) *apiError {
	return &apiError{http.StatusBadRequest, "InvalidParameterValue", message}
}

// sessionTags are the tags of one call: the keys in lower case.
type sessionTags struct {
	keys       []string
	transitive []string
}

// tags checks the session tags: Tags.member.N.Key and .Value, and TransitiveTagKeys.member.N.
func (cs *constraints) tags(c *call) (list sessionTags) {
	for n := 1; c.params.Has(member("Tags", n, "Key")); n++ {
		place := "tags." + strconv.Itoa(n) + ".member."
		key, value := c.get(member("Tags", n, "Key")), c.get(member("Tags", n, "Value"))
		cs.text(key, place+"key", 1, 128, tagKeyAlphabet)
		cs.text(value, place+"value", 0, 256, tagValueAlphabet)
		cs.reserved(key, place+"key")
		cs.reserved(value, place+"value")
		if list.keys = append(list.keys, strings.ToLower(key)); n > mostTags {
			cs.fail("'["+strconv.Itoa(n)+" tags]'", "tags", "have length less than or equal to 50")
			return list
		}
	}
	for n := 1; n <= mostTags && c.params.Has("TransitiveTagKeys.member."+strconv.Itoa(n)); n++ {
		key := c.get("TransitiveTagKeys.member." + strconv.Itoa(n))
		cs.text(key, "transitiveTagKeys."+strconv.Itoa(n)+".member", 1, 128, tagKeyAlphabet)
		list.transitive = append(list.transitive, strings.ToLower(key))
	}
	return list
}

// reserved refuses the prefix that AWS keeps for itself.
func (cs *constraints) reserved(value, name string) {
	if strings.HasPrefix(strings.ToLower(value), "aws:") {
		cs.fail("'"+value+"'", name, "not begin with aws:")
	}
}

// sourceIdentity checks the form of a source identity.
func (cs *constraints) sourceIdentity(c *call) {
	if c.params.Has("SourceIdentity") {
		cs.text(c.get("SourceIdentity"), "sourceIdentity", 2, 64, nameAlphabet)
		cs.reserved(c.get("SourceIdentity"), "sourceIdentity")
	}
}

// policies returns the managed session policies: PolicyArns.member.N.arn.
func (cs *constraints) policies(c *call) (arns []string) {
	for n := 1; c.params.Has(member("PolicyArns", n, "arn")); n++ {
		arn := c.get(member("PolicyArns", n, "arn"))
		cs.text(arn, "policyArns."+strconv.Itoa(n)+".member.arn", 20, 2048, anyAlphabet)
		if arns = append(arns, arn); n > mostPolicies {
			cs.fail("'["+strconv.Itoa(n)+" policies]'", "policyArns", "have length less than or equal to 10")
			break
		}
	}
	return arns
}

// conflicts reports tags that contradict each other or those that the caller's session passes on.
func (t sessionTags) conflicts(caller *principal) *apiError {
	seen := make(map[string]bool)
	for _, key := range t.keys {
		if seen[key] {
			return errSameTag
		}
		seen[key] = true
	}
	for _, key := range t.transitive {
		if !seen[key] {
			return errNoSuchTag
		}
	}
	for _, key := range caller.transitive {
		if seen[key] {
			return errInherited
		}
	}
	return nil
}

// managed lists the managed policies of AWS that the simulator knows, each with the actions that it allows.
var managed = map[string][]string{
	"ReadOnlyAccess":              {"iam:Get*", "iam:List*", "sts:Get*", "ecr:Get*", "organizations:List*", "organizations:Describe*"},
	"job-function/ViewOnlyAccess": {"iam:Get*", "iam:List*", "sts:GetCallerIdentity"},
	"AdministratorAccess":         {"*"},
}

// known refuses managed policies that do not exist in the account's partition.
func known(arns []string, account *Account) *apiError {
	for _, arn := range arns {
		name, ok := strings.CutPrefix(arn, strings.Replace(account.arn("iam", "policy/"), account.ID, "aws", 1))
		if _, exists := managed[name]; !ok || !exists {
			return invalid("Policy " + arn + " does not exist or is not attachable.")
		}
	}
	return nil
}

// limited returns an error if the session policies do not allow the action: one of them must allow it, and none may
// deny it. Resources and conditions are not looked at. No policy limits GetCallerIdentity.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html
func (p *principal) limited(c *call) *apiError {
	if c.action == "GetCallerIdentity" || len(p.policies)+len(p.inline) == 0 {
		return nil
	}
	matches := func(pattern string) bool { return wildcard(pattern, c.fullAction()) }
	allowed := false
	for _, arn := range p.policies {
		_, name, _ := strings.Cut(arn, ":policy/")
		allowed = allowed || slices.ContainsFunc(managed[name], matches)
	}
	for _, s := range statementsOf(p.inline) {
		if !slices.ContainsFunc(s.Action, matches) {
			continue
		}
		if s.Effect == "Deny" {
			refusal := c.notAuthorized("*")
			refusal.message += " with an explicit deny in a session policy"
			return refusal
		}
		allowed = true
	}
	if allowed {
		return nil
	}
	refusal := c.notAuthorized("*")
	refusal.message += " because no session policy allows the " + c.fullAction() + " action"
	return refusal
}

// statementsOf reads a policy that packedSize accepted.
func statementsOf(policy []byte) []statement {
	var document struct{ Statement oneOrMany[statement] }
	_ = json.Unmarshal(policy, &document)
	return document.Statement
}
