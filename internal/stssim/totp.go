package stssim

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"strings"
	"time"
)

// codeStep is how long a device shows a code, RFC 6238.
const codeStep = 30 * time.Second

// decodeSeed decodes the base32 text that AWS shows next to the QR code. People copy it with spaces, in lower case
// and without padding.
func decodeSeed(seed string) ([]byte, error) {
	seed = strings.ToUpper(strings.NewReplacer(" ", "", "-", "", "=", "").Replace(seed))
	key, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(seed)
	if err != nil || len(key) == 0 {
		return nil, fmt.Errorf("the seed is not base32")
	}
	return key, nil
}

// stepOf returns the number of the step that contains t.
func stepOf(t time.Time) int64 { return t.Unix() / int64(codeStep/time.Second) }

// codeOf returns the six-digit code for one step: RFC 6238 with SHA-1, as AWS's virtual devices use it.
func codeOf(key []byte, step int64) string {
	mac := hmac.New(sha1.New, key)
	mac.Write(binary.BigEndian.AppendUint64(nil, uint64(step)))
	sum := mac.Sum(nil)
	offset := sum[len(sum)-1] & 0x0f
	number := binary.BigEndian.Uint32(sum[offset:]) & 0x7fffffff
	return fmt.Sprintf("%06d", number%1_000_000)
}

// Code returns the code that the device shows at time t, or an error if the seed is not base32.
func (d Device) Code(t time.Time) (string, error) {
	key, err := decodeSeed(d.Seed)
	if err != nil {
		return "", err
	}
	return codeOf(key, stepOf(t)), nil
}

// device is an MFA device: it records which of its codes were used.
type device struct {
	serial  string
	account *Account
	user    *user // nil until it is enabled
	key     []byte
	enabled time.Time
	spent   map[int64]bool // steps whose code was accepted
}

// accept uses up the code of the step before now, of now or after now, each at most once in the life of the
// device.
func (d *device) accept(code string, now time.Time) bool {
	current := stepOf(now)
	for step := current - 1; step <= current+1; step++ {
		if codeOf(d.key, step) == code && !d.spent[step] {
			d.spent[step] = true
			return true
		}
	}
	return false
}

// acceptPair uses up the codes of two steps in a row. The second step must be one that accept would accept now.
func (d *device) acceptPair(first, second string, now time.Time) bool {
	current := stepOf(now)
	for step := current - 1; step <= current+1; step++ {
		if codeOf(d.key, step-1) == first && !d.spent[step-1] && codeOf(d.key, step) == second && !d.spent[step] {
			d.spent[step-1], d.spent[step] = true, true
			return true
		}
	}
	return false
}

// fresh returns a code that accept would accept now, or "" if all three are used. The code of the previous step
// comes last: it may be too old by the time it is used.
func (d *device) fresh(now time.Time) string {
	current := stepOf(now)
	for _, step := range []int64{current, current + 1, current - 1} {
		if !d.spent[step] {
			return codeOf(d.key, step)
		}
	}
	return ""
}
