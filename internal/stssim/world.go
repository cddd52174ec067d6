package stssim

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"
)

// keysPerUser is IAM's quota. https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html
const keysPerUser = 2

// forgetAfter is how long an ended session still gives ExpiredToken instead of InvalidClientTokenId.
const forgetAfter = time.Hour

// world is the current state of the organization. It is not safe for concurrent use: the mutex of Sim guards it.
type world struct {
	accounts map[string]*Account // by name
	listed   []*Account          // the same, in the order of the file
	users    []*user
	roles    map[string]*role       // by ARN
	devices  map[string]*device     // by serial
	keys     map[string]*credential // long-lived and temporary, by access key ID
	settings Settings
	signIns  map[string]time.Time // until when each sign-in token works
	tokens   []IssuedToken        // of ECR and CodeArtifact
	issued   int                  // sessions since the last removal of ended ones
	center   *center
	logins   *logins
}

// user is the state of an IAM user.
type user struct {
	account *Account
	name    string
	arn     string
	id      string
	deny    []string
	plain   []string // denied without MFA
	// policies are the identity policies; nil allows everything.
	policies []policy
	tags     []string // each KEY=VALUE
	created  time.Time
	keys     []*credential
}

// role is the state of an IAM role.
type role struct {
	Role
	account     *Account
	arn         string
	id          string
	created     time.Time
	maxDuration time.Duration
	// trustPolicies has one policy if the role has a TrustPolicy.
	trustPolicies []policy
	policies      []policy // the identity policies; nil allows everything
}

// credential is an access key with its secret: a long-lived key of a user, or a session.
type credential struct {
	id     string
	secret string
	owner  *principal

	// Only for long-lived keys.
	inactive  bool
	created   time.Time
	visibleAt time.Time // real time from which all of IAM knows the new key
	tries     int       // calls with the key before that time
	lastUsed  time.Time
	lastAPI   string
	lastPlace string

	// Only for sessions.
	token   string
	expires time.Time
	revoked bool
}

// kind says how a caller got its credentials: AWS permits different calls to each kind.
type kind string

const (
	userKey      kind = "user"      // a long-lived key
	userSession  kind = "session"   // GetSessionToken
	roleSession  kind = "role"      // AssumeRole
	federatedKey kind = "federated" // GetFederationToken
	loginSession kind = "login"     // CreateOAuth2Token
)

// principal is the identity behind a credential.
type principal struct {
	kind     kind
	account  *Account
	user     *user // nil for a role session
	role     *role // of a role session
	arn      string
	userID   string
	mfa      bool // aws:MultiFactorAuthPresent
	mfaAt    time.Time
	sourceID string
	// transitive are the keys of the tags that roles assumed with the session inherit, in lower case.
	transitive []string
	policies   []string // ARNs of managed session policies
	inline     []byte   // the inline session policy, JSON; nil for none
	chained    bool     // a role session that was assumed with a session
}

// temporary reports whether the caller's credentials are a session.
func (p *principal) temporary() bool { return p.kind != userKey }

// ended reports whether a session has ended; a long-lived key never does.
func (c *credential) ended(now time.Time) bool {
	return c.owner.temporary() && (c.revoked || !now.Before(c.expires))
}

func newWorld(org *Organization, now time.Time) *world {
	w := &world{
		accounts: make(map[string]*Account),
		roles:    make(map[string]*role),
		devices:  make(map[string]*device),
		keys:     make(map[string]*credential),
		signIns:  make(map[string]time.Time),
		settings: org.Settings,
		center:   newCenter(org),
		logins:   newLogins(),
	}
	for _, account := range org.Accounts {
		w.accounts[account.Name] = &account
		w.listed = append(w.listed, &account)
	}
	for _, u := range org.Users {
		w.addUser(u, now)
	}
	for _, d := range org.Devices {
		key, err := decodeSeed(d.Seed)
		if err != nil {
			panic("stssim: unchecked organization: " + err.Error())
		}
		account := w.accounts[d.Account]
		w.devices[d.Serial] = &device{
			serial:  d.Serial,
			account: account,
			user:    w.userNamed(account, d.User),
			key:     key,
			enabled: now,
			spent:   make(map[int64]bool),
		}
	}
	for _, r := range org.Roles {
		w.addRole(r, now)
	}
	for _, set := range org.PermissionSets {
		w.addPermissionSet(set, now)
	}
	return w
}

func (w *world) addUser(u User, now time.Time) {
	account := w.accounts[u.Account]
	arn := account.arn("iam", "user/"+u.Name)
	added := &user{
		account: account,
		name:    u.Name,
		arn:     arn,
		id:      stableID("AIDA", arn),
		deny:    u.Deny,
		plain:   u.DenyWithoutMFA,
		tags:    u.Tags,
		created: now,
	}
	added.policies, _ = parsePolicies(u.Policies, false) // checked
	for _, key := range u.Keys {
		w.addKey(added, key.ID, key.Secret, now).inactive = key.Inactive
	}
	w.users = append(w.users, added)
}

func (w *world) addKey(u *user, id, secret string, now time.Time) *credential {
	key := &credential{
		id:      id,
		secret:  secret,
		created: now,
		owner:   &principal{kind: userKey, account: u.account, user: u, arn: u.arn, userID: u.id},
	}
	u.keys = append(u.keys, key)
	w.keys[id] = key
	return key
}

func (w *world) addRole(r Role, now time.Time) *role {
	account := w.accounts[r.Account]
	if r.Path == "" {
		r.Path = "/"
	}
	if r.MaxSessionDuration == 0 {
		r.MaxSessionDuration = time.Hour
	}
	arn := account.arn("iam", "role"+r.Path+r.Name)
	added := &role{
		Role:        r,
		account:     account,
		arn:         arn,
		id:          stableID("AROA", arn),
		created:     now,
		maxDuration: r.MaxSessionDuration,
	}
	added.policies, _ = parsePolicies(r.Policies, false) // checked
	if r.TrustPolicy != "" {
		added.trustPolicies, _ = parsePolicies([]string{r.TrustPolicy}, true)
	}
	w.roles[arn] = added
	return added
}

// userNamed finds a user of an account, or returns nil.
func (w *world) userNamed(account *Account, name string) *user {
	for _, u := range w.users {
		if u.account == account && u.name == name {
			return u
		}
	}
	return nil
}

// open starts a session of the given length for p, requested at now.
func (w *world) open(p *principal, length time.Duration, now time.Time) *credential {
	if w.settings.SessionLifetime > 0 {
		length = w.settings.SessionLifetime
	}
	session := &credential{
		id:     randomID("ASIA"),
		secret: randomSecret(),
		token:  randomToken(),
		owner:  p,
		// AWS returns whole seconds, and the session ends exactly then.
		expires: now.Add(length).Truncate(time.Second),
	}
	w.keys[session.id] = session
	if w.issued++; w.issued >= 10_000 {
		w.issued = 0
		w.clearEnded(now)
	}
	return session
}

// clearEnded removes sessions that ended long ago, so that a simulator under load for days does not grow.
func (w *world) clearEnded(now time.Time) {
	for id, c := range w.keys {
		if c.owner.temporary() && now.After(c.expires.Add(forgetAfter)) {
			delete(w.keys, id)
		}
	}
}

// denied reports whether a deny pattern of the caller forbids the action.
func (p *principal) denied(action, resource string) bool {
	var patterns []string
	switch p.kind {
	case roleSession:
		patterns = p.role.Deny
	default:
		patterns = p.user.deny
		if !p.mfa {
			patterns = slices.Concat(patterns, p.user.plain)
		}
	}
	for _, pattern := range patterns {
		onAction, onResource, found := strings.Cut(pattern, " ")
		if !found {
			onResource = "*"
		}
		if wildcard(onAction, action) && wildcard(strings.TrimSpace(onResource), resource) {
			return true
		}
	}
	return false
}

// wildcard matches like a policy: * matches any text, including slashes.
func wildcard(pattern, text string) bool {
	// path.Match stops * at a slash, so replace the slashes.
	flat := strings.NewReplacer("/", "\x00", "[", "\x01", "\\", "\x02")
	matched, err := path.Match(flat.Replace(pattern), flat.Replace(text))
	return err == nil && matched
}

// stableID returns the unique ID that AWS gives a user or role, the same in every run.
func stableID(prefix, arn string) string {
	sum := sha256.Sum256([]byte(arn))
	return prefix + base32.StdEncoding.EncodeToString(sum[:])[:17]
}

// randomID returns an access key ID of 20 characters.
func randomID(prefix string) string {
	return prefix + base32.StdEncoding.EncodeToString(randomBytes(10))
}

// randomSecret returns a secret access key of 40 characters.
func randomSecret() string { return base64.StdEncoding.EncodeToString(randomBytes(30)) }

// randomToken returns a session token of realistic length, to test buffers and environments with it.
func randomToken() string {
	return "IQoJb3JpZ2luX2Vj" + base64.StdEncoding.EncodeToString(randomBytes(480))
}

// randomUUID returns a request ID.
func randomUUID() string {
	b := randomBytes(16)
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	rand.Read(b) // never fails since Go 1.24
	return b
}
