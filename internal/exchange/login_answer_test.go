//go:build unix

package exchange

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"broker/internal/fault"
	"broker/internal/secret"
	"broker/internal/session"
)

// TestFieldsOfLogins: each field of each answer is checked, and the value of a bad field is not shown.
func TestFieldsOfLogins(t *testing.T) {
	calls := loginCalls(t)
	set := func(good, name string, value any) string {
		var fields map[string]any
		if err := json.Unmarshal([]byte(good), &fields); err != nil {
			t.Fatal(err)
		}
		at := fields
		path := strings.Split(name, ".")
		for _, step := range path[:len(path)-1] {
			switch next := at[step].(type) {
			case map[string]any:
				at = next
			case []any:
				at = next[0].(map[string]any)
			}
		}
		if _, known := at[path[len(path)-1]]; !known && value == nil {
			t.Errorf("there is no %s in %s", name, good)
		}
		at[path[len(path)-1]] = value
		if value == nil {
			delete(at, path[len(path)-1])
		}
		text, err := json.Marshal(fields)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	long := strings.Repeat("a", maxToken+1)
	ago, later := time.Now().Add(-time.Minute), time.Now().Add(1000*24*time.Hour)
	for _, tt := range []struct {
		call, field string
		bad         []any
	}{
		{"RegisterClient", "clientId", []any{nil, "", "a b", "a\r\nb", long}},
		{"RegisterClient", "clientSecret", []any{nil, "", "a b", "\x1b", long}},
		{"RegisterClient", "clientSecretExpiresAt", []any{nil, 0, -1, ago.Unix(), later.Unix(), time.Now().Add(time.Hour).UnixMilli()}},
		{"StartDeviceAuthorization", "deviceCode", []any{nil, "", "a b", long}},
		{"StartDeviceAuthorization", "userCode", []any{nil, "", "MNPQ RSTV", "\x1b[2J", "é", strings.Repeat("A", maxUserCode+1)}},
		{"StartDeviceAuthorization", "verificationUriComplete", []any{nil, "", "javascript:alert(1)", "http://my-sso.awsapps.com/",
			"https://user:word@my-sso.awsapps.com/", "file:///etc/passwd", "https:///x", "https://a.example/\x1b[2J",
			"https://a.example/ -x", "--new-window", "https://a.example/" + strings.Repeat("a", maxLoginURL)}},
		{"StartDeviceAuthorization", "expiresIn", []any{nil, 0, -1, 86401}},
		{"StartDeviceAuthorization", "interval", []any{-1, 301}},
		{"CreateToken code", "accessToken", []any{nil, "", "a b", "a\r\nx-header: b", long}},
		{"CreateToken code", "refreshToken", []any{"a b", "\n", long}},
		{"CreateToken code", "tokenType", []any{nil, "", "mac"}},
		{"CreateToken code", "expiresIn", []any{nil, 0, -3600, 91 * 24 * 3600}},
		{"ListAccounts", "accountList.accountId", []any{nil, "", "44445555666", "44445555666a", "444455556666\n"}},
		{"ListAccounts", "accountList.accountName", []any{strings.Repeat("a", maxAccountName+1)}},
		{"ListAccountRoles", "roleList.accountId", []any{nil, "", "111122223333"}},
		{"ListAccountRoles", "roleList.roleName", []any{nil, "", "a b", "a/b", "\x1b", strings.Repeat("a", 65)}},
		{"GetRoleCredentials", "roleCredentials", []any{nil}},
		{"GetRoleCredentials", "roleCredentials.accessKeyId", []any{nil, "", "ASIA 2BCDEFGHIJKLMNOP", "short"}},
		{"GetRoleCredentials", "roleCredentials.secretAccessKey", []any{nil, "", "a b", strings.Repeat("a", maxSecret+1)}},
		{"GetRoleCredentials", "roleCredentials.sessionToken", []any{nil, "", "a b", long}},
		{"GetRoleCredentials", "roleCredentials.expiration", []any{nil, 0, -1, ago.UnixMilli(), time.Now().Add(time.Hour).Unix(),
			time.Now().Add(13 * time.Hour).UnixMilli()}},
		{"CreateOAuth2Token code", "accessToken", []any{nil}},
		{"CreateOAuth2Token code", "accessToken.accessKeyId", []any{nil, "", "a b"}},
		{"CreateOAuth2Token code", "accessToken.secretAccessKey", []any{nil, "", "a b"}},
		{"CreateOAuth2Token code", "accessToken.sessionToken", []any{nil, "", "a b", long}},
		{"CreateOAuth2Token code", "expiresIn", []any{nil, 0, -1, 3600}},
		{"CreateOAuth2Token code", "refreshToken", []any{nil, "", "a b", long}},
		{"CreateOAuth2Token code", "tokenType", []any{nil, "Bearer"}},
		{"CreateOAuth2Token code", "idToken", []any{nil, "", "a.b", "a.!.c", idToken("paul"), idToken("arn:aws:iam::1:user/paul"),
			idToken("arn:aws-cn:iam::111122223333:user/paul"), idToken("arn:aws:iam::111122223333:role/admin"), long}},
		{"CreateOAuth2Token refresh", "refreshToken", []any{nil, ""}},
	} {
		call := calls[tt.call]
		_, c := saying(t, 200, call.good)
		if err := call.make(background(t), c, ireland); err != nil {
			t.Errorf("%s: the good answer fails: %v", tt.call, err)
		}
		for _, bad := range tt.bad {
			if bad == nil && (tt.field == "refreshToken" && strings.HasPrefix(tt.call, "CreateToken")) {
				continue
			}
			f, c := saying(t, 200, set(call.good, tt.field, bad))
			err := call.make(background(t), c, ireland)
			if kindOf(err) != fault.BadAnswer || f.count() != 1 {
				t.Errorf("%s: %s is %.60v: %v", tt.call, tt.field, bad, err)
				continue
			}
			wantNoLoginSecret(t, err)
		}
	}
}

// TestLogins: what a caller gets, and what is sent.
func TestLogins(t *testing.T) {
	var body map[string]any
	var got *http.Request
	answer := ""
	f := serve(t, nil)
	f.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sent, _ := io.ReadAll(r.Body)
		body, got = nil, r
		_ = json.Unmarshal(sent, &body)
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, answer)
	})
	c, ctx := client(f), background(t)
	sent := func(want map[string]any) {
		t.Helper()
		if !reflect.DeepEqual(body, want) {
			t.Errorf("%s is sent %v, want %v", got.URL.Path, body, want)
		}
	}

	answer = goodRegistration()
	for _, device := range []bool{false, true} {
		reg, err := c.RegisterClient(ctx, ireland, startURL, []string{"sso:account:access"}, device)
		if err != nil || reg.ID != "QeXuPlEcLiEnT" || reg.Secret.Reveal() != answerSecret || !reg.Expires.After(time.Now()) {
			t.Error(reg, err)
		}
		want := map[string]any{"clientName": "broker", "clientType": "public", "scopes": []any{"sso:account:access"},
			"grantTypes": []any{"urn:ietf:params:oauth:grant-type:device_code", "refresh_token"}}
		if !device {
			want["grantTypes"] = []any{"authorization_code", "refresh_token"}
			want["redirectUris"], want["issuerUrl"] = []any{"http://127.0.0.1/oauth/callback"}, startURL
		}
		sent(want)
	}

	answer = goodDevice
	device, err := c.StartDevice(ctx, ireland, aRegistration(), startURL)
	if err != nil || device.UserCode != "MNPQ-RSTV" || device.DeviceCode.Reveal() != answerToken || device.Interval != time.Second ||
		device.URL != "https://my-sso.awsapps.com/start/#/device?user_code=MNPQ-RSTV" ||
		time.Until(device.Expires).Round(10*time.Second) != 10*time.Minute {
		t.Error(device, err)
	}
	sent(map[string]any{"clientId": "QeXuPlEcLiEnT", "clientSecret": clientSecret, "startUrl": startURL})
	answer = strings.Replace(goodDevice, `"interval":1`, `"x":1`, 1)
	device, err = c.StartDevice(ctx, ireland, aRegistration(), startURL)
	if err != nil || device.Interval != 5*time.Second {
		t.Error(device.Interval, err)
	}

	answer = `{"accessToken":"A","expiresIn":3600,"tokenType":"bearer","refreshToken":"R"}`
	who := map[string]any{"clientId": "QeXuPlEcLiEnT", "clientSecret": clientSecret}
	with := func(more map[string]any) map[string]any {
		for k, v := range who {
			more[k] = v
		}
		return more
	}
	for _, tt := range []struct {
		grant TokenGrant
		want  map[string]any
	}{
		{codeGrant(), with(map[string]any{"grantType": "authorization_code", "code": pageCode, "codeVerifier": verifierText,
			"redirectUri": aLoopback})},
		{deviceGrant(), with(map[string]any{"grantType": "urn:ietf:params:oauth:grant-type:device_code", "deviceCode": deviceText})},
		{refreshGrant(), with(map[string]any{"grantType": "refresh_token", "refreshToken": refreshText})},
	} {
		token, err := c.CreateToken(ctx, ireland, aRegistration(), tt.grant)
		if err != nil || token.Access.Reveal() != "A" || token.Refresh.Reveal() != "R" ||
			token.Expires.Sub(token.Issued) != time.Hour {
			t.Error(token, err)
		}
		sent(tt.want)
	}
	answer = `{"accessToken":"A","expiresIn":28800,"tokenType":"Bearer"}`
	if token, err := c.CreateToken(ctx, ireland, aRegistration(), deviceGrant()); err != nil || !token.Refresh.IsZero() {
		t.Error(token, err)
	}

	answer = goodRole(time.Hour)
	creds, err := c.Assume(ctx, session.Credentials{SessionToken: secret.New(accessText)}, roleCall())
	if err != nil || creds.AccessKeyID != "ASIA2BCDEFGHIJKLMNOP" || creds.SecretAccessKey.Reveal() != answerSecret ||
		creds.SessionToken.Reveal() != answerToken || time.Until(creds.Expires).Round(time.Minute) != time.Hour ||
		creds.Subject != "" {
		t.Error(creds, err)
	}
	if got.Method != http.MethodGet || got.URL.RawQuery != "account_id=444455556666&role_name=Admin" ||
		got.Header.Get("x-amz-sso_bearer_token") != accessText {
		t.Errorf("%s %s", got.Method, got.URL)
	}

	key := p256(t)
	answer = goodConsole(idToken("arn:aws:sts::111122223333:assumed-role/admin/paul"))
	console, err := c.CreateConsoleToken(ctx, ireland, key, ConsoleSameDevice, codeGrant())
	if err != nil || console.Refresh.Reveal() != "new" ||
		console.Credentials.Subject != "arn:aws:sts::111122223333:assumed-role/admin/paul" ||
		console.Credentials.Expires.Sub(console.Credentials.Issued) != 15*time.Minute {
		t.Error(console, err)
	}
	sent(map[string]any{"clientId": ConsoleSameDevice, "grantType": "authorization_code", "code": pageCode,
		"codeVerifier": verifierText, "redirectUri": aLoopback})
	checkProof(t, got, "http://"+got.Host+"/v1/token", key, time.Now())
	answer = goodConsole("whatever")
	console, err = c.CreateConsoleToken(ctx, ireland, key, ConsoleSameDevice, refreshGrant())
	if err != nil || console.Credentials.Subject != "" {
		t.Error(console, err)
	}
	sent(map[string]any{"clientId": ConsoleSameDevice, "grantType": "refresh_token", "refreshToken": refreshText})
}

// checkProof checks a DPoP proof with nothing of the package, and returns its jti.
func checkProof(t *testing.T, r *http.Request, to string, key *ecdsa.PrivateKey, now time.Time) string {
	t.Helper()
	parts := strings.Split(r.Header.Get("DPoP"), ".")
	if len(parts) != 3 {
		t.Fatalf("no proof: %q", r.Header.Get("DPoP"))
	}
	var head struct {
		Typ, Alg string
		JWK      struct{ Kty, Crv, X, Y, D string }
	}
	var claims struct {
		HTM, HTU, JTI string
		IAT           int64
	}
	var raw [3][]byte
	for i, part := range parts {
		var err error
		if raw[i], err = base64.RawURLEncoding.Strict().DecodeString(part); err != nil {
			t.Fatal(err)
		}
	}
	if json.Unmarshal(raw[0], &head) != nil || json.Unmarshal(raw[1], &claims) != nil {
		t.Fatalf("the proof is %s %s", raw[0], raw[1])
	}
	x, _ := base64.RawURLEncoding.DecodeString(head.JWK.X)
	y, _ := base64.RawURLEncoding.DecodeString(head.JWK.Y)
	if head.Typ != "dpop+jwt" || head.Alg != "ES256" || head.JWK.Kty != "EC" || head.JWK.Crv != "P-256" || head.JWK.D != "" ||
		len(x) != 32 || len(y) != 32 || len(raw[2]) != 64 {
		t.Fatalf("%+v, coordinates of %d and %d bytes, signature of %d bytes", head, len(x), len(y), len(raw[2]))
	}
	public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), append(append([]byte{4}, x...), y...))
	if err != nil || !public.Equal(key.Public()) {
		t.Errorf("the proof has another key: %v", err)
	}
	hash := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	if !ecdsa.Verify(public, hash[:], new(big.Int).SetBytes(raw[2][:32]), new(big.Int).SetBytes(raw[2][32:])) {
		t.Error("the signature of the proof is wrong")
	}
	if claims.HTM != http.MethodPost || claims.HTU != to || len(claims.JTI) < 20 ||
		time.Unix(claims.IAT, 0).Sub(now).Abs() > 10*time.Second {
		t.Errorf("the proof says %+v, want %s at %d", claims, to, now.Unix())
	}
	return claims.JTI
}

// TestProofs: a coordinate or half of a signature that begins with a zero byte has 32 bytes, too. Each proof is for
// one attempt, and has the time of AWS.
func TestProofs(t *testing.T) {
	to, _ := url.Parse("https://eu-west-1.signin.aws.amazon.com/v1/token?x=1")
	short := false
	for range 5000 {
		key := p256(t)
		point, err := key.PublicKey.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		if point[1] == 0 || point[33] == 0 {
			short = true
			for range 300 { // one signature in 128 has a half that begins with a zero byte
				proof, err := proofOf(key, http.MethodPost, to, time.Now())
				if err != nil {
					t.Fatal(err)
				}
				r := &http.Request{Header: http.Header{"Dpop": {proof}}}
				checkProof(t, r, "https://eu-west-1.signin.aws.amazon.com/v1/token", key, time.Now())
			}
			break
		}
	}
	if !short {
		t.Error("no key with a short coordinate: the test proves nothing")
	}

	key, seen := p256(t), map[string]bool{}
	f := serve(t, nil)
	off := 2 * time.Hour
	f.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen[checkProof(t, r, "http://"+r.Host+"/v1/token", key, time.Now().Add(off))] = true
		w.Header().Set("Date", time.Now().Add(off).UTC().Format(http.TimeFormat))
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	c := New(Options{STSEndpoint: f.URL, Timeout: patience, Offset: off})
	_, err := c.CreateConsoleToken(background(t), ireland, key, ConsoleSameDevice, refreshGrant())
	if err == nil || len(seen) != maxAttempts {
		t.Errorf("%v, %d different proofs", err, len(seen))
	}

	other, err := ecdsa.GenerateKey(elliptic.P384(), nil)
	if err == nil {
		_, err = c.CreateConsoleToken(background(t), ireland, other, ConsoleSameDevice, refreshGrant())
	}
	wantFault(t, err, fault.Internal, "P-256")
	_, err = c.CreateConsoleToken(background(t), ireland, nil, ConsoleSameDevice, refreshGrant())
	wantFault(t, err, fault.Internal, "P-256")
}

// TestClockOfLogins: the times of an answer are those of AWS, whatever this machine thinks.
func TestClockOfLogins(t *testing.T) {
	for _, off := range []time.Duration{-48 * time.Hour, 48 * time.Hour} {
		body := ""
		f := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Date", time.Now().Add(off).UTC().Format(http.TimeFormat))
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, body)
		})
		c := client(f)
		near := func(what string, got time.Time, want time.Duration) {
			t.Helper()
			if d := time.Until(got) - off - want; d.Abs() > time.Minute {
				t.Errorf("off by %s: %s is wrong by %s", off, what, d)
			}
		}
		body = `{"accessToken":"A","expiresIn":3600,"tokenType":"Bearer"}`
		token, err := c.CreateToken(background(t), ireland, aRegistration(), refreshGrant())
		if err != nil {
			t.Fatal(err)
		}
		near("Issued", token.Issued, 0)
		near("Expires", token.Expires, time.Hour)
		body = goodDevice
		device, err := c.StartDevice(background(t), ireland, aRegistration(), startURL)
		if err != nil {
			t.Fatal(err)
		}
		near("the end of the login", device.Expires, 10*time.Minute)
		body = goodConsole("")
		console, err := c.CreateConsoleToken(background(t), ireland, p256(t), ConsoleSameDevice, refreshGrant())
		if err != nil {
			t.Fatal(err)
		}
		near("the end of the credentials", console.Credentials.Expires, 15*time.Minute)
		body = goodRole(off + time.Hour)
		with := session.Credentials{SessionToken: secret.New(accessText)}
		if _, err := c.Assume(background(t), with, roleCall()); err != nil {
			t.Errorf("off by %s: %v", off, err)
		}
		body = goodRole(off - time.Second)
		_, err = c.Assume(background(t), with, roleCall())
		wantFault(t, err, fault.BadAnswer, "expired before they arrived")
	}
}

// TestPagesOfPortal: lists come page by page, at most 100 entries at a time, and end.
func TestPagesOfPortal(t *testing.T) {
	pages := 3
	f := serve(t, nil)
	asked := 0
	f.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		q := r.URL.Query()
		if q.Get("max_result") != "100" {
			t.Errorf("max_result is %s", q.Get("max_result"))
		}
		var n int
		_, _ = fmt.Sscan(q.Get("next_token"), &n)
		next := ""
		if n+1 < pages {
			next = fmt.Sprint(n + 1)
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"accountList":[{"accountId":"%012d"}],"roleList":[{"accountId":"444455556666","roleName":"r%d"}],"nextToken":%q}`, n, n, next)
	})
	c := client(f)
	accounts, err := c.AssignedAccounts(background(t), ireland, secret.New(accessText))
	if err != nil || len(accounts) != 3 || accounts[2].ID != "000000000002" {
		t.Error(accounts, err)
	}
	roles, err := c.AssignedRoles(background(t), ireland, secret.New(accessText), "444455556666")
	if err != nil || strings.Join(roles, " ") != "r0 r1 r2" {
		t.Error(roles, err)
	}
	pages, asked = 1000, 0
	_, err = c.AssignedAccounts(background(t), ireland, secret.New(accessText))
	wantFault(t, err, fault.BadAnswer, "endless list")
	if asked != maxPages {
		t.Errorf("%d pages were read", asked)
	}
	_, err = c.AssignedRoles(background(t), ireland, secret.New(accessText), "44445555666/")
	wantFault(t, err, fault.Config, "twelve digits")
}

// TestNoParameterIsDropped: a call of a source has no parameter that AWS is not sent. A policy that is left out would
// widen a session. A field that is added to session.Call must be sent, refused or listed here.
func TestNoParameterIsDropped(t *testing.T) {
	full := session.Call{Duration: time.Hour, MFASerial: aSerial, RoleARN: aRole, SessionName: "paul", ExternalID: "ex",
		Policy: `{"Version":"2012-10-17"}`, PolicyARN: "arn:aws:iam::aws:policy/ReadOnlyAccess", Tags: []session.Tag{{Key: "k", Value: "v"}},
		TransitiveTags: []string{"k"}, SourceIdentity: "paul", AccountID: "444455556666", RoleName: "Admin"}
	for _, tt := range []struct {
		base   session.Call
		sent   string // the fields that the request must have
		unsent string // harmless ones: names for people, a life that AWS decides, parts of the other call
	}{
		{roleCall(), "AccountID RoleName", "Duration RoleARN SessionName"},
		{webCall(), "RoleARN SessionName Duration Policy PolicyARN", "AccountID RoleName"},
	} {
		from := reflect.ValueOf(full)
		for i := range from.NumField() {
			name := from.Type().Field(i).Name
			if name == "Operation" || name == "Endpoint" {
				continue
			}
			if from.Field(i).IsZero() {
				t.Errorf("this test sets no %s", name)
			}
			call := tt.base
			reflect.ValueOf(&call).Elem().Field(i).Set(from.Field(i))
			request := ""
			f := serve(t, nil)
			f.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				request = r.URL.String() + " " + string(body)
				w.WriteHeader(http.StatusNotFound)
			})
			_, err := client(f).Assume(background(t), session.Credentials{SessionToken: secret.New(webToken)}, call)
			value := fmt.Sprint(from.Field(i))
			if name == "Duration" {
				value = "3600"
			}
			switch is := func(list string) bool { return strings.Contains(" "+list+" ", " "+name+" ") }; {
			case is(tt.sent):
				if !strings.Contains(request, url.QueryEscape(value)) {
					t.Errorf("%s: %s is not sent: %s", call.Operation, name, request)
				}
			case is(tt.unsent):
			default:
				wantFault(t, err, fault.Internal, "parameter")
				if request != "" {
					t.Errorf("%s with %s is sent", call.Operation, name)
				}
			}
		}
	}
}

// TestInvalidCallsAreNotSent: each call checks its parameters first.
func TestInvalidCallsAreNotSent(t *testing.T) {
	f, c := saying(t, 200, "{}")
	ctx, token := background(t), session.Credentials{SessionToken: secret.New(accessText)}
	role := func(account, name string) func() error {
		return func() error {
			call := roleCall()
			call.AccountID, call.RoleName = account, name
			_, err := c.Assume(ctx, token, call)
			return err
		}
	}
	web := func(token string, call session.Call) func() error {
		return func() error {
			_, err := c.Assume(ctx, session.Credentials{SessionToken: secret.New(token)}, call)
			return err
		}
	}
	grant := func(g TokenGrant) func() error {
		return func() error {
			_, err := c.CreateToken(ctx, ireland, aRegistration(), g)
			return err
		}
	}
	console := func(g TokenGrant) func() error {
		return func() error {
			_, err := c.CreateConsoleToken(ctx, ireland, p256(t), ConsoleSameDevice, g)
			return err
		}
	}
	page := func(redirect string) func() error {
		return func() error {
			_, err := c.AuthorizeURL(ireland, aRegistration(), redirect, "s", "c", nil)
			return err
		}
	}
	both := codeGrant()
	both.Refresh = secret.New(refreshText)
	bare := codeGrant()
	bare.Verifier = secret.String{}
	noName, noRole := webCall(), webCall()
	noName.SessionName, noRole.RoleARN = "", "x"
	for name, tt := range map[string]struct {
		call func() error
		kind fault.Kind
	}{
		"an account with a slash":       {role("44445555666/", "Admin"), fault.Config},
		"a role with a query":           {role("444455556666", "Admin&account_id=1"), fault.Config},
		"no role":                       {role("444455556666", ""), fault.Config},
		"no access token":               {web("", roleCall()), fault.Internal},
		"no web identity token":         {web("", webCall()), fault.Internal},
		"a token with a line end":       {web("a\nb", webCall()), fault.Config},
		"a token without end":           {web(strings.Repeat("a", session.LongestWebIdentity+1), webCall()), fault.Config},
		"no session name":               {web(webToken, noName), fault.Internal},
		"not a role":                    {web(webToken, noRole), fault.Config},
		"GetSessionToken":               {web(webToken, openSession()), fault.Internal},
		"no grant":                      {grant(TokenGrant{}), fault.Internal},
		"two grants":                    {grant(both), fault.Internal},
		"no verifier":                   {grant(bare), fault.Internal},
		"a device at the console":       {console(deviceGrant()), fault.Internal},
		"no grant at the console":       {console(TokenGrant{}), fault.Internal},
		"a redirect to another machine": {page("http://evil.example/oauth/callback"), fault.Internal},
		"a redirect to a user":          {page("http://127.0.0.1:1@evil.example:1/oauth/callback"), fault.Internal},
		"a redirect to another path":    {page("http://127.0.0.1:1/other"), fault.Internal},
		"a redirect without a port":     {page("http://127.0.0.1:/oauth/callback"), fault.Internal},
		"a redirect over TLS":           {page("https://127.0.0.1:1/oauth/callback"), fault.Internal},
		"a redirect with more":          {page("http://127.0.0.1:1/x/oauth/callback"), fault.Internal},
		"the console to another machine": {func() error {
			_, err := c.ConsoleAuthorizeURL(ireland, ConsoleCrossDevice, "https://evil.example/v1/sessions/confirmation", "s", "c")
			return err
		}, fault.Internal},
	} {
		err := tt.call()
		if kindOf(err) != tt.kind {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil {
			wantNoLoginSecret(t, err)
		}
	}
	if f.count() != 0 {
		t.Error("something was sent")
	}
}

// TestPagesToLogIn: the query of the pages. The sign-in service has its own name for S256.
func TestPagesToLogIn(t *testing.T) {
	c := New(Options{})
	query := func(page string, err error) url.Values {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		u, err := url.Parse(page)
		if err != nil {
			t.Fatal(err)
		}
		return u.Query()
	}
	got := query(c.AuthorizeURL(ireland, aRegistration(), aLoopback, "s&t", "ch", []string{"sso:account:access", "x"}))
	want := url.Values{"response_type": {"code"}, "client_id": {"QeXuPlEcLiEnT"}, "redirect_uri": {aLoopback}, "state": {"s&t"},
		"code_challenge": {"ch"}, "code_challenge_method": {"S256"}, "scopes": {"sso:account:access,x"}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	redirect, err := c.ConsoleRedirect(ireland)
	if err != nil {
		t.Fatal(err)
	}
	got = query(c.ConsoleAuthorizeURL(ireland, ConsoleCrossDevice, redirect, "s", "ch"))
	want = url.Values{"response_type": {"code"}, "client_id": {ConsoleCrossDevice}, "redirect_uri": {redirect}, "state": {"s"},
		"code_challenge": {"ch"}, "code_challenge_method": {"SHA-256"}, "scope": {"openid"}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestSubjectOf(t *testing.T) {
	for arn, want := range map[string]bool{
		"arn:aws:iam::111122223333:user/paul":                 true,
		"arn:aws:iam::111122223333:user/team/paul":            true,
		"arn:aws:iam::111122223333:root":                      true,
		"arn:aws-cn:sts::111122223333:assumed-role/a/b":       true,
		"arn:aws:sts::111122223333:federated-user/paul":       true,
		"arn:aws:iam::111122223333:rootkit":                   false,
		"arn:aws:iam::111122223333:user/":                     false,
		"arn:aws:iam::11112222333:user/paul":                  false,
		"arn:aws:iam:eu-west-1:111122223333:user/paul":        false,
		"arn:evil:iam::111122223333:user/paul":                false,
		`arn:aws:iam::111122223333:user/p\u001b[2J`:           false,
		"arn:aws:iam::111122223333:user/paul:x":               false,
		"arn:aws:iam::111122223333:user/" + manyLetters(2048): false,
	} {
		if got, ok := subjectOf(idToken(arn)); ok != want || ok && got != arn {
			t.Errorf("%.60s: %s %t", arn, got, ok)
		}
	}
}

func manyLetters(n int) string { return strings.Repeat("a", n) }

// TestWebIdentity: the call is not signed, and says whose role it is.
func TestWebIdentity(t *testing.T) {
	answers := map[string]struct {
		status int
		body   string
		kind   fault.Kind
		text   string
	}{
		"good":           {200, webAnswer("arn:aws:sts::444455556666:assumed-role/admin/paul"), "", ""},
		"another role":   {200, webAnswer("arn:aws:sts::444455556666:assumed-role/other/paul"), fault.BadAnswer, "STS answered for"},
		"expired":        {400, refusal("ExpiredTokenException", "late"), fault.ExpiredSession, "has expired: late"},
		"not accepted":   {400, refusal("InvalidIdentityToken", "no"), fault.Denied, "does not accept the web identity token: no"},
		"rejected":       {403, refusal("IDPRejectedClaim", "no"), fault.Denied, "does not accept the web identity token: no"},
		"no access":      {403, refusal("AccessDenied", "Not authorized"), fault.Denied, "AWS denied it: Not authorized"},
		"no provider":    {400, refusal("IDPCommunicationError", "x"), fault.Network, "cannot reach the identity provider"},
		"a long session": {400, refusal("ValidationError", "The requested DurationSeconds exceeds the MaxSessionDuration"), fault.Failed, ""},
		"a page":         {200, "<html>", fault.BadAnswer, "a web page"},
	}
	for name, tt := range answers {
		var heads http.Header
		f := serve(t, func(w http.ResponseWriter, r *http.Request) {
			heads = r.Header
			w.WriteHeader(tt.status)
			_, _ = io.WriteString(w, tt.body)
		})
		got, err := client(f).Assume(background(t), session.Credentials{SessionToken: secret.New(webToken)}, webCall())
		if kindOf(err) != tt.kind || err != nil && !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil {
			wantNoLoginSecret(t, err)
		} else if got.Subject != "arn:aws:sts::444455556666:assumed-role/admin/paul" || got.SessionToken.Reveal() != answerToken {
			t.Errorf("%+v", got)
		}
		if heads.Get("Authorization") != "" || heads.Get("X-Amz-Security-Token") != "" {
			t.Errorf("%s: the call is signed", name)
		}
		if want := map[bool]int{true: maxAttempts, false: 1}[tt.kind == fault.Network]; f.count() != want {
			t.Errorf("%s: %d requests, want %d", name, f.count(), want)
		}
	}
}

func webAnswer(arn string) string {
	return strings.ReplaceAll(answer{arn: arn}.xml(session.AssumeRole), "AssumeRoleRes", "AssumeRoleWithWebIdentityRes")
}
