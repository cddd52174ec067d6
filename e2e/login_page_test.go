package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// shownText matches the text that the page of a console login shows on another device.
var shownText = regexp.MustCompile(`id="done">([^<]+)<`)

// confirmed opens the page of a console login as a person does on another device, and returns the text that it shows.
func confirmed(page string) (string, error) {
	resp, err := (&http.Client{Timeout: patience}).Get(page)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", err
	}
	text := shownText.FindSubmatch(body)
	if text == nil {
		return "", fmt.Errorf("the page answers %d and shows no text", resp.StatusCode)
	}
	return html.UnescapeString(string(text[1])), nil
}

// awsLogin does what `aws login` does with the sign-in service at base, whose pages ask nothing, and writes its file
// into the directory. It returns the ARN of the person.
func awsLogin(base, dir string) (string, error) {
	const client, redirect = "arn:aws:signin:::devtools/same-device", "http://127.0.0.1:1/oauth/callback"
	encode := base64.RawURLEncoding.EncodeToString
	verifier := strings.Repeat("v", 64)
	challenge := sha256.Sum256([]byte(verifier))
	browser := &http.Client{Timeout: patience,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := browser.Get(base + "/v1/authorize?" + url.Values{"response_type": {"code"}, "client_id": {client},
		"state": {"stated"}, "code_challenge_method": {"SHA-256"}, "scope": {"openid"}, "redirect_uri": {redirect},
		"code_challenge": {encode(challenge[:])}}.Encode())
	if err != nil {
		return "", err
	}
	_ = resp.Body.Close()
	back, err := resp.Location()
	if err != nil {
		return "", fmt.Errorf("the page answers %d", resp.StatusCode)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", err
	}
	part := func(v any) string {
		text, _ := json.Marshal(v)
		return encode(text)
	}
	point, err := key.PublicKey.Bytes() // 4, X, Y
	if err != nil {
		return "", err
	}
	signed := part(map[string]any{"typ": "dpop+jwt", "alg": "ES256", "jwk": map[string]string{"kty": "EC", "crv": "P-256",
		"x": encode(point[1:33]), "y": encode(point[33:])}}) + "." +
		part(map[string]any{"htm": "POST", "htu": base + "/v1/token", "iat": time.Now().Unix(), "jti": rand.Text()})
	sum := sha256.Sum256([]byte(signed))
	r, s, err := ecdsa.Sign(rand.Reader, key, sum[:])
	if err != nil {
		return "", err
	}
	signature := append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	ask, _ := json.Marshal(map[string]string{"clientId": client, "grantType": "authorization_code",
		"code": back.Query().Get("code"), "codeVerifier": verifier, "redirectUri": redirect})
	req, err := http.NewRequest("POST", base+"/v1/token", strings.NewReader(string(ask)))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("DPoP", signed+"."+encode(signature))
	if resp, err = browser.Do(req); err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	var token struct {
		AccessToken  map[string]string `json:"accessToken"`
		RefreshToken string            `json:"refreshToken"`
		IDToken      string            `json:"idToken"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&token); err != nil || resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("the token answers %d: %w", resp.StatusCode, err)
	}
	claims := struct{ Sub string }{}
	fields := strings.Split(token.IDToken, ".")
	if len(fields) != 3 {
		return "", errors.New("there is no id token")
	}
	text, err := base64.RawURLEncoding.DecodeString(fields[1])
	if err == nil {
		err = json.Unmarshal(text, &claims)
	}
	if err != nil {
		return "", err
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return "", err
	}
	token.AccessToken["accountId"] = "111122223333"
	token.AccessToken["expiresAt"] = time.Now().Add(15 * time.Minute).UTC().Format(time.RFC3339)
	file, err := json.Marshal(map[string]any{"accessToken": token.AccessToken, "tokenType": "aws_sigv4",
		"clientId": client, "refreshToken": token.RefreshToken, "idToken": token.IDToken, "signInRegion": "eu-west-1",
		"dpopKey": string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}))})
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	name := fmt.Sprintf("%x.json", sha256.Sum256([]byte(claims.Sub)))
	return claims.Sub, os.WriteFile(filepath.Join(dir, name), file, 0o600)
}

// TestRemoteLoginOnATerminal: the text of the page is pasted on a terminal, even if it is longer than a line that a
// terminal keeps. It is not shown, and typing errors can be erased.
func TestRemoteLoginOnATerminal(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	must(t, h.startSim())
	must(t, h.settings("[source paul]\nlogin_session = arn:aws:iam::111122223333:user/paul\nregion = eu-west-1\n"))
	must(t, h.sim.call("POST", "pages", `{"answer":"allow"}`, nil))
	s := h.shell(t, "broker", "login", "paul", "--remote")
	s.waits("Text from the page: ")
	page := regexp.MustCompile(`http://\S+/v1/authorize\S+`).FindString(s.shown())
	text, err := confirmed(page)
	must(t, err)
	plain, err := base64.StdEncoding.DecodeString(text)
	must(t, err)
	long := base64.StdEncoding.EncodeToString([]byte("more=" + strings.Repeat("x", 6000) + "&" + string(plain)))
	s.keys("wrong\x15" + long + "!\x7f\r")
	s.waits("paul: logged in until ")
	s.waits("Link paul, so that all AWS tools use this login? [y/N] ")
	s.types("n")
	if r := s.ends(); r.code != 0 {
		t.Errorf("ended with %v", r)
	}
	s.asItWas()
	for _, hidden := range []string{"wrong", long[:60]} {
		if strings.Contains(s.shown(), hidden) {
			t.Errorf("the terminal showed %q", hidden)
		}
	}
	h.credentials(t, "paul")
}

// TestTwoFirstLogins: two logins ask for the first passphrase of the keyring. The one that comes second uses the
// keyring of the other, and asks again if its passphrase does not open that.
func TestTwoFirstLogins(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.env = append(h.env, "BROKER_KEYRING_PASSPHRASE_FILE=")
	must(t, h.startSim())
	must(t, h.settings("[source paul]\nlogin_session = arn:aws:iam::111122223333:user/paul\nregion = eu-west-1\n"))
	var seats []*seat
	for range 2 {
		s := h.sit(t, "broker", "login", "paul", "--remote")
		s.waits("New passphrase: ")
		seats = append(seats, s)
	}
	for i, typed := range []string{passphrase, "the words of another person"} {
		seats[i].types(typed)
		seats[i].waits("The same again: ")
		seats[i].types(typed)
		if i > 0 {
			seats[i].waits("Passphrase of the keyring: ")
			seats[i].types(passphrase)
		}
		seats[i].waits("Text from the page: ")
	}
	for _, s := range seats {
		s.keys("\x03")
		if r := s.ends(); r.code != 130 {
			t.Errorf("ended with %v", r)
		}
	}
}
