package session

import (
	"testing"
	"testing/synctest"
	"time"

	"broker/internal/fault"
)

const endings = threeRoles + `
[source seeded]
access_key_id = AKIAEXAMPLESEEDED
mfa_serial = arn:aws:iam::111122223333:mfa/pat
mfa_seed = keyring
[source program]
access_key_id = AKIAEXAMPLEPROGRAM
mfa_serial = arn:aws:iam::111122223333:mfa/pam
mfa_process = /bin/code
`

// TestEnding: in the last ten minutes, a session is listed that only a person can renew, until it is renewed.
func TestEnding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, endings)
		w.aws.onEachOpen(func(o open) error {
			if o.code == "" && o.source != "seeded" {
				return fault.New(fault.LoginNeeded, "no code")
			}
			return nil
		})
		codes := func() *person { return &person{answers: []string{"111111"}} }
		for _, source := range []string{"typed", "seeded", "program"} {
			if _, err := w.as(source, codes()); err != nil {
				t.Fatal(err)
			}
		}
		first := w.get("typed")
		time.Sleep(time.Until(first.Expires) - soon - time.Minute)
		if list := w.Ending(); len(list) != 0 {
			t.Errorf("eleven minutes before the end: %v", list)
		}
		time.Sleep(time.Minute)
		list := w.Ending()
		if len(list) != 1 || list[0].Login != "typed" || !list[0].Expires.Equal(first.Expires) || list[0].Used {
			t.Fatalf("ten minutes before the end: %v", list)
		}
		w.get("typed")
		if list := w.Ending(); len(list) != 1 || !list[0].Used {
			t.Errorf("after a use: %v", list)
		}
		for profile, needs := range map[string]bool{"typed": true, "a": true, "long": false, "each": false, "c": false, "none": false} {
			if key, ok := w.KeyOfCode(Request{Profile: profile, Files: w.files}); (ok && key == list[0].Key) != needs {
				t.Errorf("%s needs the session: %v", profile, !needs)
			}
		}
		w.login("typed", "222222")
		if list := w.Ending(); len(list) != 0 {
			t.Errorf("after a login: %v", list)
		}
	})
}

// TestEndingOfARole: a role that takes the code itself is listed by the name of its profile.
func TestEndingOfARole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, threeRoles)
		w.aws.onEachOpen(oneUse("111111"))
		answer, err := w.as("each", &person{answers: []string{"111111"}})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Until(answer.Expires) - 9*time.Minute)
		list := w.Ending()
		if len(list) != 1 || list[0].Login != "each" {
			t.Fatalf("%v", list)
		}
		if key, ok := w.KeyOfCode(Request{Profile: "each", Files: w.files}); !ok || key != list[0].Key {
			t.Error("the profile does not need its own session")
		}
		w.Lock()
		if list := w.Ending(); len(list) != 0 {
			t.Errorf("locked: %v", list)
		}
	})
}
