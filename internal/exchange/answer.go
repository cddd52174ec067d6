package exchange

import (
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/aws-sdk-go-v2/service/sts/types"

	"broker/internal/fault"
	"broker/internal/lazyregexp"
	"broker/internal/secret"
	"broker/internal/session"
)

// The maximum lifetimes of AWS credentials, and the tolerance for rounded clocks.
// https://docs.aws.amazon.com/STS/latest/APIReference/API_GetSessionToken.html
// https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
const (
	maxSessionToken = 36 * time.Hour
	maxRoleSession  = 12 * time.Hour
	slack           = 5 * time.Minute
)

// Limits for the fields of an answer, in bytes. AWS gives no maximum for the token ("we strongly recommend that
// you make no assumptions about the maximum size"); observed tokens have up to about 2 KiB. The environment of a
// process and Broker's wire format need a limit.
const (
	maxSecret = 256
	maxToken  = 16 << 10
	maxName   = 2048 // an ARN or a unique ID
)

var (
	accessKeySyntax = lazyregexp.New(`^[0-9A-Za-z_]{16,128}$`) // from the SDKs' model of STS
	otherKeySyntax  = lazyregexp.New(`^[!-~]{3,256}$`)
	accountSyntax   = lazyregexp.New(`^[0-9]{12}$`)
	partitionSyntax = lazyregexp.New(`^aws(-[a-z]+)*$`)
)

// credentials checks the credentials in an answer. The value of an invalid field is never shown: it may be
// part of a secret.
func (a *attempt) credentials(out *types.Credentials, longest time.Duration) (session.Credentials, error) {
	none := session.Credentials{}
	switch {
	case a.look != a.request.form:
		return none, a.noAnswer()
	case out == nil:
		return none, a.badAnswer("the answer of %s has no credentials", a.host)
	case !a.keyID(aws.ToString(out.AccessKeyId)):
		return none, a.badField("AccessKeyId", aws.ToString(out.AccessKeyId))
	case !session.Visible(aws.ToString(out.SecretAccessKey), maxSecret):
		return none, a.badField("SecretAccessKey", aws.ToString(out.SecretAccessKey))
	case !session.Visible(aws.ToString(out.SessionToken), maxToken):
		return none, a.badField("SessionToken", aws.ToString(out.SessionToken))
	case out.Expiration == nil:
		return none, a.badField("Expiration", "")
	}
	expires := out.Expiration.UTC()
	if !expires.After(a.issued) {
		return none, a.badAnswer("the credentials of %s expired before they arrived, at %s", a.host, expires.Format(time.RFC3339))
	}
	if expires.Sub(a.issued) > longest+slack {
		return none, a.badAnswer("the credentials of %s would expire at %s, later than AWS ever allows", a.host, expires.Format(time.RFC3339))
	}
	a.handedOut = session.Credentials{
		AccessKeyID:     *out.AccessKeyId,
		SecretAccessKey: secret.New(*out.SecretAccessKey),
		SessionToken:    secret.New(*out.SessionToken),
		Expires:         expires,
		Issued:          a.issued,
	}
	return a.handedOut, nil
}

// keyID reports whether id is valid as the ID of a session's key.
func (a *attempt) keyID(id string) bool {
	if a.to.compatible {
		return otherKeySyntax.MatchString(id)
	}
	return accessKeySyntax.MatchString(id)
}

// subject checks that STS answered for the requested role, so that a wrong or confused server cannot substitute
// another account's credentials.
func (a *attempt) subject(asked role, askedARN string, user *types.AssumedRoleUser) (string, error) {
	var arn string
	if user != nil {
		arn = aws.ToString(user.Arn)
	}
	switch {
	case a.to.compatible && arn == "":
		return askedARN, nil // MinIO
	case !session.Visible(arn, maxName):
		return "", a.badField("AssumedRoleUser", arn)
	case a.to.compatible:
		// Ceph's answer also contains the path of the role.
		path := askedARN[strings.Index(askedARN, ":role/")+len(":role/"):]
		_, rest, _ := strings.Cut(arn, "assumed-role/")
		got := rest[:max(strings.LastIndexByte(rest, '/'), 0)]
		if !strings.EqualFold(got, path) && !strings.EqualFold(got, asked.name) {
			return "", a.badAnswer("asked for role %s, STS answered for %s", askedARN, a.words(arn))
		}
		return arn, nil
	}
	got, ok := parseAssumedRole(arn)
	// IAM compares role names without regard to case.
	if !ok || got.partition != asked.partition || got.account != asked.account ||
		!strings.EqualFold(got.name, asked.name) {
		return "", a.badAnswer("asked for role %s, STS answered for %s", askedARN, a.words(arn))
	}
	return arn, nil
}

func (a *attempt) identity(out *sts.GetCallerIdentityOutput) (Identity, error) {
	id := Identity{Account: aws.ToString(out.Account), ARN: aws.ToString(out.Arn), UserID: aws.ToString(out.UserId)}
	arn := strings.SplitN(id.ARN, ":", 6)
	switch {
	case a.look != looksLikeXML:
		return Identity{}, a.noAnswer()
	case a.to.compatible && session.Visible(id.ARN, maxName):
		return id, nil
	case !accountSyntax.MatchString(id.Account):
		return Identity{}, a.badField("Account", id.Account)
	case !session.Visible(id.ARN, maxName), len(arn) != 6, arn[0] != "arn", arn[4] != id.Account:
		return Identity{}, a.badField("Arn", id.ARN)
	case !session.Visible(id.UserID, maxName):
		return Identity{}, a.badField("UserId", id.UserID)
	}
	return id, nil
}

func (a *attempt) badField(name, value string) error {
	if value == "" {
		return a.badAnswer("the answer of %s has no %s", a.host, name)
	}
	return a.badAnswer("the answer of %s has an invalid %s", a.host, name)
}

// role is what the ARNs of a role and of its sessions have in common.
type role struct{ partition, account, name string }

// parseRole parses arn:PARTITION:iam::ACCOUNT:role/[PATH/]NAME. For an STS that is not AWS, any account is valid.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html#identifiers-arns
func parseRole(arn string, compatible bool) (role, bool) {
	r, path, ok := parseARN(arn, "iam", "role/")
	r.name = path[strings.LastIndexByte(path, '/')+1:]
	return r, ok && r.name != "" && (compatible || accountSyntax.MatchString(r.account))
}

// parseAssumedRole parses arn:PARTITION:sts::ACCOUNT:assumed-role/NAME/SESSION.
func parseAssumedRole(arn string) (role, bool) {
	r, path, ok := parseARN(arn, "sts", "assumed-role/")
	name, sessionName, _ := strings.Cut(path, "/")
	r.name = name
	return r, ok && name != "" && sessionName != "" && !strings.Contains(sessionName, "/") &&
		accountSyntax.MatchString(r.account)
}

// parseARN accepts any account.
func parseARN(arn, service, prefix string) (r role, path string, ok bool) {
	f := strings.Split(arn, ":")
	if len(f) != 6 || !session.Visible(arn, maxName) {
		return role{}, "", false
	}
	path, ok = strings.CutPrefix(f[5], prefix)
	ok = ok && f[0] == "arn" && f[2] == service && f[3] == "" &&
		partitionSyntax.MatchString(f[1])
	return role{partition: f[1], account: f[4]}, path, ok
}

// badAnswer returns the fault for a response that is not an answer of STS.
func (a *attempt) badAnswer(format string, args ...any) *fault.Error {
	return a.fault(fault.BadAnswer, nil, format, args...)
}
