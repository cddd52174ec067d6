package exchange

import (
	"context"
	"encoding/xml"
	"errors"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/aws/smithy-go"

	"broker/internal/profiles"
	"broker/internal/secret"
	"broker/internal/session"
)

// The calls that rotate the access key of an IAM user. They concern the user whose keys sign the call. Their faults
// are those of Call, without CodeRejected; Denied if the user may not make the call, or only with MFA.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/id_credentials_access-keys.html

// AccessKey describes a long-lived access key of a user, without its secret.
type AccessKey struct {
	ID      string
	Active  bool
	Created time.Time // UTC, whole seconds
}

// AccessKeys lists the access keys of the user, in AWS's order. A user has at most two.
// https://docs.aws.amazon.com/IAM/latest/APIReference/API_ListAccessKeys.html
func (c *Client) AccessKeys(ctx context.Context, keys Keys, endpoint profiles.Endpoint) ([]AccessKey, error) {
	q := iamRequest("list the access keys of the user of key "+secret.Tail(keys.AccessKeyID), keys, endpoint)
	return list(ctx, c, q, func(a *attempt) bool { return a.answers("ListAccessKeys") },
		func(ctx context.Context, a *attempt, token *string) (*iam.ListAccessKeysOutput, error) {
			return a.iam().ListAccessKeys(ctx, &iam.ListAccessKeysInput{Marker: token})
		},
		func(out *iam.ListAccessKeysOutput) ([]types.AccessKeyMetadata, *string) {
			return out.AccessKeyMetadata, out.Marker
		},
		func(a *attempt, found types.AccessKeyMetadata) (AccessKey, error) {
			return a.accessKey(found.AccessKeyId, found.Status, found.CreateDate)
		})
}

// accessKey checks the fields that every answer about an access key has.
func (a *attempt) accessKey(id *string, status types.StatusType, created *time.Time) (AccessKey, error) {
	switch {
	case !accessKeySyntax.MatchString(aws.ToString(id)):
		return AccessKey{}, a.badField("AccessKeyId", aws.ToString(id))
	case status != types.StatusTypeActive && status != types.StatusTypeInactive && status != types.StatusTypeExpired:
		return AccessKey{}, a.badField("Status", string(status))
	case created == nil:
		return AccessKey{}, a.badField("CreateDate", "")
	}
	return AccessKey{ID: *id, Active: status == types.StatusTypeActive, Created: created.UTC()}, nil
}

// CreateAccessKey creates another access key of the user, and returns it with its secret, which AWS shows only once.
// It makes one attempt, because a repeated one could create a second key. If it fails with Network or BadAnswer and
// MaybeSeen, there may be a key whose secret nobody has: AccessKeys shows it. A user with two keys gets ErrLimit. The
// new key is unknown (ErrUnknownKey) for the first seconds, at some of AWS's servers longer than at others.
// https://docs.aws.amazon.com/IAM/latest/APIReference/API_CreateAccessKey.html
func (c *Client) CreateAccessKey(ctx context.Context, keys Keys, endpoint profiles.Endpoint) (Keys, error) {
	q := iamRequest("create an access key for the user of key "+secret.Tail(keys.AccessKeyID), keys, endpoint)
	q.effect = "created the key"
	var created Keys
	err := c.ask(ctx, q, func(ctx context.Context, a *attempt) error {
		out, err := a.iam().CreateAccessKey(ctx, &iam.CreateAccessKeyInput{})
		switch {
		case err != nil:
			return err
		case !a.answers("CreateAccessKey"):
			return a.noAnswer()
		case out.AccessKey == nil:
			return a.badField("AccessKey", "")
		}
		key, err := a.accessKey(out.AccessKey.AccessKeyId, out.AccessKey.Status, out.AccessKey.CreateDate)
		text := aws.ToString(out.AccessKey.SecretAccessKey)
		switch {
		case err != nil:
			return err
		case key.ID == keys.AccessKeyID:
			return a.badField("AccessKeyId", key.ID)
		case !key.Active:
			return a.badField("Status", string(out.AccessKey.Status))
		case !session.Visible(text, maxSecret):
			return a.badField("SecretAccessKey", text)
		}
		created = Keys{AccessKeyID: key.ID, Secret: secret.New(text)}
		return nil
	})
	return created, err
}

// LastUse says when an access key was last used. The zero value is a key that was never used.
type LastUse struct {
	At      time.Time // UTC
	Service string    // for example sts
	Region  string
}

// KeyLastUsed returns when access key id was last used. AWS is some minutes behind. It answers Denied for a key that
// does not exist. https://docs.aws.amazon.com/IAM/latest/APIReference/API_GetAccessKeyLastUsed.html
func (c *Client) KeyLastUsed(ctx context.Context, keys Keys, endpoint profiles.Endpoint, id string) (LastUse, error) {
	q := iamRequest("find the last use of access key "+secret.Tail(id), keys, endpoint)
	var got LastUse
	err := c.ask(ctx, q, func(ctx context.Context, a *attempt) error {
		out, err := a.iam().GetAccessKeyLastUsed(ctx, &iam.GetAccessKeyLastUsedInput{AccessKeyId: aws.String(id)})
		switch {
		case err != nil:
			return err
		case !a.answers("GetAccessKeyLastUsed"):
			return a.noAnswer()
		case out.AccessKeyLastUsed == nil:
			return a.badField("AccessKeyLastUsed", "")
		}
		used := out.AccessKeyLastUsed
		service, region := aws.ToString(used.ServiceName), aws.ToString(used.Region)
		switch {
		case !session.Visible(service, maxName):
			return a.badField("ServiceName", service)
		case !session.Visible(region, maxName):
			return a.badField("Region", region)
		case used.LastUsedDate == nil && service != neverUsed:
			// A key that is in use must not look unused.
			return a.badField("LastUsedDate", "")
		case used.LastUsedDate != nil:
			got = LastUse{At: used.LastUsedDate.UTC(), Service: service, Region: region}
		}
		return nil
	})
	return got, err
}

// neverUsed is the ServiceName of a key that was never used.
const neverUsed = "N/A"

// SetKeyStatus activates or deactivates access key id of the user. ErrNotThere means that the user has no such key.
// Sign with another key: after a lost answer, a key that deactivated itself gets ErrUnknownKey from the next attempt.
// https://docs.aws.amazon.com/IAM/latest/APIReference/API_UpdateAccessKey.html
func (c *Client) SetKeyStatus(
	ctx context.Context,
	keys Keys,
	endpoint profiles.Endpoint,
	id string,
	active bool,
) error {
	verb, status := "deactivate", types.StatusTypeInactive
	if active {
		verb, status = "activate", types.StatusTypeActive
	}
	q := iamRequest(verb+" access key "+secret.Tail(id), keys, endpoint)
	return c.change(ctx, q, "UpdateAccessKey", func(ctx context.Context, api *iam.Client) error {
		_, err := api.UpdateAccessKey(ctx, &iam.UpdateAccessKeyInput{AccessKeyId: aws.String(id), Status: status})
		return err
	})
}

// DeleteKey deletes access key id of the user, for ever. ErrNotThere means that the user has no such key. Sign with
// another key, as for SetKeyStatus. https://docs.aws.amazon.com/IAM/latest/APIReference/API_DeleteAccessKey.html
func (c *Client) DeleteKey(ctx context.Context, keys Keys, endpoint profiles.Endpoint, id string) error {
	q := iamRequest("delete access key "+secret.Tail(id), keys, endpoint)
	return c.remove(ctx, q, "DeleteAccessKey", func(ctx context.Context, api *iam.Client) error {
		_, err := api.DeleteAccessKey(ctx, &iam.DeleteAccessKeyInput{AccessKeyId: aws.String(id)})
		return err
	})
}

func iamRequest(verb string, keys Keys, endpoint profiles.Endpoint) request {
	return request{verb: verb, keys: keys, endpoint: endpoint, service: "IAM"}
}

// change makes a call whose answer has no fields.
func (c *Client) change(
	ctx context.Context,
	q request,
	action string,
	send func(context.Context, *iam.Client) error,
) error {
	return c.ask(ctx, q, func(ctx context.Context, a *attempt) error {
		return a.change(ctx, action, send)
	})
}

// remove is change for a call that removes something. After an attempt whose answer was lost, NoSuchEntity means that
// this attempt had its effect.
func (c *Client) remove(
	ctx context.Context,
	q request,
	action string,
	send func(context.Context, *iam.Client) error,
) error {
	lost := false
	return c.ask(ctx, q, func(ctx context.Context, a *attempt) error {
		err := a.change(ctx, action, send)
		if refusal := smithy.APIError(nil); lost && errors.As(err, &refusal) && refusal.ErrorCode() == noSuchEntity {
			return nil
		}
		lost = lost || a.connected.Load() && (a.lost != nil || a.status >= http.StatusInternalServerError)
		return err
	})
}

func (a *attempt) change(ctx context.Context, action string, send func(context.Context, *iam.Client) error) error {
	if err := send(ctx, a.iam()); err != nil {
		return err
	}
	if !a.answers(action) {
		return a.noAnswer()
	}
	return nil
}

// answers reports whether the body is the document that IAM sends for a successful action. Without fields, the SDK
// takes any body for success.
func (a *attempt) answers(action string) bool {
	var document struct{ XMLName xml.Name }
	return a.look == looksLikeXML && xml.Unmarshal(a.body, &document) == nil &&
		document.XMLName.Local == action+"Response"
}
