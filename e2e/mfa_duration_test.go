package e2e

import (
	"os"
	"strings"
	"testing"
	"time"
)

const longConfig = `[profile long]
role_arn = arn:aws:iam::222233334444:role/long-work
source_profile = security
[profile toolong]
role_arn = ` + devRole + `
source_profile = security
duration_seconds = 7200
[profile release]
role_arn = arn:aws:iam::444455556666:role/release
source_profile = product_dev_paul
`

// TestMinTTLCannot checks that if no plan can give a session that is long enough, the error says why, and there is
// no prompt.
func TestMinTTLCannot(t *testing.T) {
	t.Parallel()
	h := seedless(t, "")
	must(t, h.write(h.awsConfig(), demoConfig+longConfig))
	s := h.sit(t, "broker", "exec", "--min-ttl", "2h", "release", "--", "true")
	if said := s.fails("1"); !strings.Contains(said, "a role that is assumed from a role lasts at most 1h") {
		t.Errorf("the error does not show the reason: %q", said)
	}
	s.asked(0)
	h.toldCodes(t, 0)
}

// TestRoleAllowsLess checks that a role with a lower maximum than its profile's duration is assumed for one hour,
// with one warning, and that Broker remembers this.
func TestRoleAllowsLess(t *testing.T) {
	t.Parallel()
	h := seedless(t, "")
	must(t, h.write(h.awsConfig(), demoConfig+longConfig))
	h.ok(t, "broker", "login", "security", "--code", h.code(t, serial))
	s := h.sit(t, "credproc", "toolong")
	s.waits(question)
	s.types(h.code(t, serial))
	if d := s.succeeds(); time.Until(d.Expiration) > time.Hour+time.Minute {
		t.Errorf("the session lasts until %v", d.Expiration)
	}
	s.asked(1)
	h.credentials(t, "toolong")
	h.toldCodes(t, 2)
	log, err := os.ReadFile(h.state("daemon.log"))
	must(t, err)
	if n := strings.Count(string(log), "the role allows a shorter session than its profile asks for"); n != 1 {
		t.Errorf("%d warnings in the log", n)
	}
}

const fakePinentry = `#!/bin/sh
echo "OK Pleased to meet you"
while read -r word rest; do
	case $word in
	GETINFO) echo "D fake"; echo OK ;;
	GETPIN) echo asked >>%[1]s; sleep 1; %[2]s ;;
	BYE) echo OK; exit 0 ;;
	*) echo OK ;;
	esac
done
`

// TestMinTTL checks that two hours take one AssumeRole with its own code, and one prompt.
func TestMinTTL(t *testing.T) {
	t.Parallel()
	h := seedless(t, "")
	must(t, h.write(h.awsConfig(), demoConfig+longConfig))
	h.ok(t, "broker", "login", "security", "--code", h.code(t, serial))
	r := h.run("broker", "exec", "--min-ttl", "2h", "long", "--", "true")
	if r.code != 4 || !strings.Contains(r.stderr, "AWS gives more than one hour only if a role is assumed with the "+
		"long-lived key, so this role needs its own code\nhint: broker mfa set security\n") {
		t.Errorf("the error does not say why the open session is not enough: %v", r)
	}
	for range 2 { // the second time it is cached
		s := h.sit(t, "broker", "exec", "--min-ttl", "2h", "long", "--", "printenv", "AWS_CREDENTIAL_EXPIRATION")
		if len(h.codes(t)) == 1 {
			s.waits(question)
			s.types(h.code(t, serial))
		}
		r := s.ends()
		until, err := time.Parse(time.RFC3339, strings.TrimSpace(r.stdout))
		if r.code != 0 || err != nil || time.Until(until) < 118*time.Minute {
			t.Errorf("%v, %v", err, r)
		}
	}
	h.toldCodes(t, 2)
	if last := h.codes(t)[1]; last.Action != "AssumeRole" || last.Params["DurationSeconds"] != "7200" {
		t.Errorf("the second code was sent with %s for %s s", last.Action, last.Params["DurationSeconds"])
	}
}
