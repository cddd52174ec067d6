package stssim

import (
	"encoding/hex"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

func TestSignatureRules(t *testing.T) {
	sim := newDemo(t)
	session := paul(sim).session(t)
	other := session.assume(t, devAdmin)
	replace := func(header, old, new string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(header, strings.Replace(r.Header.Get(header), old, new, 1)) }
	}
	unknown := paul(sim)
	unknown.keys.AccessKeyID = "AKIANOBODYNOBODYNOBO"
	wrongSecret := paul(sim)
	wrongSecret.keys.SecretAccessKey = strings.Repeat("x", 40)
	noToken, othersToken, userWithToken := session, session, paul(sim)
	noToken.keys.SessionToken = ""
	othersToken.keys.SessionToken = other.keys.SessionToken
	userWithToken.keys.SessionToken = other.keys.SessionToken
	unsigned := paul(sim)
	unsigned.keys.AccessKeyID = ""

	edit := func(change func(*caller)) caller { c := paul(sim); change(&c); return c }
	tests := []struct {
		name    string
		caller  caller
		code    string
		message string
	}{
		{"right", paul(sim), "", ""},
		{"right, session", session, "", ""},
		{"right, any region", edit(func(c *caller) { c.region = "us-gov-west-1" }), "", ""},
		{"right, a query and a path", edit(func(c *caller) {
			c.before = func(r *http.Request) { r.URL.Path, r.URL.RawQuery = "/a b/ü", "x=1+2&y=%2Fz&x=0" }
		}), "", ""},
		{"right, a header with blanks", edit(func(c *caller) {
			c.before = func(r *http.Request) { r.Header["X-Amz-Meta"] = []string{"  a   b ", "c"} }
		}), "", ""},
		{"right, clock 14 minutes behind", edit(func(c *caller) { c.at = sim.Now().Add(-14 * time.Minute) }), "", ""},
		{"right, clock 14 minutes ahead", edit(func(c *caller) { c.at = sim.Now().Add(14 * time.Minute) }), "", ""},
		{"unsigned", unsigned, "MissingAuthenticationToken", "Request is missing Authentication Token"},
		{"unknown key", unknown, "InvalidClientTokenId", "The security token included in the request is invalid."},
		{"wrong secret", wrongSecret, "SignatureDoesNotMatch", "The request signature we calculated does not match the signature you provided."},
		{"session without its token", noToken, "InvalidClientTokenId", "invalid"},
		{"session with the token of another", othersToken, "InvalidClientTokenId", "invalid"},
		{"user key with a token", userWithToken, "InvalidClientTokenId", "invalid"},
		{"body changed", edit(func(c *caller) {
			c.form = func(f url.Values, b []byte) []byte { return append(b, "&X=1"...) }
		}), "SignatureDoesNotMatch", "does not match"},
		{"host changed", edit(func(c *caller) { c.after = func(r *http.Request) { r.Host = "evil.invalid" } }), "SignatureDoesNotMatch", "does not match"},
		{"query added", edit(func(c *caller) { c.after = func(r *http.Request) { r.URL.RawQuery = "a=b" } }), "SignatureDoesNotMatch", "does not match"},
		{"payload hash of something else", edit(func(c *caller) {
			c.before = func(r *http.Request) { r.Header.Set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD") }
		}), "SignatureDoesNotMatch", "x-amz-content-sha256"},
		{"amz header not signed", edit(func(c *caller) { c.after = func(r *http.Request) { r.Header.Set("X-Amz-Extra", "1") } }), "SignatureDoesNotMatch", "must be a 'SignedHeader'"},
		{"host not signed", edit(func(c *caller) { c.after = replace("Authorization", "host;", "") }), "SignatureDoesNotMatch", "'Host'"},
		{"signature in capitals and cut", edit(func(c *caller) { c.after = replace("Authorization", "Signature=", "Signature=zz") }), "SignatureDoesNotMatch", "does not match"},
		{"no signature", edit(func(c *caller) { c.after = replace("Authorization", "Signature=", "Sig=") }), "IncompleteSignature", "'Signature'"},
		{"no credential", edit(func(c *caller) { c.after = replace("Authorization", "Credential=", "Cred=") }), "IncompleteSignature", "'Credential'"},
		{"no signed headers", edit(func(c *caller) { c.after = replace("Authorization", "SignedHeaders=", "Signed=") }), "IncompleteSignature", "'SignedHeaders'"},
		{"short scope", edit(func(c *caller) { c.after = replace("Authorization", "/aws4_request", "") }), "SignatureDoesNotMatch", "5 slash-delimited"},
		{"another algorithm", edit(func(c *caller) { c.after = replace("Authorization", "AWS4-HMAC-SHA256", "AWS3") }), "IncompleteSignature", "Unsupported"},
		{"no date", edit(func(c *caller) { c.after = func(r *http.Request) { r.Header.Del("X-Amz-Date") } }), "IncompleteSignature", "Date"},
		{"a date that is not one", edit(func(c *caller) { c.after = func(r *http.Request) { r.Header.Set("X-Amz-Date", "today") } }), "IncompleteSignature", "ISO-8601"},
		{"scope of another service", edit(func(c *caller) { c.api = "s3" }), "SignatureDoesNotMatch", "Credential should be scoped to correct service: 'sts'"},
		{"scope of no region", edit(func(c *caller) { c.region = "aws-global" }), "SignatureDoesNotMatch", "valid region"},
		{"scope of another day", edit(func(c *caller) {
			c.after = replace("Authorization", sim.Now().Format("/20060102/"), "/20200101/")
		}), "SignatureDoesNotMatch", "Date in Credential scope does not match"},
		{"clock 16 minutes behind", edit(func(c *caller) { c.at = sim.Now().Add(-16 * time.Minute) }), "SignatureDoesNotMatch", "Signature expired: "},
		{"clock 16 minutes ahead", edit(func(c *caller) { c.at = sim.Now().Add(16 * time.Minute) }), "SignatureDoesNotMatch", "Signature not yet current: "},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := test.caller.call("GetCallerIdentity")
			r.want(t, test.code, test.message)
			if test.code != "" && r.status != 403 {
				t.Errorf("status %d, want 403", r.status)
			}
			if r.header.Get("X-Amzn-Requestid") != r.field("RequestId") || r.field("RequestId") == "" {
				t.Errorf("request id %q in the header, %q in the body", r.header.Get("X-Amzn-Requestid"), r.field("RequestId"))
			}
		})
	}
}

func TestDateHeaderInsteadOfAmzDate(t *testing.T) {
	sim := newDemo(t)
	// The SDK cannot sign a Date header, so the test signs by itself.
	request, err := http.NewRequest("POST", "https://sts.simulated.invalid/", strings.NewReader("Action=GetCallerIdentity&Version=2011-06-15"))
	if err != nil {
		t.Fatal(err)
	}
	request.Host = "sts.simulated.invalid"
	now := sim.Now().Truncate(time.Second)
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("Date", now.Format(http.TimeFormat))
	key := Demo().User("security", "paul").Keys[0]
	sig := signature{
		keyID:   key.ID,
		date:    now.Format(amzDate),
		region:  "eu-west-1",
		api:     apiSTS,
		stamp:   now.Format(amzTime),
		headers: []string{"date", "host"},
	}
	toSign := strings.Join([]string{signingAlgorithm, sig.stamp, sig.date + "/eu-west-1/sts/aws4_request",
		hexHash([]byte(sig.canonicalRequest(request, hexHash([]byte("Action=GetCallerIdentity&Version=2011-06-15")))))}, "\n")
	sum := hmacSHA256(hmacSHA256(hmacSHA256(hmacSHA256(hmacSHA256([]byte("AWS4"+key.Secret), sig.date), "eu-west-1"), "sts"), "aws4_request"), toSign)
	request.Header.Set("Authorization", signingAlgorithm+" Credential="+key.ID+"/"+sig.date+"/eu-west-1/sts/aws4_request, SignedHeaders=date;host, Signature="+hex.EncodeToString(sum))
	response, err := sim.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	if response.StatusCode != 200 {
		t.Errorf("status %d, want 200", response.StatusCode)
	}
	response.Body.Close()
}

func FuzzAuthorization(f *testing.F) {
	f.Add("AWS4-HMAC-SHA256 Credential=AKIA/20260101/eu-west-1/sts/aws4_request, SignedHeaders=host;x-amz-date, Signature=00", "20260101T000000Z", "")
	f.Add("AWS4-HMAC-SHA256 Credential=a/b/c/d/aws4_request,SignedHeaders=;,Signature=0", "", "Thu, 01 Jan 2026 00:00:00 GMT")
	f.Add("Bearer", "", "")
	sim := newDemo(f)
	f.Fuzz(func(t *testing.T, authorization, amz, date string) {
		request, _ := http.NewRequest("POST", "http://h/", strings.NewReader("Action=GetCallerIdentity&Version=2011-06-15"))
		request.Header["Authorization"] = []string{authorization}
		request.Header["X-Amz-Date"] = []string{amz}
		request.Header["Date"] = []string{date}
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		response, err := sim.RoundTrip(request)
		if err != nil {
			t.Fatal(err)
		}
		if response.StatusCode != 403 {
			t.Errorf("status %d for a forged signature", response.StatusCode)
		}
		response.Body.Close()
	})
}
