//go:build unix

package exchange

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"broker/internal/fault"
	"broker/internal/secret"
	"broker/internal/stssim"
)

const newSerial = "arn:aws:iam::111122223333:mfa/phone"

// codeOf returns the code of a device that AWS has just created: n is a number of steps from now.
func codeOf(t *testing.T, sim *stssim.Sim, d Device, n int) secret.String {
	t.Helper()
	at := sim.Now().Add(time.Duration(n) * 30 * time.Second)
	code, err := stssim.Device{Seed: d.Seed.Reveal()}.Code(at)
	if err != nil {
		t.Fatal(err)
	}
	return secret.New(code)
}

// TestSimulatedEnrollment gives the user a second device, and takes it back.
func TestSimulatedEnrollment(t *testing.T) {
	sim, c := simulator(t)
	ctx, keys := background(t), simKeys()
	made, err := c.CreateDevice(ctx, keys, anywhere, "phone")
	if err != nil || made.Serial != newSerial || len(made.Seed.Reveal()) != 64 {
		t.Fatalf("device %s with a seed of %d bytes, %v", made.Serial, len(made.Seed.Reveal()), err)
	}
	_, err = c.CreateDevice(ctx, keys, anywhere, "phone")
	wantFault(t, err, fault.Failed, "create MFA device phone: AWS refused it: EntityAlreadyExists: MFADevice entity")
	if !errors.Is(err, ErrExists) || sim.Count("CreateVirtualMFADevice") != 2 {
		t.Errorf("%d calls: %v", sim.Count("CreateVirtualMFADevice"), err)
	}
	_, err = c.CreateDevice(ctx, keys, anywhere, "my phone")
	wantFault(t, err, fault.Failed, "AWS does not accept it: 1 validation error detected")

	enable := func(serial string, first, second secret.String) error {
		sim.Reset()
		err := c.EnableDevice(ctx, keys, anywhere, "paul", serial, first, second)
		if sim.Count("EnableMFADevice") > 1 {
			t.Error("the codes were sent twice")
		}
		return err
	}
	first, second := codeOf(t, sim, made, -1), codeOf(t, sim, made, 0)
	err = enable(newSerial, second, first)
	wantFault(t, err, fault.CodeRejected, "enable MFA device "+newSerial+": AWS rejected the MFA codes, they are wrong")
	err = enable(newSerial, first, secret.New("12345"))
	wantFault(t, err, fault.CodeRejected, "it has to be six digits")
	if sim.Count("EnableMFADevice") != 0 {
		t.Error("half a code was sent")
	}
	err = enable(newSerial+"s", first, second)
	wantFault(t, err, fault.Failed, "NoSuchEntity")
	if !errors.Is(err, ErrNotThere) {
		t.Errorf("not ErrNotThere: %v", err)
	}
	if err := enable(newSerial, first, second); err != nil {
		t.Fatal(err)
	}
	err = enable(newSerial, first, second)
	wantFault(t, err, fault.Failed, "EntityAlreadyExists")
	if !errors.Is(err, ErrExists) {
		t.Errorf("not ErrExists: %v", err)
	}

	serials, err := c.Devices(ctx, keys, anywhere)
	if err != nil || fmt.Sprint(serials) != "["+simSerial+" "+newSerial+"]" {
		t.Errorf("devices %v, %v", serials, err)
	}
	call := simSession()
	call.MFASerial = newSerial
	_, err = c.Call(ctx, keys, call, second)
	wantFault(t, err, fault.CodeRejected, "was used before")
	if _, err := c.Call(ctx, keys, call, codeOf(t, sim, made, 1)); err != nil {
		t.Error(err)
	}

	err = c.DeleteDevice(ctx, keys, anywhere, newSerial)
	wantFault(t, err, fault.Failed, "delete MFA device "+newSerial+": AWS refused it: DeleteConflict")
	if err := c.DisableDevice(ctx, keys, anywhere, newSerial); err != nil {
		t.Fatal(err)
	}
	if err := c.DeleteDevice(ctx, keys, anywhere, newSerial); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"disable MFA device " + newSerial: c.DisableDevice(ctx, keys, anywhere, newSerial),
		"delete MFA device " + newSerial:  c.DeleteDevice(ctx, keys, anywhere, newSerial),
	} {
		wantFault(t, err, fault.Failed, what+": AWS refused it: NoSuchEntity")
		if !errors.Is(err, ErrNotThere) {
			t.Errorf("not ErrNotThere: %v", err)
		}
	}
	if left := sim.Devices(); len(left) != 1 || left[0].Serial != simSerial {
		t.Errorf("devices that are left: %v", left)
	}
}

// deviceCalls are the calls of devices.go, by action.
var deviceCalls = map[string]func(context.Context, *Client, Keys, secret.String, secret.String) error{
	"CreateVirtualMFADevice": func(ctx context.Context, c *Client, k Keys, _, _ secret.String) error {
		got, err := c.CreateDevice(ctx, k, anywhere, "phone")
		if err != nil && (got.Serial != "" || !got.Seed.IsZero()) {
			return errors.New("a device was returned with an error")
		}
		return err
	},
	"EnableMFADevice": func(ctx context.Context, c *Client, k Keys, first, second secret.String) error {
		return c.EnableDevice(ctx, k, anywhere, "paul", newSerial, first, second)
	},
	"DeactivateMFADevice": func(ctx context.Context, c *Client, k Keys, _, _ secret.String) error {
		return c.DisableDevice(ctx, k, anywhere, newSerial)
	},
	"DeleteVirtualMFADevice": func(ctx context.Context, c *Client, k Keys, _, _ secret.String) error {
		return c.DeleteDevice(ctx, k, anywhere, newSerial)
	},
}

// TestDeviceFaults: what creates a device or has codes is never sent twice.
func TestDeviceFaults(t *testing.T) {
	t.Parallel()
	effects := map[string]string{
		"CreateVirtualMFADevice": "; AWS may have created the device",
		"EnableMFADevice":        "; AWS may have enabled the device",
	}
	for _, tt := range lostAnswers {
		for action, call := range deviceCalls {
			t.Run(string(tt.fault.Kind)+tt.fault.Body+"/"+action, func(t *testing.T) {
				t.Parallel()
				sim, c := simulator(t)
				ctx := background(t)
				made := Device{Seed: secret.New(strings.Repeat("A", 64))}
				var err error
				if action != "CreateVirtualMFADevice" {
					if made, err = c.CreateDevice(ctx, simKeys(), anywhere, "phone"); err != nil {
						t.Fatal(err)
					}
				}
				first, second := codeOf(t, sim, made, -1), codeOf(t, sim, made, 0)
				if action == "DeactivateMFADevice" {
					if err := c.EnableDevice(ctx, simKeys(), anywhere, "paul", newSerial, first, second); err != nil {
						t.Fatal(err)
					}
				}
				sim.Reset()
				sim.Fault(tt.fault)
				err = call(ctx, c, simKeys(), first, second)
				if tt.again && effects[action] == "" {
					if err != nil || sim.Count(action) != 2 {
						t.Errorf("%d calls: %v", sim.Count(action), err)
					}
					return
				}
				wantFault(t, err, tt.kind)
				if sim.Count(action) != 1 || !MaybeSeen(err) {
					t.Errorf("%d calls, MaybeSeen %t", sim.Count(action), MaybeSeen(err))
				}
				if says := strings.Contains(err.Error(), "AWS may have"); says != (tt.lost && effects[action] != "") ||
					says && !strings.HasSuffix(err.Error(), effects[action]) {
					t.Errorf("what may have happened: %v", err)
				}
				if strings.Contains(err.Error(), first.Reveal()) || strings.Contains(err.Error(), second.Reveal()) {
					t.Errorf("a code is in %v", err)
				}
			})
		}
	}
}

func TestStrangeAnswersAboutDevices(t *testing.T) {
	const seed = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
	device := func(serial, seed string) string {
		return "<VirtualMFADevice>" + serial + seed + "</VirtualMFADevice>"
	}
	serial := func(s string) string { return "<SerialNumber>" + s + "</SerialNumber>" }
	encoded := func(s string) string {
		return "<Base32StringSeed>" + base64.StdEncoding.EncodeToString([]byte(s)) + "</Base32StringSeed>"
	}
	for _, tt := range []struct{ name, result, text string }{
		{"no device", "", "no VirtualMFADevice"},
		{"no serial", device("", encoded(seed)), "no SerialNumber"},
		{"another name", device(serial("arn:aws:iam::111122223333:mfa/phones"), encoded(seed)), "invalid SerialNumber"},
		{"a path", device(serial("arn:aws:iam::111122223333:mfa/team/phone"), encoded(seed)), "invalid SerialNumber"},
		{"a user", device(serial("arn:aws:iam::111122223333:user/phone"), encoded(seed)), "invalid SerialNumber"},
		{"no account", device(serial("arn:aws:iam:::mfa/phone"), encoded(seed)), "invalid SerialNumber"},
		{"no seed", device(serial(newSerial), ""), "no Base32StringSeed"},
		{"a short seed", device(serial(newSerial), encoded(seed[:25])), "invalid Base32StringSeed"},
		{"a long seed", device(serial(newSerial), encoded(seed+seed+"A")), "invalid Base32StringSeed"},
		{"a seed of bytes", device(serial(newSerial), encoded(seed[:40]+"\x00\xff")), "invalid Base32StringSeed"},
		{"a seed with a newline", device(serial(newSerial), encoded(seed+"\n")), "invalid Base32StringSeed"},
		{"a seed that is not encoded", device(serial(newSerial), "<Base32StringSeed>"+seed+"!</Base32StringSeed>"), "not an answer of IAM"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := serve(t, say(http.StatusOK, iamAnswer("CreateVirtualMFADevice", tt.result)))
			err := deviceCalls["CreateVirtualMFADevice"](background(t), client(f), userKeys(), secret.String{}, secret.String{})
			wantFault(t, err, fault.BadAnswer, tt.text, "; AWS may have created the device")
			if strings.Contains(err.Error(), seed[:8]) {
				t.Errorf("the seed is in %v", err)
			}
		})
	}
	// The answer of another action is not taken for success.
	for _, call := range deviceCalls {
		f := serve(t, say(http.StatusOK, iamAnswer("GetUser", "")))
		err := call(background(t), client(f), userKeys(), secret.New(aCode), secret.New(aCode))
		wantFault(t, err, fault.BadAnswer, "but that is not an answer of IAM")
	}
}

// TestEchoedCodes: a server that repeats the request in its refusal does not get the codes into a message.
func TestEchoedCodes(t *testing.T) {
	const other = "552244"
	echo := "the codes " + other + " and " + aCode + " are signed with " + longSecret
	f := serve(t, say(http.StatusForbidden, refusal("InvalidAuthenticationCode", echo)))
	err := deviceCalls["EnableMFADevice"](background(t), client(f), userKeys(), secret.New(aCode), secret.New(other))
	wantFault(t, err, fault.CodeRejected, "the codes [redacted] and [redacted] are signed with [redacted]")
	if strings.Contains(err.Error(), other) {
		t.Errorf("the second code is in %v", err)
	}
}
