package stssim

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/aws/smithy-go"
)

// iamClient is the real SDK's client for a caller, without a network and without retries.
func (c caller) iamClient() *iam.Client {
	k := c.keys
	return iam.New(iam.Options{
		BaseEndpoint: aws.String("https://iam.simulated.invalid"),
		Region:       "eu-west-1",
		Credentials:  credentials.NewStaticCredentialsProvider(k.AccessKeyID, k.SecretAccessKey, k.SessionToken),
		HTTPClient:   &http.Client{Transport: c.sim},
		Retryer:      aws.NopRetryer{},
	})
}

func (c caller) deleteKey(id string) error {
	_, err := c.iamClient().DeleteAccessKey(context.Background(), &iam.DeleteAccessKeyInput{AccessKeyId: &id})
	return err
}

// wantCode fails the test unless err is AWS's error with that code.
func wantCode(t testing.TB, err error, code, message string) {
	t.Helper()
	refusal := smithy.APIError(nil)
	if !errors.As(err, &refusal) || refusal.ErrorCode() != code || !strings.Contains(refusal.ErrorMessage(), message) {
		t.Fatalf("error %v, want %s with %q", err, code, message)
	}
}

func TestRotationByTheSDK(t *testing.T) {
	sim, ctx := newDemo(t), context.Background()
	old := paul(sim)
	api := old.iamClient()
	out, err := api.CreateAccessKey(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	key := out.AccessKey
	if key.Status != types.StatusTypeActive || *key.UserName != "paul" || time.Since(*key.CreateDate).Abs() > time.Minute {
		t.Errorf("created %+v", key)
	}
	_, err = api.CreateAccessKey(ctx, &iam.CreateAccessKeyInput{UserName: aws.String("paul")})
	if limit := (*types.LimitExceededException)(nil); !errors.As(err, &limit) {
		t.Errorf("a third key: %v", err)
	}

	last, err := api.GetAccessKeyLastUsed(ctx, &iam.GetAccessKeyLastUsedInput{AccessKeyId: key.AccessKeyId})
	if err != nil || last.AccessKeyLastUsed.LastUsedDate != nil || *last.AccessKeyLastUsed.ServiceName != "N/A" {
		t.Errorf("last use of a new key %+v, %v", last, err)
	}
	fresh := old
	fresh.keys = aws.Credentials{AccessKeyID: *key.AccessKeyId, SecretAccessKey: *key.SecretAccessKey}
	list, err := fresh.iamClient().ListAccessKeys(ctx, nil)
	if err != nil || len(list.AccessKeyMetadata) != 2 || list.IsTruncated {
		t.Fatalf("keys %+v, %v", list, err)
	}
	last, err = api.GetAccessKeyLastUsed(ctx, &iam.GetAccessKeyLastUsedInput{AccessKeyId: key.AccessKeyId})
	if err != nil {
		t.Fatal(err)
	}
	used := last.AccessKeyLastUsed
	if time.Since(*used.LastUsedDate).Abs() > time.Minute || *used.ServiceName != "iam" || *used.Region != "eu-west-1" ||
		*last.UserName != "paul" {
		t.Errorf("last use %s %s %s of %s", used.LastUsedDate, *used.ServiceName, *used.Region, *last.UserName)
	}

	// An inactive key opens neither service, a session that it opened goes on.
	session := old.session(t)
	_, err = fresh.iamClient().UpdateAccessKey(ctx, &iam.UpdateAccessKeyInput{
		AccessKeyId: aws.String(old.keys.AccessKeyID),
		Status:      types.StatusTypeInactive,
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = api.ListAccessKeys(ctx, nil)
	wantCode(t, err, "InvalidClientTokenId", "")
	old.call("GetCallerIdentity").want(t, "InvalidClientTokenId", "")
	session.call("GetCallerIdentity").want(t, "", "")
	if err := fresh.deleteKey(old.keys.AccessKeyID); err != nil {
		t.Fatal(err)
	}
	err = fresh.deleteKey(old.keys.AccessKeyID)
	if missing := (*types.NoSuchEntityException)(nil); !errors.As(err, &missing) {
		t.Errorf("deleted twice: %v", err)
	}
	// A key may delete itself.
	if err := fresh.deleteKey(*key.AccessKeyId); err != nil {
		t.Error(err)
	}
	fresh.call("GetCallerIdentity").want(t, "InvalidClientTokenId", "")
}

func TestRotationIsDenied(t *testing.T) {
	org, ctx := Demo(), context.Background()
	org.User("security", "paul").DenyWithoutMFA = []string{"iam:*AccessKey*"}
	org.User("security", "paul").Deny = []string{"iam:DeleteAccessKey"}
	sim, err := New(org)
	if err != nil {
		t.Fatal(err)
	}
	_, err = paul(sim).iamClient().CreateAccessKey(ctx, nil)
	wantCode(t, err, "AccessDenied", "to perform: iam:CreateAccessKey on resource: arn:aws:iam::111122223333:user/paul")
	mfa := paul(sim).session(t).iamClient()
	if _, err := mfa.CreateAccessKey(ctx, nil); err != nil {
		t.Error(err)
	}
	err = paul(sim).session(t).deleteKey(paul(sim).keys.AccessKeyID)
	wantCode(t, err, "AccessDenied", "iam:DeleteAccessKey")
}

func TestNewKeyByTheSDK(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim, ctx := newDemo(t), context.Background()
		sim.SetKeyDelay(20*time.Second, false)
		out, err := paul(sim).iamClient().CreateAccessKey(ctx, nil)
		if err != nil {
			t.Fatal(err)
		}
		fresh := paul(sim)
		fresh.keys = aws.Credentials{AccessKeyID: *out.AccessKey.AccessKeyId, SecretAccessKey: *out.AccessKey.SecretAccessKey}
		_, err = fresh.iamClient().ListAccessKeys(ctx, nil)
		wantCode(t, err, "InvalidClientTokenId", "")
		// The other key sees it at once.
		if list, err := paul(sim).iamClient().ListAccessKeys(ctx, nil); err != nil || len(list.AccessKeyMetadata) != 2 {
			t.Errorf("keys %+v, %v", list, err)
		}
		time.Sleep(20 * time.Second)
		if _, err = fresh.iamClient().ListAccessKeys(ctx, nil); err != nil {
			t.Error(err)
		}
		// A lost answer: the key is there, and nobody has its secret.
		if err := fresh.deleteKey(paul(sim).keys.AccessKeyID); err != nil {
			t.Fatal(err)
		}
		sim.Fault(Fault{Kind: DropAfter, Action: "CreateAccessKey"})
		if _, err := fresh.iamClient().CreateAccessKey(ctx, nil); err == nil {
			t.Error("no lost answer")
		}
		if n := sim.Successes("CreateAccessKey"); n != 2 {
			t.Errorf("%d keys were created", n)
		}
	})
}
