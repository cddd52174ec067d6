package stssim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image/png"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"
)

const newSerial = "arn:aws:iam::111122223333:mfa/new"

// create makes a device with the SDK, and returns a function for its codes: n is a number of steps from now.
func (c caller) create(t testing.TB, name, path string) (serial string, code func(n int) string) {
	t.Helper()
	in := &iam.CreateVirtualMFADeviceInput{VirtualMFADeviceName: &name}
	if path != "" {
		in.Path = &path
	}
	out, err := c.iamClient().CreateVirtualMFADevice(context.Background(), in)
	if err != nil {
		t.Fatal(err)
	}
	device := out.VirtualMFADevice
	if _, err := png.Decode(bytes.NewReader(device.QRCodePNG)); err != nil || len(device.Base32StringSeed) != 64 {
		t.Errorf("a seed of %d bytes, picture: %v", len(device.Base32StringSeed), err)
	}
	made := Device{Seed: string(device.Base32StringSeed)}
	return *device.SerialNumber, func(n int) string {
		code, err := made.Code(c.sim.Now().Add(time.Duration(n) * codeStep))
		if err != nil {
			t.Fatal(err)
		}
		return code
	}
}

func (c caller) enable(user, serial, first, second string) error {
	_, err := c.iamClient().EnableMFADevice(context.Background(), &iam.EnableMFADeviceInput{
		UserName: &user, SerialNumber: &serial, AuthenticationCode1: &first, AuthenticationCode2: &second,
	})
	return err
}

func (c caller) deactivate(serial string) error {
	in := &iam.DeactivateMFADeviceInput{SerialNumber: &serial}
	_, err := c.iamClient().DeactivateMFADevice(context.Background(), in)
	return err
}

func (c caller) deleteDevice(serial string) error {
	in := &iam.DeleteVirtualMFADeviceInput{SerialNumber: &serial}
	_, err := c.iamClient().DeleteVirtualMFADevice(context.Background(), in)
	return err
}

func TestDeviceByTheSDK(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := newDemo(t)
		who := robot(sim)
		serial, code := who.create(t, "new", "")
		if serial != newSerial || len(sim.Devices()) != 2 || sim.Devices()[0] != (DeviceState{Serial: newSerial}) {
			t.Fatalf("created %s, devices %v", serial, sim.Devices())
		}
		again := &iam.CreateVirtualMFADeviceInput{VirtualMFADeviceName: aws.String("new")}
		_, err := who.iamClient().CreateVirtualMFADevice(t.Context(), again)
		if exists := (*types.EntityAlreadyExistsException)(nil); !errors.As(err, &exists) {
			t.Errorf("created twice: %v", err)
		}
		// It belongs to nobody, so its codes open no session.
		login := func(code string) reply {
			return who.call("GetSessionToken", "SerialNumber", serial, "TokenCode", code)
		}
		login(code(0)).want(t, "AccessDenied", "unable to validate MFA code")

		wantCode(t, who.enable("robot", serial, "000000", code(0)), "InvalidAuthenticationCode", "is not valid")
		wantCode(t, who.enable("robot", serial, code(0), code(0)), "InvalidAuthenticationCode", "")
		wantCode(t, who.enable("robot", serial, code(0), code(-1)), "InvalidAuthenticationCode", "")
		wantCode(t, who.enable("robot", serial, code(-1), code(1)), "InvalidAuthenticationCode", "")
		wantCode(t, who.enable("robot", serial, code(-3), code(-2)), "InvalidAuthenticationCode", "")
		wantCode(t, who.enable("robot", serial, code(1), code(2)), "InvalidAuthenticationCode", "")
		wantCode(t, who.enable("robot", serial, "12345", "letter"), "ValidationError", "2 validation errors detected")
		wantCode(t, who.enable("nobody", serial, code(-1), code(0)), "NoSuchEntity", "nobody")
		wantCode(t, who.enable("robot", serial+"er", code(-1), code(0)), "NoSuchEntity", "doesn't exist")
		wantCode(t, who.deactivate(serial), "NoSuchEntity", "invalid for user")
		first, second := code(-1), code(0)
		if err := who.enable("robot", serial, first, second); err != nil {
			t.Fatal(err)
		}
		wantCode(t, who.enable("paul", serial, code(0), code(1)), "EntityAlreadyExists", "in use")
		wantCode(t, who.enable("robot", serial, code(0), code(1)), "EntityAlreadyExists", "in use")
		if sim.Devices()[0].User != "arn:aws:iam::111122223333:user/robot" {
			t.Errorf("devices %v", sim.Devices())
		}

		// The codes of the enrollment are used up.
		login(second).want(t, "AccessDenied", "one time pass code")
		time.Sleep(codeStep)
		login(second).want(t, "AccessDenied", "one time pass code")
		mfa := who.with(login(code(0)))
		list, err := mfa.iamClient().ListMFADevices(t.Context(), nil)
		if err != nil || len(list.MFADevices) != 1 || *list.MFADevices[0].SerialNumber != serial {
			t.Errorf("devices %v, %v", list, err)
		}

		wantCode(t, mfa.deleteDevice(serial), "DeleteConflict", "in use")
		wantCode(t, paul(sim).deactivate(serial), "NoSuchEntity", "invalid for user")
		if err := mfa.deactivate(serial); err != nil {
			t.Fatal(err)
		}
		login(code(1)).want(t, "AccessDenied", "unable to validate MFA code")
		// A used code does not enable it either.
		wantCode(t, who.enable("robot", serial, code(0), code(1)), "InvalidAuthenticationCode", "")
		if err := mfa.deleteDevice(serial); err != nil {
			t.Fatal(err)
		}
		wantCode(t, mfa.deleteDevice(serial), "NoSuchEntity", "VirtualMFADevice with serial number "+serial+" doesn't exist.")
		if len(sim.Devices()) != 1 || sim.Devices()[0].Serial != paulSerial {
			t.Errorf("devices %v", sim.Devices())
		}
	})
}

func TestDevicePathsAndLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := newDemo(t)
		if serial, _ := paul(sim).create(t, "new", "/team/web/"); serial != "arn:aws:iam::111122223333:mfa/team/web/new" {
			t.Errorf("serial %s", serial)
		}
		paul(sim).call("CreateVirtualMFADevice", "VirtualMFADeviceName", "a b", "Path", "team").
			want(t, "ValidationError", "2 validation errors detected")
		paul(sim).call("CreateVirtualMFADevice").want(t, "ValidationError", "'virtualMFADeviceName'")
		for n := 1; n <= devicesPerUser; n++ {
			serial, code := paul(sim).create(t, fmt.Sprint("device", n), "")
			err := paul(sim).enable("paul", serial, code(-1), code(0))
			if n < devicesPerUser && err != nil { // paul has one of them already
				t.Fatal(err)
			}
			if n == devicesPerUser {
				wantCode(t, err, "LimitExceeded", "8")
			}
		}
		// Another account does not see the devices of this one.
		dev := paul(sim).session(t).assume(t, devAdmin)
		wantCode(t, dev.deleteDevice(newSerial), "NoSuchEntity", "")
		wantCode(t, dev.deleteDevice("arn:aws:iam::111122223333:mfa/team/web/new"), "NoSuchEntity", "")
	})
}

func TestDevicesAreDenied(t *testing.T) {
	org := Demo()
	org.User("security", "paul").DenyWithoutMFA = []string{"iam:DeleteVirtualMFADevice", "iam:DeactivateMFADevice"}
	org.User("security", "paul").Deny = []string{"iam:CreateVirtualMFADevice arn:aws:iam::*:mfa/other"}
	sim, err := New(org)
	if err != nil {
		t.Fatal(err)
	}
	paul(sim).call("CreateVirtualMFADevice", "VirtualMFADeviceName", "other").
		want(t, "AccessDenied", "iam:CreateVirtualMFADevice on resource: arn:aws:iam::111122223333:mfa/other")
	serial, _ := paul(sim).create(t, "new", "")
	wantCode(t, paul(sim).deleteDevice(serial), "AccessDenied", "iam:DeleteVirtualMFADevice")
	wantCode(t, paul(sim).deactivate(paulSerial), "AccessDenied", "iam:DeactivateMFADevice")
	if err := paul(sim).session(t).deleteDevice(serial); err != nil {
		t.Error(err)
	}
	// A lost answer: the device is there, and nobody has its seed.
	sim.Fault(Fault{Kind: DropAfter, Action: "CreateVirtualMFADevice"})
	r := paul(sim).call("CreateVirtualMFADevice", "VirtualMFADeviceName", "new")
	if r.err == nil || len(sim.Devices()) != 2 {
		t.Errorf("answer %v, devices %v", r.err, sim.Devices())
	}
}
