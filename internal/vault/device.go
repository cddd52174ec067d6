package vault

import (
	"context"

	"broker/internal/fault"
	"broker/internal/profiles"
	"broker/internal/secret"
	"broker/internal/session"
)

// Enrollment names a source whose user gets a virtual MFA device. A caller passes it to MakeDevice, EnableDevice and
// KeepDevice, in this order, and writes the serial to the registry before KeepDevice. The keyring remembers the device
// in between. So MakeDevice can go on after a crash, and Open finds the seed of the device that the registry names.
type Enrollment struct {
	Source   string
	KeyID    string // of the key in use
	Endpoint profiles.Endpoint
	// With is the MFA session of another device of the user, which signs the calls. If it is nil, the key does.
	With *session.Credentials
	// Serial is the new device. MakeDevice chooses it.
	Serial string
	// Replaces is the serial of the device that KeepDevice removes, or empty.
	Replaces string
	// Store puts the seed into the keyring. Show returns it to the caller, once. At least one must be set.
	Store, Show bool
}

// NewDevice is the result of MakeDevice.
type NewDevice struct {
	Serial  string
	User    string        // its user's name
	Seed    secret.String // base32; only if the device was created by this call, with Show
	Stored  bool          // the keyring has the seed
	Enabled bool          // an earlier enrollment enabled the device already
	// Replaces is the device that KeepDevice removes, or empty. After a crash it is that of the earlier enrollment.
	Replaces string
}

// MakeDevice creates a device, which belongs to no user yet. If an earlier enrollment has enabled its device, it
// returns that one. A device that was not enabled is deleted first. Faults: Denied, Network and the others of a call
// to IAM; Failed if the user has eight devices.
func (c *Caller) MakeDevice(ctx context.Context, e Enrollment) (NewDevice, error) {
	a, err := c.run(ctx, deviceRequest(OpMakeDevice, e, secret.String{}, secret.String{}))
	if err != nil {
		return NewDevice{}, err
	}
	if a.Device == nil {
		return NewDevice{}, fault.New(fault.Internal, "the vault process answered without a device")
	}
	d := a.Device
	return NewDevice{Serial: d.Serial, User: d.User, Seed: d.seed(), Stored: d.Stored, Enabled: d.Enabled,
		Replaces: d.Replaces}, nil
}

// EnableDevice gives the device to its user. The codes are those of two steps in a row. If both are empty, they are
// computed from the stored seed: those of the step before this one, and of this one. CodeRejected means that AWS does
// not take the codes, ErrNotThere that AWS does not know the device yet: try again with later codes.
func (c *Caller) EnableDevice(ctx context.Context, e Enrollment, first, second secret.String) error {
	return c.tell(ctx, deviceRequest(OpEnableDevice, e, first, second))
}

// KeepDevice ends the enrollment: it removes the replaced device from AWS, and the seed of the new device takes the
// place of the old one. The session must be one of the new device. It may be called again. It does nothing if no
// enrollment is unfinished.
func (c *Caller) KeepDevice(ctx context.Context, e Enrollment) error {
	return c.tell(ctx, deviceRequest(OpKeepDevice, e, secret.String{}, secret.String{}))
}
