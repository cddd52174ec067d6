// Package session is the heart: it turns a chain into a plan, and a plan into
// credentials, through a cache that is keyed by what STS is asked. It refuses to know the
// AWS SDK, the keyring and the socket; what it needs of them it declares here as interfaces.
package session

import (
	"context"
	"time"

	"broker/internal/profiles"
	"broker/internal/secret"
)

// Operation is a call of the STS API.
type Operation string

// The two calls that a plan is made of.
// https://docs.aws.amazon.com/STS/latest/APIReference/API_Operations.html
const (
	GetSessionToken Operation = "GetSessionToken"
	AssumeRole      Operation = "AssumeRole"
)

// Tag is one session tag.
type Tag struct{ Key, Value string }

// Call is one call to STS as pure data: everything that it is asked, but for
// the credentials that sign it and the MFA code.
type Call struct {
	Operation   Operation
	Endpoint    profiles.Endpoint
	Duration    time.Duration // 0 leaves it to STS
	MFASerial   string        // set where the call carries a code
	RoleARN     string
	SessionName string
	ExternalID  string
	Policy      string
	Tags        []Tag
}

// Credentials are the temporary credentials of one step.
type Credentials struct {
	AccessKeyID     string
	SecretAccessKey secret.String
	SessionToken    secret.String
	Expires         time.Time // by the clock of AWS
	Issued          time.Time // what the clock of AWS said when it answered
	Subject         string    // ARN of the assumed role session; empty for GetSessionToken
}

// Assumer makes AssumeRole calls that are signed with temporary credentials.
// Its errors are faults: Denied, ExpiredSession, Throttled, Network, Clock, BadAnswer.
type Assumer interface {
	Assume(ctx context.Context, with Credentials, call Call) (Credentials, error)
}

// Opener makes the calls that must be signed with the long-lived key of a
// source: it alone can reach the keyring. The code may be empty: then the
// stored seed makes one, or the error is LoginNeeded. Further faults: Keyring,
// KeyringLocked, CodeRejected, NotFound and those of Assumer.
type Opener interface {
	Open(ctx context.Context, source profiles.Source, call Call, code secret.String) (Credentials, error)
}
