package process

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"broker/internal/exchange"
	"broker/internal/fault"
	"broker/internal/mfa"
	"broker/internal/secret"
	"broker/internal/vault"
)

// mostDevices is how many MFA devices a user may have.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html
const mostDevices = 8

// enrolling is a virtual MFA device whose enrollment is not finished. It is in the item of its source from before the
// device is created, so that a device whose answer was lost is found and deleted.
type enrolling struct {
	Serial   string
	Made     bool          // AWS said that it created the device
	Seed     secret.String // empty if only a phone has it
	Replaces string        // serial of the device that is removed in the end, or empty
}

// enrollment is what the three operations have in common: the item, what signs the calls, and the user.
type enrollment struct {
	it   item
	keys exchange.Keys
	user string // name
	arn  string // of a device of the user, up to its name
}

func (e *errand) enrollment(ctx context.Context, r ring) (n enrollment, err error) {
	if e.Device == nil {
		return n, fault.New(fault.Internal, "the request to the vault has no device")
	}
	if n.it, err = e.inUse(ctx, r); err != nil {
		return n, err
	}
	n.keys = e.signer(n.it)
	who, err := e.verify(ctx, n.keys)
	if err != nil {
		return n, err
	}
	e.calling.Store(true)
	n.user = who.ARN[strings.LastIndexByte(who.ARN, '/')+1:]
	account, _, _ := strings.Cut(who.ARN, ":user/")
	n.arn = account + ":mfa/"
	return n, nil
}

// makeDevice creates a virtual device. An unfinished enrollment goes on if AWS lists its device; otherwise its device
// is deleted.
func (e *errand) makeDevice(ctx context.Context, r ring) (*answer, error) {
	n, err := e.enrollment(ctx, r)
	if err != nil {
		return nil, err
	}
	serials, err := e.sts.Devices(ctx, n.keys, e.Endpoint)
	if err != nil {
		return nil, err
	}
	taken := slices.Clone(serials)
	if left := n.it.Enrolling; left.Serial != "" {
		enabled := &answer{Device: &vault.Device{Serial: left.Serial, User: n.user, Stored: !left.Seed.IsZero(),
			Enabled: true, Replaces: left.Replaces}}
		if left.Made && slices.Contains(serials, left.Serial) {
			return enabled, nil
		}
		// It can belong to nobody, because DeleteDevice fails for a device that is enabled.
		err := e.sts.DeleteDevice(ctx, n.keys, e.Endpoint, left.Serial)
		switch {
		case err == nil && left.Made:
			e.tell(fmt.Sprintf("the device %s of an unfinished enrollment is deleted; if your phone has it, remove that "+
				"entry from your phone", left.Serial))
		case err == nil, errors.Is(err, exchange.ErrNotThere):
		case left.Made && errors.Is(err, exchange.ErrEnabled):
			return enabled, nil // the list is behind; only this item has the seed
		case fault.Is(err, fault.Denied), fault.Is(err, fault.Failed):
			e.tell(fmt.Sprintf("the device %s of an unfinished enrollment was not deleted: %v", left.Serial, err))
			taken = append(taken, left.Serial)
		default:
			return nil, err
		}
	}
	if len(serials) >= mostDevices {
		return nil, fault.New(fault.Failed, "user %s has %d MFA devices already, and AWS allows no more; remove one first: %s",
			n.user, len(serials), strings.Join(serials, ", "))
	}
	for try := 1; ; try++ {
		name := n.user
		if try > 1 {
			name = fmt.Sprintf("%s-%d", n.user, try)
		}
		d := enrolling{Serial: n.arn + name, Replaces: e.Device.Replaces}
		if slices.Contains(taken, d.Serial) {
			continue
		}
		a, err := e.createDevice(ctx, r, n, d, name)
		if errors.Is(err, exchange.ErrExists) && try <= 2*mostDevices {
			continue // a device of that name belongs to nobody, or to another user
		}
		return a, err
	}
}

// createDevice creates one device. The item names it before AWS is asked, and has its seed before the answer.
func (e *errand) createDevice(ctx context.Context, r ring, n enrollment, d enrolling, name string) (*answer, error) {
	if err := e.setEnrolling(ctx, r, d); err != nil {
		return nil, err
	}
	made, err := e.sts.CreateDevice(ctx, n.keys, e.Endpoint, name)
	if err != nil {
		if answerLost(err) {
			return nil, fault.Of(err).WithHint("%s", e.again(d.Replaces))
		}
		if undo := e.setEnrolling(ctx, r, enrolling{}); undo != nil {
			return nil, undo
		}
		return nil, e.mayNotEnroll(err)
	}
	shown := revealDevice(made)
	e.hide = append(e.hide, shown.Seed)
	d.Serial, d.Made = made.Serial, true
	if e.Device.Store {
		d.Seed = made.Seed
	}
	if err := e.setEnrolling(ctx, r, d); err != nil {
		// Nobody has the seed. If the device cannot be deleted now, the next try finds it in the item.
		_ = e.sts.DeleteDevice(ctx, n.keys, e.Endpoint, d.Serial)
		return nil, err
	}
	if shown.User, shown.Stored, shown.Replaces = n.user, e.Device.Store, d.Replaces; !e.Device.Show {
		shown.Seed = ""
	}
	return &answer{Device: shown}, nil
}

// mayNotEnroll adds to a denied call which permission is missing, and what may be the reason.
func (e *errand) mayNotEnroll(err error) error {
	if !fault.Is(err, fault.Denied) || errors.Is(err, exchange.ErrUnknownKey) {
		return err
	}
	why := ""
	if e.With == nil {
		why = "; if a policy demands MFA for that, an administrator can allow the first device, see " +
			"\"If AWS denies it\" in docs/mfa.md"
	}
	return fault.New(fault.Denied, "the user of source %q may not call iam:CreateVirtualMFADevice, so no device was made: %w%s",
		e.Source, err, why).WithHint("broker policy self-service")
}

// again returns the command that goes on with an enrollment.
func (e *errand) again(replaces string) fault.Hint {
	switch {
	case replaces != "":
		return fault.Hintf("broker mfa replace %s", e.Source)
	case !e.Device.Store:
		return fault.Hintf("broker mfa enroll %s --no-store-seed", e.Source)
	}
	return fault.Hintf("broker mfa enroll %s", e.Source)
}

func (e *errand) setEnrolling(ctx context.Context, r ring, d enrolling) error {
	_, err := e.change(ctx, r, func(it *item) { it.Enrolling = d })
	return err
}

// enableDevice proves to AWS with two codes that the user has the device.
func (e *errand) enableDevice(ctx context.Context, r ring) (*answer, error) {
	n, err := e.enrollment(ctx, r)
	if err != nil {
		return nil, err
	}
	d := n.it.Enrolling
	if !d.Made || d.Serial != e.Device.Serial {
		return nil, fault.New(fault.Failed, "the device %s of source %q is not being enrolled any more", e.Device.Serial, e.Source).
			WithHint("%s", e.again(e.Device.Replaces))
	}
	first, second, err := e.twoCodes(d)
	if err != nil {
		return nil, err
	}
	for _, code := range []secret.String{first, second} {
		if err := e.ledger.Claim(d.Serial, code, time.Now()); err != nil {
			return nil, e.claimFault(err)
		}
	}
	err = e.sts.EnableDevice(ctx, n.keys, e.Endpoint, n.user, d.Serial, first, second)
	switch {
	case errors.Is(err, exchange.ErrNotThere):
		return nil, because(fault.Failed, vault.ErrNotThere, err.Error(), e.again(d.Replaces))
	case answerLost(err), errors.Is(err, exchange.ErrExists):
		serials, look := e.sts.Devices(ctx, n.keys, e.Endpoint)
		if look == nil && slices.Contains(serials, d.Serial) {
			err = nil
		}
	}
	return &answer{}, err
}

// twoCodes returns the codes of the request, or those that the stored seed gives for the step before this one and for
// this one, by AWS's clock.
func (e *errand) twoCodes(d enrolling) (first, second secret.String, err error) {
	if e.Code == "" && e.NextCode == "" {
		seed, err := parsedSeed(d.Seed)
		if err != nil {
			return first, second, fault.New(fault.Keyring, "the seed of the device %s cannot be used: %w", d.Serial, err)
		}
		now := time.Now().Add(e.knownOffset())
		first, _ = seed.Code(now.Add(-mfa.Period))
		second, _ = seed.Code(now)
	} else {
		if first, err = mfa.ParseCode(e.Code); err == nil {
			second, err = mfa.ParseCode(e.NextCode)
		}
		if err != nil {
			return first, second, err
		}
	}
	e.hideSecrets(first, second)
	return first, second, nil
}

// keepDevice ends the enrollment. It removes the replaced device only while AWS lists the new one.
func (e *errand) keepDevice(ctx context.Context, r ring) (*answer, error) {
	it, err := e.load(ctx, r)
	if err != nil {
		return nil, err
	}
	d := it.Enrolling
	switch {
	case d.Serial == "":
		return &answer{}, nil
	case e.Device == nil || d.Serial != e.Device.Serial:
		return nil, fault.New(fault.Failed, "the enrollment of another device, %s, is not finished", d.Serial)
	}
	if d.Replaces != "" {
		if err := e.removeDevice(ctx, r, d); err != nil {
			return nil, err
		}
	}
	return e.change(ctx, r, func(it *item) {
		if it.Enrolling.Serial == d.Serial {
			it.Seed, it.Enrolling = it.Enrolling.Seed, enrolling{}
		}
	})
}

// removeDevice deactivates and deletes the device that was replaced. If it cannot be deleted, that is only reported:
// it gives no access any more.
func (e *errand) removeDevice(ctx context.Context, r ring, d enrolling) error {
	n, err := e.enrollment(ctx, r)
	if err != nil {
		return err
	}
	serials, err := e.sts.Devices(ctx, n.keys, e.Endpoint)
	switch {
	case err != nil:
		return err
	case !slices.Contains(serials, d.Serial):
		return fault.New(fault.Failed, "AWS does not list the new device %s, so the old one stays: %s", d.Serial, d.Replaces)
	}
	if slices.Contains(serials, d.Replaces) {
		err := e.sts.DisableDevice(ctx, n.keys, e.Endpoint, d.Replaces)
		if err != nil && !errors.Is(err, exchange.ErrNotThere) {
			return err
		}
	}
	if !strings.Contains(d.Replaces, ":mfa/") {
		return nil // a hardware device
	}
	err = e.sts.DeleteDevice(ctx, n.keys, e.Endpoint, d.Replaces)
	switch {
	case err == nil, errors.Is(err, exchange.ErrNotThere):
		return nil
	case fault.Is(err, fault.Denied), fault.Is(err, fault.Failed):
		e.tell(fmt.Sprintf("the old device %s is deactivated but not deleted: %v", d.Replaces, err))
		return nil
	}
	return err
}
