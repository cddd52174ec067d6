package session

import (
	"strings"
	"testing"
	"testing/synctest"

	"broker/internal/fault"
)

// TestCheckHoldsNothing: a check asks AWS each time, and no request is answered with its session.
func TestCheckHoldsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, registry)
		for n := 1; n <= 2; n++ {
			for _, how := range []Variant{WithMFA, WithoutMFA} {
				if _, _, err := w.Check(t.Context(), Request{Profile: "dev", Files: w.files}, how); err != nil {
					t.Fatal(err)
				}
			}
			// The MFA session is opened once. Without it, the key itself assumes the role.
			w.aws.wantCalls(t, 1+n, n)
		}
		for _, h := range w.Held() {
			if h.Role != "" {
				t.Errorf("the session of %s is held", h.Role)
			}
		}
		if a, err := w.ask("dev"); err != nil || a.Cached {
			t.Errorf("%+v, %v", a, err)
		}
		last := w.aws.opens[len(w.aws.opens)-1]
		if last.call.Operation != AssumeRole || last.call.MFASerial != "" || last.code != "" {
			t.Errorf("without MFA: %+v", last)
		}
	})
}

// TestCheckVariants: what each variant asks for. A role of more than an hour needs no code of its own, and a chain
// without MFA is assumed from its beginning, outside of the cache.
func TestCheckVariants(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, registry+"\n[profile vendor]\nrole_arn = arn:aws:iam::777788889999:role/vendor\n"+
			"source_profile = security\nexternal_id = secret-of-vendor\n")
		check := func(profile string, how Variant) (*Plan, error) {
			_, plan, err := w.Check(t.Context(), Request{Profile: profile, Files: w.files}, how)
			return plan, err
		}
		if plan, err := check("long", WithMFA); err != nil || len(plan.Steps) != 2 || plan.Steps[1].Duration != hour {
			t.Errorf("long: %+v, %v", plan, err)
		}
		if plan, err := check("deep", WithoutMFA); err != nil || len(plan.Steps) != 2 || plan.Steps[0].MFASerial != "" {
			t.Errorf("deep: %+v, %v", plan, err)
		}
		if held := w.Held(); len(held) != 1 { // the MFA session
			t.Errorf("%d sessions are held", len(held))
		}
		for how, want := range map[Variant]string{WithMFA: "secret-of-vendor", WithoutMFA: "secret-of-vendor", WithoutExternalID: ""} {
			plan, err := check("vendor", how)
			if err != nil || plan.Steps[len(plan.Steps)-1].ExternalID != want {
				t.Errorf("variant %d: %+v, %v", how, plan, err)
			}
		}
		if _, err := check("security", WithMFA); !fault.Is(err, fault.Usage) || !strings.Contains(err.Error(), "is a source or") {
			t.Errorf("a source: %v", err)
		}
		w.Lock()
		if _, err := check("dev", WithoutMFA); !fault.Is(err, fault.Locked) {
			t.Errorf("locked: %v", err)
		}
	})
}

// TestLockDuringACheck: an answer of AWS that comes after a lock is dropped.
func TestLockDuringACheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, registry)
		w.aws.onOpen = func(open) error {
			w.Lock()
			return nil
		}
		creds, _, err := w.Check(t.Context(), Request{Profile: "dev", Files: w.files}, WithoutMFA)
		if !fault.Is(err, fault.Locked) || creds.AccessKeyID != "" {
			t.Errorf("%+v, %v", creds, err)
		}
	})
}
