package process

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"time"

	"broker/internal/exchange"
	"broker/internal/fault"
	"broker/internal/profiles"
	"broker/internal/secret"
	"broker/internal/session"
)

// sts makes the calls that a long-lived key signs, and those of a login on a web page. Its errors
// are faults. A call with a code is a single attempt.
type sts interface {
	Call(ctx context.Context, keys exchange.Keys, call session.Call, code secret.String) (session.Credentials, error)
	Identity(ctx context.Context, keys exchange.Keys, endpoint profiles.Endpoint) (exchange.Identity, error)
	Devices(ctx context.Context, keys exchange.Keys, endpoint profiles.Endpoint) ([]string, error)
	keyCalls
	deviceCalls
	loginCalls
	// ServerOffset returns AWS's clock minus ours, from the last answer; 0 if it is not known.
	ServerOffset() time.Duration
}

// keyCalls are the calls to IAM that rotate a key.
type keyCalls interface {
	AccessKeys(ctx context.Context, keys exchange.Keys, endpoint profiles.Endpoint) ([]exchange.AccessKey, error)
	KeyLastUsed(ctx context.Context, keys exchange.Keys, e profiles.Endpoint, id string) (exchange.LastUse, error)
	CreateAccessKey(ctx context.Context, keys exchange.Keys, endpoint profiles.Endpoint) (exchange.Keys, error)
	SetKeyStatus(ctx context.Context, keys exchange.Keys, endpoint profiles.Endpoint, id string, active bool) error
	DeleteKey(ctx context.Context, keys exchange.Keys, endpoint profiles.Endpoint, id string) error
}

// deviceCalls are the calls to IAM that enroll an MFA device.
type deviceCalls interface {
	CreateDevice(ctx context.Context, keys exchange.Keys, e profiles.Endpoint, name string) (exchange.Device, error)
	EnableDevice(ctx context.Context, keys exchange.Keys, e profiles.Endpoint, user, serial string,
		first, second secret.String) error
	DisableDevice(ctx context.Context, keys exchange.Keys, e profiles.Endpoint, serial string) error
	DeleteDevice(ctx context.Context, keys exchange.Keys, e profiles.Endpoint, serial string) error
}

// loginCalls are the calls with which a person logs in on a web page. A refresh token that has ended is
// fault.LoginNeeded.
type loginCalls interface {
	RegisterClient(ctx context.Context, e profiles.Endpoint, startURL string, scopes []string, device bool) (
		exchange.Registration, error)
	StartDevice(ctx context.Context, e profiles.Endpoint, reg exchange.Registration, startURL string) (
		exchange.DeviceGrant, error)
	AuthorizeURL(e profiles.Endpoint, reg exchange.Registration, redirect, state, challenge string, scopes []string) (
		string, error)
	CreateToken(ctx context.Context, e profiles.Endpoint, reg exchange.Registration, g exchange.TokenGrant) (
		exchange.Token, error)
	EndPortal(ctx context.Context, e profiles.Endpoint, access secret.String) error
	ConsoleRedirect(e profiles.Endpoint) (string, error)
	ConsoleAuthorizeURL(e profiles.Endpoint, clientID, redirect, state, challenge string) (string, error)
	CreateConsoleToken(ctx context.Context, e profiles.Endpoint, key *ecdsa.PrivateKey, clientID string,
		g exchange.TokenGrant) (exchange.ConsoleToken, error)
}

var _ sts = (*exchange.Client)(nil)

// newSTS returns the client of one vault process.
func newSTS(q *request) sts {
	return exchange.New(exchange.Options{
		Offset: time.Duration(q.OffsetMS) * time.Millisecond,
		Route:  func() profiles.Route { return q.Route },
	})
}

// answerLost reports whether AWS may have used the code although its answer was lost.
func answerLost(err error) bool {
	return exchange.MaybeSeen(err) && (fault.Is(err, fault.Network) || fault.Is(err, fault.BadAnswer))
}

// wrongDevice reports whether the serial is wrong, so that no code can work.
func wrongDevice(err error) bool { return errors.Is(err, exchange.ErrWrongDevice) }
