//go:build unix

package exchange

import (
	"fmt"
	"net/http"
	"testing"

	"broker/internal/fault"
	"broker/internal/profiles"
	"broker/internal/secret"
	"broker/internal/session"
)

const (
	cephRole = "arn:aws:iam:::role/application/S3Access"
	ceph     = "arn:aws:sts:::assumed-role/" // in its answers
)

// as returns a call to the fake STS, marked as AWS or as another STS.
func as(compatible bool, role string) session.Call {
	return session.Call{Operation: session.AssumeRole, RoleARN: role, SessionName: "paul",
		Endpoint: profiles.Endpoint{Compatible: compatible}}
}

// TestCompatible: answers of Ceph, MinIO and SeaweedFS are accepted if the source says that its STS is not AWS,
// and never otherwise. An answer for another role is never accepted.
func TestCompatible(t *testing.T) {
	for _, tt := range []struct {
		name, role string
		answer     answer
		compatible string // the error, or empty
		strict     string
	}{
		{"Ceph", cephRole, answer{id: "GMGWb2bL7qutimUBvWL", arn: ceph + "application/S3Access/paul"}, "", "not the ARN"},
		{"Ceph with a tenant", "arn:aws:iam::tenant:role/S3Access",
			answer{arn: "arn:aws:sts::tenant:assumed-role/S3Access/paul"}, "", "not the ARN of a role"},
		{"MinIO", aRole, answer{id: "minio-temp-1", without: "AssumedRoleUser"}, "", "invalid AccessKeyId"},
		{"SeaweedFS", aRole, answer{id: "ASIA716f41b23ce160df", arn: "arn:aws:sts::assumed-role/admin/paul"},
			"", "STS answered for"},
		{"another role", cephRole, answer{arn: ceph + "application/Other/paul"}, "STS answered for", "not the ARN"},
		{"a longer role", cephRole, answer{arn: ceph + "S3Access2/paul"}, "STS answered for", "not the ARN"},
		{"a shorter path", cephRole, answer{arn: ceph + "x/application/S3Access/paul"}, "STS answered for", "not the ARN"},
		{"no role", cephRole, answer{arn: "arn:aws:sts:::assumed-role"}, "STS answered for", "not the ARN"},
		{"a secret with a blank", cephRole, answer{secret: "a b"}, "invalid SecretAccessKey", "not the ARN"},
		{"an id with a blank", cephRole, answer{id: "GMGW b2bL7qutimUBv"}, "invalid AccessKeyId", "not the ARN"},
		{"a long life", cephRole, answer{expiration: "2999-01-01T00:00:00Z"}, "later than AWS ever allows", "not the ARN"},
	} {
		for compatible, wrong := range map[bool]string{true: tt.compatible, false: tt.strict} {
			t.Run(fmt.Sprintf("%s %t", tt.name, compatible), func(t *testing.T) {
				f := serve(t, answerWith(tt.answer))
				got, err := client(f).Call(background(t), userKeys(), as(compatible, tt.role), secret.String{})
				if wrong == "" {
					if err != nil || got.Subject == "" {
						t.Errorf("%+v, %v", got.Subject, err)
					}
					return
				}
				if f := fault.Of(err); f == nil || f.Kind != fault.BadAnswer && f.Kind != fault.Config {
					t.Fatalf("%v", err)
				}
				wantFault(t, err, fault.Of(err).Kind, wrong)
			})
		}
	}
}

// TestSmallLetters: the IDs of AWS's own sessions have no lower-case letters, but the SDKs' model of STS allows
// them.
func TestSmallLetters(t *testing.T) {
	f := serve(t, answerWith(answer{id: "ASIA716f41b23ce160df"}))
	if _, err := client(f).Assume(background(t), aSession(), assumeRole()); err != nil {
		t.Error(err)
	}
}

// TestBareError: Ceph refuses in S3's format, without <ErrorResponse>. A broken document is still not an answer.
func TestBareError(t *testing.T) {
	for body, want := range map[string]struct {
		kind fault.Kind
		text string
	}{
		`<?xml version="1.0"?><Error><Code>AccessDenied</Code><Message></Message></Error>`: {fault.Denied, "AWS denied it: AccessDenied"},
		`<Error><Code>InvalidAccessKeyId</Code></Error>`:                                   {fault.Denied, "does not know access key"},
		`<Error><Code>NoSuchEntity</Code><Message>no role</Message></Error>`:               {fault.Failed, "NoSuchEntity: no role"},
		`<Error><Code>AccessDenied</Code>`:                                                 {fault.BadAnswer, "not an answer of STS"},
		`<Other><Code>AccessDenied</Code></Other>`:                                         {fault.BadAnswer, "not an answer of STS"},
	} {
		f := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/xml")
			w.WriteHeader(http.StatusForbidden)
			_, _ = w.Write([]byte(body))
		})
		_, err := client(f).Call(background(t), userKeys(), assumeRole(), secret.String{})
		wantFault(t, err, want.kind, want.text)
	}
}
