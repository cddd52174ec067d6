package profiles

import (
	"strconv"
	"strings"
	"time"

	"broker/internal/fault"
	"broker/internal/secret"
)

// CheckSource checks a source's name and its MFA serial (which may be empty) before anything is stored for it. The
// error is a fault.Usage.
func CheckSource(name, mfaSerial string) error {
	if err := checkName(name); err != nil {
		return err
	}
	if mfaSerial == "" {
		return nil
	}
	if err := checkMFASerial(mfaSerial); err != nil {
		return fault.New(fault.Usage, "the MFA serial %w", err)
	}
	return nil
}

// CheckRole checks a role that is requested without a profile, by the rules that apply to a profile's role. Empty
// fields are not checked. The error is a fault.Usage.
func CheckRole(r Role) error {
	for _, field := range []struct {
		name, value string
		check       check
	}{
		{"role", r.ARN, checkRoleARN}, {"external id", r.ExternalID, checkExternalID}, {"session name", r.SessionName, checkSessionName},
		{"MFA serial", r.MFASerial, checkMFASerial}, {"region", r.Endpoint.Region, checkRegion},
	} {
		if field.value == "" {
			continue
		}
		if err := field.check(field.value); err != nil {
			return fault.New(fault.Usage, "the %s %w", field.name, err)
		}
	}
	if r.Duration != 0 {
		if err := checkDuration(strconv.Itoa(int(r.Duration / time.Second))); err != nil {
			return fault.New(fault.Usage, "the duration %w", err)
		}
	}
	return nil
}

// CheckKey checks whether an id and a secret can be a long-lived access key of IAM. The error, a fault.Usage,
// never quotes either. https://docs.aws.amazon.com/IAM/latest/APIReference/API_AccessKey.html
func CheckKey(id string, key secret.String, compatible bool) error {
	if err := CheckKeyID(id, compatible); err != nil {
		return err
	}
	least := 16
	if compatible {
		least = 8 // MinIO's minimum
	}
	text := key.Reveal()
	if len(text) < least || len(text) > 256 {
		return fault.New(fault.Usage, "the secret access key has %d characters; no AWS key has that length", len(text))
	}
	if strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return fault.New(fault.Usage, "the secret access key contains a character that no AWS key contains")
	}
	return nil
}

// CheckKeyID checks only the id, before the user types the secret.
func CheckKeyID(id string, compatible bool) error {
	check := checkAccessKeyID
	if compatible {
		check = checkOtherKeyID
	}
	if err := check(id); err != nil {
		return fault.New(fault.Usage, "the access key id %w", err)
	}
	if strings.HasPrefix(id, "ASIA") && !compatible {
		return fault.New(fault.Usage,
			"the access key id belongs to a temporary session (ASIA…); use a long-lived key")
	}
	return nil
}
