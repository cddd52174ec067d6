package stssim

import (
	"encoding/base64"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// This file simulates the tokens of ECR (JSON 1.1) and of CodeArtifact (REST).
// https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_GetAuthorizationToken.html
// https://docs.aws.amazon.com/codeartifact/latest/APIReference/API_GetAuthorizationToken.html

// The services in credential scopes, and their calls in counts and faults: both are named GetAuthorizationToken.
const (
	apiECR          = "ecr"
	apiCodeArtifact = "codeartifact"

	ecrAction          = apiECR + ":GetAuthorizationToken"
	codeArtifactAction = apiCodeArtifact + ":GetAuthorizationToken"

	ecrTarget        = "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken"
	codeArtifactPath = "/v1/authorization-token"
)

// registryTokenLife is how long ECR accepts a token, and the most that CodeArtifact grants.
const registryTokenLife = 12 * time.Hour

var (
	domainName  = newAlphabet(`[a-z][a-z0-9\-]{0,48}[a-z0-9]`)
	domainOwner = newAlphabet(`[0-9]{12}`)
)

// IssuedToken is a token that the simulator issued.
type IssuedToken struct {
	Service string    `json:"service"` // ecr or codeartifact
	Token   string    `json:"token"`   // of ECR, the password
	Caller  string    `json:"caller"`  // ARN
	Region  string    `json:"region"`
	Domain  string    `json:"domain,omitempty"`
	Owner   string    `json:"owner,omitempty"` // account of the domain
	Expires time.Time `json:"expires"`
}

// Tokens returns the tokens of ECR and CodeArtifact that were issued, oldest first.
func (s *Sim) Tokens() []IssuedToken {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]IssuedToken{}, slices.Clone(s.world.tokens)...)
}

// readTokenCall reads a call of CodeArtifact, whose parameters are in the query.
func (x *exchange) readTokenCall() {
	if x.request.URL.Path != codeArtifactPath || x.request.Method != http.MethodPost {
		return
	}
	x.action, x.json = codeArtifactAction, true
}

// ecrToken is GetAuthorizationToken of ECR: the base64 of AWS:PASSWORD.
func (w *world) ecrToken(c *call) (any, *apiError) {
	if err := c.denied("*"); err != nil {
		return nil, err
	}
	password := base64.StdEncoding.EncodeToString([]byte("simulated token of ECR " + randomUUID()))
	ends := c.now.Add(registryTokenLife).Truncate(time.Second)
	w.tokens = append(w.tokens, IssuedToken{Service: apiECR, Token: password, Caller: c.caller.arn, Region: c.region,
		Expires: ends})
	type data struct {
		AuthorizationToken string  `json:"authorizationToken"`
		ExpiresAt          float64 `json:"expiresAt"`
		ProxyEndpoint      string  `json:"proxyEndpoint"`
	}
	return struct {
		AuthorizationData []data `json:"authorizationData"`
	}{[]data{{base64.StdEncoding.EncodeToString([]byte("AWS:" + password)), float64(ends.Unix()),
		"https://" + c.caller.account.ID + ".dkr.ecr." + c.region + ".amazonaws.com"}}}, nil
}

// codeArtifactToken is GetAuthorizationToken of CodeArtifact. Every domain exists.
func (w *world) codeArtifactToken(c *call) (any, *apiError) {
	var cs constraints
	if cs.required(c.params, "domain", "domain") {
		cs.text(c.get("domain"), "domain", 2, 50, domainName)
	}
	owner := c.caller.account.ID
	if c.params.Has("domain-owner") {
		owner = c.get("domain-owner")
		cs.text(owner, "domainOwner", 12, 12, domainOwner)
	}
	life := registryTokenLife
	if text := c.get("duration"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n != 0 && n < 900 || n > 43200 {
			cs.fail("'"+text+"'", "durationSeconds", "be 0 or between 900 and 43200")
		}
		life = time.Duration(n) * time.Second
	}
	if err := cs.err(); err != nil {
		return nil, err
	}
	domain := "arn:aws:codeartifact:" + c.region + ":" + owner + ":domain/" + c.get("domain")
	if err := c.denied(domain); err != nil {
		return nil, err
	}
	ends := c.now.Add(life)
	if life == 0 {
		ends = c.ends
	}
	if ends.IsZero() {
		return nil, invalid("A duration of 0 needs temporary credentials.")
	}
	token := "eyJ2ZXIiOjF9." + base64.RawURLEncoding.EncodeToString([]byte(randomUUID())) + ".simulated"
	ends = ends.Truncate(time.Second)
	w.tokens = append(w.tokens, IssuedToken{Service: apiCodeArtifact, Token: token, Caller: c.caller.arn, Region: c.region,
		Domain: c.get("domain"), Owner: owner, Expires: ends})
	return struct {
		AuthorizationToken string  `json:"authorizationToken"`
		Expiration         float64 `json:"expiration"`
	}{token, float64(ends.Unix())}, nil
}

// restFailure is a failure of a REST-JSON service, which keeps its status and names the error in a header.
func restFailure(e *apiError) answer {
	out := jsonFailure(e)
	out.status, out.errorType = e.status, e.code
	if other, ok := jsonCodes[e.code]; ok {
		out.errorType = other
	}
	return out
}
