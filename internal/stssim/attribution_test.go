package stssim

import (
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	stageUntagged = "arn:aws:iam::333344445555:role/untagged"
	readOnly      = "arn:aws:iam::aws:policy/ReadOnlyAccess"
)

// TestAttributionIsChecked: what AWS refuses, the simulator refuses.
func TestAttributionIsChecked(t *testing.T) {
	sim := newDemo(t)
	session := paul(sim).session(t)
	tag := func(n int, key, value string) []string {
		return []string{member("Tags", n, "Key"), key, member("Tags", n, "Value"), value}
	}
	many := func(n int) (list []string) {
		for i := range n {
			list = append(list, tag(i+1, "k"+strconv.Itoa(i), "")...)
		}
		return list
	}
	const transitive = "TransitiveTagKeys.member.1"
	for _, tt := range []struct {
		what       string
		role       string
		with       []string
		code, text string
	}{
		{"a tag", devAdmin, tag(1, "Größe", "a b_.:/=+-@"), "", ""},
		{"50 tags", devAdmin, many(50), "", ""},
		{"51 tags", devAdmin, many(51), "ValidationError", "length less than or equal to 50"},
		{"an empty key", devAdmin, tag(1, "", "x"), "ValidationError", "tags.1.member.key"},
		{"a long key", devAdmin, tag(1, strings.Repeat("k", 129), "x"), "ValidationError", "tags.1.member.key"},
		{"a long value", devAdmin, tag(1, "k", strings.Repeat("v", 257)), "ValidationError", "tags.1.member.value"},
		{"a comma", devAdmin, tag(1, "k", "a,b"), "ValidationError", "tags.1.member.value"},
		{"braces", devAdmin, tag(1, "k", "{user}"), "ValidationError", "tags.1.member.value"},
		{"a reserved key", devAdmin, tag(1, "aws:k", "v"), "ValidationError", "not begin with aws:"},
		{"a key twice", devAdmin, slices.Concat(tag(1, "Team", "a"), tag(2, "team", "b")), "InvalidParameterValue", "Duplicate"},
		{"a transitive tag", devAdmin, append(tag(1, "Team", "a"), transitive, "team"), "", ""},
		{"a transitive key alone", devAdmin, []string{transitive, "team"}, "InvalidParameterValue", "must be included"},
		{"a source identity", devAdmin, []string{"SourceIdentity", "paul@host"}, "", ""},
		{"a short source identity", devAdmin, []string{"SourceIdentity", "p"}, "ValidationError", "sourceIdentity"},
		{"a reserved source identity", devAdmin, []string{"SourceIdentity", "aws:p"}, "ValidationError", "sourceIdentity"},
		{"a policy", devAdmin, []string{"PolicyArns.member.1.arn", readOnly}, "", ""},
		{"a policy that does not exist", devAdmin, []string{"PolicyArns.member.1.arn", readOnly + "2"}, "ValidationError", "does not exist"},
		{"another partition's policy", devAdmin, []string{"PolicyArns.member.1.arn", strings.Replace(readOnly, "aws", "aws-cn", 1)}, "ValidationError", "does not exist"},
		{"refused tags", stageUntagged, tag(1, "k", "v"), "AccessDenied", "is not authorized to perform: sts:TagSession on resource: " + stageUntagged},
		{"a refused source identity", stageUntagged, []string{"SourceIdentity", "paul"}, "AccessDenied", "is not authorized to perform: sts:SetSourceIdentity on resource: " + stageUntagged},
		{"neither", stageUntagged, nil, "", ""},
	} {
		t.Run(tt.what, func(t *testing.T) {
			session.call("AssumeRole", slices.Concat([]string{"RoleArn", tt.role, "RoleSessionName", "test"}, tt.with)...).
				want(t, tt.code, tt.text)
		})
	}
}

// TestAttributionStaysInAChain: a session passes its source identity and its transitive tags on, for good.
func TestAttributionStaysInAChain(t *testing.T) {
	org := Demo()
	for i := range org.Roles {
		if org.Roles[i].Name == "untagged" {
			org.Roles[i].Trust = append(org.Roles[i].Trust, devAdmin)
		}
	}
	sim, err := New(org)
	if err != nil {
		t.Fatal(err)
	}
	session := paul(sim).session(t)
	first := session.call("AssumeRole", "RoleArn", devAdmin, "RoleSessionName", "test", "SourceIdentity", "paul",
		"Tags.member.1.Key", "Team", "Tags.member.1.Value", "web", "Tags.member.2.Key", "own", "Tags.member.2.Value", "x",
		"TransitiveTagKeys.member.1", "team")
	first.want(t, "", "")
	further := func(role string, with ...string) reply {
		return paul(sim).with(first).call("AssumeRole", append([]string{"RoleArn", role, "RoleSessionName", "test"}, with...)...)
	}
	if r := further(prodRelease); r.field("SourceIdentity") != "paul" {
		t.Errorf("%s", r.body)
	}
	further(prodRelease, "SourceIdentity", "paul").want(t, "", "")
	further(prodRelease, "SourceIdentity", "other").want(t, "AccessDenied", "already set")
	further(prodRelease, "Tags.member.1.Key", "TEAM", "Tags.member.1.Value", "web").want(t, "InvalidParameterValue", "conflicts with a transitive tag key")
	further(prodRelease, "Tags.member.1.Key", "own", "Tags.member.1.Value", "y").want(t, "", "")
	further(stageUntagged).want(t, "AccessDenied", "sts:TagSession")
}

// TestReadOnlyAccessIsEnforced: a session with that policy reads, but changes nothing and assumes no role.
func TestReadOnlyAccessIsEnforced(t *testing.T) {
	sim := newDemo(t)
	session := paul(sim).session(t)
	full := session.assume(t, devAdmin)
	r := session.call("AssumeRole", "RoleArn", devAdmin, "RoleSessionName", "test", "PolicyArns.member.1.arn", readOnly)
	r.want(t, "", "")
	reader := paul(sim).with(r)
	for _, who := range []caller{full, reader} {
		who.call("GetCallerIdentity").want(t, "", "")
		who.call("ListRoles").want(t, "", "")
	}
	full.call("AssumeRole", "RoleArn", prodRelease, "RoleSessionName", "test").want(t, "", "")
	reader.call("AssumeRole", "RoleArn", prodRelease, "RoleSessionName", "test").want(t, "AccessDenied",
		"because no session policy allows the sts:AssumeRole action")
	for _, action := range []string{"CreateAccessKey", "DeleteAccessKey", "UpdateAccessKey"} {
		reader.call(action, "UserName", "paul").want(t, "AccessDenied", "because no session policy allows the iam:"+action+" action")
	}
}

// TestSessionPoliciesAddUp: a session may do what one of its policies allows and none denies.
func TestSessionPoliciesAddUp(t *testing.T) {
	const all = `{"Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`
	managedPolicy := []string{"PolicyArns.member.1.arn", readOnly}
	for _, tt := range []struct {
		name         string
		with         []string
		read, assume string // why the call is refused, or ""
	}{
		{"none", nil, "", ""},
		{"read-only", managedPolicy, "", "because no session policy allows"},
		{"an inline policy", []string{"Policy", `{"Statement":{"Effect":"Allow","Action":["iam:*","s3:*"]}}`}, "",
			"because no session policy allows"},
		{"an inline policy adds", append([]string{"Policy", all}, managedPolicy...), "", ""},
		{"a managed policy adds", append([]string{"PolicyArns.member.2.arn", "arn:aws:iam::aws:policy/AdministratorAccess"},
			managedPolicy...), "", ""},
		{"an inline policy denies", append([]string{"Policy", `{"Statement":[{"Effect":"Deny","Action":"iam:ListRoles"}]}`},
			managedPolicy...), "with an explicit deny in a session policy", "because no session policy allows"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			sim := newDemo(t)
			session := paul(sim).session(t)
			r := session.call("AssumeRole", append([]string{"RoleArn", devAdmin, "RoleSessionName", "test"}, tt.with...)...)
			r.want(t, "", "")
			code := func(why string) string {
				if why == "" {
					return ""
				}
				return "AccessDenied"
			}
			who := paul(sim).with(r)
			who.call("GetCallerIdentity").want(t, "", "")
			who.call("ListRoles").want(t, code(tt.read), tt.read)
			who.call("AssumeRole", "RoleArn", prodRelease, "RoleSessionName", "test").want(t, code(tt.assume), tt.assume)
		})
	}
}
