//go:build unix

package exchange

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"broker/internal/fault"
	"broker/internal/secret"
)

func TestAnswersThatCannotBe(t *testing.T) {
	at := func(d time.Duration) string { return time.Now().Add(d).UTC().Format(time.RFC3339) }
	for _, tt := range []struct {
		name   string
		answer answer
		text   string
	}{
		{"no result", answer{without: "AssumeRoleResult"}, "not an answer of STS"},
		{"no credentials", answer{without: "Credentials"}, "has no credentials"},
		{"no key id", answer{without: "AccessKeyId"}, "no AccessKeyId"},
		{"no secret", answer{without: "SecretAccessKey"}, "no SecretAccessKey"},
		{"no token", answer{without: "SessionToken"}, "no SessionToken"},
		{"no expiration", answer{without: "Expiration"}, "no Expiration"},
		{"no role user", answer{without: "AssumedRoleUser"}, "no AssumedRoleUser"},
		{"no role ARN", answer{without: "Arn"}, "no AssumedRoleUser"},
		{"a short key id", answer{id: "ASIA"}, "invalid AccessKeyId"},
		{"a long key id", answer{id: strings.Repeat("A", 129)}, "invalid AccessKeyId"},
		{"a key id with a dash", answer{id: "ASIA2BCDEFGHIJ-LMNOP"}, "invalid AccessKeyId"},
		{"a secret with a blank", answer{secret: "nB7gT3xYwQ9e R5uI1oP8aS2"}, "invalid SecretAccessKey"},
		{"a long secret", answer{secret: strings.Repeat("s", 257)}, "invalid SecretAccessKey"},
		{"a token with a newline", answer{token: "abc\ndef"}, "invalid SessionToken"},
		{"a token that is not ASCII", answer{token: "abcé"}, "invalid SessionToken"},
		{"a huge token", answer{token: strings.Repeat("t", 16<<10+1)}, "invalid SessionToken"},
		{"an expiration that is no time", answer{expiration: "tomorrow"}, "not an answer of STS"},
		{"expired", answer{expiration: at(-time.Minute)}, "expired before they arrived"},
		{"expires in 13 hours", answer{expiration: at(13 * time.Hour)}, "later than AWS ever allows"},
		{"expires in a hundred years", answer{expiration: at(100 * 365 * 24 * time.Hour)}, "later than AWS ever allows"},
		{"another account", answer{arn: "arn:aws:sts::111122223333:assumed-role/admin/paul"}, "asked for role " + aRole + ", STS answered for arn:aws:sts::111122223333:assumed-role/admin/paul"},
		{"another role", answer{arn: "arn:aws:sts::444455556666:assumed-role/reader/paul"}, "STS answered for"},
		{"a longer role", answer{arn: "arn:aws:sts::444455556666:assumed-role/administrator/paul"}, "STS answered for"},
		{"the path instead of the role", answer{arn: "arn:aws:sts::444455556666:assumed-role/team/admin"}, "STS answered for"},
		{"another partition", answer{arn: "arn:aws-cn:sts::444455556666:assumed-role/admin/paul"}, "STS answered for"},
		{"the role itself", answer{arn: aRole}, "STS answered for"},
		{"a federated user", answer{arn: "arn:aws:sts::444455556666:federated-user/admin"}, "STS answered for"},
		{"no session name", answer{arn: "arn:aws:sts::444455556666:assumed-role/admin"}, "STS answered for"},
		{"an ARN with its own secret", answer{arn: "arn:aws:sts::444455556666:assumed-role/" + answerSecret + "/" + answerToken}, "STS answered for"},
		{"an ARN with our token", answer{arn: "arn:aws:sts::444455556666:assumed-role/" + sessionText}, "STS answered for"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := serve(t, answerWith(tt.answer))
			got, err := client(f).Assume(background(t), aSession(), assumeRole())
			wantFault(t, err, fault.BadAnswer, "assume "+aRole+": ", tt.text)
			if got.AccessKeyID != "" || !got.SecretAccessKey.IsZero() || !got.SessionToken.IsZero() {
				t.Error("credentials were returned with the error")
			}
			if f.count() != 1 {
				t.Errorf("%d requests, want 1", f.count())
			}
		})
	}
}

func TestAnswersThatMayBe(t *testing.T) {
	soon := time.Now().Add(time.Hour).UTC()
	for _, tt := range []struct {
		name   string
		answer answer
	}{
		{"nanoseconds", answer{expiration: soon.Format("2006-01-02T15:04:05.123456789Z")}},
		{"an offset of zero", answer{expiration: soon.Format("2006-01-02T15:04:05+00:00")}},
		{"another zone", answer{expiration: soon.In(time.FixedZone("", 7200)).Format(time.RFC3339)}},
		{"a token of 16 KiB", answer{token: strings.Repeat("t", 16<<10)}},
		{"the role in another case", answer{arn: "arn:aws:sts::444455556666:assumed-role/Admin/paul"}},
		{"twelve hours", answer{expiration: soon.Add(11 * time.Hour).Format(time.RFC3339)}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := serve(t, answerWith(tt.answer))
			got, err := client(f).Assume(background(t), aSession(), assumeRole())
			if err != nil {
				t.Fatal(err)
			}
			if got.Expires.Location() != time.UTC || got.Issued.Location() != time.UTC {
				t.Error("a time is not in UTC")
			}
			if d := got.Expires.Sub(soon); d < -time.Second {
				t.Errorf("expires %s off", d)
			}
		})
	}

	f := serve(t, answerWith(answer{expiration: soon.Add(35 * time.Hour).Format(time.RFC3339)}))
	if _, err := client(f).Call(background(t), userKeys(), openSession(), secret.New(aCode)); err != nil {
		t.Errorf("36 hours of GetSessionToken: %v", err)
	}
}

func TestIssuedWithoutDate(t *testing.T) {
	f := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Date"] = nil
		good(w, r)
	})
	c := client(f)
	got, err := c.Assume(background(t), aSession(), assumeRole())
	if err != nil {
		t.Fatal(err)
	}
	if d := time.Since(got.Issued).Abs(); d > time.Minute {
		t.Errorf("issued %s from our clock", d)
	}
	if c.ServerOffset() != 0 {
		t.Errorf("offset %s without a Date header", c.ServerOffset())
	}
}

// TestNoAnswers has responses that are not an answer of STS.
func TestNoAnswers(t *testing.T) {
	t.Parallel()
	flood := strings.Repeat("<a>", 300_000)
	for _, tt := range []struct {
		name   string
		status int
		body   string
		text   string
	}{
		{"empty 200", 200, "", "answered 200 with nothing"},
		{"blank 200", 200, " \n", "answered 200 with nothing"},
		{"captive portal", 200, "<!DOCTYPE html><html><body>Please sign in</body></html>", "captive portal"},
		{"captive portal with a BOM", 200, "\xef\xbb\xbf<HTML>", "captive portal"},
		{"a refusing page", 403, "<html>blocked by policy</html>", "answered 403 with a web page"},
		{"text", 200, "hello", "not an answer of STS"},
		{"JSON", 200, `{"AccessKeyId":"x"}`, "not an answer of STS"},
		{"cut XML", 200, "<AssumeRoleResponse><AssumeRoleResult><Credentials>", "not an answer of STS"},
		{"bad XML", 200, "<AssumeRoleResponse></b>", "not an answer of STS"},
		{"deep XML", 200, flood, "not an answer of STS"},
		{"an error with 200", 200, refusal("AccessDenied", "no"), "not an answer of STS"},
		{"empty 403", 403, "", "answered 403 with nothing"},
		{"an error without a code", 400, "<ErrorResponse><Error></Error></ErrorResponse>", "not an answer of STS"},
		{"garbage", 400, "\x00\x01\xff", "not an answer of STS"},
		{"another XML", 404, "<?xml version='1.0'?><Fault/>", "not an answer of STS"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := serve(t, say(tt.status, tt.body))
			_, err := client(f).Assume(background(t), aSession(), assumeRole())
			wantFault(t, err, fault.BadAnswer, tt.text)
			if f.count() != 1 {
				t.Errorf("%d requests, want 1", f.count())
			}
		})
	}
}

func TestParseRole(t *testing.T) {
	for arn, want := range map[string]role{
		"arn:aws:iam::444455556666:role/admin":          {"aws", "444455556666", "admin"},
		"arn:aws:iam::444455556666:role/a/b/c":          {"aws", "444455556666", "c"},
		"arn:aws-us-gov:iam::444455556666:role/x=y@z,w": {"aws-us-gov", "444455556666", "x=y@z,w"},
		"arn:aws-iso-b:iam::444455556666:role/r":        {"aws-iso-b", "444455556666", "r"},
	} {
		if got, ok := parseRole(arn, false); !ok || got != want {
			t.Errorf("parseRole(%q) = %+v, %t", arn, got, ok)
		}
	}
	for _, arn := range []string{
		"", "arn", "arn:aws:iam::444455556666:role", "arn:aws:iam::444455556666:role/", "arn:aws:iam:eu-west-1:444455556666:role/x",
		"arn:aws:sts::444455556666:role/x", "arn:evil:iam::444455556666:role/x", "arn:aws:iam::444455556666:role/x:y", "arn:aws:iam::44445555666x:role/x",
	} {
		if got, ok := parseRole(arn, false); ok {
			t.Errorf("parseRole(%q) = %+v", arn, got)
		}
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add(200, answer{}.xml("AssumeRole"))
	f.Add(403, refusal("AccessDenied", "no"))
	f.Add(200, "<html>")
	f.Add(200, "")
	f.Fuzz(func(t *testing.T, status int, body string) {
		c := New(Options{})
		r := &recorder{answer: func(*http.Request) (*http.Response, error) { return response(status, body), nil }}
		c.connect = r.connect
		// A refused attempt must not make the fuzzer wait for a backoff.
		_, err := c.Call(t.Context(), userKeys(), openSession(), secret.New(aCode))
		if err != nil && fault.Of(err).Kind == fault.Internal {
			t.Errorf("status %d, body %q: %v", status, body, err)
		}
		if err != nil && strings.Contains(fmt.Sprintf("%+v", err), aCode) {
			t.Errorf("the code is in %v", err)
		}
	})
}
