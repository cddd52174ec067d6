//go:build unix

package exchange

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"broker/internal/fault"
	"broker/internal/profiles"
	"broker/internal/secret"
	"broker/internal/session"
)

// hostile is an environment that sets everything wrong for the SDK.
var hostile = map[string]string{
	"AWS_ENDPOINT_URL":                       "http://127.0.0.1:1",
	"AWS_ENDPOINT_URL_STS":                   "http://127.0.0.1:1",
	"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS":    "false",
	"AWS_REGION":                             "ap-east-1",
	"AWS_DEFAULT_REGION":                     "ap-east-1",
	"AWS_PROFILE":                            "nobody",
	"AWS_DEFAULT_PROFILE":                    "nobody",
	"AWS_CONFIG_FILE":                        "/dev/null/config",
	"AWS_SHARED_CREDENTIALS_FILE":            "/dev/null/credentials",
	"AWS_SDK_LOAD_CONFIG":                    "1",
	"AWS_ACCESS_KEY_ID":                      "AKIAHOSTILEHOSTILE12",
	"AWS_SECRET_ACCESS_KEY":                  "hostile",
	"AWS_SESSION_TOKEN":                      "hostile",
	"AWS_STS_REGIONAL_ENDPOINTS":             "legacy",
	"AWS_USE_FIPS_ENDPOINT":                  "true",
	"AWS_USE_DUALSTACK_ENDPOINT":             "true",
	"AWS_MAX_ATTEMPTS":                       "10",
	"AWS_RETRY_MODE":                         "adaptive",
	"AWS_NEW_RETRIES_2026":                   "true",
	"AWS_DEFAULTS_MODE":                      "auto",
	"AWS_ROLE_ARN":                           "arn:aws:iam::999999999999:role/hostile",
	"AWS_WEB_IDENTITY_TOKEN_FILE":            "/dev/null/token",
	"AWS_CONTAINER_CREDENTIALS_FULL_URI":     "http://127.0.0.1:1",
	"AWS_SIGV4A_SIGNING_REGION_SET":          "*",
	"AWS_AUTH_SCHEME_PREFERENCE":             "sigv4a,noAuth",
	"AWS_ACCOUNT_ID_ENDPOINT_MODE":           "required",
	"AWS_REQUEST_MIN_COMPRESSION_SIZE_BYTES": "0",
}

// places says which setting takes precedence, and which region signs.
var places = []struct {
	name     string
	settings string // STSEndpoint
	endpoint profiles.Endpoint
	resource string // role ARN; empty calls GetCallerIdentity
	url      string
	region   string // of the credential scope
}{
	{"a region", "", profiles.Endpoint{Region: "eu-west-1"}, aRole, "https://sts.eu-west-1.amazonaws.com/", "eu-west-1"},
	{"us-east-1", "", profiles.Endpoint{Region: "us-east-1"}, aRole, "https://sts.us-east-1.amazonaws.com/", "us-east-1"},
	{"an opt-in region", "", profiles.Endpoint{Region: "af-south-1"}, aRole, "https://sts.af-south-1.amazonaws.com/", "af-south-1"},
	{"a region of tomorrow", "", profiles.Endpoint{Region: "eu-west-9"}, aRole, "https://sts.eu-west-9.amazonaws.com/", "eu-west-9"},
	{"China", "", profiles.Endpoint{Region: "cn-northwest-1"}, "arn:aws-cn:iam::444455556666:role/r", "https://sts.cn-northwest-1.amazonaws.com.cn/", "cn-northwest-1"},
	{"GovCloud", "", profiles.Endpoint{Region: "us-gov-east-1"}, "arn:aws-us-gov:iam::444455556666:role/r", "https://sts.us-gov-east-1.amazonaws.com/", "us-gov-east-1"},
	{"a European sovereign region", "", profiles.Endpoint{Region: "eusc-de-east-1"}, "arn:aws-eusc:iam::444455556666:role/r", "https://sts.eusc-de-east-1.amazonaws.eu/", "eusc-de-east-1"},

	{"no region", "", profiles.Endpoint{}, aRole, "https://sts.us-east-1.amazonaws.com/", "us-east-1"},
	{"no region, China", "", profiles.Endpoint{}, "arn:aws-cn:iam::444455556666:role/r", "https://sts.cn-north-1.amazonaws.com.cn/", "cn-north-1"},
	{"no region, GovCloud", "", profiles.Endpoint{}, "arn:aws-us-gov:iam::444455556666:role/r", "https://sts.us-gov-west-1.amazonaws.com/", "us-gov-west-1"},
	{"no region, no ARN", "", profiles.Endpoint{}, "", "https://sts.us-east-1.amazonaws.com/", "us-east-1"},

	{"global", "", profiles.Endpoint{Region: "aws-global"}, aRole, "https://sts.amazonaws.com/", "us-east-1"},
	{"legacy, on the list", "", profiles.Endpoint{Region: "eu-west-1", Legacy: true}, aRole, "https://sts.amazonaws.com/", "us-east-1"},
	{"legacy, not on the list", "", profiles.Endpoint{Region: "eu-south-1", Legacy: true}, aRole, "https://sts.eu-south-1.amazonaws.com/", "eu-south-1"},
	{"legacy, China", "", profiles.Endpoint{Region: "cn-north-1", Legacy: true}, aRole, "https://sts.cn-north-1.amazonaws.com.cn/", "cn-north-1"},
	{"legacy, no region", "", profiles.Endpoint{Legacy: true}, aRole, "https://sts.amazonaws.com/", "us-east-1"},
	{"legacy and global", "", profiles.Endpoint{Region: "aws-global", Legacy: true}, aRole, "https://sts.amazonaws.com/", "us-east-1"},

	{"FIPS", "", profiles.Endpoint{Region: "us-west-2", FIPS: true}, aRole, "https://sts-fips.us-west-2.amazonaws.com/", "us-west-2"},
	{"FIPS, GovCloud", "", profiles.Endpoint{Region: "us-gov-west-1", FIPS: true}, aRole, "https://sts.us-gov-west-1.amazonaws.com/", "us-gov-west-1"},
	{"FIPS wins over legacy", "", profiles.Endpoint{Region: "us-west-2", FIPS: true, Legacy: true}, aRole, "https://sts-fips.us-west-2.amazonaws.com/", "us-west-2"},
	{"FIPS and global", "", profiles.Endpoint{Region: "aws-global", FIPS: true}, aRole, "https://sts-fips.us-east-1.amazonaws.com/", "us-east-1"},
	{"a pseudo region", "", profiles.Endpoint{Region: "fips-us-east-2"}, aRole, "https://sts-fips.us-east-2.amazonaws.com/", "us-east-2"},
	{"a pseudo region, other way", "", profiles.Endpoint{Region: "us-east-2-fips"}, aRole, "https://sts-fips.us-east-2.amazonaws.com/", "us-east-2"},

	{"the profile's URL", "", profiles.Endpoint{Region: "eu-west-1", URL: "https://vpce-1.sts.eu-west-1.vpce.amazonaws.com"}, aRole, "https://vpce-1.sts.eu-west-1.vpce.amazonaws.com/", "eu-west-1"},
	{"the profile's URL wins over FIPS and legacy", "", profiles.Endpoint{Region: "eu-west-1", URL: "https://sts.example:8443/path", FIPS: true, Legacy: true}, aRole, "https://sts.example:8443/path", "eu-west-1"},
	{"the profile's URL, global", "", profiles.Endpoint{Region: "aws-global", URL: "https://sts.example"}, aRole, "https://sts.example/", "us-east-1"},
	{"the profile's URL on loopback", "", profiles.Endpoint{Region: "eu-west-1", URL: "http://[::1]:4599"}, aRole, "http://[::1]:4599/", "eu-west-1"},
	{"the settings win", "http://127.0.0.1:4599", profiles.Endpoint{Region: "eu-west-1", URL: "https://sts.example", FIPS: true}, aRole, "http://127.0.0.1:4599/", "eu-west-1"},
	{"the settings, no region", "http://localhost:4599/", profiles.Endpoint{}, "arn:aws-cn:iam::444455556666:role/r", "http://localhost:4599/", "cn-north-1"},
}

func TestPlaces(t *testing.T) {
	for _, environment := range []string{"clean", "hostile"} {
		t.Run(environment, func(t *testing.T) {
			if environment == "hostile" {
				for name, value := range hostile {
					t.Setenv(name, value)
				}
			}
			for _, tt := range places {
				t.Run(tt.name, func(t *testing.T) { testPlace(t, tt.settings, tt.endpoint, tt.resource, tt.url, tt.region) })
			}
		})
	}
}

func testPlace(t *testing.T, settings string, endpoint profiles.Endpoint, resource, url, region string) {
	r := &recorder{answer: func(q *http.Request) (*http.Response, error) {
		if resource == "" {
			return response(200, callerIdentity), nil
		}
		arn := strings.Replace(strings.Replace(resource, ":iam:", ":sts:", 1), ":role/", ":assumed-role/", 1)
		return response(200, answer{arn: strings.Replace(arn, "/team", "", 1) + "/paul"}.xml(session.AssumeRole)), nil
	}}
	c := New(Options{STSEndpoint: settings})
	c.connect = r.connect
	var err error
	if resource == "" {
		_, err = c.Identity(background(t), userKeys(), endpoint)
	} else {
		_, err = c.Call(background(t), userKeys(), session.Call{Operation: session.AssumeRole, RoleARN: resource,
			SessionName: "paul", Endpoint: endpoint}, secret.String{})
	}
	if err != nil {
		t.Fatal(err)
	}
	if len(r.requests) != 1 {
		t.Fatalf("%d requests, want 1", len(r.requests))
	}
	q := r.requests[0]
	if got := q.URL.String(); got != url {
		t.Errorf("it calls %s, want %s", got, url)
	}
	auth := q.Header.Get("Authorization")
	if !strings.HasPrefix(auth, "AWS4-HMAC-SHA256 Credential=AKIAQXZ7EXAMPLEWNYVB/") || !strings.Contains(auth, "/"+region+"/sts/aws4_request,") {
		t.Errorf("signed with %s, want region %s", auth, region)
	}
	if q.Header.Get("X-Amz-Security-Token") != "" {
		t.Error("a session token was sent")
	}
}

// TestPlaceOfGetSessionToken: without a role, the MFA serial shows the partition.
func TestPlaceOfGetSessionToken(t *testing.T) {
	for serial, host := range map[string]string{
		"arn:aws-cn:iam::111122223333:mfa/paul": "sts.cn-north-1.amazonaws.com.cn",
		aSerial:                                 "sts.us-east-1.amazonaws.com",
		"GAHT12345678":                          "sts.us-east-1.amazonaws.com",
	} {
		r := &recorder{answer: func(*http.Request) (*http.Response, error) {
			return response(200, answer{}.xml(session.GetSessionToken)), nil
		}}
		c := New(Options{})
		c.connect = r.connect
		call := session.Call{Operation: session.GetSessionToken, MFASerial: serial}
		if _, err := c.Call(background(t), userKeys(), call, secret.New(aCode)); err != nil {
			t.Fatal(err)
		}
		if r.requests[0].URL.Host != host {
			t.Errorf("%s: it talks to %s, want %s", serial, r.requests[0].URL.Host, host)
		}
	}
}

func TestPlacesThatAreNone(t *testing.T) {
	for _, tt := range []struct {
		name     string
		settings string
		endpoint profiles.Endpoint
		resource string
		text     string
	}{
		{"plain http", "http://sts.example", profiles.Endpoint{}, "", "sts_endpoint of the settings: sts.example: plain http is accepted only on loopback"},
		{"plain http in the profile", "", profiles.Endpoint{URL: "http://10.0.0.1"}, "", "endpoint_url of the profile: 10.0.0.1: plain http"},
		{"loopback as a name's beginning", "", profiles.Endpoint{URL: "http://127.0.0.1.evil.example"}, "", "plain http"},
		{"localhost as a name's end", "", profiles.Endpoint{URL: "http://evil.localhost"}, "", "plain http"},
		{"a password", "", profiles.Endpoint{URL: "https://me:hunter2@sts.example"}, "", "must have only"},
		{"a password in no URL", "", profiles.Endpoint{URL: "https://me:" + longSecret + "@[sts"}, "", "is not the URL of an endpoint"},
		{"a query", "", profiles.Endpoint{URL: "https://sts.example?x=1"}, "", "must have only"},
		{"a fragment", "", profiles.Endpoint{URL: "https://sts.example#x"}, "", "must have only"},
		{"another scheme", "", profiles.Endpoint{URL: "ftp://sts.example"}, "", `is https, not "ftp"`},
		{"a host without a scheme", "", profiles.Endpoint{URL: "sts.example"}, "", "is not the URL of an endpoint"},
		{"no host", "", profiles.Endpoint{URL: "https://"}, "", "is not the URL of an endpoint"},
		{"a region with a host", "", profiles.Endpoint{Region: "evil.example/"}, "", `"evil.example/" is not a region`},
		{"a region with an @", "", profiles.Endpoint{Region: "x@evil"}, "", "is not a region"},
		{"a long region", "", profiles.Endpoint{Region: strings.Repeat("a", 65)}, "", "is not a region"},
		{"a region with a newline", "", profiles.Endpoint{Region: "eu-west-1\n"}, "", "is not a region"},
		{"an unknown partition", "", profiles.Endpoint{}, "arn:aws-moon:iam::444455556666:role/r", `partition "aws-moon" is not known`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := &recorder{}
			c := New(Options{STSEndpoint: tt.settings})
			c.connect = r.connect
			call := assumeRole()
			call.Endpoint = tt.endpoint
			if tt.resource != "" {
				call.RoleARN = tt.resource
			}
			_, err := c.Call(background(t), userKeys(), call, secret.String{})
			wantFault(t, err, fault.Config, "assume "+call.RoleARN+": ", tt.text)
			if len(r.requests) != 0 {
				t.Error("something was sent")
			}
		})
	}
}

// TestRefusedByTheSDK: errors of the SDK before anything is sent are shown without its prefixes.
func TestRefusedByTheSDK(t *testing.T) {
	a := New(Options{}).newAttempt(request{verb: "assume x"}, location{region: "us-east-1"}, nil)
	sdk := errors.New("endpoint rule error, FIPS is enabled but this partition does not support FIPS")
	f, again := a.failure(t.Context(), fmt.Errorf("operation error STS: AssumeRole, failed to resolve service endpoint, %w", sdk))
	wantFault(t, f, fault.Config, "assume x: FIPS is enabled but this partition does not support FIPS")
	if again || MaybeSeen(f) {
		t.Error("it would retry, or MaybeSeen is true")
	}
}

// TestHostileEnvironmentChangesNoAttempts: only ask counts attempts, whatever the environment says.
func TestHostileEnvironmentChangesNoAttempts(t *testing.T) {
	for name, value := range hostile {
		t.Setenv(name, value)
	}
	f := serve(t, say(503, ""))
	c := client(f)
	_, err := c.Call(background(t), userKeys(), openSession(), secret.New(aCode))
	wantFault(t, err, fault.Network)
	if f.count() != 1 {
		t.Errorf("with a code: %d requests, want 1", f.count())
	}
	_, err = c.Assume(background(t), aSession(), assumeRole())
	wantFault(t, err, fault.Network)
	if f.count() != 4 {
		t.Errorf("without a code: %d requests, want 3", f.count()-1)
	}
}
