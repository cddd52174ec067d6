package process

import (
	"context"
	"errors"
	"strings"
	"syscall"
	"time"

	"broker/internal/exchange"
	"broker/internal/fault"
	"broker/internal/mfa"
	"broker/internal/record"
	"broker/internal/secret"
	"broker/internal/session"
	"broker/internal/vault"
)

// clockSkew is the offset from which a clock counts as wrong: one step of a code.
const clockSkew = mfa.Period

// open makes the call that the long-lived key of a source signs, or returns a stored session from an earlier call. Of a
// source that a person logs in to on a web page it returns the access token.
func (e *errand) open(ctx context.Context, r ring) (*answer, error) {
	if e.Call == nil {
		return nil, fault.New(fault.Internal, "the request to the vault has no call")
	}
	if e.Page != nil {
		return e.openLogin(ctx, r)
	}
	it, err := e.load(ctx, r)
	if err != nil {
		return nil, err
	}
	if e.KeyID != "" && e.KeyID != it.AccessKeyID {
		return nil, e.keyChanged(it)
	}
	keeps := isKept(*e.Call)
	if keeps && e.Code == "" {
		if creds, ok := e.findKept(ctx, r, it); ok {
			return &answer{Credentials: revealCredentials(creds)}, nil
		}
	}
	if e.Call.Operation == session.GetFederationToken {
		// A session of the root user could do everything that its policy allows.
		e.Endpoint = e.Call.Endpoint
		if _, err := e.verify(ctx, it.pair()); err != nil {
			return nil, err
		}
	}
	e.signs(it.pair())
	creds, err := e.call(ctx, it.pair(), e.seedOf(it))
	if err != nil {
		return nil, err
	}
	if keeps {
		e.keep(ctx, r, it, creds)
	}
	return &answer{Credentials: revealCredentials(creds)}, nil
}

// seedOf returns the stored seed of the device that the call names, or nothing.
func (e *errand) seedOf(it item) secret.String {
	switch {
	case e.Call.MFASerial != "" && e.Call.MFASerial == it.Enrolling.Serial:
		return it.Enrolling.Seed
	case e.UseSeed:
		return it.Seed
	}
	return secret.String{}
}

// load reads the item if our registry may use it and its home is not locked. If the item has the key that the request
// names, that key is the first. It remembers the secrets for scrub.
func (e *errand) load(ctx context.Context, r ring) (item, error) {
	it, err := load(ctx, r, e.Source)
	it = it.using(e.KeyID)
	e.hide = append(e.hide, it.secrets()...)
	if err != nil {
		return item{}, err
	}
	return it, e.admitItem(it)
}

func (e *errand) call(ctx context.Context, keys exchange.Keys, seed secret.String) (session.Credentials, error) {
	call := *e.Call
	switch {
	case call.MFASerial == "" && e.Code != "":
		return session.Credentials{}, fault.New(fault.Usage, "source %q has no MFA device, so it cannot use a code", e.Source).
			WithHint("broker mfa set %s --serial ARN", e.Source)
	case call.MFASerial == "":
		return e.sts.Call(ctx, keys, call, secret.String{})
	case e.Code != "":
		return e.callWithCode(ctx, keys, call)
	case seed.IsZero():
		return session.Credentials{}, fault.New(fault.LoginNeeded, "%s needs a code of the MFA device %s",
			e.Source, call.MFASerial).
			WithHint("broker login %s --code 123456", e.Source)
	}
	parsed, err := parsedSeed(seed)
	if err != nil {
		return session.Credentials{}, fault.New(fault.Keyring, "the stored seed of source %q cannot be used: %w", e.Source, err)
	}
	return e.callWithSeed(ctx, keys, call, parsed)
}

// callWithCode uses a code that a person entered, once.
func (e *errand) callWithCode(ctx context.Context, keys exchange.Keys, call session.Call) (session.Credentials, error) {
	code, err := mfa.ParseCode(e.Code)
	if err != nil {
		return session.Credentials{}, err
	}
	e.hide = append(e.hide, code.Reveal())
	if err := e.ledger.Claim(call.MFASerial, code, time.Now()); err != nil {
		return session.Credentials{}, e.claimFault(err)
	}
	creds, err := e.sts.Call(ctx, keys, call, code)
	switch {
	case err == nil:
		return creds, nil
	case answerLost(err):
		return session.Credentials{}, fault.New(fault.Of(err).Kind, "%w; enter the next code, which comes in %s", err, untilNext(time.Now()).Round(time.Second))
	}
	return session.Credentials{}, err
}

// callWithSeed computes codes from the seed. It makes at most two attempts, never with the same code. It retries
// after a lost answer, and after an answer that shows that our clock is wrong.
func (e *errand) callWithSeed(
	ctx context.Context,
	keys exchange.Keys,
	call session.Call,
	seed mfa.Seed,
) (session.Credentials, error) {
	offset := e.knownOffset()
	for first := true; ; first = false {
		code, err := e.ledger.Next(ctx, call.MFASerial, seed, func() time.Time { return time.Now().Add(offset) })
		if err != nil {
			return session.Credentials{}, e.claimFault(err)
		}
		e.hide = append(e.hide, code.Reveal())
		// The wait for the code may have been long.
		if err := e.refuseLocked(); err != nil {
			return session.Credentials{}, err
		}
		creds, err := e.sts.Call(ctx, keys, call, code)
		if err == nil || !first {
			return creds, err
		}
		learnt := e.sts.ServerOffset()
		skewed := (learnt - offset).Abs() >= clockSkew
		switch {
		case fault.Is(err, fault.CodeRejected) && skewed && !wrongDevice(err), fault.Is(err, fault.Clock) && learnt != offset:
			offset = learnt
		case answerLost(err) && e.timeForNext(ctx, offset):
		default:
			return creds, err
		}
	}
}

// knownOffset returns the clock offset that an earlier process learned, if it is large enough to affect a code.
func (e *errand) knownOffset() time.Duration {
	offset := e.sts.ServerOffset()
	if offset.Abs() < clockSkew {
		return 0
	}
	return offset
}

// timeForNext reports whether the next step begins before the deadline. If not, there is no second attempt, and
// the lost answer is reported.
func (e *errand) timeForNext(ctx context.Context, offset time.Duration) bool {
	deadline, ok := ctx.Deadline()
	return !ok || time.Until(deadline) > untilNext(time.Now().Add(offset))
}

// untilNext returns how long the current step of a code lasts after now. Steps are counted from 1970,
// time.Truncate counts from the year 1; the difference is a whole number of steps.
func untilNext(now time.Time) time.Duration {
	return now.Truncate(mfa.Period).Add(mfa.Period).Sub(now)
}

// claimFault says why a code was not sent.
func (e *errand) claimFault(err error) error {
	var spent *mfa.SpentError
	switch {
	case errors.As(err, &spent):
		wait := max(time.Until(spent.Next).Round(time.Second), time.Second)
		f := fault.New(fault.CodeRejected, "%w (in %s)", err, wait)
		return f.WithHint("broker login %s --code 123456", e.Source)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return fault.New(fault.CodeRejected, "no unused MFA code came before the deadline: %w", err)
	}
	// The cause is a file of this machine: the user can fix it, and the next attempt reads it again.
	f := fault.New(fault.Config, "the MFA code was not sent: %w", err)
	if _, ok := errors.AsType[syscall.Errno](err); ok {
		f = f.WithHint("%s", record.Unwritten(e.ledger.Dir, err))
	}
	return f
}

// devices asks AWS for the MFA devices of the user who owns the key of a source.
func (e *errand) devices(ctx context.Context, r ring) (*answer, error) {
	it, err := e.load(ctx, r)
	if err != nil {
		return nil, err
	}
	e.signs(it.pair())
	serials, err := e.sts.Devices(ctx, it.pair(), e.Endpoint)
	return &answer{Serials: serials}, err
}

// verify asks AWS for the identity of a key, and refuses all but IAM users.
func (e *errand) verify(ctx context.Context, keys exchange.Keys) (*vault.Identity, error) {
	e.signs(keys)
	defer e.calling.Store(false)
	got, err := e.sts.Identity(ctx, keys, e.Endpoint)
	if err != nil {
		return nil, err
	}
	// arn:PARTITION:iam::ACCOUNT:user/PATH/NAME
	// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html#identifiers-arns
	parts := strings.SplitN(got.ARN, ":", 6)
	switch {
	case e.Endpoint.Compatible: // it has no users in the sense of IAM
	case len(parts) != 6 || parts[2] != "iam" && parts[2] != "sts":
		return nil, fault.New(fault.BadAnswer, "AWS says that the key belongs to %q, which is not an ARN of IAM", got.ARN)
	case parts[2] == "iam" && parts[5] == "root":
		return nil, fault.New(fault.Failed, "the key belongs to the root user of account %s; create an IAM user with its own key", got.Account)
	case parts[2] != "iam" || !strings.HasPrefix(parts[5], "user/"):
		return nil, fault.New(fault.Failed, "the key belongs to %s, not to an IAM user", got.ARN)
	}
	return &vault.Identity{Account: got.Account, ARN: got.ARN, UserID: got.UserID}, nil
}
