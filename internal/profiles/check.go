package profiles

import (
	"strconv"
	"time"

	"broker/internal/fault"
	"broker/internal/secret"
)

// CheckSource says whether a source may be called so and have this MFA serial
// (which may be empty), before anything is stored for it. The error is a fault.Usage.
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

// CheckRole says whether a role that no profile names can be asked for: what a
// profile would be refused for, it is refused for too. Empty fields say nothing. The error is a fault.Usage.
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

// CheckKeyID is CheckKey for the id alone, before anybody types the secret.
func CheckKeyID(id string) error {
	if err := checkAccessKeyID(id); err != nil {
		return fault.New(fault.Usage, "the access key id %w", err)
	}
	if len(id) > 4 && id[:4] == "ASIA" {
		return fault.New(fault.Usage, "the access key id is of a temporary session (ASIA…); give a long-lived key")
	}
	return nil
}

// CheckKey says whether these can be a long-lived access key of IAM. What is
// wrong is said without repeating any of it. The error is a fault.Usage.
// https://docs.aws.amazon.com/IAM/latest/APIReference/API_AccessKey.html
func CheckKey(id string, key secret.String) error {
	if err := CheckKeyID(id); err != nil {
		return err
	}
	text := key.Reveal()
	if len(text) < 16 || len(text) > 256 {
		return fault.New(fault.Usage, "the secret access key has %d characters, which no key of AWS has", len(text))
	}
	for _, r := range text {
		if r <= ' ' || r > '~' {
			return fault.New(fault.Usage, "the secret access key holds a character that no key of AWS has")
		}
	}
	return nil
}
