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

// robotHouse has a source without a device, so that no session has to wait for a code, and sessions as
// short as the flag says.
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

// TestShortSessionsLong: with sessions of a few seconds, a client that asks at any moment gets one that works.
func TestShortSessionsLong(t *testing.T) {
	t.Parallel()
	h := robotHouse(t, "3s")
	const length = 30 * time.Second
	seen := map[string]bool{}
	calls := 0
	for end := time.Now().Add(length); time.Now().Before(end); calls++ {
		asked := time.Now()
		d := h.credentials(t, "build")
		if left := d.Expiration.Sub(asked); left <= -time.Second {
			t.Fatalf("call %d: a session was given that had ended %v before", calls, -left)
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
	if len(seen) < 3 {
		t.Errorf("only %d sessions: the test did not see one end", len(seen))
	}
}

// TestOutageLong: while STS is down, what is valid is served to its end, and not beyond.
func TestOutageLong(t *testing.T) {
	t.Parallel()
	h := robotHouse(t, "20s")
	first := h.credentials(t, "build")
	// The daemon counts the time of a session from before it started the vault for it, which takes seconds under load.
	const early = 10 * time.Second
	must(t, h.sim.fault(`{"kind":"status","status":503,"times":-1}`))
	served := 0
	for time.Until(first.Expiration) > early {
		r := h.run("credproc", "build")
		if time.Until(first.Expiration) <= early {
			break // it was asked late
		}
		if d, err := parseDocument(r.stdout); err != nil || d != first {
			t.Fatalf("it is not the session from before STS was down: %v", r)
		}
		served++
		time.Sleep(100 * time.Millisecond)
	}
	if served < 3 {
		t.Fatalf("served %d times only", served)
	}
	time.Sleep(time.Until(first.Expiration))
	if r := h.run("credproc", "build"); r.code != 1 || r.stdout != "" {
		t.Errorf("after the end: %v", r)
	}
	must(t, h.sim.post("faults/clear", ""))
	for limit := time.Now().Add(45 * time.Second); ; time.Sleep(time.Second) {
		if r := h.run("credproc", "build"); r.code == 0 {
			break
		}
		if time.Now().After(limit) {
			t.Fatal("it does not recover")
		}
	}
}
