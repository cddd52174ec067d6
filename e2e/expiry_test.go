package e2e

import (
	"context"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

// whoami makes a signed call with credentials, as a program with the Go SDK does.
func (h *house) whoami(ctx context.Context, d document) (string, error) {
	client, err := h.sim.client()
	if err != nil {
		return "", err
	}
	defer client.CloseIdleConnections()
	c := sts.New(sts.Options{
		Region:       "eu-west-1",
		BaseEndpoint: aws.String(h.sim.url),
		HTTPClient:   client,
		Retryer:      aws.NopRetryer{},
		Credentials:  credentials.NewStaticCredentialsProvider(d.AccessKeyID, d.SecretAccessKey, d.SessionToken),
	})
	out, err := c.GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	if err != nil {
		return "", err
	}
	return aws.ToString(out.Arn), nil
}

// robotHouse has a source without a device, so that no session needs a code. Sessions last as long as the flag
// says.
func robotHouse(t *testing.T, lifetime string) *house {
	t.Helper()
	h := newHouse(t)
	must(t, h.startSim("--lifetime", lifetime))
	must(t, h.settings(""))
	must(t, h.write(h.awsConfig(), "[profile build]\nrole_arn = arn:aws:iam::222233334444:role/build\nsource_profile = robot\nregion = eu-west-1\n"))
	if r := h.runWith(`{"AccessKeyId":"`+robotKeyID+`","SecretAccessKey":"fake/demo+secret/of+robot/fake/demo+3333"}`, "broker", "add", "robot", "--stdin"); r.code != 0 {
		t.Fatal(r)
	}
	return h
}

// TestShortSessionsLong checks that with sessions of a few seconds, a client always gets one that works.
func TestShortSessionsLong(t *testing.T) {
	t.Parallel()
	h := robotHouse(t, "6s")
	const sessions = 6
	seen := map[string]bool{}
	calls := 0
	for limit := time.Now().Add(2 * patience); len(seen) < sessions && time.Now().Before(limit); calls++ {
		asked := time.Now()
		d := h.credentials(t, "build")
		if left := d.Expiration.Sub(asked); left <= -time.Second {
			t.Fatalf("call %d: got a session that had expired %v before", calls, -left)
		}
		who, err := h.whoami(t.Context(), d)
		if time.Now().After(d.Expiration) {
			continue // the machine was slow
		}
		if err != nil {
			t.Fatalf("call %d: %s does not work (%v): %v", calls, d.AccessKeyID, time.Until(d.Expiration), err)
		} else if want := "arn:aws:sts::222233334444:assumed-role/"; len(who) < len(want) || who[:len(want)] != want {
			t.Fatalf("call %d is of %s", calls, who)
		}
		seen[d.AccessKeyID] = true
		time.Sleep(20 * time.Millisecond)
	}
	t.Logf("%d calls, %d sessions", calls, len(seen))
	if len(seen) < 3 { // a slow machine sees few before they end
		t.Errorf("only %d sessions: the test did not see one end", len(seen))
	}
}

// TestOutageLong checks that while STS is down, a valid session is served until it expires, and no longer.
func TestOutageLong(t *testing.T) {
	t.Parallel()
	h := robotHouse(t, "20s")
	first := h.credentials(t, "build")
	// The daemon measures a session's lifetime from before it started the vault process, which takes seconds under
	// load.
	const early = 10 * time.Second
	must(t, h.sim.fault(`{"kind":"status","status":503,"times":-1}`))
	served := 0
	for time.Until(first.Expiration) > early {
		r := h.run("credproc", "build")
		if time.Until(first.Expiration) <= early {
			break // the request came late
		}
		if d, err := parseDocument(r.stdout); err != nil || d != first {
			t.Fatalf("this is not the session from before the outage: %v", r)
		}
		served++
		time.Sleep(100 * time.Millisecond)
	}
	if served < 3 {
		t.Fatalf("served only %d times", served)
	}
	time.Sleep(time.Until(first.Expiration))
	if r := h.run("credproc", "build"); r.code != 1 || r.stdout != "" {
		t.Errorf("after the session expired: %v", r)
	}
	must(t, h.sim.post("faults/clear", ""))
	for limit := time.Now().Add(45 * time.Second); ; time.Sleep(time.Second) {
		if r := h.run("credproc", "build"); r.code == 0 {
			break
		}
		if time.Now().After(limit) {
			t.Fatal("the daemon does not recover")
		}
	}
}
