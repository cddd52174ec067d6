//go:build unix

package exchange

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"broker/internal/fault"
	"broker/internal/profiles"
	"broker/internal/secret"
	"broker/internal/stssim"
)

var anywhere = profiles.Endpoint{Region: "eu-west-1"}

// TestSimulatedRotation replaces a key by a new one, as a rotation does.
func TestSimulatedRotation(t *testing.T) {
	sim, c := simulator(t)
	ctx, old := background(t), simKeys()

	before, err := c.AccessKeys(ctx, old, anywhere)
	if err != nil || len(before) != 1 || before[0].ID != old.AccessKeyID || !before[0].Active ||
		time.Since(before[0].Created).Abs() > patience {
		t.Fatalf("keys %v, %v", before, err)
	}
	created, err := c.CreateAccessKey(ctx, old, anywhere)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(created.AccessKeyID, "AKIA") || len(created.Secret.Reveal()) != 40 || !created.Token.IsZero() {
		t.Errorf("created key %s with a secret of %d bytes", created.AccessKeyID, len(created.Secret.Reveal()))
	}
	_, err = c.CreateAccessKey(ctx, old, anywhere)
	wantFault(t, err, fault.Failed, "create an access key for the user of key …2222: AWS refused it: LimitExceeded: Cannot exceed quota")
	if !errors.Is(err, ErrLimit) {
		t.Errorf("not ErrLimit: %v", err)
	}

	used, err := c.KeyLastUsed(ctx, old, anywhere, created.AccessKeyID)
	if err != nil || used != (LastUse{}) {
		t.Errorf("last use of a new key %+v, %v", used, err)
	}
	if _, err := c.Identity(ctx, created, anywhere); err != nil {
		t.Fatal(err)
	}
	used, err = c.KeyLastUsed(ctx, old, anywhere, created.AccessKeyID)
	if err != nil || time.Since(used.At).Abs() > patience || used.Service != "sts" || used.Region != "eu-west-1" {
		t.Errorf("last use %+v, %v", used, err)
	}
	_, err = c.KeyLastUsed(ctx, old, anywhere, "AKIANOSUCHKEYFAKE999")
	wantFault(t, err, fault.Denied, "find the last use of access key …E999: AWS denied it")
	// A rotation looks for these words.
	if err != nil && !strings.Contains(err.Error(), "on resource: access key AKIANOSUCHKEYFAKE999") {
		t.Errorf("not the key, but its user: %v", err)
	}

	if err := c.SetKeyStatus(ctx, created, anywhere, old.AccessKeyID, false); err != nil {
		t.Fatal(err)
	}
	_, err = c.AccessKeys(ctx, old, anywhere)
	wantFault(t, err, fault.Denied, "list the access keys of the user of key …2222: AWS does not know access key …2222")
	if !errors.Is(err, ErrUnknownKey) {
		t.Errorf("not ErrUnknownKey: %v", err)
	}
	both, err := c.AccessKeys(ctx, created, anywhere)
	if err != nil || len(both) != 2 || both[0].Active || !both[1].Active {
		t.Errorf("keys %v, %v", both, err)
	}
	if err := c.SetKeyStatus(ctx, created, anywhere, old.AccessKeyID, true); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Identity(ctx, old, anywhere); err != nil {
		t.Errorf("after the key is active again: %v", err)
	}
	if err := c.DeleteKey(ctx, created, anywhere, old.AccessKeyID); err != nil {
		t.Fatal(err)
	}
	if list := sim.Keys(); len(list) != 2 || list[0].AccessKeyID != created.AccessKeyID {
		t.Errorf("keys that are left: %v", list)
	}
	for what, err := range map[string]error{
		"delete access key …2222":     c.DeleteKey(ctx, created, anywhere, old.AccessKeyID),
		"deactivate access key …2222": c.SetKeyStatus(ctx, created, anywhere, old.AccessKeyID, false),
		"activate access key …2222":   c.SetKeyStatus(ctx, created, anywhere, old.AccessKeyID, true),
	} {
		wantFault(t, err, fault.Failed, what+": AWS refused it: NoSuchEntity: The Access Key with id "+old.AccessKeyID)
		if !errors.Is(err, ErrNotThere) {
			t.Errorf("not ErrNotThere: %v", err)
		}
	}
}

// TestNewKeyIsUnknown: a new key must be told from a wrong one, because a rotation waits for it.
func TestNewKeyIsUnknown(t *testing.T) {
	sim, c := simulator(t)
	sim.SetKeyDelay(time.Hour, true)
	created, err := c.CreateAccessKey(background(t), simKeys(), anywhere)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		_, err = c.Identity(background(t), created, anywhere)
		wantFault(t, err, fault.Denied)
		if !errors.Is(err, ErrUnknownKey) {
			t.Errorf("not ErrUnknownKey: %v", err)
		}
		if _, err := c.Identity(background(t), created, anywhere); err != nil {
			t.Errorf("the key flaps, but it never works: %v", err)
		}
	}
}

func TestKeysNeedMFA(t *testing.T) {
	org := stssim.Demo()
	org.User("security", "paul").DenyWithoutMFA = []string{"iam:*"}
	org.User("security", "paul").Deny = []string{"iam:DeleteAccessKey"}
	sim, c := simulated(t, org)
	_, err := c.CreateAccessKey(background(t), simKeys(), anywhere)
	wantFault(t, err, fault.Denied, "is not authorized to perform: iam:CreateAccessKey")

	opened, err := c.Call(background(t), simKeys(), simSession(), secret.New(sim.FreshCode(simSerial)))
	if err != nil {
		t.Fatal(err)
	}
	mfa := Keys{opened.AccessKeyID, opened.SecretAccessKey, opened.SessionToken}
	created, err := c.CreateAccessKey(background(t), mfa, anywhere)
	if err != nil {
		t.Fatal(err)
	}
	err = c.DeleteKey(background(t), mfa, anywhere, created.AccessKeyID)
	wantFault(t, err, fault.Denied, "iam:DeleteAccessKey")
	if sim.Count("DeleteAccessKey") != 1 {
		t.Errorf("a refusal was repeated: %d calls", sim.Count("DeleteAccessKey"))
	}
}

// keyCalls are the calls of keys.go, by action.
var keyCalls = map[string]func(context.Context, *Client, Keys, string) error{
	"ListAccessKeys": func(ctx context.Context, c *Client, k Keys, _ string) error {
		_, err := c.AccessKeys(ctx, k, anywhere)
		return err
	},
	"CreateAccessKey": func(ctx context.Context, c *Client, k Keys, _ string) error {
		got, err := c.CreateAccessKey(ctx, k, anywhere)
		if err != nil && (got.AccessKeyID != "" || !got.Secret.IsZero()) {
			return errors.New("a key was returned with an error")
		}
		return err
	},
	"GetAccessKeyLastUsed": func(ctx context.Context, c *Client, k Keys, id string) error {
		_, err := c.KeyLastUsed(ctx, k, anywhere, id)
		return err
	},
	"UpdateAccessKey": func(ctx context.Context, c *Client, k Keys, id string) error {
		return c.SetKeyStatus(ctx, k, anywhere, id, false)
	},
	"DeleteAccessKey": func(ctx context.Context, c *Client, k Keys, id string) error {
		return c.DeleteKey(ctx, k, anywhere, id)
	},
}

// lostAnswers are failures after which a call may be repeated, or may have had its effect.
var lostAnswers = []struct {
	fault stssim.Fault
	kind  fault.Kind
	again bool // a second attempt makes sense
	lost  bool // the call may have had its effect
}{
	{stssim.Fault{Kind: stssim.DropBefore}, fault.Network, true, true},
	{stssim.Fault{Kind: stssim.DropAfter}, fault.Network, true, true},
	{stssim.Fault{Kind: stssim.Status, Status: 503}, fault.Network, true, true},
	{stssim.Fault{Kind: stssim.Throttle}, fault.Throttled, true, false},
	{stssim.Fault{Kind: stssim.Garbage}, fault.BadAnswer, false, true},
	{stssim.Fault{Kind: stssim.EmptyBody}, fault.BadAnswer, false, true},
	{stssim.Fault{Kind: stssim.Status, Status: 200, Body: "<html>login</html>"}, fault.BadAnswer, false, true},
	{stssim.Fault{Kind: stssim.Status, Status: 200, Body: "<login/>"}, fault.BadAnswer, false, true},
}

// TestKeyFaults: a lost answer is followed by a second attempt, but never for CreateAccessKey.
func TestKeyFaults(t *testing.T) {
	t.Parallel()
	for _, tt := range lostAnswers {
		for action, call := range keyCalls {
			t.Run(string(tt.fault.Kind)+tt.fault.Body+"/"+action, func(t *testing.T) {
				t.Parallel()
				sim, c := simulator(t)
				spare, err := c.CreateAccessKey(background(t), simKeys(), anywhere)
				if err != nil {
					t.Fatal(err)
				}
				if action == "CreateAccessKey" {
					if err := c.DeleteKey(background(t), simKeys(), anywhere, spare.AccessKeyID); err != nil {
						t.Fatal(err)
					}
				}
				sim.Reset()
				sim.Fault(tt.fault)
				err = call(background(t), c, simKeys(), spare.AccessKeyID)
				if tt.again && action != "CreateAccessKey" {
					if err != nil || sim.Count(action) != 2 {
						t.Errorf("%d calls: %v", sim.Count(action), err)
					}
					return
				}
				wantFault(t, err, tt.kind)
				if sim.Count(action) != 1 || !MaybeSeen(err) {
					t.Errorf("%d calls, MaybeSeen %t", sim.Count(action), MaybeSeen(err))
				}
				says := strings.HasSuffix(err.Error(), "; AWS may have created the key")
				if says != (tt.lost && action == "CreateAccessKey") {
					t.Errorf("whether there may be a key: %v", err)
				}
			})
		}
	}
}

// TestDeletedByOurselves: only a lost answer explains why the key is not there.
func TestDeletedByOurselves(t *testing.T) {
	sim, c := simulator(t)
	sim.Fault(stssim.Fault{Kind: stssim.Throttle, Action: "DeleteAccessKey"})
	err := c.DeleteKey(background(t), simKeys(), anywhere, "AKIANOSUCHKEYFAKE999")
	wantFault(t, err, fault.Failed, "cannot be found")
	if !errors.Is(err, ErrNotThere) || sim.Count("DeleteAccessKey") != 2 {
		t.Errorf("%d calls: %v", sim.Count("DeleteAccessKey"), err)
	}
}

// TestKeyEndsItself: a repeated call cannot be signed with the key that the first attempt ended.
func TestKeyEndsItself(t *testing.T) {
	for _, action := range []string{"UpdateAccessKey", "DeleteAccessKey"} {
		sim, c := simulator(t)
		sim.Fault(stssim.Fault{Kind: stssim.DropAfter, Action: action})
		err := keyCalls[action](background(t), c, simKeys(), simKeys().AccessKeyID)
		wantFault(t, err, fault.Denied, "AWS does not know access key …2222")
		if !errors.Is(err, ErrUnknownKey) || sim.Count(action) != 2 {
			t.Errorf("%d calls: %v", sim.Count(action), err)
		}
	}
}

func TestStrangeAnswersAboutKeys(t *testing.T) {
	const when = "<CreateDate>2026-11-01T10:00:00Z</CreateDate>"
	listed := func(fields string) string {
		return "<AccessKeyMetadata><member>" + fields + "</member></AccessKeyMetadata>"
	}
	created := func(fields string) string { return "<AccessKey>" + fields + "</AccessKey>" }
	used := func(fields string) string { return "<AccessKeyLastUsed>" + fields + "</AccessKeyLastUsed>" }
	const id, active = "<AccessKeyId>AKIA2BCDEFGHIJKLMNOP</AccessKeyId>", "<Status>Active</Status>"
	const key = "<SecretAccessKey>" + answerSecret + "</SecretAccessKey>"
	own := "<AccessKeyId>" + userKeys().AccessKeyID + "</AccessKeyId>"
	for _, tt := range []struct{ name, action, result, text string }{
		{"no id", "ListAccessKeys", listed(active + when), "no AccessKeyId"},
		{"an id with a slash", "ListAccessKeys", listed("<AccessKeyId>AKIA2BCDEFG/IJKLMNOP</AccessKeyId>" + active + when), "invalid AccessKeyId"},
		{"no status", "ListAccessKeys", listed(id + when), "no Status"},
		{"a new status", "ListAccessKeys", listed(id + when + "<Status>Sleeping</Status>"), "invalid Status"},
		{"no date", "ListAccessKeys", listed(id + active), "no CreateDate"},
		{"a wrong date", "ListAccessKeys", listed(id + active + "<CreateDate>yesterday</CreateDate>"), "not an answer of IAM"},
		{"an endless list", "ListAccessKeys", "<IsTruncated>true</IsTruncated><Marker>again</Marker>", "an endless list"},
		{"no key", "CreateAccessKey", "", "no AccessKey"},
		{"no id", "CreateAccessKey", created(key + active + when), "no AccessKeyId"},
		{"our own id", "CreateAccessKey", created(own + key + active + when), "invalid AccessKeyId"},
		{"no secret", "CreateAccessKey", created(id + active + when), "no SecretAccessKey"},
		{"a secret with a blank", "CreateAccessKey", created(id + active + when + "<SecretAccessKey>" + answerSecret + " x</SecretAccessKey>"), "invalid SecretAccessKey"},
		{"a long secret", "CreateAccessKey", created(id + active + when + "<SecretAccessKey>" + strings.Repeat(answerSecret, 9) + "</SecretAccessKey>"), "invalid SecretAccessKey"},
		{"an inactive key", "CreateAccessKey", created(id + key + when + "<Status>Inactive</Status>"), "invalid Status"},
		{"no answer", "GetAccessKeyLastUsed", "<UserName>paul</UserName>", "no AccessKeyLastUsed"},
		{"no service", "GetAccessKeyLastUsed", used("<Region>N/A</Region>"), "no ServiceName"},
		{"no region", "GetAccessKeyLastUsed", used("<ServiceName>N/A</ServiceName>"), "no Region"},
		{"used, but not when", "GetAccessKeyLastUsed", used("<ServiceName>sts</ServiceName><Region>eu-west-1</Region>"), "no LastUsedDate"},
		{"a service with a control character", "GetAccessKeyLastUsed", used("<ServiceName>s&#x9;s</ServiceName><Region>x</Region>"), "invalid ServiceName"},
	} {
		t.Run(tt.action+"/"+tt.name, func(t *testing.T) {
			f := serve(t, say(http.StatusOK, iamAnswer(tt.action, tt.result)))
			err := keyCalls[tt.action](background(t), client(f), userKeys(), "AKIA2BCDEFGHIJKLMNOP")
			wantFault(t, err, fault.BadAnswer, tt.text)
		})
	}
	// The answer of another action is not taken for success.
	for action, call := range keyCalls {
		f := serve(t, say(http.StatusOK, iamAnswer("GetUser", "")))
		err := call(background(t), client(f), userKeys(), "AKIA2BCDEFGHIJKLMNOP")
		wantFault(t, err, fault.BadAnswer, "but that is not an answer of IAM")
		f = serve(t, say(http.StatusOK, strings.TrimSuffix(iamAnswer(action, ""), "Response>")))
		wantFault(t, call(background(t), client(f), userKeys(), "AKIA2BCDEFGHIJKLMNOP"), fault.BadAnswer)
	}
}

// iamAnswer is the document of a successful call.
func iamAnswer(action, result string) string {
	return "<" + action + `Response xmlns="https://iam.amazonaws.com/doc/2010-05-08/"><` + action + "Result>" + result +
		"</" + action + "Result><ResponseMetadata><RequestId>1</RequestId></ResponseMetadata></" + action + "Response>"
}

// TestEchoedKeySecret: a server that repeats the request in its refusal does not get the secret into a message.
func TestEchoedKeySecret(t *testing.T) {
	echo := "no room beside " + longSecret + " of " + userKeys().AccessKeyID
	f := serve(t, say(http.StatusConflict, refusal("LimitExceeded", echo)))
	err := keyCalls["CreateAccessKey"](background(t), client(f), userKeys(), "")
	wantFault(t, err, fault.Failed, "AWS refused it: LimitExceeded: no room beside [redacted] of …NYVB")
	if f.count() != 1 {
		t.Errorf("%d requests", f.count())
	}
}
