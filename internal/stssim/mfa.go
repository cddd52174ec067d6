package stssim

import (
	"bytes"
	"encoding/base32"
	"encoding/base64"
	"image"
	"image/png"
	"net/http"
	"time"
)

// devicesPerUser is IAM's quota.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html
const devicesPerUser = 8

// The error texts for MFA devices. AWS documents only the codes; the texts are from public issues and from other
// simulators, but that of errDevices is modeled on the one for access keys.
var (
	errDeviceExists  = &apiError{http.StatusConflict, "EntityAlreadyExists", "MFADevice entity at the same path and name already exists."}
	errDeviceInUse   = &apiError{http.StatusConflict, "EntityAlreadyExists", "MFA Device is already in use."}
	errDeviceEnabled = &apiError{http.StatusConflict, "DeleteConflict", "MFA device is still in use."}
	errDevices       = &apiError{http.StatusConflict, "LimitExceeded", "Cannot exceed quota for MFADevicesPerUser: 8"}
	errWrongPair     = &apiError{http.StatusForbidden, "InvalidAuthenticationCode", "Authentication code for device is not valid."}
	errNotOwnDevice  = noSuchEntity("MFA Device invalid for user.")
)

var pathAlphabet = newAlphabet(`(\/)|(\/[\x21-\x7e]+\/)`)

// device returns the device that the call names, if it is in the caller's account.
func (w *world) device(c *call) (*device, *apiError) {
	serial := c.get("SerialNumber")
	if d := w.devices[serial]; d != nil && d.account == c.caller.account {
		return d, nil
	}
	return nil, noSuchEntity("VirtualMFADevice with serial number " + serial + " doesn't exist.")
}

// createVirtualMFADevice creates a device that belongs to no user yet.
// https://docs.aws.amazon.com/IAM/latest/APIReference/API_CreateVirtualMFADevice.html
func (w *world) createVirtualMFADevice(c *call) (any, *apiError) {
	var cs constraints
	if cs.required(c.params, "VirtualMFADeviceName", "virtualMFADeviceName") {
		cs.text(c.get("VirtualMFADeviceName"), "virtualMFADeviceName", 1, 226, nameAlphabet)
	}
	path := "/"
	if c.params.Has("Path") {
		path = c.get("Path")
		cs.text(path, "path", 1, 512, pathAlphabet)
	}
	if err := cs.err(); err != nil {
		return nil, err
	}
	serial := c.caller.account.arn("iam", "mfa"+path+c.get("VirtualMFADeviceName"))
	if err := c.denied(serial); err != nil {
		return nil, err
	}
	if w.devices[serial] != nil {
		return nil, errDeviceExists
	}
	key := randomBytes(40)
	w.devices[serial] = &device{serial: serial, account: c.caller.account, key: key, spent: make(map[int64]bool)}
	type deviceXML struct {
		SerialNumber     string
		Base32StringSeed string // base64 of the base32 text
		QRCodePNG        string // base64
	}
	seed := base64.StdEncoding.EncodeToString([]byte(base32.StdEncoding.EncodeToString(key)))
	return struct{ VirtualMFADevice deviceXML }{deviceXML{serial, seed, blankPNG()}}, nil
}

// blankPNG returns a picture in place of the QR code.
func blankPNG() string {
	var b bytes.Buffer
	if err := png.Encode(&b, image.NewGray(image.Rect(0, 0, 1, 1))); err != nil {
		panic("stssim: encode a picture: " + err.Error())
	}
	return base64.StdEncoding.EncodeToString(b.Bytes())
}

// enableMFADevice gives a device to a user. Two codes in a row prove that the user has the seed.
// https://docs.aws.amazon.com/IAM/latest/APIReference/API_EnableMFADevice.html
func (w *world) enableMFADevice(c *call) (any, *apiError) {
	var cs constraints
	cs.required(c.params, "UserName", "userName")
	cs.serial(c)
	for _, n := range []string{"1", "2"} {
		if cs.required(c.params, "AuthenticationCode"+n, "authenticationCode"+n) {
			cs.text(c.get("AuthenticationCode"+n), "authenticationCode"+n, 6, 6, digitAlphabet)
		}
	}
	if err := cs.err(); err != nil {
		return nil, err
	}
	u, err := w.subject(c)
	if err != nil {
		return nil, err
	}
	d, err := w.device(c)
	if err != nil {
		return nil, err
	}
	has := 0
	for _, other := range w.devices {
		if other.user == u {
			has++
		}
	}
	switch {
	case d.user != nil:
		return nil, errDeviceInUse
	case has >= devicesPerUser:
		return nil, errDevices
	case !d.acceptPair(c.get("AuthenticationCode1"), c.get("AuthenticationCode2"), c.now):
		return nil, errWrongPair
	}
	d.user, d.enabled = u, c.now
	return nil, nil
}

// serial checks the form of the serial number, which the call must have.
func (cs *constraints) serial(c *call) {
	if cs.required(c.params, "SerialNumber", "serialNumber") {
		cs.text(c.get("SerialNumber"), "serialNumber", 9, 256, serialAlphabet)
	}
}

// deactivateMFADevice takes a device from a user. A virtual one stays, without a user.
// https://docs.aws.amazon.com/IAM/latest/APIReference/API_DeactivateMFADevice.html
func (w *world) deactivateMFADevice(c *call) (any, *apiError) {
	var cs constraints
	cs.serial(c)
	if err := cs.err(); err != nil {
		return nil, err
	}
	u, err := w.subject(c)
	if err != nil {
		return nil, err
	}
	d := w.devices[c.get("SerialNumber")]
	if d == nil || d.user != u {
		return nil, errNotOwnDevice
	}
	d.user, d.enabled = nil, time.Time{}
	return nil, nil
}

// deleteVirtualMFADevice deletes a device that belongs to no user.
// https://docs.aws.amazon.com/IAM/latest/APIReference/API_DeleteVirtualMFADevice.html
func (w *world) deleteVirtualMFADevice(c *call) (any, *apiError) {
	var cs constraints
	cs.serial(c)
	if err := cs.err(); err != nil {
		return nil, err
	}
	if err := c.denied(c.get("SerialNumber")); err != nil {
		return nil, err
	}
	d, err := w.device(c)
	switch {
	case err != nil:
		return nil, err
	case d.user != nil:
		return nil, errDeviceEnabled
	}
	delete(w.devices, d.serial)
	return nil, nil
}

// DeviceState describes an MFA device in the result of Devices.
type DeviceState struct {
	Serial string `json:"serial"`
	User   string `json:"user,omitempty"` // ARN; empty if the device is not enabled
}
