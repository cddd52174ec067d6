package exchange

import (
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/aws-sdk-go-v2/service/sts/types"

	"broker/internal/session"
)

// assumeRoleInput returns the parameters of an AssumeRole call.
func assumeRoleInput(call session.Call, serial, code *string) *sts.AssumeRoleInput {
	return &sts.AssumeRoleInput{
		RoleArn:           aws.String(call.RoleARN),
		RoleSessionName:   aws.String(call.SessionName),
		DurationSeconds:   seconds(call.Duration),
		ExternalId:        text(call.ExternalID),
		Policy:            text(call.Policy),
		PolicyArns:        policies(call.PolicyARN),
		SerialNumber:      serial,
		SourceIdentity:    text(call.SourceIdentity),
		Tags:              tags(call.Tags),
		TokenCode:         code,
		TransitiveTagKeys: call.TransitiveTags,
	}
}

// tags converts session tags.
func tags(list []session.Tag) (out []types.Tag) {
	for _, t := range list {
		out = append(out, types.Tag{Key: aws.String(t.Key), Value: aws.String(t.Value)})
	}
	return out
}

// policies returns the list with one managed policy, or none.
func policies(arn string) []types.PolicyDescriptorType {
	if arn == "" {
		return nil
	}
	return []types.PolicyDescriptorType{{Arn: aws.String(arn)}}
}

// seconds leaves a duration of zero out of the request, so that STS uses its default.
func seconds(d time.Duration) *int32 {
	if d == 0 {
		return nil
	}
	return aws.Int32(int32(d / time.Second))
}

// text leaves an empty parameter out of the request: STS rejects empty ones.
func text(s string) *string {
	if s == "" {
		return nil
	}
	return aws.String(s)
}
