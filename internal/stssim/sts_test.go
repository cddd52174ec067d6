package stssim

import (
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestGetSessionToken(t *testing.T) {
	const (
		wrongCode   = "MultiFactorAuthentication failed with invalid MFA one time pass code. "
		wrongSerial = "MultiFactorAuthentication failed, unable to validate MFA code.  Please verify your MFA serial number is valid and associated with this user."
		fresh       = "FRESH"
	)
	tests := []struct {
		name    string
		who     func(*Sim) caller
		params  []string
		code    string
		message string
		seconds int // length of the session, if one is opened
	}{
		{"default", paul, nil, "", "", 43_200},
		{"shortest", paul, []string{"DurationSeconds", "900"}, "", "", 900},
		{"longest", paul, []string{"DurationSeconds", "129600"}, "", "", 129_600},
		{"too short", paul, []string{"DurationSeconds", "899"}, "ValidationError", "1 validation error detected: Value '899' at 'durationSeconds' failed to satisfy constraint: Member must have value greater than or equal to 900", 0},
		{"too long", paul, []string{"DurationSeconds", "129601"}, "ValidationError", "Value '129601' at 'durationSeconds' failed to satisfy constraint: Member must have value less than or equal to 129600", 0},
		{"no number", paul, []string{"DurationSeconds", "1h"}, "ValidationError", "'durationSeconds'", 0},
		{"with a code", paul, []string{"SerialNumber", paulSerial, "TokenCode", fresh}, "", "", 43_200},
		{"code of five digits", paul, []string{"SerialNumber", paulSerial, "TokenCode", "12345"}, "ValidationError", "Value '12345' at 'tokenCode' failed to satisfy constraint: Member must have length greater than or equal to 6", 0},
		{"code of seven digits", paul, []string{"SerialNumber", paulSerial, "TokenCode", "1234567"}, "ValidationError", "less than or equal to 6", 0},
		{"code of letters", paul, []string{"SerialNumber", paulSerial, "TokenCode", "12345x"}, "ValidationError", `Member must satisfy regular expression pattern: [\d]*`, 0},
		{"two errors", paul, []string{"DurationSeconds", "1", "SerialNumber", paulSerial, "TokenCode", "1"}, "ValidationError", "2 validation errors detected: Value '1' at 'durationSeconds'", 0},
		{"wrong code", paul, []string{"SerialNumber", paulSerial, "TokenCode", "WRONG"}, "AccessDenied", wrongCode, 0},
		{"unknown serial", paul, []string{"SerialNumber", paulSerial + "x", "TokenCode", fresh}, "AccessDenied", wrongSerial, 0},
		{"serial of another", robot, []string{"SerialNumber", paulSerial, "TokenCode", fresh}, "AccessDenied", wrongSerial, 0},
		{"serial alone", paul, []string{"SerialNumber", paulSerial}, "AccessDenied", "must provide both MFA serial number and one time pass code", 0},
		{"code alone", paul, []string{"TokenCode", fresh}, "AccessDenied", "must provide both", 0},
		{"with a session", func(s *Sim) caller { return paul(s).session(t) }, nil, "AccessDenied", "Cannot call GetSessionToken with session credentials", 0},
		{"with a role", func(s *Sim) caller { return robot(s).assume(t, devBuild) }, nil, "AccessDenied", "Cannot call GetSessionToken with session credentials", 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			sim := newDemo(t)
			who := test.who(sim)
			params := append([]string(nil), test.params...)
			for i := range params {
				switch params[i] {
				case fresh:
					params[i] = sim.FreshCode(paulSerial)
				case "WRONG":
					params[i] = wrongCodeOf(sim)
				}
			}
			before := sim.Now()
			r := who.call("GetSessionToken", params...)
			r.want(t, test.code, test.message)
			if test.code == "" {
				checkSession(t, before, r, test.seconds)
			}
		})
	}
}

// wrongCodeOf returns a code that no step near now has.
func wrongCodeOf(sim *Sim) string {
	now := sim.Now()
	for _, code := range []string{"000000", "111111", "222222", "333333"} {
		if code != sim.CodeAt(paulSerial, now.Add(-codeStep)) && code != sim.CodeAt(paulSerial, now) &&
			code != sim.CodeAt(paulSerial, now.Add(codeStep)) {
			return code
		}
	}
	panic("unlikely")
}

// checkSession checks that a session has this length and was requested after before.
func checkSession(t *testing.T, before time.Time, r reply, seconds int) {
	t.Helper()
	if id := r.field("AccessKeyId"); len(id) != 20 || !strings.HasPrefix(id, "ASIA") {
		t.Errorf("access key id %q", id)
	}
	if secret := r.field("SecretAccessKey"); len(secret) != 40 {
		t.Errorf("secret of %d characters", len(secret))
	}
	expires, err := time.Parse("2006-01-02T15:04:05Z", r.field("Expiration"))
	if err != nil {
		t.Fatal(err)
	}
	if length := expires.Sub(before).Seconds(); length < float64(seconds-2) || length > float64(seconds+60) {
		t.Errorf("session of %.0f s, want %d", length, seconds)
	}
}

func TestCodeWorksOnceOverAllCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := newDemo(t)
		now := sim.Now()
		denied := "MultiFactorAuthentication failed with invalid MFA one time pass code."
		for _, near := range []time.Duration{0, -codeStep, codeStep} {
			code := sim.CodeAt(paulSerial, now.Add(near))
			paul(sim).call("GetSessionToken", "SerialNumber", paulSerial, "TokenCode", code).want(t, "", "")
			paul(sim).call("GetSessionToken", "SerialNumber", paulSerial, "TokenCode", code).want(t, "AccessDenied", denied)
			paul(sim).call("AssumeRole", "RoleArn", devAdmin, "RoleSessionName", "test", "SerialNumber", paulSerial, "TokenCode", code).want(t, "AccessDenied", denied)
		}
		for _, far := range []time.Duration{-2 * codeStep, 3 * codeStep} {
			code := sim.CodeAt(paulSerial, now.Add(far))
			paul(sim).call("GetSessionToken", "SerialNumber", paulSerial, "TokenCode", code).want(t, "AccessDenied", denied)
		}
		if code := sim.FreshCode(paulSerial); code != "" {
			t.Errorf("fresh code %s after all three", code)
		}
		sim.ForgetCodes()
		paul(sim).session(t)
	})
}

func TestRefusedCallSpendsItsCode(t *testing.T) {
	sim := newDemo(t)
	code := sim.Code(paulSerial)
	with := func(arn, seconds string) reply {
		return paul(sim).call("AssumeRole", "RoleArn", arn, "RoleSessionName", "test", "DurationSeconds", seconds, "SerialNumber", paulSerial, "TokenCode", code)
	}
	// Malformed: AWS does not check the code.
	with(devLong, "1").want(t, "ValidationError", "durationSeconds")
	with(prodRelease, "900").want(t, "AccessDenied", "not authorized")
	with(devAdmin, "900").want(t, "AccessDenied", "one time pass code")
}

func TestOneOfManyGetsTheCode(t *testing.T) {
	sim := newDemo(t)
	code := sim.Code(paulSerial)
	var accepted atomic.Int32
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			if paul(sim).call("GetSessionToken", "SerialNumber", paulSerial, "TokenCode", code).status == 200 {
				accepted.Add(1)
			}
		})
	}
	wg.Wait()
	if accepted.Load() != 1 {
		t.Errorf("%d calls got the code accepted, want 1", accepted.Load())
	}
	if sim.Count("GetSessionToken") != 100 || sim.Successes("GetSessionToken") != 1 {
		t.Errorf("counts %+v", sim.Counts())
	}
}

func TestAssumeRole(t *testing.T) {
	mfa := func(s *Sim) caller { return paul(s).session(t) }
	plainSession := func(s *Sim) caller { return paul(s).with(paul(s).call("GetSessionToken")) }
	inDev := func(s *Sim) caller { return mfa(s).assume(t, devAdmin) }
	federated := func(s *Sim) caller { return paul(s).with(paul(s).call("GetFederationToken", "Name", "fred")) }
	with := func(arn string, more ...string) []string {
		return append([]string{"RoleArn", arn, "RoleSessionName", "test"}, more...)
	}
	notAuthorized := func(who, arn string) string {
		return "User: " + who + " is not authorized to perform: sts:AssumeRole on resource: " + arn
	}
	const (
		paulARN = "arn:aws:iam::111122223333:user/paul"
		chained = "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining."
	)
	statement := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`
	tests := []struct {
		name    string
		who     func(*Sim) caller
		params  []string
		code    string
		message string
	}{
		{"MFA session", mfa, with(devAdmin), "", ""},
		{"code in the call", paul, with(devAdmin, "SerialNumber", paulSerial, "TokenCode", "FRESH"), "", ""},
		{"plain key, role wants MFA", paul, with(devAdmin), "AccessDenied", notAuthorized(paulARN, devAdmin)},
		{"session without MFA, role wants MFA", plainSession, with(devAdmin), "AccessDenied", notAuthorized(paulARN, devAdmin)},
		{"session without MFA, role wants none", plainSession, with(stageVendor, "ExternalId", "demo-external-id"), "", ""},
		{"role for another user", paul, with(devBuild), "AccessDenied", notAuthorized(paulARN, devBuild)},
		{"role for this user", robot, with(devBuild), "", ""},
		{"no such role", mfa, with(devAdmin + "x"), "AccessDenied", notAuthorized(paulARN, devAdmin+"x")},
		{"external id", paul, with(stageVendor, "ExternalId", "demo-external-id"), "", ""},
		{"external id wrong", paul, with(stageVendor, "ExternalId", "another"), "AccessDenied", "not authorized"},
		{"external id missing", paul, with(stageVendor), "AccessDenied", "not authorized"},
		{"chain", inDev, with(prodRelease), "", ""},
		{"chain that the target does not trust", inDev, with(prodAdmin), "AccessDenied", notAuthorized("arn:aws:sts::222233334444:assumed-role/allow-admin-from-security-account/test", prodAdmin)},
		{"target trusts the chain alone", mfa, with(prodRelease), "AccessDenied", notAuthorized(paulARN, prodRelease)},
		{"code of a user in a chain", inDev, with(prodRelease, "SerialNumber", paulSerial, "TokenCode", "FRESH"), "AccessDenied", "unable to validate MFA code"},
		{"federated user", federated, with(stageVendor, "ExternalId", "demo-external-id"), "AccessDenied", "federated-user/fred is not authorized"},

		{"longest from a key", paul, with(devLong, "DurationSeconds", "43200", "SerialNumber", paulSerial, "TokenCode", "FRESH"), "", ""},
		{"above the role's maximum", paul, with(stageVendor, "ExternalId", "demo-external-id", "DurationSeconds", "3601"), "ValidationError", "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."},
		{"above an hour from a session", mfa, with(devLong, "DurationSeconds", "3601"), "ValidationError", chained},
		{"an hour from a session", mfa, with(devLong, "DurationSeconds", "3600"), "", ""},
		{"above an hour in a chain", inDev, with(prodRelease, "DurationSeconds", "7200"), "ValidationError", chained},
		{"too short", mfa, with(devAdmin, "DurationSeconds", "899"), "ValidationError", "greater than or equal to 900"},
		{"too long for any role", mfa, with(devAdmin, "DurationSeconds", "43201"), "ValidationError", "less than or equal to 43200"},

		{"no role", mfa, []string{"RoleSessionName", "test"}, "ValidationError", "Value null at 'roleArn' failed to satisfy constraint: Member must not be null"},
		{"no session name", mfa, []string{"RoleArn", devAdmin}, "ValidationError", "'roleSessionName'"},
		{"short ARN", mfa, with("arn:aws:iam::1"), "ValidationError", "Member must have length greater than or equal to 20"},
		{"ARN of something else", mfa, with("arn:aws:iam::222233334444:user/paul"), "ValidationError", "is invalid"},
		{"short session name", mfa, []string{"RoleArn", devAdmin, "RoleSessionName", "x"}, "ValidationError", "greater than or equal to 2"},
		{"long session name", mfa, []string{"RoleArn", devAdmin, "RoleSessionName", strings.Repeat("x", 65)}, "ValidationError", "less than or equal to 64"},
		{"bad session name", mfa, []string{"RoleArn", devAdmin, "RoleSessionName", "paul smith"}, "ValidationError", `Member must satisfy regular expression pattern: [\w+=,.@-]*`},
		{"every letter of a session name", mfa, []string{"RoleArn", devAdmin, "RoleSessionName", "aZ0_+=,.@-"}, "", ""},

		{"policy", mfa, with(devAdmin, "Policy", statement), "", ""},
		{"policy that is no JSON", mfa, with(devAdmin, "Policy", "{"), "MalformedPolicyDocument", "Json"},
		{"policy without a statement", mfa, with(devAdmin, "Policy", "{}"), "MalformedPolicyDocument", "Syntax"},
		{"policy too long", mfa, with(devAdmin, "Policy", strings.Repeat(" ", 2049)), "ValidationError", "less than or equal to 2048"},
		{"policy and tags too large", mfa, with(devAdmin, "Policy", statement+strings.Repeat(" ", 1900), "Tags.member.1.Key", strings.Repeat("k", 128), "Tags.member.1.Value", "v"), "PackedPolicyTooLarge", "% of allotted space"},
		{"tags", mfa, with(devAdmin, "Tags.member.1.Key", "team", "Tags.member.1.Value", "ops", "Tags.member.2.Key", "cost", "Tags.member.2.Value", "", "TransitiveTagKeys.member.1", "team"), "", ""},
		{"tag without a name", mfa, with(devAdmin, "Tags.member.1.Key", "", "Tags.member.1.Value", "ops"), "ValidationError", "'tags.1.member.key'"},
		{"policy ARNs", mfa, with(devAdmin, "PolicyArns.member.1.arn", "arn:aws:iam::aws:policy/ReadOnlyAccess"), "", ""},
		{"source identity", mfa, with(devAdmin, "SourceIdentity", "paul"), "", ""},
		{"bad source identity", mfa, with(devAdmin, "SourceIdentity", "p/aul"), "ValidationError", "'sourceIdentity'"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			sim := newDemo(t)
			who := test.who(sim)
			for i, value := range test.params {
				if value == "FRESH" {
					test.params[i] = sim.FreshCode(paulSerial)
				}
			}
			r := who.call("AssumeRole", test.params...)
			r.want(t, test.code, test.message)
			if test.code == "" {
				if !strings.Contains(r.field("Arn"), ":assumed-role/") {
					t.Errorf("assumed %q", r.field("Arn"))
				}
				who.with(r).call("GetCallerIdentity").want(t, "", "")
			}
		})
	}
}

func TestAssumedRoleAnswer(t *testing.T) {
	sim := newDemo(t)
	before := sim.Now()
	r := paul(sim).session(t).call("AssumeRole", "RoleArn", prodAdmin, "RoleSessionName", "work", "SourceIdentity", "paul", "Tags.member.1.Key", "a", "Tags.member.1.Value", "b")
	r.want(t, "", "")
	arn := "arn:aws:sts::444455556666:assumed-role/allow-admin-from-security-account/work"
	if r.field("Arn") != arn || !strings.HasSuffix(r.field("AssumedRoleId"), ":work") || r.field("SourceIdentity") != "paul" || r.field("PackedPolicySize") != "1" {
		t.Errorf("answer %s", r.body)
	}
	if !strings.Contains(r.body, `<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">`) {
		t.Errorf("namespace missing: %s", r.body)
	}
	checkSession(t, before, r, 3600)
	identity := paul(sim).with(r).call("GetCallerIdentity")
	if identity.field("Arn") != arn || identity.field("Account") != "444455556666" || identity.field("UserId") != r.field("AssumedRoleId") {
		t.Errorf("identity %s", identity.body)
	}
}

func TestGetFederationToken(t *testing.T) {
	sim := newDemo(t)
	before := sim.Now()
	r := paul(sim).call("GetFederationToken", "Name", "fred", "DurationSeconds", "900")
	r.want(t, "", "")
	checkSession(t, before, r, 900)
	fred := paul(sim).with(r)
	if got := fred.call("GetCallerIdentity").field("Arn"); got != "arn:aws:sts::111122223333:federated-user/fred" {
		t.Errorf("identity %s", got)
	}
	fred.call("GetUser").want(t, "InvalidClientTokenId", "")
	fred.call("GetSessionToken").want(t, "AccessDenied", "session credentials")
	fred.call("GetFederationToken", "Name", "fred").want(t, "AccessDenied", "session credentials")
	paul(sim).call("GetFederationToken").want(t, "ValidationError", "'name'")
	paul(sim).call("GetFederationToken", "Name", "f").want(t, "ValidationError", "'name'")
}

func TestWhatSessionsMayCall(t *testing.T) {
	sim := newDemo(t)
	without := paul(sim).with(paul(sim).call("GetSessionToken"))
	without.call("GetCallerIdentity").want(t, "", "")
	for _, action := range []string{"GetUser", "ListAccessKeys", "CreateAccessKey", "ListMFADevices", "ListRoles"} {
		without.call(action).want(t, "InvalidClientTokenId", "The security token included in the request is invalid.")
	}
	paul(sim).session(t).call("GetUser").want(t, "", "")
}

func TestDenyPatterns(t *testing.T) {
	org := Demo()
	org.User("security", "paul").Deny = []string{"iam:CreateAccessKey", "sts:AssumeRole arn:aws:iam::444455556666:role/*"}
	for i := range org.Roles {
		if org.Roles[i].Name == "allow-read-only-from-security-account" {
			org.Roles[i].Deny = []string{"iam:*"}
		}
	}
	sim, err := New(org)
	if err != nil {
		t.Fatal(err)
	}
	session := paul(sim).session(t)
	session.assume(t, devAdmin).call("ListRoles").want(t, "", "")
	session.assume(t, strings.Replace(devAdmin, "admin", "read-only", 1)).call("ListRoles").want(t, "AccessDenied", "with an explicit deny")
	session.call("AssumeRole", "RoleArn", prodAdmin, "RoleSessionName", "test").want(t, "AccessDenied", "is not authorized to perform: sts:AssumeRole on resource: "+prodAdmin+" with an explicit deny")
	session.call("CreateAccessKey").want(t, "AccessDenied", "iam:CreateAccessKey on resource: arn:aws:iam::111122223333:user/paul with an explicit deny")
}

func TestSessionsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := newDemo(t)
		session := paul(sim).session(t)
		role := session.assume(t, devAdmin)
		time.Sleep(59 * time.Minute)
		role.call("GetCallerIdentity").want(t, "", "")
		time.Sleep(time.Minute)
		role.call("GetCallerIdentity").want(t, "ExpiredToken", "The security token included in the request is expired")
		session.assume(t, devAdmin)
		time.Sleep(11 * time.Hour)
		session.call("AssumeRole", "RoleArn", devAdmin, "RoleSessionName", "test").want(t, "ExpiredToken", "expired")
	})
}

func TestLifetimeForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := newDemo(t)
		sim.SetLifetime(3 * time.Second)
		r := paul(sim).call("GetSessionToken", "DurationSeconds", "43200")
		checkSession(t, time.Now(), r, 3)
		time.Sleep(3 * time.Second)
		paul(sim).with(r).call("GetCallerIdentity").want(t, "ExpiredToken", "")
		sim.SetLifetime(0)
		checkSession(t, sim.Now(), paul(sim).call("GetSessionToken"), 43_200)
	})
}

func TestRevokedAndDisabled(t *testing.T) {
	sim := newDemo(t)
	session := paul(sim).session(t)
	if !sim.RevokeSession(session.keys.AccessKeyID) || sim.RevokeSession(paul(sim).keys.AccessKeyID) ||
		sim.RevokeSession("ASIA") {
		t.Error("RevokeSession is for sessions alone")
	}
	session.call("GetCallerIdentity").want(t, "ExpiredToken", "")
	if !sim.DisableKey(paul(sim).keys.AccessKeyID) || sim.DisableKey(session.keys.AccessKeyID) {
		t.Error("DisableKey is for long-lived keys alone")
	}
	paul(sim).call("GetCallerIdentity").want(t, "InvalidClientTokenId", "")
}

func TestClock(t *testing.T) {
	sim := newDemo(t)
	for _, offset := range []time.Duration{-24 * time.Hour, -16 * time.Minute, 16 * time.Minute, 24 * time.Hour} {
		sim.SetClockOffset(offset)
		late := paul(sim)
		late.at = time.Now()
		r := late.call("GetCallerIdentity")
		r.want(t, "SignatureDoesNotMatch", "Signature ")
		told, err := http.ParseTime(r.header.Get("Date"))
		if err != nil {
			t.Fatal(err)
		}
		if off := told.Sub(time.Now().Add(offset)).Abs(); off > 5*time.Second {
			t.Errorf("the Date header is off by %s", off)
		}
		paul(sim).session(t) // with the time of the Date header everything works, including the code
	}
}

func TestUnknownAction(t *testing.T) {
	sim := newDemo(t)
	paul(sim).call("DecodeAuthorizationMessage").want(t, "InvalidAction", "Could not find operation DecodeAuthorizationMessage for version 2011-06-15")
	paul(sim).call("GetUser", "Version", "2011-06-15").want(t, "InvalidAction", "Could not find operation GetUser for version 2011-06-15")
}

func TestEndedSessionsAreForgotten(t *testing.T) {
	sim := newDemo(t)
	sim.SetLifetime(time.Second)
	old := paul(sim).session(t)
	sim.SetClockOffset(2 * forgetAfter)
	sim.mu.Lock()
	sim.world.clearEnded(sim.nowLocked())
	left := len(sim.world.keys)
	sim.mu.Unlock()
	if left != 2 {
		t.Errorf("%d credentials left, want the two of the users", left)
	}
	old.call("GetCallerIdentity").want(t, "InvalidClientTokenId", "")
}
