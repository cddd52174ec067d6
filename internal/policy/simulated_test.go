//go:build unix

package policy

import (
	"context"
	"strings"
	"testing"
	"time"

	"broker/internal/exchange"
	"broker/internal/profiles"
	"broker/internal/secret"
	"broker/internal/session"
	"broker/internal/stssim"
)

const (
	paulSerial = "arn:aws:iam::111122223333:mfa/paul"
	testTime   = time.Minute // for one call on a busy machine
	everything = `{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}`
)

var anywhere = profiles.Endpoint{Region: "eu-west-1"}

// aws is a simulated AWS, with the calls that Broker makes.
type aws struct {
	*exchange.Client
	t   *testing.T
	sim *stssim.Sim
}

// simulated starts the demo organization after a change.
func simulated(t *testing.T, change func(*stssim.Organization)) aws {
	t.Helper()
	org := stssim.Demo()
	change(org)
	sim, err := stssim.New(org)
	if err != nil {
		t.Fatal(err)
	}
	server, err := sim.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	return aws{exchange.New(exchange.Options{STSEndpoint: server.URL, Timeout: testTime}), t, sim}
}

// ofPaul sets the policies of the user paul.
func ofPaul(documents ...Document) func(*stssim.Organization) {
	return func(org *stssim.Organization) {
		for _, d := range documents {
			user := org.User("security", "paul")
			user.Policies = append(user.Policies, string(d.JSON()))
		}
	}
}

func paulKeys() exchange.Keys {
	k := stssim.Demo().User("security", "paul").Keys[0]
	return exchange.Keys{AccessKeyID: k.ID, Secret: secret.New(k.Secret)}
}

func keysOf(c session.Credentials) exchange.Keys {
	return exchange.Keys{AccessKeyID: c.AccessKeyID, Secret: c.SecretAccessKey, Token: c.SessionToken}
}

// session opens a session of paul, with MFA if there is a serial.
func (a aws) session(serial string) exchange.Keys {
	a.t.Helper()
	var code secret.String
	if serial != "" {
		code = secret.New(a.sim.FreshCode(serial))
	}
	c, err := a.Call(context.Background(), paulKeys(),
		session.Call{Operation: session.GetSessionToken, MFASerial: serial, Duration: 12 * time.Hour}, code)
	if err != nil {
		a.t.Fatal(err)
	}
	return keysOf(c)
}

func (a aws) assume(keys exchange.Keys, call session.Call) (session.Credentials, error) {
	call.Operation, call.SessionName, call.Endpoint = session.AssumeRole, "test", anywhere
	if keys.Token.Reveal() == "" {
		return a.Call(context.Background(), keys, call, secret.String{})
	}
	return a.Assume(context.Background(), session.Credentials{
		AccessKeyID: keys.AccessKeyID, SecretAccessKey: keys.Secret, SessionToken: keys.Token,
		Expires: time.Now().Add(time.Hour),
	}, call)
}

// want checks that AWS denied a call, or that it did not.
func want(t *testing.T, what string, err error, denied bool) {
	t.Helper()
	if (err != nil) != denied || denied && !strings.Contains(err.Error(), "not authorized to perform") {
		t.Errorf("%s: %v; denied should be %v", what, err, denied)
	}
}

// TestTrustNeedsMFA assumes a role that has the trust policy, with everything that the policy refuses.
func TestTrustNeedsMFA(t *testing.T) {
	t.Parallel()
	trusted := func(given Trusting) aws {
		given.Partition, given.Account = "aws", security
		d := must(t)(Trust(given))
		return simulated(t, func(org *stssim.Organization) {
			for i := range org.Roles {
				if r := &org.Roles[i]; r.Account == "dev" {
					r.TrustPolicy = string(d.JSON())
				}
			}
		})
	}
	role := session.Call{RoleARN: devAdmin}

	a := trusted(Trusting{})
	for what, keys := range map[string]exchange.Keys{"a plain key": paulKeys(), "a session without MFA": a.session("")} {
		_, err := a.assume(keys, role)
		want(t, what, err, true)
	}
	with := a.session(paulSerial)
	_, err := a.assume(with, role)
	want(t, "an MFA session", err, false)
	_, err = a.assume(with, session.Call{RoleARN: devAdmin, SourceIdentity: "paul"})
	want(t, "a source identity", err, true)
	_, err = a.assume(with, session.Call{RoleARN: devAdmin, Tags: []session.Tag{{Key: "team", Value: "x"}}})
	want(t, "a tag", err, true)

	// The management account is not the account that the policy names.
	mgmt, err := a.assume(with, session.Call{RoleARN: "arn:aws:iam::555566667777:role/allow-admin-from-security-account"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = a.assume(keysOf(mgmt), role)
	want(t, "a role of another account", err, true)

	a = trusted(Trusting{MFAAge: time.Hour})
	with = a.session(paulSerial)
	_, err = a.assume(with, role)
	want(t, "a new code", err, false)
	a.sim.SetClockOffset(61 * time.Minute)
	_, err = a.assume(with, role)
	want(t, "an old code", err, true)

	a = trusted(Trusting{ExternalID: "an-id"})
	with = a.session(paulSerial)
	for id, denied := range map[string]bool{"": true, "another-id": true, "an-id": false} {
		_, err = a.assume(with, session.Call{RoleARN: devAdmin, ExternalID: id})
		want(t, "external ID "+id, err, denied)
	}

	for allowed, identities := range map[string]map[string]bool{
		Any:      {"": true, "paul": false, "other": false},
		UserName: {"": true, "paul": false, "other": true},
		"fixed":  {"": true, "paul": true, "fixed": false},
	} {
		a = trusted(Trusting{SourceIdentity: allowed})
		with = a.session(paulSerial)
		for id, denied := range identities {
			_, err = a.assume(with, session.Call{RoleARN: devAdmin, SourceIdentity: id})
			want(t, "source identity "+id+" for "+allowed, err, denied)
		}
	}

	a = trusted(Trusting{Tags: []string{"team"}})
	with = a.session(paulSerial)
	for key, denied := range map[string]bool{"team": false, "other": true} {
		_, err = a.assume(with, session.Call{RoleARN: devAdmin, Tags: []session.Tag{{Key: key, Value: "x"}}})
		want(t, "tag "+key, err, denied)
	}
	_, err = a.assume(with, role)
	want(t, "no tag", err, false)
}

// TestGroupAllowsItsRoles: users of the group assume the roles of the policy, and no others.
func TestGroupAllowsItsRoles(t *testing.T) {
	t.Parallel()
	a := simulated(t, ofPaul(must(t)(Group([]string{devAdmin}))))
	with := a.session(paulSerial)
	call := session.Call{RoleARN: devAdmin, SourceIdentity: "paul", Tags: []session.Tag{{Key: "team", Value: "x"}}}
	_, err := a.assume(with, call)
	want(t, "its role", err, false)
	for _, other := range []string{prodAdmin, devAdmin + "-2"} {
		_, err = a.assume(with, session.Call{RoleARN: other})
		want(t, other, err, true)
	}
	_, err = a.AccessKeys(context.Background(), with, anywhere)
	want(t, "another action", err, true)
}

// own are the calls with which a user rotates the key and replaces the device.
func (a aws) own(keys exchange.Keys) map[string]error {
	ctx, id := context.Background(), paulKeys().AccessKeyID
	errs := map[string]error{}
	_, errs["list keys"] = a.AccessKeys(ctx, keys, anywhere)
	_, errs["last use"] = a.KeyLastUsed(ctx, keys, anywhere, id)
	var made exchange.Keys
	made, errs["create a key"] = a.CreateAccessKey(ctx, keys, anywhere)
	if made.AccessKeyID == "" {
		made.AccessKeyID = id // of the call that must be denied
	}
	errs["deactivate a key"] = a.SetKeyStatus(ctx, keys, anywhere, made.AccessKeyID, false)
	errs["delete a key"] = a.DeleteKey(ctx, keys, anywhere, made.AccessKeyID)
	errs["create a device"] = a.enroll(keys, "paul-2")
	errs["disable a device"] = a.DisableDevice(ctx, keys, anywhere, "arn:aws:iam::111122223333:mfa/paul-2")
	errs["delete a device"] = a.DeleteDevice(ctx, keys, anywhere, "arn:aws:iam::111122223333:mfa/paul-2")
	return errs
}

// enroll creates a device and enables it for paul.
func (a aws) enroll(keys exchange.Keys, name string) error {
	ctx := context.Background()
	made, err := a.CreateDevice(ctx, keys, anywhere, name)
	if err != nil {
		return err
	}
	var codes [2]secret.String
	for i := range codes {
		code, err := stssim.Device{Seed: made.Seed.Reveal()}.Code(a.sim.Now().Add(time.Duration(i-1) * 30 * time.Second))
		if err != nil {
			a.t.Fatal(err)
		}
		codes[i] = secret.New(code)
	}
	return a.EnableDevice(ctx, keys, anywhere, "paul", made.Serial, codes[0], codes[1])
}

// TestSelfServiceNeedsMFA: with MFA, users do what `broker rotate` and `broker mfa` do; without, nothing of it.
func TestSelfServiceNeedsMFA(t *testing.T) {
	t.Parallel()
	a := simulated(t, func(org *stssim.Organization) {
		ofPaul(must(t)(SelfService("aws")), must(t)(Group([]string{devAdmin})))(org)
		for i := range org.Roles {
			org.Roles[i].RequireMFA = false // the policy must be enough
		}
	})
	with := a.session(paulSerial)
	for what, err := range a.own(with) {
		want(t, what+" with MFA", err, false)
	}
	for what, err := range a.own(paulKeys()) {
		want(t, what+" with the plain key", err, true)
	}
	_, err := a.Devices(context.Background(), paulKeys(), anywhere)
	want(t, "list devices with the plain key", err, false) // `add` and `import` find the device
	build := session.Call{RoleARN: devAdmin}
	_, err = a.assume(paulKeys(), build)
	want(t, "a role with the plain key", err, true)
	_, err = a.assume(a.session(""), build)
	want(t, "a role with a session without MFA", err, true)
	_, err = a.assume(with, build)
	want(t, "a role with MFA", err, false)
	_, err = a.Call(context.Background(), paulKeys(),
		session.Call{Operation: session.GetFederationToken, SessionName: "test", Policy: everything}, secret.String{})
	want(t, "a federated session", err, true)
}

// TestPlainKeyCannotEnroll plays a thief of a plain key who enrolls a device of their own. AWS's example policy lets
// the thief do that. A user who has the tag can enroll the first device, and so have MFA.
func TestPlainKeyCannotEnroll(t *testing.T) {
	t.Parallel()
	d := must(t)(SelfService("aws"))
	likeAWS := d
	likeAWS.Statement = d.Statement[:len(d.Statement)-1]
	for _, tt := range []struct {
		what   string
		policy Document
		tags   []string
		first  bool // the user has no device yet
		denied bool
	}{
		{"AWS's example", likeAWS, nil, false, false},
		{"no tag", d, nil, false, true},
		{"no tag, no device", d, nil, true, true},
		{"the tag with another value", d, []string{EnrollTag + "=false"}, false, true},
		{"another tag", d, []string{"team=true"}, false, true},
		{"the tag", d, []string{EnrollTag + "=true"}, true, false},
	} {
		a := simulated(t, func(org *stssim.Organization) {
			ofPaul(tt.policy)(org)
			org.User("security", "paul").Tags = tt.tags
			if tt.first {
				org.Devices = nil
			}
		})
		// An enrollment that is interrupted deletes its device, and begins again.
		_, err := a.CreateDevice(context.Background(), paulKeys(), anywhere, "paul-old")
		want(t, tt.what+": create", err, tt.denied)
		err = a.DeleteDevice(context.Background(), paulKeys(), anywhere, "arn:aws:iam::111122223333:mfa/paul-old")
		want(t, tt.what+": delete", err, tt.denied)
		err = a.enroll(paulKeys(), "paul-new")
		want(t, tt.what, err, tt.denied)
		if err == nil {
			keys := a.session("arn:aws:iam::111122223333:mfa/paul-new")
			_, err = a.AccessKeys(context.Background(), keys, anywhere)
			want(t, tt.what+": the new device", err, false)
		}
	}
	a := simulated(t, func(org *stssim.Organization) {
		ofPaul(d)(org)
		org.User("security", "paul").Tags = []string{EnrollTag + "=true"}
	})
	want(t, "the device of another user", a.enroll(paulKeys(), "robot"), true)
	want(t, "a name of user paula", a.enroll(paulKeys(), "paula"), true)
	want(t, "a further name of paul", a.enroll(paulKeys(), "paul-2"), false)
}

// TestReadOnlyCannotBeLeft: a session of the read-only role may do everything, and another role trusts it. With the
// policy it still cannot leave.
func TestReadOnlyCannotBeLeft(t *testing.T) {
	t.Parallel()
	const (
		readOnly = "arn:aws:iam::444455556666:role/allow-read-only-from-security-account"
		release  = "arn:aws:iam::444455556666:role/release"
	)
	for _, kept := range []bool{false, true} {
		a := simulated(t, func(org *stssim.Organization) {
			for i := range org.Roles {
				r := &org.Roles[i]
				if r.Name == "release" {
					r.Trust = append(r.Trust, readOnly)
				}
				if r.Account == "prod" && r.Name == "allow-read-only-from-security-account" {
					r.Policies = []string{everything}
					if kept {
						r.Policies = append(r.Policies, string(must(t)(ReadOnly()).JSON()))
					}
				}
			}
		})
		reader, err := a.assume(a.session(paulSerial), session.Call{RoleARN: readOnly})
		if err != nil {
			t.Fatal(err)
		}
		_, err = a.assume(keysOf(reader), session.Call{RoleARN: release})
		want(t, "another role", err, kept)
		_, err = a.CreateDevice(context.Background(), keysOf(reader), anywhere, "x")
		want(t, "a device", err, kept)
		_, err = a.Devices(context.Background(), keysOf(reader), anywhere)
		if err != nil && strings.Contains(err.Error(), "not authorized") {
			t.Errorf("reading is denied: %v", err)
		}
	}
}
