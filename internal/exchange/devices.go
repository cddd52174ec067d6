package exchange

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"

	"broker/internal/fault"
	"broker/internal/lazyregexp"
	"broker/internal/profiles"
	"broker/internal/secret"
)

// The calls that enroll a virtual MFA device, and take it back. Their faults are those of Call; Denied if the user may
// not make the call, or only with MFA. A device that AWS has just created may be unknown (ErrNotThere) to another of
// its servers for some seconds.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/id_credentials_mfa_enable_virtual.html

// Device is a new virtual MFA device.
type Device struct {
	Serial string        // its ARN
	Seed   secret.String // base32 without padding, as authenticator apps take it
}

// CreateDevice creates a virtual MFA device with the path /, which belongs to no user until EnableDevice. AWS shows
// the seed only once. It makes one attempt: after a lost answer, the name is taken by a device whose seed nobody has,
// and a repeated call would only say so. ErrExists means that the name is taken.
// https://docs.aws.amazon.com/IAM/latest/APIReference/API_CreateVirtualMFADevice.html
func (c *Client) CreateDevice(
	ctx context.Context,
	keys Keys,
	endpoint profiles.Endpoint,
	name string,
) (Device, error) {
	q := iamRequest("create MFA device "+fault.Line(name), keys, endpoint)
	q.effect = "created the device"
	var created Device
	err := c.ask(ctx, q, func(ctx context.Context, a *attempt) error {
		out, err := a.iam().CreateVirtualMFADevice(ctx, &iam.CreateVirtualMFADeviceInput{VirtualMFADeviceName: &name})
		switch {
		case err != nil:
			return err
		case !a.answers("CreateVirtualMFADevice"):
			return a.noAnswer()
		case out.VirtualMFADevice == nil:
			return a.badField("VirtualMFADevice", "")
		}
		serial, seed := aws.ToString(out.VirtualMFADevice.SerialNumber), string(out.VirtualMFADevice.Base32StringSeed)
		owner, path, ok := parseARN(serial, "iam", "mfa/")
		switch {
		case !ok || path != name || !accountSyntax.MatchString(owner.account) || len(serial) > maxSerial:
			return a.badField("SerialNumber", serial)
		case !seedSyntax.MatchString(seed):
			return a.badField("Base32StringSeed", seed)
		}
		created = Device{Serial: serial, Seed: secret.New(seed)}
		return nil
	})
	return created, err
}

// seedSyntax accepts 130 to 640 bits: RFC 4226 demands at least 128, and AWS sends 320.
var seedSyntax = lazyregexp.New(`^[A-Z2-7]{26,128}$`)

// EnableDevice gives a device to the user of that name. The codes are those of two steps in a row. They count as
// used, so it makes one attempt. CodeRejected means that AWS does not take the codes, ErrExists that the device is
// enabled already, ErrLimit that the user has eight devices. If it fails with Network or BadAnswer and MaybeSeen, the
// device may be enabled: Devices shows it.
// https://docs.aws.amazon.com/IAM/latest/APIReference/API_EnableMFADevice.html
func (c *Client) EnableDevice(
	ctx context.Context,
	keys Keys,
	endpoint profiles.Endpoint,
	user, serial string,
	first, second secret.String,
) error {
	if !sixDigits(first) || !sixDigits(second) {
		return errNotSixDigits
	}
	q := iamRequest("enable MFA device "+fault.Line(serial), keys, endpoint)
	q.code, q.next, q.effect = first, second, "enabled the device"
	in := &iam.EnableMFADeviceInput{
		UserName:            &user,
		SerialNumber:        &serial,
		AuthenticationCode1: aws.String(first.Reveal()),
		AuthenticationCode2: aws.String(second.Reveal()),
	}
	return c.change(ctx, q, "EnableMFADevice", func(ctx context.Context, api *iam.Client) error {
		_, err := api.EnableMFADevice(ctx, in)
		return err
	})
}

// DisableDevice takes a device from the user whose keys these are. ErrNotThere means that the user does not have it.
// https://docs.aws.amazon.com/IAM/latest/APIReference/API_DeactivateMFADevice.html
func (c *Client) DisableDevice(ctx context.Context, keys Keys, endpoint profiles.Endpoint, serial string) error {
	q := iamRequest("disable MFA device "+fault.Line(serial), keys, endpoint)
	return c.remove(ctx, q, "DeactivateMFADevice", func(ctx context.Context, api *iam.Client) error {
		_, err := api.DeactivateMFADevice(ctx, &iam.DeactivateMFADeviceInput{SerialNumber: &serial})
		return err
	})
}

// DeleteDevice deletes a virtual device that belongs to no user. ErrNotThere means that there is none.
// https://docs.aws.amazon.com/IAM/latest/APIReference/API_DeleteVirtualMFADevice.html
func (c *Client) DeleteDevice(ctx context.Context, keys Keys, endpoint profiles.Endpoint, serial string) error {
	q := iamRequest("delete MFA device "+fault.Line(serial), keys, endpoint)
	return c.remove(ctx, q, "DeleteVirtualMFADevice", func(ctx context.Context, api *iam.Client) error {
		_, err := api.DeleteVirtualMFADevice(ctx, &iam.DeleteVirtualMFADeviceInput{SerialNumber: &serial})
		return err
	})
}
