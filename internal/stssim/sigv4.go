package stssim

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// This file verifies Signature Version 4 according to its public description, without any code of the tested
// programs. https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html

const (
	signingAlgorithm = "AWS4-HMAC-SHA256"
	amzTime          = "20060102T150405Z"
	amzDate          = "20060102"
	// maxSkew is how far a signer's clock may be off.
	maxSkew = 15 * time.Minute
)

// signature is what a request claims about its signer, before verification.
type signature struct {
	keyID   string
	date    string // of the scope, 20060102
	region  string
	api     string // the scope's service: sts or iam
	headers []string
	hex     string
	signed  time.Time
	stamp   string // the value of signed in the string to sign
	// A presigned request has its signature in the query, and says how long it is valid.
	presigned bool
	valid     time.Duration
}

// parseSignature parses the Authorization header and the time of a request.
func parseSignature(r *http.Request) (signature, *apiError) {
	var sig signature
	header := r.Header.Get("Authorization")
	if header == "" && r.URL.Query().Get("X-Amz-Algorithm") == signingAlgorithm {
		q := r.URL.Query()
		seconds, _ := strconv.Atoi(q.Get("X-Amz-Expires"))
		sig.presigned, sig.valid = true, time.Duration(seconds)*time.Second
		header = signingAlgorithm + " Credential=" + q.Get("X-Amz-Credential") + ", SignedHeaders=" +
			q.Get("X-Amz-SignedHeaders") + ", Signature=" + q.Get("X-Amz-Signature")
	}
	if header == "" {
		return sig, errMissingToken
	}
	fields, found := strings.CutPrefix(header, signingAlgorithm+" ")
	if !found {
		return sig, incomplete("Unsupported AWS 'algorithm': '" + strings.Fields(header + " -")[0] + "'.")
	}
	var scope string
	for field := range strings.SplitSeq(fields, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(field), "=")
		switch name {
		case "Credential":
			sig.keyID, scope, _ = strings.Cut(value, "/")
		case "SignedHeaders":
			sig.headers = strings.Split(value, ";")
		case "Signature":
			sig.hex = value
		}
	}
	parts := strings.Split(scope, "/")
	switch {
	case sig.keyID == "":
		return sig, incomplete("Authorization header requires 'Credential' parameter. Authorization=" + signingAlgorithm)
	case len(sig.headers) == 0:
		return sig, incomplete("Authorization header requires 'SignedHeaders' parameter. Authorization=" + signingAlgorithm)
	case sig.hex == "":
		return sig, incomplete("Authorization header requires 'Signature' parameter. Authorization=" + signingAlgorithm)
	case len(parts) != 4 || parts[3] != "aws4_request":
		return sig, mismatch("Credential should have exactly 5 slash-delimited elements, have " + strconv.Itoa(len(parts)+1) + ".")
	}
	sig.date, sig.region, sig.api = parts[0], parts[1], parts[2]
	return sig, sig.readTime(r)
}

// readTime reads the time of signing from X-Amz-Date, or else from Date.
func (sig *signature) readTime(r *http.Request) *apiError {
	stamp := r.Header.Get("X-Amz-Date")
	if sig.presigned {
		stamp = r.URL.Query().Get("X-Amz-Date")
	}
	if stamp != "" {
		t, err := time.Parse(amzTime, stamp)
		if err != nil {
			return incomplete("Date must be in ISO-8601 'basic format'. Got '" + stamp + "'. See http://en.wikipedia.org/wiki/ISO_8601")
		}
		sig.signed, sig.stamp = t, stamp
		return nil
	}
	date := r.Header.Get("Date")
	t, err := http.ParseTime(date)
	if err != nil {
		if t, err = time.Parse(amzTime, date); err != nil {
			return incomplete("Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. Authorization=" + signingAlgorithm)
		}
	}
	sig.signed, sig.stamp = t.UTC(), t.UTC().Format(amzTime)
	return nil
}

// checkTime rejects a signature that is too old, or too far in the future, at the time now.
func (sig *signature) checkTime(now time.Time) *apiError {
	stated := func(t time.Time) string { return t.UTC().Format(amzTime) }
	switch {
	case sig.presigned && now.After(sig.signed.Add(sig.valid)):
		return mismatch("Signature expired: " + sig.stamp + " is valid for " + sig.valid.String())
	case sig.signed.Before(now.Add(-maxSkew)):
		return mismatch("Signature expired: " + sig.stamp + " is now earlier than " + stated(now.Add(-maxSkew)) + " (" + stated(now) + " - 15 min.)")
	case sig.signed.After(now.Add(maxSkew)):
		return mismatch("Signature not yet current: " + sig.stamp + " is still later than " + stated(now.Add(maxSkew)) + " (" + stated(now) + " + 15 min.)")
	}
	return nil
}

// checkScope rejects a signature for another day or service. A loopback host does not imply a region, so every
// well-formed region is accepted.
func (sig *signature) checkScope(api string) *apiError {
	switch {
	case sig.date != sig.stamp[:len(amzDate)]:
		return mismatch("Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '" + sig.date + "' != '" + sig.stamp[:len(amzDate)] + "', from '" + sig.stamp + "'.")
	case sig.api != api:
		return mismatch("Credential should be scoped to correct service: '" + api + "'. ")
	case !wellFormedRegion(sig.region):
		return mismatch("Credential should be scoped to a valid region. ")
	}
	return nil
}

func wellFormedRegion(region string) bool {
	notAllowed := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-'
	}
	// The SDKs sign for a region even if the profile says aws-global.
	return strings.Contains(region, "-") && !strings.ContainsFunc(region, notAllowed) && region != "aws-global"
}

// checkHeaders rejects a signature that does not cover headers which an attacker could change.
func (sig *signature) checkHeaders(r *http.Request) *apiError {
	if !slices.Contains(sig.headers, "host") {
		return mismatch("'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.")
	}
	for name := range r.Header {
		lower := strings.ToLower(name)
		if strings.HasPrefix(lower, "x-amz-") && !slices.Contains(sig.headers, lower) {
			return mismatch("'" + name + "' must be a 'SignedHeader' in the AWS Authorization.")
		}
	}
	if r.Header.Get("X-Amz-Date") == "" && !sig.presigned && !slices.Contains(sig.headers, "date") {
		return mismatch("'Date' must be a 'SignedHeader' in the AWS Authorization.")
	}
	return nil
}

// verify compares the signature with the one that the secret gives for this request and body.
func (sig *signature) verify(r *http.Request, body []byte, secret string) *apiError {
	payload := hexHash(body)
	if stated := r.Header.Get("X-Amz-Content-Sha256"); stated != "" && stated != payload {
		return mismatch("The provided 'x-amz-content-sha256' header does not match what was computed.")
	}
	scope := sig.date + "/" + sig.region + "/" + sig.api + "/aws4_request"
	toSign := strings.Join(
		[]string{signingAlgorithm, sig.stamp, scope, hexHash([]byte(sig.canonicalRequest(r, payload)))},
		"\n",
	)

	key := []byte("AWS4" + secret)
	for _, part := range []string{sig.date, sig.region, sig.api, "aws4_request"} {
		key = hmacSHA256(key, part)
	}
	given, err := hex.DecodeString(sig.hex)
	if err != nil || !hmac.Equal(given, hmacSHA256(key, toSign)) {
		return errSignature
	}
	return nil
}

// canonicalRequest returns the form of the request that both sides hash.
func (sig *signature) canonicalRequest(r *http.Request, payload string) string {
	var b strings.Builder
	b.WriteString(r.Method + "\n")
	b.WriteString(canonicalPath(r.URL.EscapedPath()) + "\n")
	query := r.URL.Query()
	if sig.presigned {
		query.Del("X-Amz-Signature")
	}
	b.WriteString(canonicalQuery(query) + "\n")
	names := slices.Clone(sig.headers)
	slices.Sort(names)
	for _, name := range names {
		b.WriteString(name + ":" + canonicalHeader(r, name) + "\n")
	}
	b.WriteString("\n" + strings.Join(names, ";") + "\n" + payload)
	return b.String()
}

// canonicalHeader returns the value of a signed header with folded spaces. Go's server removes Host and
// Content-Length from the header map.
func canonicalHeader(r *http.Request, name string) string {
	switch name {
	case "host":
		return r.Host
	case "content-length":
		return strconv.FormatInt(r.ContentLength, 10)
	}
	values := slices.Clone(r.Header.Values(name))
	for i, value := range values {
		values[i] = strings.Join(strings.Fields(value), " ")
	}
	return strings.Join(values, ",")
}

// canonicalPath escapes the escaped path again, as every service except S3 requires.
func canonicalPath(escaped string) string {
	if escaped == "" {
		return "/"
	}
	segments := strings.Split(escaped, "/")
	for i, segment := range segments {
		segments[i] = awsEscape(segment)
	}
	return strings.Join(segments, "/")
}

// canonicalQuery sorts by the escaped name and then by value: "domain" is before "domain-owner".
func canonicalQuery(query url.Values) string {
	var pairs [][2]string
	for name, values := range query {
		for _, value := range values {
			pairs = append(pairs, [2]string{awsEscape(name), awsEscape(value)})
		}
	}
	slices.SortFunc(pairs, func(a, b [2]string) int { return slices.Compare(a[:], b[:]) })
	var fields []string
	for _, pair := range pairs {
		fields = append(fields, pair[0]+"="+pair[1])
	}
	return strings.Join(fields, "&")
}

// awsEscape is RFC 3986 escaping; url.QueryEscape differs from it only for spaces.
func awsEscape(s string) string {
	return strings.ReplaceAll(url.QueryEscape(s), "+", "%20")
}

func hexHash(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func hmacSHA256(key []byte, text string) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(text))
	return mac.Sum(nil)
}
