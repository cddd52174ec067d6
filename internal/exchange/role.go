package exchange

import (
	"context"
	"encoding/json"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"

	"broker/internal/profiles"
)

// RoleFacts is what IAM says about a role.
type RoleFacts struct {
	Longest time.Duration // the longest session
	Tagged  bool          // its trust policy allows session tags
}

// The limits of AWS for MaxSessionDuration, in seconds.
const (
	leastRole = 3600
	mostRole  = 43200
)

// Role asks IAM about a role, by its ARN. The keys are of a session in the role's account, such as one of the role
// itself. Many roles may not call this; then the fault is Denied. The other faults are those of Call, without
// CodeRejected. https://docs.aws.amazon.com/IAM/latest/APIReference/API_GetRole.html
func (c *Client) Role(ctx context.Context, keys Keys, endpoint profiles.Endpoint, arn string) (RoleFacts, error) {
	q := iamRequest("ask IAM about "+arn, keys, endpoint)
	q.resource = arn
	var got RoleFacts
	err := c.ask(ctx, q, func(ctx context.Context, a *attempt) error {
		out, err := a.iam().GetRole(ctx, &iam.GetRoleInput{RoleName: aws.String(arn[strings.LastIndexByte(arn, '/')+1:])})
		if err != nil {
			return err
		}
		if !a.answers("GetRole") || out.Role == nil {
			return a.noAnswer()
		}
		seconds := aws.ToInt32(out.Role.MaxSessionDuration)
		if seconds < leastRole || seconds > mostRole {
			return a.badField("MaxSessionDuration", strconv.Itoa(int(seconds)))
		}
		trust, err := url.PathUnescape(aws.ToString(out.Role.AssumeRolePolicyDocument))
		if err != nil {
			return a.badField("AssumeRolePolicyDocument", "")
		}
		got = RoleFacts{time.Duration(seconds) * time.Second, allowsTags(trust)}
		return nil
	})
	return got, err
}

// allowsTags reports whether a statement of a trust policy allows session tags. It looks at no condition.
func allowsTags(policy string) bool {
	type statement struct {
		Effect string
		Action oneOrMany
	}
	var many struct{ Statement []statement }
	if json.Unmarshal([]byte(policy), &many) != nil {
		var one struct{ Statement statement }
		if json.Unmarshal([]byte(policy), &one) != nil {
			return false
		}
		many.Statement = []statement{one.Statement}
	}
	return slices.ContainsFunc(many.Statement, func(s statement) bool {
		return s.Effect == "Allow" && slices.ContainsFunc(s.Action, func(action string) bool {
			return action == "*" || strings.EqualFold(action, "sts:*") || strings.EqualFold(action, "sts:TagSession")
		})
	})
}

// oneOrMany is a text or a list of texts.
type oneOrMany []string

// UnmarshalJSON implements json.Unmarshaler.
func (o *oneOrMany) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*o = oneOrMany{one}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(o))
}
