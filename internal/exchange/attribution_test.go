//go:build unix

package exchange

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"broker/internal/fault"
	"broker/internal/secret"
	"broker/internal/session"
)

// TestEveryParameterComesFromTheCall: each parameter of AssumeRole that Broker can send is a field of session.Call,
// which is in the key of the session, or a part of the MFA code. A parameter that is added to the SDK or to the call
// must be added here.
func TestEveryParameterComesFromTheCall(t *testing.T) {
	neverSent := []string{"ProvidedContexts", "MinimumSessionTokenSize"}
	call := session.Call{Operation: session.AssumeRole, Duration: time.Hour, MFASerial: "GAHT12345678", RoleARN: aRole,
		SessionName: "paul", ExternalID: "ex", Policy: "{}", PolicyARN: "arn:aws:iam::aws:policy/ReadOnlyAccess",
		Tags: []session.Tag{{Key: "k", Value: "v"}}, TransitiveTags: []string{"k"}, SourceIdentity: "paul"}
	sent := func(c session.Call) (names []string) {
		v := reflect.ValueOf(*assumeRoleInput(c, text(c.MFASerial), aws.String("123456")))
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() && !v.Field(i).IsZero() {
				names = append(names, f.Name)
			}
		}
		return names
	}
	full := sent(call)
	in := reflect.TypeOf(*assumeRoleInput(call, nil, nil))
	for i := range in.NumField() {
		f := in.Field(i)
		if f.IsExported() && slices.Contains(full, f.Name) == slices.Contains(neverSent, f.Name) {
			t.Errorf("the parameter %s is not sent, or is wrongly listed as never sent", f.Name)
		}
	}
	v := reflect.ValueOf(&call).Elem()
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		if name == "AccountID" || name == "RoleName" { // of GetRoleCredentials
			continue
		}
		if v.Field(i).IsZero() && name != "Endpoint" {
			t.Errorf("this test sets no %s", name)
		}
		if name == "Operation" || name == "Endpoint" || name == "RoleARN" || name == "SessionName" { // always sent
			continue
		}
		less := reflect.New(v.Type()).Elem()
		less.Set(v)
		less.Field(i).SetZero()
		if got := sent(less.Interface().(session.Call)); len(got) != len(full)-1 {
			t.Errorf("without %s, STS is sent %v", name, got)
		}
	}
}

// TestRefusedAttribution: a trust policy that allows no tags or no source identity is named as such.
func TestRefusedAttribution(t *testing.T) {
	_, c := simulator(t)
	for action, call := range map[string]session.Call{
		"sts:TagSession":        {Tags: []session.Tag{{Key: "team", Value: "web"}}},
		"sts:SetSourceIdentity": {SourceIdentity: "paul"},
	} {
		call.Operation, call.RoleARN, call.SessionName = session.AssumeRole, "arn:aws:iam::333344445555:role/untagged", "paul"
		_, err := c.Call(background(t), simKeys(), call, secret.String{})
		if !fault.Is(err, fault.Denied) || !errors.Is(err, ErrTagsRefused) ||
			!strings.Contains(err.Error(), "its trust policy must allow "+action+", or the registry's profile needs optional_tags") {
			t.Errorf("%s: %v", action, err)
		}
		call.Tags, call.SourceIdentity = nil, ""
		if _, err := c.Call(background(t), simKeys(), call, secret.String{}); err != nil {
			t.Errorf("without: %v", err)
		}
	}
}
