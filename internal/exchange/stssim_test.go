//go:build unix

package exchange

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"broker/internal/fault"
	"broker/internal/profiles"
	"broker/internal/secret"
	"broker/internal/session"
	"broker/internal/stssim"
)

// The names of the demo organization.
const (
	simSerial  = "arn:aws:iam::111122223333:mfa/paul"
	simDev     = "arn:aws:iam::222233334444:role/allow-admin-from-security-account"
	simRelease = "arn:aws:iam::444455556666:role/release"
	simLong    = "arn:aws:iam::222233334444:role/long-work"
	simVendor  = "arn:aws:iam::333344445555:role/vendor-access"
)

// simulator is an STS that checks signatures without the SDK.
func simulator(t *testing.T) (*stssim.Sim, *Client) {
	t.Helper()
	return simulated(t, stssim.Demo())
}

// simulated is a simulator of an organization.
func simulated(t *testing.T, org *stssim.Organization) (*stssim.Sim, *Client) {
	t.Helper()
	sim, err := stssim.New(org)
	if err != nil {
		t.Fatal(err)
	}
	server, err := sim.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	return sim, New(Options{STSEndpoint: server.URL, Timeout: patience})
}

func simKeys() Keys {
	k := stssim.Demo().User("security", "paul").Keys[0]
	return Keys{AccessKeyID: k.ID, Secret: secret.New(k.Secret)}
}

func simRole(arn string) session.Call {
	return session.Call{Operation: session.AssumeRole, RoleARN: arn, SessionName: "paul@host", Endpoint: profiles.Endpoint{Region: "eu-central-1"}}
}

func simSession() session.Call {
	return session.Call{Operation: session.GetSessionToken, MFASerial: simSerial, Duration: 12 * time.Hour}
}

func TestSimulatedChain(t *testing.T) {
	sim, c := simulator(t)
	ctx := background(t)

	who, err := c.Identity(ctx, simKeys(), profiles.Endpoint{Region: "eu-west-1"})
	if err != nil {
		t.Fatal(err)
	}
	if who.ARN != "arn:aws:iam::111122223333:user/paul" || who.Account != "111122223333" {
		t.Errorf("identity %+v", who)
	}

	opened, err := c.Call(ctx, simKeys(), simSession(), secret.New(sim.FreshCode(simSerial)))
	if err != nil {
		t.Fatal(err)
	}
	if d := opened.Expires.Sub(opened.Issued); d < 12*time.Hour-2*time.Second || d > 12*time.Hour+2*time.Second {
		t.Errorf("the session lives %s", d)
	}
	dev, err := c.Assume(ctx, opened, simRole(simDev))
	if err != nil {
		t.Fatal(err)
	}
	if dev.Subject != "arn:aws:sts::222233334444:assumed-role/allow-admin-from-security-account/paul@host" {
		t.Errorf("subject %q", dev.Subject)
	}
	release, err := c.Assume(ctx, dev, simRole(simRelease))
	if err != nil {
		t.Fatal(err)
	}
	who, err = c.Identity(
		ctx,
		Keys{release.AccessKeyID, release.SecretAccessKey, release.SessionToken},
		profiles.Endpoint{},
	)
	if err != nil {
		t.Fatal(err)
	}
	if who.ARN != release.Subject || who.Account != "444455556666" {
		t.Errorf("identity of the chain's end %+v", who)
	}

	// A role with all parameters, directly from the long-lived key.
	sim.ForgetCodes()
	call := simRole(simLong)
	call.MFASerial, call.Duration = simSerial, 8*time.Hour
	call.Policy = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`
	call.Tags = []session.Tag{{Key: "team", Value: "a/b c+d=e ü_.:@-"}}
	if _, err := c.Call(ctx, simKeys(), call, secret.New(sim.FreshCode(simSerial))); err != nil {
		t.Error(err)
	}
	call = simRole(simVendor)
	call.PolicyARN, call.SourceIdentity = "arn:aws:iam::aws:policy/ReadOnlyAccess", "paul"
	call.Tags, call.TransitiveTags = []session.Tag{{Key: "team", Value: "web"}}, []string{"team"}
	call.ExternalID = "demo-external-id"
	if _, err := c.Call(ctx, simKeys(), call, secret.String{}); err != nil {
		t.Error(err)
	}
	for _, r := range sim.Requests() {
		if r.Outcome != "ok" {
			t.Errorf("%s: %s", r.Action, r.Outcome)
		}
	}
	regions := ""
	for _, r := range sim.Requests() {
		regions += r.Region + " "
	}
	if regions != "eu-west-1 us-east-1 eu-central-1 eu-central-1 us-east-1 eu-central-1 eu-central-1 " {
		t.Errorf("regions %s", regions)
	}
}

func TestSimulatedRefusals(t *testing.T) {
	sim, c := simulator(t)
	ctx := background(t)
	opened, err := c.Call(ctx, simKeys(), simSession(), secret.New(sim.FreshCode(simSerial)))
	if err != nil {
		t.Fatal(err)
	}

	code := sim.FreshCode(simSerial)
	if _, err := c.Call(ctx, simKeys(), simSession(), secret.New(code)); err != nil {
		t.Fatal(err)
	}
	_, err = c.Call(ctx, simKeys(), simSession(), secret.New(code))
	wantFault(t, err, fault.CodeRejected, "it is wrong or was used before")

	call := simSession()
	call.MFASerial = "arn:aws:iam::111122223333:mfa/nobody"
	_, err = c.Call(ctx, simKeys(), call, secret.New("123456"))
	wantFault(t, err, fault.CodeRejected, "the MFA device does not belong to this user")

	_, err = c.Call(ctx, simKeys(), simRole(simDev), secret.String{})
	wantFault(t, err, fault.Denied, "AWS denied it: User: arn:aws:iam::111122223333:user/paul is not authorized to perform: sts:AssumeRole")

	call = simRole(simLong)
	call.Duration = 2 * time.Hour
	_, err = c.Assume(ctx, opened, call)
	wantFault(t, err, fault.Failed, "1 hour session limit")

	wrong := simKeys()
	wrong.Secret = secret.New(longSecret)
	_, err = c.Identity(ctx, wrong, profiles.Endpoint{})
	wantFault(t, err, fault.Denied, "is wrong")

	_, err = c.Identity(ctx, userKeys(), profiles.Endpoint{})
	wantFault(t, err, fault.Denied, "AWS does not know access key")

	if !sim.RevokeSession(opened.AccessKeyID) {
		t.Fatal("nothing to revoke")
	}
	_, err = c.Assume(ctx, opened, simRole(simDev))
	wantFault(t, err, fault.ExpiredSession, "the session has expired")

	call = simRole(simVendor)
	call.ExternalID, call.Policy = "demo-external-id", "{"
	_, err = c.Call(ctx, simKeys(), call, secret.String{})
	wantFault(t, err, fault.Denied, "session policy or tags")
	call.Policy = `{"Statement":[{"Sid":"` + strings.Repeat("x", 2000) + `"}]}`
	call.Tags = []session.Tag{{Key: "k", Value: strings.Repeat("v", 256)}}
	_, err = c.Call(ctx, simKeys(), call, secret.String{})
	wantFault(t, err, fault.Denied, "Packed policy consumes")
}

func TestSimulatedFaults(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		fault stssim.Fault
		kind  fault.Kind // kind for a call with a code
		bare  fault.Kind // kind for a call without a code; empty if a retry succeeds
		calls int        // without a code
	}{
		{stssim.Fault{Kind: stssim.DropBefore}, fault.Network, "", 2},
		{stssim.Fault{Kind: stssim.DropAfter}, fault.Network, "", 2},
		{stssim.Fault{Kind: stssim.Status, Status: 503}, fault.Network, "", 2},
		{stssim.Fault{Kind: stssim.Throttle}, fault.Throttled, "", 2},
		{stssim.Fault{Kind: stssim.RegionDisabled}, fault.Denied, fault.Denied, 1},
		{stssim.Fault{Kind: stssim.Garbage}, fault.BadAnswer, fault.BadAnswer, 1},
		{stssim.Fault{Kind: stssim.EmptyBody}, fault.BadAnswer, fault.BadAnswer, 1},
		{stssim.Fault{Kind: stssim.Redirect, URL: "http://127.0.0.1:1/"}, fault.BadAnswer, fault.BadAnswer, 1},
		{stssim.Fault{Kind: stssim.HugeBody}, fault.BadAnswer, fault.BadAnswer, 1},
		{stssim.Fault{Kind: stssim.MissingFields, Fields: []string{"SecretAccessKey"}}, fault.BadAnswer, fault.BadAnswer, 1},
		{stssim.Fault{Kind: stssim.MissingFields, Fields: []string{"Expiration"}}, fault.BadAnswer, fault.BadAnswer, 1},
	} {
		t.Run(string(tt.fault.Kind), func(t *testing.T) {
			t.Parallel()
			sim, c := simulator(t)
			sim.Fault(tt.fault)
			code := sim.FreshCode(simSerial)
			_, err := c.Call(background(t), simKeys(), simSession(), secret.New(code))
			wantFault(t, err, tt.kind)
			if sim.Count("GetSessionToken") != 1 || !MaybeSeen(err) {
				t.Errorf("%d calls with one code, MaybeSeen %t", sim.Count("GetSessionToken"), MaybeSeen(err))
			}
			if strings.Contains(err.Error(), code) {
				t.Errorf("the code is in %v", err)
			}

			sim.ForgetCodes()
			opened, err := c.Call(background(t), simKeys(), simSession(), secret.New(sim.FreshCode(simSerial)))
			if err != nil {
				t.Fatal(err)
			}
			sim.Fault(tt.fault)
			_, err = c.Assume(background(t), opened, simRole(simDev))
			if tt.bare == "" && err != nil {
				t.Error(err)
			}
			if tt.bare != "" {
				wantFault(t, err, tt.bare)
			}
			if n := sim.Count("AssumeRole"); n != tt.calls {
				t.Errorf("%d calls without a code, want %d", n, tt.calls)
			}
		})
	}
}

// The simulator checks the signature against its own clock, and accepts codes only at its own time.
func TestSimulatedClock(t *testing.T) {
	for _, d := range []time.Duration{-24 * time.Hour, -16 * time.Minute, 10 * time.Minute, 16 * time.Minute,
		24 * time.Hour} {
		t.Run(d.String(), func(t *testing.T) {
			t.Parallel()
			sim, c := simulator(t)
			sim.SetClockOffset(d)
			began := time.Now()
			if _, err := c.Identity(background(t), simKeys(), profiles.Endpoint{}); err != nil {
				t.Fatal(err)
			}
			if (c.ServerOffset() - d).Abs() > time.Second+time.Since(began) {
				t.Errorf("offset %s, want %s", c.ServerOffset(), d)
			}
			code := sim.CodeAt(simSerial, time.Now().Add(c.ServerOffset()))
			got, err := c.Call(background(t), simKeys(), simSession(), secret.New(code))
			if err != nil {
				t.Fatal(err)
			}
			if (time.Until(got.Issued) - d).Abs() > 2*time.Second+time.Since(began) {
				t.Errorf("issued %s from now, want %s", time.Until(got.Issued), d)
			}
		})
	}
}

func TestSimulatedTLS(t *testing.T) {
	sim, err := stssim.New(stssim.Demo())
	if err != nil {
		t.Fatal(err)
	}
	for _, wrong := range []bool{false, true} {
		server, err := sim.Listen(stssim.Listener{TLS: true, WrongHost: wrong})
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
		bundle := filepath.Join(t.TempDir(), "ca.pem")
		if err := os.WriteFile(bundle, server.CAPEM, 0o600); err != nil {
			t.Fatal(err)
		}
		c := New(Options{STSEndpoint: server.URL})
		_, err = c.Identity(background(t), simKeys(), profiles.Endpoint{})
		wantFault(t, err, fault.Network, "cannot trust 127.0.0.1")
		_, err = c.Identity(background(t), simKeys(), profiles.Endpoint{CABundle: bundle})
		if wrong {
			wantFault(t, err, fault.Network, "for another host")
		} else if err != nil {
			t.Error(err)
		}
	}
}
